"""Child processes: what each has of the machine, and when it ends."""

import concurrent.futures
import fnmatch
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import pytest

from ecgjax.jobs import hardware, page_job, process_pool


@pytest.fixture
def given(monkeypatch):
  """(JAX's plugins, devices that the system shows, environment) -> what each of four children is given."""

  def children(plugins, shown, **environ):
    monkeypatch.setattr(hardware.importlib.util, 'find_spec', lambda name: name in plugins)
    monkeypatch.setattr(hardware.glob, 'glob', lambda pattern: fnmatch.filter(shown, pattern))
    return [hardware.device(number, environ=environ) for number in range(4)]

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
  with process_pool.Children(2) as children:
    both = lambda: [job.result() for job in [children.schedule(shares) for _ in range(2)]]
    found = both()
    assert {environ['CUDA_VISIBLE_DEVICES'] for _, _, environ in found} == {'4', '5'}
    assert {environ['XLA_PYTHON_CLIENT_PREALLOCATE'] for _, _, environ in found} == {'false'}
    if hardware.cores() > 1:
      assert not set(found[0][1]) & set(found[1][1])
    os.kill(found[0][0], signal.SIGKILL)
    again = both()
    assert found[0][0] not in [pid for pid, *_ in again]
    assert sorted(str(rest) for _, *rest in again) == sorted(str(rest) for _, *rest in found)
  with process_pool.Children(1, place='of-a-cluster', shares=2) as children:  # which has shared out its devices
    assert children.schedule(shares).result()[2]['CUDA_VISIBLE_DEVICES'] == '4,5'


def test_what_was_asked_while_children_with_nothing_to_do_are_killed_is_answered():
  with process_pool.Children(2) as children:
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
  process_pool.prepare(*share)


def test_a_task_that_no_child_lives_to_begin_is_given_up_and_those_that_came_after_it_are_done(monkeypatch):
  monkeypatch.setattr(process_pool, 'prepare', prepare_if_well)
  monkeypatch.setattr(process_pool, 'PAUSE_S', 0)
  monkeypatch.setenv('ILL', '1')
  with process_pool.Children(1) as children:
    first, second = (children.schedule(os.getpid) for _ in range(2))
    with pytest.raises(concurrent.futures.BrokenExecutor, match=f'tried {process_pool.TRIES} times'):
      first.result(timeout=60)
    assert children.unable == {0}
    monkeypatch.delenv('ILL')
    assert second.result(timeout=60) != os.getpid() and not children.unable


class Unstartable:
  """A child of a system that starts no process more."""

  active = False

  def schedule(self, **_):
    raise OSError(24, 'Too many open files')

  def stop(self):
    pass

  def join(self):
    pass


def test_no_task_is_lost_where_fewer_children_can_be_started_than_were_asked_for_and_where_none_can_that_is_an_error(monkeypatch):
  begun = process_pool._begun
  monkeypatch.setattr(process_pool, 'PAUSE_S', 0.02)
  for fit, done in ((1, 20), (0, None)):
    monkeypatch.setattr(process_pool, '_begun', lambda share, fit=fit: begun(share) if share[0] < fit else Unstartable())
    with process_pool.Children(2) as children:
      tasks = iter([(n, [n]) for n in range(20)])
      found = process_pool.answers(children, str, lambda tasks=tasks: next(tasks, None), limit_s=60)
      if done:
        assert sorted((task, result) for task, result, *_ in found) == [(n, str(n)) for n in range(20)]
      else:
        asking = [lambda found=found: list(found), lambda children=children: page_job.checked(children, page_job.Options())]
        asking.append(lambda children=children: page_job.counted(children, 'a.pdf', b'', limit_s=60))
        for ask in asking:
          with pytest.raises(concurrent.futures.BrokenExecutor, match=r'tried 6 times \(\[Errno 24\] Too many open files\)'):
            ask()


def test_a_library_that_would_end_the_process_costs_its_task_alone():
  with process_pool.Children(1) as children:
    tasks = iter([(code, [code]) for code in (3, 'words')])
    reasons = {code: lost for code, _, lost, _ in process_pool.answers(children, sys.exit, lambda: next(tasks, None), limit_s=60)}
    assert reasons == {code: f'the process that read it ended (RuntimeError: SystemExit: {code})' for code in (3, 'words')}
    assert children.schedule(abs, args=[-3]).result(timeout=60) == 3


def limits():
  """Soft limits of a child: of what a crash leaves, as it is, and of descriptors, set to 100 and then otherwise."""
  name = resource.RLIMIT_NOFILE
  resource.setrlimit(name, (100, 500))
  found = []
  for wanted, lower in ((50, False), (200, False), (1 << 60, False), (90, True)):
    hardware.limit('NOFILE', wanted, lower=lower)
    found.append(resource.getrlimit(name)[0])
  return resource.getrlimit(resource.RLIMIT_CORE)[0], resource.getrlimit(resource.RLIMIT_DATA)[0], found


def test_a_child_leaves_no_core_has_a_limit_of_memory_and_its_parent_may_open_more_files():
  core, files = (resource.getrlimit(name) for name in (resource.RLIMIT_CORE, resource.RLIMIT_NOFILE))
  resource.setrlimit(resource.RLIMIT_CORE, (core[1], core[1]))  # a system that would write them
  resource.setrlimit(resource.RLIMIT_NOFILE, (260, files[1]))
  try:
    with process_pool.Children(1) as children:
      assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256 + process_pool.FILES
      assert resource.getrlimit(resource.RLIMIT_CORE)[0] == core[1]  # the parent is whoever made the children: a notebook, say
      assert children.schedule(limits).result() == (0, process_pool.MEMORY_BYTES, [100, 200, 500, 90])
  finally:
    resource.setrlimit(resource.RLIMIT_CORE, core)
    resource.setrlimit(resource.RLIMIT_NOFILE, files)


def test_where_the_system_starts_no_more_threads_that_is_the_same_error(monkeypatch):
  started, begun = [], threading.Thread.start

  def start(thread):
    if thread.name.startswith('Thread') and len(started) == 2:
      raise RuntimeError("can't start new thread")
    started.append(thread)
    begun(thread)

  monkeypatch.setattr(threading.Thread, 'start', start)
  with pytest.raises(concurrent.futures.BrokenExecutor, match="3 children need more threads .*can't start new thread"):
    process_pool.Children(3)
  assert len(started) == 2 and not any(thread.is_alive() for thread in started)


def test_a_child_ends_with_its_parent(tmp_path):
  code = (
    'import os, time\nfrom ecgjax.jobs import process_pool\n'
    'if __name__ == "__main__":\n'
    '  children = process_pool.Children(1)\n  child = children.schedule(os.getpid).result()\n'
    '  children.schedule(time.sleep, args=[600])\n  time.sleep(0.5)\n  print(child, flush=True)\n  time.sleep(600)'
  )
  (tmp_path / 'parent.py').write_text(code)
  parent = subprocess.Popen([sys.executable, str(tmp_path / 'parent.py')], stdout=subprocess.PIPE, text=True)
  with parent.stdout as out:
    child = int(out.readline())
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
