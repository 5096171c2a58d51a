"""Compression loss of JPEG. A pure function (key, shot, *, strength) -> shot, as in `camera`."""

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.damage.camera import Shot
from ecgjax.drawing import textures

# The example tables of the JPEG standard (ITU T.81, annex K), for luminance and colour.
_LUMA = np.array([
  [16, 11, 10, 16, 24, 40, 51, 61],
  [12, 12, 14, 19, 26, 58, 60, 55],
  [14, 13, 16, 24, 40, 57, 69, 56],
  [14, 17, 22, 29, 51, 87, 80, 62],
  [18, 22, 37, 56, 68, 109, 103, 77],
  [24, 35, 55, 64, 81, 104, 113, 92],
  [49, 64, 78, 87, 103, 121, 120, 101],
  [72, 92, 95, 98, 112, 100, 103, 99],
], np.float32)  # fmt: skip
_CHROMA = np.full((8, 8), 99, np.float32)
_CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
_N = np.arange(8)
_DCT = (np.sqrt(np.where(_N == 0, 1, 2) / 8)[:, None] * np.cos(np.pi * (2 * _N + 1) * _N[:, None] / 16)).astype(np.float32)
_YCC = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]], np.float32)


def jpeg(key: jax.Array, shot: Shot, *, strength: jax.Array) -> Shot:
  """Loses what JPEG loses: 8 x 8 cosines rounded by the standard's tables at quality 95 down to 30, colour at half the resolution."""
  quality = 95 - strength * textures.uniform(key, 5.0, 65.0)
  scale = jnp.where(quality < 50, 50 / quality, 2 - quality / 50) / 255
  height, width = shot.there.shape
  pad = [(0, -n % 16) for n in (height, width)]
  ycc = jnp.pad(_mixed(shot.image, _YCC), (*pad, (0, 0)), mode='edge')
  h, w = ycc.shape[:2]
  luma = _rounded(ycc[..., :1] - 0.5, scale * _LUMA) + 0.5
  small = ycc[..., 1:].reshape(h // 2, 2, w // 2, 2, 2).mean((1, 3))
  small = _rounded(small, scale * _CHROMA)
  chroma = jnp.broadcast_to(small[:, None, :, None], (h // 2, 2, w // 2, 2, 2)).reshape(h, w, 2)
  rgb = _mixed(jnp.concatenate([luma, chroma], axis=-1), np.linalg.inv(_YCC).astype(np.float32))
  return shot._replace(image=jnp.clip(rgb[:height, :width], 0, 1))


def _mixed(image: jax.Array, matrix: np.ndarray) -> jax.Array:
  """(H, W, 3) colours of another kind; sums of planes, since a CPU is slow at so thin a matrix product."""
  return jnp.stack([sum(float(weight) * image[..., k] for k, weight in enumerate(row)) for row in matrix], axis=-1)


def _rounded(planes: jax.Array, table: jax.Array) -> jax.Array:
  """(H, W, C) rounded to multiples of `table` in the space of 8 x 8 cosines."""
  h, w, c = planes.shape
  blocks = planes.reshape(h // 8, 8, w // 8, 8, c)
  waves = jnp.einsum('ij,ajbkc,lk->aiblc', _DCT, blocks, _DCT, precision='highest')
  waves = jnp.round(waves / table[:, None, :, None]) * table[:, None, :, None]
  return jnp.einsum('ij,aibkc,kl->ajblc', _DCT, waves, _DCT, precision='highest').reshape(h, w, c)
