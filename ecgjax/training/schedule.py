"""Progress of a run, by steps or by time, and the learning rate as a function of it."""

import math
import time
from typing import Any, NamedTuple

import numpy as np

from ecgjax.training import multihost

# of a run that goes by time: the share in which the rate rises, what it begins with, and the share up to which it stays at its peak
WARM, FIRST, FLAT = 0.02, 0.02, 0.3


class Pace(NamedTuple):
  """Learning rate and loss weight of a step: () float32 each.

  Attributes:
    rate: the learning rate's share of its peak, beside the optimiser's own schedule.
    signal: 1 where the loss of the signal is included, 0 before (`config.loss.signal_from`).
  """

  rate: Any
  signal: Any


def rate_at(share: float) -> float:
  """Returns the learning rate's share of its peak at a share 0..1 of the time: a short rise, a plateau, half a cosine to 0."""
  if share < FLAT:
    return min(1.0, FIRST + share / WARM)
  return 0.5 * (1 + math.cos(math.pi * min(1.0, (share - FLAT) / (1 - FLAT))))


class Clock:
  """Progress of a run. Time counts from `begin`, because the compilation of the first step may take any time."""

  def __init__(self, *, schedule: str, total_steps: int, max_minutes: float, signal_from: float, used_s: float = 0.0):
    """Sets it.

    Args:
      schedule: 'steps' or 'time', the measure of progress.
      total_steps: number of steps.
      max_minutes: time limit, 0 for none.
      signal_from: share of the run after which the signal's loss is included.
      used_s: time used before the run was resumed.
    """
    self.by_time, self.total_steps, self.signal_from = schedule == 'time', total_steps, signal_from
    self.limit_s = 60 * max_minutes if max_minutes else math.inf
    self._used_s, self._since, self._share = used_s, None, -1.0

  def begin(self) -> None:
    """Starts the clock."""
    self._since = time.monotonic() if self._since is None else self._since

  @property
  def used_s(self) -> float:
    """Returns the time used by the run."""
    return self._used_s + (0.0 if self._since is None else time.monotonic() - self._since)

  def over(self) -> bool:
    """Returns whether the time limit is reached."""
    return self.used_s >= self.limit_s

  def share(self, step: int) -> float:
    """Returns the share 0..1 of the run before `step`, from 1, the same on all hosts; every host must call it before every step."""
    if not self.by_time:
      return (step - 1) / self.total_steps
    if step % multihost.AGREE_EVERY == 1 or self._share < 0 or multihost.alone():
      own = lambda: np.float32(min(1.0, self.used_s / self.limit_s))
      self._share = float(multihost.of_first(own, like=np.float32(0)))
    return self._share

  def pace(self, share: float) -> Pace:
    """Returns the pace at a share of the run."""
    return Pace(rate_at(share) if self.by_time else 1.0, float(share >= self.signal_from))
