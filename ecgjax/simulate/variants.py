"""Kinds of picture, as data: the competition's variants, other machines and cameras, and the mixture for training.

A variant says how the page was printed and how much of each effect it went through; the numbers were set by eye and by the statistics of
scripts/compare_looks.py against real pictures (docs/looks).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ecgjax.damage import sheet_shape
from ecgjax.damage.degrade import DESK, LID_BLACK, MONITOR, Damage
from ecgjax.drawing import looks
from ecgjax.ecg.errors import ECGError
from ecgjax.geometry import paper

PAGE, SCAN, PHOTO = (paper.HEIGHT_PX, paper.WIDTH_PX), (1652, 2180), (3024, 4032)
LOOKS = (lambda key: looks.competition(), looks.draw, looks.tinted, looks.black_and_white, looks.thermal)
COMPETITION, ANY, TINTED, BLACK_AND_WHITE, THERMAL = range(len(LOOKS))


class Variant(NamedTuple):
  """One kind of picture.

  Attributes:
    damage: strengths.
    frame_px: (height, width) of the picture.
    look: index in LOOKS, how it was printed.
    apart: strength of `misregistration` in its print.
  """

  damage: Damage
  frame_px: tuple[int, int] = PAGE
  look: int = COMPETITION
  apart: float = 1.0

  @property
  def shrink(self) -> float:
    """Returns page px per image px of a page seen straight on, to a tenth; 1 where the picture is nearly as fine or finer.

    Up to 1.2 the plain kernel does: a wider one costs twice as much, and what little aliases a camera's own px would let through, too.
    """
    rows, cols = sheet_shape.nodes_px()
    fitted = self.damage.fill * min(self.frame_px[0] / (rows[-1] - rows[0]), self.frame_px[1] / (cols[-1] - cols[0]))
    coarser = round(float(1 / (fitted or self.damage.zoom)), 1)
    return coarser if coarser > 1.2 else 1.0


_SCAN = Damage(roll_deg=0.7, zoom=0.985, shift_px=12, feed_px=0.7, dot_gain=0.6, halftone=0.2, sensor=0.15,
  sharpen=0.3, jpeg=0.1, sticker=1, leap=1)
_BLACK = _SCAN._replace(grey=1, halftone=1.0, dot_gain=1.0, bilevel=0.25, sharpen=0.6)
_PHOTO = Damage(
  curl_px=22, wave_px=3, feed_px=0.5, tilt_deg=14, roll_deg=4, fill=0.98, lens=0.01, ground=DESK, dot_gain=0.9, halftone=0.2, sticker=1,
  light=0.8, shadow=0.5, focus=0.9, motion=0.3, sensor=0.5, sharpen=1, jpeg=0.4,
)  # fmt: skip

VARIANTS = {
  '0001': Variant(Damage(), apart=0.0),
  '0003': Variant(_SCAN, SCAN),
  '0004': Variant(_BLACK, SCAN),
  '0005': Variant(_PHOTO, PHOTO),
  '0006': Variant(_PHOTO._replace(curl_px=0, wave_px=0, feed_px=0, dot_gain=0, halftone=0, lens=0.015, fill=0.85, ground=MONITOR,
                                  screen=1, glare=0.6, shadow=0.3, focus=1.2, sharpen=0.6, sticker=1), PHOTO, apart=0.0),
  '0009': Variant(_PHOTO._replace(wave_px=10, crumple_px=0.5, stain=0.25, soak=0.6, dirt=0.2), PHOTO),
  '0010': Variant(_PHOTO._replace(wave_px=13, crumple_px=1.2, stain=0.7, soak=0.8, mould=0.65, dirt=1, crease=0.3,
    tear=0.3), PHOTO),
  '0011': Variant(_SCAN._replace(roll_deg=1.5, wave_px=4, crumple_px=0.5, stain=0.4, soak=0.35, mould=0.6, dirt=0.7), SCAN),
  '0012': Variant(_BLACK._replace(roll_deg=1.5, wave_px=4, crumple_px=0.5, stain=0.4, soak=0.35, mould=0.6, dirt=0.7), SCAN),
  '0015': Variant(Damage(roll_deg=5, ground=LID_BLACK, wrinkle=1, crease=0.8, tint=1, sensor=0.9, light=0.2, focus=0.7,
    jpeg=0.3), PAGE, TINTED, apart=0.0),
  'fax': Variant(_SCAN._replace(zoom=0.75, grey=1, halftone=0.5, bilevel=1, feed_px=1.5, jpeg=0, dirt=0.4, sticker=0),
    (1275, 1650), ANY),
  'thermal': Variant(_SCAN._replace(halftone=0, fade=1, stain=0.4, crease=0.3, curl_px=4, sticker=0), SCAN, THERMAL),
  'small': Variant(_PHOTO._replace(fill=0.95, focus=0.5, motion=0.1, sensor=0.4, sharpen=0.4), (675, 900), ANY),
}  # fmt: skip

TALL_BARS_MV = 20.0  # separators as high as half the page, and more

# What a training page may be, and how often. The picture is smaller than a phone's, so that a step costs less: about 1 px a page px.
MIXED_FRAME_PX = (1900, 2500)
MIXED = {'0001': 3, '0003': 2, '0004': 3, '0005': 2, '0006': 2, '0009': 2, '0010': 3, '0011': 2, '0012': 4, '0015': 5,
  'fax': 2, 'thermal': 3}


def draw_look(key: jax.Array, look: jax.Array | int) -> looks.Style:
  """Returns a page's style, of the given index in LOOKS; all looks are drawn, they cost nothing."""
  drawn = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x, jnp.float32) for x in leaves]), *(draw(key) for draw in LOOKS))
  return jax.tree.map(lambda leaves: leaves[look], drawn)


def draw(key: jax.Array, names: tuple[str, ...]) -> tuple[Damage, looks.Style]:
  """Draws what a training page goes through.

  Args:
    key: of this page.
    names: of the variants to choose from, each as often as MIXED says.

  Returns:
    Its damage, every strength between a fifth and 1.2 times the variant's, and its style: the variant's own, or on every third page any,
    with other makers' separators and pulses.
  """
  ks = jax.random.split(key, 5)
  rows = [VARIANTS[name] for name in names]
  weights = jnp.array([MIXED.get(name, 1) for name in names], jnp.float32)
  chosen = jax.random.categorical(ks[0], jnp.log(weights))
  damage = jax.tree.map(lambda *leaves: jnp.array(leaves, jnp.float32)[chosen], *(row.damage for row in rows))
  factors = jax.random.uniform(ks[1], (len(damage),), minval=0.2, maxval=1.2)
  varied = Damage(*(x * f for x, f in zip(damage, factors, strict=True)))
  # no leaps, nor a program for them: what a window is to show is labelled along its lattice
  damage = varied._replace(ground=damage.ground, fill=damage.fill, zoom=damage.zoom, sticker=damage.sticker, leap=0.0)
  any_look = jax.random.bernoulli(ks[2], 1 / 3 if len(names) > 1 else 0.0)
  look = jnp.where(any_look, ANY, jnp.array([row.look for row in rows])[chosen])
  style = draw_look(ks[3], look)
  taller, none = jax.random.uniform(ks[4], (2,))
  bar_mv = jnp.where(taller < 0.25, TALL_BARS_MV * jnp.where(taller < 0.1, 1.0, taller), style.bar_mv)
  other = style._replace(bar_mv=bar_mv, pulse=jnp.where(none < 0.2, 0.0, style.pulse))
  return damage, jax.tree.map(lambda own, its: jnp.where(any_look, its, own), style, other)


def parse(text: str) -> tuple[str, ...]:
  """Returns the names that a text stands for: 'mixed' for all of MIXED, or names with commas between.

  Raises:
    ECGError: for a name that is not in VARIANTS.
  """
  names = tuple(MIXED) if text == 'mixed' else tuple(text.split(','))
  for name in names:
    get(name)
  return names


def get(name: str) -> Variant:
  """Returns a variant by its name.

  Raises:
    ECGError: for a name that is not in VARIANTS.
  """
  if name not in VARIANTS:
    raise ECGError(f'no variant {name!r}; choose one of {", ".join(VARIANTS)}')
  return VARIANTS[name]


def even(variant: Variant) -> Variant:
  """Returns the variant as if its scanner were even and its printer exact."""
  return variant._replace(damage=variant.damage._replace(leap=0.0), apart=0.0)


def frame_of(variant: Variant, *, width_px: int) -> Variant:
  """Returns the variant with a picture of another width, all that is measured in image px in proportion."""
  ratio = width_px / variant.frame_px[1]
  height = math.floor(variant.frame_px[0] * ratio)
  damage = variant.damage._replace(zoom=variant.damage.zoom * ratio, shift_px=variant.damage.shift_px * ratio)
  return variant._replace(frame_px=(height, width_px), damage=damage)
