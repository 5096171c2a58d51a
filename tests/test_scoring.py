import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.competition import scoring
from ecgjax.ecg.leads import LEADS

# The example in the published metric's documentation: fs 1 Hz, three samples a lead, twelve of lead II.
PUBLISHED = """
I 0.1 0.3 0.4; III 0.6 0.6 0.4; aVR 0.2 0.3 0.4; aVL 0.5 0.2 0.7; aVF 0.2 0.3 0.4; V1 0.8 0.6 0.7; V2 0.2 0.3 -0.1;
V3 0.5 0.6 0.7; V4 0.2 0.9 0.4; V5 0.5 0.6 0.7; V6 0.1 0.3 0.4; II 0.6 0.6 0.4 0.2 0.3 0.4 0.5 0.2 0.7 0.2 0.3 0.4
"""


def published():
  return {lead: np.array(values, float) for lead, *values in map(str.split, PUBLISHED.split(';'))}


def lengths(fs):
  return {lead: 10 * fs if lead == 'II' else int(2.5 * fs) for lead in LEADS}


def ecg(fs, seed=0):
  """Twelve bumpy leads with a mean, quiet at both ends so that a shift loses nothing but the mean."""
  rng = np.random.default_rng(seed)
  leads = {}
  for lead, n in lengths(fs).items():
    t = np.arange(n) / fs
    beats = sum(np.exp(-(((t - c) / 0.06) ** 2)) for c in np.arange(1.2, n / fs - 0.6, 0.8))
    leads[lead] = beats * rng.uniform(0.5, 1.5) + 0.1
  return leads


def noise_like(leads, seed=1):
  rng = np.random.default_rng(seed)
  raw = {lead: rng.normal(size=len(values)) for lead, values in leads.items()}
  return {lead: values - values.mean() for lead, values in raw.items()}


def pack(leads, *, fill=np.nan):
  """Leads of different lengths as (12, T), padded with `fill`, and which samples are real."""
  width = len(leads['II'])
  values = np.full((12, width), fill)
  for row, lead in zip(values, LEADS, strict=True):
    row[: len(leads[lead])] = leads[lead]
  valid = np.arange(width) < np.array([[len(leads[lead])] for lead in LEADS])
  return jnp.asarray(values), jnp.asarray(valid)


power = jax.jit(scoring.power, static_argnames='max_shift')


def jnp_power(true, pred, fs):
  y, valid = pack(true)
  return power(y, pack(pred)[0], valid, max_shift=scoring.max_shift_samples(fs))


@pytest.mark.parametrize(('noisy', 'db'), [(0, 25.8433), (1, 13.6291), (2, 13.0576)])
def test_the_published_examples_give_the_published_scores(noisy, db):
  true, pred = published(), published()
  for lead, row, value in [('I', 0, 0.9), ('III', 1, 0.3)][:noisy]:
    pred[lead][row] = value
  ratio = scoring.reference_ratio(true, pred, fs=1)
  assert round(scoring.reference_score([ratio]), 4) == db
  with jax.enable_x64(True):
    assert round(float(scoring.score_db(scoring.ratio(*jnp_power(true, pred, 1)))), 4) == db


def test_an_all_zero_label_scores_minus_384_db_unless_it_is_met_exactly():
  zero = {lead: 0 * values for lead, values in published().items()}
  ratio = scoring.reference_ratio(zero, published(), fs=1)
  assert ratio == 0 and scoring.reference_score([ratio]) == -384
  assert scoring.score_db(scoring.ratio(*jnp_power(zero, published(), 1))) == -384
  assert scoring.reference_ratio(zero, zero, fs=1) == scoring.ratio(*jnp_power(zero, zero, 1)) == 384


def test_both_caps_bound_the_ratio():
  true = ecg(25)
  for cap in (scoring.CAP_PUBLISHED, scoring.CAP_OPEN):
    assert scoring.reference_ratio(true, true, fs=25, cap=cap) == cap
    close = {lead: values + 1e-6 * noise_like(true)[lead] for lead, values in true.items()}
    assert scoring.reference_ratio(true, close, fs=25, cap=cap) == cap
    assert scoring.ratio(jnp.array([3 * cap, 3.0]), jnp.array([1.0, 2.0]), cap=cap).tolist() == [cap, 1.5]
  assert round(10 * np.log10(scoring.CAP_PUBLISHED), 4) == 25.8433


def test_a_constant_prediction_leaves_the_label_without_its_mean_as_noise():
  true = ecg(25)
  expected = sum((y**2).sum() for y in true.values()) / sum(((y - y.mean()) ** 2).sum() for y in true.values())
  for level in (0.0, 0.1, -3.3, *np.linspace(-1, 1, 12)):
    flat = {lead: np.full(len(y), level) for lead, y in true.items()}
    assert scoring.reference_ratio(true, flat, fs=25) == pytest.approx(expected, rel=1e-12)
    signal, noise = jnp_power(true, flat, 25)
    assert float(signal / noise) == pytest.approx(expected, rel=1e-5)  # float32


def test_a_constant_prediction_of_real_ecgs_scores_about_0_3_db(shared):
  ratios = []
  for path in sorted((shared / 'bench/kit/train').glob('*/*.csv'))[:5]:
    rows = list(csv.DictReader(path.read_text().splitlines()))
    true = {lead: np.array([float(row[lead]) for row in rows if row[lead]]) for lead in LEADS}
    ratios.append(scoring.reference_ratio(true, {lead: np.full(len(y), 0.1) for lead, y in true.items()}, fs=500))
  assert 0 < scoring.reference_score(ratios) < 0.6


@pytest.mark.parametrize('db', [6.0, 20.0, 25.8, 40.0])  # below, the search may align to the noise
def test_noise_of_known_power_gives_that_many_db(db):
  true = ecg(25)
  noise = noise_like(true)
  loud, quiet = (sum((values**2).sum() for values in leads.values()) for leads in (true, noise))
  gain = np.sqrt(loud / quiet / 10 ** (db / 10))
  pred = {lead: true[lead] + gain * noise[lead] for lead in LEADS}
  report = scoring.image_report(true, pred, fs=25)
  assert report.db_open == pytest.approx(db, abs=1e-9)
  assert report.db == pytest.approx(min(db, 25.84331224), abs=1e-8)


@pytest.mark.parametrize('shift', [-5, -1, 0, 3, 5])
def test_a_shift_within_reach_costs_only_what_is_shifted_out(shift):
  true = ecg(25)
  pred = {lead: np.roll(y, shift) for lead, y in true.items()}
  signal = sum((y**2).sum() for y in true.values())
  # A prediction that comes late (shift > 0) loses the label's last samples, one that comes early its first.
  cut = slice(-shift, None) if shift > 0 else slice(0, -shift)
  lost = sum((y[cut] ** 2).sum() for y in true.values())
  expected = signal / lost if lost else 1e6
  assert scoring.reference_ratio(true, pred, fs=25, cap=1e6) == pytest.approx(expected, rel=1e-9)


def test_a_shift_beyond_reach_is_not_undone():
  true = ecg(25)
  within, beyond = ({lead: np.roll(y, k) for lead, y in true.items()} for k in (5, 7))
  assert scoring.reference_ratio(true, within, fs=25) > 5 * scoring.reference_ratio(true, beyond, fs=25)


@pytest.mark.parametrize('late', [1, 2])
def test_equal_correlations_take_the_smallest_lag_and_then_the_early_one(late):
  best = jax.jit(scoring._best_lag, static_argnames='max_shift')
  for at in range(10, 54):
    spike, pred = np.eye(64)[at], np.eye(64)[at - late] + np.eye(64)[at + 1]  # one bump `late` early, one 1 late
    assert best(jnp.asarray(spike), jnp.asarray(pred), jnp.ones(64, bool), max_shift=4) == -1
    assert scoring._reference_power(spike, pred, max_shift=4) == pytest.approx(reference.lead_power(spike, pred, 4))


def test_an_offset_of_each_lead_is_free():
  true = ecg(25)
  noisy = {lead: true[lead] + 0.1 * noise_like(true)[lead] for lead in LEADS}
  lifted = {lead: y + i - 5 for i, (lead, y) in enumerate(noisy.items())}
  assert scoring.reference_ratio(true, lifted, fs=25) == pytest.approx(
    scoring.reference_ratio(true, noisy, fs=25), rel=1e-9
  )


@st.composite
def images(draw):
  """fs, label and prediction: quarter-millivolt steps full of ties and flats, or random walks without any."""
  fs = draw(st.sampled_from([4, 8, 12]))
  rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
  stepped, span = draw(st.booleans()), draw(st.integers(0, 3))

  def make(n):
    if stepped:
      return rng.integers(-span, span + 1, n) / 4 + rng.integers(-2, 3)
    return rng.normal(size=n).cumsum() * 0.3

  true = {lead: make(n) for lead, n in lengths(fs).items()}
  related = draw(st.booleans())
  shift = draw(st.integers(-3, 3))
  pred = {lead: np.roll(y, shift) * 0.9 + make(len(y)) / 4 if related else make(len(y)) for lead, y in true.items()}
  return fs, true, pred


@settings(max_examples=60, deadline=None)
@given(images())
def test_any_image_agrees_with_the_slow_loop(image):
  fs, true, pred = image
  signal, noise = reference.image_power(true, pred, fs)
  expected = signal / noise if noise else scoring.CAP_OPEN
  assert scoring.reference_ratio(true, pred, fs=fs, cap=scoring.CAP_OPEN) == pytest.approx(
    min(expected, scoring.CAP_OPEN), rel=1e-9, abs=1e-300
  )
  with jax.enable_x64(True):
    got = jnp_power(true, pred, fs)
  assert float(got[0]) == pytest.approx(signal, rel=1e-12)
  # 1e-6 dB of a ratio is 2.3e-7 of the noise.
  assert float(got[1]) == pytest.approx(noise, rel=2.3e-7, abs=1e-25)


def test_the_gradient_by_the_prediction_matches_finite_differences():
  true = ecg(25)
  pred = {lead: np.roll(true[lead], 2) * 0.9 + 0.05 * noise_like(true)[lead] for lead in LEADS}
  with jax.enable_x64(True):
    y, valid = pack(true)
    p, _ = pack(pred, fill=3.0)

    @jax.jit
    def db(p):
      return scoring.score_db(scoring.ratio(*scoring.power(y, p, valid, max_shift=5), cap=1e9))

    slope = jax.jit(jax.grad(db))(p)
    way = jnp.asarray(np.random.default_rng(2).normal(size=p.shape))
    step = 1e-6
    assert float(jnp.vdot(slope, way)) == pytest.approx(
      float(db(p + step * way) - db(p - step * way)) / (2 * step), rel=1e-6
    )
    assert jnp.abs(slope).max() > 0 and (slope[~valid] == 0).all()


def test_the_gradient_is_finite_at_silence_and_at_perfection():
  true = pack(ecg(25), fill=0.0)[0]
  valid = pack(ecg(25))[1]

  @jax.jit
  @jax.grad
  def slope(p, y):
    return scoring.score_db(scoring.ratio(*scoring.power(y, p, valid, max_shift=5)))

  for y, p in ((true, true), (0 * true, true), (0 * true, 0 * true), (true, 0 * true)):
    assert np.isfinite(slope(p, y)).all()


def test_power_maps_over_a_batch_and_holds_strict_types():
  true, pred = ecg(25), noise_like(ecg(25))
  y, valid = pack(true)
  p = pack(pred)[0]
  with jax.numpy_dtype_promotion('strict'), jax.numpy_rank_promotion('raise'):
    batch = jax.vmap(lambda *a: scoring.power(*a, max_shift=5))(
      jnp.stack([y, p]), jnp.stack([p, y]), jnp.stack([valid, valid])
    )
    db = scoring.score_db(scoring.ratio(*batch)[None], axis=1)
  assert db.shape == (1,) and db.dtype == jnp.float32
  assert batch[0][0] == pytest.approx(float(power(y, p, valid, max_shift=5)[0]), rel=1e-5)  # float32
  assert batch[1][1] == pytest.approx(float(power(p, y, valid, max_shift=5)[1]), rel=1e-5)


def test_a_lead_without_samples_adds_nothing():
  y, valid = pack(ecg(25), fill=0.0)
  rest = power(y[1:], 2 * y[1:], valid[1:], max_shift=5)
  without = power(y, 2 * y, valid.at[0].set(False), max_shift=5)
  assert np.allclose(rest, without, rtol=1e-6)
  with jax.debug_nans(True):
    slope = jax.grad(lambda p: scoring.power(y, p, valid.at[0].set(False), max_shift=5)[1])(2 * y)
  assert (slope[0] == 0).all()


def test_a_score_is_the_mean_of_ratios_not_of_db():
  assert scoring.reference_score([100.0, 0.0]) == pytest.approx(10 * np.log10(50))
  assert float(scoring.score_db(jnp.array([100.0, 0.0]))) == pytest.approx(10 * np.log10(50))


@pytest.mark.parametrize('side', ['true', 'pred'])
@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_a_nan_or_inf_on_either_side_is_refused(side, bad):
  leads = {'true': published(), 'pred': published()}
  leads[side]['V3'][1] = bad
  with pytest.raises(ValueError, match=f'{side} lead V3 has a nan or inf; the competition refuses both'):
    scoring.reference_ratio(leads['true'], leads['pred'], fs=1)
  assert not np.isfinite(jnp_power(leads['true'], leads['pred'], 1)[1])


def test_images_that_do_not_fit_are_refused():
  true = published()
  with pytest.raises(ValueError, match='pred has no lead V6; the score needs all of I, II'):
    scoring.reference_ratio(true, {lead: y for lead, y in true.items() if lead != 'V6'}, fs=1)
  with pytest.raises(
    ValueError, match=r'lead V1: true \(3,\) and pred \(2,\) must be one shape .* obey number_of_rows'
  ):
    scoring.reference_ratio(true, true | {'V1': true['V1'][:2]}, fs=1)
  with pytest.raises(ValueError, match=r'lead V1: true \(0,\) and pred \(0,\)'):
    scoring.reference_ratio(true | {'V1': np.zeros(0)}, true | {'V1': np.zeros(0)}, fs=1)
  with pytest.raises(ValueError, match=r'fs=2 must be int\(len\(II\) / 10\) = 1; see fs in train.csv or test.csv'):
    scoring.reference_ratio(true, true, fs=2)
  for ratios in ([], [-1.0], [np.nan]):
    with pytest.raises(ValueError, match='need at least one, all >= 0'):
      scoring.reference_score(ratios)
  x = jnp.zeros((2, 5))
  with pytest.raises(ValueError, match=r'true \(2, 5\), pred \(2, 5\), valid \(5,\) must be one shape \(L, T\)'):
    scoring.power(x, x, x[0] == 0, max_shift=1)
  with pytest.raises(ValueError, match=r'max_shift=-1 must be >= 0; take it from max_shift_samples'):
    scoring.power(x, x, x == 0, max_shift=-1)


def test_correlation_and_error_skip_gaps_and_are_nan_in_silence():
  rng = np.random.default_rng(3)
  y = rng.normal(size=50)
  p = 0.5 * y + rng.normal(size=50)
  assert scoring.pearson_r(y, p) == pytest.approx(np.corrcoef(y, p)[0, 1])
  assert scoring.rmse_uv(y, y + 0.002) == pytest.approx(2.0)
  gappy = np.where(np.arange(50) < 10, np.nan, p)
  assert scoring.pearson_r(y, gappy) == scoring.pearson_r(y[10:], p[10:])
  assert scoring.rmse_uv(gappy, y) == scoring.rmse_uv(p[10:], y[10:])
  assert np.isnan(scoring.pearson_r(y, np.full(50, 0.1))) and np.isnan(scoring.pearson_r(np.full(50, 0.1), y))
  nothing = np.full(50, np.nan)
  assert np.isnan(scoring.pearson_r(y, nothing)) and np.isnan(scoring.rmse_uv(y, nothing))
  with pytest.raises(ValueError, match=r'true \(50,\) and pred \(49,\) must be 1-D and of one length'):
    scoring.rmse_uv(y, y[1:])


def test_a_report_agrees_with_its_parts_and_aligns_only_the_db():
  true = ecg(25)
  pred = {lead: np.roll(y, 1) + 0.01 * noise_like(true)[lead] + 0.5 for lead, y in true.items()}
  report = scoring.image_report(true, pred, fs=25)
  assert report.ratio == scoring.reference_ratio(true, pred, fs=25)
  assert report.ratio_open == scoring.reference_ratio(true, pred, fs=25, cap=scoring.CAP_OPEN)
  assert report.db_open == scoring.reference_score([report.ratio_open])
  assert list(report.lead_db) == list(report.lead_r) == list(report.lead_rmse_uv) == list(LEADS)
  assert report.lead_r['V2'] == scoring.pearson_r(true['V2'], pred['V2']) < 0.99
  assert report.lead_rmse_uv['V2'] == scoring.rmse_uv(true['V2'], pred['V2']) > 500
  signal, noise = reference.lead_power(true['V2'], pred['V2'], 5)
  assert report.lead_db['V2'] == pytest.approx(10 * np.log10(signal / noise), abs=1e-9)
