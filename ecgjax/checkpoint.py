"""State on disk: written beside and renamed, with a sha256 manifest, so that what is restored is what was saved.

A checkpoint is a folder `step_00001234` with `state.msgpack` (flax.serialization), `meta.json` and `manifest.json`.
Weights for shipping are one `.safetensors` file in bf16 whose header holds the configuration that builds the network.
"""

import hashlib
import json
import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
from flax import serialization

from ecgjax import shipped

KEEP = 2


def save(folder, state: Any, *, step: int, meta: dict) -> None:
  """Saves a state; older checkpoints beyond the last KEEP are removed after it is safe.

  Args:
    folder: of the run's checkpoints, made where missing.
    state: pytree of arrays, the same on every host; only the first host writes.
    step: updates applied.
    meta: JSON-able facts beside it (config, commit).
  """
  if jax.process_index() != 0:
    return
  folder = pathlib.Path(folder)
  final, beside = folder / f'step_{step:08d}', folder / f'.writing_{step:08d}'
  for left in folder.glob('.writing_*'):  # by a run that was killed
    shutil.rmtree(left)
  beside.mkdir(parents=True)
  (beside / 'state.msgpack').write_bytes(serialization.to_bytes(jax.device_get(state)))
  (beside / 'meta.json').write_text(json.dumps({'step': step, **meta}, indent=1, default=str))
  sums = {p.name: sha256(p) for p in sorted(beside.iterdir())}
  (beside / 'manifest.json').write_text(json.dumps(sums, indent=1))
  aside = folder / f'{final.name}.old'  # still found by `restore` if the run dies before the next line is done
  if final.exists():
    os.replace(final, aside)
  os.replace(beside, final)
  shutil.rmtree(aside, ignore_errors=True)
  for old in _steps(folder)[:-KEEP]:
    shutil.rmtree(old)


def restore(folder, like: Any, *, warn) -> tuple[Any, int] | None:
  """Reads the newest sound checkpoint.

  Args:
    folder: of the run's checkpoints; may be missing.
    like: a state of the same shapes.
    warn: called with a sentence for each damaged checkpoint that is passed over.

  Returns:
    (state as numpy arrays, step), or None where there is no checkpoint at all.

  Raises:
    ValueError: if a sound checkpoint belongs to another network or optimiser, or if every checkpoint is damaged.
  """
  found = _steps(pathlib.Path(folder))
  for path in reversed(found):
    damage = _damage(path)
    if damage:
      warn(f'checkpoint {path} is damaged ({damage}); trying the one before')
      continue
    tree: Any = serialization.msgpack_restore((path / 'state.msgpack').read_bytes())
    compare(tree, serialization.to_state_dict(like), path)
    return serialization.from_state_dict(like, tree), json.loads((path / 'meta.json').read_text())['step']
  if found:
    raise ValueError(f'none of the {len(found)} checkpoints in {folder} is sound; remove it or choose another --workdir')
  return None


def save_weights(path, params: Any, *, meta: dict) -> None:
  """Writes parameters as one bf16 safetensors file.

  Args:
    path: of the file.
    params: nested dict (pure) of float arrays.
    meta: JSON-able; 'model' must hold the network's arguments, 'strip' or 'canvas' what it looks at (`tasks`).
  """
  import ml_dtypes
  from safetensors.numpy import save

  flat = {'/'.join(map(str, k)): np.asarray(v) for k, v in _flatten(params)}
  data = save({k: v.astype(ml_dtypes.bfloat16) for k, v in flat.items()}, metadata={'meta': json.dumps(meta)})
  path = pathlib.Path(path)
  beside = path.with_name(f'.{path.name}.writing')
  beside.write_bytes(data)
  os.replace(beside, path)


def load_weights(path) -> tuple[dict, dict]:
  """Reads a weights file.

  Args:
    path: of a `.safetensors` file as `save_weights` writes it, or a name of `shipped.NAMES`.

  Returns:
    (params as a nested dict of float32 arrays, meta).

  Raises:
    ValueError: if the file is missing, is no safetensors file, or lacks the network's configuration.
  """
  from safetensors import SafetensorError, safe_open

  path, params = shipped.located(path), {}
  try:
    with safe_open(str(path), framework='flax') as file:
      meta = json.loads((file.metadata() or {}).get('meta', '{}'))
      for name in file.keys():  # noqa: SIM118, not a dict
        _put(params, name.split('/'), np.asarray(file.get_tensor(name)).astype(np.float32))
  except SafetensorError as error:
    raise ValueError(f'{path} is not a safetensors file: {error}') from error
  if not isinstance(meta, dict) or 'model' not in meta or not {'strip', 'canvas'} & meta.keys():
    raise ValueError(f'{path} says nothing of the network it belongs to; it was not written by ecgjax')
  return params, meta


def load_network(path, build, *, part: str) -> tuple[Any, dict, dict]:
  """Reads a weights file and builds the network it belongs to.

  Args:
    path: of the file.
    build: from the file's `meta['model']` to the network, a pair of pure functions.
    part: what the file must say besides: 'strip' if it is a trace network's, 'canvas' if a page network's.

  Returns:
    (network, params, meta).

  Raises:
    ValueError: if the file is missing, damaged, another network's, or of other shapes.
  """
  params, meta = load_weights(path)
  if part not in meta:
    raise ValueError(f'{path} belongs to another network: it says nothing of a {part}; choose another file')
  try:
    net = build(**meta['model'])
    wanted = jax.eval_shape(net.init, jax.random.key(0))
  except Exception as error:  # whatever a file of another version, or of a stranger, may ask for
    raise ValueError(f'{path} describes a network that cannot be built: {type(error).__name__}: {error}') from error
  compare(params, wanted, path)
  return net, params, meta


def _steps(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(folder.glob('step_*'))


def sha256(path) -> str:
  """Returns the checksum of a file's bytes, in hexadecimal digits."""
  return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def _damage(path: pathlib.Path) -> str:
  try:
    sums = json.loads((path / 'manifest.json').read_text())
    bad = [name for name, digest in sums.items() if sha256(path / name) != digest]
  except (OSError, ValueError) as error:
    return str(error)
  return f'{", ".join(bad)} changed since it was written' if bad or 'state.msgpack' not in sums else ''


def _flatten(tree, path=()):
  for key, value in tree.items():
    yield from _flatten(value, (*path, key)) if isinstance(value, dict) else [((*path, key), value)]


def _put(tree: dict, path: list[str], value) -> None:
  for key in path[:-1]:
    tree = tree.setdefault(int(key) if key.isdigit() else key, {})
  tree[path[-1]] = value


def compare(found: dict, wanted: dict, path) -> None:
  """Raises ValueError, naming the first array, where two parameter trees differ in shape."""
  shapes = lambda tree: {'/'.join(map(str, k)): np.shape(v) for k, v in _flatten(tree)}
  a, b = shapes(found), shapes(wanted)
  different = [k for k in sorted({*a, *b}) if a.get(k) != b.get(k)]
  if different:
    k = different[0]
    raise ValueError(
      f'{path} is a checkpoint of another model: {k} is {a.get(k)} there and {b.get(k)} here '
      f'({len(different)} arrays differ); change config.model or choose another --workdir'
    )
