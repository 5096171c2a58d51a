"""Values of an image between its px: by Keys' cubic, for all that is read or trained on, or between four px, to see where lines lie.

Points are x, y in continuous px: px i covers [i, i + 1), its centre is at i + 0.5.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray


def _taps(at: jax.Array, *, shrink: float) -> tuple[jax.Array, jax.Array]:
  """Indices and weights (..., taps) of Keys' cubic (a = -0.5) around pixel coordinates, widened by `shrink`."""
  n = 2 * math.ceil(2 * shrink)
  first = jnp.floor(at - 0.5) - (n // 2 - 1)
  index = first[..., None] + jnp.arange(n)
  x = jnp.abs(index + 0.5 - at[..., None]) / shrink
  near = (1.5 * x - 2.5) * x * x + 1
  far = ((-0.5 * x + 2.5) * x - 4) * x + 2
  weights = jnp.where(x < 1, near, jnp.where(x < 2, far, 0.0))
  if shrink > 1:
    weights = weights / weights.sum(-1, keepdims=True)
  return index.astype(jnp.int32), weights


def sample(image: Array, xy_px: jax.Array, *, shrink: tuple[float, float] = (1.0, 1.0)) -> jax.Array:
  """Samples an image at points, once, by Keys' cubic convolution; differentiable in both arguments.

  Args:
    image: (H, W, C) any float or uint8; uint8 counts as 0..255 -> 0..1.
    xy_px: (..., 2) x, y in continuous px.
    shrink: image px per output px along x and along y where that is above 1: the kernel is widened by it against aliasing.

  Returns:
    (..., C) float32; points outside the image read 0.
  """
  height, width = image.shape[:2]
  scale = 1 / 255 if image.dtype == jnp.uint8 else 1.0
  ix, wx = _taps(xy_px[..., 0], shrink=max(1.0, shrink[0]))
  iy, wy = _taps(xy_px[..., 1], shrink=max(1.0, shrink[1]))
  wx = wx * ((ix >= 0) & (ix < width)) * scale
  wy = wy * ((iy >= 0) & (iy < height))
  ix, iy = jnp.clip(ix, 0, width - 1), jnp.clip(iy, 0, height - 1)
  flat = jnp.asarray(image).reshape(height * width, -1)

  def add(out, line):
    row, weight = line
    taps = sum(flat[row * width + ix[..., i]].astype(jnp.float32) * wx[..., i, None] for i in range(ix.shape[-1]))
    return out + taps * weight[..., None], None

  # a loop, because its result is stored: XLA's CPU compiler would sample anew for everything that is made of an unrolled sum
  lines = jnp.moveaxis(iy, -1, 0), jnp.moveaxis(wy, -1, 0)
  return jax.lax.scan(add, jnp.zeros((*xy_px.shape[:-1], image.shape[-1])), lines)[0]


def linear(image: Array, xy_px: jax.Array) -> jax.Array:
  """Samples an image between its four nearest px: a sixth of the cost of `sample`, good enough to see where lines lie, not to read them.

  Args:
    image: (H, W, C) any float or uint8; uint8 counts as 0..255 -> 0..1.
    xy_px: (..., 2) x, y in continuous px; beyond the border px the border's own value is taken.

  Returns:
    (..., C) float32.
  """
  height, width = image.shape[:2]
  corner = jnp.floor(xy_px - 0.5)
  share = xy_px - 0.5 - corner
  x, y = corner[..., 0].astype(jnp.int32), corner[..., 1].astype(jnp.int32)
  flat = jnp.asarray(image).reshape(height * width, -1)
  at = lambda dx, dy: flat[jnp.clip(y + dy, 0, height - 1) * width + jnp.clip(x + dx, 0, width - 1)].astype(jnp.float32)
  right, below = share[..., :1], share[..., 1:]
  upper, lower = (at(0, dy) * (1 - right) + at(1, dy) * right for dy in (0, 1))
  return (upper * (1 - below) + lower * below) * (1 / 255 if image.dtype == jnp.uint8 else 1.0)
