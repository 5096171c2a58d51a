"""Uneven feed of a scanner, line by line. It changes the page position of each px of a picture.

A scanner takes the sheet in lines across its way. Where the sheet or the carriage stops, slips or leaps, all that a line shows lies off, at
one end of the line more than at the other, and the next line may lie right again: no smooth surface follows that. On the one real scan with
its truth that is known (46930936-0004) the sheet lies 2.5 px off at the end of a slow leap of 60 lines, 0.7 px at the line's other end.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ecgjax.drawing.textures import Number

EVENTS = 5  # at most on a sheet; each is there in every second one
LEAP_PX = (0.5, 3.0)  # how far the sheet lies off in one, at full strength
LINES_PX = (1.0, 60.0)  # how many lines it lasts
STEP = 0.3  # of a leap, what stays for good after a step: lines that are lost or taken twice
LEAN = 0.7  # a line's ends lie off by so much more and less than its middle, at most
DOWN = 0.3  # share of the sheets whose lines lie along x


class Feed(NamedTuple):
  """How far each line lies off, picture px along the way: `shift_px` in its middle, `lean_px` more at its far end and less at its near one.

  Attributes:
    shift_px, lean_px: (L,) of line 0, 1, ...
    down: 0 where the way leads along the picture's x, 1 along its y.
  """

  shift_px: jax.Array
  lean_px: jax.Array
  down: jax.Array


def draw(key: jax.Array, *, lines: int, leap: Number) -> Feed:
  """Draws the way of one sheet.

  Args:
    key: of the sheet.
    lines: L, the picture's longer side.
    leap: how strong, 1 being what LEAP_PX says.

  Returns:
    The feed.
  """
  at_random = jax.random.uniform(key, (9, EVENTS))
  there, place, size, sign, length, kind, lean, step, way = at_random
  amount = leap * (there < 0.5) * (LEAP_PX[0] + (LEAP_PX[1] - LEAP_PX[0]) * size) * jnp.where(sign < 0.5, -1.0, 1.0)
  last = jnp.exp(math.log(LINES_PX[0]) + math.log(LINES_PX[1] / LINES_PX[0]) * length)
  share = (jnp.arange(lines)[:, None] - lines * place) / last  # 0..1 within an event
  # up and down at once, there for its whole length, up and down again
  shapes = jnp.stack([share, jnp.ones_like(share), 1 - jnp.abs(2 * share - 1)], axis=-1)
  chosen = jnp.take_along_axis(shapes, jnp.floor(3 * kind).astype(jnp.int32)[None, :, None], axis=-1)[..., 0]
  within = chosen * ((share >= 0) & (share < 1))
  for_good = STEP * (step < 0.25) * (share >= 1)
  shifts = amount * (within + for_good)
  return Feed(shifts.sum(-1), (shifts * LEAN * (2 * lean - 1)).sum(-1), (way[0] < DOWN).astype(jnp.float32))


def apply(feed: Feed, page_px: jax.Array, *, frame_px: tuple[int, int], origin_px: jax.Array) -> jax.Array:
  """Applies a feed: returns what each px shows once the sheet has gone that way.

  Args:
    feed: of the sheet.
    page_px: (H, W, 2) page x, y that each px would show after an even way.
    frame_px: (height, width) of the whole picture.
    origin_px: (2,) x, y in it of the part's corner.

  Returns:
    (H, W, 2) page x, y.
  """

  def off(axis):
    line, across = (origin_px[i] + jnp.arange(page_px.shape[1 - i]) for i in (axis, 1 - axis))
    line = jnp.clip(line, 0, feed.shift_px.shape[0] - 1).astype(jnp.int32)
    end = (2 * across + 1) / frame_px[axis] - 1
    moved_px = feed.shift_px[line] + feed.lean_px[line] * end[:, None]  # (across, line)
    return (moved_px if axis == 0 else moved_px.T)[..., None] * jnp.asarray(jnp.gradient(page_px, axis=1 - axis))

  return jnp.where(feed.down > 0, page_px + off(1), page_px + off(0))
