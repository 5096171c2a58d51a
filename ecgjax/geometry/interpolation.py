"""Interpolation of images: Keys' cubic for reading and training, bilinear for locating grid lines.

Points are x, y in continuous px: px i covers [i, i + 1), its centre is at i + 0.5.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray


def _keys(apart: jax.Array) -> jax.Array:
  """Returns Keys' cubic (a = -0.5) of distances."""
  x = jnp.abs(apart)
  near = (1.5 * x - 2.5) * x * x + 1
  far = ((-0.5 * x + 2.5) * x - 4) * x + 2
  return jnp.where(x < 1, near, jnp.where(x < 2, far, 0.0))


def _taps(at: jax.Array, *, shrink: float, size: int):
  """Returns the number of taps around px coordinates, (n) -> index and weight of the n-th, and the sum of all weights."""
  count = 2 * math.ceil(2 * shrink)
  first = jnp.floor(at - 0.5) - (count // 2 - 1)
  weight = lambda n: _keys((first + n + 0.5 - at) / shrink)

  def tap(n):
    index = first + n
    return jnp.clip(index, 0, size - 1).astype(jnp.int32), weight(n) * ((index >= 0) & (index < size))

  return count, tap, sum(weight(n) for n in range(count)) if shrink > 1 else 1.0


def sample(image: Array, xy_px: jax.Array, *, shrink: tuple[float, float] = (1.0, 1.0)) -> jax.Array:
  """Samples an image at points, once, by Keys' cubic convolution; differentiable in both arguments.

  Args:
    image: (H, W, C) any float or uint8; uint8 counts as 0..255 -> 0..1.
    xy_px: (..., 2) x, y in continuous px.
    shrink: image px per output px along x and along y, if above 1: the kernel is widened by it against aliasing.

  Returns:
    (..., C) float32; 0 for points outside the image.
  """
  height, width = image.shape[:2]
  columns, across, wide = _taps(xy_px[..., 0], shrink=max(1.0, shrink[0]), size=width)
  lines, down, high = _taps(xy_px[..., 1], shrink=max(1.0, shrink[1]), size=height)
  scale = (1 / 255 if image.dtype == jnp.uint8 else 1.0) / (wide * high)
  flat = jnp.asarray(image).reshape(height * width, -1)

  def add(out, n):
    row, weight = down(n)
    taps = jnp.zeros_like(out)
    for i in range(columns):  # indices and weights anew for each line: to store those of all taps takes longer, and 64 bytes a point
      column, share = across(i)
      taps += flat[row * width + column].astype(jnp.float32) * (share * scale)[..., None]
    return out + taps * weight[..., None], None

  # a loop, because its result is stored: XLA's CPU compiler would sample anew for everything that is made of an unrolled sum
  return jax.lax.scan(add, jnp.zeros((*xy_px.shape[:-1], image.shape[-1])), jnp.arange(lines, dtype=jnp.float32))[0]


def linear(plane: Array, x_px: jax.Array, y_px: jax.Array) -> jax.Array:
  """Samples one plane bilinearly: much cheaper than `sample`, accurate enough to locate lines, not to read traces.

  Args:
    plane: (H, W).
    x_px: (...) in continuous px; constant beyond the border.
    y_px: (...).

  Returns:
    (...) float32.
  """
  height, width = plane.shape
  left, top = jnp.floor(x_px - 0.5), jnp.floor(y_px - 0.5)
  right, below = x_px - 0.5 - left, y_px - 0.5 - top
  x, y = left.astype(jnp.int32), top.astype(jnp.int32)
  flat = jnp.asarray(plane).reshape(height * width)
  at = lambda dx, dy: flat[jnp.clip(y + dy, 0, height - 1) * width + jnp.clip(x + dx, 0, width - 1)]
  upper, lower = (at(0, dy) * (1 - right) + at(1, dy) * right for dy in (0, 1))
  return upper * (1 - below) + lower * below
