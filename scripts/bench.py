"""Measures what this machine does: python scripts/bench.py render [--variant NAME ...] [--repeats 5] [--batch 8] [--json FILE]

render: pages a second of every variant at 2200 x 1700 px, by stage; memory; the share of a training step that drawing its pages takes.
Each time is the median of the repeats after one run that compiles. Wall times are this machine's own; core-ms say how much work there was.
"""

import argparse
import json
import os
import pathlib
import platform
import resource
import runpy
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax import data, degrade, geometry, layout, losses, model, packs, paper, render, simval, train, update, variants

FRAME_PX = (paper.HEIGHT_PX, paper.WIDTH_PX)
RATE_HZ = packs.RATE_HZ
CONFIG = pathlib.Path(__file__).resolve().parents[1] / 'configs' / 'unet.py'


def timed(call: Callable, *, repeats: int) -> tuple[float, float]:
  """Returns median wall seconds and median core-seconds of a call; whatever it compiles is compiled before."""
  jax.block_until_ready(call())
  walls, cores = [], []
  for _ in range(repeats):
    wall, core = time.perf_counter(), time.process_time()
    jax.block_until_ready(call())
    walls.append(time.perf_counter() - wall)
    cores.append(time.process_time() - core)
  return float(np.median(walls)), float(np.median(cores))


def machine() -> dict[str, str | int]:
  """Returns what the numbers were taken on."""
  cpu = platform.processor() or platform.machine()
  if os.path.exists('/proc/cpuinfo'):
    with open('/proc/cpuinfo') as file:
      cpu = next((line.split(':')[1].strip() for line in file if line.startswith('model name')), cpu)
  device = jax.devices()[0]
  return {
    'cpu': cpu, 'cores': len(os.sched_getaffinity(0)), 'device': f'{jax.device_count()} x {device.device_kind} ({device.platform})',
    'jax': jax.__version__, 'commit': train.commit(),
  }  # fmt: skip


def whole_pages(names: list[str], *, repeats: int, batch: int) -> list[dict]:
  """Times drawing, and drawing with damage, of whole pages; `batch` at once where there is an accelerator."""
  page, mv = layout.make(), simval.simulator(RATE_HZ)(jax.random.key(0))
  many = jax.default_backend() != 'cpu'
  size = batch if many else 1
  keys = jax.random.split(jax.random.key(1), size)

  def drawn(key, style):
    return render.page(key, mv, layout=page, style=style, rate_hz=RATE_HZ).image

  def damaged(key, style, damage, *, shrink):
    image = drawn(key, style)
    photo = degrade.photo(key, image, damage, paper_rgb=style.paper_rgb, frame_px=FRAME_PX, shrink=shrink)
    return jnp.round(255 * photo.image).astype(jnp.uint8), photo.lattice

  # two programs on a CPU as in `simval`: there, one holds the page in memory for the other
  draw = jax.jit(jax.vmap(drawn, (0, None)) if many else lambda k, s: drawn(k[0], s))
  picture = jax.jit(lambda k, i, s, d, shrink: degrade.photo(k, i, d, paper_rgb=s.paper_rgb, frame_px=FRAME_PX, shrink=shrink).image,
                    static_argnums=4)  # fmt: skip
  together = jax.jit(jax.vmap(damaged, (0, None, None)), static_argnames='shrink')
  rows = []
  for name in names:
    variant = variants.frame_of(variants.get(name), width_px=FRAME_PX[1])
    damage, style = jax.tree.map(jnp.float32, variant.damage), variants.draw_look(jax.random.key(2), variant.look)
    clean, _ = timed(lambda style=style: draw(keys, style), repeats=repeats)
    if many:
      call = lambda style=style, damage=damage, v=variant: together(keys, style, damage, shrink=v.shrink)
    else:
      call = lambda style=style, damage=damage, v=variant: picture(keys[0], draw(keys, style), style, damage, v.shrink)
    wall, core = timed(call, repeats=repeats)
    rows.append({'variant': name, 'pages_per_s': size / wall, 'ms': 1e3 * wall / size, 'core_ms': 1e3 * core / size,
                 'draw_ms': 1e3 * clean / size, 'shrink': variant.shrink})  # fmt: skip
    print(f'{name:<8}{size / wall:>10.2f}{1e3 * wall / size:>9.0f}{1e3 * core / size:>10.0f}{1e3 * clean / size:>9.0f}', flush=True)
  return rows


def step_share(*, repeats: int, batch: int) -> dict[str, float]:
  """Times a whole training step on mixed pages, and the drawing of its pages alone, in the small setting of configs/unet.py."""
  page = layout.make()
  small = runpy.run_path(str(CONFIG))['get_config']('small')
  frame = geometry.frame(page, rate_hz=small.strip.rate_hz, height_px=small.strip.height_px)
  net = model.network(**small.model)
  tx = update.optimiser(**small.optim)
  cpu = jax.default_backend() == 'cpu'
  mv, names = simval.simulator(RATE_HZ)(jax.random.key(0)), variants.parse('mixed')
  one = lambda key, item: data.example(key, item['mv'], layout=page, frame=frame, window_px=small.strip.window_px, names=names)
  draw = update.make_draw(one, devices=1, together=1 if cpu else batch)
  items = {'mv': jnp.broadcast_to(mv, (2 if cpu else batch, *mv.shape))}
  params = net.init(jax.random.key(0))
  state = update.State(jnp.int32(0), params, tx.init(params), params)

  def loss(params, example):
    scores = net.apply(params, example.strips)
    return losses.trace_loss(scores, example.rows_px, example.printed, example.inks, sigma_px=1.5, class_weight=0.5, signal_weight=0.0)

  step = jax.jit(update.make_step(loss, tx, draw, ema_decay=0.998))
  drawing = jax.jit(draw)
  counter = iter(range(1_000_000))  # other chance at every repeat: what is drawn decides how long it takes
  whole, _ = timed(lambda: step(state._replace(step=jnp.int32(next(counter))), items, jax.random.key(3)), repeats=4 * repeats)
  alone, _ = timed(lambda: drawing(jax.random.fold_in(jax.random.key(3), next(counter)), items), repeats=4 * repeats)
  return {'step_ms': 1e3 * whole, 'drawing_ms': 1e3 * alone, 'share': alone / whole, 'windows': len(items['mv'])}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  commands = parser.add_subparsers(dest='command', required=True)
  sub = commands.add_parser('render', help='the simulator')
  sub.add_argument('--variant', nargs='*', default=list(variants.VARIANTS))
  sub.add_argument('--repeats', type=int, default=5)
  sub.add_argument('--batch', type=int, default=8, help='pages at once on an accelerator')
  sub.add_argument('--json', help='file for the numbers')
  args = parser.parse_args()
  about = machine()
  print(', '.join(f'{k} {v}' for k, v in about.items()))
  print(f'{"":<8}{"pages/s":>10}{"ms":>9}{"core-ms":>10}{"drawing":>9}')
  rows = whole_pages(args.variant, repeats=args.repeats, batch=args.batch)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  print(f'peak memory of the process so far {peak:.2f} GiB')
  share = step_share(repeats=args.repeats, batch=args.batch)
  print(f'a training step of {share["windows"]:.0f} mixed windows {share["step_ms"]:.0f} ms, its pages alone {share["drawing_ms"]:.0f} ms: '
        f'{100 * share["share"]:.0f} %')  # fmt: skip
  if args.json:
    with open(args.json, 'w') as file:
      json.dump({'machine': about, 'render': rows, 'step': share, 'peak_gib': peak}, file, indent=1)


if __name__ == '__main__':
  main()
