"""From scores to rows to leads: judged by targets, by scipy's PCHIP, by sinusoids in closed form and by real recordings."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal
from scipy.interpolate import PchipInterpolator

from ecgjax.competition import scoring
from ecgjax.drawing import ground_truth
from ecgjax.ecg import packs
from ecgjax.ecg.leads import LEADS
from ecgjax.extract import path_decoder, resample
from ecgjax.geometry import lattices, layouts
from ecgjax.networks.unet import Scores
from ecgjax.training import losses

HEIGHT, COLUMNS, SIGMA = 320, 48, 1.5
PAGE = layouts.make()
FRAME = lattices.frame(PAGE, rate_hz=500, height_px=640)


def as_scores(target):
  return Scores(None, jnp.log(target[..., :-1, :] + 1e-12), jnp.log(target[..., -1, :] + 1e-12))  # pyright: ignore[reportArgumentType]


@functools.partial(jax.jit, static_argnames=('height',))
def read_target(rows, printed, *, height=HEIGHT):
  target = losses.column_target(rows, printed, height_px=height, sigma_px=SIGMA)
  return path_decoder.soft_argmax(as_scores(target))


read_scores = jax.jit(path_decoder.soft_argmax, static_argnames=('path', 'window_px'))


def smooth_rows(seed, low=20.0, high=HEIGHT - 20.0):
  rng = np.random.default_rng(seed)
  steps = rng.normal(size=(2, COLUMNS)) * 3
  return jnp.asarray(np.clip(rng.uniform(low, high, (2, 1)) + np.cumsum(steps, 1), low, high), jnp.float32)


@pytest.mark.parametrize('seed', range(4))
def test_a_target_gives_its_rows_back(seed):
  rows = smooth_rows(seed)
  got = read_target(rows, jnp.ones(rows.shape, bool))
  np.testing.assert_allclose(got.rows_px, rows, atol=0.02)
  assert (got.visible > 0.999).all()


def test_standard_deviation_is_that_of_the_target_and_of_a_px():
  rows = smooth_rows(9)
  got = read_target(rows, jnp.ones(rows.shape, bool))
  np.testing.assert_allclose(got.std_px, np.sqrt(SIGMA**2 + 1 / 12), atol=0.01)


def test_a_certain_column_still_has_the_spread_of_a_px():
  scores = Scores(None, jnp.full((1, 64, 5), -50.0).at[0, 33].set(50.0), jnp.full((1, 5), -50.0))
  got = read_scores(scores)
  np.testing.assert_allclose(got.rows_px, 33.5, atol=1e-4)
  np.testing.assert_allclose(got.std_px, np.sqrt(1 / 12), atol=1e-4)


@pytest.mark.parametrize('seed', range(5))
def test_the_path_is_the_best_of_all_by_a_slow_search_with_backtracking(seed):
  rng = np.random.default_rng(seed)
  own = rng.normal(scale=3.0, size=(40, 25))  # cells, columns
  own[rng.integers(0, 40, 25), np.arange(25)] += 8.0  # strangers in every column
  reach = round(path_decoder.REACH_PX / path_decoder.CELL_PX)
  moves = np.arange(40)[:, None] - np.arange(40)
  cost = np.where(np.abs(moves) <= reach, path_decoder.JUMP * path_decoder.CELL_PX * np.abs(moves), np.inf)
  begins = np.zeros((1, 25), bool)
  begins[0, rng.integers(1, 25)] = True  # another lead: there the path may come from anywhere
  total, came = own[:, 0], []
  for column, free in zip(own.T[1:], begins[0, 1:], strict=True):
    ways = total[None] - (np.zeros_like(cost) if free else cost)
    came.append(ways.argmax(1))
    total = column + ways.max(1)
  judge = [int(total.argmax())]
  for back in reversed(came):
    judge.append(int(back[judge[-1]]))
  found = path_decoder._best_through(jnp.asarray(own[None], jnp.float32), begins)[0].argmax(0)
  np.testing.assert_array_equal(found, judge[::-1])


def test_moving_the_scores_down_moves_the_rows():
  scores = jax.random.normal(jax.random.key(0), (1, 128, 20)) * 0.1 + as_scores(
    losses.column_target(jnp.full((1, 20), 60.0), jnp.ones((1, 20), bool), height_px=128, sigma_px=SIGMA)
  ).rows.clip(-15)
  before = read_scores(Scores(None, scores, jnp.zeros((1, 20))))
  after = read_scores(Scores(None, jnp.roll(scores, 8, axis=1), jnp.zeros((1, 20))))
  np.testing.assert_allclose(after.rows_px, before.rows_px + 8, atol=1e-3)


def crossing():
  """Scores of a level trace at row 100.3 and, for four columns, a stronger stranger far below."""
  ones = jnp.ones((1, COLUMNS), bool)
  own = losses.column_target(jnp.full((1, COLUMNS), 100.3), ones, height_px=HEIGHT, sigma_px=SIGMA)
  stranger = losses.column_target(jnp.full((1, COLUMNS), 250.0), ones, height_px=HEIGHT, sigma_px=SIGMA)
  crossed = (jnp.arange(COLUMNS) >= 20) & (jnp.arange(COLUMNS) < 24)
  return as_scores(jnp.where(crossed, 0.25 * own + 0.75 * stranger, own))


def test_a_stronger_neighbour_that_crosses_does_not_capture_the_mode():
  np.testing.assert_allclose(read_scores(crossing()).rows_px, 100.3, atol=0.02)


def test_without_looking_at_the_neighbours_it_does():
  captured = np.asarray(read_scores(crossing(), path=False).rows_px[0])
  np.testing.assert_allclose(captured[20:24], 250.0, atol=0.02)
  np.testing.assert_allclose(np.delete(captured, range(20, 24)), 100.3, atol=0.02)


def test_a_row_may_jump_where_it_goes_on_with_another_lead_and_nowhere_else():
  start = FRAME.columns_px(2.5)
  begins = lattices.begins(PAGE, FRAME)[:, int(start) - 24 : int(start) + 24]
  rows = jnp.where(jnp.arange(COLUMNS) < 24, 40.0, 280.0)
  target = losses.column_target(jnp.stack([rows] * 4), jnp.ones((4, COLUMNS), bool), height_px=HEIGHT, sigma_px=SIGMA)
  got = np.abs(np.asarray(read_scores(as_scores(target), begins=begins).rows_px) - rows) < 0.1
  assert got[:3].all()
  assert not got[3].all(), 'a move of 240 px takes columns where the lead goes on, as in the rhythm strip'


def test_hidden_columns_are_not_visible():
  printed = jnp.arange(COLUMNS) % 5 > 1
  got = read_target(smooth_rows(3), jnp.broadcast_to(printed, (2, COLUMNS)))
  np.testing.assert_array_equal(got.visible >= resample.VISIBLE, np.broadcast_to(printed, (2, COLUMNS)))


def test_rows_are_differentiable_in_the_scores():
  target = losses.column_target(smooth_rows(5), jnp.ones((2, COLUMNS), bool), height_px=HEIGHT, sigma_px=SIGMA)
  hidden = jnp.full((2, COLUMNS), -9.0)
  total = jax.jit(lambda rows: path_decoder.soft_argmax(Scores(None, rows, hidden)).rows_px.sum())  # pyright: ignore[reportArgumentType]
  scores = jnp.log(target[:, :-1] + 1e-4)
  slope = jax.jit(jax.grad(total))(scores)
  assert np.isfinite(slope).all()
  push = 0.1 * jax.random.normal(jax.random.key(1), scores.shape)
  # the sum is about 15,000 px, so f32 resolves 1e-3 of it
  assert float((slope * push).sum()) == pytest.approx((float(total(scores + push)) - float(total(scores - push))) / 2, abs=0.05)
  assert float(jnp.abs(slope).max()) > 0.1


fill = jax.jit(resample.fill)


@pytest.mark.parametrize('seed', range(6))
def test_gaps_inside_are_filled_as_scipys_pchip_does(seed):
  rng = np.random.default_rng(seed)
  n = 200
  mv, valid = np.cumsum(rng.normal(size=n)), rng.uniform(size=n) < 0.35
  mv[40:60] = np.round(mv[40:60])  # level stretches, where a slope must be zero
  knots = np.flatnonzero(valid)
  # the ends' own slopes are a matter of taste (scipy: one-sided, here: level), so gaps next to them are left out
  inside = slice(knots[1], knots[-2] + 1)
  judge = PchipInterpolator(knots, mv[knots])(np.arange(n))
  got = np.asarray(fill(jnp.asarray(mv, jnp.float32), jnp.asarray(valid)))
  np.testing.assert_allclose(got[inside], judge[inside], atol=2e-5)
  np.testing.assert_array_equal(got[valid], mv[valid].astype(np.float32))


def test_ends_are_filled_level_and_nothing_seen_is_zero():
  mv = jnp.arange(50.0) + 7
  valid = (jnp.arange(50) > 5) & (jnp.arange(50) < 40)
  got = fill(mv, valid)
  np.testing.assert_array_equal(got[:6], 13.0)
  np.testing.assert_array_equal(got[40:], 46.0)
  np.testing.assert_array_equal(fill(mv, jnp.zeros(50, bool)), 0.0)


@pytest.mark.parametrize('seed', range(3))
def test_a_filled_gap_never_overshoots(seed):
  rng = np.random.default_rng(seed)
  mv, valid = rng.normal(size=120), rng.uniform(size=120) < 0.3
  got, knots = np.asarray(fill(jnp.asarray(mv, jnp.float32), jnp.asarray(valid))), np.flatnonzero(valid)
  for a, b in zip(knots[:-1], knots[1:], strict=True):
    low, high = sorted((mv[a], mv[b]))
    assert (got[a : b + 1] >= low - 1e-5).all() and (got[a : b + 1] <= high + 1e-5).all()


@pytest.mark.parametrize('fs', [250, 256, 500, 512, 1000, 1025])
@pytest.mark.parametrize('hz', [1.0, 17.0, 40.0, 75.0])
def test_a_sinusoid_is_resampled_exactly_away_from_the_ends(fs, hz):
  count, offset = int(2 * fs), 12.4
  index, weights = resample.kernel(0, 1099, 500, offset, fs, count)
  wave = lambda second: np.sin(2 * np.pi * hz * second + 0.7)
  columns = wave((np.arange(1100) - offset) / 500)
  got = (columns[index] * weights).sum(1)
  inside = slice(int(0.1 * fs), -int(0.1 * fs))
  np.testing.assert_allclose(got[inside], wave(np.arange(count) / fs)[inside], atol=1e-3)


def test_resampling_at_equal_rates_is_the_identity():
  columns = np.random.default_rng(0).normal(size=300)
  index, weights = resample.kernel(20, 299, 500, 20, 500, 280)
  np.testing.assert_allclose((columns[index] * weights).sum(1), columns[20:], atol=1e-12)


@pytest.mark.parametrize('fs', [250, 500, 1025])
def test_a_line_is_resampled_exactly_up_to_its_ends_and_never_looks_beyond_the_lead(fs):
  columns = np.full(400, np.nan)
  columns[50:350] = 0.01 * np.arange(50, 350) - 1
  count = int(0.598 * fs)
  index, weights = resample.kernel(50, 349, 500, 50, fs, count)
  got = (columns[index] * weights).sum(1)
  np.testing.assert_allclose(got, 0.01 * (50 + np.arange(count) * 500 / fs) - 1, atol=1e-4)


@pytest.mark.parametrize(('fs', 'rate', 'offset'), [(250, 500, 0.0), (256, 500, 0.37), (360, 500, 3.2), (100, 250, 7.0)])
def test_corners_of_a_polyline_are_recovered(fs, rate, offset):
  corners = np.random.default_rng(1).normal(size=120)
  width = int(offset + 119 * rate / fs) + 1
  columns = np.interp((np.arange(width) - offset) * fs / rate, np.arange(120), corners)
  got = resample.vertices(jnp.asarray(columns, jnp.float32), offset, rate_hz=rate, fs=fs, count=120)
  # the first and last corner may lie outside the columns, or be held by a single one
  np.testing.assert_allclose(got[2:-2], corners[2:-2], atol=1e-3)


def trace_of(mv_rows, visible=None):
  rows = FRAME.rows_px(jnp.asarray(mv_rows, jnp.float32))
  return path_decoder.Trace(rows, jnp.full(rows.shape, 1.5), jnp.ones(rows.shape) if visible is None else visible)


def waves(hz=5.0):
  second = FRAME.times_s()
  return np.stack([np.sin(2 * np.pi * hz * second + r) for r in range(4)])


@pytest.mark.parametrize('fs', [250, 500, 1025])
@pytest.mark.parametrize('name', ['I', 'aVL', 'V6', 'II'])
def test_a_lead_is_its_rows_millivolts_from_its_own_first_second(name, fs):
  segment = PAGE.scored(name)
  count = int((segment.stop_s - segment.start_s) * fs)
  mv, std = resample.lead(trace_of(waves()), segment, layout=PAGE, frame=FRAME, fs=fs, count=count)
  judge = np.sin(2 * np.pi * 5.0 * (segment.start_s + np.arange(count) / fs) + segment.row)
  inside = slice(int(0.1 * fs), -int(0.1 * fs))
  # joining the columns by lines, as `vertices` does below 500 Hz, costs (2 pi 5 / 500)^2 / 8
  np.testing.assert_allclose(mv[inside], judge[inside], atol=1e-3)
  np.testing.assert_allclose(std, 1.5 / 78.740, rtol=1e-4)


def test_a_turned_lead_is_turned_back():
  page = layouts.make('3x4-cabrera')
  frame = lattices.frame(page, rate_hz=500, height_px=640)
  trace = trace_of(waves()[:3])
  mv, _ = resample.lead(trace, page.scored('aVR'), layout=page, frame=frame, fs=500, count=1000)
  segment = page.scored('aVR')
  np.testing.assert_allclose(
    mv[100:900], -np.sin(2 * np.pi * 5 * (segment.start_s + np.arange(1000) / 500) + segment.row)[100:900], atol=1e-3
  )


def test_an_interpolated_sample_is_less_certain_the_farther_it_is_from_what_was_seen():
  visible = jnp.ones((4, FRAME.width_px)).at[:, 400:500].set(0.0)
  _, std = resample.lead(trace_of(waves(), visible), PAGE.scored('I'), layout=PAGE, frame=FRAME, fs=500, count=1250)
  gap = np.asarray(std)[400 - FRAME.margin_px : 500 - FRAME.margin_px]
  assert gap.argmax() in (49, 50) and (np.diff(gap[:50]) > 0).all() and (np.diff(gap[50:]) < 0).all()
  assert std[0] == pytest.approx(1.5 / 78.740, rel=1e-4)


@pytest.mark.parametrize(('fs', 'count'), [(500, 1251), (250, 626), (1025, 2564), (500, 0)])
def test_more_than_the_page_shows_is_refused(fs, count):
  with pytest.raises(ValueError, match=rf'lead I: {count} samples at {fs} Hz asked for; layout 3x4\+II shows 2.5 s of it'):
    resample.lead(trace_of(waves()), PAGE.scored('I'), layout=PAGE, frame=FRAME, fs=fs, count=count)


@pytest.fixture(scope='module')
def recordings(shared):
  pack = packs.load_pack(shared / 'data/ecg/val.npy.xz')
  return [np.float64(packs.pack_to_mv(pack[k])) for k in range(0, 270, 30)]


@pytest.mark.parametrize('fs', [250, 1000, *(pytest.param(fs, marks=pytest.mark.slow) for fs in (256, 500, 512, 1025))])
def test_signal_to_label_to_signal_loses_less_than_forty_decibels(recordings, fs):
  traces, labels = [], [signal.resample(mv, 10 * fs, axis=-1) for mv in recordings]
  for mv in labels:
    wanted, printed = ground_truth.at(jnp.asarray(mv, jnp.float32), FRAME.times_s(), layout=PAGE, rate_hz=fs)
    traces.append(read_target(FRAME.rows_px(wanted), jnp.asarray(printed), height=640))
  together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *traces)
  found = {}
  for name in LEADS:
    segment = PAGE.scored(name)
    count = int((segment.stop_s - segment.start_s) * fs)
    one = lambda t, s=segment, n=count: resample.lead(t, s, layout=PAGE, frame=FRAME, fs=fs, count=n)[0]
    found[name] = segment, np.float64(jax.vmap(one)(together))
  ratios = []
  for k, mv in enumerate(labels):
    true, pred = {}, {}
    for name, (segment, values) in found.items():
      first = int(np.ceil(segment.start_s * fs - 1e-6))
      true[name] = mv[LEADS.index(name), first : first + values.shape[1]]
      pred[name] = values[k]
    ratios.append(scoring.reference_ratio(true, pred, fs=fs, cap=1e6))
  print(f'label round trip at {fs} Hz: {10 * np.log10(np.mean(ratios)):.2f} dB, worst {10 * np.log10(min(ratios)):.2f} dB')
  assert 10 * np.log10(np.mean(ratios)) >= 40


def test_along_a_steep_stroke_its_middle_is_expected_not_its_darkest_px():
  rows = np.full((1, 640, 32), -20.0, np.float32)
  rows[:, 300:340] = 0.0
  rows[:, 302] = 0.5  # a little darker near one end
  trace = read_scores(Scores(None, jnp.asarray(rows), jnp.full((1, 32), -20.0)))
  np.testing.assert_allclose(trace.rows_px, 320.0, atol=1.0)
  np.testing.assert_allclose(trace.std_px, 40 / 12**0.5, atol=0.3)


@pytest.mark.parametrize('sure', [10.0, 20.0])
def test_a_single_column_that_is_sure_of_a_letter_is_outvoted_by_its_neighbours(sure):
  rows = jnp.full((1, COLUMNS), 100.0)
  scores = as_scores(losses.column_target(rows, rows > 0, height_px=HEIGHT, sigma_px=SIGMA))
  letter = losses.column_target(rows + 150, rows > 0, height_px=HEIGHT, sigma_px=SIGMA)[..., :-1, 20]
  column = jnp.log(jnp.exp(-sure) * jnp.exp(scores.rows[..., 20]) + letter + 1e-12)
  got = read_scores(scores._replace(rows=scores.rows.at[..., 20].set(column)))
  assert abs(float(got.rows_px[0, 20]) - 100) < 2
