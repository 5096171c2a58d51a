"""Child processes: what each has of the machine, and when it ends."""

import concurrent.futures
import fnmatch
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from ecgjax import machine, pool


@pytest.fixture
def given(monkeypatch):
  """(JAX's plugins, devices that the system shows, environment) -> what each of four children is given."""

  def children(plugins, shown, **environ):
    monkeypatch.setattr(machine.importlib.util, 'find_spec', lambda name: name in plugins)
    monkeypatch.setattr(machine.glob, 'glob', lambda pattern: fnmatch.filter(shown, pattern))
    return [machine.device(number, environ=environ) for number in range(4)]

  return children


def test_children_share_the_gpus_that_the_process_may_use_evenly(given):
  two = ['/dev/nvidia0', '/dev/nvidia1', '/dev/nvidiactl', '/dev/accel0']
  named = lambda found: [child.get('CUDA_VISIBLE_DEVICES') for child in found]
  assert named(given(['jax_cuda13_plugin'], two)) == ['0', '1', '0', '1']
  assert named(given(['jax_cuda13_plugin'], two, CUDA_VISIBLE_DEVICES='3,GPU-5a')) == ['3', 'GPU-5a', '3', 'GPU-5a']
  nothing = [{}] * 4
  assert given(['jax_cuda13_plugin'], two, CUDA_VISIBLE_DEVICES='') == nothing
  assert given(['jax_cuda13_plugin'], two, JAX_PLATFORMS='cpu') == nothing
  assert given(['jax_cuda13_plugin'], []) == given([], two) == nothing  # no GPU, or a JAX that knows none


def test_each_tpu_chip_has_one_child_and_the_others_read_on_the_cores(given):
  found = given(['libtpu'], ['/dev/vfio/0', '/dev/vfio/1', '/dev/vfio/vfio'])
  assert [child.get('TPU_VISIBLE_CHIPS') for child in found] == ['0', '1', None, None]
  assert [child.get('JAX_PLATFORMS') for child in found] == [None, None, 'cpu', 'cpu']
  assert all(child['TPU_PROCESS_BOUNDS'] == child['TPU_CHIPS_PER_PROCESS_BOUNDS'] == '1,1,1' for child in found[:2])


def shares():
  """What a child has: its cores, and what its environment says of devices; keeps it busy, so that the next task has another child."""
  time.sleep(0.3)
  cores = os.sched_getaffinity(0) if hasattr(os, 'sched_getaffinity') else set()
  return os.getpid(), sorted(cores), {name: os.environ.get(name) for name in ('CUDA_VISIBLE_DEVICES', 'XLA_PYTHON_CLIENT_PREALLOCATE')}


def test_each_child_has_a_device_and_cores_of_its_own_and_one_that_is_begun_anew_has_those_of_the_lost_one(monkeypatch, tmp_path):
  (tmp_path / 'jax_cuda13_plugin.py').touch()
  monkeypatch.syspath_prepend(tmp_path)  # as pebble's children have it
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,5')
  with pool.Children(2) as children:
    both = lambda: [job.result() for job in [children.schedule(shares) for _ in range(2)]]
    found = both()
    assert {environ['CUDA_VISIBLE_DEVICES'] for _, _, environ in found} == {'4', '5'}
    assert {environ['XLA_PYTHON_CLIENT_PREALLOCATE'] for _, _, environ in found} == {'false'}
    if machine.cores() > 1:
      assert not set(found[0][1]) & set(found[1][1])
    os.kill(found[0][0], signal.SIGKILL)
    again = both()
    assert found[0][0] not in [pid for pid, *_ in again]
    assert sorted(str(rest) for _, *rest in again) == sorted(str(rest) for _, *rest in found)
  with pool.Children(1, place='of-a-cluster', shares=2) as children:  # which has shared out its devices
    assert children.schedule(shares).result()[2]['CUDA_VISIBLE_DEVICES'] == '4,5'


def test_what_was_asked_while_children_with_nothing_to_do_are_killed_is_answered():
  with pool.Children(2) as children:
    ask = lambda: [children.schedule(len, args=[bytes(1 << 20)]) for _ in range(8)]  # more than a pipe holds
    assert [job.result() for job in ask()] == [1 << 20] * 8
    for _ in range(2):
      for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)
      assert [job.result(timeout=60) for job in ask()] == [1 << 20] * 8
    assert len(multiprocessing.active_children()) == 2  # those of the pool before are gone
  assert not multiprocessing.active_children()


def prepare_if_well(*share):
  if 'ILL' in os.environ:
    os._exit(3)
  pool.prepare(*share)


def test_a_task_that_no_child_lives_to_begin_is_given_up_and_those_that_came_after_it_are_done(monkeypatch):
  monkeypatch.setattr(pool, 'prepare', prepare_if_well)
  monkeypatch.setenv('ILL', '1')
  with pool.Children(1) as children:
    first, second = (children.schedule(os.getpid) for _ in range(2))
    with pytest.raises(concurrent.futures.BrokenExecutor, match=f'{pool.TRIES} times'):
      first.result(timeout=60)
    monkeypatch.delenv('ILL')
    assert second.result(timeout=60) != os.getpid()


def test_a_child_ends_with_its_parent(tmp_path):
  code = (
    'import os, time\nfrom ecgjax import pool\n'
    'if __name__ == "__main__":\n'
    '  children = pool.Children(1)\n  child = children.schedule(os.getpid).result()\n'
    '  children.schedule(time.sleep, args=[600])\n  time.sleep(0.5)\n  print(child, flush=True)\n  time.sleep(600)'
  )
  (tmp_path / 'parent.py').write_text(code)
  parent = subprocess.Popen([sys.executable, str(tmp_path / 'parent.py')], stdout=subprocess.PIPE, text=True)
  with parent.stdout as told:
    child = int(told.readline())
  os.kill(child, 0)
  parent.kill()
  parent.wait()
  for _ in range(50):
    time.sleep(0.1)
    try:
      os.kill(child, 0)
    except ProcessLookupError:
      return
  raise AssertionError('it is still there')
