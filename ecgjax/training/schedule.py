"""Progress of a run, by steps or by time, and the learning rate as a function of it."""

import math
import time
from typing import Any, NamedTuple

import numpy as np

from ecgjax.training import multihost

# of a run that goes by time: the share in which the rate rises, what it begins with, and the share up to which it stays at its peak
WARM, FIRST, FLAT = 0.02, 0.02, 0.3


class Pace(NamedTuple):
  """How a step learns: () float32 each.

  Attributes:
    rate: the learning rate's share of its peak, beside the optimiser's own schedule.
    signal: 1 where the loss of the signal counts, 0 before (`config.loss.signal_from`).
  """

  rate: Any
  signal: Any


def rate_at(share: float) -> float:
  """Returns the learning rate's share of its peak at a share 0..1 of the time: a short rise, a plain, half a cosine to 0."""
  if share < FLAT:
    return min(1.0, FIRST + share / WARM)
  return 0.5 * (1 + math.cos(math.pi * min(1.0, (share - FLAT) / (1 - FLAT))))


class Clock:
  """What a run has behind it. Time counts from `begin`, since the first step compiles for as long as it likes."""

  def __init__(self, *, schedule: str, total_steps: int, max_minutes: float, signal_from: float, used_s: float = 0.0):
    """Sets it.

    Args:
      schedule: 'steps' or 'time', by what the run goes.
      total_steps: its steps.
      max_minutes: its time, 0 for no limit.
      signal_from: share of the run after which the signal's loss counts.
      used_s: time that the run had before it was stopped.
    """
    self.by_time, self.total_steps, self.signal_from = schedule == 'time', total_steps, signal_from
    self.limit_s = 60 * max_minutes if max_minutes else math.inf
    self._used_s, self._since, self._share = used_s, None, -1.0

  def begin(self) -> None:
    """Has the time count from now on."""
    self._since = time.monotonic() if self._since is None else self._since

  @property
  def used_s(self) -> float:
    """Returns the time behind the run."""
    return self._used_s + (0.0 if self._since is None else time.monotonic() - self._since)

  def over(self) -> bool:
    """Whether its time is over."""
    return self.used_s >= self.limit_s

  def share(self, step: int) -> float:
    """Returns 0..1, how much of the run lies before `step`, from 1; every host must ask, before every step, and all are told the same."""
    if not self.by_time:
      return (step - 1) / self.total_steps
    if step % multihost.AGREE_EVERY == 1 or self._share < 0 or multihost.alone():
      own = lambda: np.float32(min(1.0, self.used_s / self.limit_s))
      self._share = float(multihost.of_first(own, like=np.float32(0)))
    return self._share

  def pace(self, share: float) -> Pace:
    """Returns how to learn at a share of the run."""
    return Pace(rate_at(share) if self.by_time else 1.0, float(share >= self.signal_from))
