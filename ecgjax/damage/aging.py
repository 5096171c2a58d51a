"""Aging of print and paper: ink, stains, water, mould, dirt. Pure functions (key, sheet, *, strength) -> sheet.

Strength 0 leaves the sheet as it is; 1 is what such a page in an archive looks like, and each page differs. All act in the page frame,
flat: `sheet_shape` shapes the sheet, and only the camera samples it. What covers or removes ink is marked in `hidden`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ecgjax.drawing import glyphs, textures
from ecgjax.drawing.textures import ramp
from ecgjax.geometry import paper

MARGIN_PX = 64  # blank paper around the printed page


class Sheet(NamedTuple):
  """A printed sheet, or a full-height window of it.

  Attributes:
    image: (1700 + 2 MARGIN_PX, W, 3) in 0..1.
    there: (H, W) share of each px that is paper; 0 where it is torn off.
    hidden: (H, W) 0..1, how far the print of that px is out of sight.
    paper_rgb: (3,) the blank paper.
    x0_px: () page x of the left edge of the arrays; their top lies at page y = -MARGIN_PX.
  """

  image: jax.Array
  there: jax.Array
  hidden: jax.Array
  paper_rgb: jax.Array
  x0_px: jax.Array

  @property
  def ys(self) -> jax.Array:
    """(H,) page y of the px centres."""
    return jnp.arange(self.image.shape[0]) + (0.5 - MARGIN_PX)

  @property
  def xs(self) -> jax.Array:
    """(W,) page x of the px centres."""
    return self.x0_px + jnp.arange(self.image.shape[1]) + 0.5


def lay(image: jax.Array, *, paper_rgb: jax.Array, x0_px: int | jax.Array = 0) -> Sheet:
  """Puts a drawn page on a sheet of paper with a blank margin.

  Args:
    image: (1700, W, 3) as `render.page` draws it.
    paper_rgb: of the blank paper.
    x0_px: page x of the image's left edge.

  Returns:
    The sheet.
  """
  m = MARGIN_PX
  height, width = image.shape[0] + 2 * m, image.shape[1] + 2 * m
  whole = jnp.broadcast_to(paper_rgb, (height, width, 3)).at[m:-m, m:-m].set(image)
  return Sheet(whole, jnp.ones((height, width)), jnp.zeros((height, width)), jnp.asarray(paper_rgb), jnp.asarray(x0_px - m))


def _tint(sheet: Sheet, amount: jax.Array, rgb: jax.Array) -> Sheet:
  """Multiplies the paper by a colour where `amount` (H, W) is 1, as a transparent stain does."""
  return sheet._replace(image=sheet.image * (1 - amount[..., None] * (1 - rgb)))


def dot_gain(key: jax.Array, sheet: Sheet, *, strength: jax.Array) -> Sheet:
  """Ink creeps into the paper: lines widen and soften, tints darken, by the parabola that printers call dot gain."""
  a, b = textures.uniform(key, 0.5, 1.2, shape=(2,)) * strength
  soft = textures.blur(sheet.image, sigma_px=(0.6 * a, 0.6 * a), reach_px=2)
  bare = jnp.clip(soft / jnp.maximum(sheet.paper_rgb, 1e-3), 0, 1)
  return sheet._replace(image=sheet.paper_rgb * bare * (1 - 0.5 * b * (1 - bare)))


def halftone(key: jax.Array, sheet: Sheet, *, strength: jax.Array) -> Sheet:
  """Printers have no pale ink: tints become scattered dots, white and full ink stay."""
  dots = textures.blur(textures.noise(key, sheet.there.shape), sigma_px=(0.5, 0.5), reach_px=1) * 1.8
  tint = jnp.clip(1 - sheet.image / jnp.maximum(sheet.paper_rgb, 1e-3), 0, 1)
  return sheet._replace(image=jnp.clip(sheet.image + strength * 2.2 * (tint * (1 - tint)) * dots[..., None], 0, 1))


def fade(key: jax.Array, sheet: Sheet, *, strength: jax.Array) -> Sheet:
  """Heat and light take the ink away, here more than there, and the paper yellows."""
  where, how = jax.random.split(key)
  loss = strength * textures.uniform(how, 0.25, 0.75) * ramp(textures.smooth(where, sheet.ys, sheet.xs, scale_px=420.0), -2.5, 1.5)
  old = sheet.paper_rgb * jnp.array([1.0, 0.99, 0.94])
  return sheet._replace(image=sheet.image + loss[..., None] * (old - sheet.image))


def stain(key: jax.Array, sheet: Sheet, *, strength: jax.Array) -> Sheet:
  """Coffee, grease and age: soft-edged brown or yellow patches, transparent."""
  ks = jax.random.split(key, 4)
  low, fine = (textures.smooth(k, sheet.ys, sheet.xs, scale_px=g) for k, g in ((ks[0], 300.0), (ks[1], 70.0)))
  amount = ramp(low + 0.35 * fine, textures.uniform(ks[2], 0.3, 1.2), 2.2)
  rgb = jnp.array([0.80, 0.73, 0.55]) + textures.uniform(ks[3], -0.07, 0.07, shape=(3,))
  return _tint(sheet, jnp.minimum(0.9 * strength, 1) * amount, rgb)


def soak(key: jax.Array, sheet: Sheet, *, strength: jax.Array) -> Sheet:
  """Water: ink bleeds where the sheet was wet, and dirt dries in a ring at the edge of it."""
  ks = jax.random.split(key, 5)
  shore = textures.smooth(ks[0], sheet.ys, sheet.xs, scale_px=340.0) + 0.12 * textures.smooth(ks[1], sheet.ys, sheet.xs, scale_px=40.0)
  level = textures.uniform(ks[2], -0.2, 1.0)
  wet = ramp(shore, level, level + 0.2)
  spread = 0.8 + 1.0 * strength * textures.uniform(ks[3], 0.3, 1.0)
  bled = textures.blur(sheet.image, sigma_px=(spread, spread), reach_px=4)
  sheet = sheet._replace(image=sheet.image + (strength * 0.8 * wet)[..., None] * (bled - sheet.image))
  ring = jnp.exp(-(((shore - level) / 0.05) ** 2)) + 0.5 * jnp.exp(-(((shore - level - 0.25) / 0.08) ** 2)) + 0.25 * wet
  return _tint(sheet, jnp.minimum(strength * ring * textures.uniform(ks[4], 0.05, 0.45), 1), jnp.array([0.66, 0.56, 0.42]))


def mould(key: jax.Array, sheet: Sheet, *, strength: jax.Array) -> Sheet:
  """Mould: colonies of dark grains, grey, olive or black, dense in their middle."""
  ks = jax.random.split(key, 7)
  size = textures.uniform(ks[0], 0.8, 1.3)
  low, middle, fine = (textures.smooth(k, sheet.ys, sheet.xs, scale_px=g) for k, g in ((ks[1], 190.0), (ks[2], 48.0), (ks[3], 9.0)))
  colony = ramp(0.7 * low + 0.7 * middle + 0.2 * fine, textures.uniform(ks[4], 0.7, 1.5), 3.0 * size)
  spores = textures.blur(textures.noise(ks[5], sheet.there.shape), sigma_px=(0.8, 0.8), reach_px=2)
  grains = ramp(0.45 * fine + 3 * spores + 1.6 * colony, 0.4, 3.0)
  rgb = jnp.array([0.30, 0.27, 0.21]) * textures.uniform(ks[6], 0.4, 1.7)
  return _tint(sheet, jnp.clip(strength * (0.35 * jnp.sqrt(colony) + 0.9 * colony * grains), 0, 0.97), rgb)


def dirt(key: jax.Array, sheet: Sheet, *, strength: jax.Array, specks: int = 96, box_px: int = 16) -> Sheet:
  """Specks and short scratches of dark dirt, `specks` of them on a whole page at strength 1."""
  ks = jax.random.split(key, 5)
  y = textures.uniform(ks[0], -MARGIN_PX, paper.HEIGHT_PX + MARGIN_PX, shape=(specks,))
  x = textures.uniform(ks[1], -MARGIN_PX, paper.WIDTH_PX + MARGIN_PX, shape=(specks,))
  there = jnp.arange(specks) < specks * strength
  shape = jnp.exp(textures.uniform(ks[2], -1.2, 1.0, shape=(specks, 2))) * jnp.where(there, 1.4, 0)[:, None]
  angle, dark = textures.uniform(ks[3], 0, jnp.pi, shape=(specks,)), textures.uniform(ks[4], 0.3, 0.95, shape=(specks,))
  offsets = jnp.arange(box_px) - box_px / 2 + 0.5

  def speck(y, x, size, angle, dark):
    long, short = size
    row, column = jnp.floor(y), jnp.floor(x)
    dy, dx = (offsets + row - y)[:, None], (offsets + column - x)[None]
    along, aside = dx * jnp.cos(angle) + dy * jnp.sin(angle), dy * jnp.cos(angle) - dx * jnp.sin(angle)
    radius = jnp.sqrt((along / (long + 1e-3)) ** 2 + (aside / (short + 1e-3)) ** 2)
    spot = dark * jnp.clip((1 - radius) * jnp.minimum(long, short) + 0.5, 0, 1) * (long > 0)
    corner = jnp.stack([column - sheet.x0_px, row + MARGIN_PX]) - box_px / 2
    return spot, *corner.astype(jnp.int32)

  height, width = sheet.there.shape
  cover = glyphs.paste(*jax.vmap(speck)(y, x, shape, angle, dark), height_px=height, width_px=width)
  return _tint(sheet, cover, jnp.array([0.15, 0.12, 0.1]))


def sticker(key: jax.Array, sheet: Sheet, *, strength: jax.Array, modules: int = 25) -> Sheet:
  """The white label with a two-dimensional code at the top right that the competition's prints carry; a code of random bits."""
  ks = jax.random.split(key, 4)
  side, turn = 116 * textures.uniform(ks[0], 0.9, 1.1), jnp.deg2rad(textures.uniform(ks[1], -3, 3))
  x0, y0 = jnp.array([2120.0, 62.0]) + textures.uniform(ks[2], -25, 25, shape=(2,))
  x, y = (sheet.xs - x0)[None], (sheet.ys - y0)[:, None]
  u, v = (x * jnp.cos(turn) + y * jnp.sin(turn)) / side, (y * jnp.cos(turn) - x * jnp.sin(turn)) / side
  label = jnp.clip((0.66 - jnp.maximum(jnp.abs(u), jnp.abs(v))) * side + 0.5, 0, 1) * (strength > 0)
  bits = _finders(jax.random.bernoulli(ks[3], 0.5, (modules, modules)))
  row, column = (jnp.floor((w + 0.5) * modules).astype(int) for w in (v, u))
  inside = (jnp.abs(u) < 0.5) & (jnp.abs(v) < 0.5)
  dark = inside & bits[jnp.clip(row, 0, modules - 1), jnp.clip(column, 0, modules - 1)]
  face = jnp.where(dark[..., None], 0.08, 0.99)
  return sheet._replace(image=sheet.image + label[..., None] * (face - sheet.image), hidden=jnp.maximum(sheet.hidden, label))


def _finders(bits: jax.Array) -> jax.Array:
  """Puts the three nested squares of a two-dimensional code into its corners."""
  ring = jnp.maximum(jnp.abs(jnp.arange(8) - 3)[:, None], jnp.abs(jnp.arange(8) - 3)[None])
  finder = (ring == 3) | (ring < 2)
  return bits.at[:8, :8].set(finder).at[:8, -8:].set(finder[:, ::-1]).at[-8:, :8].set(finder[::-1])
