"""Benchmarks of what a training does: drawing pages, learning from them."""

import pathlib
import runpy
from typing import Any

import jax
import jax.numpy as jnp
import measure
import numpy as np

from ecgjax.damage import degrade
from ecgjax.drawing import render
from ecgjax.ecg import packs
from ecgjax.geometry import layouts, paper
from ecgjax.simulate import validation_set, variants
from ecgjax.training import sharding, tasks, train_step
from ecgjax.training.schedule import Pace

FRAME_PX = (paper.HEIGHT_PX, paper.WIDTH_PX)
RATE_HZ = packs.RATE_HZ
NOW = Pace(1.0, 1.0)  # a step in the middle of a run
CONFIG = pathlib.Path(__file__).resolve().parents[1] / 'configs' / 'unet.py'


def render_pages(names: list[str], *, repeats: int, batch: int) -> dict[str, float]:
  """Times drawing, and drawing with damage, of whole pages; `batch` at once where there is an accelerator."""
  page, mv = layouts.make(), validation_set.simulator(RATE_HZ)(jax.random.key(0))
  many = jax.default_backend() != 'cpu'
  size = batch if many else 1
  keys = jax.random.split(jax.random.key(1), size)

  def drawn(key, style):
    return render.page(key, mv, layout=page, style=style, rate_hz=RATE_HZ).image

  def damaged(key, style, damage, *, shrink):
    image = drawn(key, style)
    photo = degrade.photo(key, image, damage, paper_rgb=style.paper_rgb, frame_px=FRAME_PX, shrink=shrink)
    return jnp.round(255 * photo.image).astype(jnp.uint8), photo.lattice

  # two programs on a CPU as in `validation_set`: there, one holds the page in memory for the other
  draw = jax.jit(jax.vmap(drawn, (0, None)) if many else lambda k, s: drawn(k[0], s))
  picture = jax.jit(lambda k, i, s, d, shrink: degrade.photo(k, i, d, paper_rgb=s.paper_rgb, frame_px=FRAME_PX, shrink=shrink).image,
                    static_argnums=4)  # fmt: skip
  together = jax.jit(jax.vmap(damaged, (0, None, None)), static_argnames='shrink')
  numbers: dict[str, float] = {}
  for name in names:
    variant = variants.frame_of(variants.get(name), width_px=FRAME_PX[1])
    damage, style = jax.tree.map(jnp.float32, variant.damage), variants.draw_look(jax.random.key(2), variant.look)
    clean, _ = measure.timed(lambda style=style: draw(keys, style), repeats=repeats)
    if many:
      call = lambda style=style, damage=damage, v=variant: together(keys, style, damage, shrink=v.shrink)
    else:
      call = lambda style=style, damage=damage, v=variant: picture(keys[0], draw(keys, style), style, damage, v.shrink)
    wall, core = measure.timed(call, repeats=repeats)
    numbers |= {f'{name} pages/s': size / wall, f'{name} core-ms': 1e3 * core / size, f'{name} drawing ms': 1e3 * clean / size}
  return numbers


def train_steps(setting: str, *, batch: int, repeats: int, profile: str) -> dict[str, float | str]:
  """Times a training step on mixed pages and its parts: drawing, losses with their gradient, the optimiser's update.

  Args:
    setting: of configs/unet.py.
    batch: windows of a step, over all devices; the setting's own where it is 0.
    repeats: of each.
    profile: folder for a trace of three steps; none where it is empty.

  Returns:
    ms of each; windows a second; and of the gradient, how near it comes to what the device could do.
  """
  c = runpy.run_path(str(CONFIG))['get_config'](setting)
  c.data.variants, c.batch_size = 'mixed', batch or max(c.batch_size, jax.device_count())
  devices, task = sharding.data_mesh(batch_size=c.batch_size), tasks.make(c)
  tx = train_step.optimiser(**c.optim, steps=c.schedule == 'steps')
  draw = train_step.make_draw(task.one, together=c.data.together, mesh=devices)
  whole = train_step.make_step(task.loss, tx, draw, ema_decay=c.ema_decay)
  given: dict[str, Any] = {'out_shardings': sharding.copy(devices)}

  def mean(params, examples):
    return jax.vmap(task.loss, (None, 0, None))(params, examples, NOW)[0].mean()

  params = jax.jit(task.net.init, **given)(jax.random.key(0))
  state = train_step.State(jnp.int32(0), params, jax.jit(tx.init, **given)(params), params)
  step, drawing = jax.jit(whole, **given), jax.jit(draw)
  learning, updating = jax.jit(jax.grad(mean), **given), jax.jit(tx.update)
  batch_of = lambda n: sharding.put(task.stream(n), devices)
  count = iter(range(1_000_000))  # other chance at every repeat: what is drawn decides how long it takes
  step_s, step_core_s = measure.timed(
    lambda: step(state._replace(step=jnp.int32(next(count))), batch_of(0), jax.random.key(3), NOW), repeats=4 * repeats
  )
  drawing_s, _ = measure.timed(lambda: drawing(jax.random.fold_in(jax.random.key(3), next(count)), batch_of(0)), repeats=4 * repeats)
  examples = drawing(jax.random.key(3), batch_of(0))
  learning_s, _ = measure.timed(lambda: learning(params, examples), repeats=repeats)
  grads = learning(params, examples)
  update_s, _ = measure.timed(lambda: updating(grads, state.opt, params), repeats=repeats)
  if profile:
    with jax.profiler.trace(profile):
      for n in range(3):
        jax.block_until_ready(step(state._replace(step=jnp.int32(n)), batch_of(n), jax.random.key(3), NOW))
  best = measure.peaks(c.model.dtype)
  near = measure.roofline(learning.lower(params, examples).compile(), learning_s, best)
  return {
    'step ms': 1e3 * step_s, 'step core-ms': 1e3 * step_core_s, 'drawing ms': 1e3 * drawing_s, 'learning ms': 1e3 * learning_s,
    'update ms': 1e3 * update_s, 'windows/s': c.batch_size / step_s, 'parameters': float(sum(np.size(x) for x in jax.tree.leaves(params))),
    'peak GFLOP/s': best['flops_per_s'] / 1e9, 'peak GB/s': best['bytes_per_s'] / 1e9, **{f'learning {k}': v for k, v in near.items()},
  }  # fmt: skip
