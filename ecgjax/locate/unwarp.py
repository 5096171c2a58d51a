"""Unwarped pictures: a page laid flat along its approximate lattice, with paper, light and ink separated.

In the page frame a plane map (3, 3) takes page px to image px, and `displacement_px` (45, 57, 2) is by how many page px the nodes lie
from their places in it.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.geometry import homography as homography
from ecgjax.geometry import interpolation, lattices, paper
from ecgjax.locate.filters import gaussian, product, quantile, reduced, repeated, stored, widened

STEP_PX = 2  # page px per px of the flat picture
SIZE = (paper.HEIGHT_PX // STEP_PX, paper.WIDTH_PX // STEP_PX)
LINE_PX, LINE_SHARE = (200.0, 80.0), 0.6  # ink lies in a line along x or y if of a neighbourhood so long so much is ink
# a grid is black if the shares of ink that lie in lines along x and along y have such a product; for baselines and separators it is 0.025
BLACK = 0.05
INK_SHARE, INK_LEVEL = 1.3, 0.5  # per cent of the page that is as dark as traces; beyond half of that a px counts as ink, not grid


class FlatView(NamedTuple):
  """A picture laid flat: h x w px of STEP_PX page px each.

  Attributes:
    lines: (n h, n w), n being 1 or STEP_PX: darkness against the neighbourhood, in units of its own spread there; 0 outside the picture.
    ink: (h, w) 0..1, how dark against the neighbourhood even the lightest colour is: traces, text, bars, black grids.
    use: (2, h, w) 0 or 1, whether the px counts for the grid along y and x: it lies in the picture and holds no ink, or a line.
  """

  lines: jax.Array
  ink: jax.Array
  use: jax.Array


def centres_px(*, step_px: float = STEP_PX) -> tuple[np.ndarray, np.ndarray]:
  """Returns page y and x of the px of a flat picture with px of `step_px` page px."""
  ys, xs = (np.arange(step_px / 2, limit, step_px) for limit in (paper.HEIGHT_PX, paper.WIDTH_PX))
  return ys, xs


def lattice(plane: lattices.Array, displacement_px: jax.Array) -> jax.Array:
  """Returns (45, 57, 2) image px of the nodes: a plane map (3, 3) of their places plus a displacement (45, 57, 2) in page px."""
  return homography.apply_plane(plane, lattices.page_lattice() + displacement_px)


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
    weights = gaussian(np.zeros(1), STEP_PX * np.arange(-reach, reach + 1.0), sigma_px)[0]
    padded = jnp.pad(a, [(reach, reach) if i == axis else (0, 0) for i in (0, 1)])
    shifted = (jax.lax.slice_in_dim(padded, i, i + a.shape[axis], axis=axis) for i in range(2 * reach + 1))
    return functools.reduce(jnp.add, (float(weights[i]) * part for i, part in enumerate(shifted)))
  few = np.arange(-3 * sigma_px, points[-1] + 3 * sigma_px, coarse_px)
  return product(gaussian(points, few, part_px), product(gaussian(few, points, part_px), a, axis=axis), axis=axis)


def shades(image: lattices.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the mean and the highest (H, W), 0..1, of a picture's colours (H, W, 3), uint8 or 0..1: all that is used of it.

  Planes, because XLA's CPU programs take ten times as long over colours that lie side by side.
  """
  whole = 255 if image.dtype == jnp.uint8 else 1
  colours = [jnp.asarray(image[..., i], jnp.float32) for i in range(3)]
  return functools.reduce(jnp.add, colours) / (3 * whole), functools.reduce(jnp.maximum, colours) / whole


def lay_flat(planes: Sequence[jax.Array], found: jax.Array, size_px: jax.Array, *, step_px: int = STEP_PX) -> tuple[jax.Array, ...]:
  """Samples a picture in the page frame.

  Args:
    planes: (H, W) each, of a picture of about one px for each px of the result; may be padded.
    found: (45, 57, 2) image px of the nodes.
    size_px: (2,) width and height of the picture without its padding.
    step_px: page px per px.

  Returns:
    (1700 / step_px, 2200 / step_px) each: the planes, and 1 where the px lies in the picture, else 0.
  """
  rows, cols = lattices.nodes_px()
  ys, xs = centres_px(step_px=step_px)
  down, across = (jnp.asarray(lattices.spline_weights(k, a), jnp.float32) for k, a in ((rows, ys), (cols, xs)))
  x, y = (jnp.einsum('hr,rc,wc->hw', down, found[..., i], across, precision='highest') for i in (0, 1))
  inside = (x > 1) & (x < size_px[0] - 1) & (y > 1) & (y < size_px[1] - 1)
  return *(interpolation.linear(plane, x, y) for plane in planes), inside.astype(jnp.float32)


def prepare(flat: Sequence[jax.Array]) -> FlatView:
  """Takes paper, light and ink out of a flat picture, so that the grid remains.

  Args:
    flat: (n h, n w) each, as `lay_flat` gives them of `shades`, n being 1 or STEP_PX.

  Returns:
    What is left.
  """
  n = len(flat[0]) // SIZE[0]
  # `stored`: what several results are made of; XLA's CPU compiler would compute it anew for each of them
  grey, brightest, inside = stored(tuple(reduced(plane, n, n) for plane in flat))
  coverage = stored(blur(inside, 16.0) + 1e-3)

  def paper_like(brightness):
    return stored(blur(brightness * inside, 16.0) / coverage)

  def darkness(brightness, paper):
    return (paper - brightness) / (paper + 0.03) * inside

  light = paper_like(grey)
  spread = jnp.sqrt(blur(stored(darkness(grey, light) ** 2), 32.0) / (blur(inside, 32.0) + 1e-3)) + 0.01
  smooth = stored(blur(brightest, 1.2))
  ink = stored(darkness(smooth, paper_like(smooth)))
  level = stored(quantile(jnp.maximum(ink[::4, ::4].ravel(), 0), inside[::4, ::4].ravel() > 0, 1 - INK_SHARE / 100))
  is_ink = stored(ink > INK_LEVEL * level)
  along = [blur_along(stored(widened(is_ink, 3, axis=axis).astype(jnp.float32)), LINE_PX[axis], axis=1 - axis) for axis in (0, 1)]
  line = jnp.stack(along) > LINE_SHARE
  black = jnp.prod((line * is_ink).sum((1, 2)) / (is_ink.sum() + 1e-6)) > BLACK
  use = inside * jnp.maximum(1 - widened(stored(widened(is_ink, 5, axis=0)), 5, axis=1), line & black)
  lines = (repeated(light, n, n) - flat[0]) * repeated(stored(1 / ((light + 0.03) * spread)), n, n) * flat[2]
  return FlatView(jnp.clip(lines, -2.0, 2.5), jnp.clip(ink / (level + 1e-6), 0, 1), use)
