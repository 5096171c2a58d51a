"""Phase of the grid: displacement of a rectified picture from its grid lines, in closed form, by demodulation at the known pitch.

The darkness of a rectified picture, multiplied by a complex wave of the grid's pitch and smoothed, has a phase proportional to the local
displacement of the lines. Phase differences between neighbours, which do not depend on a constant shift, are used first; then the phases
themselves. A smooth surface is fitted to each.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from ecgjax.geometry import lattices, paper
from ecgjax.locate import displacement, unwarp
from ecgjax.locate.displacement import Observation
from ecgjax.locate.filters import Banded, banded, between, gaussian, product, reduced, repeated

WINDOW, LAG = 0.75, 3  # sigma of the smoothing and distance of compared neighbours, in pitches; 4 sigmas share no noise
CONSENSUS_PX, AGREED = 120.0, 0.8  # sigma of neighbourhoods that must agree, and how much: 1 if all angles are the same
AGREED_SURE = 0.005  # and how sure the 5 mm grid must be on the whole there: by chance a few neighbourhoods agree on nothing
NONE_PX, NONE_WEIGHT = 4.0, 1e-3  # doubt where no grid is seen, and how much of it counts as seen


class PhaseField(NamedTuple):
  """Demodulated grid of one pitch along y and x: (2, h, w) complex amplitudes, and (2, h, w) their weight, 0..1."""

  z: np.ndarray
  sure: np.ndarray
  ys: np.ndarray
  xs: np.ndarray


def squares(at_px: np.ndarray, *, first_px: float, pitch_px: float, snapped: bool) -> np.ndarray:
  """Returns (N,): the distance of `at_px` from the grid's line at `first_px`, in squares.

  Drawing libraries snap lines to px centres, as the competition's did: squares between such lines are 7 or 8 px wide, and a wave of
  constant pitch is off by up to half a px, alternating every 63 px.
  """
  if not snapped:
    return (at_px - first_px) / pitch_px
  count = np.arange(-first_px // pitch_px - 1, paper.WIDTH_PX // pitch_px + 2)
  return np.interp(at_px, np.round(first_px + count * pitch_px) + 0.5, count)


class Sums(NamedTuple):
  """Smoothed sums of `demodulate` before normalisation; they are additive over parts of a page.

  Attributes:
    waves: (2, 2, h, w) complex: along y and x, of lines snapped to px centres and of lines that are not.
    used: (2, h, w) share of px that are used.
    power: (2, h, w) their squares.
  """

  waves: np.ndarray
  used: np.ndarray
  power: np.ndarray


def mesh_px(pitch_px: float) -> list[np.ndarray]:
  """Returns the page y and x of the mesh on which a grid of this pitch is demodulated."""
  return [np.arange(pitch_px / 2, limit, pitch_px) for limit in (paper.HEIGHT_PX, paper.WIDTH_PX)]


def demodulate(flat: unwarp.FlatView, *, pitch_px: float, window: float = WINDOW, harmonic: int = 1) -> PhaseField:
  """Demodulates the grid, for lines snapped to px centres or not, whichever is stronger.

  Args:
    flat: the rectified picture.
    pitch_px: distance of the lines in page px.
    window: sigma of the smoothing in pitches.
    harmonic: of the grid's wave; the phase is proportional to it.

  Returns:
    The phase field, on a mesh of one pitch.
  """
  (sums,) = smoothed(flat, pitch_px=pitch_px, window=window, harmonics=(harmonic,))
  return phase_from_sums(sums, pitch_px=pitch_px)


def phase_from_sums(sums: Sums, *, pitch_px: float) -> PhaseField:
  """Returns the phase of `smoothed` sums."""
  snapped, plain = sums.waves[:, 0], sums.waves[:, 1]
  clearer = np.abs(snapped).sum((1, 2), keepdims=True) >= np.abs(plain).sum((1, 2), keepdims=True)
  z = np.where(clearer, snapped, plain)
  sure = np.abs(z) ** 2 / ((sums.used + 0.05) * (sums.power + 0.02))
  return PhaseField(z, np.clip(sure, 0, 1), *mesh_px(pitch_px))


@functools.lru_cache(maxsize=16)
def _tuned(axis: int, pitch_px: float, window: float, harmonic: int, times: int) -> Banded:
  """Returns (2, 2, A, P): real and imaginary part of the wave of snapped and of plain lines along an axis, under the smoothing's window."""
  at, fine = mesh_px(pitch_px)[axis], unwarp.centres_px(step_px=unwarp.STEP_PX / times)[axis]
  first = (paper.GRID_Y_PX, paper.GRID_X_PX)[axis]
  window_weights = gaussian(at, fine, window * pitch_px)
  turns = (squares(fine, first_px=first, pitch_px=pitch_px, snapped=snapped) for snapped in (True, False))
  waves = [np.exp(-2j * math.pi * harmonic * turn) * window_weights for turn in turns]
  return banded(np.stack([np.real(waves), np.imag(waves)]))


@functools.lru_cache(maxsize=8)
def _window(axis: int, pitch_px: float, sigma_px: float) -> Banded:
  """Returns (A, P): the weights of the smoothing alone."""
  return banded(gaussian(mesh_px(pitch_px)[axis], unwarp.centres_px()[axis], sigma_px))


def on_mesh(a: np.ndarray, *, pitch_px: float, sigma_px: float) -> np.ndarray:
  """Returns a flat picture (h, w) smoothed by a Gaussian and taken on the mesh of a grid of this pitch, see `mesh_px`."""
  down, across = (_window(axis, pitch_px, sigma_px) for axis in (0, 1))
  return product(across, product(down, a, axis=0), axis=1)


def smoothed(flat: unwarp.FlatView, *, pitch_px: float, window: float, harmonics: tuple[int, ...]) -> list[Sums]:
  """Returns the sums for `demodulate` of each of several harmonics, which have most of the work in common; arguments as there."""
  times = flat.lines.shape[0] // flat.ink.shape[0]
  over = functools.partial(on_mesh, pitch_px=pitch_px, sigma_px=window * pitch_px)
  square = reduced(flat.lines * flat.lines, times, times)
  waves = {harmonic: [] for harmonic in harmonics}
  for axis in (0, 1):
    once, along = ((1, times), (times, 1)) if axis == 0 else ((times, 1), (1, times))  # px made larger across the wave, and kept along it
    seen = reduced(flat.lines, *once) * repeated(flat.use[axis], *along)
    smooth = product(_window(1 - axis, pitch_px, window * pitch_px), seen, axis=1 - axis)
    for harmonic in harmonics:
      real, imaginary = product(_tuned(axis, pitch_px, window, harmonic, times), smooth, axis=axis)
      waves[harmonic].append(real + 1j * imaginary)
  used, power = (np.stack([over(values) for values in each]) for each in (flat.use, flat.use * flat.use * square))
  return [Sums(np.stack(waves[harmonic]), used, power) for harmonic in harmonics]


def offset_px(phase: PhaseField, *, pitch_px: float) -> np.ndarray:
  """Returns (2, h, w): the displacement along y and x from the phase, within half a pitch."""
  return np.angle(phase.z) * (pitch_px / 2 / math.pi)


def consensus(at: PhaseField, coarse: PhaseField, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Averages the phase over wide neighbourhoods. It is coherent for the 5 mm grid, but not for flat baselines, which look like one line.

  Args:
    at: phase field whose mesh is used.
    coarse: phase field of the 5 mm grid.
    z: (2, h, w) complex amplitudes that replace those of `coarse`.

  Returns:
    (2, h, w) displacement along y and x in page px, within half a square; and whether the phase is coherent there.
  """
  near = [gaussian(a, b, CONSENSUS_PX) for a, b in ((at.ys, coarse.ys), (at.xs, coarse.xs))]
  over = lambda a: between(a, *near)
  mean = over(z)
  agreed = (np.abs(mean) > AGREED * over(np.abs(z))) & (over(coarse.sure) > AGREED_SURE)
  return np.angle(mean) * (paper.MAJOR_PX / 2 / math.pi), agreed


def slip(fine: PhaseField, coarse: PhaseField) -> np.ndarray:
  """Identifies the 1 mm lines from the 5 mm grid, by the principle of a vernier scale.

  Args:
    fine: of the 1 mm grid.
    coarse: of the 5 mm grid.

  Returns:
    (2, h, w) shift of the page in 1 mm lines on the fine mesh; 0 where no 5 mm grid is visible.
  """
  near = [gaussian(a, b, paper.MAJOR_PX / 2) for a, b in ((coarse.ys, fine.ys), (coarse.xs, fine.xs))]
  off = np.angle(between(fine.z, *near)) * (paper.MINOR_PX / paper.MAJOR_PX)
  lines_px, agreed = consensus(fine, coarse, coarse.z * np.exp(-1j * off))
  return np.where(agreed, np.round(lines_px / paper.MINOR_PX), 0.0)


def angles(phase: PhaseField, off_px: np.ndarray, *, pitch_px: float, step_px: float) -> Observation:
  """Returns the displacement `off_px` (2, h, w) as an observation, weighted by the phase field."""
  return Observation(*displacement.bases(phase.ys, phase.xs, step_px=step_px), off_px, phase.sure / pitch_px**2)


def zero_prior(phase: PhaseField, sure: float, *, step_px: float) -> Observation:
  """Returns a zero-displacement prior with the weight of a 5 mm grid of confidence `sure`."""
  none = np.zeros_like(phase.sure)
  return angles(phase._replace(sure=none + sure), none, pitch_px=paper.MAJOR_PX, step_px=step_px)


def slopes(phase: PhaseField, *, pitch_px: float, step_px: float) -> list[Observation]:
  """Returns observations of the displacement's slope along y and x from phase differences, up to 1 / (2 LAG)."""
  parts = []
  for axis in (0, 1):
    z, sure = (np.moveaxis(a, 1 + axis, 0) for a in (phase.z, phase.sure))
    turned, both = (np.moveaxis(a, 0, 1 + axis) for a in (z[LAG:] * np.conj(z[:-LAG]), np.sqrt(sure[LAG:] * sure[:-LAG])))
    middle = lambda a: (a[LAG:] + a[:-LAG]) / 2
    ys, xs = (middle(phase.ys), phase.xs) if axis == 0 else (phase.ys, middle(phase.xs))
    near = [gaussian(a, a, 3 * pitch_px) for a in (ys, xs)]
    over = lambda a, near=near: between(a, *near)
    mean = over(turned / (np.abs(turned) + 1e-12) * both)
    agree = np.abs(mean) / (over(both) + 1e-3)
    bases = displacement.bases(ys, xs, step_px=step_px, orders=(1, 0) if axis == 0 else (0, 1))
    # the difference of two angles, as far apart as they lie
    parts.append(Observation(*bases, np.angle(mean) / (2 * math.pi * LAG), agree**4 * over(both) * LAG**2 / 2))
  return parts


def doubt_px(phase: PhaseField, slipped: np.ndarray) -> np.ndarray:
  """Returns (45, 57): rms displacement of the visible grid around each node, in page px; NONE_PX where no grid is visible.

  Args:
    phase: phase field of the 1 mm grid.
    slipped: (2, h, w) lines, as of `slip`.
  """
  off = offset_px(phase, pitch_px=paper.MINOR_PX) + paper.MINOR_PX * slipped
  rows, cols = lattices.nodes_px()
  near = [gaussian(k, a, paper.MAJOR_PX) for k, a in ((rows, phase.ys), (cols, phase.xs))]
  over = lambda a: between(a, *near)
  weight = phase.sure.mean(0)
  return np.sqrt((over(weight * (off**2).sum(0)) + NONE_WEIGHT * NONE_PX**2) / (over(weight) + NONE_WEIGHT))
