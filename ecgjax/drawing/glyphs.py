"""Lettering on the device: text as coverage, composed from a glyph atlas (scripts/make_glyphs.py)."""

import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

PATH = pathlib.Path(__file__).with_name('glyphs.npz')
FONTS = ('DejaVuSans', 'DejaVuSansMono', 'DejaVuSerif', 'DejaVuSans-Bold', 'DejaVuSans-Oblique')  # the competition's is the first
FIRST, LAST = 32, 126  # printable ASCII
ATLAS_EM_PX = 61.0  # twice the competition's 11 pt at 200 dpi
CELL_PX, PAD_PX, BASELINE_PX = 80, 8, 60
STAMP_PX = 52  # side of the square one letter may cover on the page: em_px of 38 and less fits


class Letters(NamedTuple):
  """Letters on the page.

  Attributes:
    codes: (N,) int32 ASCII; spaces and whatever the atlas has not are left blank.
    x_px, y_px: (N,) left end and baseline of each letter in page px.
    em_px: () size.
    wide: () width of a letter over its width in the font; below 1 for narrow print.
    font: () index into FONTS, a float or int.
  """

  codes: jax.Array
  x_px: jax.Array
  y_px: jax.Array
  em_px: jax.Array
  wide: jax.Array
  font: jax.Array


@functools.cache
def _atlas() -> tuple[np.ndarray, np.ndarray]:
  """(F, 95, CELL_PX, CELL_PX) uint8 and (F, 95) advances in em."""
  with np.load(PATH) as file:
    return file['cells'], file['advances']


def encode(text: str) -> np.ndarray:
  """Returns (N,) int32 ASCII codes."""
  return np.frombuffer(text.encode('ascii'), np.uint8).astype(np.int32)


def _index(code, font):
  """Place of a letter in the atlas; fonts beyond the table are its nearest."""
  font = jnp.clip(jnp.round(font), 0, len(FONTS) - 1).astype(jnp.int32)
  return font, jnp.clip(code - FIRST, 0, LAST - FIRST)


def lines(codes, first, x_px, y_px, *, em_px, wide, font) -> Letters:
  """Sets lines of text with the font's own advances.

  Args:
    codes: (N,) letters of all lines, one line after the other.
    first: (N,) index of the letter that begins a letter's line.
    x_px, y_px: (N,) where the letter's line begins, and its baseline.
    em_px, wide, font: as in Letters.

  Returns:
    The letters.
  """
  steps = jnp.asarray(_atlas()[1])[_index(codes, font)] * em_px * wide
  n = np.arange(codes.shape[0])
  # a sum over the line alone: a running sum over all lines would carry their rounding along
  before = (n >= jnp.asarray(first)[:, None]) & (n < n[:, None])
  return Letters(codes, x_px + jnp.where(before, steps, 0.0).sum(-1), jnp.asarray(y_px, jnp.float32), em_px, wide, font)


def _stamp(code, x_px, y_px, em_px, wide, font):
  """Coverage (STAMP_PX, STAMP_PX) of one letter and the page px of its top left corner."""
  step_x, step_y = ATLAS_EM_PX / (em_px * wide), ATLAS_EM_PX / em_px  # atlas px per page px
  left = jnp.floor(x_px - PAD_PX / step_x)
  top = jnp.floor(y_px - BASELINE_PX / step_y)
  halves = jnp.arange(2 * STAMP_PX) / 2 + 0.25  # two points per px and axis, then averaged: a box filter
  column = (left + halves - x_px) * step_x + PAD_PX - 0.5
  row = (top + halves - y_px) * step_y + BASELINE_PX - 0.5
  # linear interpolation as two small products, which an accelerator likes better than taps
  weights = lambda at: jnp.clip(1 - jnp.abs(at[:, None] - jnp.arange(CELL_PX)), 0, 1).reshape(STAMP_PX, 2, CELL_PX).mean(1)
  cell = jnp.asarray(_atlas()[0])[_index(code, font)].astype(jnp.float32) / 255
  stamp = jnp.einsum('ir,rc,jc->ij', weights(row), cell, weights(column), precision='highest')
  return stamp, left.astype(jnp.int32), top.astype(jnp.int32)


def coverage(letters: Letters, *, height_px: int, width_px: int, x0_px: int | jax.Array = 0) -> jax.Array:
  """Draws letters.

  Args:
    letters: where they stand on the page.
    height_px, width_px: size of the canvas.
    x0_px: page x of the canvas's left edge; letters beyond the canvas are cut off.

  Returns:
    (height_px, width_px) float32 share of each px that ink covers.
  """
  stamps, left, top = jax.vmap(_stamp, in_axes=(0, 0, 0, None, None, None))(*letters)
  return paste(stamps, left - x0_px, top, height_px=height_px, width_px=width_px)


def paste(stamps: jax.Array, left: jax.Array, top: jax.Array, *, height_px: int, width_px: int) -> jax.Array:
  """Lays stamps on a canvas; where they overlap, the darker one is seen.

  Args:
    stamps: (N, S, S) coverage.
    left, top: (N,) int32 canvas px of their top left corners; what lies beyond the canvas is cut off.
    height_px, width_px: size of the canvas.

  Returns:
    (height_px, width_px) coverage.
  """
  pad = stamps.shape[-1]
  canvas = jnp.zeros((height_px + 2 * pad, width_px + 2 * pad))

  def put(canvas, item):
    stamp, column, row = item
    # dynamic_slice moves a start that lies outside; a stamp that is wholly outside lands in the padding
    start = (jnp.clip(row + pad, 0, height_px + pad), jnp.clip(column + pad, 0, width_px + pad))
    old = jax.lax.dynamic_slice(canvas, start, stamp.shape)
    return jax.lax.dynamic_update_slice(canvas, jnp.maximum(old, stamp), start), None

  canvas, _ = jax.lax.scan(put, canvas, (stamps, left, top))
  return canvas[pad:-pad, pad:-pad]
