"""Ground truth of a drawn page: the printed samples of each row, their positions, and the exact value at any instant."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.ecg.errors import ECGError
from ecgjax.ecg.leads import LEADS
from ecgjax.geometry import paper
from ecgjax.geometry.layouts import Layout

REACH_MV = 6.5  # a trace is printed this far from its zero line, and no further than the paper
ABSURD_MV = 1e4  # a sample beyond is taken for a missing one: a line to it has no place on paper, nor its square in float32
RATES_HZ = (50.0, 4000.0)  # of records; below, an ECG is not one, and above, drawing a page takes seconds


class Rows(NamedTuple):
  """What each row of a page shows at the record's samples, T of them in the layout's seconds.

  Attributes:
    mv: (R, T) signal, 0 where there is none.
    joined: (R, T - 1) bool, whether a line is printed from a sample to the next: both exist and belong to one segment.
    owners: (R, T) int, number of the segment that prints the sample, -1 where the row is blank; static.
    times_s: (R, T) the row's second at which the sample is printed: a segment's first sample stands at its very start; static.
  """

  mv: jax.Array
  joined: jax.Array
  owners: np.ndarray
  times_s: np.ndarray


def lay_out(mv: jax.Array, *, layout: Layout, rate_hz: float) -> Rows:
  """Lays a record out in rows.

  Args:
    mv: (12, T) leads in leads.LEADS order, sample i at i / rate_hz s; nothing is printed where it is not finite (or beyond
      ABSURD_MV), nor after its end if it is shorter than the layout. What comes after the layout's seconds is left out.
    layout: says which lead stands where.
    rate_hz: of `mv`, within RATES_HZ.

  Returns:
    The rows.

  Raises:
    ECGError: for another number of leads, no samples, or a rate out of range.
  """
  if len(mv.shape) != 2 or mv.shape[0] != len(LEADS) or not mv.shape[1]:
    raise ECGError(f'mv is {tuple(mv.shape)}; need ({len(LEADS)}, T) with at least one sample of each lead')
  if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
    raise ECGError(f'rate_hz={rate_hz} is not within {RATES_HZ[0]:g}..{RATES_HZ[1]:g} Hz')
  samples = math.ceil(layout.seconds * rate_hz - 1e-6)
  mv = jnp.asarray(mv, jnp.float32)[:, :samples]
  mv = jnp.pad(mv, ((0, 0), (0, samples - mv.shape[1])), constant_values=jnp.nan)
  shape = (len(layout.zeros_px), samples)
  rows_mv, owners = jnp.full(shape, jnp.nan), np.full(shape, -1)
  times_s = np.broadcast_to(np.arange(samples) / rate_hz, shape).copy()
  for n, segment in enumerate(layout.segments):
    first, stop = (math.ceil(second * rate_hz - 1e-6) for second in (segment.start_s, segment.stop_s))
    here = (segment.row, slice(first, stop))
    rows_mv = rows_mv.at[here].set(segment.sign * mv[LEADS.index(segment.lead), first:stop])
    owners[here] = n
    times_s[here] = segment.start_s + np.arange(stop - first) / rate_hz
  finite = jnp.abs(rows_mv) < ABSURD_MV  # not so for nan and inf
  joined = finite[:, :-1] & finite[:, 1:] & ((owners[:, :-1] >= 0) & (owners[:, :-1] == owners[:, 1:]))
  return Rows(jnp.where(finite, rows_mv, 0.0), joined, owners, times_s)


def at(mv: jax.Array, times_s: np.ndarray, *, layout: Layout, rate_hz: float) -> tuple[jax.Array, jax.Array]:
  """Truth of every row at the given instants, on the very polyline that is drawn.

  Args:
    mv: (12, T) as in `lay_out`.
    times_s: (W,) seconds, increasing.
    layout: says which lead stands where.
    rate_hz: of `mv`.

  Returns:
    (R, W) mV, always finite, and (R, W) bool: whether a trace is printed there. It is not where samples are missing, nor
    beyond REACH_MV or the paper's upper and lower edge.
  """
  table = lay_out(mv, layout=layout, rate_hz=rate_hz)
  values, printed = [], []
  for row, joined, printed_s in zip(table.mv, table.joined, table.times_s, strict=True):
    left = np.clip(np.searchsorted(printed_s, times_s + 1e-9, side='right') - 1, 0, len(printed_s) - 2)
    share = np.clip((times_s - printed_s[left]) / (printed_s[left + 1] - printed_s[left]), 0.0, 1.0)
    share = np.where(share < 1e-6, 0.0, share)
    inside = (times_s > printed_s[0] - 1e-9) & (times_s < printed_s[-1] + 1e-9)
    # an instant at a sample lies on the line that ends there as well as on the one that begins
    ends = (share == 0) & (left > 0)
    printed.append(inside & (joined[left] | (ends & joined[np.maximum(left - 1, 0)])))
    values.append(row[left] * (1 - share) + row[left + 1] * share)
  mv_at = jnp.stack(values)
  y = jnp.asarray(layout.zeros_px)[:, None] - mv_at * layout.px_per_mv
  on_paper = (jnp.abs(mv_at) <= REACH_MV) & (y >= 0) & (y <= paper.HEIGHT_PX)
  return mv_at, jnp.stack(printed) & on_paper
