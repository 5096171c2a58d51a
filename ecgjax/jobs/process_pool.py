"""Child processes with a share of the machine each: a task that hangs or crashes takes down only its own process."""

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


def prepare(number: int, shares: int, place: str, parent: int) -> None:
  """Gives a child process its share of cores, devices and memory and the programs of earlier runs, before anything heavy is imported.

  Args:
    number: of the child, from 0, which says what its share is.
    shares: into which the cores and devices are parted.
    place: see `Children`; where there is one, the share is the first that is free, and of cores alone.
    parent: process that began this one, and with which it ends.
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
  """Child processes, each with its share of the machine (see `prepare`), that do a task each; a context, which ends them.

  Each is a pebble.ProcessPool of one. Children of one pool share a pipe: one that is killed at the wrong moment leaves half a message there
  and a lock that nobody opens, and one that is killed while none has a task ends the pool. Here it costs its own task, and not even that
  where it had not begun.
  """

  def __init__(self, jobs: int, *, place: str = '', shares: int = 0):
    """Makes them ready; a process begins with its first task.

    Args:
      jobs: processes.
      place: a name for all that share the machine's cores among them, and whose devices somebody else has shared out; they have cores and
        devices for themselves where it is empty.
      shares: into which the cores are parted; as many as jobs where it is 0.
    """
    # glibc looks at it when a child starts: with huge pages for its many large arrays a page of ECG takes a fifth less time
    os.environ.setdefault('GLIBC_TUNABLES', 'glibc.malloc.hugetlb=1')
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
    """Has a child call `function(*args, **kwargs)`; returns a future that ends the child when it is cancelled, or after `timeout` s."""
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
  """Has one child after the other do the tasks, until one is None."""
  child = _begun(share)
  while (one := tasks.get()) is not None:
    child = _answered(child, unable, share, *one)
  _end(child)


def _answered(child: pebble.ProcessPool, unable: set[int], share: tuple, future: Future, task: Mapping[str, Any]) -> pebble.ProcessPool:
  """Has a child do a task and the future tell what came of it; returns the child, or the one that took its place."""
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
  """Returns what a child's task returns, or raises what it raises, or BrokenExecutor if the child ended before it began."""
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
  """Has tasks done.

  Args:
    children: that do them.
    function: what a child does.
    take: gives the next task, what it is and the function's arguments, or None if there is none now; it is asked again after each answer.
    limit_s: for one task; its process is killed after it, and another takes its place.

  Yields:
    (what, result, '', seconds) of each task as it is done, or (what, None, why there is none, seconds); seconds since it was handed out.

  Raises:
    BrokenExecutor: if none of the children can be started any more. Where some can, they do the tasks of the others, too.
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
  """Returns (a job's result, ''), or (None, why there is none): it took longer than `limit_s`, or its process ended.

  Raises:
    BrokenExecutor: if there was no process to begin it.
  """
  try:
    return job.result(), ''
  except TimeoutError:
    return None, f'given up after {limit_s:g} s'
  except BrokenExecutor:
    raise
  except Exception as error:  # the process died: memory, a decoder's crash
    return None, f'the process that read it ended ({type(error).__name__}: {error})'
