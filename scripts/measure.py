"""What all benchmarks share: time, the machine, how much work a program is, and what the machine could do of it at best."""

import json
import os
import pathlib
import platform
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.training import loop

BASELINE = pathlib.Path(__file__).with_name('baseline.json')
SAME = ('cpu', 'cores', 'device')  # of a machine, for its numbers to be compared


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
    'jax': jax.__version__, 'commit': loop.commit(),
  }  # fmt: skip


def peaks(dtype: str) -> dict[str, float]:
  """Returns what a device does at best, measured: operations a second of a large matrix product, bytes a second of a large copy."""
  n = 2048 if jax.default_backend() == 'cpu' else 8192
  a = jnp.ones((n, n), dtype)
  product, copy = jax.jit(lambda a: a @ a), jax.jit(lambda x: x + 1)
  x = jnp.zeros(1 << 26, jnp.float32)
  return {
    'flops_per_s': 2 * n**3 / timed(lambda: product(a), repeats=7)[0],
    'bytes_per_s': 2 * x.nbytes / timed(lambda: copy(x), repeats=7)[0],
  }


def roofline(compiled, seconds: float, best: dict[str, float]) -> dict[str, float | str]:
  """Says how near a program comes to the least time that its arithmetic and its memory traffic need.

  Args:
    compiled: a compiled jax program; a loop's body counts once, so it should have none that matters.
    seconds: that it takes.
    best: as of `peaks`.

  Returns:
    GFLOP and GB as XLA counts them, which of the two bounds it, and the share of that bound that is achieved.
  """
  work = compiled.cost_analysis()
  flops, moved_bytes = float(work['flops']), float(work['bytes accessed'])
  least = {'arithmetic': flops / best['flops_per_s'], 'memory': moved_bytes / best['bytes_per_s']}
  bound = max(least, key=lambda name: least[name])
  return {
    'gflop': flops / 1e9, 'gbyte': moved_bytes / 1e9, 'bound': bound, 'flop_share': least['arithmetic'] / seconds,
    'roof_share': least[bound] / seconds, 'temporary_gib': compiled.memory_analysis().temp_size_in_bytes / 2**30,
  }  # fmt: skip


def show(name: str, numbers: dict, about: dict) -> None:
  """Prints numbers, each with its ratio to the stored baseline where that was taken on such a machine."""
  stored = json.loads(BASELINE.read_text()).get(name, {}) if BASELINE.exists() else {}
  alike = bool(stored) and all(stored['machine'][key] == about[key] for key in SAME)
  if stored and not alike:
    print(f'the baseline is of another machine ({stored["machine"]["cpu"]}): no ratios')
  for key, value in numbers.items():
    before = stored.get('numbers', {}).get(key) if alike else None
    ratio = f'{value / before:8.2f} x' if isinstance(before, float) and before and not isinstance(value, str) else ''
    print(f'{key:<44}{value if isinstance(value, str) else f"{value:,.4g}":>14}{ratio}')


def keep(name: str, numbers: dict, about: dict) -> None:
  """Makes numbers the baseline of their command."""
  stored = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
  stored[name] = {'machine': about, 'numbers': {k: v if isinstance(v, str) else float(f'{v:.4g}') for k, v in numbers.items()}}
  BASELINE.write_text(json.dumps(stored, indent=1) + '\n')
