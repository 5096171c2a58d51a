"""Limb leads against the arithmetic of Einthoven and Goldberger, against NumPy's least squares, and against rows that lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.drawing import ground_truth
from ecgjax.ecg.leads import LIMBS
from ecgjax.extract import einthoven
from ecgjax.extract.path_decoder import Trace
from ecgjax.geometry import lattices, layouts

PAGE = layouts.make()
FRAME = lattices.frame(PAGE, rate_hz=50, height_px=640)
STD_PX = 2.0
fused = jax.jit(lambda trace: einthoven.fuse(trace, layout=PAGE, frame=FRAME))


def record(seed=0):
  """(12, 500) mV at 50 Hz that obeys the laws."""
  rng = np.random.default_rng(seed)
  free = np.cumsum(rng.normal(size=(8, 500)), axis=1) / 20
  i, ii, *chest = free
  return np.stack([i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2, *chest])


def page(noise_px=0.0, seed=0):
  """The page as read, and its true rows."""
  mv, printed = ground_truth.at(jnp.asarray(record(seed)), FRAME.times_s(), layout=PAGE, rate_hz=50)
  true_px = FRAME.rows_px(mv)
  noise = np.random.default_rng(seed + 1).normal(size=true_px.shape) * noise_px
  return Trace(true_px + noise, jnp.full(true_px.shape, STD_PX), jnp.asarray(printed, jnp.float32)), np.asarray(true_px)


def columns(start_s, stop_s):
  """Well inside a stretch: at its very ends the neighbour's lead begins."""
  first, stop = (round(FRAME.columns_px(s)) for s in (start_s, stop_s))
  return slice(first + 1, stop - 1)


@pytest.mark.parametrize('name', layouts.ROWS)
def test_every_row_of_every_layout_shows_what_its_stretch_says(name):
  layout = layouts.make(name)
  frame = lattices.frame(layout, rate_hz=50, height_px=640)
  mv = record()
  shown, _ = ground_truth.at(jnp.asarray(mv), frame.times_s(), layout=layout, rate_hz=50)
  free, _ = ground_truth.at(jnp.asarray(mv), frame.times_s(), layout=layouts.make('12x1'), rate_hz=50)
  limbs_s = np.zeros(len(layout.zeros_px))
  for first, stop, design in einthoven.intervals(layout, frame):
    inside = slice(first + 1, stop - 1)
    limb = design.any(1)
    limbs_s += limb * (stop - first) / frame.rate_hz
    np.testing.assert_allclose(np.asarray(shown)[limb, inside], design[limb] @ np.asarray(free)[:2, inside], atol=1e-5)
  printed_s = np.zeros(len(layout.zeros_px))
  for segment in layout.segments:
    printed_s[segment.row] += (segment.lead in LIMBS) * (segment.stop_s - segment.start_s)
  np.testing.assert_allclose(limbs_s, printed_s, atol=0.05)


def test_what_agrees_stays_where_it_is_and_is_more_certain():
  trace, true_px = page()
  better = fused(trace)
  np.testing.assert_allclose(better.rows_px, true_px, atol=0.01)
  # I, II, III, II: the inverse of [[2, -1], [-1, 3]]; aVR, aVL, aVF, II: of [[1.5, -0.75], [-0.75, 2.5]]
  for seconds, variances in (((0.1, 2.4), (3 / 5, 2 / 5, 3 / 5, 2 / 5)), ((2.6, 4.9), (0.4314, 0.6667, 0.4314, 0.4706))):
    at = columns(*seconds)
    np.testing.assert_allclose(better.std_px[:, at], STD_PX * np.sqrt(variances)[:, None] * np.ones(at.stop - at.start), rtol=2e-4)


def test_noise_falls_as_the_stated_deviations_do():
  off = {}
  for seed in range(4):
    trace, true_px = page(noise_px=STD_PX, seed=seed)
    for when, read in (('before', trace), ('after', fused(trace))):
      off.setdefault(when, []).append(np.asarray(read.rows_px)[:, columns(2.6, 4.9)] - true_px[:, columns(2.6, 4.9)])
      off.setdefault(f'stated {when}', []).append(np.asarray(read.std_px)[:, columns(2.6, 4.9)])
  rms = {when: np.sqrt(np.mean(np.square(values), axis=(0, 2))) for when, values in off.items()}
  np.testing.assert_allclose(rms['after'], rms['stated after'], rtol=0.15)
  assert (rms['after'] < 0.9 * rms['before']).all()


def test_uneven_weights_give_what_numpy_s_least_squares_gives():
  trace, _ = page(noise_px=0.5)
  std_px = np.random.default_rng(3).uniform(1, 4, trace.rows_px.shape).astype(np.float32)
  better = fused(trace._replace(std_px=jnp.asarray(std_px)))
  design = np.array([LIMBS[lead] for lead in ('aVR', 'aVL', 'aVF', 'II')])
  for w in range(columns(2.6, 4.9).start, columns(2.6, 4.9).stop, 7):
    mv = FRAME.millivolts(np.asarray(trace.rows_px[:, w], np.float64))
    free = np.linalg.lstsq(design / std_px[:, w, None], mv / std_px[:, w], rcond=None)[0]
    np.testing.assert_allclose(FRAME.millivolts(np.asarray(better.rows_px[:, w])), design @ free, atol=2e-4)


@pytest.mark.parametrize(('row', 'start_s'), [(1, 0.0), (3, 0.0), (0, 2.5), (1, 2.5), (2, 2.5), (3, 2.5)])
def test_a_row_that_contradicts_the_rest_is_replaced_and_poisons_none(row, start_s):
  trace, true_px = page(noise_px=0.3)
  at = columns(start_s + 0.1, start_s + 2.4)
  wander = 60 * np.sin(np.arange(trace.rows_px.shape[1]) / 9)
  better = fused(trace._replace(rows_px=trace.rows_px.at[row].add(wander)))
  assert np.abs(np.asarray(better.rows_px)[:, at] - true_px[:, at]).max() < 3


@pytest.mark.parametrize('lying', [(0,), (2,), (0, 1)])  # if II agrees with II, I and III are each other's only witness
def test_where_it_is_not_clear_which_row_lies_none_is_changed(lying):
  trace, _ = page()
  wander = 60 * np.cos(np.arange(trace.rows_px.shape[1]) / 9) + 70
  lies = trace
  for row in lying:
    lies = lies._replace(rows_px=lies.rows_px.at[row].add(wander * (row + 1)))
  at = columns(0.1, 2.4)
  for before, after in zip(lies, fused(lies), strict=True):
    np.testing.assert_array_equal(before[:, at], after[:, at])


def test_a_hidden_stretch_of_one_lead_follows_from_the_others():
  trace, true_px = page(noise_px=0.3)
  gap = columns(3.0, 3.6)
  hidden = trace._replace(rows_px=trace.rows_px.at[1, gap].set(100.0), visible=trace.visible.at[1, gap].set(0.1))
  better = fused(hidden)
  assert np.abs(np.asarray(better.rows_px)[1, gap] - true_px[1, gap]).max() < 2
  assert (better.visible[1, gap] == 1).all()


def test_with_two_rows_hidden_there_is_nothing_to_check_and_nothing_changes():
  trace, _ = page(noise_px=0.3)
  gap = columns(3.0, 3.6)
  hidden = trace._replace(visible=trace.visible.at[1:3, gap].set(0.1))
  for before, after in zip(hidden, fused(hidden), strict=True):
    np.testing.assert_array_equal(before[:, gap], after[:, gap])


def test_chest_leads_and_margins_are_left_alone():
  trace, _ = page(noise_px=0.3)
  better = fused(trace)
  for at in (slice(0, round(FRAME.columns_px(0.0)) - 1), columns(5.1, 9.9)):
    for before, after in zip(trace, better, strict=True):
      np.testing.assert_array_equal(before[:, at], after[:, at])


def test_slopes_pass_through():
  trace, true_px = page(noise_px=0.3)
  slope = jax.grad(lambda rows: ((fused(trace._replace(rows_px=rows)).rows_px - true_px) ** 2).sum())(trace.rows_px)
  assert np.isfinite(slope).all() and (np.abs(np.asarray(slope)[:, columns(0.1, 4.9)]).max(1) > 0).all()


@pytest.mark.parametrize('row', [0, 2])
def test_a_row_that_jumps_to_a_letter_and_back_is_the_liar_though_the_laws_do_not_say_which(row):
  trace, _ = page()
  noise = np.random.default_rng(0).normal(size=trace.rows_px.shape) * 0.3
  at = columns(0.1, 2.4)
  lies = trace._replace(rows_px=jnp.asarray(320 + noise, jnp.float32).at[row, at.start + 40].add(24.0))  # hidden in the mean around it
  np.testing.assert_allclose(fused(lies).rows_px[:, at], 320.0, atol=2)
