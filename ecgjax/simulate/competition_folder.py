"""Writes a competition folder of any size from simulated pages: ecgjax simulate --variant 0005 --n 8 --out DIR

Folders, pictures and csv files are as the competition's own: six sampling rates, 3 decimals of a mV. Beside each picture,
`<id>-<variant>.lattice.npy` holds the true (45, 57, 2) lattice. The signals are simulated unless --signals names recordings.
"""

import math
import os
import pathlib
import shutil
from collections.abc import Callable, Sequence

import jax
import numpy as np
from PIL import Image

from ecgjax.ecg import packs
from ecgjax.ecg.errors import ECGError
from ecgjax.ecg.leads import LEADS
from ecgjax.simulate import validation_set, variants

RATES_HZ = (500, 250, 1000, 256, 512, 1025)
DRAWN_HZ = 1000  # of the simulator
SECONDS = 10
LAYOUT = validation_set.PAGE
FIRST_ID = 900000001  # no record of the competition has it
NOTE = 'simulated.txt'  # only a folder with this file is ever replaced


def write_folder(
  out_dir: str | os.PathLike, *, records: int, seed: int, names: Sequence[str] = ('0001',), tests: int = 0, source: str = '',
  rates_hz: Sequence[int] = RATES_HZ, overwrite: bool = False, say: Callable[[str], None] = lambda line: None,
) -> None:  # fmt: skip
  """Writes train.csv and train/, with `tests` also test.csv and test/; the folder appears only when it is complete.

  Args:
    out_dir: may be there only if it is empty, or with `overwrite` if it was written by this function.
    records: number of training records, >= 1.
    seed: of signals, headers and damage.
    names: variants of each training record; the pages of test/ take them in turn.
    tests: number of records in test/.
    source: pack or WFDB folder to print; simulated signals where it is empty.
    rates_hz: taken in turn.
    overwrite: replace an older sample.
    say: called with a line for each record that was written.

  Raises:
    ECGError: if a number is out of range, a variant unknown, the source too small, or `out_dir` may not be written.
  """
  out_dir = pathlib.Path(out_dir)
  if records < 1 or tests < 0:
    raise ECGError(f'{records} records and {tests} for test/; need at least 1 and 0')
  for name in names:
    variants.get(name)
  if out_dir.exists() and not out_dir.is_dir():
    raise ECGError(f'{out_dir} is a file; give another --out')
  if out_dir.is_dir() and any(out_dir.iterdir()):
    if not (out_dir / NOTE).is_file():
      raise ECGError(f'{out_dir} is not empty and was not written by this command; give another --out')
    if not overwrite:
      raise ECGError(f'{out_dir} is not empty; give another --out or --overwrite')
  pack = packs.load(source)[0] if source else None
  if pack is not None and len(pack) < records + tests:
    raise ECGError(f'{source} holds {len(pack)} recordings; {records + tests} were asked for')
  part = out_dir.parent / f'.{out_dir.name}.{os.getpid()}.part'
  try:
    _write(part, records=records, tests=tests, seed=seed, names=names, pack=pack, rates_hz=rates_hz, say=say)
    shutil.rmtree(out_dir, ignore_errors=True)
    os.replace(part, out_dir)
  finally:
    shutil.rmtree(part, ignore_errors=True)


def _write(out_dir: pathlib.Path, *, records: int, tests: int, seed: int, names, pack, rates_hz: Sequence[int], say) -> None:
  (out_dir / 'train').mkdir(parents=True)
  (out_dir / NOTE).write_text(f'Simulated by ecgjax simulate: {records} records, {tests} for test, {" ".join(names)}, seed {seed}\n')
  train, test = ['id,fs,sig_len'], ['id,lead,fs,number_of_rows']
  for n in range(records + tests):
    record, fs = str(FIRST_ID + n), rates_hz[n % len(rates_hz)]
    at_signal, at_page = jax.random.split(jax.random.fold_in(jax.random.key(seed), n))
    runs = _runs(_record(at_signal, None if pack is None else pack[n], fs=fs), fs=fs)
    mv = jax.numpy.asarray(_on_paper(runs, fs=fs))
    if n < records:
      folder = out_dir / 'train' / record
      folder.mkdir()
      _write_truth(folder / f'{record}.csv', runs, fs=fs)
      for k, name in enumerate(names):
        image, lattice, _ = validation_set.take(jax.random.fold_in(at_page, k), mv, variants.get(name), rate_hz=fs)
        Image.fromarray(np.asarray(image)).save(folder / f'{record}-{name}.png', compress_level=1)
        np.save(folder / f'{record}-{name}.lattice.npy', np.asarray(lattice, np.float32))
      train.append(f'{record},{fs},{SECONDS * fs}')
    else:
      (out_dir / 'test').mkdir(exist_ok=True)
      image, *_ = validation_set.take(at_page, mv, variants.get(names[(n - records) % len(names)]), rate_hz=fs)
      Image.fromarray(np.asarray(image)).save(out_dir / 'test' / f'{record}.png', compress_level=1)
      test += [f'{record},{lead},{fs},{len(runs[lead])}' for lead in LEADS]
    say(f'{n + 1}/{records + tests} {record}')
  (out_dir / 'train.csv').write_text('\n'.join(train) + '\n')
  if tests:
    (out_dir / 'test.csv').write_text('\n'.join(test) + '\n')


def _record(key: jax.Array, pack: np.ndarray | None, *, fs: int) -> np.ndarray:
  """Returns (12, 10 * fs) mV, rounded as a csv file holds it."""
  from scipy import signal

  mv, rate = (validation_set.simulator(DRAWN_HZ)(key), DRAWN_HZ) if pack is None else (packs.pack_to_mv(pack), packs.RATE_HZ)
  common = math.gcd(fs, rate)
  return np.round(signal.resample_poly(np.asarray(mv, np.float64), fs // common, rate // common, axis=-1, padtype='line'), 3)


def _runs(mv: np.ndarray, *, fs: int) -> dict[str, np.ndarray]:
  """Returns lead -> samples in mV as the competition cuts them: floor(2.5 * fs) samples, lead II whole."""
  runs = {}
  for lead, values in zip(LEADS, mv, strict=True):
    segment = LAYOUT.scored(lead)
    first = math.floor(segment.start_s * fs)
    runs[lead] = values[first : first + segment.count(fs)]
  return runs


def _on_paper(runs: dict[str, np.ndarray], *, fs: int) -> np.ndarray:
  """Returns (12, 10 * fs) mV with every lead's first sample where `ground_truth.lay_out` prints the beginning of its column."""
  mv = np.zeros((len(LEADS), SECONDS * fs), np.float32)
  for lead, row in zip(LEADS, mv, strict=True):
    first = math.ceil(LAYOUT.scored(lead).start_s * fs)
    row[first : first + len(runs[lead])] = runs[lead]
  return mv


def _write_truth(path: pathlib.Path, runs: dict[str, np.ndarray], *, fs: int) -> None:
  cells = np.full((SECONDS * fs, len(LEADS)), '', dtype=object)
  for column, lead in enumerate(LEADS):
    first = math.floor(LAYOUT.scored(lead).start_s * fs)
    cells[first : first + len(runs[lead]), column] = [f'{value + 0.0:.3f}' for value in runs[lead]]
  path.write_text('\n'.join([','.join(LEADS), *(','.join(row) for row in cells)]) + '\n')
