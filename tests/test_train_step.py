"""The pure update: how long its steps are, what it minimises, and how examples are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ecgjax.networks import unet
from ecgjax.training import examples, losses, sharding, train_step
from ecgjax.training.schedule import Pace

NOW = Pace(1.0, 1.0)


def test_the_learning_rate_warms_up_and_cools_down():
  tx = train_step.optimiser(peak_lr=1.0, warmup_steps=10, decay_steps=110, weight_decay=0.0, clip_norm=1e9, muon_rms=0.2)
  params = {'w': jnp.float32(0.0)}

  def sizes(opt, _):
    updates, opt = tx.update({'w': jnp.float32(1.0)}, opt, params)
    return opt, -updates['w']

  # of a steady gradient Adam makes steps as long as the learning rate, longer at first with Nesterov's look ahead (Dozat, 2016)
  t = np.arange(1, 121)
  ahead = 0.9 * (1 - 0.9**t) / (1 - 0.9 ** (t + 1)) + 0.1 / (1 - 0.9**t)
  lr = np.asarray(jax.lax.scan(sizes, tx.init(params), length=120)[1]) / ahead
  np.testing.assert_allclose(lr[:11], np.arange(11) / 10, atol=1e-3)
  np.testing.assert_allclose(lr[10:110], 0.01 + 0.99 * (1 + np.cos(np.pi * np.arange(100) / 100)) / 2, atol=2e-3)
  np.testing.assert_allclose(lr[110:], 0.01, atol=1e-3)


def test_a_kernels_step_is_as_long_in_directions_of_which_few_examples_tell_and_a_heads_is_adams():
  lr, shape = 0.01, (3, 3, 4, 8)
  params = {'stem': {'kernel': jnp.zeros(shape), 'bias': jnp.zeros(8)}, 'head': {'kernel': jnp.zeros(shape)}}
  u, _, v = np.linalg.svd(np.random.default_rng(0).normal(size=(36, 8)), full_matrices=False)
  loud_and_soft = jnp.asarray(((u * np.geomspace(1, 0.02, 8)) @ v).reshape(shape), jnp.float32)
  grads = {'stem': {'kernel': loud_and_soft, 'bias': jnp.arange(1.0, 9.0)}, 'head': {'kernel': loud_and_soft}}
  tx = train_step.optimiser(peak_lr=lr, warmup_steps=0, decay_steps=1000, weight_decay=0.0, clip_norm=1e9, muon_rms=0.2)
  steps, _ = tx.update(grads, tx.init(params), params)
  step = -np.asarray(steps['stem']['kernel'])
  sizes = np.linalg.svd(step.reshape(36, 8), compute_uv=False)
  assert sizes.max() / sizes.min() < 1.8 and np.vdot(step, loud_and_soft) > 0  # the gradient's: 50
  np.testing.assert_allclose(np.sqrt(np.mean(step**2)), lr * 0.2, rtol=0.15)
  for adams, grad in ((steps['stem']['bias'], grads['stem']['bias']), (steps['head']['kernel'], loud_and_soft)):
    np.testing.assert_allclose(adams, -lr * (1 + 0.9 * 0.1 / 0.19) * np.sign(grad), rtol=1e-2)  # its first, with Nesterov's look ahead


def test_an_update_is_the_gradient_of_both_losses_and_the_average_follows():
  rows, height, width = 2, 16, 8
  example = examples.Example(
    jnp.ones((3, rows, height, width, 5)), jnp.full((3, rows, width), 5.0), jnp.ones((3, rows, width), bool),
    jnp.zeros((3, rows, height, width, 3)),
  )  # fmt: skip

  def apply(params, strips):
    scores = params['w'] * strips[..., 0] * jnp.arange(height)[:, None]
    return unet.Scores(params['v'] * strips[..., :4], scores, jnp.full((rows, width), -1.0))

  def loss(params, example, pace):
    how = {'sigma_px': 1.5, 'class_weight': 0.5, 'signal_weight': 0.0, 'signal_path': True}
    return losses.trace_loss(apply(params, example.strips), example.rows_px, example.printed, example.inks, signal_on=pace.signal, **how)

  seen = []
  draw = lambda key, batch, part: (seen.append(key), example)[1]
  step = train_step.make_step(loss, optax.sgd(0.01), draw, ema_decay=0.9)
  params = {'w': jnp.float32(0.3), 'v': jnp.arange(4.0)}
  state = train_step.State(jnp.int32(0), params, optax.sgd(0.01).init(params), params)
  new, metrics = step(state, {}, jax.random.key(0), NOW)
  assert float(metrics['loss']) == pytest.approx(float(metrics['columns'] + 0.5 * metrics['classes']), rel=1e-6)
  again, later = step(new, {}, jax.random.key(0), NOW)
  assert float(later['loss']) < float(metrics['loss']) and int(again.step) == 2
  # the first average keeps a tenth of the old
  np.testing.assert_allclose(new.ema['v'], 0.1 * params['v'] + 0.9 * new.params['v'], rtol=1e-6)
  assert not np.array_equal(*(jax.random.key_data(k) for k in seen))  # every step draws anew
  assert float(metrics['grad_norm']) * 0.01 == pytest.approx(
    float(optax.global_norm(jax.tree.map(jnp.subtract, params, new.params))), rel=1e-4
  )


@pytest.mark.parametrize('together', [1, 2, 4])
def test_examples_do_not_depend_on_how_many_are_drawn_at_once(together):
  one = lambda key, item: jax.random.normal(key, (3,)) + item['pack']
  batch = {'pack': jnp.arange(8.0)}
  key = jax.random.key(5)
  judge = np.stack([one(k, {'pack': v}) for k, v in zip(jax.random.split(key, 8), batch['pack'], strict=True)])
  np.testing.assert_allclose(train_step.make_draw(one, together=together)(key, batch), judge, atol=1e-6)


def test_a_batch_learned_from_in_parts_gives_the_update_of_the_whole():
  def loss(params, example, pace):
    error = (params['w'] @ example - 1) ** 2
    return error, {'error': error}

  one = lambda key, item: jax.random.normal(key, (3,)) + item['pack']
  batch, params, tx = {'pack': jnp.arange(8.0)}, {'w': jnp.array([0.5, -0.2, 0.1])}, optax.sgd(0.1)
  state = train_step.State(jnp.int32(3), params, tx.init(params), params)

  def updated(accumulate):
    draw = train_step.make_draw(one, together=1, accumulate=accumulate)
    drawn = [draw(jax.random.key(0), batch, part) for part in range(accumulate)]
    assert {len(part) for part in drawn} == {8 // accumulate}
    step = train_step.make_step(loss, tx, draw, ema_decay=0.9, accumulate=accumulate)
    return np.sort(np.concatenate(drawn), axis=0), jax.jit(step)(state, batch, jax.random.key(7), NOW)

  whole, judge = updated(1)
  for accumulate in (2, 4):
    examples, found = updated(accumulate)
    np.testing.assert_array_equal(examples, whole)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, judge)


@pytest.mark.parametrize('shared', [False, True])
def test_damage_that_a_page_does_not_have_is_not_computed(shared):
  counted = []

  def one(key, item):
    worn = lambda x: (jax.debug.callback(lambda: counted.append(1)), x + 1)[1]
    return jax.lax.cond(item['strength'] > 0, worn, lambda x: x, item['strength'])

  draw = train_step.make_draw(one, together=1, mesh=sharding.data_mesh(batch_size=4) if shared else None)
  drawn = jax.jit(draw)(jax.random.key(0), {'strength': jnp.array([0.0, 1.0, 0.0, 0.0])})
  jax.effects_barrier()
  assert drawn.tolist() == [0, 2, 0, 0] and len(counted) == 1
