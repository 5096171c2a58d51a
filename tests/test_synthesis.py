"""Simulated signals: judged by peak finders, spectra, closed forms and real recordings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from ecgjax.ecg import noise, packs, rhythm, synthesis, waveforms
from ecgjax.ecg.leads import LEADS

RATE_HZ = 500
KEYS = jax.random.split(jax.random.key(7), 64)
FEW = KEYS[:16]
LEAD = {name: i for i, name in enumerate(LEADS)}

# Compiling takes most of this file's time; without optimization it is halved.
QUICK = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
_records = jax.jit(jax.vmap(synthesis.simulate), compiler_options=QUICK)
_draws = jax.jit(
  jax.vmap(lambda key, beat, way: synthesis.draw(key, rhythm=beat, conduction=way, premature=False), (0, None, None)),
  compiler_options=QUICK,
)
_waveforms = jax.jit(jax.vmap(synthesis.waveform, (0, None)))
_rhythms = jax.jit(jax.vmap(lambda key, kind: rhythm.draw(key, kind=kind), (0, None)), compiler_options=QUICK)
_levels = jax.jit(jax.vmap(noise.draw), compiler_options=QUICK)


@pytest.fixture(scope='module')
def records():
  return np.asarray(_records(KEYS))


def clean(kind=rhythm.SINUS, conduction=waveforms.NORMAL, *, rate_hz=RATE_HZ):
  """Returns 16 patients without premature beats and their (16, 8, T) signals without noise."""
  patients = _draws(FEW, kind, conduction)
  return patients, np.asarray(_waveforms(patients, synthesis.times(rate_hz=rate_hz)))


def activity(eight):
  """(T,) how fast the eight leads change, smoothed over 40 ms: large in a QRS whatever its direction."""
  speed = np.sqrt((np.gradient(eight, axis=-1) ** 2).sum(axis=0))
  return signal.filtfilt(np.ones(20) / 20, 1.0, speed)


def r_times_s(eight):
  trace = activity(eight)
  peaks, _ = signal.find_peaks(trace, height=0.4 * np.percentile(trace, 99), distance=0.25 * RATE_HZ)
  return peaks / RATE_HZ


def qrs_s(eight, times_s):
  """Returns the median time around a beat during which the leads change fast."""
  speed = np.sqrt((np.gradient(eight, axis=-1) ** 2).sum(axis=0))
  inside = [round(t * RATE_HZ) for t in times_s if 0.2 < t < 9.8]
  return np.median([(speed[i - 60 : i + 60] > 0.12 * speed[i - 60 : i + 60].max()).sum() / RATE_HZ for i in inside])


def test_records_are_finite_and_within_the_range(records):
  assert records.shape == (64, 12, 5000) and records.dtype == np.float32
  assert np.isfinite(records).all() and np.abs(records).max() <= synthesis.MAX_MV * (1 + 1e-6)
  assert (records.std(axis=-1) > 0.005).all()


def test_einthovens_triangle_is_closed_in_every_record(records):
  x = {name: records[:, i].astype(np.float64) for name, i in LEAD.items()}
  ulp = 2 * synthesis.MAX_MV * 2.0**-23
  np.testing.assert_allclose(x['I'] + x['III'], x['II'], rtol=0, atol=ulp)
  np.testing.assert_allclose(x['aVR'] + x['aVL'] + x['aVF'], 0, rtol=0, atol=2 * ulp)
  np.testing.assert_allclose(x['aVL'], (x['I'] - x['III']) / 2, rtol=0, atol=ulp)
  np.testing.assert_allclose(x['aVF'], (x['II'] + x['III']) / 2, rtol=0, atol=ulp)


def test_a_key_gives_the_same_record_again_and_another_key_another(records):
  np.testing.assert_array_equal(np.asarray(_records(KEYS)), records)
  flat = records[:, LEAD['II']] - records[:, LEAD['II']].mean(axis=-1, keepdims=True)
  same = np.corrcoef(flat) - np.eye(64)
  assert np.abs(same).max() < 0.99


def test_amplitudes_are_those_of_real_recordings(records, shared):
  """A factor of 1.6 either way on medians of 64 records, whose own scatter is about a tenth."""
  real = packs.pack_to_mv(packs.load_pack(shared / 'data/ecg/val.npy.xz'))
  for measure in (
    lambda x: x.std(axis=-1),
    lambda x: np.percentile(np.abs(x - np.median(x, axis=-1, keepdims=True)), 99.9, axis=-1),
    lambda x: np.percentile(np.abs(np.diff(x, axis=-1)), 99.9, axis=-1),
  ):
    ratio = np.median(measure(records), axis=0) / np.median(measure(real), axis=0)
    assert (ratio > 1 / 1.6).all() and (ratio < 1.6).all(), dict(zip(LEADS, ratio.round(2), strict=True))


def test_a_sinus_rhythm_beats_when_and_as_often_as_drawn():
  patients, eight = clean()
  assert np.ptp(np.asarray(patients.rhythm.bpm)) > 30
  for drawn_s, bpm, record in zip(patients.rhythm.times_s, patients.rhythm.bpm, eight, strict=True):
    found_s = r_times_s(record)
    seen_s = np.asarray(drawn_s)[(np.asarray(drawn_s) > 0.1) & (np.asarray(drawn_s) < 9.9)]
    assert max(np.abs(found_s - t).min() for t in seen_s) < 0.04
    assert 60 / np.diff(found_s).mean() == pytest.approx(float(bpm), rel=0.06)


def test_fibrillation_is_irregular_and_has_no_p_wave():
  def variation(kind):
    patients, eight = clean(kind)
    steps = [np.diff(r_times_s(record)) for record in eight]
    return np.array([s.std() / s.mean() for s in steps]), np.asarray(patients.rhythm.p_wave)

  sinus, fibrillation, flutter = (variation(kind) for kind in (rhythm.SINUS, rhythm.FIBRILLATION, rhythm.FLUTTER))
  assert np.median(fibrillation[0]) > 0.12 > sinus[0].max() > np.median(flutter[0])
  assert sinus[1].all() and not fibrillation[1].any() and not flutter[1].any()


def test_flutter_waves_stand_at_the_drawn_rate_in_lead_ii():
  patients, _ = clean(rhythm.FLUTTER)
  silent = patients._replace(waves=patients.waves._replace(mv=0 * patients.waves.mv))
  eight = np.asarray(_waveforms(silent, synthesis.times(rate_hz=RATE_HZ)))
  hz, power = signal.periodogram(eight[:, 1], RATE_HZ, nfft=2**16)
  np.testing.assert_allclose(hz[power.argmax(axis=-1)], patients.rhythm.atrial_hz, atol=0.05)
  conducted = 60 * np.asarray(patients.rhythm.atrial_hz) / np.asarray(patients.rhythm.bpm)
  np.testing.assert_allclose(conducted, conducted.round(), atol=1e-3)


def test_blocks_widen_the_qrs():
  width = {}
  for way in (waveforms.NORMAL, waveforms.LBBB, waveforms.RBBB):
    patients, eight = clean(conduction=way)
    times_s = np.asarray(patients.rhythm.times_s)
    width[way] = np.median([qrs_s(e, t) for e, t in zip(eight, times_s, strict=True)])
  assert 0.05 < width[waveforms.NORMAL] < 0.11
  assert width[waveforms.LBBB] > width[waveforms.NORMAL] + 0.04
  assert width[waveforms.RBBB] > width[waveforms.NORMAL] + 0.02


def test_a_left_block_is_negative_in_v1_and_a_right_block_ends_positive():
  for way, sign, window_s in ((waveforms.LBBB, -1, (0.0, 0.04)), (waveforms.RBBB, 1, (0.04, 0.07))):
    patients, eight = clean(conduction=way)
    after_s = synthesis.times()[None] - patients.rhythm.times_s[:, 3, None]
    inside = (after_s > window_s[0]) & (after_s < window_s[1])
    v1 = np.array([record[2][np.asarray(i)].mean() for record, i in zip(eight, inside, strict=True)])
    assert (np.sign(v1) == sign).mean() > 0.8


def test_every_paced_beat_has_one_narrow_spike_before_it():
  patients, eight = clean(conduction=waveforms.PACED)
  for times_s, record in zip(np.asarray(patients.rhythm.times_s), eight, strict=True):
    jump = np.abs(np.diff(record, 2, axis=-1)).max(axis=0)
    spikes, _ = signal.find_peaks(jump, height=0.25 * jump.max(), distance=50)
    expected_s = times_s[(times_s > 0.15) & (times_s < 9.95)] - 0.088
    assert max(np.abs(spikes / RATE_HZ - t).min() for t in expected_s) < 0.008
  _, unpaced = clean(conduction=waveforms.LBBB)
  assert np.median(np.abs(np.diff(unpaced, 2)).max((1, 2))) < 0.2 * np.median(np.abs(np.diff(eight, 2)).max((1, 2)))


def test_ventricular_beats_come_early_and_the_pause_makes_up():
  drawn = jax.tree.map(np.asarray, _rhythms(jax.random.split(jax.random.key(1), 400), rhythm.SINUS))
  early, pair = [], []
  for times_s, ectopic, bpm in zip(drawn.times_s, drawn.ectopic, drawn.bpm, strict=True):
    for n in np.flatnonzero(ectopic[:-1]):
      if n and bpm < 100:  # faster hearts reach the refractory time, before which nothing beats
        early.append((times_s[n] - times_s[n - 1]) * bpm / 60)
        pair.append((times_s[n + 1] - times_s[n - 1]) * bpm / 60)
  assert len(early) > 50 and np.max(early) < 0.9
  assert np.median(pair) == pytest.approx(2.0, abs=0.02)
  assert not (drawn.ectopic[:, 1:] & drawn.ectopic[:, :-1]).any()
  assert (np.diff(drawn.times_s) > 0.26).all() and (drawn.times_s[:, 0] < 0).all() and (drawn.times_s[:, -1] > 10).all()


def test_rates_cover_bradycardia_and_tachycardia():
  bpm = np.asarray(_rhythms(jax.random.split(jax.random.key(1), 400), rhythm.SINUS).bpm)
  assert rhythm.MIN_BPM <= bpm.min() < 45 and 160 < bpm.max() <= rhythm.MAX_BPM and 65 < np.median(bpm) < 82


def test_the_rate_does_not_change_the_waveform():
  """Float32 times at 10 s are 1e-6 s apart, and a pacing spike climbs 2 V/s."""
  for way in (waveforms.NORMAL, waveforms.PACED):
    fine, coarse = clean(conduction=way)[1], clean(conduction=way, rate_hz=250)[1]
    np.testing.assert_allclose(fine[..., ::2], coarse, rtol=0, atol=5e-5 if way == waveforms.NORMAL else 5e-3)


@pytest.fixture(scope='module')
def levels():
  return _levels(jax.random.split(jax.random.key(2), 200))


@pytest.fixture
def quiet(levels):
  return jax.tree.map(lambda x: jnp.zeros_like(x[0]), levels)


@pytest.mark.parametrize('hum_hz', [50.0, 60.0])
def test_mains_hum_has_its_frequency_and_power(quiet, hum_hz):
  levels = quiet._replace(hum_hz=jnp.array(hum_hz), hum_mv=jnp.zeros(9).at[0].set(0.1))  # at the right arm
  eight = np.asarray(noise.leads(noise.hum(levels, synthesis.times())))
  hz, power = signal.periodogram(eight, RATE_HZ)
  assert (hz[power.argmax(axis=-1)] == hum_hz).all()
  at_hum = power[:, power[0].argmax()] * (hz[1] - hz[0])
  np.testing.assert_allclose(at_hum, 0.1**2 / 2 / np.array([1, 1] + 6 * [9]), rtol=1e-2)


def test_drawn_hum_is_50_or_60_hz_and_often_absent(levels):
  near = np.abs(np.asarray(levels.hum_hz)[:, None] - np.array([50.0, 60.0])) < 0.11
  assert near.any(axis=1).all() and near.any(axis=0).all()
  assert 0.1 < (np.asarray(levels.hum_mv).max(axis=1) > 0).mean() < 0.4


def test_muscle_noise_has_the_drawn_size_and_band(quiet):
  levels = quiet._replace(muscle_mv=jnp.full(9, 0.02), muscle_hz=jnp.array(60.0), burst_s=jnp.ones(2))
  eight = np.asarray(noise.muscle(jax.random.key(3), levels, synthesis.times()))
  np.testing.assert_allclose(eight.std(axis=-1), 0.02, rtol=0.1)
  hz, power = signal.welch(eight, RATE_HZ, nperseg=1000)
  band = (hz > 12) & (hz < 90)
  assert power[:, band].sum() > 0.95 * power.sum()


def test_a_step_at_an_electrode_decays_and_an_arm_shows_in_all_leads(quiet):
  levels = quiet._replace(step_mv=jnp.zeros(9).at[1].set(0.9), step_s=jnp.array([2.0, 0.5]))  # the left arm
  eight = np.asarray(noise.leads(noise.step(levels, synthesis.times())))
  assert not eight[:, :1000].any()
  np.testing.assert_allclose(eight[:, 1000], [0.9, 0.0] + 6 * [-0.3], atol=1e-6)
  np.testing.assert_allclose(eight[:, 1250], eight[:, 1000] / np.e, atol=1e-5)
