"""Phase of the grid: displacement of a flat picture from its grid lines, in closed form, by demodulation at the known pitch.

Multiplied by the grid's own wave and smoothed, the darkness of a picture laid flat becomes a slow complex number whose angle says how
far the lines are displaced there. Angles between neighbours, which hold however far the whole has slipped, come first; then the
angles themselves. Each time a smooth surface is fitted.
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
STEADY_PX, AGREED = 120.0, 0.8  # sigma of neighbourhoods that must agree, and how much: 1 if all angles are the same
AGREED_SURE = 0.005  # and how sure the 5 mm grid must be on the whole there: by chance a few neighbourhoods agree on nothing
NONE_PX, KNOWN = 4.0, 1e-3  # doubt where no grid is seen, and how much of it counts as seen


class PhaseField(NamedTuple):
  """What the grid of one pitch says of its displacement along y and x: (2, h, w) complex numbers and (2, h, w) how sure they are, 0..1."""

  z: np.ndarray
  sure: np.ndarray
  ys: np.ndarray
  xs: np.ndarray


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
    used: (2, h, w) share of px that may speak.
    power: (2, h, w) their squares.
  """

  waves: np.ndarray
  used: np.ndarray
  power: np.ndarray


def mesh_px(pitch_px: float) -> list[np.ndarray]:
  """Returns the page y and x at which tones of a grid of this pitch are told."""
  return [np.arange(pitch_px / 2, limit, pitch_px) for limit in (paper.HEIGHT_PX, paper.WIDTH_PX)]


def demodulate(flat: unwarp.FlatView, *, pitch_px: float, window: float = WINDOW, harmonic: int = 1) -> PhaseField:
  """Multiplies by the grid's wave and smooths. Of lines snapped to px centres or not, what is seen more clearly.

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
def _window(axis: int, pitch_px: float, window: float) -> Banded:
  """Returns (A, P): the weights of the smoothing alone."""
  return banded(gaussian(mesh_px(pitch_px)[axis], unwarp.centres_px()[axis], window * pitch_px))


def smoothed(flat: unwarp.FlatView, *, pitch_px: float, window: float, harmonic: int) -> Sums:
  """Returns the sums from which `demodulate` makes its phase; arguments as there."""
  times = flat.lines.shape[0] // flat.ink.shape[0]
  down, across = (_window(axis, pitch_px, window) for axis in (0, 1))
  over = lambda a: product(across, product(down, a, axis=0), axis=1)
  square = reduced(flat.lines * flat.lines, times, times)
  waves = []
  for axis, beside in ((0, across), (1, down)):
    once, along = ((1, times), (times, 1)) if axis == 0 else ((times, 1), (1, times))  # px made larger across the wave, and kept along it
    seen = reduced(flat.lines, *once) * repeated(flat.use[axis], *along)
    real, imaginary = product(_tuned(axis, pitch_px, window, harmonic, times), product(beside, seen, axis=1 - axis), axis=axis)
    waves.append(real + 1j * imaginary)
  power = [over(use * use * square) for use in flat.use]
  return Sums(np.stack(waves), np.stack([over(use) for use in flat.use]), np.stack(power))


def offset_px(tones: PhaseField, *, pitch_px: float) -> np.ndarray:
  """Returns (2, h, w): the displacement along y and x by the phase, within half a pitch."""
  return np.angle(tones.z) * (pitch_px / 2 / math.pi)


def steady(at: PhaseField, coarse: PhaseField, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Looks for what a wide neighbourhood agrees on. The 5 mm grid does; flat baselines, which look like one line of it, do not.

  Args:
    at: whose mesh is wanted.
    coarse: tones of the 5 mm grid.
    z: (2, h, w) complex, to be looked at instead of theirs.

  Returns:
    (2, h, w) displacement along y and x in page px, within half a square; and whether the neighbourhood agrees on it.
  """
  near = [gaussian(a, b, STEADY_PX) for a, b in ((at.ys, coarse.ys), (at.xs, coarse.xs))]
  over = lambda a: between(a, *near)
  mean = over(z)
  agreed = (np.abs(mean) > AGREED * over(np.abs(z))) & (over(coarse.sure) > AGREED_SURE)
  return np.angle(mean) * (paper.MAJOR_PX / 2 / math.pi), agreed


def slip(fine: PhaseField, coarse: PhaseField) -> np.ndarray:
  """Says which 1 mm line a line is, by the 5 mm grid, as the main scale of a vernier says which of the fine scale's lines counts.

  Args:
    fine: of the 1 mm grid.
    coarse: of the 5 mm grid.

  Returns:
    (2, h, w) by how many lines the page has slipped where the fine tones are; 0 where no 5 mm grid is seen.
  """
  near = [gaussian(a, b, paper.MAJOR_PX / 2) for a, b in ((coarse.ys, fine.ys), (coarse.xs, fine.xs))]
  off = np.angle(between(fine.z, *near)) * (paper.MINOR_PX / paper.MAJOR_PX)
  lines_px, agreed = steady(fine, coarse, coarse.z * np.exp(-1j * off))
  return np.where(agreed, np.round(lines_px / paper.MINOR_PX), 0.0)


def angles(tones: PhaseField, off_px: np.ndarray, *, pitch_px: float, step_px: float) -> Observation:
  """Returns what the tones say, as a measurement: the displacement `off_px` (2, h, w), and how surely."""
  return Observation(*displacement.bases(tones.ys, tones.xs, step_px=step_px), off_px, tones.sure / pitch_px**2)


def zero_prior(tones: PhaseField, sure: float, *, step_px: float) -> Observation:
  """Returns that nothing is displaced where the tones are, as a measurement as sure as a 5 mm grid that is `sure`."""
  none = np.zeros_like(tones.sure)
  return angles(tones._replace(sure=none + sure), none, pitch_px=paper.MAJOR_PX, step_px=step_px)


def slopes(tones: PhaseField, *, pitch_px: float, step_px: float) -> list[Observation]:
  """Returns what neighbouring tones say of the displacement's slope along y and x, up to 1 / (2 LAG)."""
  parts = []
  for axis in (0, 1):
    z, sure = (np.moveaxis(a, 1 + axis, 0) for a in (tones.z, tones.sure))
    turned, both = (np.moveaxis(a, 0, 1 + axis) for a in (z[LAG:] * np.conj(z[:-LAG]), np.sqrt(sure[LAG:] * sure[:-LAG])))
    middle = lambda a: (a[LAG:] + a[:-LAG]) / 2
    ys, xs = (middle(tones.ys), tones.xs) if axis == 0 else (tones.ys, middle(tones.xs))
    near = [gaussian(a, a, 3 * pitch_px) for a in (ys, xs)]
    over = lambda a, near=near: between(a, *near)
    mean = over(turned / (np.abs(turned) + 1e-12) * both)
    agree = np.abs(mean) / (over(both) + 1e-3)
    bases = displacement.bases(ys, xs, step_px=step_px, orders=(1, 0) if axis == 0 else (0, 1))
    # the difference of two angles, as far apart as they lie
    parts.append(Observation(*bases, np.angle(mean) / (2 * math.pi * LAG), agree**4 * over(both) * LAG**2 / 2))
  return parts


def doubt_px(tones: PhaseField, slipped: np.ndarray) -> np.ndarray:
  """Returns (45, 57): how far the grid seen at each node still lies from where it should, rms in page px; NONE_PX where none is seen.

  Args:
    tones: of the 1 mm grid.
    slipped: (2, h, w) lines, as `slip` says.
  """
  off = offset_px(tones, pitch_px=paper.MINOR_PX) + paper.MINOR_PX * slipped
  rows, cols = lattices.nodes_px()
  near = [gaussian(k, a, paper.MAJOR_PX) for k, a in ((rows, tones.ys), (cols, tones.xs))]
  over = lambda a: between(a, *near)
  weight = tones.sure.mean(0)
  return np.sqrt((over(weight * (off**2).sum(0)) + KNOWN * NONE_PX**2) / (over(weight) + KNOWN))
