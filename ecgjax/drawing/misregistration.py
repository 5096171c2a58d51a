"""Misregistration of black ink against the colours of a print: a printer prints its inks one after the other, each slightly displaced.

Of six colour laser printers all placed their inks unevenly within a page, in x and in y (Kress, Johnson and Mehta, "Measurement and
analysis of color registration errors of print engines"). On the competition's prints black stands -0.35 to 0.75 px off the red grid along
x: a shift, a lean, a wave as long as a drum is round, and ripples. The grid says where the page lies; traces, names and pulses are black.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.drawing.textures import Number
from ecgjax.geometry import paper

SHIFT_PX, LEAN_PX, RISE_PX, RIPPLE_PX = 0.35, 0.25, 0.4, 0.1  # at full strength: the most of each, of each ripple
ACROSS = 0.5  # all along y, of what it is along x
WAVE_MM, RIPPLE_MM = (50.0, 150.0), (40.0, 160.0)  # lengths


class Misregistration(NamedTuple):
  """Where black stands off the colours, page px, along x and y.

  Attributes:
    shift_px: (2,) in the middle of the page.
    lean_px: (2, 2) how much more at its right edge, and at its lower one.
    rise_px: (K, 2) of its waves: one along x, and ripples.
    turns: (K, 3) turns of each wave per px of x, per px of y, and at the left upper corner.
  """

  shift_px: Any
  lean_px: Any
  rise_px: Any
  turns: Any


def none() -> Misregistration:
  """Returns the field of a print without any error: of the digital original, and of a screen."""
  return Misregistration(np.zeros(2), np.zeros((2, 2)), np.zeros((3, 2)), np.zeros((3, 3)))


def draw(key: jax.Array, *, strength: Number) -> Misregistration:
  """Draws the field of one print, 0 at strength 0."""
  dice = jax.random.uniform(key, (8, 3), minval=-1.0)
  along = strength * jnp.array([1.0, ACROSS])
  most = jnp.array([RISE_PX, RIPPLE_PX, RIPPLE_PX])
  between = lambda low, high, share: paper.PX_PER_MM * (low + (high - low) * (share + 1) / 2)
  lengths = jnp.stack([between(*WAVE_MM, dice[0, 0]), between(*RIPPLE_MM, dice[0, 1]), between(*RIPPLE_MM, dice[0, 2])])
  heading = jnp.pi * dice[1] * jnp.array([0.0, 1.0, 1.0])
  turns = jnp.stack([jnp.cos(heading) / lengths, jnp.sin(heading) / lengths, dice[2]], axis=1)
  rise = along * jnp.abs(dice[3:5, :].T) * most[:, None]
  return Misregistration(SHIFT_PX * along * dice[5, :2], LEAN_PX * along * jnp.stack([dice[6, :2], dice[7, :2]]), rise, turns)


def off_px(field: Misregistration, x_px, y_px) -> tuple[Any, Any]:
  """Returns how far black stands to the right and below of where it belongs, at points of the page, px each."""
  across, down = 2 * x_px / paper.WIDTH_PX - 1, 2 * y_px / paper.HEIGHT_PX - 1
  xp = np if isinstance(across, np.ndarray) else jnp
  waves = [xp.sin(2 * math.pi * (turn[0] * x_px + turn[1] * y_px + turn[2])) for turn in field.turns]
  along = lambda i: (
    field.shift_px[i] + field.lean_px[0][i] * across + field.lean_px[1][i] * down
    + sum(rise[i] * wave for rise, wave in zip(field.rise_px, waves, strict=True))
  )  # fmt: skip
  return along(0), along(1)


