"""What the rows of a page show, without drawing it; that ink lies where this says is tested in test_render.py."""

import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.drawing import ground_truth
from ecgjax.ecg.leads import LEADS
from ecgjax.geometry import layouts

PAGE = layouts.make()
FS = 250


def test_nothing_is_printed_outside_the_row_or_in_a_join():
  times = np.array([-0.1, 0.0, 1.0, 2.496, 2.498, 2.5, 5.0, 9.996, 9.998, 10.1])
  mv = np.arange(12)[:, None] / 2 + np.zeros(10 * FS)
  values, printed = ground_truth.at(jnp.asarray(mv), times, layout=PAGE, rate_hz=FS)
  np.testing.assert_array_equal(printed[0], [False, True, True, True, False, True, True, True, False, False])
  np.testing.assert_array_equal(printed[3], [False, True, True, True, True, True, True, True, False, False])
  np.testing.assert_allclose(values[0][printed[0]], [LEADS.index(n) / 2 for n in ('I', 'I', 'I', 'aVR', 'V1', 'V4')])


def test_between_samples_the_truth_is_a_straight_line():
  mv = 0.4 * np.random.default_rng(0).normal(size=(12, 10 * FS))  # the rhythm strip has 2.1 mV of paper below it
  times = np.random.default_rng(1).uniform(0.0, 9.99, 300)
  times.sort()
  values, printed = ground_truth.at(jnp.asarray(mv, jnp.float32), times, layout=PAGE, rate_hz=FS)
  assert printed[3].all()
  np.testing.assert_allclose(values[3], np.interp(times, np.arange(10 * FS) / FS, mv[1]), atol=1e-4)


@pytest.mark.parametrize('fs', [250, 1025])
def test_the_first_sample_of_a_column_is_printed_at_its_very_start(fs):
  # at 1025 Hz column 1 begins with sample 2563, 0.5 samples after second 2.5
  mv = np.random.default_rng(0).uniform(-2, 2, size=(12, 10 * fs)).astype(np.float32)
  starts = np.array([0.0, 2.5, 5.0, 7.5])
  values, printed = ground_truth.at(jnp.asarray(mv), starts, layout=PAGE, rate_hz=fs)
  assert printed.all(1)[:3].all() and printed[3].all()
  for column, second in enumerate(starts):
    first = int(np.ceil(second * fs))
    for row, name in enumerate(('I aVR V1 V4', 'II aVL V2 V5', 'III aVF V3 V6')):
      assert values[row, column] == mv[LEADS.index(name.split()[column]), first]


@pytest.mark.parametrize(
  ('shape', 'rate_hz', 'text'),
  [
    ((8, 2500), 250, r'mv is \(8, 2500\); need \(12, T\) with at least one sample of each lead'),
    ((12, 0), 250, r'mv is \(12, 0\); need \(12, T\)'),
    ((2500,), 250, r'mv is \(2500,\); need \(12, T\)'),
    ((12, 2500), 49, r'rate_hz=49 is not within 50\.\.4000 Hz'),
    ((12, 2500), 4001, r'rate_hz=4001 is not within 50\.\.4000 Hz'),
  ],
)
def test_what_is_no_record_of_twelve_leads_is_refused(shape, rate_hz, text):
  with pytest.raises(ValueError, match=text):
    ground_truth.lay_out(np.zeros(shape), layout=PAGE, rate_hz=rate_hz)
