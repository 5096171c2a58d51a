"""Checkpoints: written under a temporary name and renamed, with a sha256 manifest against damage.

A checkpoint is a folder `step_00001234` with `state.msgpack` (flax.serialization), `meta.json` and `manifest.json`.
Weights for shipping are one `.safetensors` file in bf16 whose header holds the configuration that builds the network.
"""

import json
import os
import pathlib
import shutil
from typing import Any

import jax
from flax import serialization

from ecgjax.ecg.errors import ECGError
from ecgjax.networks.weight_files import compare, sha256

KEEP = 2


def save(folder, state: Any, *, step: int, meta: dict) -> None:
  """Saves a state, then removes all but the last KEEP checkpoints.

  Args:
    folder: of the run's checkpoints, created if missing.
    state: pytree of arrays, the same on every host; only the first host writes.
    step: updates applied.
    meta: JSON-able facts stored with it (config, commit).
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
    warn: called with a sentence for each damaged checkpoint that is skipped.

  Returns:
    (state as numpy arrays, step), or None without any checkpoint.

  Raises:
    ECGError: if a sound checkpoint belongs to another network or optimiser, or if every checkpoint is damaged.
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
    raise ECGError(f'none of the {len(found)} checkpoints in {folder} is sound; remove it or choose another --workdir')
  return None


def _steps(folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(folder.glob('step_*'))


def _damage(path: pathlib.Path) -> str:
  try:
    sums = json.loads((path / 'manifest.json').read_text())
    bad = [name for name, digest in sums.items() if sha256(path / name) != digest]
  except (OSError, ValueError) as error:
    return str(error)
  return f'{", ".join(bad)} changed since it was written' if bad or 'state.msgpack' not in sums else ''


