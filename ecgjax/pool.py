"""Child processes, each with its share of the machine: a task that hangs or kills its process costs itself alone."""

import concurrent.futures
import glob
import hashlib
import importlib.util
import os
import pathlib
import platform
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MEMORY_BYTES = 8 << 30  # of a child; a page needs 2 GiB
PLUGINS = {'GPU': ('jax_cuda12_plugin', 'jax_cuda13_plugin', 'jax_rocm60_plugin', 'jax_rocm7_plugin'), 'TPU': ('libtpu',)}  # of JAX
# what Linux shows of devices; glob's patterns
SHOWN = {'GPU': ('/dev/nvidia[0-9]', '/dev/nvidia[0-9][0-9]'), 'TPU': ('/dev/accel[0-9]', '/dev/vfio/[0-9]', '/dev/vfio/[0-9][0-9]')}
AHEAD = 4  # tasks handed out for each process, so that none waits and any number of them needs little memory


def programs_folder() -> pathlib.Path:
  """Returns where compiled programs are kept from one run to the next: below XDG_CACHE_HOME, one folder for each kind of CPU."""
  home = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache')
  try:
    flags = next(line for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines() if line.startswith(('flags', 'Features')))
  except (OSError, StopIteration):
    flags = platform.processor()
  return home / 'ecgjax' / hashlib.sha256(f'{platform.machine()} {flags}'.encode()).hexdigest()[:12]


def cores() -> int:
  """Returns how many cores this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def usable(kind: str) -> bool:
  """Whether the installed JAX can use devices of a kind, 'GPU' or 'TPU'."""
  return any(importlib.util.find_spec(name) for name in PLUGINS[kind])


def devices(kind: str, *, environ: Mapping[str, str] = os.environ) -> list[str]:
  """Returns the names of this machine's devices of a kind, 'GPU' (NVIDIA's alone) or 'TPU', that JAX can use and this process may."""
  if not usable(kind) or environ.get('JAX_PLATFORMS') == 'cpu':
    return []
  told = environ.get('CUDA_VISIBLE_DEVICES' if kind == 'GPU' else 'TPU_VISIBLE_CHIPS')
  if told is not None:
    return [name for name in told.split(',') if name not in ('', '-1')]
  return [str(n) for n in range(sum(len(glob.glob(pattern)) for pattern in SHOWN[kind]))]


def device(number: int, *, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
  """Returns what gives one of several children its device, to be put into its environment before JAX is imported.

  A GPU serves several; a TPU chip serves one process, so those beyond the chips read on the cores.

  Args:
    number: of the child, from 0.
    environ: in which the child is.
  """
  gpus, chips = devices('GPU', environ=environ), devices('TPU', environ=environ)
  if chips:
    one = {'TPU_VISIBLE_CHIPS': chips[number % len(chips)], 'TPU_CHIPS_PER_PROCESS_BOUNDS': '1,1,1', 'TPU_PROCESS_BOUNDS': '1,1,1'}
    return one if number < len(chips) else {'JAX_PLATFORMS': 'cpu'}
  return {'CUDA_VISIBLE_DEVICES': gpus[number % len(gpus)]} if gpus else {}


def readers() -> int:
  """Returns how many pages this machine reads at once: as many as it has devices, or cores where it has none."""
  return len(devices('GPU') + devices('TPU')) or cores()


def children(jobs: int, *, place: str = '', shares: int = 0):
  """Returns a pebble.ProcessPool of so many child processes, each with its share of the machine (see `prepare`).

  Args:
    jobs: processes.
    place: a name for all pools that share the machine's cores among them, and whose devices somebody else has shared out; a pool has
      cores and devices for itself where it is empty.
    shares: into which the cores are parted; as many as jobs where it is 0.
  """
  import multiprocessing
  import uuid

  import pebble

  # glibc looks at it when a child starts: with huge pages for its many large arrays a page of ECG takes a fifth less time
  os.environ.setdefault('GLIBC_TUNABLES', 'glibc.malloc.hugetlb=1')
  share = (place or uuid.uuid4().hex, shares or jobs, not place)
  return pebble.ProcessPool(max_workers=jobs, context=multiprocessing.get_context('spawn'), initializer=prepare, initargs=share)


def keep_programs() -> None:
  """Has JAX keep what it compiles in `programs_folder`; to be called before JAX is imported."""
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(programs_folder()))
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')


_claims: list[socket.socket] = []  # open as long as this process lives


def _claimed(name: str) -> bool:
  """Whether nobody else on this machine has the name; from now on, and until it ends however that happens, this process has it."""
  claim = socket.socket(socket.AF_UNIX)
  try:
    claim.bind(f'\0ecgjax-{name}')  # no file: Linux keeps such names by itself
  except OSError:
    claim.close()
    return False
  _claims.append(claim)
  return True


def _end_with(parent: int) -> None:
  """Ends this process when its parent has ended: who would kill a task that hangs, or take its result?"""
  while os.getppid() == parent:
    time.sleep(1)
  os._exit(1)


def prepare(place: str, shares: int, with_device: bool) -> None:
  """Gives a child process its share of cores, devices and memory and the programs of earlier runs, before anything heavy is imported.

  Args:
    place: name of the pools that share the cores, see `children`.
    shares: into which they are parted; the child takes the first that is free.
    with_device: whether it takes a device, too.
  """
  import resource

  keep_programs()
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # or the first child would take most of a GPU's memory
  threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
  if shares > 1:
    mine = next((i for i in range(shares) if _claimed(f'{place}-{i}')), 0)
    os.environ.update(device(mine) if with_device else {})
    if hasattr(os, 'sched_setaffinity'):
      cores = sorted(os.sched_getaffinity(0))
      os.sched_setaffinity(0, {core for i, core in enumerate(cores) if i % shares == mine} or {cores[mine % len(cores)]})
  hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
  resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard), hard))


def answers(pool, function: Callable, take: Callable[[], tuple[Any, list] | None], *, jobs: int, limit_s: float) -> Iterator[tuple]:
  """Has tasks done.

  Args:
    pool: pebble.ProcessPool.
    function: what a child does.
    take: gives the next task, what it is and the function's arguments, or None if there is none now; it is asked again after each answer.
    jobs: processes of the pool.
    limit_s: for one task; its process is killed after it, and another takes its place.

  Yields:
    (what, result, '', seconds) of each task as it is done, or (what, None, why there is none, seconds).
  """
  running: dict[Any, tuple[Any, float]] = {}
  while True:
    while len(running) < AHEAD * jobs and (task := take()) is not None:
      running[pool.schedule(function, args=task[1], timeout=limit_s)] = task[0], time.perf_counter()
    if not running:
      return
    done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
    for job in done:
      what, start = running.pop(job)
      result, lost = answer(job, limit_s=limit_s)
      yield what, result, lost, time.perf_counter() - start


def answer(job, *, limit_s: float) -> tuple[Any, str]:
  """Returns (a job's result, ''), or (None, why there is none): it took longer than `limit_s`, or its process ended."""
  try:
    return job.result(), ''
  except concurrent.futures.TimeoutError:
    return None, f'given up after {limit_s:g} s'
  except Exception as error:  # the process died: memory, a decoder's crash
    return None, f'the process that read it ended ({type(error).__name__}: {error})'
