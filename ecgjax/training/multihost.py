"""Several hosts in one run: joining, broadcasting the disk state of the first host, and stopping together."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ecgjax.ecg.errors import ECGError

AGREE_EVERY = 8  # steps between two questions whether a host must stop: asking makes the devices wait for the hosts


def join(hosts: str) -> None:
  """Joins this process to a group that trains together; to be called before JAX initialises its devices.

  Args:
    hosts: '' for one process alone; 'auto' where JAX detects the group (TPU pods, Slurm, Open MPI, Kubernetes); else
      'HOST:PORT,COUNT,RANK': address of the first process, number of processes, and rank of this one, from 0.

  Raises:
    ECGError: for any other text, or if JAX does not detect the group.
    RuntimeError: if the others do not join.
  """
  if not hosts:
    return
  if hosts == 'auto':
    jax.distributed.initialize()
    return
  try:
    address, count, rank = hosts.split(',')
    _, port = address.rsplit(':', 1)
    numbers = int(port), int(count), int(rank)
  except ValueError:
    raise ECGError(f'{hosts}: give auto, or HOST:PORT,COUNT,RANK, as 10.0.0.1:8476,2,0') from None
  if not 0 <= numbers[2] < numbers[1]:
    raise ECGError(f'{hosts}: of {count} processes the ranks are 0 to {numbers[1] - 1}')
  jax.distributed.initialize(address, numbers[1], numbers[2])


def any_host(flag: bool) -> bool:
  """Returns the logical or over all hosts; every host must call it."""
  from jax.experimental import multihost_utils

  return bool(np.any(multihost_utils.process_allgather(np.bool_(flag))))


def alone() -> bool:
  """Returns whether this is the only host."""
  return jax.process_count() == 1


def preempted(step: int) -> bool:
  """Returns whether any host got SIGTERM, on every host after the same step; every host must call it after every step."""
  from jax.experimental import multihost_utils

  return multihost_utils.reached_preemption_sync_point(step)


def of_first(ask: Callable[[], Any], like: Any) -> Any:
  """Evaluates a function on the first host, whose disk holds the run, and broadcasts its result.

  Args:
    ask: called on the first host only; returns arrays like `like`, or None.
    like: pytree of arrays of the same shapes and types.

  Returns:
    Its result, on every host.

  Raises:
    ECGError: on the first host the error of `ask`; on the others, that the first host failed.
  """
  if alone():
    return ask()
  from jax.experimental import multihost_utils

  answer, wrong = None, None
  if jax.process_index() == 0:
    try:
      answer = ask()
    except Exception as error:  # the others wait: they must get a status before it is raised
      wrong = error
  status = int(multihost_utils.broadcast_one_to_all(np.int32(2 if wrong else answer is not None)))
  if wrong:
    raise wrong
  if status == 2:
    raise ECGError('the first host could not begin; it says why')
  return multihost_utils.broadcast_one_to_all(like if answer is None else answer) if status else None
