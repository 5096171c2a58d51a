"""Quality: the share that is signal, in closed form, by what network, geometry and Einthoven say of the errors."""

import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.ecg.leads import LEADS
from ecgjax.extract import path_decoder, quality
from ecgjax.geometry import lattices, layouts

PAGE = layouts.make()
FRAME = lattices.frame(PAGE, rate_hz=500, height_px=640)
FS = 500.0
WAVE = np.sqrt(2) * np.sin(2 * np.pi * 4 * np.arange(1250) / FS)  # 1 mV rms
SURE = quality.Doubt(dict.fromkeys(LEADS, 1.0), dict.fromkeys(LEADS, 0.0), 0.0, ())


def quality_of(mv=WAVE, std_mv=0.0, lead='V1', page=PAGE, fs=FS, **doubt):
  return quality.lead(mv, np.full(len(mv), std_mv), lead, SURE._replace(**doubt), fs=fs, layout=page)


@pytest.mark.parametrize('db', [-10, 0, 10, 20, 40])
def test_it_is_signal_over_signal_and_stated_error(db):
  noise = 10 ** (-db / 20)
  assert quality_of(std_mv=noise) == pytest.approx(1 / (1 + noise**2), rel=1e-9)
  assert quality_of(std_mv=noise, visible={'V1': 0.5}) == pytest.approx(0.5 / (1 + noise**2), rel=1e-9)


def test_errors_of_all_three_kinds_add_up():
  off_px = 2.0
  slope = np.mean(np.gradient(WAVE) ** 2) * FS**2
  misplaced = quality.MISPLACED * off_px**2 * (PAGE.px_per_mv**-2 + slope / PAGE.px_per_s**2)
  error = 0.1**2 + misplaced + quality.CONTRADICTED * 0.04
  assert quality_of(std_mv=0.1, page_px=off_px, contradiction_mv2={'V1': 0.04}) == pytest.approx(1 / (1 + error), rel=1e-9)


@pytest.mark.parametrize('gain', [5.0, 20.0])
def test_a_page_of_another_gain_is_judged_alike(gain):
  scale = 10 / gain
  doubt = {'page_px': 3.0, 'contradiction_mv2': {'V1': 0.01 * scale**2}}
  other = quality_of(mv=scale * WAVE, std_mv=0.1 * scale, page=layouts.make(gain_mm_mv=gain), **doubt)
  assert other == pytest.approx(quality_of(std_mv=0.1, page_px=3.0, contradiction_mv2={'V1': 0.01}), rel=1e-9)


def test_a_flat_line_that_is_read_surely_is_believed_and_one_read_vaguely_is_not():
  assert quality_of(mv=np.zeros(1250), std_mv=0.007) > 0.97
  assert quality_of(mv=np.zeros(1250), std_mv=0.1) < 0.25


def test_what_was_not_seen_or_may_be_cut_off_is_not_believed():
  assert quality_of(mv=np.full(1250, np.nan), std_mv=np.nan, visible={'V1': 0.0}) == 0
  assert quality_of(cut_off=('V2', 'V1')) == quality.CUT_OFF and quality_of(cut_off=('V2',)) == 1


def trace(noise_mv, seed=0):
  """Rows that obey Einthoven's law but for noise of `noise_mv` (R,)."""
  rng = np.random.default_rng(seed)
  one, two = (np.cumsum(rng.normal(0, 0.02, FRAME.width_px)) for _ in range(2))
  limbs = {'I': one, 'II': two, 'III': two - one, 'aVR': -(one + two) / 2, 'aVL': one - two / 2, 'aVF': two - one / 2}
  mv = np.zeros((4, FRAME.width_px))
  for segment in PAGE.segments:
    first, stop = (round(FRAME.columns_px(s)) for s in (segment.start_s, segment.stop_s))
    mv[segment.row, first:stop] = limbs.get(segment.lead, one)[first:stop]
  mv += rng.normal(0, 1, mv.shape) * np.reshape(noise_mv, (4, 1))
  return path_decoder.Trace(jnp.asarray(FRAME.rows_px(mv)), jnp.ones(mv.shape), jnp.ones(mv.shape))


def test_limb_rows_that_agree_say_nothing_and_noisy_ones_say_how_noisy():
  assert max(quality.contradictions_mv2(trace(np.zeros(4)), PAGE, FRAME).values()) < 1e-9
  found = quality.contradictions_mv2(trace(np.full(4, 0.1)), PAGE, FRAME)
  assert all(found[lead] == pytest.approx(0.01, rel=0.1) for lead in ('I', 'II', 'III', 'aVR', 'aVL', 'aVF'))
  assert all(found[lead] == 0 for lead in ('V1', 'V2', 'V3', 'V4', 'V5', 'V6'))  # nothing repeats them


def test_columns_in_which_a_limb_row_was_not_seen_say_nothing():
  noisy = trace(np.array([0, 0, 1.0, 0]))
  noisy = noisy._replace(visible=noisy.visible.at[2].set(0.0))
  assert set(quality.contradictions_mv2(noisy, PAGE, FRAME).values()) == {0.0}


@pytest.mark.parametrize('px', [0.0, 0.3, 5.0])
def test_confidence_is_turned_back_into_px(px):
  assert quality.page_px(np.full((45, 57), 1 / (1 + px**2))) == pytest.approx(px, abs=1e-9)
