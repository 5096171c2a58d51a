"""Homography from the page network's votes, by iteratively reweighted least squares in a fixed number of rounds."""

import jax
import jax.numpy as jnp

from ecgjax.networks.page_net import PageNetOutput

ROUNDS = 12
OUTLIER = 2.0  # in medians: a cell that misses by so much loses half its weight


def fit(votes: PageNetOutput) -> tuple[jax.Array, jax.Array]:
  """Fits the homography that the cells agree on.

  Args:
    votes: the network's output for one canvas.

  Returns:
    (3, 3) canvas units -> page units, and the weighted median error of the cells that show the page, in page units.
  """
  n = votes.on_page.shape[0]
  at = (jnp.arange(n) + 0.5) / n - 0.5
  x, y = (a.ravel() for a in jnp.meshgrid(at, at))
  u, v = votes.place[..., 0].ravel(), votes.place[..., 1].ravel()
  trust = (jax.nn.sigmoid(votes.on_page) * jnp.exp(-2 * jnp.clip(votes.spread, -6.0, 2.0))).ravel()
  one, none = jnp.ones_like(x), jnp.zeros_like(x)
  design = jnp.stack([jnp.stack([x, y, one, none, none, none, -u * x, -u * y]),
                      jnp.stack([none, none, none, x, y, one, -v * x, -v * y])])  # fmt: skip
  goal = jnp.stack([u, v])

  def again(_, fitted):
    matrix, _ = fitted
    depth = matrix[2, 0] * x + matrix[2, 1] * y + 1
    off = jnp.hypot(*(((matrix[i, 0] * x + matrix[i, 1] * y + matrix[i, 2]) / depth - w) for i, w in enumerate((u, v))))
    miss = _weighted_median(off, trust)
    weight = trust / (1 + (off / (OUTLIER * miss + 1e-6)) ** 2) / jnp.maximum(depth, 0.1) ** 2
    weight = weight / weight.sum()
    weighted = design * weight
    normal = jnp.einsum('kan,kbn->ab', weighted, design, precision='highest') + 1e-9 * jnp.eye(8)
    solved = jnp.linalg.solve(normal, jnp.einsum('kan,kn->a', weighted, goal, precision='highest'))
    return jnp.append(solved, 1.0).reshape(3, 3), miss

  start = jnp.eye(3).at[:2, 2].set(jnp.stack([(trust * (u - x)).sum(), (trust * (v - y)).sum()]) / (trust.sum() + 1e-9))
  return jax.lax.fori_loop(0, ROUNDS, again, (start, jnp.float32(jnp.inf)))


def _weighted_median(values: jax.Array, weights: jax.Array) -> jax.Array:
  order = jnp.argsort(values)
  total = jnp.cumsum(weights[order])
  return values[order][jnp.searchsorted(total, total[-1] / 2)]
