"""The training step: a pure function of state and key, made from network, optimiser and the source of examples."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from optax import contrib

from ecgjax.training.schedule import Pace


class State(NamedTuple):
  """Complete state of a run, as saved in a checkpoint."""

  step: jax.Array  # () int32, updates applied so far
  params: Any
  opt: optax.OptState
  ema: Any  # moving average of params; what is evaluated and shipped


HEADS = ('head', 'hide', 'turn')  # output layers of both networks, which Muon leaves alone


def optimiser(
  *, peak_lr: float, warmup_steps: int, decay_steps: int, weight_decay: float, clip_norm: float, muon_rms: float, steps: bool = True
):
  """Returns Muon for hidden kernels and NAdamW for heads, biases and norms, on one warmup-cosine schedule, gradients clipped by norm.

  Without `steps` the rate is `peak_lr` throughout, and `Pace.rate` shapes it.

  Muon (Jordan et al., 2024) makes the momentum of a matrix orthogonal: a step has the same length in directions with little evidence.
  `muon_rms` is its steps' root mean square in learning rates; 0.2 is about Adam's own (Liu et al., 2025).
  """
  schedule = optax.warmup_cosine_decay_schedule(0.0, peak_lr, warmup_steps, max(decay_steps, warmup_steps + 1), peak_lr / 100)
  schedule = schedule if steps else optax.constant_schedule(peak_lr)
  muon = contrib.muon(
    schedule, weight_decay=weight_decay, adam_weight_decay=weight_decay, consistent_rms=muon_rms, muon_weight_dimension_numbers=_matrices
  )
  return optax.chain(optax.clip_by_global_norm(clip_norm), muon)


def _matrices(params):
  """Returns Muon's dimension numbers of hidden kernels, inputs by outputs; None for vectors and heads, which Adam updates."""

  def matrix(path, leaf):
    if leaf.ndim < 2 or path[0].key in HEADS:
      return None
    return contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

  return jax.tree_util.tree_map_with_path(matrix, params)


def make_step(loss, tx, draw, *, ema_decay: float, accumulate: int = 1, spread=lambda examples: examples):
  """Returns the pure update (state, batch, key, pace) -> (state, metrics).

  Args:
    loss: (params, example, pace) -> (loss, name -> number to report), of one example.
    tx: optimiser.
    draw: (key, batch, part) -> examples with a leading batch axis, as of `make_draw`.
    ema_decay: of the moving average of the parameters, reached after a ramp.
    accumulate: number of sequential parts of the batch: memory for one of them is enough. The update is that of the whole batch.
    spread: examples -> examples with their sharding; see `sharding.spread`.
  """

  def total(params, examples, pace):
    losses, parts = jax.vmap(loss, (None, 0, None))(params, examples, pace)
    return losses.mean(), jax.tree.map(jnp.mean, parts)

  def step(state: State, batch, key: jax.Array, pace: Pace):
    key = jax.random.fold_in(key, state.step)
    one = lambda part: jax.value_and_grad(total, has_aux=True)(state.params, spread(draw(key, batch, part)), pace)
    if accumulate == 1:
      (mean, parts), grads = one(0)
    else:
      zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(one, 0))
      sums, _ = jax.lax.scan(lambda sums, part: (jax.tree.map(jnp.add, sums, one(part)), None), zeros, jnp.arange(accumulate))
      (mean, parts), grads = jax.tree.map(lambda x: x / accumulate, sums)
    updates, opt = tx.update(grads, state.opt, state.params)
    params = optax.apply_updates(state.params, jax.tree.map(lambda update: update * pace.rate, updates))
    decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
    ema = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, state.ema, params)
    return State(state.step + 1, params, opt, ema), {'loss': mean, **parts, 'grad_norm': optax.global_norm(grads)}

  return step


def make_draw(one, *, together: int, accumulate: int = 1, mesh: Mesh | None = None):
  """Batches `one(key, item) -> example` over a batch that is split over the devices.

  Args:
    one: draws one example.
    together: examples a device draws at once. A CPU is faster with one after the other: XLA then keeps each in its cache.
    accumulate: parts of the batch, of which one is drawn; an example does not depend on how many there are.
    mesh: its rows of devices share the batch, each drawing its own part; None for one device.

  Returns:
    (key, batch, part) -> examples with a leading batch axis, those of part `part` from 0.
  """

  # not batch_size=1: that is a vmap of one, under which both sides of a condition are computed, so every damage on every page
  chunk = None if together == 1 else together

  def own(keys, batch, part):
    mine = jax.tree.map(lambda x: x.reshape(accumulate, -1, *x.shape[1:])[part], (keys, batch))
    return jax.lax.map(lambda item: one(*item), mine, batch_size=chunk)

  # nor vmap over the devices, for the same reason: each runs a program of its own, with its own conditions
  rows, alone = P('data'), mesh is None or mesh.size == 1
  shared = own if alone else jax.shard_map(own, mesh=mesh, in_specs=(rows, rows, P()), out_specs=rows, check_vma=False)

  def draw(key: jax.Array, batch, part=0):
    return shared(jax.random.split(key, len(next(iter(batch.values())))), batch, jnp.int32(part))

  return draw
