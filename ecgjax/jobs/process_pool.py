"""Child processes, each with a share of the machine: a task that hangs or crashes takes down only its own process."""

import multiprocessing
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, TimeoutError, wait
from typing import Any

import pebble

from ecgjax.jobs import hardware

MEMORY_BYTES = 8 << 30  # of a child; a page needs 2 GiB
FILES = 8  # descriptors that a child costs its parent, and a little more
AHEAD = 4  # tasks handed out for each process, so that none waits and any number of them needs little memory
TRIES = 6  # of a task whose process could not be started, or ended before it said that it had begun
PAUSE_S = 1.0  # after the first of them, then twice as long each time: half a minute in all
LOST = (pebble.ProcessExpired, BrokenExecutor, CancelledError, TimeoutError)  # what ends a child, too

_claims: list[socket.socket] = []  # open as long as this process lives


def _claimed(name: str) -> bool:
  """Acquires a machine-wide name that is held until this process exits; returns False if another process holds it."""
  claim = socket.socket(socket.AF_UNIX)
  try:
    claim.bind(f'\0ecgjax-{name}')  # no file: Linux keeps such names by itself
  except OSError:
    claim.close()
    return False
  _claims.append(claim)
  return True


def _end_with(parent: int) -> None:
  """Ends this process when its parent has ended, because nothing else would stop a hanging task."""
  while os.getppid() == parent:
    time.sleep(1)
  os._exit(1)


def prepare(number: int, shares: int, place: str, parent: int) -> None:
  """Sets a child's share of cores, devices and memory and its cache of compiled programs, before anything heavy is imported.

  Args:
    number: of the child, from 0, which selects its share.
    shares: number of shares of the cores and devices.
    place: see `Children`; if not empty, the child takes the first free share, of cores alone.
    parent: id of the parent process, with which this one ends.
  """
  hardware.limit('CORE', 0)  # what a crash leaves would hold a patient's picture
  hardware.keep_programs()
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # or the first child would take most of a GPU's memory
  threading.Thread(target=_end_with, args=[parent], daemon=True).start()
  if shares > 1:
    mine = next((i for i in range(shares) if _claimed(f'{place}-{i}')), 0) if place else number
    os.environ.update({} if place else hardware.device(mine))
    if hasattr(os, 'sched_setaffinity'):
      cores = sorted(os.sched_getaffinity(0))
      os.sched_setaffinity(0, {core for i, core in enumerate(cores) if i % shares == mine} or {cores[mine % len(cores)]})
  hardware.limit('DATA', MEMORY_BYTES)


class Children:
  """Child processes, each with its share of the machine (see `prepare`), that run one task at a time; a context, which ends them.

  Each is a pebble.ProcessPool of one process. Children of one pool share a pipe: a child killed at the wrong moment leaves half a message
  there and a lock that is never released, and a child killed while none has a task ends the pool. With separate pools a killed child loses
  its own task only, and none if the task had not begun.
  """

  def __init__(self, jobs: int, *, place: str = '', shares: int = 0):
    """Prepares the children; a process starts with its first task.

    Args:
      jobs: number of processes.
      place: name of a group of pools that share the machine's cores and whose devices are assigned elsewhere; '' for a pool with cores and
        devices of its own.
      shares: number of shares of the cores; 0 for one per job.
    """
    # read by glibc when a child starts: with huge pages for its many large arrays a page takes a fifth less time
    os.environ.setdefault('GLIBC_TUNABLES', 'glibc.malloc.hugetlb=1')
    # likewise by NumPy's OpenBLAS: threads that wait for each other spin, which doubles the time on the cores and saves none
    os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
    hardware.limit('NOFILE', FILES * jobs + 256, lower=False)  # many systems allow 1,024
    self.jobs = jobs
    self.unable: set[int] = set()  # numbers of those of which no process could be started, the last time
    self._queue, self._due, self._threads = queue.SimpleQueue(), set(), []
    for number in range(jobs):
      thread = threading.Thread(target=_keep, args=(self._queue, self.unable, (number, shares or jobs, place)), daemon=True)
      try:
        thread.start()
      except RuntimeError as error:
        self.__exit__()
        raise BrokenExecutor(f'{jobs} children need more threads than the system starts ({error})') from error
      self._threads.append(thread)

  def schedule(self, function: Callable, *, args=(), kwargs: Mapping[str, Any] | None = None, timeout: float | None = None) -> Future:
    """Runs `function(*args, **kwargs)` in a child; returns a future, whose cancellation or `timeout` in s ends the child."""
    future = Future()
    self._due.add(future)
    future.add_done_callback(self._due.discard)
    self._queue.put((future, {'function': function, 'args': args, 'kwargs': kwargs or {}, 'timeout': timeout}))
    return future

  def __enter__(self):
    return self

  def __exit__(self, *_) -> None:
    for future in list(self._due):
      future.cancel()
    for _ in self._threads:
      self._queue.put(None)
    for thread in self._threads:
      thread.join()


def _keep(tasks: queue.SimpleQueue, unable: set[int], share: tuple[int, int, str]) -> None:
  """Runs the queued tasks in one child after the other, until a task is None."""
  child = _begun(share)
  while (one := tasks.get()) is not None:
    child = _answered(child, unable, share, *one)
  _end(child)


def _answered(child: pebble.ProcessPool, unable: set[int], share: tuple, future: Future, task: Mapping[str, Any]) -> pebble.ProcessPool:
  """Runs a task in a child and sets the future's result or error; returns the child, or its replacement."""
  error, result, ended = BrokenExecutor(), None, threading.Event()
  future.add_done_callback(lambda _: ended.set())
  for attempt in range(TRIES):
    if not isinstance(error, BrokenExecutor) or ended.wait(PAUSE_S * 2 ** (attempt - 1) if attempt else 0):
      break
    try:
      error, result = None, _done(child, future, task)
    except BaseException as raised:  # whatever it is, it belongs to who asked; a library's SystemExit would end this thread, or who asked
      error = raised if isinstance(raised, Exception) else RuntimeError(f'{type(raised).__name__}: {raised}')
    if isinstance(error, LOST):
      _end(child)
      child = _begun(share)
  if not isinstance(error, BrokenExecutor):
    unable.discard(share[0])
  elif not future.cancelled():
    unable.add(share[0])
    first: BaseException = error
    while first.__cause__:  # pebble's own errors have no words
      first = first.__cause__
    why = str(first) or 'no reason given'
    error = BrokenExecutor(f'no child process could be started, or each ended at once; tried {TRIES} times ({why})')
  if future.set_running_or_notify_cancel():
    future.set_exception(error) if error else future.set_result(result)
  return child


def _done(child: pebble.ProcessPool, future: Future, task: Mapping[str, Any]) -> Any:
  """Returns a child's result, or raises its exception, or BrokenExecutor if the child ended before the task began."""
  try:
    job = child.schedule(**task)
  except Exception as error:  # there is no process: it ended, or the system starts no more
    raise BrokenExecutor from error
  future.add_done_callback(lambda ended: ended.cancelled() and job.cancel())
  while not wait([job], timeout=1).done:
    if not child.active:
      raise BrokenExecutor
  return job.result()


def _begun(share: tuple[int, int, str]) -> pebble.ProcessPool:
  return pebble.ProcessPool(1, context=multiprocessing.get_context('spawn'), initializer=prepare, initargs=(*share, os.getpid()))


def _end(child: pebble.ProcessPool) -> None:
  child.stop()
  child.join()


def answers(children: Children, function: Callable, take: Callable[[], tuple[Any, list] | None], *, limit_s: float) -> Iterator[tuple]:
  """Runs tasks in children.

  Args:
    children: the processes.
    function: of the tasks.
    take: returns the next task, as its identity and the function's arguments, or None if there is none now; called again after each result.
    limit_s: time limit of one task; its process is then killed and replaced.

  Yields:
    (identity, result, '', seconds) of each finished task, or (identity, None, reason, seconds); seconds since it was handed out.

  Raises:
    BrokenExecutor: if none of the children can be started any more. Where some can, they run the tasks of the others, too.
  """
  running: dict[Any, tuple[tuple[Any, list], float]] = {}
  again: list[tuple[Any, list]] = []  # tasks that no process began
  while True:
    while len(running) < AHEAD * children.jobs and (task := again.pop() if again else take()) is not None:
      running[children.schedule(function, args=task[1], timeout=limit_s)] = task, time.perf_counter()
    if not running:
      return
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for job in done:
      task, start = running.pop(job)
      try:
        result, lost = answer(job, limit_s=limit_s)
      except BrokenExecutor:
        if len(children.unable) == children.jobs:
          raise
        again.append(task)
        continue
      yield task[0], result, lost, time.perf_counter() - start


def answer(job, *, limit_s: float) -> tuple[Any, str]:
  """Returns (a job's result, ''), or (None, reason) if the job took longer than `limit_s` or its process ended.

  Raises:
    BrokenExecutor: if no process could begin the job.
  """
  try:
    return job.result(), ''
  except TimeoutError:
    return None, f'given up after {limit_s:g} s'
  except BrokenExecutor:
    raise
  except Exception as error:  # the process died: memory, a decoder's crash
    return None, f'the process that read it ended ({type(error).__name__}: {error})'
