"""Training as a person runs it: one process learns and leaves its files, resumes to the bit, and says what is wrong."""

import json
import math
import os
import pathlib
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from ecgjax.networks import backbones, weight_files
from ecgjax.training import checkpoints, examples, loop, schedule

ROOT = pathlib.Path(__file__).resolve().parents[1]
STEPS = 4  # of the debug config


def environment(*, cache=None, devices=1):
  # compiling is nearly all of a debug run's time; optimization does not change what is tested here
  env = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
         'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices} --xla_cpu_use_fusion_emitters=false'}  # fmt: skip
  if cache:
    env |= {'JAX_COMPILATION_CACHE_DIR': str(cache), 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
  return env


DRAWN, PLAIN = ('-m', 'ecgjax.train'), ('tests/plain_training.py',)  # the second draws waves instead of pages: it starts in a third


def command(workdir, *options, variant='debug', program=DRAWN):
  return [sys.executable, *program, '--config', f'{ROOT}/configs/unet.py:{variant}', '--workdir', str(workdir), *options]


def run(workdir, *options, cache=None, devices=1, variant='debug', program=DRAWN):
  called = command(workdir, *options, variant=variant, program=program)
  env = environment(cache=cache, devices=devices)
  return subprocess.run(called, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope='module')
def finished(tmp_path_factory, compiled):
  """A debug run from beginning to end: its folder and its process."""
  workdir = tmp_path_factory.mktemp('run')
  process = run(workdir, cache=compiled)
  assert process.returncode == 0, process.stderr
  return workdir, process


def states(workdir):
  """The raw state of every checkpoint."""
  from flax import serialization

  folders = sorted((workdir / 'checkpoints').iterdir())
  return {int(p.name[-8:]): serialization.msgpack_restore((p / 'state.msgpack').read_bytes()) for p in folders}


def journal(workdir):
  return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def losses(workdir):
  return {line['step']: line['loss'] for line in journal(workdir) if 'loss' in line}


def test_a_debug_run_leaves_a_journal_checkpoints_weights_and_pictures(finished):
  workdir, process = finished
  steps = [line for line in journal(workdir) if 'loss' in line]
  assert [line['step'] for line in steps] == [1, 2, 3, 4] and all(math.isfinite(line['loss']) for line in steps)
  assert all(line['grad_norm'] > 0 and 0 <= line['waiting'] <= 1 for line in steps)
  assert sorted(states(workdir)) == [2, 4]
  params, meta = weight_files.load_weights(workdir / 'trace.safetensors')
  net = backbones.network(**meta['model'])
  weight_files.compare(params, jax.eval_shape(net.init, jax.random.key(0)), 'weights')
  assert meta['step'] == STEPS and meta['strip']['layout'] == '3x4+II'
  pictures = re.findall(r'^picture (.*)$', process.stdout, flags=re.M)
  assert pictures and all(pathlib.Path(p).read_bytes().startswith(b'\x89PNG') for p in pictures)
  assert 'score dB' in process.stdout and 'step 4/4' in process.stderr


def test_a_debug_run_learns_something_and_ships_the_moving_average(finished):
  workdir, _ = finished
  state = states(workdir)[STEPS]
  flat = dict(weight_files._flatten(state['params']))
  ema = dict(weight_files._flatten(state['ema']))
  assert any(np.abs(flat[k] - ema[k]).max() > 1e-6 for k in flat)
  shipped = dict(weight_files._flatten(weight_files.load_weights(workdir / 'trace.safetensors')[0]))
  assert {k: v.shape for k, v in shipped.items()} == {tuple(int(p) if p.isdigit() else p for p in k): v.shape for k, v in ema.items()}
  for key, value in ema.items():
    np.testing.assert_allclose(shipped[tuple(int(p) if p.isdigit() else p for p in key)], value, rtol=2.0**-8, atol=1e-30)


def test_training_resumes_exactly(finished, tmp_path, compiled):
  workdir, _ = finished
  shutil.copytree(workdir / 'checkpoints/step_00000002', tmp_path / 'checkpoints/step_00000002')
  process = run(tmp_path, cache=compiled)
  assert process.returncode == 0, process.stderr
  assert 'resumed after step 2' in process.stderr and 'step 1/4' not in process.stderr
  straight, resumed = states(workdir)[STEPS], states(tmp_path)[STEPS]
  jax.tree.map(np.testing.assert_array_equal, straight, resumed)
  assert losses(tmp_path) == {k: v for k, v in losses(workdir).items() if k > 2}


def test_a_run_does_not_go_on_with_other_data(finished, tmp_path, compiled):
  workdir, _ = finished
  shutil.copytree(workdir / 'checkpoints/step_00000002', tmp_path / 'checkpoints/step_00000002')
  process = run(tmp_path, '--config.data.strength=0.5', cache=compiled)
  assert process.returncode == 1 and 'Traceback' not in process.stderr
  assert f'{tmp_path} holds a run with another config.data' in process.stderr and 'choose another --workdir' in process.stderr


@pytest.mark.slow
def test_a_run_by_time_ends_with_it_writes_weights_on_the_way_and_a_second_start_has_none_left(tmp_path, compiled):
  by_time = ('--config.schedule=time', '--config.max_minutes=0.05', '--config.total_steps=100000', '--config.weights_at=(0.5,)',
             '--config.loss.signal_weight=0.3', '--config.loss.signal_path=False', '--config.loss.signal_from=0.5')  # fmt: skip
  process = run(tmp_path, *by_time, cache=compiled)
  assert process.returncode == 0, process.stderr
  steps = [line['step'] for line in journal(tmp_path) if 'loss' in line]
  middle, last = (weight_files.load_weights(tmp_path / f'{name}.safetensors')[1]['step'] for name in ('trace_50', 'trace'))
  assert 1 < middle < last == steps[-1] < 100_000
  again = run(tmp_path, *by_time, cache=compiled)
  assert again.returncode == 0 and f'resumed after step {last}' in again.stderr
  assert 'config.max_minutes=0.05 are over; raise it' in again.stderr and max(states(tmp_path)) == last


@pytest.mark.slow
def test_a_run_that_is_told_to_stop_saves_and_goes_on_to_the_same_end(finished, tmp_path, compiled):
  workdir, _ = finished
  with subprocess.Popen(command(tmp_path), cwd=ROOT, env=environment(cache=compiled), stderr=subprocess.PIPE, text=True) as process:
    assert process.stderr
    for line in process.stderr:
      if line.startswith('step 1/'):
        process.send_signal(signal.SIGTERM)
  assert process.returncode == 0
  assert max(states(tmp_path)) <= STEPS
  assert run(tmp_path, cache=compiled).returncode == 0
  jax.tree.map(np.testing.assert_array_equal, states(workdir)[STEPS], states(tmp_path)[STEPS])


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run_and_the_command_it_names_stops_at_the_very_step(tmp_path, compiled):
  # of the second step, after a warm-up from 0: the third step's loss is no number
  wild = ('--config.optim.peak_lr=10', '--config.optim.muon_rms=1000')
  late = sentence(run(tmp_path, *wild, '--config.log_every=4', cache=compiled))
  assert re.search(r'loss is \S+, gradient \S+ at step 4, seed 0, and was sound at step 2\.', late)
  assert sorted(states(tmp_path)) == [2] and not (tmp_path / 'trace.safetensors').exists()
  replayed = run(tmp_path, *wild, '--config.log_every=1', cache=compiled)
  assert 'resumed after step 2' in replayed.stderr and ' at step 3, seed 0, and was sound at step 2.' in sentence(replayed)


KILLS = 20


@pytest.mark.slow
def test_a_run_that_is_killed_twenty_times_ends_with_the_state_of_one_that_was_not(tmp_path, compiled):
  chance, options = np.random.default_rng(0), ('--config.total_steps=120', '--config.ckpt_every=1', '--config.eval_every=1000')
  undisturbed = tmp_path / 'undisturbed'
  assert run(undisturbed, *options, cache=compiled, program=PLAIN).returncode == 0
  for _ in range(KILLS):
    env, called = environment(cache=compiled), command(tmp_path, *options, program=PLAIN)
    with subprocess.Popen(called, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) as process:
      assert process.stderr
      for line in process.stderr:
        if line.startswith('step '):  # it is about to save this step, or saves it
          time.sleep(chance.uniform(0, 0.4))
          process.kill()
          break
    assert process.wait() == -signal.SIGKILL
  assert run(tmp_path, *options, cache=compiled, program=PLAIN).returncode == 0
  jax.tree.map(np.testing.assert_array_equal, states(undisturbed)[120], states(tmp_path)[120])


ON_DEVICES = """
import json, pathlib, runpy, sys
from ml_collections import ConfigDict
from ecgjax.training import loop
c = runpy.run_path('configs/unet.py')['get_config']('debug')
c.batch_size, c.evals, c.total_steps = 8, ConfigDict(), 3
if sys.argv[2] == 'plain':
  sys.path.append('tests')
  import plain_training
  plain_training.patch()
for word in sys.argv[3:]:
  c[word.split('=')[0]] = json.loads(word.split('=')[1])
loop.train(c, pathlib.Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_however_pages_and_their_columns_are_shared_out_the_losses_are_the_same(tmp_path):
  plain = [(1,), (2,), (8,), (8, 'width_shards=4'), (2, 'accumulate=4'), (8, 'width_shards=2', 'accumulate=2'), (1, 'remat=true')]
  found = {}
  for strips, devices, *options in [('plain', *way) for way in plain] + [('drawn', *way) for way in (plain[0], plain[5])]:
    workdir = tmp_path / '-'.join([strips, str(devices), *options])
    script = [sys.executable, '-c', ON_DEVICES, str(workdir), strips, *options]
    process = subprocess.run(script, cwd=ROOT, env=environment(devices=devices), capture_output=True, text=True, timeout=900)
    assert process.returncode == 0, process.stderr
    assert f' {devices} x cpu' in process.stderr
    found[workdir.name] = [line['loss'] for line in journal(workdir) if 'loss' in line]
  print(found)
  assert len(found['plain-1']) == len(found['drawn-1']) == 3 and found['plain-1'] != found['drawn-1']
  for way, losses in found.items():  # sums are taken in another order
    np.testing.assert_allclose(losses, found[f'{way.split("-")[0]}-1'], rtol=1e-5)


def sentence(process):
  """The error line of a run that must have failed with one clear sentence."""
  assert process.returncode not in (0, None)
  assert 'Traceback' not in process.stderr + process.stdout
  (found,) = [line for line in process.stderr.splitlines() if line.startswith('error: ')]
  assert process.stderr.rstrip().endswith(found)
  return found


@pytest.mark.parametrize(
  ('options', 'devices', 'text'),
  [
    (('--config.totl_steps', '3'), 1, r'Did you mean "total_steps"'),
    (('--config.batch_size=3',), 2, r'config.batch_size=3 must be a multiple of the 2 devices'),
    (('--config.accumulate=2',), 2, r'config.batch_size=2 must be a multiple of the 2 devices times config.accumulate=2'),
    (('--config.width_shards=3',), 2, r'config.width_shards=3 must divide the 2 devices of a host'),
    (('--config.data.signals=/no/where.npy.xz',), 1, r'no pack /no/where.npy.xz'),
    (('--config.init_from=/no/where.safetensors',), 1, r'no weights file /no/where.safetensors'),
    pytest.param(('--config.strip.height_px=600',), 1, r'strips are .* need multiples of \(32, 64\)', marks=pytest.mark.slow),
  ],
)
def test_a_mistake_ends_with_one_sentence(tmp_path, options, devices, text):
  process = run(tmp_path, *options, devices=devices)
  assert re.search(text, sentence(process)), process.stderr
  assert not (tmp_path / 'checkpoints').exists()


def test_an_unknown_variant_names_the_others(tmp_path):
  assert re.search(r'configs/unet.py:debgu does not exist; choose one of base, small, debug', sentence(run(tmp_path, variant='debgu')))


def test_a_checkpoint_of_another_model_ends_with_one_sentence(tmp_path):
  checkpoints.save(tmp_path / 'checkpoints', {'params': {'stem': np.zeros(3)}}, step=2, meta={})
  found = sentence(run(tmp_path))
  assert re.search(r'step_00000002 is a checkpoint of another model: .* there and .* here', found)
  assert [p.name for p in (tmp_path / 'checkpoints').iterdir()] == ['step_00000002']


def config(variant, name='unet'):
  return runpy.run_path(str(ROOT / f'configs/{name}.py'))['get_config'](variant)


SETTINGS = [(v, name) for name in ('unet', 'finetune') for v in ('', 'base', 'small', 'debug')]


@pytest.mark.parametrize(('variant', 'name'), SETTINGS)
def test_the_config_fits_together(variant, name):
  c = config(variant, name)
  net = backbones.network(**c.model)
  assert c.strip.height_px % net.stride[0] == 0 and c.strip.window_px % net.stride[1] == 0
  c.total_steps = 77
  assert c.optim.decay_steps == 77  # follows


def test_something_done_every_few_steps_is_also_done_at_the_last():
  assert [step for step in range(1, 12) if loop.every(step, 4, 11)] == [4, 8, 11]


def test_a_stream_is_a_function_of_the_step_and_an_epoch_shows_every_record_once():
  pack = np.arange(6, dtype=np.int16)[:, None, None] * np.ones((1, 8, 5000), np.int16)
  stream = examples.stream(pack, batch_size=2, seed=3)
  shown = [stream(step)['pack'][:, 0, 0].tolist() for step in range(6)]
  assert sorted(sum(shown[:3], [])) == sorted(sum(shown[3:], [])) == list(range(6)) and shown[:3] != shown[3:]
  assert [examples.stream(pack, batch_size=2, seed=3)(step)['pack'][:, 0, 0].tolist() for step in (5, 0)] == [shown[5], shown[0]]


def test_the_commit_is_that_of_this_code_alone_and_says_if_it_was_changed(tmp_path, monkeypatch):
  git = lambda *words: subprocess.run(['git', '-C', str(tmp_path), *words], check=True, capture_output=True, text=True).stdout.strip()
  own, installed = tmp_path / 'ecgjax' / 'training' / 'loop.py', tmp_path / '.venv' / 'lib' / 'ecgjax' / 'training' / 'loop.py'
  for path in (own, installed):
    path.parent.mkdir(parents=True)
    path.write_text('')
  git('init', '-q')
  git('add', 'ecgjax')
  git('-c', 'user.name=x', '-c', 'user.email=x@example.org', 'commit', '-qm', 'x')
  monkeypatch.setattr(loop, '__file__', str(own))
  assert loop.commit() == git('rev-parse', 'HEAD')
  own.write_text('changed = True')
  assert loop.commit() == git('rev-parse', 'HEAD') + '+'
  monkeypatch.setattr(loop, '__file__', str(installed))
  assert loop.commit() == ''  # of the project around it
  monkeypatch.setattr(loop, '__file__', str(own))
  monkeypatch.setenv('PATH', str(tmp_path))
  assert loop.commit() == ''  # without git


def test_a_run_ends_when_its_minutes_are_over():
  before = signal.getsignal(signal.SIGTERM)
  try:
    clock = lambda minutes: schedule.Clock(schedule='steps', total_steps=9, max_minutes=minutes, signal_from=0.0, used_s=1.0)
    assert not loop._Stop(clock(0.0)).due(1) and not loop._Stop(clock(1.0)).due(1)
    stop = loop._Stop(clock(0.01))
    assert stop.due(1) and not stop.signalled
    stop = loop._Stop(clock(0.0))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)
    assert stop.due(1) and stop.signalled
  finally:
    signal.signal(signal.SIGTERM, before)
