"""Matching of a layout's landmarks (pulses, separators, lead names), which gives the shift, the quarter turn and the layout.

A grid is periodic and looks the same after a quarter turn; the landmarks remove both ambiguities.
"""

import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
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

  shift_px: jax.Array
  score: jax.Array


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
    wanted: of the landmarks, band-passed by SHARP_PX.
    near: of the neighbourhoods of landmarks: the score is normalised by the ink there, so that other writing does not lower it.
    power: (N,) sum of squares of the band-passed landmarks.
  """

  wanted: jax.Array
  near: jax.Array
  power: jax.Array


@functools.cache
def sought(name: str) -> TemplateSpectra:
  """Returns the templates of a layout, key of `layouts.ROWS`."""
  return spectra(jnp.asarray(template(name)))


@jax.jit
def spectra(covers: jax.Array) -> TemplateSpectra:
  """Returns the spectra of templates (N, 850, 1100)."""
  near = jnp.stack([(unwarp.blur((cover > 0.1).astype(jnp.float32), 6.0) > 0.05).astype(jnp.float32) for cover in covers])
  wanted = jnp.stack([_sharp(cover) for cover in covers]) * near
  return TemplateSpectra(jnp.fft.rfft2(wanted), jnp.fft.rfft2(near), (wanted**2).sum((1, 2)))


def _sharp(a: jax.Array) -> jax.Array:
  return unwarp.blur(a, SHARP_PX[0]) - unwarp.blur(a, SHARP_PX[1])


def match(ink: jax.Array, what: TemplateSpectra) -> Match:
  """Matches landmarks by normalised cross-correlation, over all shifts at once.

  Args:
    ink: (850, 1100) of a rectified page (`unwarp.FlatView.ink`), its scale nearly right.
    what: a result of `sought`.

  Returns:
    The best match.
  """
  seen = _sharp(ink)
  ours = [jnp.fft.rfft2(a) for a in (seen, seen**2)]

  def score(wanted, near, power):
    found, there = (jnp.fft.irfft2(a * jnp.conj(b), ink.shape) for a, b in zip(ours, (wanted, near), strict=True))
    return found / jnp.sqrt(power * jnp.maximum(there, EMPTY * there.max() + 1e-6) + 1e-6)

  scores = jnp.mean(jnp.stack([score(*one) for one in zip(*what, strict=True)]), axis=0)
  best = jnp.stack(jnp.unravel_index(jnp.argmax(scores), scores.shape)[::-1])
  size = jnp.array(ink.shape[::-1])
  return Match(((best + size // 2) % size - size // 2) * float(unwarp.STEP_PX), scores.max())


def pulses_mv(ink: jax.Array, *, page: Layout) -> tuple[jax.Array, jax.Array]:
  """Measures the calibration pulses of a rectified page against its grid.

  Args:
    ink: (850, 1100) of the aligned page.
    page: layout with the rows' zero lines.

  Returns:
    (R,) height of each row's pulse in mV at the page's gain: PULSE_MV if the assumed gain is right; and (R,) contrast of its top,
    0..1.
  """
  ys, xs = (jnp.asarray(a, jnp.float32) for a in unwarp.centres_px())
  right = paper.START_X_PX - TOP_INSET_PX
  left = paper.START_X_PX - paper.px_per_s(page.speed_mm_s) * paper.PULSE_S + TOP_INSET_PX
  mean = lambda low, high: ((xs > low) & (xs < high)) / jnp.sum((xs > low) & (xs < high))
  # ink that is also left of the pulse is a black grid
  profile = ink @ mean(left, right) - ink @ mean(left - right + left - 2 * TOP_INSET_PX, left - 2 * TOP_INSET_PX)
  profile = filters.gaussian(ys, ys, unwarp.STEP_PX) @ profile
  heights = (jnp.asarray(page.zeros_px)[:, None] - ys) / page.px_per_mv
  rows = jnp.where((heights > PULSE_RANGE_MV[0]) & (heights < PULSE_RANGE_MV[1]), profile, -jnp.inf)
  top = jnp.clip(jnp.argmax(rows, axis=1), 1, len(ys) - 2)
  low, middle, high = (profile[top + i] for i in (-1, 0, 1))
  bend = jnp.minimum(low - 2 * middle + high, -1e-6)
  tops_px = ys[top] + unwarp.STEP_PX * jnp.clip(0.5 * (low - high) / bend, -1, 1)
  return (jnp.asarray(page.zeros_px) - tops_px) / page.px_per_mv, jnp.clip(2 * middle, 0, 1)
