"""Handwriting on the device: illegible words, underlines, arrows and circles of a pen on a print."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.drawing import glyphs
from ecgjax.geometry import paper

SCRIBBLES, POINTS = 6, 144  # at most so many on a page; each is a polyline, its points at most LONGEST_PX apart
PROBABILITY = 0.5  # how often each of them is there
LONGEST_PX, WIDEST_PX = 24.0, 6.0
STAMP_PX = 32  # side of the square that one piece of line may cover, its width and soft edge included
KIND_SHARES = (0.45, 0.2, 0.15, 0.2)  # word, underline, arrow, circle


def distance2(px, py, dx, dy):
  """Returns the squared distance of points from the segment that runs from the origin to (dx, dy)."""
  along = jnp.clip((px * dx + py * dy) / (dx * dx + dy * dy + 1e-12), 0, 1)
  return (px - along * dx) ** 2 + (py - along * dy) ** 2


def _turned(x, y, angle):
  """(POINTS, 2) of a curve turned by `angle` rad."""
  return jnp.stack([x * jnp.cos(angle) - y * jnp.sin(angle), x * jnp.sin(angle) + y * jnp.cos(angle)], axis=-1)


def _wave(dice, t, *, cycles):
  """A slow random curve within -1..1 along `t` in 0..1."""
  turns = [cycles * (0.5 + next(dice)) * t + next(dice) for _ in range(3)]
  return jnp.sin(2 * math.pi * jnp.stack(turns)).mean(0)


def _curves(dice, t):
  """(4, POINTS, 2) px around the origin: one of each kind of KIND_SHARES."""
  between = lambda low, high: low + (high - low) * next(dice)
  slope, wobble = between(-0.25, 0.25), _wave(dice, t, cycles=2)
  high, loops = between(14.0, 28.0), between(4.0, 9.0)
  turn = 2 * math.pi * loops * (t + 0.06 * _wave(dice, t, cycles=3))
  tall = 0.55 + 0.45 * _wave(dice, t, cycles=loops)  # some letters have long strokes, some are flat
  arch = high * (0.25 + 0.5 * _wave(dice, t, cycles=loops / 2))  # loops to either side, and none
  lift = 0.3 * high * _wave(dice, t, cycles=loops / 2)
  word = _turned(0.8 * high * loops * (t - 0.5) + arch * jnp.cos(turn), lift - high * tall * jnp.sin(turn), slope)
  underline = _turned(between(60.0, 450.0) * (t - 0.5), 3 * wobble, slope / 2)
  # the shaft to its tip, then back along one barb, to the tip again and along the other
  knots, barb = np.array([0.0, 0.64, 0.76, 0.88, 1.0]), 0.11
  reach = np.interp(t, knots, [0.0, 1.0, 1 - barb, 1.0, 1 - barb])
  side = np.interp(t, knots, [0.0, 0.0, 0.07, 0.0, -0.07]) + 0.1 * wobble[0] * np.sin(np.pi * reach) * (t < knots[1])
  arrow = between(70.0, 260.0) * _turned(reach - 0.5, side, between(0.0, 2 * math.pi))
  around = 2 * math.pi * (1.06 * t + next(dice))
  size = between(22.0, 110.0) * (0.96 + 0.1 * t + 0.05 * wobble)
  circle = jnp.stack([size * jnp.cos(around), size * between(0.6, 1.5) * jnp.sin(around)], axis=-1)
  return jnp.stack([word, underline, arrow, circle])


def _scribble(key):
  """(POINTS, 2) page px of a scribble, (POINTS,) pressure about 1, and whether it is there."""
  dice = iter(jax.random.uniform(key, (64,)))  # all at once: each call of jax.random takes long to compile
  t = np.linspace(0.0, 1.0, POINTS, dtype=np.float32)
  kind = (next(dice) >= np.cumsum(KIND_SHARES[:-1])).sum()
  centre = jnp.stack([next(dice) * paper.WIDTH_PX, next(dice) * paper.HEIGHT_PX])
  present, pressure = next(dice) < PROBABILITY, 1 + 0.25 * _wave(dice, t, cycles=4)
  return _curves(dice, t)[kind] + centre, pressure, present


def _piece(a, b, wide_px):
  """Coverage (STAMP_PX, STAMP_PX) of the line from a to b and the page px of its top left corner."""
  corner = jnp.floor((a + b) / 2 - STAMP_PX / 2)
  points = jnp.arange(STAMP_PX) + 0.5
  d2 = distance2(corner[0] + points - a[0], (corner[1] + points - a[1])[:, None], *(b - a))
  return jnp.clip(wide_px / 2 + 0.5 - jnp.sqrt(d2), 0, 1), *corner.astype(jnp.int32)


def draw(key: jax.Array, *, pen_px: float | jax.Array, height_px: int, width_px: int, x0_px: int | jax.Array = 0) -> jax.Array:
  """Scribbles on a page, up to SCRIBBLES of them, anywhere.

  Args:
    key: of the page; a window of it has the same.
    pen_px: width of the pen, about which the line varies; at most WIDEST_PX is drawn.
    height_px, width_px: size of the canvas.
    x0_px: page x of the canvas's left edge; what lies beyond the canvas is cut off.

  Returns:
    (height_px, width_px) float32 share of each px that the pen covers.
  """
  points, pressure, present = jax.vmap(_scribble)(jax.random.split(key, SCRIBBLES))
  wide = jnp.minimum(pen_px * pressure[:, :-1], WIDEST_PX)
  ends = (points[:, :-1].reshape(-1, 2), points[:, 1:].reshape(-1, 2), wide.reshape(-1))
  stamps, left, top = jax.vmap(_piece)(*ends)
  stamps = stamps * jnp.repeat(present, POINTS - 1)[:, None, None]
  return glyphs.paste(stamps, left - x0_px, top, height_px=height_px, width_px=width_px)
