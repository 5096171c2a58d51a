"""Lattices and strips: the position of the page in an image, and the single sampling that cuts its rows out.

A lattice is (rows, cols, 2): the image's x, y of every node of the page, nodes standing every 5 mm and on the border.
A strip is one row of a layout as the network's input: column j is at (j - margin) / rate in s, row h at
(height / 2 - (h + 0.5)) / PX_PER_MV in mV. Both follow `paper`'s convention: continuous px, centres at i + 0.5.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.geometry import interpolation, paper
from ecgjax.geometry.layouts import Layout
from ecgjax.geometry.layouts import make as make_layout

Array = jax.Array | np.ndarray
STRIP_PX_PER_MV = paper.px_per_mv()  # whatever the page's gain: one strip px is 12.7 uV
BUCKET_PX = 512  # pictures are padded to multiples of it
MARGIN_S = 0.248  # shown before second 0, so that the whole calibration pulse (0.2 s) is in view


class Frame(NamedTuple):
  """Size and rate of a strip. Hashable.

  Attributes:
    rate_hz: columns per second.
    height_px: rows, even; 640 shows +-4.06 mV, 960 shows +-6.1 mV.
    width_px: columns.
  """

  rate_hz: int
  height_px: int
  width_px: int

  @property
  def margin_px(self) -> int:
    return round(MARGIN_S * self.rate_hz)

  def columns_px(self, time_s):
    """Returns the continuous column coordinate, minus the half px of a centre, of a time in s."""
    return time_s * self.rate_hz + self.margin_px

  def times_s(self) -> np.ndarray:
    """Returns (width_px,) the time of each column in s."""
    return (np.arange(self.width_px) - self.margin_px) / self.rate_hz

  def rows_px(self, mv):
    """Converts mV, upwards, to strip rows in continuous px, downwards."""
    return self.height_px / 2 - mv * STRIP_PX_PER_MV

  def millivolts(self, rows_px):
    """Converts strip rows in continuous px, downwards, to mV, upwards."""
    return (self.height_px / 2 - rows_px) / STRIP_PX_PER_MV


def frame(layout: Layout, *, rate_hz: int, height_px: int, multiple: int = 64) -> Frame:
  """Returns the frame with the whole duration of `layout` and both margins, its width a multiple of `multiple` px."""
  seconds = layout.seconds + 2 * MARGIN_S
  return Frame(rate_hz, height_px, math.ceil(round(seconds * rate_hz, 3) / multiple) * multiple)


@functools.cache
def begins(layout: Layout, frame: Frame) -> np.ndarray:
  """Returns (R, width_px) bool: the first columns of the row's leads, and those after the end of one."""
  found = np.zeros((len(layout.zeros_px), frame.width_px), bool)
  for segment in layout.segments:
    found[segment.row, [round(frame.columns_px(second)) for second in (segment.start_s, segment.stop_s)]] = True
  return found


@functools.cache
def nodes_px() -> tuple[np.ndarray, np.ndarray]:
  """Returns the page px of the lattice's node rows (45,) and node columns (57,)."""

  def axis(first, size):
    lines = np.arange(first, size - 1e-6, paper.MAJOR_PX)
    return np.unique(np.concatenate([[0.0], lines, [size]]))

  return axis(paper.GRID_Y_PX, paper.HEIGHT_PX), axis(paper.GRID_X_PX, paper.WIDTH_PX)


def page_lattice() -> np.ndarray:
  """Returns (45, 57, 2) float32: the lattice of an image that is the page itself."""
  rows, cols = nodes_px()
  return np.stack(np.meshgrid(cols, rows), axis=-1).astype(np.float32)


def image_scale(lattice: Array) -> float:
  """Returns image px per page px of a lattice, the median over its cells."""
  rows, cols = nodes_px()
  steps = [np.linalg.norm(np.diff(lattice, axis=axis), axis=-1) for axis in (0, 1)]
  return float(np.median(np.concatenate([(steps[0] / np.diff(rows)[:, None]).ravel(), (steps[1] / np.diff(cols)).ravel()])))


def padded(image: np.ndarray) -> np.ndarray:
  """Returns the picture with black px on its right and below, so that a folder of all sizes needs few compiled programs."""
  return np.pad(image, ((0, -image.shape[0] % BUCKET_PX), (0, -image.shape[1] % BUCKET_PX), (0, 0)))


def trace_area() -> np.ndarray:
  """Returns (45, 57) bool: the nodes from a square before second 0 to the end of the competition's rows, 4 mV above the first and down."""
  rows, cols = nodes_px()
  layout = make_layout()
  low, last = layout.zeros_px[0] - 4.1 * layout.px_per_mv, paper.START_X_PX + layout.seconds * layout.px_per_s
  return ((rows > low) & (rows < paper.HEIGHT_PX - 8))[:, None] & ((cols > paper.START_X_PX - paper.MAJOR_PX - 1) & (cols < last + 16))


def off_px(found: Array, true: Array) -> np.ndarray:
  """Returns (N,): error of a lattice (45, 57, 2) against a true one in the trace area, in page px."""
  return np.linalg.norm((np.asarray(found) - true)[trace_area()], axis=-1) / image_scale(true)


def apart_px(lattice: np.ndarray, other: np.ndarray) -> np.ndarray:
  """Returns (45, 57, 2): offset to the right and downwards, in page px, of another lattice of the same picture, at the nodes."""
  rows, cols = nodes_px()
  down, across = np.gradient(np.asarray(lattice, np.float64), rows, axis=0), np.gradient(np.asarray(lattice, np.float64), cols, axis=1)
  return np.linalg.solve(np.stack([across, down], axis=-1), (np.asarray(other, np.float64) - lattice)[..., None])[..., 0]


def spline_weights(knots: np.ndarray, at: Array) -> Any:
  """Returns the weights of piecewise cubic interpolation on uneven knots, as a matrix.

  A generalised Catmull-Rom spline: a cubic Hermite spline whose slopes are three-point differences (`numpy.gradient`).
  It is local, smooth to first order, and exact for parabolas inside and straight lines everywhere; beyond the ends the last piece is
  extrapolated.

  Args:
    knots: (K,) increasing.
    at: (...,) where to interpolate; may be traced.

  Returns:
    (..., K), so that values at `at` are `weights @ values_at_knots`; float64 for a NumPy array, else float32.
  """
  xp = jnp if isinstance(at, jax.Array) else np
  values = np.eye(len(knots))
  values, slopes, places = (xp.asarray(a) for a in (values, np.gradient(values, knots, axis=0), knots))
  left = xp.clip(xp.searchsorted(places, at, side='right') - 1, 0, len(knots) - 2)
  step = (places[left + 1] - places[left])[..., None]
  u = (at - places[left])[..., None] / step
  return (
    (1 + 2 * u) * (1 - u) ** 2 * values[left]
    + u * (1 - u) ** 2 * step * slopes[left]
    + u**2 * (3 - 2 * u) * values[left + 1]
    + u**2 * (u - 1) * step * slopes[left + 1]
  )


def image_px(lattice: Array, page_px: Array) -> Any:
  """Maps points of the page into the image, by the same spline as `cut`.

  Args:
    lattice: (45, 57, 2).
    page_px: (..., 2) page x, y.

  Returns:
    (..., 2) image x, y, in NumPy where both are, else in JAX.
  """
  rows, cols = nodes_px()
  down, across = spline_weights(rows, page_px[..., 1]), spline_weights(cols, page_px[..., 0])
  if isinstance(lattice, np.ndarray) and isinstance(page_px, np.ndarray):  # on the host nothing need be compiled
    crossed = (down @ lattice.reshape(len(rows), -1)).reshape(*down.shape[:-1], len(cols), 2)
    return (across[..., None, :] @ crossed)[..., 0, :]
  return jnp.einsum('...r,rcd,...c->...d', down, lattice, across, precision='highest')


def cut(
  image: Array, lattice: Array, *, layout: Layout, frame: Frame, image_scale: float = 1.0, window=None, lines: int = 0,
  cell: tuple[int, int] | None = None,
) -> jax.Array:  # fmt: skip
  """Cuts every row of the layout out of the image, from the original pixels in one sampling.

  Args:
    image: (H, W, C) float or uint8.
    lattice: (45, 57, 2) image x, y of the page's nodes.
    layout: with the rows.
    frame: size and rate of the strips.
    image_scale: image px per page px, for the anti-aliasing; 1 for a page at its own resolution.
    window: (first column, may be traced; number of columns, static) to cut only a part of the time.
    lines: lines of a strip that are cut at a time, a divisor of its height, or 0 for all at once. On a CPU a few are twice as fast, because
      they stay in its cache.
    cell: (a, b) px, for strips in the order of `unet.to_depth`: sampling px in that order is free, while reordering them takes as long as
      the sampling. `lines` must then be a multiple of a.

  Returns:
    (R, height_px, width_px, C) float32, or (R, height_px / a, width_px / b, a b C) by cells; 0 outside the image.
  """
  rows, cols = nodes_px()
  across = jnp.asarray(spline_weights(cols, paper.START_X_PX + frame.times_s() * layout.px_per_s), jnp.float32)
  if window is not None:
    across = jax.lax.dynamic_slice_in_dim(across, *window)
  mv = frame.millivolts(np.arange(frame.height_px) + 0.5)
  xp = jnp if isinstance(layout.zeros_px, jax.Array) else np
  down = spline_weights(rows, xp.asarray(layout.zeros_px)[:, None] - mv * layout.px_per_mv)
  shrink = (image_scale * layout.px_per_s / frame.rate_hz, image_scale * layout.px_per_mv / STRIP_PX_PER_MV)

  def band(weights):
    # f32 products: a TPU's default bf16 would move points by several px
    points = jnp.einsum('hr,rcd,wc->hwd', weights, lattice, across, precision='highest')
    if cell:
      height, width, _ = points.shape
      points = points.reshape(height // cell[0], cell[0], width // cell[1], cell[1], 2).swapaxes(1, 2)
    return interpolation.sample(image, points, shrink=shrink)

  bands = jnp.asarray(down.reshape(-1, lines or frame.height_px, len(rows)), jnp.float32)
  strips = jax.lax.map(band, bands) if lines else jax.vmap(band)(bands)
  if cell:
    return strips.reshape(len(down), frame.height_px // cell[0], -1, cell[0] * cell[1] * strips.shape[-1])
  return strips.reshape(*down.shape[:2], *strips.shape[2:])


def coordinates(height: int, width: int, *, frame: Frame, first: int | jax.Array = 0) -> jax.Array:
  """Returns (H, W, 2): row coordinate -1..1 upwards, and time coordinate in units of 5 s from the middle of the whole strip."""
  up = 1 - (jnp.arange(height) + 0.5) * (2 / height)
  when = (first + jnp.arange(width) - frame.width_px / 2) / (5.0 * frame.rate_hz)
  return jnp.stack(jnp.meshgrid(up, when, indexing='ij'), axis=-1)


def with_coordinates(strips: jax.Array, *, frame: Frame, first: int | jax.Array = 0) -> jax.Array:
  """Appends row and time coordinates as two channels.

  Args:
    strips: (R, H, W, 3).
    frame: of the whole strip.
    first: first column of the strips in `frame`; may be traced.

  Returns:
    (R, H, W, 5): row coordinate -1..1 upwards, column coordinate in units of 5 s from the strip's middle.
  """
  height, width = strips.shape[1:3]
  grid = coordinates(height, width, frame=frame, first=first)
  return jnp.concatenate([strips, jnp.broadcast_to(grid, (*strips.shape[:3], 2))], axis=-1)
