"""A run's pace: how far it is by steps or by time, and what that does to a step."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ecgjax.networks import unet
from ecgjax.training import examples, losses, schedule, train_step

HOW = {'total_steps': 10, 'max_minutes': 2.0, 'signal_from': 0.2}


@pytest.fixture
def at(monkeypatch):
  """Sets what time it is, in seconds."""
  now = [1000.0]
  monkeypatch.setattr(schedule.time, 'monotonic', lambda: now[0])
  return lambda seconds: now.__setitem__(0, 1000.0 + seconds)


def test_by_time_the_rate_rises_at_once_stays_for_a_third_and_falls_by_half_a_cosine_to_nothing():
  shares = np.linspace(0, 1, 1001)
  rates = np.array([schedule.rate_at(s) for s in shares])
  assert rates[0] == schedule.FIRST and (rates[(shares >= 0.02) & (shares < 0.3)] == 1).all()
  late = shares >= 0.3
  np.testing.assert_allclose(rates[late], (1 + np.cos(np.pi * (shares[late] - 0.3) / 0.7)) / 2, atol=1e-12)
  assert rates[-1] == pytest.approx(0) and np.diff(rates[~late]).min() >= 0


def test_time_counts_from_the_first_step_on_and_with_what_was_used_before(at):
  clock = schedule.Clock(schedule='time', **HOW, used_s=30.0)
  at(500)  # compiling
  assert clock.used_s == 30 and clock.share(1) == 0.25 and not clock.over()
  clock.begin()
  at(530)
  clock.begin()  # once
  assert clock.used_s == 60 and clock.share(2) == 0.5
  at(591)
  assert clock.over() and clock.share(3) == 1


def test_by_steps_time_shapes_nothing_but_still_ends_the_run(at):
  clock = schedule.Clock(schedule='steps', **HOW)
  clock.begin()
  assert [clock.share(step) for step in (1, 6, 10)] == [0, 0.5, 0.9]
  assert clock.pace(0.9).rate == 1 and not clock.over()
  at(120)
  assert clock.over()
  endless = schedule.Clock(schedule='steps', **{**HOW, 'max_minutes': 0.0})
  assert endless.limit_s == math.inf and not endless.over()


def test_the_signal_counts_from_its_share_of_the_run_on():
  clock = schedule.Clock(schedule='time', **HOW)
  assert [clock.pace(share).signal for share in (0.0, 0.199, 0.2, 1.0)] == [0, 0, 1, 1]


def test_a_step_is_as_long_as_its_pace_says_and_the_signal_is_learned_only_once_it_counts():
  example = examples.Example(
    jnp.ones((1, 1, 64, 8, 5)), jnp.full((1, 1, 8), 20.0), jnp.ones((1, 1, 8), bool), jnp.zeros((1, 1, 64, 8, 3))
  )

  def loss(params, example, now):
    rows = -0.01 * (jnp.arange(64.0)[:, None] - params['w']) ** 2 * jnp.ones((1, 64, 8))
    scores = unet.Scores(jnp.zeros((1, 64, 8, 4)), rows, -jnp.ones((1, 8)))
    how = {'sigma_px': 1.5, 'class_weight': 0.0, 'signal_weight': 0.3, 'signal_path': False}
    return losses.trace_loss(scores, example.rows_px, example.printed, example.inks, signal_on=now.signal, **how)

  step = jax.jit(train_step.make_step(loss, optax.sgd(1.0), lambda key, batch, part: example, ema_decay=0.9))
  params = {'w': jnp.float32(25.0)}
  state = train_step.State(jnp.int32(0), params, optax.sgd(1.0).init(params), params)

  def learned(rate, signal):
    after, metrics = step(state, {}, jax.random.key(0), schedule.Pace(rate, signal))
    return float(after.params['w'] - 25), metrics

  (whole, early), (half, _), (late, both) = learned(1.0, 0.0), learned(0.5, 0.0), learned(1.0, 1.0)
  assert whole < 0 and half == pytest.approx(whole / 2, rel=1e-4)  # 25 has steps of 2e-6 in float32
  assert float(early['loss']) == pytest.approx(float(early['columns']), rel=1e-6)
  assert float(both['loss']) == pytest.approx(float(both['columns'] + 0.3 * both['signal']), rel=1e-6)
  assert late != pytest.approx(whole, rel=1e-2)
