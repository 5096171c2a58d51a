"""Slow, plain judges that share no code with the package."""

import math


def lead_power(true, pred, max_shift):
  """Signal and noise power of one lead by the rules of the competition, loop by loop.

  Lags are compared through n*x - sum(x) instead of x - mean(x): the same maximum, and exact for samples that are
  multiples of a power of two, so equal correlations are equal floats.
  """
  n = len(true)
  y = [n * v - math.fsum(true) for v in true]
  p = [n * v - math.fsum(pred) for v in pred]
  best, lag = -math.inf, 0
  for k in sorted(range(-max_shift, max_shift + 1), key=abs):
    inside = [i for i in range(n) if 0 <= i - k < n]
    correlation = math.fsum(y[i] * p[i - k] for i in inside)
    if inside and correlation > best:
      best, lag = correlation, k
  inside = [i for i in range(n) if 0 <= i - lag < n]
  offset = math.fsum(pred[i - lag] - true[i] for i in inside) / len(inside)
  aligned = [0.0] * n
  for i in inside:
    aligned[i] = pred[i - lag] - offset
  return math.fsum(v * v for v in true), math.fsum((v - a) ** 2 for v, a in zip(true, aligned, strict=True))


def image_power(true, pred, fs):
  """Pooled signal and noise power of dicts of lead -> list of mV."""
  powers = [lead_power(true[lead], pred[lead], int(0.2 * fs)) for lead in true]
  return math.fsum(s for s, _ in powers), math.fsum(n for _, n in powers)
