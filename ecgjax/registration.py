"""How far black stands off the colours of a print: a printer lays one ink after the other, and none quite where the last one was.

Of six colour laser printers all placed their inks unevenly within a page, in x and in y (Kress, Johnson and Mehta, "Measurement and
analysis of color registration errors of print engines"). On the competition's prints black stands -0.35 to 0.75 px off the red grid along
x: a shift, a lean, a wave as long as a drum is round, and ripples. The grid says where the page lies; traces, names and pulses are black.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax import paper, printers
from ecgjax.fields import Number
from ecgjax.printers import Printer

SHIFT_PX, LEAN_PX, RISE_PX, RIPPLE_PX = 0.35, 0.25, 0.4, 0.1  # at full strength: the most of each, of each ripple
ACROSS = 0.5  # all along y, of what it is along x
WAVE_MM, RIPPLE_MM = (50.0, 150.0), (40.0, 160.0)  # lengths

# Before a page is seen: rms of shift and of either lean, of the wave and of the ripples, px; how far a ripple reaches along x and y, px
SHIFT_RMS_PX, LEAN_RMS_PX, WAVE_RMS_PX, RIPPLE_RMS_PX = 0.35, 0.2, 0.25, 0.12
REACH_PX = (220.0, 500.0)
RMS_PX = math.sqrt(SHIFT_RMS_PX**2 + 2 / 3 * LEAN_RMS_PX**2 + WAVE_RMS_PX**2 + RIPPLE_RMS_PX**2)  # of all that, over the page
WAVES_PX = 1 / np.linspace(1 / 1250, 1 / 350, 28)  # lengths that are tried
EXACT = (0.5, 0.05)  # how probable a page without any error is before it is seen: of all pages, and of those with the competition's marks
FREEDOM, ROUNDS = 4.0, 3  # of Student's t, in which a mark errs


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


def _terms(at_px: np.ndarray) -> np.ndarray:
  """(3, N): shift and leans of one rms at points (N, 2) of the page, px along x."""
  across, down = (2 * at_px / (paper.WIDTH_PX, paper.HEIGHT_PX) - 1).T
  return np.stack([np.full(len(at_px), SHIFT_RMS_PX), LEAN_RMS_PX * across, LEAN_RMS_PX * down])


def _likeness(a_px: np.ndarray, b_px: np.ndarray) -> np.ndarray:
  """(W, N, M) covariance of the field at points (N, 2) and (M, 2) before a page is seen, px^2 along x, by length of the wave."""
  apart = a_px[:, None] - b_px
  ripples = RIPPLE_RMS_PX**2 * np.exp(-0.5 * ((apart / REACH_PX) ** 2).sum(-1))
  waves = WAVE_RMS_PX**2 * np.cos(2 * math.pi * apart[..., 0] / WAVES_PX[:, None, None])
  return _terms(a_px).T @ _terms(b_px) + ripples + waves


def fit(
  at_px: np.ndarray, off: np.ndarray, std_px: np.ndarray, *, wanted_px: np.ndarray, printer: Printer | None = None
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
  """Finds from black marks where all black stands: a Gaussian process, its wave's length unknown, about the mean of the printer if known.

  A mark may be wrong altogether (a trace crosses it, a letter is another), so errors are Student's t. How long the wave is few marks can
  tell: every length counts by its evidence, and so does that there is no error at all, as on digital originals.

  Args:
    at_px: (N, 2) page x, y of the marks.
    off: (N, 2) how far right and below of its place each stands, px.
    std_px: (N, 2) of that.
    wanted_px: (M, 2) page x, y of the points where it is to be told.
    printer: how it does on the mean, and by how much its prints differ.

  Returns:
    (M, 2) how far right and below of its place black stands, px, and (M, 2) the standard deviation; without any mark 0 and what it is
    before a page is seen.
  """
  alike, toward = _likeness(at_px, at_px), _likeness(wanted_px, at_px)
  before = (_terms(wanted_px) ** 2).sum(0) + WAVE_RMS_PX**2 + RIPPLE_RMS_PX**2
  alike, toward = (np.concatenate([a, np.zeros_like(a[:1])]) for a in (alike, toward))  # the last: no error
  possible, exact = np.append(np.ones(len(WAVES_PX)), 0.0)[:, None], EXACT[len(at_px) > 0]
  own, usual = (np.zeros((len(px), 2)) if printer is None else printers.at(printer, px) for px in (at_px, wanted_px))
  spread = np.array([1.0, ACROSS]) if printer is None else np.minimum(printer.rms_px / RMS_PX, [1.0, ACROSS])
  cost, means, squares = np.append(np.zeros(len(WAVES_PX)), -np.log(exact / (1 - exact) * len(WAVES_PX))), [], []
  for axis in (0, 1):
    values, std, along = off[:, axis] - possible * own[:, axis], std_px[:, axis], spread[axis]
    trust = np.ones(values.shape)
    for _ in range(ROUNDS):
      spreads = along**2 * alike + np.eye(len(std)) * (std**2 / trust)[:, None]
      weights = np.linalg.solve(spreads, values[..., None])[..., 0]
      misfit = ((values - along**2 * (alike @ weights[..., None])[..., 0]) / std) ** 2
      trust = (FREEDOM + 1) / (FREEDOM + misfit)
    inverse = np.linalg.inv(spreads)
    cost += 0.5 * (weights * values).sum(-1) - 0.5 * np.linalg.slogdet(inverse)[1]
    mean = along**2 * (toward @ weights[..., None])[..., 0] + possible * usual[:, axis]
    means.append(mean)
    squares.append(mean**2 + along**2 * possible * before - along**4 * ((toward @ inverse) * toward).sum(-1))
  believed = np.exp(cost.min() - cost)
  mean, square = (np.einsum('w,awm->ma', believed / believed.sum(), np.stack(a)) for a in (means, squares))
  return mean, np.sqrt(np.maximum(square - mean**2, 0.0))
