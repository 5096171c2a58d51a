"""Decoder: scores to the expected row of the trace in every column, its standard deviation and its visibility."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.networks.unet import Scores

CELL_PX = 4  # the path is sought on cells of this height
REACH_PX = 80.0  # how far a trace may move from one column to the next
JUMP = 0.025  # nats that each px of such a move costs: a steep stroke can pay that, a jump to another trace and back hardly
WINDOW_PX = 40.0  # of the expectation around the mode


class Trace(NamedTuple):
  """Decoded rows of a page.

  Attributes:
    rows_px: (R, W) continuous strip row, downwards; px h covers [h, h + 1).
    std_px: (R, W) standard deviation of it, at least that of a uniform px, 0.29.
    visible: (R, W) probability 0..1 that a trace is visible.
  """

  rows_px: jax.Array
  std_px: jax.Array
  visible: jax.Array


def soft_argmax(scores: Scores, *, window_px: float = WINDOW_PX, path: bool = True, begins: np.ndarray | None = None) -> Trace:
  """Returns the expected row around the most probable path through all columns.

  The path is the most probable one on cells of CELL_PX rows with moves of at most REACH_PX between columns, each px of a move costing
  JUMP (max-product forward and back along time, exact). A crossing trace, which does not continue along this row, does not capture the
  path. Where another lead begins in the row, a move of any length costs nothing. Rows are differentiable in the scores, the choice of
  the path is not.

  Args:
    scores: of one page, (R, H, W), H a multiple of CELL_PX.
    window_px: > 0; the expectation is taken within this distance of the path. A steep stroke fills a column over tens of px, and its
      centre is the estimate with the least error.
    path: False for the plain mode of every column.
    begins: (R, W) bool, first columns of the leads (see `lattices.begins`); None for none.

  Returns:
    Trace.
  """
  joint = jnp.concatenate([scores.rows, scores.hidden[..., None, :]], axis=-2)
  visible = 1 - jax.nn.softmax(joint, axis=-2)[..., -1, :]
  logp = jax.nn.log_softmax(scores.rows, axis=-2)
  begins = np.zeros((1, logp.shape[-1]), bool) if begins is None else begins
  centre = _mode(jax.lax.stop_gradient(logp), begins, path=path)
  rows = jnp.arange(logp.shape[-2], dtype=jnp.float32)[:, None] + 0.5

  def around(centre):
    p = jnp.where(jnp.abs(rows - centre[..., None, :]) <= window_px, jnp.exp(logp), 0.0)
    p = p / jnp.maximum(p.sum(-2, keepdims=True), 1e-30)
    mean = (p * rows).sum(-2)
    return mean, (p * (rows - mean[..., None, :]) ** 2).sum(-2)

  centre, _ = around(centre)
  mean, variance = around(jax.lax.stop_gradient(centre))
  return Trace(mean, jnp.sqrt(variance + 1 / 12), visible)


def _mode(logp: jax.Array, begins: np.ndarray, *, path: bool) -> jax.Array:
  """Returns (R, W) the row px on the path, of (R, H, W) log-probabilities."""
  height, width = logp.shape[-2:]
  cells = logp.reshape(*logp.shape[:-2], height // CELL_PX, CELL_PX, width)
  own = jnp.maximum(cells.max(-2), -30.0)  # a column that is sure and wrong must still be outvoted
  cell = (_best_through(own, begins) if path else own).argmax(-2)
  fine = jnp.take_along_axis(cells, cell[..., None, None, :], axis=-3)[..., 0, :, :].argmax(-2)
  return cell * CELL_PX + fine + 0.5


def _best_through(own: jax.Array, begins: np.ndarray) -> jax.Array:
  """Returns (R, C, W): the score of the best path through each cell, up to a constant per column, of (R, C, W) and (R, W)."""
  count, reach = own.shape[-2], round(REACH_PX / CELL_PX)

  def step(before, column):
    here, free = column
    padded = jnp.pad(before, ((0, 0), (reach, reach)), constant_values=-jnp.inf)
    moves = (padded[:, reach + d : reach + d + count] - JUMP * CELL_PX * abs(d) for d in range(-reach, reach + 1))
    arrived = jnp.where(free[:, None], before.max(-1, keepdims=True), functools.reduce(jnp.maximum, moves))
    arrived += here - arrived.max(-1, keepdims=True)
    return arrived, arrived

  columns, onwards = jnp.moveaxis(own, -1, 0), jnp.asarray(begins).T
  ways = (onwards, False), (jnp.roll(onwards, -1, axis=0), True)  # going back, the column before a lead's first is reached freely
  forward, back = (jax.lax.scan(step, jnp.zeros_like(columns[0]), (columns, free), reverse=reverse)[1] for free, reverse in ways)
  return jnp.moveaxis(forward + back - columns, 0, -1)
