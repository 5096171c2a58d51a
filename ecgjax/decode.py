"""From scores to rows: the expected row of the trace in every column, how sure that is, and whether it is there at all."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ecgjax.model import Scores

CELL_PX = 4  # the mode is sought on cells of this height
WINDOW_PX = 40.0  # of the expectation around the mode


class Trace(NamedTuple):
  """What was read of the rows of a page.

  Attributes:
    rows_px: (R, W) continuous strip row, downwards; px h covers [h, h + 1).
    std_px: (R, W) standard deviation of it, at least that of a uniform px, 0.29.
    visible: (R, W) probability 0..1 that a trace is there.
  """

  rows_px: jax.Array
  std_px: jax.Array
  visible: jax.Array


def soft_argmax(scores: Scores, *, window_px: float = WINDOW_PX, passes: int = 8, reach_px: float = 80.0) -> Trace:
  """Expected row around the mode that fits its neighbours in time best.

  The mode is found by a few passes of max-product along time, on cells of CELL_PX rows: each column adds the mean of the
  best scores that its two neighbours have within `reach_px`, so that a crossing trace, which has no past and no future in
  this row, does not capture the mode. Rows are differentiable in the scores, the mode's choice is not.

  Args:
    scores: of one page, (R, H, W), H a multiple of CELL_PX.
    window_px: > 0; the expectation is taken within this distance of the mode. A steep stroke fills a column over tens of px and
      tells little of which of them is meant: to expect their middle is off the least.
    passes: 0 for the plain mode of every column.
    reach_px: how far a trace may move from one column to the next.

  Returns:
    Trace.
  """
  joint = jnp.concatenate([scores.rows, scores.hidden[..., None, :]], axis=-2)
  visible = 1 - jax.nn.softmax(joint, axis=-2)[..., -1, :]
  logp = jax.nn.log_softmax(scores.rows, axis=-2)
  centre = jax.lax.stop_gradient(_mode(logp, passes=passes, reach_px=reach_px))
  rows = jnp.arange(logp.shape[-2], dtype=jnp.float32)[:, None] + 0.5

  def around(centre):
    p = jnp.where(jnp.abs(rows - centre[..., None, :]) <= window_px, jnp.exp(logp), 0.0)
    p = p / jnp.maximum(p.sum(-2, keepdims=True), 1e-30)
    mean = (p * rows).sum(-2)
    return mean, (p * (rows - mean[..., None, :]) ** 2).sum(-2)

  centre, _ = around(centre)
  mean, variance = around(jax.lax.stop_gradient(centre))
  return Trace(mean, jnp.sqrt(variance + 1 / 12), visible)


def _mode(logp: jax.Array, *, passes: int, reach_px: float) -> jax.Array:
  """(R, H, W) log-probabilities -> (R, W) row px of the most probable smooth path's neighbourhood."""
  height, width = logp.shape[-2:]
  cells = logp.reshape(*logp.shape[:-2], height // CELL_PX, CELL_PX, width)
  own = jnp.maximum(cells.max(-2), -30.0)  # a column that is sure and wrong must still be outvoted
  score, reach = own, round(reach_px / CELL_PX)
  for _ in range(passes):
    best = jax.lax.reduce_window(
      score, -jnp.inf, jax.lax.max, (1, 2 * reach + 1, 1), (1, 1, 1), ((0, 0), (reach, reach), (0, 0))
    )
    before = jnp.pad(best[..., :-1], ((0, 0), (0, 0), (1, 0)), mode='edge')
    after = jnp.pad(best[..., 1:], ((0, 0), (0, 0), (0, 1)), mode='edge')
    score = own + (before + after) / 2
  cell = score.argmax(-2)
  fine = jnp.take_along_axis(cells, cell[..., None, None, :], axis=-3)[..., 0, :, :].argmax(-2)
  return cell * CELL_PX + fine + 0.5
