"""Inference engines of the trace network: JAX, the reference, or OpenVINO, which is faster on CPUs."""

import functools
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from ecgjax.ecg.errors import ECGError, MissingLibrary
from ecgjax.geometry import lattices, layouts
from ecgjax.networks import backbones, unet, weight_files
from ecgjax.networks.shipped import ENGINES, PRECISIONS

_HINTS = {'bfloat16': 'bf16', 'float32': 'f32'}  # OpenVINO's words


class Engine(NamedTuple):
  """A trace network, ready to run.

  Attributes:
    name: 'jax' or 'openvino'.
    precision: of its convolutions, 'bfloat16' or 'float32'; parameters and scores are float32.
    cell: (a, b) if its input is strips by cells of so many px, (R, H / a, W / b, a b 3) colours alone; None if it is
      (R, H, W, 5) with coordinates.
    scores: maps such strips of a page to Scores, of which `classes` are empty.
    classes: maps such strips to (R, H, W, 4), the scores of each px's classes, by a separate run of the network.
  """

  name: str
  precision: str
  cell: tuple[int, int] | None
  scores: Callable[[jax.Array], unet.Scores]
  classes: Callable[[jax.Array], jax.Array]


def chosen(engine: str, *, precision: str = 'auto') -> tuple[str, str]:
  """Resolves the names of engine and precision.

  Args:
    engine: one of `shipped.ENGINES`.
    precision: one of `shipped.PRECISIONS`.

  Returns:
    'jax' or 'openvino': for 'auto', OpenVINO where it is installed and JAX has only a CPU. 'bfloat16' or 'float32': for 'auto',
    bfloat16 in OpenVINO where the CPU multiplies it (docs/ablations.md: as exact, in half the time), else float32.

  Raises:
    ECGError: for another name, or bfloat16 on a CPU that has none.
    MissingLibrary: if OpenVINO is requested but not installed.
  """
  for name, value, choices in (('engine', engine, ENGINES), ('precision', precision, PRECISIONS)):
    if value not in choices:
      raise ECGError(f'{name} {value!r} is not one of {", ".join(choices)}')
  installed = all(importlib.util.find_spec(name) for name in ('openvino', 'onnx'))
  if engine == 'openvino' and not installed:
    raise MissingLibrary("the openvino engine needs openvino and onnx: pip install 'ecgjax[cpu]'")
  if engine == 'jax' or not installed or (engine == 'auto' and jax.default_backend() != 'cpu'):
    return 'jax', 'float32' if precision == 'auto' else precision
  if precision != 'float32' and 'BF16' not in _openvino().get_property('CPU', 'OPTIMIZATION_CAPABILITIES'):
    if precision == 'bfloat16':
      raise ECGError('precision bfloat16: this CPU has no bfloat16 arithmetic (AVX-512 BF16 or AMX); take auto or float32')
    precision = 'float32'
  return 'openvino', 'bfloat16' if precision == 'auto' else precision


def load(path, *, engine: str, precision: str = 'auto') -> tuple[Engine, dict]:
  """Loads a trace network.

  Args:
    path: of a `.safetensors` file, or a name of `shipped.NAMES`.
    engine: see `chosen`.
    precision: see `chosen`.

  Returns:
    (the network, the file's meta).

  Raises:
    ECGError: as `weight_files.load_network` and `chosen`.
    MissingLibrary: as `chosen`.
  """
  engine, precision = chosen(engine, precision=precision)
  build = lambda **options: backbones.network(**{**options, 'dtype': precision})
  net, params, meta = weight_files.load_network(path, build, part='strip')
  if engine == 'jax':
    scores = jax.jit(lambda params, strips: net.apply(params, strips)._replace(classes=np.zeros(0, np.float32)))
    classes = jax.jit(lambda params, strips: net.apply(params, strips).classes)
    params = jax.device_put(params)
    return Engine(engine, precision, None, functools.partial(scores, params), functools.partial(classes, params)), meta
  cell, write = tuple(meta['model']['cell']), backbones.onnx_writer(meta['model'], params)
  return Engine(engine, precision, cell, *_in_openvino(write, cell, frame(meta), precision)), meta


def frame(meta: dict) -> lattices.Frame:
  """Returns the frame of the strips that weights of this meta read."""
  strip = meta['strip']
  return lattices.frame(layouts.make(strip['layout']), rate_hz=strip['rate_hz'], height_px=strip['height_px'])


@functools.cache
def _openvino():
  # at its import OpenVINO would start a process that tells its maker of it; without this module it takes its own stub
  sys.modules.setdefault('openvino_telemetry', None)  # pyright: ignore[reportArgumentType]
  import openvino

  return openvino.Core()


def _in_openvino(write: Callable[..., bytes], cell: tuple[int, int], of: lattices.Frame, precision: str) -> tuple[Callable, Callable]:
  core = _openvino()
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 0
  options = {'INFERENCE_PRECISION_HINT': _HINTS[precision], 'INFERENCE_NUM_THREADS': cores}

  @functools.cache
  def compiled(rows: int, height: int, width: int, classes: bool):
    places = np.asarray(lattices.coordinates(height, width, frame=of))
    data = write(shape=(rows, height, width), classes=classes, coordinates=places)
    return core.compile_model(core.read_model(data), 'CPU', options)

  def run(cells: jax.Array, classes: bool):
    rows, height, width, _ = cells.shape
    return compiled(rows, height * cell[0], width * cell[1], classes)(np.asarray(cells))

  def scores(cells: jax.Array) -> unet.Scores:
    out = run(cells, False)
    return unet.Scores(jax.numpy.zeros(0), jax.numpy.asarray(out['rows']), jax.numpy.asarray(out['hidden']))

  return scores, lambda cells: jax.numpy.asarray(run(cells, True)['classes'])
