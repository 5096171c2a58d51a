"""Weights on disk: one `.safetensors` file in bf16 whose header holds the configuration that builds the network."""

import hashlib
import json
import pathlib
from typing import Any

import jax
import numpy as np

from ecgjax.ecg.errors import ECGError
from ecgjax.io import atomic
from ecgjax.networks import shipped

REQUIRED = {'strip': {'layout', 'rate_hz', 'height_px'}, 'canvas': {'size_px'}}  # part of the meta -> its keys


def save_weights(path, params: Any, *, meta: dict) -> None:
  """Writes parameters as one bf16 safetensors file.

  Args:
    path: of the file.
    params: nested dict (pure) of float arrays.
    meta: JSON-able; 'model' must hold the network's arguments, 'strip' or 'canvas' the shape of its input (`tasks`).
  """
  import ml_dtypes
  from safetensors.numpy import save

  flat = {'/'.join(map(str, k)): np.asarray(v) for k, v in _flatten(params)}
  data = save({k: v.astype(ml_dtypes.bfloat16) for k, v in flat.items()}, metadata={'meta': json.dumps(meta)})
  atomic.whole(path, lambda part: part.write_bytes(data))


def load_weights(path) -> tuple[dict, dict]:
  """Reads a weights file.

  Args:
    path: of a `.safetensors` file as `save_weights` writes it, or a name of `shipped.NAMES`.

  Returns:
    (params as a nested dict of float32 arrays, meta).

  Raises:
    ECGError: if the file is missing, is no safetensors file, or lacks the network's configuration.
  """
  from safetensors import SafetensorError, safe_open

  path, params = shipped.located(path), {}
  try:
    with safe_open(str(path), framework='flax') as file:
      meta = json.loads((file.metadata() or {}).get('meta', '{}'))
      for name in file.keys():  # noqa: SIM118, not a dict
        _put(params, name.split('/'), np.asarray(file.get_tensor(name)).astype(np.float32))
  except SafetensorError as error:
    raise ECGError(f'{path} is not a safetensors file: {error}') from error
  except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:  # whatever a stranger's header may hold
    raise ECGError(f'{path} has a header that cannot be read: {type(error).__name__}: {error}') from error
  if not isinstance(meta, dict) or 'model' not in meta or not {'strip', 'canvas'} & meta.keys():
    raise ECGError(f'{path} says nothing of the network it belongs to; it was not written by ecgjax')
  return params, meta


def load_network(path, build, *, part: str) -> tuple[Any, dict, dict]:
  """Reads a weights file and builds the network it belongs to.

  Args:
    path: of the file.
    build: maps the file's `meta['model']` to the network, a pair of pure functions.
    part: further key that the header must hold: 'strip' for a trace network, 'canvas' for a page network.

  Returns:
    (network, params, meta).

  Raises:
    ECGError: if the file is missing or damaged, or belongs to another network or other shapes.
  """
  params, meta = load_weights(path)
  if not isinstance(meta.get(part), dict):
    raise ECGError(f'{path} belongs to another network: it says nothing of a {part}; choose another file')
  if missing := sorted(REQUIRED[part] - meta[part].keys()):
    raise ECGError(f'{path} does not say what its network looks at: its {part} has no {", ".join(missing)}')
  try:
    net = build(**meta['model'])
    wanted = jax.eval_shape(net.init, jax.random.key(0))
  except Exception as error:  # whatever a file of another version, or of a stranger, may ask for
    raise ECGError(f'{path} describes a network that cannot be built: {type(error).__name__}: {error}') from error
  compare(params, wanted, path)
  return net, params, meta


def sha256(path) -> str:
  """Returns the checksum of a file's bytes, in hexadecimal digits."""
  return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def _flatten(tree, path=()):
  for key, value in tree.items():
    yield from _flatten(value, (*path, key)) if isinstance(value, dict) else [((*path, key), value)]


def _put(tree: dict, path: list[str], value) -> None:
  for key in path[:-1]:
    tree = tree.setdefault(int(key) if key.isdigit() else key, {})
  tree[path[-1]] = value


def compare(found: dict, wanted: dict, path) -> None:
  """Raises ECGError, naming the first array, where two parameter trees differ in shape."""
  shapes = lambda tree: {'/'.join(map(str, k)): np.shape(v) for k, v in _flatten(tree)}
  a, b = shapes(found), shapes(wanted)
  different = [k for k in sorted({*a, *b}) if a.get(k) != b.get(k)]
  if different:
    k = different[0]
    raise ECGError(
      f'{path} is a checkpoint of another model: {k} is {a.get(k)} there and {b.get(k)} here '
      f'({len(different)} arrays differ); change config.model or choose another --workdir'
    )
