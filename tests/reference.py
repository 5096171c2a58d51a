"""Slow, plain judges that share no code with the package."""

import csv
import math

import numpy as np


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


def keys_cubic(image, x, y, *, shrink=(1.0, 1.0)):
  """One point of a (H, W) list-of-lists image by Keys' cubic convolution (a = -0.5), 0 outside, px i centred at i + 0.5.

  Summed over the whole image rather than over taps; the widened kernel is normalised by its weights on the endless grid.
  """

  def weight(t):
    t = abs(t)
    if t < 1:
      return 1.5 * t**3 - 2.5 * t**2 + 1
    return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0

  def along(at, size, widen):
    total = math.fsum(weight((i + 0.5 - at) / widen) for i in range(-20, size + 20))
    return [weight((i + 0.5 - at) / widen) / total for i in range(size)]

  wx, wy = along(x, len(image[0]), shrink[0]), along(y, len(image), shrink[1])
  return math.fsum(wy[j] * wx[i] * image[j][i] for j in range(len(image)) for i in range(len(image[0])))


def center_of_mass(darkness, around, *, reach):
  """Vertical centre of mass of (H, W) darkness in each column, within `reach` px of the row `around` (W,); nan if empty."""
  found = []
  for column, row in enumerate(around):
    rows = [h for h in range(darkness.shape[0]) if abs(h + 0.5 - row) <= reach]
    mass = math.fsum(float(darkness[h, column]) for h in rows)
    found.append(math.fsum((h + 0.5) * float(darkness[h, column]) for h in rows) / mass if mass > 0.5 else math.nan)
  return found


def classes_of_a_px(grid, text, trace):
  """Shares of background, grid, text and trace of one px by peeling layers off from the top."""
  left, shares = 1.0, {}
  for name, cover in (('trace', trace), ('text', text), ('grid', grid)):
    shares[name] = left * min(max(cover, 0.0), 1.0)
    left -= shares[name]
  return [left, shares['grid'], shares['text'], shares['trace']]


def table(path, leads):
  """(12, samples) mV of a competition's CSV, NaN where a cell is empty."""
  with path.open() as file:
    rows = list(csv.DictReader(file))
  return np.array([[float(row[lead] or 'nan') for row in rows] for lead in leads])
