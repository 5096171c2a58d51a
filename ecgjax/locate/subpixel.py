"""Sub-pixel refinement of an approximate lattice, shrunk by split-half agreement.

The phase of the 1 mm grid is ambiguous by whole lines. The line numbers follow from the slopes between neighbouring lines, by phase
unwrapping. The phase is also noisy: 0.02 px on a crumpled photograph, whose creases must be followed, 0.06 px and more on a stained scan,
whose lattice must stay stiff. The squares are therefore divided into two halves, as on a chess board, a surface is fitted to each half,
and the correction is shrunk to the share on which both halves agree (split-half reliability; Brown, Spearman, 1910).
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

RUNGS = ((150.0, 1e-2), (80.0, 3e-3), (60.0, 3e-3))  # knots and stiffness, coarse to fine
CALM = 1e-3  # of these surfaces, which correct by a px or two: none where nothing is seen
WINDOW = 2.5  # smoothing of the grid's angles, in its pitches
FIELD = 2  # squares along the side of a field of the chess board: what is noise in one then says nothing of the noise in the next
NEAR_PX = 150.0  # sigma of the neighbourhoods in which the halves are compared
UNWRAP_PX, UNWRAP_STIFF, UNWRAP_STAY = 100.0, 1e-3, 0.01  # of the surface through the slopes, and how sure it is that nothing is displaced


@functools.partial(jax.jit, static_argnames=('step_px', 'stiff'))
def refine(
  flat: unwarp.FlatView, moved: jax.Array, *, step_px: float, stiff: float, beside: tuple[displacement.Observation, ...] = ()
) -> jax.Array:
  """Refines a lattice whose error is below about one square.

  Args:
    flat: the picture rectified along `moved`.
    moved: (45, 57, 2) page px.
    step_px: distance of the surface's knots.
    stiff: weight of the bending energy.
    beside: further observations of the displacement.

  Returns:
    The better `moved`.
  """
  every = sums(flat)
  tones = joined(every)
  lines_px = MINOR_PX * lines(flat, tones)
  fit = functools.partial(displacement.fit, step_px=step_px, stiff=stiff, calm=CALM)
  part = grid_phase.angles(tones, _off_px(tones) + lines_px, pitch_px=MINOR_PX, step_px=step_px)
  both = fit([part, *beside])
  part, board = part.trusted(both.coefficients), jnp.asarray(_board())
  black = sums(flat._replace(use=flat.use * board))
  white = jax.tree.map(jnp.subtract, every, black)
  halves = [part._replace(goal=_off_px(joined(half)) + lines_px) for half in (black, white)]
  say = [half.told(fit([half], rounds=1).coefficients) for half in halves]
  gain = split_half_reliability(tones, say, [half.goal for half in halves], step_px=step_px)
  return displacement.displace(moved, both._replace(coefficients=gain * both.coefficients))


def heard(flat: unwarp.FlatView) -> PhaseField:
  """Returns the phase field of a rectified page's 1 mm grid, smoothed so that few phases are wrong."""
  return joined(sums(flat))


def sums(flat: unwarp.FlatView) -> tuple[grid_phase.Sums, grid_phase.Sums]:
  """Returns the sums of the first and the second harmonic of a rectified page's 1 mm grid."""
  if flat.lines.shape == flat.ink.shape:
    raise ECGError('px of 2 page px are too wide for the second harmonic of the 1 mm grid: lay the picture flat with step_px=1')
  first, second = (grid_phase.smoothed(flat, pitch_px=MINOR_PX, window=WINDOW, harmonic=n) for n in (1, 2))
  return first, second


def joined(both: tuple[grid_phase.Sums, grid_phase.Sums]) -> PhaseField:
  """Returns the phase field of both harmonics combined.

  Thin lines have a second harmonic nearly as strong as the first, whose phase is twice as exact: it has four times the weight.
  """
  first, second = (grid_phase.told(one, pitch_px=MINOR_PX) for one in both)
  sure = first.sure + 4 * second.sure
  apart = jnp.angle(second.z * jnp.conj(first.z) ** 2) / 2
  return first._replace(z=first.z * jnp.exp(4j * second.sure / (sure + 1e-12) * apart), sure=sure)


def _off_px(tones: PhaseField) -> jax.Array:
  return grid_phase.offset_px(tones, pitch_px=MINOR_PX)


def lines(flat: unwarp.FlatView, tones: PhaseField) -> jax.Array:
  """Returns (2, h, w): displacement of a rectified page in whole lines, by unwrapping the slopes between neighbours."""
  sharp = grid_phase.demodulate(flat, pitch_px=MINOR_PX)
  parts = grid_phase.slopes(sharp, pitch_px=MINOR_PX, step_px=UNWRAP_PX)
  stay = grid_phase.zero_prior(sharp, UNWRAP_STAY, step_px=UNWRAP_PX)
  smooth_px = stay.told(displacement.fit([*parts, stay], step_px=UNWRAP_PX, stiff=UNWRAP_STIFF, calm=CALM).coefficients)
  return jnp.round((smooth_px - _off_px(tones)) / MINOR_PX)


def split_half_reliability(tones: PhaseField, say: list[jax.Array], goal: list[jax.Array], *, step_px: float) -> jax.Array:
  """Estimates the reliability of the fit to both halves from the agreement of each half with the other.

  Args:
    tones: phase field of the whole page: mesh and weights.
    say: (2, h, w) of each half: the surface fitted to its displacements.
    goal: (2, h, w) of each half: these displacements.
    step_px: distance of the surface's knots.

  Returns:
    (2, ny, nx) 0..1 at the knots.
  """
  places = zip(displacement.knots_px(step_px), (tones.ys, tones.xs), strict=True)
  near = [gaussian(jnp.asarray(at, jnp.float32), of, NEAR_PX) for at, of in places]
  over = lambda a: jnp.einsum('gh,chw,vw->cgv', near[0], tones.sure * a, near[1])
  confirmed, said = over(say[0] * goal[1] + say[1] * goal[0]), over(say[0] ** 2 + say[1] ** 2)
  half = jnp.clip(confirmed / (said + 1e-6), 0.0, 1.0)
  return 2 * half / (1 + half)


def _board() -> np.ndarray:
  """Returns (850, 1100): 1 on the black fields of the chess board, 0 on the white ones."""
  ys, xs = (np.floor(a / (FIELD * MINOR_PX)) % 2 for a in unwarp.centres_px())
  return (ys[:, None] != xs).astype(np.float32)
