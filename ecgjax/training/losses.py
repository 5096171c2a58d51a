"""Targets and losses of both networks. Every loss returns one number per page; the caller reduces."""

import jax
import jax.numpy as jnp

from ecgjax.extract import path_decoder
from ecgjax.extract.pixel_classes import class_target
from ecgjax.networks.page_net import PageNetOutput
from ecgjax.networks.unet import Scores

NOISE_FLOOR = 1e-4  # share of the signal's power, 40 dB: less noise than that is no gain


def column_target(rows_px: jax.Array, printed: jax.Array, *, height_px: int, sigma_px: float) -> jax.Array:
  """Returns the target distribution of the trace over the px rows of each column and "hidden".

  Args:
    rows_px: (..., W) fractional row of the trace, px h covering [h, h + 1).
    printed: (..., W) bool, whether there is a trace.
    height_px: H.
    sigma_px: > 0, width of the Gaussian; its mean is the row itself, so decoding by expectation recovers it.

  Returns:
    (..., H + 1, W) float32, summing to 1 over H + 1; the last entry is "hidden", which also holds where the trace leaves
    the strip.
  """
  centres = jnp.arange(height_px, dtype=jnp.float32)[:, None] + 0.5
  inside = printed & (rows_px >= 0) & (rows_px <= height_px)
  where = jnp.where(inside, rows_px, height_px / 2)[..., None, :]
  p = jax.nn.softmax(-0.5 * ((centres - where) / sigma_px) ** 2, axis=-2) * inside[..., None, :]
  return jnp.concatenate([p, (~inside)[..., None, :].astype(p.dtype)], axis=-2)


def column_xent(scores: Scores, rows_px: jax.Array, printed: jax.Array, *, sigma_px: float) -> jax.Array:
  """Returns the Kullback-Leibler divergence of the predicted from the target distribution, mean over columns.

  Args:
    scores: of one page.
    rows_px: (R, W) fractional row.
    printed: (R, W) bool.
    sigma_px: of the target.

  Returns:
    () float32, 0 when the target is met exactly.
  """
  target = column_target(rows_px, printed, height_px=scores.rows.shape[-2], sigma_px=sigma_px)
  logp = jax.nn.log_softmax(jnp.concatenate([scores.rows, scores.hidden[..., None, :]], axis=-2), axis=-2)
  entropy = jnp.where(target > 0, target * jnp.log(jnp.maximum(target, 1e-30)), 0.0)
  return (entropy - target * logp).sum(-2).mean()


def class_xent(scores: Scores, inks: jax.Array) -> jax.Array:
  """Returns the cross entropy of the classes, mean over px.

  Args:
    scores: of one page.
    inks: (R, H, W, 3) as in `class_target`.

  Returns:
    () float32.
  """
  return -(class_target(inks) * jax.nn.log_softmax(scores.classes, axis=-1)).sum(-1).mean()


def signal_noise(scores: Scores, rows_px: jax.Array, printed: jax.Array, *, path: bool = True) -> jax.Array:
  """Returns log(noise / signal) of the decoded rows, pooled over the page: the logarithm of the inverse score ratio.

  Columns in which the decoder follows another trace are left to `column_xent`, because no gradient leads from one mode to another.

  Args:
    scores: of one page.
    rows_px: (R, W) fractional row.
    printed: (R, W) bool.
    path: False to read around each column's plain mode instead of the best path: a path is a loop over all columns, which an accelerator
      does in as many small kernels.

  Returns:
    () float32, ln(noise / signal + NOISE_FLOOR); -4.6 is 20 dB. 0 where nothing is printed.
  """
  off_px = path_decoder.soft_argmax(scores, path=path).rows_px - rows_px
  counted = printed & (jnp.abs(off_px) < path_decoder.WINDOW_PX)
  noise = jnp.where(counted, off_px, 0.0) ** 2
  signal = jnp.where(counted, rows_px - scores.rows.shape[-2] / 2, 0.0) ** 2
  return jnp.where(counted.any(), jnp.log((noise.sum() + 1e-3) / (signal.sum() + 1e-3) + NOISE_FLOOR), 0.0)


def trace_loss(
  scores: Scores, rows_px: jax.Array, printed: jax.Array, inks: jax.Array, *,
  sigma_px: float, class_weight: float, signal_weight: float, signal_path: bool, signal_on: jax.Array | float,
):  # fmt: skip
  """Returns the total loss of the trace network, and its parts: 'columns' (`column_xent`), if weighted 'classes' and 'signal'.

  `signal_on` is 0 or 1, whether the signal's loss is included; `signal_path` is the `path` of `signal_noise`.
  """
  parts = {'columns': column_xent(scores, rows_px, printed, sigma_px=sigma_px)}
  total = parts['columns']
  if class_weight:  # else the inks need not even be cut
    parts['classes'] = class_xent(scores, inks)
    total += class_weight * parts['classes']
  if signal_weight:
    parts['signal'] = signal_noise(scores, rows_px, printed, path=signal_path)
    total += signal_on * signal_weight * parts['signal']
  return total, parts


FINEST = 0.002  # page widths: no cell need claim to know its place better than this


def place_xent(out: PageNetOutput, place: jax.Array, on_page: jax.Array) -> jax.Array:
  """Returns the negative log-likelihood of the cells' positions: off / spread + 2 log spread, for exponential lengths of errors.

  Args:
    out: output of the page network for one canvas.
    place: (h, w, 2) true position in page units.
    on_page: (h, w) bool, whether the cell shows the page; other cells are ignored.

  Returns:
    () float32, mean over cells; 0 if no cell shows the page.
  """
  off = jnp.sqrt(((out.place - jnp.where(on_page[..., None], place, 0.0)) ** 2).sum(-1) + 1e-10)
  spread = FINEST + jnp.exp(jnp.minimum(out.spread, 2.0))
  return jnp.where(on_page, off / spread + 2 * jnp.log(spread), 0.0).sum() / jnp.maximum(on_page.sum(), 1)


def on_page_xent(out: PageNetOutput, on_page: jax.Array) -> jax.Array:
  """Returns the cross entropy of "shows the page", mean over cells."""
  return (jax.nn.softplus(out.on_page) - on_page * out.on_page).mean()


def turn_xent(out: PageNetOutput, turn: jax.Array) -> jax.Array:
  """Returns the cross entropy of the quarter turns."""
  return -jax.nn.log_softmax(out.turn)[turn]
