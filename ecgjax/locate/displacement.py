"""Smooth displacement of the page, a B-spline surface: least-squares fit to observations, evaluation at the nodes."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.geometry import bsplines, lattices, paper

SIZE_PX = (paper.HEIGHT_PX, paper.WIDTH_PX)
ROUNDS = 3  # of reweighting


class Surface(NamedTuple):
  """A smooth displacement along y and x: content found at page point p belongs at p + surface(p).

  Attributes:
    coefficients: (2, ny, nx) of a cubic B-spline.
    step_px: distance of its knots.
  """

  coefficients: jax.Array
  step_px: float


class Observation(NamedTuple):
  """One kind of measurement: down @ coefficients @ across.T should be `goal` (2, h, w), weights likewise."""

  down: jax.Array
  across: jax.Array
  goal: jax.Array
  weight: jax.Array

  def predicted(self, coefficients: jax.Array) -> jax.Array:
    """(2, h, w): the measurement that a surface's coefficients predict."""
    return jnp.einsum('ha,cab,wb->chw', self.down, coefficients, self.across, precision='highest')

  def residual(self, coefficients: jax.Array) -> jax.Array:
    """(2, h, w): the measurement less its prediction."""
    return self.goal - self.predicted(coefficients)

  def reweighted(self, coefficients: jax.Array) -> 'Observation':
    """The same with less weight the larger the residual: at its rms a quarter of the weight is left."""
    square = self.residual(coefficients) ** 2
    width = jnp.sqrt((self.weight * square).sum((1, 2)) / (self.weight.sum((1, 2)) + 1e-9)) + 1e-4
    return self._replace(weight=self.weight / (1 + square / width[:, None, None] ** 2) ** 2)


def knots_px(step_px: float) -> list[np.ndarray]:
  """Returns page y (ny,) and x (nx,) of the middles of a surface's B-splines."""
  return [step_px * (np.arange(math.ceil(size / step_px) + 3) - 1.0) for size in SIZE_PX]


def bases(ys, xs, *, step_px: float, orders: tuple[int, int] = (0, 0)) -> tuple[jax.Array, jax.Array]:
  """Returns (H, ny) and (W, nx): B-spline weights of page y and x, or of their derivatives per px where an order is 1."""
  down, across = (
    bsplines.basis(jnp.asarray(at, jnp.float32), low=0.0, step=step_px, count=len(knots), order=order)
    for at, knots, order in zip((ys, xs), knots_px(step_px), orders, strict=True)
  )
  return down, across


def fit(observations: list[Observation], *, step_px: float, bending: float, ridge: float = 1e-6, rounds: int = ROUNDS) -> Surface:
  """Fits a smooth displacement to measurements of it, robustly.

  Args:
    observations: the measurements.
    step_px: distance of the surface's knots.
    bending: weight of the bending penalty.
    ridge: weight of the penalty on any displacement: beyond what is measured it fades to none, rather than going on with its last slope.
    rounds: of reweighting.

  Returns:
    The surface.
  """
  solved = jnp.zeros((2, observations[0].down.shape[1], observations[0].across.shape[1]))
  for n in range(rounds):
    weighted = [part if n == 0 else part.reweighted(solved) for part in observations]
    solved = jnp.stack([_solve([(p.down, p.across, p.goal[axis], p.weight[axis]) for p in weighted], bending, ridge) for axis in (0, 1)])
  return Surface(solved, step_px)


def _solve(parts, bending: float, ridge: float) -> jax.Array:
  """Least squares for B-spline coefficients (ny, nx), with penalties in proportion to the weight of what is measured."""
  ny, nx = parts[0][0].shape[1], parts[0][1].shape[1]
  (left, right), places = zip(_pairs(ny), _pairs(nx), strict=True), [_placed_pairs(n) for n in (ny, nx)]
  gram, rhs = jnp.zeros((len(left[0]) + 1, len(left[1]) + 1)), jnp.zeros((ny, nx))
  for down, across, goal, weight in parts:
    both = [jnp.pad(base[:, i] * base[:, j], ((0, 0), (0, 1))) for base, i, j in zip((down, across), left, right, strict=True)]
    gram += both[0].T @ weight @ both[1]
    rhs += down.T @ (weight * goal) @ across
  normal = gram[places[0]][:, :, places[1]].transpose(0, 2, 1, 3).reshape(ny * nx, ny * nx)
  scale = jnp.trace(normal) / len(normal) + 1e-12  # more than 0 where nothing at all is measured: then there is no displacement
  bends = [np.diff(np.eye(n), 2, axis=0) for n in (ny, nx)]
  twist = [np.diff(np.eye(n), axis=0) for n in (ny, nx)]
  cost = np.kron(bends[0].T @ bends[0], np.eye(nx)) + np.kron(np.eye(ny), bends[1].T @ bends[1])
  cost += 2 * np.kron(twist[0].T @ twist[0], twist[1].T @ twist[1])
  normal = normal + scale * (bending * jnp.asarray(cost, jnp.float32) + ridge * jnp.eye(ny * nx))
  return jax.scipy.linalg.solve(normal, rhs.ravel(), assume_a='pos').reshape(ny, nx)


def _pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns (P,) and (P,): all i <= j of `n` cubic B-splines that overlap; most pairs do not, and their products are 0."""
  left, right = np.triu_indices(n)
  return left[right - left < 4], right[right - left < 4]


def _placed_pairs(n: int) -> np.ndarray:
  """Returns (n, n): which of `_pairs` i and j are, P where they do not overlap."""
  left, right = _pairs(n)
  places = np.full((n, n), len(left))
  places[left, right] = places[right, left] = np.arange(len(left))
  return places


def translation(shift_px: jax.Array) -> Surface:
  """Returns the surface that moves everything by (2,) page x, y."""
  return Surface(jnp.broadcast_to(shift_px[::-1, None, None], (2, *map(len, knots_px(1000.0)))), 1000.0)


def displace(displacement_px: jax.Array, surface: Surface) -> jax.Array:
  """Returns (45, 57, 2): the nodes' displacement once what was found at p is put to p + surface(p)."""
  rows, cols = lattices.nodes_px()
  down, across = bases(rows, cols, step_px=surface.step_px)
  shift = jnp.einsum('ha,cab,wb->hwc', down, surface.coefficients, across, precision='highest')[..., ::-1]
  return lattices.image_px(displacement_px, jnp.asarray(lattices.page_lattice() - shift)) - shift
