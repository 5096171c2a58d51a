"""Landmarks of a layout (pulses, separators, lead names), found by correlation: they tell where a flat page lies, and which it is.

A grid looks the same from square to square and from turn to turn; its landmarks do not.
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
  """Where a layout's landmarks are found best.

  Attributes:
    shift_px: (2,) page x, y by which what is found lies right and below of where it belongs, within half a page.
    score: () -1..1, their correlation with the page's ink there, the mean over the templates.
  """

  shift_px: jax.Array
  score: jax.Array


@functools.cache
def template(name: str) -> np.ndarray:
  """Returns (2, 850, 1100) float32 coverage of a layout, half the page's size: all its landmarks, and its pulses alone.

  Machines print names and separators in their own ways, so on a foreign page the pulses, which all print alike, have to count more.
  """
  with np.load(PATH) as file:
    cover = file[name].astype(np.float32) / 255
  left_of_traces = np.arange(unwarp.SIZE[1]) * unwarp.STEP_PX <= paper.START_X_PX
  return np.stack([cover, cover * left_of_traces])


class TemplateSpectra(NamedTuple):
  """Templates of landmarks as N spectra (850, 551): computed once.

  Attributes:
    landmarks: of the landmarks without what is finer or wider than SHARP_PX.
    near: of the places near a landmark: only ink there can be taken for it, so a page full of writing is not punished for it.
    power: (N,) sum of the squares of the landmarks.
  """

  landmarks: jax.Array
  near: jax.Array
  power: jax.Array


@functools.cache
def template_spectra(name: str) -> TemplateSpectra:
  """Returns the spectra of a layout's templates, key of `layouts.ROWS`."""
  return spectra(jnp.asarray(template(name)))


@jax.jit
def spectra(covers: jax.Array) -> TemplateSpectra:
  """Returns the spectra of templates (N, 850, 1100)."""
  near = jnp.stack([(unwarp.blur((cover > 0.1).astype(jnp.float32), 6.0) > 0.05).astype(jnp.float32) for cover in covers])
  landmarks = jnp.stack([_sharp(cover) for cover in covers]) * near
  return TemplateSpectra(jnp.fft.rfft2(landmarks), jnp.fft.rfft2(near), (landmarks**2).sum((1, 2)))


def _sharp(a: jax.Array) -> jax.Array:
  return unwarp.blur(a, SHARP_PX[0]) - unwarp.blur(a, SHARP_PX[1])


def match(ink: jax.Array, templates: TemplateSpectra) -> Match:
  """Looks for landmarks everywhere: normalised cross-correlation, over all shifts at once.

  Args:
    ink: (850, 1100) of a page laid flat (`unwarp.FlatView.ink`), its scale nearly right.
    templates: as `template_spectra` gives it.

  Returns:
    The best place.
  """
  sharp = _sharp(ink)
  ours = [jnp.fft.rfft2(a) for a in (sharp, sharp**2)]

  def score(landmarks, near, power):
    found, there = (jnp.fft.irfft2(a * jnp.conj(b), ink.shape) for a, b in zip(ours, (landmarks, near), strict=True))
    return found / jnp.sqrt(power * jnp.maximum(there, EMPTY * there.max() + 1e-6) + 1e-6)

  scores = jnp.mean(jnp.stack([score(*one) for one in zip(*templates, strict=True)]), axis=0)
  best = jnp.stack(jnp.unravel_index(jnp.argmax(scores), scores.shape)[::-1])
  size = jnp.array(ink.shape[::-1])
  return Match(((best + size // 2) % size - size // 2) * float(unwarp.STEP_PX), scores.max())


def pulses_mv(ink: jax.Array, *, layout: Layout) -> tuple[jax.Array, jax.Array]:
  """Measures the calibration pulses of a page laid flat, against its grid.

  Args:
    ink: (850, 1100) of the page in its place.
    layout: says where the rows' zero lines are.

  Returns:
    (R,) height of each row's pulse in mV at the page's gain: PULSE_MV if the page is what it is taken for; and (R,) how clearly its top
    is seen, 0..1.
  """
  ys, xs = (jnp.asarray(a, jnp.float32) for a in unwarp.centres_px())
  right = paper.START_X_PX - TOP_INSET_PX
  left = paper.START_X_PX - paper.px_per_s(layout.speed_mm_s) * paper.PULSE_S + TOP_INSET_PX
  mean = lambda low, high: ((xs > low) & (xs < high)) / jnp.sum((xs > low) & (xs < high))
  # what also stands left of the pulse is a black grid
  profile = ink @ mean(left, right) - ink @ mean(left - right + left - 2 * TOP_INSET_PX, left - 2 * TOP_INSET_PX)
  profile = filters.gaussian(ys, ys, unwarp.STEP_PX) @ profile
  heights = (jnp.asarray(layout.zeros_px)[:, None] - ys) / layout.px_per_mv
  rows = jnp.where((heights > PULSE_RANGE_MV[0]) & (heights < PULSE_RANGE_MV[1]), profile, -jnp.inf)
  top = jnp.clip(jnp.argmax(rows, axis=1), 1, len(ys) - 2)
  low, middle, high = (profile[top + i] for i in (-1, 0, 1))
  bend = jnp.minimum(low - 2 * middle + high, -1e-6)
  tops_px = ys[top] + unwarp.STEP_PX * jnp.clip(0.5 * (low - high) / bend, -1, 1)
  return (jnp.asarray(layout.zeros_px) - tops_px) / layout.px_per_mv, jnp.clip(2 * middle, 0, 1)
