"""Smooth displacement of the page, a B-spline surface: least-squares fit to observations, evaluation at the nodes."""

import functools
import math
from typing import NamedTuple

import numpy as np

from ecgjax.geometry import bsplines, lattices, paper
from ecgjax.geometry.homography import TrackingLost

SIZE_PX = (paper.HEIGHT_PX, paper.WIDTH_PX)
ROUNDS = 3  # of reweighting
OVERLAP = 4  # cubic B-splines so many knots apart, or more, share no point


class Surface(NamedTuple):
  """A smooth displacement along y and x: content found at page point p belongs at p + surface(p).

  Attributes:
    coefficients: (2, ny, nx) of a cubic B-spline.
    step_px: distance of its knots.
  """

  coefficients: np.ndarray
  step_px: float


class Observation(NamedTuple):
  """One kind of measurement: down @ coefficients @ across.T should be `goal` (2, h, w), weights likewise."""

  down: np.ndarray
  across: np.ndarray
  goal: np.ndarray
  weight: np.ndarray

  def predicted(self, coefficients: np.ndarray) -> np.ndarray:
    """Returns (2, h, w): the measurement that a surface of these coefficients predicts."""
    return self.down @ coefficients @ self.across.T

  def residual(self, coefficients: np.ndarray) -> np.ndarray:
    """Returns (2, h, w): the part of the measurement that a surface leaves unexplained."""
    return self.goal - self.predicted(coefficients)

  def reweighted(self, coefficients: np.ndarray) -> 'Observation':
    """Returns the same with less weight where its residual is large: where it is the rms residual, a quarter is left."""
    square = self.residual(coefficients) ** 2
    width = np.sqrt((self.weight * square).sum((1, 2)) / (self.weight.sum((1, 2)) + 1e-9)) + 1e-4
    return self._replace(weight=self.weight / (1 + square / width[:, None, None] ** 2) ** 2)


def knots_px(step_px: float) -> list[np.ndarray]:
  """Returns page y (ny,) and x (nx,) of the centres of a surface's B-splines."""
  return [step_px * (np.arange(math.ceil(size / step_px) + 3) - 1.0) for size in SIZE_PX]


def bases(ys, xs, *, step_px: float, orders: tuple[int, int] = (0, 0)) -> tuple[np.ndarray, np.ndarray]:
  """Returns (H, ny) and (W, nx): B-spline weights of page y and x, or of their derivatives per px where an order is 1."""
  down, across = (
    bsplines.basis(np.asarray(at, np.float64), low=0.0, step=step_px, count=len(knots), order=order)
    for at, knots, order in zip((ys, xs), knots_px(step_px), orders, strict=True)
  )
  return down, across


def fit(observations: list[Observation], *, step_px: float, bending: float, ridge: float = 1e-6, rounds: int = ROUNDS) -> Surface:
  """Fits a smooth displacement to measurements of it, robustly.

  Args:
    observations: the measurements.
    step_px: distance of the surface's knots.
    bending: weight of the penalty on second differences.
    ridge: weight of the penalty on the displacement: beyond what is measured it fades to none, rather than going on with its last slope.
    rounds: of reweighting.

  Returns:
    The surface.

  Raises:
    homography.TrackingLost: if the measurements are no numbers.
  """
  coefficients = np.zeros((2, observations[0].down.shape[1], observations[0].across.shape[1]))
  products = [(_neighbours(part.down), _neighbours(part.across)) for part in observations]
  for turn in range(rounds):
    weighted = observations if turn == 0 else [part.reweighted(coefficients) for part in observations]
    coefficients = np.stack([_solve(weighted, products, axis, bending=bending, ridge=ridge) for axis in (0, 1)])
  return Surface(coefficients, step_px)


def _solve(observations: list[Observation], products, axis: int, *, bending: float, ridge: float) -> np.ndarray:
  """Least squares for B-spline coefficients (ny, nx) along an axis, with penalties in proportion to the weight of the measurements."""
  from scipy import linalg

  ny, nx = observations[0].down.shape[1], observations[0].across.shape[1]
  sums, pull = np.zeros((OVERLAP, ny, OVERLAP, nx)), np.zeros((ny, nx))
  for part, (down, across) in zip(observations, products, strict=True):
    sums += (down.T @ part.weight[axis] @ across).reshape(sums.shape)
    pull += part.down.T @ (part.weight[axis] * part.goal[axis]) @ part.across
  normal = _diagonals(sums)
  known = normal[0].mean() + 1e-12  # more than 0 where nothing at all is measured: then there is no displacement
  normal += known * bending * _bending_penalty(ny, nx)
  normal[0] += known * ridge
  try:
    solved = linalg.solveh_banded(normal, pull.T.ravel(), lower=True, overwrite_ab=True, check_finite=False)
  except np.linalg.LinAlgError:
    solved = np.full(ny * nx, np.nan)
  if not np.isfinite(solved).all():  # of measurements that are no numbers
    raise TrackingLost('the grid that was followed is not there')
  return solved.reshape(nx, ny).T


def _neighbours(base: np.ndarray) -> np.ndarray:
  """Returns (N, OVERLAP * n): every one of n B-splines (N, n) times itself and times each of those after it that overlap it."""
  after = np.pad(base, ((0, 0), (0, OVERLAP)))
  return np.concatenate([base * after[:, apart : apart + base.shape[1]] for apart in range(OVERLAP)], axis=1)


def _diagonals(sums: np.ndarray) -> np.ndarray:
  """Returns the lower diagonals of a symmetric matrix of unknowns (ny, nx), counted down first, as LAPACK keeps them.

  Args:
    sums: (OVERLAP, ny, OVERLAP, nx), [i, a, j, b] being the element of (a, b) and (a + i, b + j), and so of (a + i, b) and (a, b + j).
  """
  _, ny, _, nx = sums.shape
  found = np.zeros(((OVERLAP - 1) * (ny + 1) + 1, nx, ny))
  for i in range(OVERLAP):
    for j in range(OVERLAP):
      found[j * ny + i] += sums[i, :, j].T
      if i and j:  # from the lower of the two rows up
        found[j * ny - i, :, i:] += sums[i, : ny - i, j].T
  return found.reshape(len(found), -1)


@functools.lru_cache(maxsize=8)
def _bending_penalty(ny: int, nx: int) -> np.ndarray:
  """Returns the sum of squares of second differences of unknowns (ny, nx), as `_diagonals` gives a matrix."""

  def bands(n: int, order: int) -> np.ndarray:
    rows = np.diff(np.eye(n), order, axis=0)
    square = rows.T @ rows
    return np.stack([np.pad(np.diagonal(square, apart), (0, apart)) for apart in range(OVERLAP)])

  both = lambda down, across: bands(ny, down)[:, :, None, None] * bands(nx, across)
  return _diagonals(both(2, 0) + both(0, 2) + 2 * both(1, 1))


def translation(shift_px: np.ndarray) -> Surface:
  """Returns the constant surface of a shift by (2,) page x, y."""
  return Surface(np.broadcast_to(shift_px[::-1, None, None], (2, *map(len, knots_px(1000.0)))), 1000.0)


def displace(displacement_px: np.ndarray, surface: Surface) -> np.ndarray:
  """Returns (45, 57, 2): the nodes' displacement after content found at p is moved to p + surface(p)."""
  down, across = bases(*lattices.nodes_px(), step_px=surface.step_px)
  shift = np.moveaxis(down @ surface.coefficients @ across.T, 0, -1)[..., ::-1]
  return lattices.image_px(displacement_px, lattices.page_lattice() - shift) - shift
