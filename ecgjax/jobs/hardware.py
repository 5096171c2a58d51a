"""Cores, accelerators and the compilation cache of this machine."""

import glob
import hashlib
import importlib.util
import math
import os
import pathlib
import platform
from collections.abc import Mapping

PLUGINS = {'GPU': ('jax_cuda12_plugin', 'jax_cuda13_plugin', 'jax_rocm60_plugin', 'jax_rocm7_plugin'), 'TPU': ('libtpu',)}  # of JAX
# glob patterns of Linux's device files
DEVICE_FILES = {'GPU': ('/dev/nvidia[0-9]', '/dev/nvidia[0-9][0-9]'), 'TPU': ('/dev/accel[0-9]', '/dev/vfio/[0-9]', '/dev/vfio/[0-9][0-9]')}


def programs_folder() -> pathlib.Path:
  """Returns the folder of compiled programs that are kept between runs: below XDG_CACHE_HOME, one folder for each kind of CPU."""
  home = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache')
  try:
    flags = next(line for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines() if line.startswith(('flags', 'Features')))
  except (OSError, StopIteration):
    flags = platform.processor()
  return home / 'ecgjax' / hashlib.sha256(f'{platform.machine()} {flags}'.encode()).hexdigest()[:12]


def cores() -> int:
  """Returns how many cores this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def usable(kind: str) -> bool:
  """Returns whether the installed JAX can use devices of a kind, 'GPU' or 'TPU'."""
  return any(importlib.util.find_spec(name) for name in PLUGINS[kind])


def devices(kind: str, *, environ: Mapping[str, str] = os.environ) -> list[str]:
  """Returns the names of the devices of a kind, 'GPU' (NVIDIA's alone) or 'TPU', that JAX supports and this process may use."""
  if not usable(kind) or environ.get('JAX_PLATFORMS') == 'cpu':
    return []
  visible = environ.get('CUDA_VISIBLE_DEVICES' if kind == 'GPU' else 'TPU_VISIBLE_CHIPS')
  if visible is not None:
    return [name for name in visible.split(',') if name not in ('', '-1')]
  return [str(n) for n in range(sum(len(glob.glob(pattern)) for pattern in DEVICE_FILES[kind]))]


def device(number: int, *, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
  """Returns the environment variables that assign a device to one of several children, to be set before JAX is imported.

  A GPU serves several; a TPU chip serves one process, so those beyond the chips read on the cores.

  Args:
    number: of the child, from 0.
    environ: the child's environment.
  """
  gpus, chips = devices('GPU', environ=environ), devices('TPU', environ=environ)
  if chips:
    one = {'TPU_VISIBLE_CHIPS': chips[number % len(chips)], 'TPU_CHIPS_PER_PROCESS_BOUNDS': '1,1,1', 'TPU_PROCESS_BOUNDS': '1,1,1'}
    return one if number < len(chips) else {'JAX_PLATFORMS': 'cpu'}
  return {'CUDA_VISIBLE_DEVICES': gpus[number % len(gpus)]} if gpus else {}


def readers() -> int:
  """Returns how many pages this machine reads at once: the number of its devices, or of its cores without any."""
  return len(devices('GPU') + devices('TPU')) or cores()


def limit(kind: str, value: int, *, lower: bool = True) -> None:
  """Sets a resource limit of this process and its children, as far as the system permits; Windows has none.

  Args:
    kind: 'CORE', 'DATA' (bytes) or 'NOFILE', as getrlimit(2) has them.
    value: the new limit.
    lower: whether the limit may be lowered.
  """
  try:
    import resource
  except ModuleNotFoundError:
    return
  name = getattr(resource, f'RLIMIT_{kind}')
  soft, hard = resource.getrlimit(name)
  least = 0 if lower else math.inf if soft == resource.RLIM_INFINITY else soft
  most = math.inf if hard == resource.RLIM_INFINITY else hard
  if least <= value:
    resource.setrlimit(name, (int(min(value, most)), hard))


def keep_programs() -> None:
  """Makes JAX cache compiled programs in `programs_folder`; to be called before JAX is imported."""
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(programs_folder()))
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')
