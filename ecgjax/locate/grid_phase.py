"""Phase of the grid: displacement of a flat picture from its grid lines, in closed form, by demodulation at the known pitch.

Multiplied by the grid's own wave and smoothed, the darkness of a picture laid flat becomes a slow complex number whose angle says how
far the lines are displaced there. Angles between neighbours, which hold however far the whole has slipped, come first; then the
angles themselves. Each time a smooth surface is fitted.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.geometry import lattices, paper
from ecgjax.locate import displacement, unwarp
from ecgjax.locate.displacement import Observation
from ecgjax.locate.filters import gaussian, product, reduced, repeated

WINDOW, LAG = 0.75, 3  # sigma of the smoothing and distance of compared neighbours, in pitches; 4 sigmas share no noise
CONSENSUS_PX, AGREED = 120.0, 0.8  # sigma of neighbourhoods that must agree, and how much: 1 if all angles are the same
AGREED_SURE = 0.005  # and how sure the 5 mm grid must be on the whole there: by chance a few neighbourhoods agree on nothing
NONE_PX, NONE_WEIGHT = 4.0, 1e-3  # doubt where no grid is seen, and its weight against the phase's confidence


class PhaseField(NamedTuple):
  """Phase of a grid of one pitch along y and x: (2, h, w) complex numbers, (2, h, w) their confidence 0..1, and their mesh."""

  z: jax.Array
  sure: jax.Array
  ys: lattices.Array
  xs: lattices.Array


def squares(at_px: np.ndarray, *, first_px: float, pitch_px: float, snapped: bool) -> np.ndarray:
  """Returns (N,): how many squares `at_px` lies from the grid's line at `first_px`.

  Drawing libraries snap lines to px centres, as the competition's did: between such lines squares are 7 or 8 px wide, and a wave of
  constant pitch is off by up to half a px, to and fro every 63 px.
  """
  if not snapped:
    return (at_px - first_px) / pitch_px
  count = np.arange(-first_px // pitch_px - 1, paper.WIDTH_PX // pitch_px + 2)
  return np.interp(at_px, np.round(first_px + count * pitch_px) + 0.5, count)


class Sums(NamedTuple):
  """What `demodulate` smooths, before any of it is divided: the sums of two parts of a page are those of both.

  Attributes:
    waves: (2, 2, h, w) complex: along y and x, of lines snapped to px centres and of lines that are not.
    used: (2, h, w) share of px that count.
    power: (2, h, w) their squares.
  """

  waves: jax.Array
  used: jax.Array
  power: jax.Array


def mesh_px(pitch_px: float) -> list[np.ndarray]:
  """Returns the page y and x of the mesh on which the phase of a grid of this pitch is given."""
  return [np.arange(pitch_px / 2, limit, pitch_px) for limit in (paper.HEIGHT_PX, paper.WIDTH_PX)]


def demodulate(flat: unwarp.FlatView, *, pitch_px: float, window: float = WINDOW, harmonic: int = 1) -> PhaseField:
  """Multiplies by the grid's wave and smooths: matrix products only. Of lines snapped to px centres or not, those that are clearer.

  Args:
    flat: as prepared.
    pitch_px: distance of the lines in page px.
    window: sigma of the smoothing in pitches.
    harmonic: of the grid's wave: with a displacement its angle turns so many times as far.

  Returns:
    The phase, on a mesh of one pitch.
  """
  return phase_from_sums(smoothed(flat, pitch_px=pitch_px, window=window, harmonic=harmonic), pitch_px=pitch_px)


def phase_from_sums(sums: Sums, *, pitch_px: float) -> PhaseField:
  """Returns the phase of `smoothed` sums."""
  snapped, plain = sums.waves[:, 0], sums.waves[:, 1]
  clearer = jnp.abs(snapped).sum((1, 2), keepdims=True) >= jnp.abs(plain).sum((1, 2), keepdims=True)
  z = jnp.where(clearer, snapped, plain)
  sure = jnp.abs(z) ** 2 / ((sums.used + 0.05) * (sums.power + 0.02))
  return PhaseField(z, jnp.clip(sure, 0, 1), *mesh_px(pitch_px))


def smoothed(flat: unwarp.FlatView, *, pitch_px: float, window: float, harmonic: int) -> Sums:
  """Returns the sums of which `demodulate` makes the phase; arguments as there."""
  times = flat.lines.shape[0] // flat.ink.shape[0]
  fine, points = (unwarp.centres_px(step_px=step) for step in (unwarp.STEP_PX / times, unwarp.STEP_PX))
  at = mesh_px(pitch_px)
  plain = [gaussian(a, p, window * pitch_px) for a, p in zip(at, points, strict=True)]
  over = lambda a: product(plain[1], product(plain[0], a, axis=0), axis=1)
  square = reduced(flat.lines**2, times, times)
  waves = []
  for axis, first in enumerate((paper.GRID_Y_PX, paper.GRID_X_PX)):
    once, along = ((1, times), (times, 1)) if axis == 0 else ((times, 1), (1, times))  # px made larger across the wave, and kept along it
    masked = reduced(flat.lines, *once) * repeated(flat.use[axis], *along)
    tuned = [
      np.exp(-2j * math.pi * harmonic * squares(fine[axis], first_px=first, pitch_px=pitch_px, snapped=snapped))
      * gaussian(at[axis], fine[axis], window * pitch_px)
      for snapped in (True, False)
    ]
    smooth = product(plain[1 - axis], masked, axis=1 - axis)
    real, imaginary = product(np.stack([np.real(tuned), np.imag(tuned)]), smooth, axis=axis)
    waves.append(jax.lax.complex(real, imaginary))
  power = [over(use**2 * square) for use in flat.use]
  return Sums(jnp.stack(waves), jnp.stack([over(use) for use in flat.use]), jnp.stack(power))


def offset_px(phase: PhaseField, *, pitch_px: float) -> jax.Array:
  """Returns (2, h, w): the displacement along y and x by a phase, within half a pitch."""
  return jnp.angle(phase.z) * (pitch_px / 2 / math.pi)


def consensus(mesh: PhaseField, coarse: PhaseField, z: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Looks for what a wide neighbourhood agrees on. The 5 mm grid does; flat baselines, which look like one line of it, do not.

  Args:
    mesh: a phase on the mesh that is wanted.
    coarse: phase of the 5 mm grid.
    z: (2, h, w) complex, taken instead of its own.

  Returns:
    (2, h, w) displacement along y and x in page px, within half a square; and whether the neighbourhood agrees on it.
  """
  near = [gaussian(a, b, CONSENSUS_PX) for a, b in ((mesh.ys, coarse.ys), (mesh.xs, coarse.xs))]
  over = lambda a: jnp.einsum('gh,chw,vw->cgv', near[0], a, near[1])
  mean = over(z)
  agreed = (jnp.abs(mean) > AGREED * over(jnp.abs(z))) & (over(coarse.sure) > AGREED_SURE)
  return jnp.angle(mean) * (paper.MAJOR_PX / 2 / math.pi), agreed


def slip(fine: PhaseField, coarse: PhaseField) -> jax.Array:
  """Says which 1 mm line a line is, by the 5 mm grid, as the main scale of a vernier says which of the fine scale's lines counts.

  Args:
    fine: of the 1 mm grid.
    coarse: of the 5 mm grid.

  Returns:
    (2, h, w) by how many lines the page has slipped on the fine mesh; 0 where no 5 mm grid is seen.
  """
  near = [gaussian(a, b, paper.MAJOR_PX / 2) for a, b in ((coarse.ys, fine.ys), (coarse.xs, fine.xs))]
  off = jnp.angle(jnp.einsum('gh,chw,vw->cgv', near[0], fine.z, near[1])) * (paper.MINOR_PX / paper.MAJOR_PX)
  lines_px, agreed = consensus(fine, coarse, coarse.z * jnp.exp(-1j * off))
  return jnp.where(agreed, jnp.round(lines_px / paper.MINOR_PX), 0.0)


def angles(phase: PhaseField, off_px: jax.Array, *, pitch_px: float, step_px: float) -> Observation:
  """Returns the displacement `off_px` (2, h, w) on a phase's mesh as a measurement, weighted by the phase's confidence."""
  return Observation(*displacement.bases(phase.ys, phase.xs, step_px=step_px), off_px, phase.sure / pitch_px**2)


def zero_prior(phase: PhaseField, sure: float, *, step_px: float) -> Observation:
  """Returns the zero-displacement prior on a phase's mesh, with the weight of a 5 mm grid of confidence `sure`."""
  none = jnp.zeros_like(phase.sure)
  return angles(phase._replace(sure=none + sure), none, pitch_px=paper.MAJOR_PX, step_px=step_px)


def slopes(phase: PhaseField, *, pitch_px: float, step_px: float) -> list[Observation]:
  """Returns the displacement's slope along y and x by the phases of neighbours, up to 1 / (2 LAG)."""
  parts = []
  for axis in (0, 1):
    z, sure = (jnp.moveaxis(a, 1 + axis, 0) for a in (phase.z, phase.sure))
    turned, both = (jnp.moveaxis(a, 0, 1 + axis) for a in (z[LAG:] * jnp.conj(z[:-LAG]), jnp.sqrt(sure[LAG:] * sure[:-LAG])))
    middle = lambda a: (a[LAG:] + a[:-LAG]) / 2
    ys, xs = (middle(phase.ys), phase.xs) if axis == 0 else (phase.ys, middle(phase.xs))
    near = [gaussian(a, a, 3 * pitch_px) for a in (ys, xs)]
    over = lambda a, near=near: jnp.einsum('gh,chw,vw->cgv', near[0], a, near[1])
    mean = over(turned / (jnp.abs(turned) + 1e-12) * both)
    agree = jnp.abs(mean) / (over(both) + 1e-3)
    bases = displacement.bases(ys, xs, step_px=step_px, orders=(1, 0) if axis == 0 else (0, 1))
    # the difference of two angles, as far apart as they lie
    parts.append(Observation(*bases, jnp.angle(mean) / (2 * math.pi * LAG), agree**4 * over(both) * LAG**2 / 2))
  return parts


def doubt_px(phase: PhaseField, slipped: jax.Array) -> jax.Array:
  """Returns (45, 57): how far the grid seen at each node still lies from where it should, rms in page px; NONE_PX where none is seen.

  Args:
    phase: of the 1 mm grid.
    slipped: (2, h, w) lines, as `slip` says.
  """
  off = offset_px(phase, pitch_px=paper.MINOR_PX) + paper.MINOR_PX * slipped
  rows, cols = lattices.nodes_px()
  near = [gaussian(jnp.asarray(k, jnp.float32), a, paper.MAJOR_PX) for k, a in ((rows, phase.ys), (cols, phase.xs))]
  over = lambda a: near[0] @ a @ near[1].T
  weight = phase.sure.mean(0)
  return jnp.sqrt((over(weight * (off**2).sum(0)) + NONE_WEIGHT * NONE_PX**2) / (over(weight) + NONE_WEIGHT))
