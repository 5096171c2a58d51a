"""Matching of a layout's landmarks (pulses, separators, lead names), which gives the shift, the quarter turn and the layout.

A grid is periodic and looks the same after a quarter turn; the landmarks remove both ambiguities.
"""

import functools
import pathlib
from typing import NamedTuple

import numpy as np

from ecgjax.geometry import paper
from ecgjax.geometry.layouts import Layout
from ecgjax.locate import filters, unwarp

PATH = pathlib.Path(__file__).with_name('landmarks.npz')  # scripts/make_landmarks.py
SHARP_PX = (2.5, 40.0)  # page px: what is finer or wider is left out of the comparison
TOP_INSET_PX = 8.0  # of a pulse's top: so far from its flanks only the top itself is seen
PULSE_RANGE_MV = (0.3, 2.4)  # in which its top is looked for: half and double gain are to be noticed
EMPTY = 0.2  # of the most ink under the landmarks anywhere: a place with less cannot score by having little else


class Match(NamedTuple):
  """Best match of a layout's landmarks.

  Attributes:
    shift_px: (2,) displacement of the landmarks from their nominal positions, page x, y, within half a page.
    score: () -1..1, their correlation with the page's ink there, the mean over the templates.
  """

  shift_px: np.ndarray
  score: np.ndarray


@functools.cache
def template(name: str) -> np.ndarray:
  """Returns (2, 850, 1100) float32 coverage of a layout, half the page's size: all its landmarks, and its pulses alone.

  Machines print names and separators in different ways, so the pulses, which all print alike, need more weight on a foreign page.
  """
  with np.load(PATH) as file:
    cover = file[name].astype(np.float32) / 255
  left_of_traces = np.arange(unwarp.SIZE[1]) * unwarp.STEP_PX <= paper.START_X_PX
  return np.stack([cover, cover * left_of_traces])


class TemplateSpectra(NamedTuple):
  """Templates of `match`, as N spectra (850, 551): computed once.

  Attributes:
    landmarks: of the landmarks, band-passed by SHARP_PX.
    near: of the neighbourhoods of landmarks: the score is normalised by the ink there, so that other writing does not lower it.
    power: (N,) sum of squares of the band-passed landmarks.
  """

  landmarks: np.ndarray
  near: np.ndarray
  power: np.ndarray


@functools.cache
def template_spectra(name: str) -> TemplateSpectra:
  """Returns the templates of a layout, key of `layouts.ROWS`."""
  return spectra(template(name))


def spectra(covers: np.ndarray) -> TemplateSpectra:
  """Returns the spectra of templates (N, 850, 1100)."""
  near = np.stack([(unwarp.blurred((cover > 0.1).astype(np.float32), 6.0) > 0.05).astype(np.float32) for cover in covers])
  landmarks = np.stack([_sharp(cover) for cover in covers]) * near
  return TemplateSpectra(np.fft.rfft2(landmarks), np.fft.rfft2(near), (landmarks**2).sum((1, 2)))


def _sharp(a: np.ndarray) -> np.ndarray:
  return unwarp.blurred(a, SHARP_PX[0]) - unwarp.blurred(a, SHARP_PX[1])


def match(ink: np.ndarray, templates: TemplateSpectra) -> Match:
  """Matches landmarks by normalised cross-correlation, over all shifts at once.

  Args:
    ink: (850, 1100) of a rectified page (`unwarp.FlatView.ink`), its scale nearly right.
    templates: a result of `template_spectra`.

  Returns:
    The best match.
  """
  seen = _sharp(ink)
  ours = [np.fft.rfft2(a) for a in (seen, seen * seen)]
  score = np.zeros(ink.shape, np.float32)
  for landmarks, near, power in zip(*templates, strict=True):
    found, there = (np.fft.irfft2(a * np.conj(b), ink.shape) for a, b in zip(ours, (landmarks, near), strict=True))
    score += found / np.sqrt(power * np.maximum(there, EMPTY * there.max() + 1e-6) + 1e-6)
  score /= len(templates.power)
  best = np.array(np.unravel_index(np.argmax(score), score.shape)[::-1])
  size = np.array(ink.shape[::-1])
  return Match(((best + size // 2) % size - size // 2) * float(unwarp.STEP_PX), score.max())


def pulses_mv(ink: np.ndarray, *, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
  """Measures the calibration pulses of a rectified page against its grid.

  Args:
    ink: (850, 1100) of the aligned page.
    layout: layout with the rows' zero lines.

  Returns:
    (R,) height of each row's pulse in mV at the page's gain: PULSE_MV if the assumed gain is right; and (R,) contrast of its top,
    0..1.
  """
  ys, xs = unwarp.centres_px()
  right = paper.START_X_PX - TOP_INSET_PX
  left = paper.START_X_PX - paper.px_per_s(layout.speed_mm_s) * paper.PULSE_S + TOP_INSET_PX
  mean = lambda low, high: ((xs > low) & (xs < high)) / np.sum((xs > low) & (xs < high))
  # ink that also stands left of the pulse is a black grid
  profile = ink @ mean(left, right) - ink @ mean(left - right + left - 2 * TOP_INSET_PX, left - 2 * TOP_INSET_PX)
  profile = filters.gaussian(ys, ys, unwarp.STEP_PX) @ profile
  heights = (np.asarray(layout.zeros_px)[:, None] - ys) / layout.px_per_mv
  rows = np.where((heights > PULSE_RANGE_MV[0]) & (heights < PULSE_RANGE_MV[1]), profile, -np.inf)
  top = np.clip(np.argmax(rows, axis=1), 1, len(ys) - 2)
  low, middle, high = (profile[top + i] for i in (-1, 0, 1))
  bend = np.minimum(low - 2 * middle + high, -1e-6)
  tops_px = ys[top] + unwarp.STEP_PX * np.clip(0.5 * (low - high) / bend, -1, 1)
  return (np.asarray(layout.zeros_px) - tops_px) / layout.px_per_mv, np.clip(2 * middle, 0, 1)
