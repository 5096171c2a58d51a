"""Mechanical damage of paper: folding, crumpling, bending, tearing. Pure functions (key, sheet, *, strength) -> sheet, as in `aging`."""

import math

import jax
import jax.numpy as jnp

from ecgjax.damage.aging import MARGIN_PX, Sheet
from ecgjax.drawing import textures
from ecgjax.drawing.textures import ramp
from ecgjax.geometry import lattices, paper


def crease(key: jax.Array, sheet: Sheet, *, strength: jax.Array, lines: int = 10) -> Sheet:
  """Fold lines in two directions: the ink cracks off and leaves pale lines, one flank lies in shade."""
  ks = jax.random.split(key, 6)
  heading = textures.uniform(ks[0], 0, jnp.pi, shape=(2,))[jax.random.bernoulli(ks[1], 0.4, (lines,)).astype(int)]
  heading = heading + textures.uniform(ks[2], -0.12, 0.12, shape=(lines,))
  through = textures.uniform(ks[3], 0, 1, shape=(lines, 2)) * jnp.array([paper.WIDTH_PX, paper.HEIGHT_PX])
  width, depth = textures.uniform(ks[4], 1.2, 6.0, shape=(lines,)), textures.uniform(ks[5], 0.15, 0.8, shape=(lines,))
  shape = sheet.there.shape

  def fold(both, line):
    pale, shade = both
    heading, through, width, depth = line
    off = ((sheet.xs - through[0]) * jnp.sin(heading))[None] - ((sheet.ys - through[1]) * jnp.cos(heading))[:, None]
    core = depth * jnp.exp(-0.5 * (off / width) ** 2)
    flank = 0.35 * depth * jnp.exp(-jnp.abs(off) / 30) * (off > 0)
    return (jnp.maximum(pale, core), jnp.maximum(shade, flank)), None

  blank = (jnp.zeros(shape), jnp.zeros(shape))
  (pale, shade), _ = jax.lax.scan(fold, blank, (heading, through, width, depth))
  image = sheet.image * (1 - strength * shade[..., None])
  return sheet._replace(image=image + strength * pale[..., None] * (1 - image))


def wrinkle(key: jax.Array, sheet: Sheet, *, strength: jax.Array) -> Sheet:
  """Light and shade on a crumpled sheet: facets between sharp ridges, from a hand's breadth down to a few mm.

  The height is a sum of |smooth field|, so its slope jumps where a field changes its sign: that is a ridge. Returns the shaded sheet.
  """
  ks = jax.random.split(key, 5)
  angle = textures.uniform(ks[0], 0, 2 * jnp.pi)
  light = (jnp.sin(angle), jnp.cos(angle))
  rough = textures.uniform(ks[1], 0.1, 1.0)  # how much of the small facets this sheet has
  shade = jnp.zeros(sheet.there.shape)
  # long facets upwards and across beside square ones: their ridges meet at angles, where those of one field close in circles
  facets = ((430, 430, 0.7), (560, 280, 0.7), (250, 500, 0.7), (170, 200, 0.6), (180, 90, 0.5), (80, 150, 0.5), (40, 50, 0.35))
  for n, (high, wide, share) in enumerate(facets):
    grain = math.sqrt(high * wide)
    field = textures.draw(jax.random.fold_in(ks[2], n), scale_px=(high, wide))
    # a ridge is sharp, but not a knife's edge: 4 px and a twentieth of the facet
    side = jnp.tanh(textures.at(field, sheet.ys, sheet.xs) * grain / (4 + 0.05 * grain))
    shade += share * rough ** (n / 4) * side * textures.at(field, sheet.ys, sheet.xs, slope=light) * grain
  depth = strength * textures.uniform(ks[3], 0.4, 1.3)
  # lit flanks saturate soon, those turned away darken, a few folds lie in full shade
  gain = 1 - depth * (0.24 - 0.3 * jnp.tanh(0.7 * shade)) - depth * 0.6 * ramp(-shade, 1.1, 3.0) * textures.uniform(ks[4], 0, 1.2)
  return sheet._replace(image=sheet.image * jnp.clip(gain, 0.03, 1)[..., None])


def relief(key: jax.Array, sheet: Sheet, heights_px: jax.Array, *, knots: tuple, strength: jax.Array) -> Sheet:
  """The shading that the sheet's own bends give: flanks that face the light are brighter.

  Args:
    key: of the light's direction.
    sheet: that is bent.
    heights_px: (R, C) height above the table at the nodes.
    knots: page px of the node rows and columns.
    strength: 1 makes a slope of 10 % a sixth brighter or darker.

  Returns:
    The sheet.
  """
  slope_y, slope_x = jnp.gradient(heights_px, *(jnp.asarray(k, jnp.float32) for k in knots))
  angle = textures.uniform(key, 0, 2 * jnp.pi)
  facing = jnp.sin(angle) * slope_y + jnp.cos(angle) * slope_x
  down, across = (lattices.spline_weights(k, at) for k, at in zip(knots, (sheet.ys, sheet.xs), strict=True))
  gain = jnp.clip(1 + 1.6 * strength * (down @ facing @ across.T), 0.6, 1.2)
  return sheet._replace(image=jnp.clip(sheet.image * gain[..., None], 0, 1))


def tear(key: jax.Array, sheet: Sheet, *, strength: jax.Array) -> Sheet:
  """A corner or an edge is torn off along a ragged line with a white fibrous rim; what stood there is gone."""
  ks = jax.random.split(key, 6)
  heading = textures.uniform(ks[0], 0, 2 * jnp.pi)
  across = jnp.stack([jnp.sin(heading), jnp.cos(heading)])  # y, x: points out of the page
  half = jnp.array([paper.HEIGHT_PX / 2 + MARGIN_PX, paper.WIDTH_PX / 2 + MARGIN_PX])
  reach = jnp.abs(across) @ half  # from the middle to the corner that is torn off
  keep = reach - strength * textures.uniform(ks[1], 80.0, 420.0)
  ragged = sum(a * textures.smooth(k, sheet.ys, sheet.xs, scale_px=g) for k, a, g in ((ks[2], 28.0, 150.0), (ks[3], 7.0, 25.0)))
  y, x = sheet.ys - paper.HEIGHT_PX / 2, sheet.xs - paper.WIDTH_PX / 2
  beyond = (across[0] * y)[:, None] + (across[1] * x)[None] + ragged - keep
  rim = ramp(beyond + 12 + 6 * textures.smooth(ks[4], sheet.ys, sheet.xs, scale_px=12.0), 0, 5) * ramp(strength, 0, 0.05)
  gone = jnp.clip(beyond + 0.5, 0, 1) * (strength > 0)
  image = sheet.image + rim[..., None] * (0.96 - sheet.image)
  return sheet._replace(image=image, there=sheet.there * (1 - gone), hidden=jnp.maximum(sheet.hidden, jnp.maximum(rim, gone)))
