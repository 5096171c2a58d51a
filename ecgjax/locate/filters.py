"""Image filters on the host: Gaussians, products with banded matrices, quantiles."""

import math
from typing import NamedTuple

import numpy as np

RUNS = 12  # of rows of a banded matrix that are multiplied at a time: with more, each is too small to be quick
COARSE = 6.0  # px that a sigma has at least on the coarser raster on which wide Gaussians are made


def gaussian(at: np.ndarray, points: np.ndarray, sigma_px: float) -> np.ndarray:
  """Returns (A, P) float32: weights of the values at `points` in the smooth value at each of `at`, px; their sum is 1 far from the ends."""
  step = points[1] - points[0]
  near = (at[:, None] - points) / sigma_px
  weights = np.where(np.abs(near) < 3.5, np.exp(-0.5 * near**2), 0.0) * (step / sigma_px / math.sqrt(2 * math.pi))
  return weights.astype(np.float32)


def between(a: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
  """Returns (..., A, B): values (..., h, w), real or complex, smoothed down by weights (A, h) and across by (B, w)."""
  if np.iscomplexobj(a):
    return between(np.real(a), down, across) + 1j * between(np.imag(a), down, across)
  return down @ a @ across.T


def blur(a: np.ndarray, sigma_px: tuple[float, float]) -> np.ndarray:
  """Smooths a picture by a Gaussian, wide ones on a coarser raster.

  Args:
    a: (h, w) float32; beyond its border it counts as 0.
    sigma_px: standard deviation down and across; 0 leaves an axis as it is.

  Returns:
    (h, w) float32.
  """
  import cv2

  coarse = [max(1, int(sigma / COARSE)) for sigma in sigma_px]
  if max(coarse) == 1:
    return _gaussian_blur(a, sigma_px)
  # a px more on each side, so that what lies beyond the border fades to 0 on the coarse raster, too
  margins = [(n, n + -size % n) if n > 1 else (0, 0) for n, size in zip(coarse, a.shape, strict=True)]
  padded = np.pad(a, margins)
  few = cv2.resize(padded, [size // n for size, n in zip(padded.shape[::-1], coarse[::-1], strict=True)], interpolation=cv2.INTER_AREA)
  # the mean over n px and the straight lines between the means have variances of n^2 / 12 and n^2 / 6 themselves
  rest = [math.sqrt(sigma**2 / n**2 - (n > 1) / 4) for sigma, n in zip(sigma_px, coarse, strict=True)]
  wide = cv2.resize(_gaussian_blur(few, (rest[0], rest[1])), padded.shape[::-1], interpolation=cv2.INTER_LINEAR)
  return wide[margins[0][0] : margins[0][0] + a.shape[0], margins[1][0] : margins[1][0] + a.shape[1]]


def _gaussian_blur(a: np.ndarray, sigma_px: tuple[float, float]) -> np.ndarray:
  import cv2

  down, across = (_kernel(sigma) for sigma in sigma_px)
  return cv2.sepFilter2D(a, cv2.CV_32F, across, down, borderType=cv2.BORDER_CONSTANT)


def _kernel(sigma_px: float) -> np.ndarray:
  if not sigma_px:
    return np.ones(1, np.float32)
  reach = math.ceil(3.5 * sigma_px)
  weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_px) ** 2)
  return (weights / weights.sum()).astype(np.float32)


class Banded(NamedTuple):
  """A matrix (..., A, P) that is mostly zero: equal runs of its rows, each with the columns that are not zero in it.

  Attributes:
    first: (RUNS,) first column of each run.
    weights: (RUNS, L, rows, columns) what is not zero, the leading axes of the matrix as one.
    shape: of the matrix.
  """

  first: np.ndarray
  weights: np.ndarray
  shape: tuple[int, ...]


def banded(weights: np.ndarray) -> Banded:
  """Returns a matrix (..., A, P) without the columns in which a run of its rows is zero."""
  *lead, n, columns = weights.shape
  rows = -(-n // RUNS)
  runs = np.zeros((math.prod(lead), rows * RUNS, columns), np.float32)
  runs[:, :n] = weights.reshape(-1, n, columns)
  runs = np.moveaxis(runs.reshape(-1, RUNS, rows, columns), 1, 0)
  used = [np.flatnonzero(run.reshape(-1, columns).any(0)) for run in runs]
  ends = np.array([(some[0], some[-1] + 1) if len(some) else (0, 1) for some in used])
  width = np.ptp(ends, axis=1).max()
  first = np.minimum(ends[:, 0], columns - width)
  few = np.stack([run[..., start : start + width] for start, run in zip(first, runs, strict=True)])
  return Banded(first, few, weights.shape)


def product(matrix: Banded, a: np.ndarray, *, axis: int) -> np.ndarray:
  """Multiplies a plane by a banded matrix.

  Args:
    matrix: (..., A, P).
    a: (h, w) float32, the size of `axis` being P.
    axis: 0 down, 1 across.

  Returns:
    (..., A, w) or (..., h, A) float32.
  """
  *lead, n, _ = matrix.shape
  width = matrix.weights.shape[-1]
  if axis == 0:
    parts = [few @ a[start : start + width] for start, few in zip(matrix.first, matrix.weights, strict=True)]
    return np.concatenate(parts, axis=1)[:, :n].reshape(*lead, n, -1)
  parts = [a[:, start : start + width] @ few.swapaxes(1, 2) for start, few in zip(matrix.first, matrix.weights, strict=True)]
  return np.concatenate(parts, axis=2)[..., :n].reshape(*lead, -1, n)


def quantile(a: np.ndarray, share: float) -> float:
  """Returns the smallest value (n,) that `share` of the values do not exceed; 0 where there are none."""
  if not a.size:
    return 0.0
  rank = max(math.ceil(share * a.size) - 1, 0)
  return float(np.partition(a, rank)[rank])


def reduced(a: np.ndarray, down: int, across: int) -> np.ndarray:
  """Returns the means of all `down` x `across` px of a plane (h, w), both sizes being multiples."""
  import cv2

  if down == across == 1:
    return a
  return cv2.resize(a, (a.shape[1] // across, a.shape[0] // down), interpolation=cv2.INTER_AREA)


def repeated(a: np.ndarray, down: int, across: int) -> np.ndarray:
  """Returns a plane (h, w) with every px as `down` x `across`."""
  import cv2

  if down == across == 1:
    return a
  return cv2.resize(a, (a.shape[1] * across, a.shape[0] * down), interpolation=cv2.INTER_NEAREST)
