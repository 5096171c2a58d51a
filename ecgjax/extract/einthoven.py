"""Fusion of redundant leads: limb leads are combinations of two of them, and a rhythm strip repeats the lead above it.

II = I + III (Einthoven, 1912); aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2 (Goldberger, 1942). Where a page shows more than
two limb leads at one time, weighted least squares makes all of them more exact, and fills hidden columns of one from the others. A row
that is inconsistent with the rest is replaced by their estimate. Where more than one row could be the inconsistent one, all stay unchanged,
except for a jump of a few columns, as from a letter read as the trace: there it is the row without which all are smoother.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.ecg.leads import LIMBS
from ecgjax.extract.path_decoder import Trace
from ecgjax.extract.resample import VISIBLE
from ecgjax.geometry.lattices import STRIP_PX_PER_MV, Frame
from ecgjax.geometry.layouts import Layout

NEAR_S = 0.1  # sigma of the neighbourhoods that decide together whom to believe: a few columns agree by chance
AGREED = 4.0  # chi-square per degree of freedom up to which rows agree. On sim:even 2 loses 0.1 dB, 8 nothing
AGREED_ALONE = 20.0  # the same of a single column, which a neighbourhood hides: a letter beside the trace lasts for a few
AROUND = np.array([1, 2, 3, 2, 1]) / 9  # weights of the columns over which bends are compared
SMOOTHER = 2.0  # times the squared bends without one row must be larger than without the other, to know which one is wrong
LEAST_DET = 1e-3  # determinant, of the squared trace, above which I and II both follow from the rows


class Interval(NamedTuple):
  """Columns in which every row shows one lead.

  Attributes:
    first, stop: columns; `stop` is the first one after the interval.
    design: (R, 2) coefficients of I and II in each row; 0 if it shows no limb lead.
  """

  first: int
  stop: int
  design: np.ndarray


class Fit(NamedTuple):
  """Estimate of all rows from some: (R, W) mV and variance; (W,) chi-square per degree of freedom around and alone, inf if unchecked."""

  mv: jax.Array
  variance: jax.Array
  around: jax.Array
  alone: jax.Array


def intervals(layout: Layout, frame: Frame) -> list[Interval]:
  """Lists the intervals of a page from left to right."""
  edges_s = sorted({s for segment in layout.segments for s in (segment.start_s, segment.stop_s)})
  columns = [int(np.ceil(frame.columns_px(s) - 1e-6)) for s in edges_s]
  found = []
  for left, first, stop in zip(edges_s, columns, columns[1:], strict=False):
    design = np.zeros((len(layout.zeros_px), 2))
    for segment in layout.segments:
      if segment.start_s <= left < segment.stop_s and segment.lead in LIMBS:
        design[segment.row] = np.multiply(segment.sign, LIMBS[segment.lead])
    found.append(Interval(first, stop, design))
  return found


def fuse(trace: Trace, *, layout: Layout, frame: Frame) -> Trace:
  """Makes the limb leads of a page consistent; differentiable except for the choice of the rows to trust.

  Args:
    trace: its rows as read, weighted by their standard deviations.
    layout: segments of each row.
    frame: of the strips.

  Returns:
    Its rows with better limb leads, visible wherever the others determine them. Chest leads are unchanged.
  """
  for first, stop, design in intervals(layout, frame):
    if design.any(1).sum() > 2:
      part = Trace(*(a[:, first:stop] for a in trace))
      trace = Trace(*(a.at[:, first:stop].set(b) for a, b in zip(trace, _fused(part, design, frame), strict=True)))
  return trace


def _fused(part: Trace, design: np.ndarray, frame: Frame) -> Trace:
  mv, std_mv, limb = frame.millivolts(part.rows_px), part.std_px / STRIP_PX_PER_MV, (design**2).sum(1) > 0
  weight = jnp.where((part.visible >= VISIBLE) & limb[:, None], std_mv**-2, 0.0)
  rows = [weight, *(weight.at[row].set(0.0) for row in np.flatnonzero(limb))]  # all of them, and all but one
  fits = Fit(*(jnp.stack(a) for a in zip(*(_least_squares(mv, w, design, rate_hz=frame.rate_hz) for w in rows), strict=True)))
  agree = (fits.around <= AGREED) & (fits.alone <= AGREED_ALONE)
  # if II is the only repeated lead, I or III may be wrong: leaving out either makes the others consistent
  bends = jnp.where(agree[1:], _bends(fits.mv[1:], limb), jnp.inf)
  smoothest, second = jnp.sort(bends, axis=0)[:2]
  jump = (fits.around[0] <= AGREED) & (second > SMOOTHER * smoothest)
  chosen = jnp.where(agree[0], 0, 1 + bends.argmin(0))
  best = Fit(*(jnp.take_along_axis(a, jnp.expand_dims(chosen, range(a.ndim - 1)), axis=0)[0] for a in fits))
  better = (agree[0] | (agree.sum(0) == 1) | jump) & limb[:, None]
  return Trace(
    jnp.where(better, frame.rows_px(best.mv), part.rows_px),
    jnp.where(better, jnp.sqrt(best.variance) * STRIP_PX_PER_MV, part.std_px),
    jnp.where(better, 1.0, part.visible),
  )


def _bends(mv: jax.Array, limb: np.ndarray) -> jax.Array:
  """Returns (N, W) squared second differences of all limb leads around each column, of (N, R, W) mV."""
  second = jnp.pad(jnp.diff(mv, n=2, axis=-1), ((0, 0), (0, 0), (1, 1)))
  return jax.vmap(lambda a: jnp.convolve(a, AROUND, mode='same'))((second**2 * limb[:, None]).sum(1))


def _least_squares(mv: jax.Array, weight: jax.Array, design: np.ndarray, *, rate_hz: float) -> Fit:
  aa, ab, bb = (jnp.einsum('rw,r->w', weight, design[:, i] * design[:, j]) for i, j in ((0, 0), (0, 1), (1, 1)))
  det = aa * bb - ab**2
  solvable = det > LEAST_DET * (aa + bb) ** 2
  inverse = jnp.array([[bb, -ab], [-ab, aa]]) / jnp.where(solvable, det, 1.0)
  covariance = jnp.einsum('ri,ijw,sj->rsw', design, inverse, design)  # of any two rows
  fitted = jnp.einsum('rsw,sw,sw->rw', covariance, weight, mv)
  freedom = jnp.where(solvable, (weight > 0).sum(0) - 2, 0)
  columns = jnp.arange(mv.shape[1])
  near = jnp.exp(-0.5 * ((columns[:, None] - columns) / (NEAR_S * rate_hz)) ** 2)
  square = (weight * (mv - fitted) ** 2).sum(0)
  around = near @ jnp.where(freedom > 0, square, 0.0) / jnp.maximum(near @ freedom, 1e-6)
  checks = (jnp.where(freedom > 0, chi, jnp.inf) for chi in (around, square / jnp.maximum(freedom, 1)))
  return Fit(fitted, jnp.einsum('rrw->rw', covariance), *checks)
