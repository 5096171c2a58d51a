"""What each row of a page shows: the samples that are printed, where, and the exact value at any instant."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.layout import LEADS, Layout


class Rows(NamedTuple):
  """What each row of a page shows; static but for the signals.

  Attributes:
    mv: (R, T) signal at the record's samples.
    owners: (R, T) int, number of the segment that prints the sample, -1 where the row is blank.
    times_s: (R, T) the row's second at which the sample is printed: a segment's first sample stands at its very start.
  """

  mv: jax.Array
  owners: np.ndarray
  times_s: np.ndarray


def lay_out(mv: jax.Array, *, layout: Layout, rate_hz: float) -> Rows:
  """Lays a record out in rows.

  Args:
    mv: (12, T) leads in layout.LEADS order, sample i at i / rate_hz s.
    layout: says which lead stands where; T must cover layout.seconds.
    rate_hz: of `mv`.

  Returns:
    The rows.

  Raises:
    ValueError: if the record is shorter than the layout.
  """
  samples = math.floor(layout.seconds * rate_hz + 1e-6)
  if mv.shape[-2] != len(LEADS) or mv.shape[-1] < samples:
    raise ValueError(f'mv is {mv.shape}; layout {layout.name} needs ({len(LEADS)}, >= {samples}) at {rate_hz} Hz')
  shape = (len(layout.zeros_px), mv.shape[-1])
  signals, owners = jnp.zeros(shape), np.full(shape, -1)
  times_s = np.broadcast_to(np.arange(mv.shape[-1]) / rate_hz, shape).copy()
  for n, segment in enumerate(layout.segments):
    first, stop = (math.ceil(second * rate_hz - 1e-6) for second in (segment.start_s, segment.stop_s))
    here = (segment.row, slice(first, stop))
    signals = signals.at[here].set(segment.sign * mv[LEADS.index(segment.lead), first:stop])
    owners[here] = n
    times_s[here] = segment.start_s + np.arange(stop - first) / rate_hz
  return Rows(signals, owners, times_s)


def at(mv: jax.Array, times_s: np.ndarray, *, layout: Layout, rate_hz: float) -> tuple[jax.Array, np.ndarray]:
  """Truth of every row at the given instants, on the very polyline that is drawn.

  Args:
    mv: (12, T) as in `lay_out`.
    times_s: (W,) seconds, increasing.
    layout: says which lead stands where.
    rate_hz: of `mv`.

  Returns:
    (R, W) mV and (R, W) bool: whether a trace is printed there.
  """
  table = lay_out(mv, layout=layout, rate_hz=rate_hz)
  values, printed = [], []
  for row, owner, printed_s in zip(table.mv, table.owners, table.times_s, strict=True):
    left = np.clip(np.searchsorted(printed_s, times_s + 1e-9, side='right') - 1, 0, len(printed_s) - 2)
    share = np.clip((times_s - printed_s[left]) / (printed_s[left + 1] - printed_s[left]), 0.0, 1.0)
    share = np.where(share < 1e-6, 0.0, share)
    right = left + (share > 0)
    inside = (times_s > printed_s[0] - 1e-9) & (times_s < printed_s[-1] + 1e-9)
    printed.append(inside & (owner[left] >= 0) & (owner[left] == owner[right]))
    values.append(row[left] * (1 - share) + row[left + 1] * share)
  return jnp.stack(values), np.stack(printed)
