"""Image filters (sums, means, quantiles, band products), written for speed under XLA on a CPU."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

RUNS = 12  # of rows of a matrix that are multiplied at a time: with more, each is too small to be quick


def gaussian(at, points, sigma_px: float):
  """(A, P): what the value at each of `points` adds to the smooth value at each of `at`, both in px; rows sum to 1 far from the ends."""
  xp = jnp if isinstance(at, jax.Array) or isinstance(points, jax.Array) else np
  step = points[1] - points[0]
  near = (at[:, None] - points) / sigma_px
  return xp.where(xp.abs(near) < 3.5, xp.exp(-0.5 * near**2), 0.0) * (step / sigma_px / math.sqrt(2 * math.pi))


def product(weights: np.ndarray, a: jax.Array, *, axis: int) -> jax.Array:
  """Multiplies a plane by a matrix that is mostly zero, some of its rows at a time: most zeros left and right of them are left out.

  Args:
    weights: (..., A, P), known when the program is compiled.
    a: (h, w), the size of `axis` being P.
    axis: 0 down, 1 across.

  Returns:
    (..., A, w) or (..., h, A).
  """
  *lead, n, _ = weights.shape
  first, few = _runs(np.asarray(weights, np.float32))

  def run(part):  # a loop, because `a` then is stored: XLA's CPU compiler would compute it anew for each run
    columns = jax.lax.dynamic_slice_in_dim(a, part[0], few.shape[-1], axis=axis)
    return jnp.moveaxis(jnp.tensordot(part[1], columns, (-1, axis)), -2, 0)

  found = jax.lax.map(run, (jnp.asarray(first), jnp.asarray(few)))  # (runs, rows of each, ..., the other axis)
  found = found.reshape(-1, *found.shape[2:])[:n]
  return jnp.moveaxis(found, 0, -2 if axis == 0 else -1)


def _runs(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the first column (RUNS,) and what is not zero (RUNS, ..., rows, columns) of equal runs of the rows of (..., A, P)."""
  *lead, n, columns = weights.shape
  rows = -(-n // RUNS)
  runs = np.zeros((*lead, rows * RUNS, columns), np.float32)
  runs[..., :n, :] = weights
  runs = np.moveaxis(runs.reshape(*lead, RUNS, rows, columns), -3, 0)
  used = [np.flatnonzero(run.reshape(-1, columns).any(0)) for run in runs]
  ends = np.array([(some[0], some[-1] + 1) if len(some) else (0, 1) for some in used])
  width = np.ptp(ends, axis=1).max()
  first = np.minimum(ends[:, 0], columns - width)
  return first, np.stack([run[..., start : start + width] for start, run in zip(first, runs, strict=True)])


def quantile(a: jax.Array, valid: jax.Array, share: float) -> jax.Array:
  """Returns (...) the smallest values that `share` of the values >= 0 (n, ...) that are `valid` do not exceed; 0 where none are there.

  By halving what is left of the range of their bits: XLA's CPU programs take 30 times as long to sort them.
  """
  bits = jax.lax.bitcast_convert_type(a, jnp.int32)
  enough = share * valid.sum(0)

  def halve(_, ends):
    low, high = ends
    middle = low + (high - low) // 2
    reached = ((bits <= middle) & valid).sum(0) >= enough
    return jnp.where(reached, low, middle + 1), jnp.where(reached, middle, high)

  zero = jnp.zeros(a.shape[1:], jnp.int32)
  found, _ = jax.lax.fori_loop(0, 31, halve, (zero, zero + jax.lax.bitcast_convert_type(jnp.float32(jnp.inf), jnp.int32)))
  return jax.lax.bitcast_convert_type(found, jnp.float32)


stored = jax.lax.optimization_barrier  # has XLA compute a value once, and keep it, whatever is made of it; changes no value


def widened(a: jax.Array, size: int, *, axis: int) -> jax.Array:
  """Returns the highest of `size` px along an axis around each px (h, w) of values >= 0; `reduce_window` is ten times as slow on a CPU."""
  padded = jnp.pad(a, [(size // 2, size // 2) if i == axis else (0, 0) for i in (0, 1)])
  return functools.reduce(jnp.maximum, (jax.lax.slice_in_dim(padded, i, i + a.shape[axis], axis=axis) for i in range(size)))


def reduced(a: jax.Array, down: int, across: int) -> jax.Array:
  """The means of all `down` x `across` px (h, w)."""
  return functools.reduce(jnp.add, (a[i::down, j::across] for i in range(down) for j in range(across))) / (down * across)


def repeated(a: jax.Array, down: int, across: int) -> jax.Array:
  """Every px (h, w) as `down` x `across`."""
  return jnp.repeat(jnp.repeat(a, down, 0), across, 1)
