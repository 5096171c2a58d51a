"""Rows to leads: px to mV, interpolation of gaps, band-limited resampling to the requested samples."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.ecg.errors import ECGError
from ecgjax.extract.path_decoder import Trace
from ecgjax.geometry.lattices import STRIP_PX_PER_MV, Frame
from ecgjax.geometry.layouts import Layout, Segment

VISIBLE = 0.5  # columns less probable to show a trace are interpolated
GAP_STD_MV_PER_S = 2.0  # an interpolated sample grows uncertain by this much per second from the nearest seen column
LOBES = 16  # half width of the resampling kernel in zero crossings
KAISER_BETA = 8.0
POLYLINE_BELOW = 1.2  # times the column rate; above it too few columns lie on each line of the print
TENSION = 1e-3  # of the polyline above the column rate, where a few corners have no column of their own


def fill(mv: jax.Array, valid: jax.Array) -> jax.Array:
  """Interpolates hidden samples by a shape-preserving cubic (PCHIP, Fritsch and Butland 1984), constant beyond the ends.

  Args:
    mv: (W,) samples at equal steps.
    valid: (W,) bool, visible samples; the others are replaced. The result is 0 if none is visible.

  Returns:
    (W,), the visible samples unchanged.
  """
  n = mv.shape[-1]
  i = jnp.arange(n)
  left = jax.lax.cummax(jnp.where(valid, i, -1))  # nearest valid one at or before
  right = jax.lax.cummin(jnp.where(valid, i, n), reverse=True)
  past = jnp.concatenate([jnp.array([-1]), left[:-1]])  # strictly before
  future = jnp.concatenate([right[1:], jnp.array([n])])
  at = lambda index: mv[jnp.clip(index, 0, n - 1)]
  h0, h1 = i - past, future - i
  d0, d1 = (mv - at(past)) / h0, (at(future) - mv) / h1
  w0, w1 = 2 * h1 + h0, h1 + 2 * h0
  same = (d0 * d1 > 0) & (past >= 0) & (future < n)
  safe = lambda d: jnp.where(same, d, 1.0)
  slope = jnp.where(same, (w0 + w1) / (w0 / safe(d0) + w1 / safe(d1)), 0.0)
  a, b = jnp.clip(left, 0, n - 1), jnp.clip(right, 0, n - 1)
  step = jnp.maximum(b - a, 1)
  u = (i - a) / step
  cubic = (
    (1 + 2 * u) * (1 - u) ** 2 * mv[a] + u * (1 - u) ** 2 * step * slope[a]
    + u**2 * (3 - 2 * u) * mv[b] + u**2 * (u - 1) * step * slope[b]
  )  # fmt: skip
  value = jnp.where(left < 0, mv[b], jnp.where(right >= n, mv[a], cubic))
  return jnp.where(valid, mv, jnp.where(valid.any(), value, 0.0))


@functools.lru_cache(256)  # a rate may be any number, and a process may live long
def kernel(first: int, last: int, rate_hz: float, offset: float, fs: float, count: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns the band-limited resampling of columns first..last as gathers and weights.

  A Kaiser-windowed sinc, cut off at half the lower of the two rates. Beyond its ends the signal is extended by point reflection,
  which preserves level and slope.

  Args:
    first, last: columns that belong to the lead, both included.
    rate_hz: of the columns.
    offset: fractional column of sample 0.
    fs: output rate.
    count: output samples.

  Returns:
    (count, K) int columns and (count, K) float64 weights.
  """
  at = offset + np.arange(count) * rate_hz / fs
  cutoff = min(1.0, fs / rate_hz)
  half = math.ceil(LOBES / cutoff)
  columns = np.floor(at).astype(int)[:, None] + np.arange(-half + 1, half + 1)
  x = at[:, None] - columns
  weights = np.sinc(x * cutoff) * np.i0(KAISER_BETA * np.sqrt(np.clip(1 - (x / half) ** 2, 0, 1)))
  weights /= weights.sum(1, keepdims=True)
  low, high = columns < first, columns > last
  mirrored = np.where(low, 2 * first - columns, np.where(high, 2 * last - columns, columns))
  mirrored = np.clip(mirrored, first, last)
  outside = low | high
  ends = np.stack([2 * (weights * low).sum(1), 2 * (weights * high).sum(1)], axis=1)
  index = np.concatenate([mirrored, np.broadcast_to([first, last], (count, 2))], axis=1)
  return index, np.concatenate([np.where(outside, -weights, weights), ends], axis=1)


def vertices(mv: jax.Array, offset: float, *, rate_hz: float, fs: float, count: int) -> jax.Array:
  """Returns the corners of the polyline that fits the columns best, for rates below or little above the columns' own.

  A print joins its samples by straight lines; sampling them more densely and filtering would lose the height of the corners.
  The least-squares fit recovers it; its matrix is tridiagonal. Above the columns' rate differences of neighbouring corners are
  penalised by TENSION, which determines corners without a column of their own.

  Args:
    mv: (W,) columns, all defined.
    offset: fractional column of sample 0.
    rate_hz: of the columns.
    fs: output rate, below POLYLINE_BELOW * rate_hz.
    count: output samples.

  Returns:
    (count,) mV at i / fs.
  """
  at = (np.arange(mv.shape[-1]) - offset) * fs / rate_hz
  used = (at > -1e-9) & (at < count - 1 + 1e-9)
  left = np.clip(np.floor(at + 1e-9), 0, max(count - 2, 0)).astype(int)
  share = np.clip(at - left, 0, 1)
  a, b = used * (1 - share), used * share
  add = lambda where, values: np.bincount(where, values, minlength=count)[:count]
  main = add(left, a * a) + add(left + 1, b * b) + 1e-6
  side = add(left, a * b)
  if fs > rate_hz:
    main[:-1] += TENSION
    main[1:] += TENSION
    side[:-1] -= TENSION
  right_side = jnp.zeros(count).at[left].add(a * mv).at[left + 1].add(b * mv, mode='drop')
  f32 = lambda x: jnp.asarray(x, jnp.float32)
  lower, upper = np.concatenate([[0], side[:-1]]), np.concatenate([side[:-1], [0]])
  return jax.lax.linalg.tridiagonal_solve(f32(lower), f32(main), f32(upper), f32(right_side)[:, None])[:, 0]


def lead(trace: Trace, segment: Segment, *, layout: Layout, frame: Frame, fs: float, count: int) -> tuple[jax.Array, jax.Array]:
  """Returns one lead of a page.

  Args:
    trace: of the page's rows.
    segment: of the lead in the layout.
    layout: of the page.
    frame: of the strips.
    fs: output samples per second.
    count: output samples; sample i is i / fs s after the segment's start.

  Returns:
    (count,) mV and (count,) its standard deviation in mV.

  Raises:
    ECGError: if more samples are requested than the segment shows.
  """
  if count < 1 or (count - 1) / fs >= segment.stop_s - segment.start_s:
    raise ECGError(f'lead {segment.lead}: {count} samples at {fs} Hz asked for; layout {layout.name} shows '
                     f'{segment.stop_s - segment.start_s:g} s of it')  # fmt: skip
  offset = frame.columns_px(segment.start_s)
  first, last = math.ceil(offset - 1e-6), math.ceil(frame.columns_px(segment.stop_s) - 1e-6) - 1
  rows, std, visible = (a[segment.row, first : last + 1] for a in trace)
  valid = visible >= VISIBLE
  mv = segment.sign * fill(frame.millivolts(rows), valid)
  i = jnp.arange(mv.shape[-1])
  near = jnp.minimum(i - jax.lax.cummax(jnp.where(valid, i, -(10**6))), jax.lax.cummin(jnp.where(valid, i, 10**6), reverse=True) - i)
  std_mv = std / STRIP_PX_PER_MV + near / frame.rate_hz * GAP_STD_MV_PER_S
  if fs != frame.rate_hz and fs < POLYLINE_BELOW * frame.rate_hz:
    resampled = vertices(mv, offset - first, rate_hz=frame.rate_hz, fs=fs, count=count)
  else:
    index, weights = kernel(first, last, frame.rate_hz, offset, fs, count)
    resampled = (mv[index - first] * weights.astype(np.float32)).sum(-1)
  nearest = np.clip(np.round(offset - first + np.arange(count) * frame.rate_hz / fs).astype(int), 0, last - first)
  return resampled, std_mv[nearest]
