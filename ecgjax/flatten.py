"""A picture laid flat in the page frame along what is known of its lattice, with paper, light and ink told apart.

In the page frame a plane map (3, 3) takes page px to image px, and `moved` (45, 57, 2) is by how many page px the nodes lie from their
places in it.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax import bend, geometry, paper, sampling

STEP_PX = 2  # page px per px of the flat picture
SIZE = (paper.HEIGHT_PX // STEP_PX, paper.WIDTH_PX // STEP_PX)
LINE_PX, LINE_SHARE = (200.0, 80.0), 0.6  # ink lies in a line along x or y if of a neighbourhood so long so much is ink
# a grid is black if the shares of ink that lie in lines along x and along y have such a product; for baselines and separators it is 0.025
BLACK = 0.05
INK_SHARE, INK_LEVEL = 1.3, 0.5  # per cent of the page that is as dark as traces; beyond half of that a px counts as ink, not grid


class Flat(NamedTuple):
  """A picture laid flat: h x w px of STEP_PX page px each.

  Attributes:
    lines: (n h, n w), n being 1 or STEP_PX: darkness against the neighbourhood, in units of its own spread there; 0 outside the picture.
    ink: (h, w) 0..1, how dark against the neighbourhood even the lightest colour is: traces, text, bars, black grids.
    use: (2, h, w) 0 or 1, whether the px may speak of the grid along y and x: it lies in the picture and holds no ink, or a line.
  """

  lines: jax.Array
  ink: jax.Array
  use: jax.Array


def centres_px(*, step_px: float = STEP_PX) -> tuple[np.ndarray, np.ndarray]:
  """Returns page y and x of the px of a flat picture with px of `step_px` page px."""
  ys, xs = (np.arange(step_px / 2, limit, step_px) for limit in (paper.HEIGHT_PX, paper.WIDTH_PX))
  return ys, xs


def lattice(plane: geometry.Array, moved: jax.Array) -> jax.Array:
  """Returns (45, 57, 2) image px of the nodes: a plane map (3, 3) of nodes that lie `moved` (45, 57, 2) page px from their places."""
  return bend.apply_plane(plane, geometry.page_lattice() + moved)


def gaussian(at, points, sigma_px: float) -> jax.Array:
  """(A, P): what the value at each of `points` adds to the smooth value at each of `at`, both in px; rows sum to 1 far from the ends."""
  step = points[1] - points[0]
  near = (at[:, None] - points) / sigma_px
  return jnp.where(jnp.abs(near) < 3.5, jnp.exp(-0.5 * near**2), 0.0) * (step / sigma_px / math.sqrt(2 * math.pi))


def blur(a: jax.Array, sigma_px: float) -> jax.Array:
  """Returns a flat picture (h, w) smoothed; beyond its border it counts as 0."""
  return blur_along(blur_along(a, sigma_px, axis=0), sigma_px, axis=1)


def blur_along(a: jax.Array, sigma_px: float, *, axis: int) -> jax.Array:
  """Smooths a flat picture along one axis.

  A wide Gaussian goes by way of a coarse mesh: a Gaussian of a Gaussian is one, and that is half the work. A narrow one is a sum of shifts.

  Args:
    a: (h, w); beyond its border it counts as 0.
    sigma_px: of the Gaussian, page px.
    axis: 0 down, 1 across.

  Returns:
    (h, w).
  """
  points, coarse_px, part_px = centres_px()[axis], sigma_px / 2, sigma_px / math.sqrt(2)
  if coarse_px < 2 * STEP_PX:
    reach = math.ceil(3.5 * sigma_px / STEP_PX)
    weights = gaussian(jnp.zeros(1), STEP_PX * jnp.arange(-reach, reach + 1.0), sigma_px)[0]
    padded = jnp.pad(a, [(reach, reach) if i == axis else (0, 0) for i in (0, 1)])
    shifted = (jax.lax.slice_in_dim(padded, i, i + a.shape[axis], axis=axis) for i in range(2 * reach + 1))
    return functools.reduce(jnp.add, (weights[i] * part for i, part in enumerate(shifted)))
  few = np.arange(-3 * sigma_px, points[-1] + 3 * sigma_px, coarse_px)
  for at, of in ((few, points), (points, few)):
    weights = gaussian(jnp.asarray(at, jnp.float32), jnp.asarray(of, jnp.float32), part_px)
    a = weights @ a if axis == 0 else a @ weights.T
  return a


def lay_flat(image: jax.Array, found: jax.Array, size_px: jax.Array, *, step_px: int = STEP_PX) -> jax.Array:
  """Samples a picture in the page frame.

  Args:
    image: (H, W, 3) uint8, of about one px for each px of the result; may be padded.
    found: (45, 57, 2) image px of the nodes.
    size_px: (2,) width and height of the picture without its padding.
    step_px: page px per px.

  Returns:
    (1700 / step_px, 2200 / step_px, 4): colours, and whether the px lies in the picture.
  """
  rows, cols = geometry.nodes_px()
  ys, xs = centres_px(step_px=step_px)
  down, across = (jnp.asarray(geometry.spline_weights(k, a), jnp.float32) for k, a in ((rows, ys), (cols, xs)))
  at = jnp.einsum('hr,rcd,wc->hwd', down, found, across, precision='highest')
  inside = ((at > 1) & (at < size_px - 1)).all(-1)
  return jnp.concatenate([sampling.linear(image, at), inside[..., None]], axis=-1)


def prepare(flat: jax.Array) -> Flat:
  """Takes paper, light and ink out of a flat picture, so that the grid remains.

  Args:
    flat: (n h, n w, 4) as `lay_flat` gives it, n being 1 or STEP_PX.

  Returns:
    What is left.
  """
  fine, n = flat, flat.shape[0] // SIZE[0]
  flat = reduced(fine, n, n)
  inside = flat[..., 3]

  def paper_like(brightness):
    return blur(brightness * inside, 16.0) / (blur(inside, 16.0) + 1e-3)

  def darkness(brightness, paper, inside=inside):
    return (paper - brightness) / (paper + 0.03) * inside

  light = paper_like(flat[..., :3].mean(-1))
  dark = darkness(flat[..., :3].mean(-1), light)
  spread = jnp.sqrt(blur(dark**2, 32.0) / (blur(inside, 32.0) + 1e-3)) + 0.01
  brightest = functools.reduce(jnp.maximum, (flat[..., i] for i in range(3)))  # .max(-1) is 15 times as slow before a product on XLA's CPU
  smooth = blur(brightest, 1.2)
  ink = darkness(smooth, paper_like(smooth))
  some, there = ink[::4, ::4].ravel(), inside[::4, ::4].ravel()
  level = jnp.nanquantile(jnp.where(there > 0, some, jnp.nan), 1 - INK_SHARE / 100)
  is_ink = (ink > INK_LEVEL * level).astype(jnp.float32)
  along = [blur_along(widened(is_ink, 3, axis=0), LINE_PX[0], axis=1), blur_along(widened(is_ink, 3, axis=1), LINE_PX[1], axis=0)]
  line = jnp.stack(along) > LINE_SHARE
  black = jnp.prod((line * is_ink).sum((1, 2)) / (is_ink.sum() + 1e-6)) > BLACK
  use = inside * jnp.maximum(1 - widened(widened(is_ink, 5, axis=0), 5, axis=1), line & black)
  lines = darkness(fine[..., :3].mean(-1), repeated(light, n), fine[..., 3]) / repeated(spread, n)
  return Flat(jnp.clip(lines, -2.0, 2.5), jnp.clip(ink / (level + 1e-6), 0, 1), use)


def widened(a: jax.Array, size: int, *, axis: int) -> jax.Array:
  """Returns the highest of `size` px along an axis around each px (h, w) of values >= 0; `reduce_window` is ten times as slow on a CPU."""
  padded = jnp.pad(a, [(size // 2, size // 2) if i == axis else (0, 0) for i in (0, 1)])
  return functools.reduce(jnp.maximum, (jax.lax.slice_in_dim(padded, i, i + a.shape[axis], axis=axis) for i in range(size)))


def reduced(a: jax.Array, down: int, across: int) -> jax.Array:
  """The means of all `down` x `across` px (h, w, ...)."""
  h, w, *rest = a.shape
  return a.reshape(h // down, down, w // across, across, *rest).mean((1, 3))


def repeated(a: jax.Array, times: int) -> jax.Array:
  """Every px (h, w) as `times` x `times`."""
  return jnp.repeat(jnp.repeat(a, times, 0), times, 1)
