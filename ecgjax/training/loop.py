"""The training loop: from a config to the final state, with reports, checkpoints and weights during the run."""

import functools
import json
import pathlib
import signal
import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.ecg.errors import ECGError
from ecgjax.jobs import console
from ecgjax.networks import weight_files
from ecgjax.training import checkpoints, evaluators, multihost, run_log, sharding, tasks, train_step
from ecgjax.training.schedule import Clock

PATHS = ('signals', 'dir', 'init_from')  # options of a config that name files


def every(step: int, period: int, last: int) -> bool:
  """Returns whether an action of every `period` steps is due; always true at the last step."""
  return step % period == 0 or step == last


def train(c, workdir: pathlib.Path) -> train_step.State:
  """Runs a training, or resumes the one in its workdir.

  Args:
    c: a config, a result of `get_config(variant)` of configs/unet.py.
    workdir: folder of checkpoints, metrics, pictures and weights.

  Returns:
    The last state.

  Raises:
    ECGError: for a config that cannot be trained, other data or another loss than the workdir's run began with, or damaged checkpoints.
    FloatingPointError: if the loss is not finite.
  """
  console.say(f'{c.note} {jax.device_count()} x {jax.devices()[0].device_kind}, workdir {workdir}')
  given = weight_files.load_weights(c.init_from)[0] if c.init_from else None  # before anything is compiled
  devices = sharding.data_mesh(batch_size=c.batch_size, accumulate=c.accumulate, width_shards=c.width_shards)
  task, tx = tasks.make(c), train_step.optimiser(**c.optim, steps=c.schedule == 'steps')
  draw = train_step.make_draw(task.one, together=c.data.together, accumulate=c.accumulate, mesh=devices)

  def init(key):
    params = task.net.init(key)
    return train_step.State(jnp.int32(0), params, tx.init(params), params)

  key = jax.random.key(c.seed)
  if given:
    weight_files.compare(given, jax.eval_shape(init, key).params, c.init_from)
  state = jax.jit(init, out_shardings=sharding.copy(devices))(key)
  if given:
    state = train_step.State(state.step, given, state.opt, given)
  saved, used_s = multihost.of_first(lambda: _saved(c, workdir, state), like=(jax.device_get(state), np.float64(0))), 0.0
  if saved is not None:
    state, used_s = saved[0], float(saved[1])
    console.say(f'resumed after step {int(state.step)}')
  first = int(state.step) + 1
  state = jax.device_put(state, sharding.copy(devices))

  spread = functools.partial(sharding.spread, mesh=devices, columns=task.columns) if c.width_shards > 1 else lambda examples: examples
  step = train_step.make_step(task.loss, tx, draw, ema_decay=c.ema_decay, accumulate=c.accumulate, spread=spread)
  step_fn = jax.jit(step, donate_argnums=0, out_shardings=sharding.copy(devices))
  clock = Clock(
    schedule=c.schedule, total_steps=c.total_steps, max_minutes=c.max_minutes, signal_from=c.loss.get('signal_from', 0.0), used_s=used_s
  )
  return _loop(c, workdir, state, first, step_fn=step_fn, put=lambda b: sharding.put(b, devices), task=task, clock=clock)


def _saved(c, workdir: pathlib.Path, like: train_step.State) -> tuple[train_step.State, np.float64] | None:
  """Returns the state of the newest sound checkpoint and the seconds of training before it, if there is one."""
  found = checkpoints.restore(workdir / 'checkpoints', like, warn=console.say)
  if found is None:
    return None
  meta = json.loads((workdir / 'checkpoints' / f'step_{found[1]:08d}' / 'meta.json').read_text())
  same_run(c, meta['config'], workdir)
  return found[0], np.float64(meta.get('used_s', 0.0))


def same_run(c, saved: dict, workdir: pathlib.Path) -> None:
  """Raises ECGError if a run would resume with other data or another loss than it began with."""
  now, names = json.loads(c.to_json()), ('task', 'seed', 'batch_size', 'data', 'loss', 'init_from', 'schedule')
  other = [name for name in names if json.loads(json.dumps(saved.get(name))) != now[name]]
  if other:
    raise ECGError(f'{workdir} holds a run with another config.{other[0]}: {saved.get(other[0])}; choose another --workdir')


def _loop(c, workdir, state: train_step.State, first: int, *, step_fn, put, task: tasks.Task, clock: Clock) -> train_step.State:
  journal, key = run_log.Log(workdir), jax.random.key(c.seed)
  meta = {'config': c.to_dict(), 'commit': commit()}
  stop = _Stop(clock)
  last = c.total_steps
  if first > last or clock.over():
    done, last = (f'total_steps={last} are done', last) if first > last else (f'max_minutes={c.max_minutes:g} are over', first - 1)
    console.say(f'config.{done}; raise it to train on')
    report(journal, first - 1, _scored(task, state))
  reported, waited, since, metrics = first - 1, 0.0, time.time(), {}
  ahead = [at for at in c.weights_at if not _weights(c, workdir, at).exists()]
  for step in range(first, last + 1):
    tic = time.time()
    batch = put(task.stream(step - 1))
    waited += time.time() - tic
    if clock.by_time:
      jax.block_until_ready(metrics)  # steps that were handed over unasked would all go by the time of the first of them
    share = clock.share(step)
    state, metrics = step_fn(state, batch, key, clock.pace(share))
    if step == first:
      jax.block_until_ready(metrics)
      clock.begin()
    done = step == last or stop.due(step)
    due = [at for at in ahead if share >= at]
    saving = every(step, c.ckpt_every, last) or done or bool(due)
    if every(step, c.log_every, last) or saving:
      metrics = {k: float(v) for k, v in metrics.items()}
      # the loss belongs to the parameters before the update, the gradient says whether they are sound after it
      if not np.isfinite([metrics['loss'], metrics['grad_norm']]).all():
        raise FloatingPointError(
          f'loss is {metrics["loss"]}, gradient {metrics["grad_norm"]} at step {step}, seed {c.seed}, and was sound at step {reported}. '
          'The last checkpoint is kept: the same command with --config.log_every=1 goes on from it and stops at the very step'
        )
      took = time.time() - since
      metrics |= {'steps_per_s': (step - reported) / took, 'waiting': waited / took}
      reported = step
      journal.scalars(step, metrics)
      console.say(f'step {step}/{last}  ' + '  '.join(f'{k} {v:.4g}' for k, v in metrics.items()))
      waited, since = 0.0, time.time()
    if saving:
      checkpoints.save(workdir / 'checkpoints', state, step=step, meta={**meta, 'used_s': clock.used_s})
      for at in due:
        _write_weights(c, state, task, path=_weights(c, workdir, at))
        ahead.remove(at)
    if (every(step, c.eval_every, last) or done) and not stop.signalled:
      report(journal, step, _scored(task, state))
      since = time.time()
    if done:
      break
  if clock.by_time and last == c.total_steps and not clock.over() and not stop.signalled:
    console.say(f'config.total_steps={last} ended a run by time before its learning rate was down: raise it, or lower config.max_minutes')
  _write_weights(c, state, task, path=workdir / f'{c.task}.safetensors')
  journal.close()
  return state


def _weights(c, workdir: pathlib.Path, at: float) -> pathlib.Path:
  """Returns the path of the weights after a share of the run."""
  return workdir / f'{c.task}_{100 * at:g}.safetensors'


def _write_weights(c, state: train_step.State, task: tasks.Task, *, path: pathlib.Path) -> None:
  if jax.process_index() == 0:
    meta = weights_meta(c, task.shape, int(state.step))
    weight_files.save_weights(path, jax.device_get(state.ema), meta=meta)


def _scored(task: tasks.Task, state: train_step.State) -> dict[str, evaluators.Result]:
  ema = jax.tree.map(jnp.asarray, jax.device_get(state.ema))  # every host for itself: what is sharded could only be read by all at once
  return {name: run(ema) for name, run in task.evals.items()}


def report(journal: run_log.Log, step: int, results: dict[str, evaluators.Result]) -> None:
  """Writes the evaluators' numbers and pictures, and prints their table on stdout."""
  for name, result in results.items():
    journal.scalars(step, {f'{name}/{k}': v for k, v in result.numbers.items()})
    paths = [journal.picture(step, f'{name}_{k}', image) for k, image in result.pictures.items()]
    if jax.process_index() == 0:
      with open(journal.workdir / 'tables.txt', 'a') as file:
        file.write(f'{name} after step {step}\n{result.table}\n\n')
      print(f'{name} after step {step}\n{result.table}\n' + '\n'.join(f'picture {p}' for p in paths), flush=True)


class _Stop:
  """Decides when a run ends early: after its minutes or on SIGTERM to any host, after the same step on all hosts."""

  def __init__(self, clock: Clock):
    self.clock, self.signalled = clock, False
    if multihost.alone():  # of several JAX catches it itself, to tell the others
      signal.signal(signal.SIGTERM, self._on_signal)

  def _on_signal(self, *_):
    self.signalled = True

  def due(self, step: int) -> bool:
    if multihost.alone():
      return self.signalled or self.clock.over()
    self.signalled = multihost.preempted(step)
    return self.signalled or (step % multihost.AGREE_EVERY == 0 and multihost.any_host(self.clock.over()))


def commit() -> str:
  """Returns the git commit of the code that runs, with a + if that was changed since, or '' outside its repository or without git."""
  here = pathlib.Path(__file__).resolve().parents[2]
  ask = lambda *words: subprocess.run(['git', '-C', str(here), *words], capture_output=True, text=True, check=True).stdout
  try:
    folder, found = ask('rev-parse', '--show-toplevel', 'HEAD').split('\n')[:2]
    if pathlib.Path(folder).resolve() != here:  # that of another project, in whose environment this is installed
      return ''
    return found + '+' * bool(ask('status', '--porcelain', '--untracked-files=no', '--', 'ecgjax', 'configs'))
  except (OSError, subprocess.CalledProcessError):
    return ''


def weights_meta(c, shape: dict, step: int) -> dict:
  """Returns the header of a weights file: arguments of its network, and its origin, without folders of this machine."""
  config = json.loads(c.to_json(), object_hook=lambda d: {k: pathlib.Path(v).name if k in PATHS else v for k, v in d.items()})
  return {'model': c.model.to_dict(), **shape, 'config': config, 'step': step, 'commit': commit()}
