"""Sub-pixel refinement of an approximate lattice, shrunk by split-half agreement.

The phase of the 1 mm grid is ambiguous by whole lines. The line numbers follow from the slopes between neighbouring lines, by phase
unwrapping. The phase is also noisy: 0.02 px on a crumpled photograph, whose creases must be followed, 0.06 px and more on a stained scan,
whose lattice must stay stiff. The squares are therefore divided into two halves, as on a checkerboard, a surface is fitted to each half,
and the correction is shrunk to the share on which both halves agree (split-half reliability; Brown, Spearman, 1910).
"""

import functools

import numpy as np

from ecgjax.ecg.errors import ECGError
from ecgjax.geometry.paper import MINOR_PX
from ecgjax.locate import displacement, grid_phase, unwarp
from ecgjax.locate.filters import between, gaussian
from ecgjax.locate.grid_phase import PhaseField

RUNGS = ((150.0, 1e-2), (80.0, 3e-3), (60.0, 3e-3))  # knots and stiffness, coarse to fine
RIDGE = 1e-3  # of these surfaces, which correct by a px or two: none where nothing is seen
WINDOW = 2.5  # smoothing of the grid's angles, in its pitches
FIELD = 2  # squares along the side of a field of the checkerboard: what is noise in one then says nothing of the noise in the next
NEAR_PX = 150.0  # sigma of the neighbourhoods in which the halves are compared
UNWRAP_PX, UNWRAP_BENDING, UNWRAP_PRIOR = 100.0, 1e-3, 0.01  # of the surface through the slopes, and how sure its prior of none is


def refine(
  flat: unwarp.FlatView, displacement_px: np.ndarray, *, step_px: float, bending: float, others: tuple[displacement.Observation, ...] = ()
) -> np.ndarray:
  """Refines a lattice whose error is below about one square.

  Args:
    flat: the picture rectified along `displacement_px`.
    displacement_px: (45, 57, 2) page px.
    step_px: distance of the surface's knots.
    bending: weight of the bending energy.
    others: further observations of the displacement.

  Returns:
    The better `displacement_px`.
  """
  every = sums(flat)
  phase = joined(every)
  lines_px = MINOR_PX * lines(flat, phase)
  fit = functools.partial(displacement.fit, step_px=step_px, bending=bending, ridge=RIDGE)
  part = grid_phase.angles(phase, _off_px(phase) + lines_px, pitch_px=MINOR_PX, step_px=step_px)
  both = fit([part, *others])
  part = part.reweighted(both.coefficients)
  black = sums(flat._replace(use=flat.use * _checkerboard()))
  white = tuple(grid_phase.Sums(*(a - b for a, b in zip(whole, half, strict=True))) for whole, half in zip(every, black, strict=True))
  halves = [part._replace(goal=_off_px(joined((first, second))) + lines_px) for first, second in (black, white)]
  predicted = [half.predicted(fit([half], rounds=1).coefficients) for half in halves]
  gain = split_half_reliability(phase, predicted, [half.goal for half in halves], step_px=step_px)
  return displacement.displace(displacement_px, both._replace(coefficients=gain * both.coefficients))


def minor_grid_phase(flat: unwarp.FlatView) -> PhaseField:
  """Returns the phase of a flat page's 1 mm grid, smoothed so far that few are wrong."""
  return joined(sums(flat))


def sums(flat: unwarp.FlatView) -> tuple[grid_phase.Sums, grid_phase.Sums]:
  """Returns the sums of the first and the second harmonic of a rectified page's 1 mm grid."""
  if flat.lines.shape == flat.ink.shape:
    raise ECGError('px of 2 page px are too wide for the second harmonic of the 1 mm grid: lay the picture flat with step_px=1')
  first, second = grid_phase.smoothed(flat, pitch_px=MINOR_PX, window=WINDOW, harmonics=(1, 2))
  return first, second


def joined(both: tuple[grid_phase.Sums, grid_phase.Sums]) -> PhaseField:
  """Returns the phase field of both harmonics combined.

  Thin lines have a second harmonic nearly as strong as the first, whose phase is twice as exact: it has four times the weight.
  """
  first, second = (grid_phase.phase_from_sums(one, pitch_px=MINOR_PX) for one in both)
  sure = first.sure + 4 * second.sure
  apart = np.angle(second.z * np.conj(first.z) ** 2) / 2
  return first._replace(z=first.z * np.exp(4j * second.sure / (sure + 1e-12) * apart), sure=sure)


def _off_px(phase: PhaseField) -> np.ndarray:
  return grid_phase.offset_px(phase, pitch_px=MINOR_PX)


def lines(flat: unwarp.FlatView, phase: PhaseField) -> np.ndarray:
  """Returns (2, h, w): displacement of a rectified page in whole lines, by unwrapping the slopes between neighbours."""
  sharp = grid_phase.demodulate(flat, pitch_px=MINOR_PX)
  parts = grid_phase.slopes(sharp, pitch_px=MINOR_PX, step_px=UNWRAP_PX)
  stay = grid_phase.zero_prior(sharp, UNWRAP_PRIOR, step_px=UNWRAP_PX)
  fitted = displacement.fit([*parts, stay], step_px=UNWRAP_PX, bending=UNWRAP_BENDING, ridge=RIDGE)
  smooth_px = stay.predicted(fitted.coefficients)
  return np.round((smooth_px - _off_px(phase)) / MINOR_PX)


def split_half_reliability(
  phase: PhaseField, predicted: list[np.ndarray], measured: list[np.ndarray], *, step_px: float
) -> np.ndarray:
  """Estimates the reliability of the fit to both halves from the agreement of each half with the other.

  Args:
    phase: phase field of the whole page: mesh and weights.
    predicted: (2, h, w) of each half: the surface fitted to its displacements.
    measured: (2, h, w) of each half: these displacements.
    step_px: distance of the surface's knots.

  Returns:
    (2, ny, nx) 0..1 at the knots.
  """
  places = zip(displacement.knots_px(step_px), (phase.ys, phase.xs), strict=True)
  down, across = (gaussian(at, of, NEAR_PX) for at, of in places)
  over = lambda a: between(phase.sure * a, down, across)
  confirmed, total = over(predicted[0] * measured[1] + predicted[1] * measured[0]), over(predicted[0] ** 2 + predicted[1] ** 2)
  half = np.clip(confirmed / (total + 1e-6), 0.0, 1.0)
  return 2 * half / (1 + half)


@functools.cache
def _checkerboard() -> np.ndarray:
  """Returns (850, 1100) 1 on the black fields of a checkerboard, 0 on the white ones."""
  ys, xs = (np.floor(a / (FIELD * MINOR_PX)) % 2 for a in unwarp.centres_px())
  return (ys[:, None] != xs).astype(np.float32)
