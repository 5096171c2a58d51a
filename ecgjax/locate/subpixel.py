"""Sub-pixel refinement of an approximate lattice, shrunk by split-half agreement.

The 1 mm grid says where its lines are, but not which they are: a displacement of a whole line looks like none. Which line is which
follows from the slopes between neighbouring lines, as in the unwrapping of a phase. And what it says is noisy: by 0.02 px on a crumpled
photograph, which must be followed that closely, by 0.06 px and more on a stained scan, which must not be bent by it. So the squares are
shared out to two halves, as on a chess board, each is fitted alone, and a correction is made as far as one half confirms the other
(split-half reliability; Brown, Spearman, 1910).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.ecg.errors import ECGError
from ecgjax.geometry.paper import MINOR_PX
from ecgjax.locate import displacement, grid_phase, unwarp
from ecgjax.locate.filters import gaussian
from ecgjax.locate.grid_phase import PhaseField

RUNGS = ((150.0, 1e-2), (80.0, 3e-3), (60.0, 3e-3))  # distance of the knots and weight of the bending penalty, coarse to fine
RIDGE = 1e-3  # of these surfaces, which correct by a px or two: none where nothing is seen
WINDOW = 2.5  # smoothing of the grid's angles, in its pitches
FIELD = 2  # squares along the side of a field of the chess board: what is noise in one then says nothing of the noise in the next
NEAR_PX = 150.0  # sigma of the neighbourhoods in which the halves are compared
UNWRAP_PX, UNWRAP_BENDING, UNWRAP_PRIOR = 100.0, 1e-3, 0.01  # of the surface through the slopes, and of its zero prior


@functools.partial(jax.jit, static_argnames=('step_px', 'bending'))
def refine(
  flat: unwarp.FlatView, displacement_px: jax.Array, *, step_px: float, bending: float, others: tuple[displacement.Observation, ...] = ()
) -> jax.Array:
  """Corrects a page of which no line lies by more than about a square from its place.

  Args:
    flat: the picture laid flat along it.
    displacement_px: (45, 57, 2) of the nodes, page px.
    step_px: distance of the surface's knots.
    bending: weight of the bending penalty.
    others: further measurements of the displacement.

  Returns:
    The better displacement.
  """
  total = sums(flat)
  phase = joined(total)
  lines_px = MINOR_PX * lines(flat, phase)
  fit = functools.partial(displacement.fit, step_px=step_px, bending=bending, ridge=RIDGE)
  part = grid_phase.angles(phase, _off_px(phase) + lines_px, pitch_px=MINOR_PX, step_px=step_px)
  both = fit([part, *others])
  part, board = part.reweighted(both.coefficients), jnp.asarray(_checkerboard())
  black = sums(flat._replace(use=flat.use * board))
  white = jax.tree.map(jnp.subtract, total, black)
  halves = [part._replace(goal=_off_px(joined(half)) + lines_px) for half in (black, white)]
  predicted = [half.predicted(fit([half], rounds=1).coefficients) for half in halves]
  gain = split_half_reliability(phase, predicted, [half.goal for half in halves], step_px=step_px)
  return displacement.displace(displacement_px, both._replace(coefficients=gain * both.coefficients))


def minor_grid_phase(flat: unwarp.FlatView) -> PhaseField:
  """Returns the phase of a flat page's 1 mm grid, smoothed so far that few angles are wrong."""
  return joined(sums(flat))


def sums(flat: unwarp.FlatView) -> tuple[grid_phase.Sums, grid_phase.Sums]:
  """Returns the sums of the first and the second harmonic of a flat page's 1 mm grid."""
  if flat.lines.shape == flat.ink.shape:
    raise ECGError('px of 2 page px are too wide for the second harmonic of the 1 mm grid: lay the picture flat with step_px=1')
  first, second = (grid_phase.smoothed(flat, pitch_px=MINOR_PX, window=WINDOW, harmonic=n) for n in (1, 2))
  return first, second


def joined(both: tuple[grid_phase.Sums, grid_phase.Sums]) -> PhaseField:
  """Returns the phase of two harmonics together.

  Thin lines have a second harmonic nearly as strong as the first, whose angle is twice as exact: it counts four times what it is sure of.
  """
  first, second = (grid_phase.phase_from_sums(one, pitch_px=MINOR_PX) for one in both)
  sure = first.sure + 4 * second.sure
  apart = jnp.angle(second.z * jnp.conj(first.z) ** 2) / 2
  return first._replace(z=first.z * jnp.exp(4j * second.sure / (sure + 1e-12) * apart), sure=sure)


def _off_px(phase: PhaseField) -> jax.Array:
  return grid_phase.offset_px(phase, pitch_px=MINOR_PX)


def lines(flat: unwarp.FlatView, phase: PhaseField) -> jax.Array:
  """Returns (2, h, w): by how many lines a flat page is displaced on the phase's mesh, by the slopes between neighbouring lines."""
  sharp = grid_phase.demodulate(flat, pitch_px=MINOR_PX)
  parts = grid_phase.slopes(sharp, pitch_px=MINOR_PX, step_px=UNWRAP_PX)
  prior = grid_phase.zero_prior(sharp, UNWRAP_PRIOR, step_px=UNWRAP_PX)
  smooth_px = prior.predicted(displacement.fit([*parts, prior], step_px=UNWRAP_PX, bending=UNWRAP_BENDING, ridge=RIDGE).coefficients)
  return jnp.round((smooth_px - _off_px(phase)) / MINOR_PX)


def split_half_reliability(phase: PhaseField, predicted: list[jax.Array], goal: list[jax.Array], *, step_px: float) -> jax.Array:
  """Estimates how much of the displacement that both halves give together is true, by how much of one half's the other confirms.

  Args:
    phase: of the whole page: where, and how sure.
    predicted: (2, h, w) of each half: its offsets as a surface through them has them.
    goal: (2, h, w) of each half: those offsets.
    step_px: distance of the surface's knots.

  Returns:
    (2, ny, nx) 0..1 at the knots.
  """
  places = zip(displacement.knots_px(step_px), (phase.ys, phase.xs), strict=True)
  near = [gaussian(jnp.asarray(at, jnp.float32), of, NEAR_PX) for at, of in places]
  over = lambda a: jnp.einsum('gh,chw,vw->cgv', near[0], phase.sure * a, near[1])
  covariance, variance = over(predicted[0] * goal[1] + predicted[1] * goal[0]), over(predicted[0] ** 2 + predicted[1] ** 2)
  half = jnp.clip(covariance / (variance + 1e-6), 0.0, 1.0)
  return 2 * half / (1 + half)


def _checkerboard() -> np.ndarray:
  """(850, 1100) 1 on the black fields of the chess board, 0 on the white ones."""
  ys, xs = (np.floor(a / (FIELD * MINOR_PX)) % 2 for a in unwarp.centres_px())
  return (ys[:, None] != xs).astype(np.float32)
