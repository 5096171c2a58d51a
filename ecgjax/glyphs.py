"""Lettering on the device: text as coverage, stamped from an atlas that was drawn once (scripts/make_glyphs.py)."""

import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

PATH = pathlib.Path(__file__).with_name('glyphs.npz')
FIRST, LAST = 32, 126  # printable ASCII
ATLAS_EM_PX = 61.0  # twice the competition's 11 pt at 200 dpi
CELL_PX, PAD_PX, BASELINE_PX = 80, 8, 60
STAMP_PX = 52  # side of the square one letter may cover on the page


class Letters(NamedTuple):
  """Letters on the page.

  Attributes:
    codes: (N,) int32 ASCII; spaces and whatever the atlas has not are left blank.
    x_px, y_px: (N,) left end and baseline of each letter in page px.
    em_px: (N,) size.
  """

  codes: jax.Array
  x_px: jax.Array
  y_px: jax.Array
  em_px: jax.Array


@functools.cache
def _atlas() -> tuple[np.ndarray, np.ndarray]:
  with np.load(PATH) as file:
    return file['cells'], file['advances']


def encode(text: str) -> np.ndarray:
  """Returns (N,) int32 ASCII codes."""
  return np.frombuffer(text.encode('ascii'), np.uint8).astype(np.int32)


def line(codes, x_px, y_px, em_px) -> Letters:
  """Sets one line of text: (N,) codes from `x_px` on, at the baseline `y_px`, with the font's own advances."""
  codes = jnp.asarray(codes)
  steps = jnp.asarray(_atlas()[1])[jnp.clip(codes - FIRST, 0, LAST - FIRST)] * em_px
  x = x_px + jnp.cumsum(steps) - steps
  return Letters(codes, x, jnp.full(codes.shape, y_px, jnp.float32), jnp.full(codes.shape, em_px, jnp.float32))


def join(lines: list[Letters]) -> Letters:
  """Returns all lines as one set of letters."""
  return jax.tree.map(lambda *parts: jnp.concatenate(parts), *lines)


def _stamp(code, x_px, y_px, em_px):
  """Coverage (STAMP_PX, STAMP_PX) of one letter and the page px of its top left corner."""
  step = ATLAS_EM_PX / em_px  # atlas px per page px
  left = jnp.floor(x_px - PAD_PX / step)
  top = jnp.floor(y_px - BASELINE_PX / step)
  halves = jnp.arange(2 * STAMP_PX) / 2 + 0.25  # two points per px and axis, then averaged: a box filter
  column = (left + halves - x_px) * step + PAD_PX - 0.5
  row = (top + halves - y_px) * step + BASELINE_PX - 0.5
  cell = jnp.asarray(_atlas()[0])[jnp.clip(code - FIRST, 0, LAST - FIRST)].astype(jnp.float32) / 255
  points = jnp.meshgrid(row, column, indexing='ij')
  fine = jax.scipy.ndimage.map_coordinates(cell, points, order=1, mode='constant')
  return fine.reshape(STAMP_PX, 2, STAMP_PX, 2).mean((1, 3)), left.astype(jnp.int32), top.astype(jnp.int32)


def coverage(letters: Letters, *, height_px: int, width_px: int, x0_px: int | jax.Array = 0) -> jax.Array:
  """Draws letters.

  Args:
    letters: where they stand on the page.
    height_px, width_px: size of the canvas.
    x0_px: page x of the canvas's left edge; letters beyond the canvas are cut off.

  Returns:
    (height_px, width_px) float32 share of each px that ink covers.
  """
  stamps, left, top = jax.vmap(_stamp)(*letters)
  pad = STAMP_PX
  canvas = jnp.zeros((height_px + 2 * pad, width_px + 2 * pad))

  def put(canvas, item):
    stamp, column, row = item
    # dynamic_slice moves a start that lies outside; a letter that is wholly outside lands in the padding
    start = (jnp.clip(row + pad, 0, height_px + pad), jnp.clip(column + pad, 0, width_px + pad))
    old = jax.lax.dynamic_slice(canvas, start, stamp.shape)
    return jax.lax.dynamic_update_slice(canvas, jnp.maximum(old, stamp), start), None

  canvas, _ = jax.lax.scan(put, canvas, (stamps, left - x0_px, top))
  return canvas[pad:-pad, pad:-pad]
