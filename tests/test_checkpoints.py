"""State on disk: what is restored is what was saved, or it is said why not."""

import json
import os
import resource
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ecgjax.locate import initial_guesses
from ecgjax.networks import unet, weight_files
from ecgjax.training import checkpoints


class State(NamedTuple):
  step: jax.Array
  params: dict
  opt: optax.OptState


def state(seed=0, width=5):
  rng = np.random.default_rng(seed)
  params = {'stem': {'kernel': jnp.asarray(rng.normal(size=(3, width)), jnp.float32)}, 'down': {0: {'bias': jnp.arange(4.0) + seed}}}
  return State(jnp.int32(seed), params, optax.adam(1e-3).init(params))


def refuse(text):
  raise AssertionError(f'a warning came where none was due: {text}')


def fill(folder, *steps):
  for step in steps:
    checkpoints.save(folder, state(step), step=step, meta={'commit': 'abc'})


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)
  assert jax.tree.structure(a) == jax.tree.structure(b)


def test_what_was_saved_is_restored_to_the_bit(tmp_path):
  fill(tmp_path, 7)
  found, step = checkpoints.restore(tmp_path, state(0), warn=refuse)
  assert step == 7
  assert_equal(found, state(7))
  meta = json.loads((tmp_path / 'step_00000007/meta.json').read_text())
  assert meta == {'step': 7, 'commit': 'abc'}


def test_without_a_checkpoint_there_is_nothing_to_restore(tmp_path):
  assert checkpoints.restore(tmp_path / 'never', state(), warn=refuse) is None


def test_the_newest_of_the_last_few_is_kept(tmp_path):
  fill(tmp_path, 1, 2, 3, 10)
  assert sorted(p.name for p in tmp_path.iterdir()) == ['step_00000003', 'step_00000010'] and checkpoints.KEEP == 2
  assert checkpoints.restore(tmp_path, state(), warn=refuse)[1] == 10


def test_saving_a_step_again_replaces_it(tmp_path):
  fill(tmp_path, 4)
  checkpoints.save(tmp_path, state(9), step=4, meta={})
  assert_equal(checkpoints.restore(tmp_path, state(), warn=refuse)[0], state(9))


def flip(path):
  data = bytearray((path / 'state.msgpack').read_bytes())
  data[len(data) // 2] ^= 1
  (path / 'state.msgpack').write_bytes(data)


def cut_short(path):
  (path / 'state.msgpack').write_bytes((path / 'state.msgpack').read_bytes()[:-7])


def empty(path):
  for file in path.iterdir():
    file.unlink()


def forget_the_state(path):
  (path / 'manifest.json').write_text('{}')


def break_the_manifest(path):
  (path / 'manifest.json').write_text('{"state.msgpack"')


def lose_the_meta(path):
  (path / 'meta.json').unlink()


DAMAGES = [flip, cut_short, empty, forget_the_state, break_the_manifest, lose_the_meta]


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path, damage):
  fill(tmp_path, 1, 2)
  damage(tmp_path / 'step_00000002')
  warnings = []
  found, step = checkpoints.restore(tmp_path, state(0), warn=warnings.append)
  assert step == 1
  assert_equal(found, state(1))
  (warning,) = warnings
  assert 'step_00000002 is damaged (' in warning and warning.endswith('); trying the one before')
  assert '()' not in warning


@pytest.mark.parametrize('damage', DAMAGES)
def test_with_every_checkpoint_damaged_the_run_stops(tmp_path, damage):
  fill(tmp_path, 1, 2)
  damage(tmp_path / 'step_00000001')
  damage(tmp_path / 'step_00000002')
  warnings = []
  with pytest.raises(ValueError, match=r'none of the 2 checkpoints in .* is sound; remove it or choose another --workdir'):
    checkpoints.restore(tmp_path, state(0), warn=warnings.append)
  assert len(warnings) == 2


def test_a_checkpoint_of_another_model_is_refused_by_the_first_array_that_differs(tmp_path):
  fill(tmp_path, 3)
  with pytest.raises(
    ValueError, match=r'step_00000003 is a checkpoint of another model: .*stem/kernel is \(3, 5\) there and \(3, 6\) here'
  ):
    checkpoints.restore(tmp_path, state(0, width=6), warn=refuse)


class Cut(Exception):
  """The power went."""


def die_before_the_rename(folder, step, monkeypatch):
  """Saves a step in a process that dies just before the rename."""

  def cut(*_):
    raise Cut

  with monkeypatch.context() as patch:
    patch.setattr(os, 'replace', cut)
    with pytest.raises(Cut):
      fill(folder, step)


def assert_only_the_first_is_left(folder):
  """After a save of step 2 that failed: step 1 is restored, and the next save leaves nothing of step 2."""
  found, step = checkpoints.restore(folder, state(0), warn=refuse)
  assert step == 1
  assert_equal(found, state(1))
  fill(folder, 3)
  assert sorted(p.name for p in folder.iterdir()) == ['step_00000001', 'step_00000003']


def test_an_interrupted_save_leaves_the_one_before_and_nothing_half_written(tmp_path, monkeypatch):
  fill(tmp_path, 1)
  die_before_the_rename(tmp_path, 2, monkeypatch)
  assert_only_the_first_is_left(tmp_path)


def test_an_interrupted_second_save_of_a_step_does_not_lose_the_first(tmp_path, monkeypatch):
  fill(tmp_path, 2)
  die_before_the_rename(tmp_path, 2, monkeypatch)
  assert checkpoints.restore(tmp_path, state(0), warn=refuse)[1] == 2


def test_a_full_disk_leaves_the_step_before_and_the_next_save_cleans_up(tmp_path):
  """The system itself refuses: no file may grow beyond 100 bytes."""
  fill(tmp_path, 1)
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
  try:
    with pytest.raises(OSError, match='File too large'):
      fill(tmp_path, 2)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert_only_the_first_is_left(tmp_path)


def test_only_the_first_host_writes(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, 'process_index', lambda: 1)
  fill(tmp_path, 1)
  assert list(tmp_path.iterdir()) == []


def test_weights_come_back_within_bfloat16_rounding(tmp_path):
  params = {**state(5).params, 'huge': jnp.array([3e38, 1e-37])}  # half precision holds neither
  weight_files.save_weights(tmp_path / 'w.safetensors', params, meta={'model': {'widths': [8]}, 'strip': {}, 'step': 3})
  found, meta = weight_files.load_weights(tmp_path / 'w.safetensors')
  assert meta == {'model': {'widths': [8]}, 'strip': {}, 'step': 3}
  assert jax.tree.structure(found) == jax.tree.structure(params)
  # bf16 keeps 8 bits of the fraction
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2.0**-8), found, params)
  assert {a.dtype for a in jax.tree.leaves(found)} == {np.dtype('float32')}
  weight_files.save_weights(tmp_path / 'w.safetensors', found, meta=meta)
  assert_equal(weight_files.load_weights(tmp_path / 'w.safetensors')[0], found)
  assert [p.name for p in tmp_path.iterdir()] == ['w.safetensors']


def test_interrupted_weights_leave_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / 'w.safetensors'
  weight_files.save_weights(path, state(1).params, meta={'model': {}})
  old = path.read_bytes()

  def cut(*_):
    raise Cut

  monkeypatch.setattr(os, 'replace', cut)
  with pytest.raises(Cut):
    weight_files.save_weights(path, state(2).params, meta={'model': {}})
  assert path.read_bytes() == old


@pytest.mark.parametrize(
  ('content', 'text'),
  [(None, 'no weights file .*; give --weights, .* base or small, or the path'), (b'not at all', 'is not a safetensors file')],
)
def test_what_is_no_weights_file_is_refused(tmp_path, content, text):
  path = tmp_path / 'w.safetensors'
  if content:
    path.write_bytes(content)
  with pytest.raises(ValueError, match=text):
    weight_files.load_weights(path)


def test_weights_without_their_network_are_refused(tmp_path):
  weight_files.save_weights(tmp_path / 'w.safetensors', state(0).params, meta={})
  with pytest.raises(ValueError, match='says nothing of the network it belongs to'):
    weight_files.load_weights(tmp_path / 'w.safetensors')


def test_one_networks_weights_do_not_pass_for_anothers():
  with pytest.raises(ValueError, match='page.safetensors belongs to another network: it says nothing of a strip'):
    weight_files.load_network(initial_guesses.WEIGHTS, unet.network, part='strip')
