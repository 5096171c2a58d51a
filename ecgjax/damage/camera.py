"""Camera, screen and scanner: from paper to file. Pure functions (key, shot, *, strength) -> shot.

`expose` samples the sheet once, from its own px; everything after it acts on the image's px. Strength 0 changes nothing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.damage import scanner_feed, sheet_shape
from ecgjax.damage.aging import MARGIN_PX, Sheet
from ecgjax.drawing import textures
from ecgjax.drawing.textures import ramp
from ecgjax.geometry import interpolation, paper

LIGHTNESS = (0.30, 0.59, 0.11)  # what each colour adds to how bright a px looks
_SPAN = ((-0.5, 1.5), (-0.5, 1.5))  # of fields over the frame, in units of its height and width


class Shot(NamedTuple):
  """A picture in the making, or a part of one.

  Attributes:
    image: (H, W, 3) in 0..1.
    page_px: (H, W, 2) the page's x, y that each px shows.
    there: (H, W) share of each px that shows the sheet.
    ys, xs: (H,) and (W,) place of the px centres in the whole frame, 0..1.
  """

  image: jax.Array
  page_px: jax.Array
  there: jax.Array
  ys: jax.Array
  xs: jax.Array

  def field(self, key: jax.Array, scale: tuple[float, float]) -> jax.Array:
    """(H, W): a smooth field over the frame, its scale in units of the frame."""
    return textures.at(textures.draw(key, scale_px=scale, span=_SPAN), self.ys, self.xs)


def expose(
  sheet: Sheet, view: sheet_shape.View, *, frame_px: tuple[int, int], size_px: tuple[int, int], origin_px: jax.Array, shrink: float,
  feed: scanner_feed.Feed | None = None,
) -> Shot:
  """Takes the picture: the only sampling of the sheet.

  Args:
    sheet: worn as it is.
    view: how the camera sees it.
    frame_px: (height, width) of the whole picture.
    size_px: (height, width) of the part of it that is wanted.
    origin_px: (2,) x, y of that part in the picture.
    shrink: page px per image px where that is above 1, for the anti-aliasing.
    feed: of a scanner that is not even.

  Returns:
    The shot, black where there is no paper.
  """
  page_px = sheet_shape.page_px(view, size_px=size_px, origin_px=origin_px)
  if feed is not None:
    fed = lambda page_px: scanner_feed.apply(feed, page_px, frame_px=frame_px, origin_px=origin_px)
    page_px = jax.lax.cond((feed.shift_px != 0).any(), fed, lambda page_px: page_px, page_px)
  layers = jnp.concatenate([sheet.image, jnp.ones_like(sheet.there)[..., None]], axis=-1) * sheet.there[..., None]
  corner = jnp.stack([sheet.x0_px, -MARGIN_PX])
  at_px = page_px - corner
  while shrink >= 2:  # half the sheet first: a kernel as wide as that would take several times as long
    layers, at_px, shrink = _halved(layers), at_px / 2, shrink / 2
  taken = interpolation.sample(layers, at_px, shrink=(shrink, shrink))
  y, x = ((origin_px[1 - axis] + jnp.arange(size_px[axis]) + 0.5) / frame_px[axis] for axis in (0, 1))
  there = jnp.clip(taken[..., 3], 0, 1)
  return Shot(jnp.clip(taken[..., :3], 0, 1), page_px, there, y, x)


def _halved(layers: jax.Array) -> jax.Array:
  """Means of 2 x 2 px; an odd last row or column is repeated."""
  height, width, depth = layers.shape
  layers = jnp.pad(layers, ((0, height % 2), (0, width % 2), (0, 0)), mode='edge')
  return layers.reshape((height + 1) // 2, 2, (width + 1) // 2, 2, depth).mean((1, 3))


def _behind(shot: Shot, ground: jax.Array) -> Shot:
  """Puts what lies behind the sheet into the picture."""
  return shot._replace(image=shot.image + (1 - shot.there)[..., None] * ground)


def _outside_px(shot: Shot) -> jax.Array:
  """(H, W): how far beyond the sheet's straight edges a px lies, in page px; negative on the sheet."""
  half = np.array([paper.WIDTH_PX, paper.HEIGHT_PX], np.float32) / 2
  return (jnp.abs(shot.page_px - half) - half).max(-1) - MARGIN_PX


def plain(key: jax.Array, shot: Shot, *, white: bool) -> Shot:
  """A scanner's lid: white, or black."""
  level = textures.uniform(key, 0.95, 1.0) if white else textures.uniform(key, 0.0, 0.06)
  return _behind(shot, level * jnp.ones(3))


def desk(key: jax.Array, shot: Shot) -> Shot:
  """A table: wood with its grain, brushed metal, cloth or laminate; the sheet, and sometimes others below it, cast a shadow."""
  ks = jax.random.split(key, 8)
  light, warm = textures.uniform(ks[0], 0.15, 0.75), jnp.maximum(textures.uniform(ks[1], -0.4, 1.1), -0.03)
  rgb = light * jnp.stack([1 + 0.3 * warm, 1 - 0.15 * warm, 1 - 0.6 * warm])
  much = textures.uniform(ks[5], 0.0, 0.12), textures.uniform(ks[6], 0.0, 0.1)

  def fibres(along_x):
    """Fine and broad grain, along x or upwards."""
    fine, broad = (shot.field(k, (a, b) if along_x else (b, a)) for k, a, b in ((ks[3], 0.0015, 0.15), (ks[4], 0.02, 0.4)))
    return much[0] * fine + much[1] * broad

  # a condition, not a choice between two finished pictures: fields are what a desk costs
  grain = jax.lax.cond(jax.random.bernoulli(ks[2]), lambda: fibres(True), lambda: fibres(False))
  ground = rgb * jnp.clip(1 + grain, 0.2, 1.8)[..., None]
  outside = _outside_px(shot)
  pile = textures.uniform(ks[7], -60.0, 40.0)  # below 0: no other sheets
  edge = 0.72 + 0.22 * ramp(jnp.mod(outside, 9.0), 1.0, 4.0)
  ground = jnp.where((outside < pile)[..., None], edge[..., None], ground)
  on_desk = 0.45 * jnp.exp(-jnp.maximum(outside - jnp.maximum(pile, 0), 0) / 22)
  shade = jnp.where(outside < pile, 0.25 * jnp.exp(-jnp.maximum(outside, 0) / 5), on_desk)
  return _behind(shot, ground * (1 - shade)[..., None])


def monitor(key: jax.Array, shot: Shot) -> Shot:
  """A screen around the page: its window, the black bezel, the room behind."""
  ks = jax.random.split(key, 4)
  window, bezel = textures.uniform(ks[0], 0.0, 260.0), textures.uniform(ks[1], 60.0, 160.0)
  outside = _outside_px(shot)[..., None]
  wall = textures.uniform(ks[2], 0.2, 0.7) * (1 + 0.2 * shot.field(ks[3], (0.3, 0.4)))[..., None]
  ground = jnp.where(outside < window, 0.88, jnp.where(outside < window + bezel, 0.05, wall))
  return _behind(shot, jnp.broadcast_to(ground, shot.image.shape))


def light(key: jax.Array, shot: Shot, *, strength: jax.Array) -> Shot:
  """Uneven light, exposure and white balance of a room, and the colour that a phone takes away in its dimness."""
  ks = jax.random.split(key, 5)
  level = (shot.image @ jnp.array(LIGHTNESS))[..., None]
  pale = shot.image + strength * textures.uniform(ks[4], 0.4, 1.0) * (level - shot.image)
  slope = jax.random.normal(ks[0], (2,)) * 0.2
  uneven = slope[0] * (shot.ys - 0.5)[:, None] + slope[1] * (shot.xs - 0.5)[None] + 0.06 * shot.field(ks[1], (0.4, 0.4))
  balance = 1 + 0.04 * jax.random.normal(ks[2], (3,))
  gain = textures.uniform(ks[3], -0.5, 0.0) + uneven
  return shot._replace(image=pale * jnp.exp(strength * (gain[..., None] + jnp.log(jnp.clip(balance, 0.6, 1.4)))))


def shadow(key: jax.Array, shot: Shot, *, strength: jax.Array) -> Shot:
  """The soft shadow of a hand, a phone or a window frame."""
  ks = jax.random.split(key, 4)
  angle = textures.uniform(ks[0], 0, 2 * jnp.pi)
  side = jnp.sin(angle) * (shot.ys - 0.5)[:, None] + jnp.cos(angle) * (shot.xs - 0.5)[None]
  side = side + 0.08 * shot.field(ks[1], (0.25, 0.25)) + textures.uniform(ks[2], -0.3, 0.35)
  deep, soft = textures.uniform(ks[3], 0.1, 1.0, shape=(2,)) * jnp.array([0.45, 0.5])
  return shot._replace(image=shot.image * (1 - strength * deep * ramp(side, 0, soft + 0.02))[..., None])


def glare(key: jax.Array, shot: Shot, *, strength: jax.Array) -> Shot:
  """A lamp or a flash mirrored by gloss or glass: a bright blot that bleaches what lies under it."""
  ks = jax.random.split(key, 3)
  y, x = textures.uniform(ks[0], 0, 1, shape=(2,))
  size = textures.uniform(ks[1], 0.06, 0.3, shape=(2,))
  blot = jnp.exp(-0.5 * (((shot.ys - y) / size[0]) ** 2)[:, None] - 0.5 * (((shot.xs - x) / size[1]) ** 2)[None])
  amount = (strength * textures.uniform(ks[2], 0.1, 0.75) * blot)[..., None]
  return shot._replace(image=shot.image + amount * (1 - shot.image))


def screen(key: jax.Array, shot: Shot, *, strength: jax.Array) -> Shot:
  """A page shown by a screen: resampled to its px, its coloured stripes and rows beat with the camera's px (moire), its black glows."""
  ks = jax.random.split(key, 6)
  pitch = textures.uniform(ks[0], 1.3, 2.6)  # page px of a screen px: the page is shown smaller than it is
  soft = textures.blur(shot.image, sigma_px=(0.5 * strength * pitch, 0.5 * strength * pitch), reach_px=3)
  phase = 2 * jnp.pi * shot.page_px / pitch + textures.uniform(ks[1], 0, 6.3, shape=(2,))
  stripes = jnp.cos(phase[..., :1] + 2 * jnp.pi * jnp.arange(3) / 3)
  depth = strength * textures.uniform(ks[2], 0.02, 0.1, shape=(2,))
  pattern = (1 + depth[0] * stripes) * (1 + depth[1] * jnp.cos(phase[..., 1:]))
  # what the camera's own colour filter makes of the stripes: wide coloured bands
  bands = shot.field(ks[3], (0.5, 0.5)) * 9 + 40 * textures.uniform(ks[4], -1, 1) * shot.ys[:, None]
  rainbow = 1 + 0.02 * strength * jnp.cos(bands[..., None] + 2 * jnp.pi * jnp.arange(3) / 3)
  black = strength * textures.uniform(ks[5], 0.05, 0.25)
  return shot._replace(image=(black + (1 - black) * soft) * pattern * rainbow)


def focus(key: jax.Array, shot: Shot, *, strength: jax.Array) -> Shot:
  """A lens out of focus: blur of 0.35 to 1.2 px at strength 1."""
  sigma = strength * textures.uniform(key, 0.35, 1.2)
  return shot._replace(image=textures.blur(shot.image, sigma_px=(sigma, sigma), reach_px=4))


def motion(key: jax.Array, shot: Shot, *, strength: jax.Array) -> Shot:
  """A hand that shakes: up to 1.5 px of blur along one axis of the picture at strength 1."""
  ks = jax.random.split(key)
  along = jax.random.bernoulli(ks[0]) * jnp.array([1.0, -1.0]) + jnp.array([0.0, 1.0])
  sigma = jnp.minimum(strength, 1) * textures.uniform(ks[1], 0.0, 1.5) * along
  return shot._replace(image=textures.blur(shot.image, sigma_px=(sigma[0], sigma[1]), reach_px=3))


def tint(key: jax.Array, shot: Shot, *, strength: jax.Array) -> Shot:
  """A strong colour cast, cold or warm, as of coloured paper or a wrong white balance."""
  ks = jax.random.split(key, 3)
  warm = textures.uniform(ks[0], -1, 1)
  cast = jnp.stack([1 - 0.42 * jnp.maximum(-warm, 0), 1 - 0.3 * jnp.abs(warm) - 0.2 * jnp.maximum(warm, 0) ** 2, 1 - jnp.maximum(warm, 0)])
  cast = jnp.clip(cast * textures.uniform(ks[1], 0.86, 1.05, shape=(3,)), 0, 1) * textures.uniform(ks[2], 0.88, 1.0)
  return shot._replace(image=shot.image * (1 + strength * (cast - 1)))


def grey(key: jax.Array, shot: Shot, *, strength: jax.Array) -> Shot:
  """A black-and-white device: one mixture of the three colours, from the eye's to the green alone, in which a red grid is black."""
  ks = jax.random.split(key)
  weights = jnp.array(LIGHTNESS) + textures.uniform(ks[0], 0, 1) * jnp.array([-0.3, 0.31, -0.01])
  level = (shot.image @ weights)[..., None]
  steep = 1 + 0.9 * textures.uniform(ks[1], 0, 1)
  level = jnp.clip(0.85 + steep * (level - 0.85), 0, 1)
  return shot._replace(image=shot.image + strength * (level - shot.image))


def sensor(key: jax.Array, shot: Shot, *, strength: jax.Array) -> Shot:
  """Noise of a sensor: more in bright px, half of it coloured, some of it smeared by the camera's own cleaning."""
  ks = jax.random.split(key, 4)
  shape = shot.there.shape
  amount = strength * textures.uniform(ks[0], 0.005, 0.05)
  bright = jnp.sqrt(jnp.clip(shot.image, 0, 1)) + 0.3
  colour = jax.random.normal(ks[1], (3,)) * 0.5
  grain = textures.noise(ks[2], shape)[..., None] + colour * textures.noise(ks[3], shape)[..., None]
  return shot._replace(image=jnp.clip(shot.image + amount * bright * grain, 0, 1))


def sharpen(key: jax.Array, shot: Shot, *, strength: jax.Array) -> Shot:
  """The unsharp mask of a phone or a scanner driver: dark lines get pale edges."""
  # of the lightness, as drivers do: a red line loses its red too, and turns to wine
  level = shot.image @ jnp.array(LIGHTNESS)
  soft = textures.blur(level, sigma_px=(1.5, 1.5), reach_px=3)
  return shot._replace(image=jnp.clip(shot.image + (strength * textures.uniform(key, 0.2, 1.3) * (level - soft))[..., None], 0, 1))


def bilevel(key: jax.Array, shot: Shot, *, strength: jax.Array) -> Shot:
  """Black or white and nothing between, as fax machines and copiers do; below strength 1 a steep curve."""
  ks = jax.random.split(key)
  level = textures.uniform(ks[0], 0.42, 0.72) + 0.02 * textures.noise(ks[1], shot.there.shape)[..., None]
  steep = 4 * (100.0 ** strength)
  hard = jax.nn.sigmoid(steep * (shot.image - level))
  return shot._replace(image=shot.image + jnp.minimum(2 * strength, 1) * (hard - shot.image))
