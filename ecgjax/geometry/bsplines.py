"""Cubic B-splines on even knots."""

import jax
import jax.numpy as jnp


def basis(at: jax.Array, *, low: float, step: float, count: int, order: int) -> jax.Array:
  """Returns (N, count) cubic B-spline weights of points on even knots, or their first derivatives."""
  x = (at[:, None] - low) / step + 1 - jnp.arange(count)
  far, a = jnp.clip(2 - jnp.abs(x), 0, 2), jnp.clip(1 - jnp.abs(x), 0, 1)
  if order == 0:
    return (far**3 - 4 * a**3) / 6
  return -jnp.sign(x) * (far**2 - 4 * a**2) / (2 * step)
