"""The network and its losses: shapes, symmetries, and targets in closed form."""

import pathlib
import re
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from ecgjax.ecg.errors import ECGError
from ecgjax.extract import pixel_classes
from ecgjax.networks import backbones, unet, weight_files
from ecgjax.training import losses

ROWS, HEIGHT, WIDTH = 3, 32, 256
NET = unet.network(widths=(8, 8), cell=(4, 4), dtype='float32')


@pytest.fixture(scope='module')
def params():
  return jax.jit(NET.init)(jax.random.key(0))


@pytest.fixture(scope='module')
def apply():
  return jax.jit(NET.apply)


@pytest.fixture(scope='module')
def strips():
  return jax.random.uniform(jax.random.key(1), (ROWS, HEIGHT, WIDTH, unet.CHANNELS))


def assert_close(a, b, atol=1e-5):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a, b)


def test_scores_stand_at_every_px(apply, params, strips):
  found = apply(params, strips)
  assert found.classes.shape == (ROWS, HEIGHT, WIDTH, 4)
  assert found.rows.shape == (ROWS, HEIGHT, WIDTH) and found.hidden.shape == (ROWS, WIDTH)


def test_finer_columns_read_at_first_what_was_read_before_each_column_twice(apply, params, strips):
  script = runpy.run_path(str(pathlib.Path(__file__).parents[1] / 'scripts' / 'finer_columns.py'))
  finer = unet.network(widths=(8, 8), cell=(4, 8), dtype='float32')
  params = jax.tree.map(lambda a: a + 0.1 * jax.random.normal(jax.random.key(a.size), a.shape), params)  # biases begin at 0
  found = jax.jit(finer.apply)(script['finer'](params, (4, 4)), strips.repeat(2, axis=2))
  assert_close(found, jax.tree.map(lambda a: a.repeat(2, axis=2 if a.ndim > 2 else 1), apply(params, strips)), atol=1e-4)


def test_a_block_computed_anew_has_the_same_gradient_and_keeps_less(params, strips):
  again = unet.network(widths=(8, 8), cell=(4, 4), dtype='float32', remat=True)
  total = lambda net: lambda p: sum((part**2).mean() for part in jax.tree.leaves(net.apply(p, strips)))
  # what a gradient keeps is what the function that computes it holds
  kept = lambda net: sum(x.size for x in jax.tree.leaves(jax.eval_shape(lambda p: jax.vjp(total(net), p)[1], params)))
  assert kept(again) < 0.6 * kept(NET)
  assert_close(jax.jit(jax.grad(total(again)))(params), jax.jit(jax.grad(total(NET)))(params), atol=1e-6)


def test_bfloat16_computes_coarsely_but_keeps_parameters_and_scores_in_float32(apply, params, strips):
  net = unet.network(widths=(8, 8), cell=(4, 4), dtype='bfloat16')
  found = jax.jit(net.apply)(params, strips)
  assert {leaf.dtype for leaf in jax.tree.leaves((found, jax.eval_shape(net.init, jax.random.key(0))))} == {jnp.dtype('float32')}
  exact = apply(params, strips)
  error = float(jnp.abs(found.rows - exact.rows).max() / jnp.abs(exact.rows).max())
  assert 1e-5 < error < 0.1


@pytest.mark.parametrize('shape', [(30, 256, 5), (32, 252, 5), (32, 256, 3)])
def test_a_wrong_size_is_refused_with_the_multiples_needed(params, shape):
  with pytest.raises(ValueError, match=r'UNet: strips are \(.*\); 2 levels of \(4, 4\) px cells need multiples of \(8, 8\) and 5 chan'):
    jax.eval_shape(NET.apply, params, jnp.zeros((1, *shape)))


@pytest.mark.parametrize(('cell', 'levels', 'stride'), [((4, 4), 2, (8, 8)), ((2, 4), 4, (16, 32)), ((1, 2), 1, (1, 2))])
def test_the_stride_is_the_cell_doubled_at_every_level_below_the_first(cell, levels, stride):
  assert unet.network(widths=(8,) * levels, cell=cell, dtype='float32').stride == stride


def silent(params):
  """The same network whose exchange says nothing."""
  return {**params, 'exchange': {**params['exchange'], 'tell': jax.tree.map(jnp.zeros_like, params['exchange']['tell'])}}


def test_rows_hear_of_each_other_only_through_the_exchange(apply, params, strips):
  changed = strips.at[1].set(1 - strips[1])
  before, after = apply(params, strips), apply(params, changed)
  assert all(float(jnp.abs(before.rows[r] - after.rows[r]).max()) > 1e-3 for r in range(ROWS))
  before, after = apply(silent(params), strips), apply(silent(params), changed)
  for r, same in ((0, True), (1, False), (2, True)):
    assert all(bool(jnp.array_equal(a[r], b[r])) == same for a, b in zip(before, after, strict=True))


def test_the_exchange_keeps_to_its_column(params):
  exchange = unet.Exchange(8, dtype=jnp.float32, rngs=unet.nnx.Rngs(0))
  x = jax.random.normal(jax.random.key(2), (ROWS, 4, 10, 8))
  change = exchange(x.at[1, :, 6].add(1.0)) - exchange(x)
  moved = np.flatnonzero(np.abs(change[0]).max((0, 2)) > 1e-6)
  assert moved.tolist() == [6]


def test_one_row_alone_works(params):
  assert jax.eval_shape(NET.apply, params, jnp.zeros((1, 32, 64, 5))).rows.shape == (1, 32, 64)


def test_exchanging_the_rows_exchanges_the_scores(apply, params, strips):
  order = np.array([1, 0, 2])  # no turn, which a blind carousel of the rows would survive
  assert_close(apply(params, strips[order]), jax.tree.map(lambda a: a[order], apply(params, strips)))


def test_a_shift_by_the_stride_in_time_shifts_the_scores(apply, params):
  # a mark on plain ground, far from the ends: its shift leaves the norms' statistics as they are
  mark = jax.random.uniform(jax.random.key(3), (ROWS, HEIGHT, 16, unet.CHANNELS))
  plain = jnp.full((ROWS, HEIGHT, WIDTH, unet.CHANNELS), 0.4)
  stride = NET.stride[1]
  before, after = (apply(params, plain.at[:, :, at : at + 16].set(mark)) for at in (112, 112 + stride))
  inner = slice(64, WIDTH - 64)
  shifted = jax.tree.map(lambda a: jnp.roll(a, stride, axis=2 if a.ndim > 2 else 1), before)
  assert_close(
    Scores(after.classes[:, :, inner], after.rows[:, :, inner], after.hidden[:, inner]),
    Scores(shifted.classes[:, :, inner], shifted.rows[:, :, inner], shifted.hidden[:, inner]),
    atol=1e-4,
  )
  assert float(jnp.abs(before.rows - after.rows)[:, :, inner].max()) > 1e-2


Scores = unet.Scores


@pytest.mark.parametrize('cell', [(2, 2), (4, 2), (1, 4)])
def test_space_to_depth_gathers_cells_and_pixel_shuffle_undoes_it(cell):
  x = np.random.default_rng(0).normal(size=(2, 8, 12, 3))
  deep = np.asarray(unet.to_depth(jnp.asarray(x, jnp.float32), cell))
  for h, w in np.ndindex(*deep.shape[1:3]):
    block = x[1, h * cell[0] : (h + 1) * cell[0], w * cell[1] : (w + 1) * cell[1]]
    np.testing.assert_allclose(deep[1, h, w], block.reshape(-1), rtol=1e-6)
  np.testing.assert_allclose(unet._to_space(jnp.asarray(deep), cell), x, rtol=1e-6)


def test_halving_is_the_mean_of_four_and_doubling_repeats():
  x = np.random.default_rng(1).normal(size=(1, 4, 6, 2))
  small = unet._halve(jnp.asarray(x, jnp.float32))
  np.testing.assert_allclose(small[0, 1, 2], x[0, 2:4, 4:6].mean((0, 1)), atol=1e-6)
  np.testing.assert_allclose(unet._halve(unet._double(small)), small, atol=1e-6)


def parameters_by_hand(widths, cell):
  area, total = cell[0] * cell[1], 0
  block = lambda a, b: 9 * a * b + 9 * b * b + 4 * b + (a * b if a != b else 0)
  total += 9 * 5 * area * widths[0] + widths[0]
  total += sum(block(a, b) for a, b in zip((widths[0], *widths), widths, strict=False))
  total += 2 * (2 * widths[-1] ** 2 + widths[-1])
  total += sum(block(below + own, own) for own, below in zip(widths[:-1], widths[1:], strict=True))
  return total + widths[0] * area * 5 + area * 5 + 2 * widths[0] * cell[1] + cell[1]


@pytest.mark.parametrize('variant', ['small', 'base'])
def test_the_config_says_how_many_parameters_its_network_has(variant):
  path = pathlib.Path(__file__).parents[1] / 'configs/unet.py'
  config = runpy.run_path(str(path))
  c = config['get_config'](variant).model
  shapes = jax.eval_shape(backbones.network(**c).init, jax.random.key(0))
  count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))
  assert count == parameters_by_hand(tuple(c.widths), tuple(c.cell))
  stated = re.search(rf'unet.py:{variant} .* ([0-9.]+) M parameters', config['__doc__'])
  assert stated and count / 1e6 == pytest.approx(float(stated[1]), rel=0.02)


def test_weights_of_another_kind_find_their_network_and_those_without_one_the_first(tmp_path, monkeypatch):
  def mean(**options):
    assert options == {'dtype': 'float32', 'cell': [1, 1]}
    init = lambda key: {'level': jnp.zeros(3)}
    return unet.Network(init, lambda params, x: x.mean(), (1, 1))

  monkeypatch.setitem(backbones.BACKBONES, 'mean', backbones.Backbone(mean, None))
  model, strip = {'dtype': 'float32', 'cell': [1, 1]}, {'layout': '3x4+II', 'rate_hz': 500, 'height_px': 640}
  weight_files.save_weights(tmp_path / 'w', {'level': np.ones(3)}, meta={'model': {'kind': 'mean', **model}, 'strip': strip})
  net, params, _ = weight_files.load_network(tmp_path / 'w', backbones.network, part='strip')
  assert float(net.apply(params, jnp.arange(3.0))) == 1 and params['level'].shape == (3,)
  with pytest.raises(ECGError, match='mean cannot be written as ONNX: read with --engine jax'):
    backbones.onnx_writer({'kind': 'mean', **model}, params)
  own = {'widths': (8, 8), 'cell': (4, 4), 'dtype': 'float32'}
  assert backbones.network(**own).stride == backbones.network(kind='unet', **own).stride == unet.network(**own).stride
  with pytest.raises(ECGError, match="no network of kind 'transformer': config.model.kind must be one of unet, mean"):
    backbones.network(kind='transformer')


def target_scores(target):
  logp = jnp.log(target + 1e-30)
  return unet.Scores(jnp.zeros((*target[..., :-1, :].shape, 4)), logp[..., :-1, :], logp[..., -1, :])


def rows_and_printed(seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.uniform(12, 52, (2, 40)), jnp.float32), jnp.asarray(rng.uniform(size=(2, 40)) < 0.8)


@pytest.mark.parametrize('sigma', [1.0, 1.5, 2.5])
def test_a_target_sums_to_one_and_its_mean_is_the_row(sigma):
  rows, printed = rows_and_printed()
  target = losses.column_target(rows, printed, height_px=64, sigma_px=sigma)
  assert target.shape == (2, 65, 40)
  np.testing.assert_allclose(target.sum(1), 1.0, atol=1e-6)
  np.testing.assert_array_equal(target[:, -1] == 1, ~printed)
  mean = jnp.einsum('rhw,h->rw', target[:, :-1], jnp.arange(64) + 0.5)
  np.testing.assert_allclose(mean[printed], rows[printed], atol=1e-3)
  spread = jnp.einsum('rhw,rhw->rw', target[:, :-1], (jnp.arange(64)[:, None] + 0.5 - rows[:, None]) ** 2)
  np.testing.assert_allclose(spread[printed], sigma**2, rtol=1e-3)


def test_a_trace_that_leaves_the_strip_is_hidden():
  target = losses.column_target(jnp.array([[-0.5, 0.0, 64.0, 64.5]]), jnp.ones((1, 4), bool), height_px=64, sigma_px=1.5)
  np.testing.assert_array_equal(target[0, -1], [1, 0, 0, 1])


def test_column_loss_is_zero_at_the_target_and_positive_elsewhere():
  rows, printed = rows_and_printed()
  target = losses.column_target(rows, printed, height_px=64, sigma_px=1.5)
  loss = jax.jit(lambda s: losses.column_xent(s, rows, printed, sigma_px=1.5))
  assert float(loss(target_scores(target))) == pytest.approx(0, abs=1e-5)
  off = losses.column_target(rows + 1, printed, height_px=64, sigma_px=1.5)
  # two Gaussians of the same width, one px apart, differ by 1 / (2 sigma^2)
  assert float(loss(target_scores(off))) == pytest.approx(float(printed.mean()) / (2 * 1.5**2), rel=0.02)
  even = unet.Scores(jnp.zeros(()), jnp.zeros((2, 64, 40)), jnp.zeros((2, 40)))
  entropy = 0.5 * np.log(2 * np.pi * np.e * 1.5**2) * float(printed.mean())
  assert float(loss(even)) == pytest.approx(np.log(65) - entropy, rel=1e-3)


def test_signal_loss_is_noise_over_signal_as_the_score_has_it():
  rows, printed = rows_and_printed()
  scores = lambda at: target_scores(losses.column_target(at, printed, height_px=64, sigma_px=1.5))
  loss = jax.jit(lambda at: losses.signal_noise(scores(at), rows, printed))
  count, signal = int(printed.sum()), float(((rows - 32) ** 2)[printed].sum())
  for off_px in (0.25, -1.0):
    assert float(loss(rows + off_px)) == pytest.approx(np.log(count * off_px**2 / signal + losses.NOISE_FLOOR), abs=0.02)
  assert float(loss(rows)) == pytest.approx(np.log(losses.NOISE_FLOOR), abs=0.1)


def test_signal_loss_leaves_out_what_follows_another_trace_and_draws_the_rest_to_its_row():
  rows, printed = jnp.full((1, 16), 20.0), jnp.ones((1, 16), bool)
  target = losses.column_target(rows.at[0, 3].set(75.0) + 0.5, printed, height_px=96, sigma_px=1.5)
  loss = jax.jit(jax.value_and_grad(lambda scores: losses.signal_noise(scores, rows, printed)))
  value, slope = loss(target_scores(target))
  assert float(value) == pytest.approx(np.log(0.5**2 / (20 - 48) ** 2 + losses.NOISE_FLOOR), abs=0.02)
  assert not np.asarray(slope.rows[0, :, 3]).any()
  assert (np.asarray(slope.rows[0, 18, :3]) < 0).all() and (np.asarray(slope.rows[0, 22, :3]) > 0).all()


def test_classes_are_peeled_off_from_the_top():
  inks = np.random.default_rng(0).uniform(-0.1, 1.1, size=(3, 5, 7, 3))
  got = np.asarray(pixel_classes.class_target(jnp.asarray(inks, jnp.float32)))
  for at in np.ndindex(3, 5, 7):
    np.testing.assert_allclose(got[at], reference.classes_of_a_px(*inks[at]), atol=1e-6)
  np.testing.assert_allclose(got.sum(-1), 1, atol=1e-6)


def test_class_loss_is_the_targets_entropy_at_the_target_and_log_four_for_no_idea():
  inks = jnp.asarray(np.random.default_rng(0).uniform(0.1, 0.9, size=(2, 4, 6, 3)), jnp.float32)
  target = np.float64(pixel_classes.class_target(inks))
  scores = lambda classes: unet.Scores(classes, jnp.zeros(()), jnp.zeros(()))
  met = losses.class_xent(scores(jnp.log(jnp.asarray(target, jnp.float32)) + 3.0), inks)
  assert float(met) == pytest.approx(-(target * np.log(target)).sum(-1).mean(), rel=1e-5)
  assert float(losses.class_xent(scores(jnp.zeros((2, 4, 6, 4))), inks)) == pytest.approx(np.log(4), rel=1e-6)
