"""Trains a network: python -m ecgjax.train --config configs/unet.py [--workdir DIR] [--config.x=y]"""

import json
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from ml_collections import config_flags

from ecgjax import checkpoint, data, evaluators, geometry, layout, log, losses, mesh, model, packs

CONFIG = config_flags.DEFINE_config_file('config', None, 'What to train: a file of configs/, with :variant.', lock_config=True)
WORKDIR = flags.DEFINE_string('workdir', None, 'Where the run lives; runs/<config name> if not given. Resumed if it exists.')


class State(NamedTuple):
  """All there is to save of a run."""

  step: jax.Array  # () int32, updates applied so far
  params: Any
  opt: optax.OptState
  ema: Any  # moving average of params; what is evaluated and shipped


def every(step: int, period: int, last: int) -> bool:
  """Whether something done every `period` steps is due; always true at the last step."""
  return step % period == 0 or step == last


def optimiser(*, peak_lr: float, warmup_steps: int, decay_steps: int, weight_decay: float, clip_norm: float):
  """Returns AdamW under a warmup-cosine schedule, gradients clipped by their global norm."""
  schedule = optax.warmup_cosine_decay_schedule(0.0, peak_lr, warmup_steps, max(decay_steps, warmup_steps + 1), peak_lr / 100)
  return optax.chain(optax.clip_by_global_norm(clip_norm), optax.adamw(schedule, weight_decay=weight_decay))


def make_step(apply, tx, draw, *, sigma_px: float, class_weight: float, ema_decay: float):
  """Returns the pure update (state, batch, key) -> (state, metrics).

  Args:
    apply: (params, strips) -> Scores, of one page.
    tx: optimiser.
    draw: (key, batch) -> data.Example with a leading batch axis.
    sigma_px: width of the column target.
    class_weight: of the class cross entropy beside the column loss.
    ema_decay: of the moving average of the parameters, reached after a ramp.
  """

  def page_loss(params, example: data.Example):
    scores = apply(params, example.strips)
    columns = losses.column_xent(scores, example.rows_px, example.printed, sigma_px=sigma_px)
    return columns, losses.class_xent(scores, example.inks)

  def total(params, examples):
    columns, classes = jax.vmap(page_loss, (None, 0))(params, examples)
    return (columns + class_weight * classes).mean(), (columns.mean(), classes.mean())

  def step(state: State, batch, key: jax.Array):
    examples = draw(jax.random.fold_in(key, state.step), batch)
    (loss, (columns, classes)), grads = jax.value_and_grad(total, has_aux=True)(state.params, examples)
    updates, opt = tx.update(grads, state.opt, state.params)
    params = optax.apply_updates(state.params, updates)
    decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
    ema = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, state.ema, params)
    metrics = {'loss': loss, 'columns': columns, 'classes': classes, 'grad_norm': optax.global_norm(grads)}
    return State(state.step + 1, params, opt, ema), metrics

  return step


def make_draw(one, *, devices: int, together: int):
  """Batches `one(key, item) -> Example` over a batch that is split over the devices.

  Args:
    one: draws one example.
    devices: the batch axis is split over.
    together: examples a device draws at once. A CPU is faster with one after the other: XLA then keeps each in its cache.
  """

  def draw(key: jax.Array, batch) -> data.Example:
    size = len(next(iter(batch.values())))
    keys = jax.random.split(key, size)
    by_device = jax.tree.map(lambda x: x.reshape(devices, size // devices, *x.shape[1:]), (keys, batch))
    mapped = jax.vmap(lambda items: jax.lax.map(lambda item: one(*item), items, batch_size=together))(by_device)
    return jax.tree.map(lambda x: x.reshape(size, *x.shape[2:]), mapped)

  return draw


def source(c, page: layout.Layout, frame: geometry.Frame):
  """Returns (stream, one) of config.data: the host's batches, and the device's way from one item to one Example."""
  if c.data.source == 'records':
    return data.recorded(c.data.dir, batch_size=c.batch_size, seed=c.seed), lambda key, item: data.recorded_example(
      key, item, layout=page, frame=frame, window_px=c.strip.window_px, strength=c.data.strength
    )
  if c.data.source != 'simulated':
    raise ValueError(f'config.data.source={c.data.source!r} must be simulated or records')
  pack, share = None, 1.0
  if c.data.signals:
    pack, skipped = packs.load(c.data.signals)
    share = c.data.simulated_share
    log.say(f'{len(pack)} recordings from {c.data.signals}, {len(skipped)} left out')

  def one(key, item):
    at_source, at_page = jax.random.split(key)
    mv = data.record(at_source, item['pack'], simulated_share=share)
    return data.example(at_page, mv, layout=page, frame=frame, window_px=c.strip.window_px, strength=c.data.strength)

  return data.stream(pack, batch_size=c.batch_size, seed=c.seed), one


def train(c, workdir: pathlib.Path) -> State:
  """Runs the training that the config describes; returns the last state."""
  log.say(f'{c.note} {jax.device_count()} x {jax.devices()[0].device_kind}, workdir {workdir}')
  devices = mesh.data_mesh(batch_size=c.batch_size)
  page = layout.make(c.strip.layout)
  frame = geometry.frame(page, rate_hz=c.strip.rate_hz, height_px=c.strip.height_px)
  net = model.network(**c.model)
  tx = optimiser(**c.optim)
  stream, one = source(c, page, frame)
  draw = make_draw(one, devices=devices.size, together=c.data.together)

  def init(key):
    params = net.init(key)
    return State(jnp.int32(0), params, tx.init(params), params)

  state = jax.jit(init, out_shardings=mesh.copy(devices))(jax.random.key(c.seed))
  if c.init_from:
    params, _ = checkpoint.load_weights(c.init_from)
    checkpoint.compare(params, state.params, c.init_from)
    state = State(state.step, params, state.opt, params)
  saved = checkpoint.restore(workdir / 'checkpoints', state, warn=log.say)
  first = 1
  if saved:
    state, first = saved[0], saved[1] + 1
    log.say(f'resumed after step {saved[1]}')
  state = jax.device_put(state, mesh.copy(devices))

  step_fn = jax.jit(make_step(net.apply, tx, draw, **c.loss), donate_argnums=0, out_shardings=mesh.copy(devices))
  evals = {name: evaluators.make(**spec, apply=net.apply, page=page, frame=frame) for name, spec in c.evals.items()}
  return _loop(c, workdir, state, first, step_fn=step_fn, put=lambda b: mesh.put(b, devices), stream=stream, evals=evals)


def _loop(c, workdir, state: State, first: int, *, step_fn, put, stream, evals) -> State:
  journal, key = log.Log(workdir), jax.random.key(c.seed)
  meta = {'config': c.to_dict(), 'commit': commit()}
  stop = _Stop(c.max_minutes)
  last, waited, since = c.total_steps, 0.0, time.time()
  for step in range(first, last + 1):
    tic = time.time()
    batch = put(stream(step - 1))
    waited += time.time() - tic
    state, metrics = step_fn(state, batch, key)
    done = step == last or stop.due()
    if every(step, c.log_every, last) or done:
      metrics = {k: float(v) for k, v in metrics.items()}
      if not np.isfinite(metrics['loss']):
        raise FloatingPointError(f'loss is {metrics["loss"]} at step {step}, seed {c.seed}; the last checkpoint is kept')
      took, n = time.time() - since, min(c.log_every, step - first + 1)
      metrics |= {'steps_per_s': n / took, 'waiting': waited / took}
      journal.scalars(step, metrics)
      log.say(f'step {step}/{last}  ' + '  '.join(f'{k} {v:.4g}' for k, v in metrics.items()))
      waited, since = 0.0, time.time()
    if every(step, c.ckpt_every, last) or done:
      checkpoint.save(workdir / 'checkpoints', state, step=step, meta=meta)
    if (every(step, c.eval_every, last) or done) and not stop.signalled:
      report(journal, step, {name: run(state.ema) for name, run in evals.items()})
      since = time.time()
    if done:
      break
  if jax.process_index() == 0:
    checkpoint.save_weights(workdir / 'trace.safetensors', jax.device_get(state.ema), meta=weights_meta(c, int(state.step)))
  journal.close()
  return state


def report(journal: log.Log, step: int, results: dict[str, evaluators.Result]) -> None:
  """Writes the evaluators' numbers and pictures, and prints their table on stdout."""
  for name, result in results.items():
    journal.scalars(step, {f'{name}/{k}': v for k, v in result.numbers.items()})
    paths = [journal.picture(step, f'{name}_{k}', image) for k, image in result.pictures.items()]
    if jax.process_index() == 0:
      print(f'{name} after step {step}\n{result.table}\n' + '\n'.join(f'picture {p}' for p in paths), flush=True)


class _Stop:
  """Says when a run must end early: after its minutes, or on SIGTERM."""

  def __init__(self, max_minutes: float):
    self.end = time.time() + 60 * max_minutes if max_minutes else float('inf')
    self.signalled = False
    signal.signal(signal.SIGTERM, self._on_signal)

  def _on_signal(self, *_):
    self.signalled = True

  def due(self) -> bool:
    return self.signalled or time.time() > self.end


def commit() -> str:
  """Returns the git commit of the code that runs, or '' outside a repository."""
  here = pathlib.Path(__file__).parent
  result = subprocess.run(['git', '-C', str(here), 'rev-parse', 'HEAD'], capture_output=True, text=True, check=False)
  return result.stdout.strip()


def weights_meta(c, step: int) -> dict:
  """Returns what a weights file says of itself: how to build its network, and where it comes from."""
  return {
    'model': c.model.to_dict(), 'strip': c.strip.to_dict(), 'config': json.loads(c.to_json()), 'step': step, 'commit': commit(),
  }  # fmt: skip


def main(argv):
  del argv
  c = CONFIG.value
  workdir = pathlib.Path(WORKDIR.value or f'runs/{c.name}')
  try:
    train(c, workdir)
  except (ValueError, FloatingPointError) as error:
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  app.run(main)
