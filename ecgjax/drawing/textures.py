"""Random textures on the device, the basis of damage: smooth fields of any grain, cheap noise, blur.

A smooth field is a cubic B-spline with random coefficients, evaluated by two small matrix products at any rows and columns:
a window of a page sees exactly what the whole page would show there.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ecgjax.geometry.bsplines import basis

Number = jax.Array | float
PAGE_SPAN = ((-128.0, 1828.0), (-128.0, 2328.0))  # page px, from the first to the last row and column that a sheet can have
_SPREAD = 151 / 315  # sum of the squared B-spline weights, averaged over positions: the variance that an axis leaves


class Field(NamedTuple):
  """A random smooth surface: (rows, columns) coefficients on knots `step_px` apart, the first one a step before `low_px`."""

  coefficients: jax.Array
  low_px: tuple[float, float]
  step_px: tuple[float, float]


def draw(key: jax.Array, *, scale_px: tuple[float, float], span=PAGE_SPAN) -> Field:
  """Draws a field of mean 0 and variance 1.

  Args:
    key: of the coefficients.
    scale_px: distance of the knots along y and x; details are about twice as wide.
    span: ((first, last) y, (first, last) x) in px that it must cover.

  Returns:
    The field.
  """
  shape = [math.ceil((high - low) / step) + 4 for (low, high), step in zip(span, scale_px, strict=True)]
  return Field(jax.random.normal(key, shape) / _SPREAD, (span[0][0], span[1][0]), scale_px)


def at(field: Field, ys: jax.Array, xs: jax.Array, *, slope: tuple[Number, Number] | None = None) -> jax.Array:
  """Evaluates a field at all pairs of rows and columns.

  Args:
    field: as drawn.
    ys, xs: (H,) and (W,) px.
    slope: a direction (dy, dx): then the derivative along it, per px, instead of the value. May be traced.

  Returns:
    (H, W).
  """
  across = {}
  for name, points, axis in (('y', ys, 0), ('x', xs, 1)):
    for order in (0, 1) if slope is not None else (0,):
      count = field.coefficients.shape[axis]
      across[name, order] = basis(points, low=field.low_px[axis], step=field.step_px[axis], count=count, order=order)
  product = functools.partial(jnp.einsum, 'hr,rc,wc->hw', precision='highest')  # geometry is made of fields, too
  if slope is None:
    return product(across['y', 0], field.coefficients, across['x', 0])
  down, along = slope
  return down * product(across['y', 1], field.coefficients, across['x', 0]) + along * product(
    across['y', 0], field.coefficients, across['x', 1]
  )


def smooth(key: jax.Array, ys: jax.Array, xs: jax.Array, *, scale_px: float, span=PAGE_SPAN) -> jax.Array:
  """Returns (H, W): a field drawn and evaluated at once, as coarse along y as along x."""
  return at(draw(key, scale_px=(scale_px, scale_px), span=span), ys, xs)


def uniform(key: jax.Array, low: Number, high: Number, *, shape: tuple[int, ...] = ()) -> jax.Array:
  """Returns numbers drawn evenly between `low` and `high`."""
  return jax.random.uniform(key, shape, minval=low, maxval=high)


def noise(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Returns white noise of mean 0 and variance 1, never beyond 3.5: the sum of four random bytes."""
  bits = jax.random.bits(key, shape, jnp.uint32)
  total = (bits & 255) + ((bits >> 8) & 255) + ((bits >> 16) & 255) + (bits >> 24)
  return (total.astype(jnp.float32) - 510) / 147.801


def blur(image: jax.Array, *, sigma_px: tuple[Number, Number], reach_px: int) -> jax.Array:
  """Gaussian blur with sums of shifted copies: on a CPU eight times as fast as a convolution.

  Args:
    image: (H, W, C) or (H, W).
    sigma_px: along y and x; may be traced; 0 leaves that axis as it is.
    reach_px: where the kernel is cut off, at least twice the largest sigma.

  Returns:
    The image, as large as before; px beyond its edge count as the edge.
  """
  offsets = jnp.arange(-reach_px, reach_px + 1)
  for axis, sigma in enumerate(sigma_px):
    weights = jnp.exp(-0.5 * (offsets / jnp.maximum(sigma, 1e-3)) ** 2)
    weights = weights / weights.sum()
    pad = [(reach_px, reach_px) if a == axis else (0, 0) for a in range(image.ndim)]
    padded, size = jnp.pad(image, pad, mode='edge'), image.shape[axis]
    taps = [jax.lax.slice_in_dim(padded, i, i + size, axis=axis) * weights[i] for i in range(2 * reach_px + 1)]
    image = sum(taps[1:], start=taps[0])
  return image


def ramp(x: jax.Array, low: Number, high: Number) -> jax.Array:
  """Returns 0 below `low`, 1 above `high`, smooth between."""
  t = jnp.clip((x - low) / (high - low), 0, 1)
  return t * t * (3 - 2 * t)
