"""What runs the trace network when pages are read: JAX, the reference, or OpenVINO, which is faster on CPUs."""

import functools
import importlib.util
import os
import sys
from collections.abc import Callable

import jax
import numpy as np

from ecgjax import checkpoint, export, model

ENGINES = ('auto', 'jax', 'openvino')


def chosen(engine: str) -> str:
  """Tells which engine is meant.

  Args:
    engine: one of ENGINES.

  Returns:
    'jax' or 'openvino': of 'auto', OpenVINO where it is installed and JAX has nothing but a CPU.

  Raises:
    ValueError: for another name.
    ImportError: if OpenVINO is asked for and not installed.
  """
  if engine not in ENGINES:
    raise ValueError(f'engine {engine!r} is not one of {", ".join(ENGINES)}')
  there = all(importlib.util.find_spec(name) for name in ('openvino', 'onnx'))
  if engine == 'openvino' and not there:
    raise ImportError("the openvino engine needs openvino and onnx: pip install 'ecgjax[cpu]'")
  return 'openvino' if engine == 'openvino' or (engine == 'auto' and there and jax.default_backend() == 'cpu') else 'jax'


def load(path, *, engine: str) -> tuple[Callable[[jax.Array], model.Scores], dict]:
  """Loads a trace network.

  Args:
    path: of a `.safetensors` file.
    engine: 'jax' or 'openvino'.

  Returns:
    (strips (R, H, W, 5) -> Scores, of which both leave `classes` empty, and the file's meta).

  Raises:
    ValueError: as `checkpoint.load_network`.
  """
  net, params, meta = checkpoint.load_network(path, model.network, part='strip')
  if engine == 'jax':
    run = jax.jit(lambda params, strips: net.apply(params, strips)._replace(classes=np.zeros(0, np.float32)))
    return functools.partial(run, jax.device_put(params)), meta
  return _openvino(params, tuple(meta['model']['cell'])), meta


def _openvino(params: dict, cell: tuple[int, int]) -> Callable[[jax.Array], model.Scores]:
  # at its import OpenVINO would start a process that tells its maker of it; without this module it takes its own stub
  sys.modules.setdefault('openvino_telemetry', None)  # pyright: ignore[reportArgumentType]
  import openvino

  core = openvino.Core()
  # float32 as the reference; without the hint a CPU with AMX would compute in bfloat16
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 0
  how = {'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': cores}

  @functools.cache
  def compiled(shape):
    return core.compile_model(core.read_model(export.onnx_bytes(params, cell=cell, shape=shape, classes=False)), 'CPU', how)

  def run(strips: jax.Array) -> model.Scores:
    out = compiled(strips.shape[:3])(np.asarray(strips))
    return model.Scores(jax.numpy.zeros(0), jax.numpy.asarray(out['rows']), jax.numpy.asarray(out['hidden']))

  return run
