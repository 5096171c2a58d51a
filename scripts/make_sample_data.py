"""Makes a small competition folder from simulated signals: python scripts/make_sample_data.py --out DIR

Pages, csv files and folders are as the competition's own: variant 0001, six sampling rates, 3 decimals of a mV.
"""

import argparse
import functools
import math
import os
import pathlib
import shutil
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from scipy import signal

from ecgjax import layout, looks, render, signals
from ecgjax.layout import LEADS

RATES_HZ = (500, 250, 1000, 256, 512, 1025)
DRAWN_HZ = 1000  # of the simulator
SECONDS = 10
LAYOUT = layout.make('3x4+II')
FIRST_ID = 900000001  # no record of the competition has it
NOTE = 'simulated.txt'  # only a folder with this file is ever replaced


def write_folder(
  out_dir: str | os.PathLike, *, records: int, seed: int, rates_hz: Sequence[int] = RATES_HZ, overwrite: bool = False
) -> None:
  """Writes train.csv, train/, test.csv and test/; the folder appears only when it is complete.

  Args:
    out_dir: may be there only if it is empty, or with `overwrite` if it was written by this function.
    records: number of training records, >= 1; a quarter as many, at least one, are drawn for test/.
    seed: of signals and headers.
    rates_hz: taken in turn.
    overwrite: replace an older sample.

  Raises:
    ValueError: if `records` is below 1 or `out_dir` may not be written.
  """
  out_dir = pathlib.Path(out_dir)
  if records < 1:
    raise ValueError(f'records={records}; need at least 1; change --records')
  if out_dir.exists() and not out_dir.is_dir():
    raise ValueError(f'{out_dir} is a file; give another --out')
  if out_dir.is_dir() and any(out_dir.iterdir()):
    if not (out_dir / NOTE).is_file():
      raise ValueError(f'{out_dir} is not empty and was not written by this script; give another --out')
    if not overwrite:
      raise ValueError(f'{out_dir} is not empty; give another --out or --overwrite')
  part = out_dir.parent / f'.{out_dir.name}.{os.getpid()}.part'
  try:
    _write(part, records=records, seed=seed, rates_hz=rates_hz)
    shutil.rmtree(out_dir, ignore_errors=True)
    os.replace(part, out_dir)
  finally:
    shutil.rmtree(part, ignore_errors=True)


def _write(out_dir: pathlib.Path, *, records: int, seed: int, rates_hz: Sequence[int]) -> None:
  (out_dir / 'test').mkdir(parents=True)
  (out_dir / NOTE).write_text(f'Simulated by scripts/make_sample_data.py --records {records} --seed {seed}\n')
  train, test = ['id,fs,sig_len'], ['id,lead,fs,number_of_rows']
  for n in range(records + max(1, records // 4)):
    record, fs = str(FIRST_ID + n), rates_hz[n % len(rates_hz)]
    key, header = jax.random.split(jax.random.fold_in(jax.random.key(seed), n))
    mv = np.asarray(_simulate()(key), np.float64)
    mv = signal.resample_poly(mv, fs, DRAWN_HZ, axis=-1, padtype='line')
    runs = _runs(mv, fs=fs)
    image = Image.fromarray(np.asarray(_draw(fs * (1 + fs % 2))(header, _on_paper(runs, fs=fs))))
    if n < records:
      folder = out_dir / 'train' / record
      folder.mkdir(parents=True)
      _write_truth(folder / f'{record}.csv', runs, fs=fs)
      image.save(folder / f'{record}-0001.png', compress_level=1)
      train.append(f'{record},{fs},{SECONDS * fs}')
    else:
      image.save(out_dir / 'test' / f'{record}.png', compress_level=1)
      test += [f'{record},{lead},{fs},{len(runs[lead][1])}' for lead in LEADS]
  (out_dir / 'train.csv').write_text('\n'.join(train) + '\n')
  (out_dir / 'test.csv').write_text('\n'.join(test) + '\n')


@functools.cache
def _simulate():
  # one rate for all records, and hardly optimised: compiling takes 100 times as long as running
  quick = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
  simulate = functools.partial(signals.simulate, rate_hz=DRAWN_HZ, seconds=SECONDS)
  return jax.jit(simulate, compiler_options=quick)


@functools.cache
def _draw(rate_hz: int):
  """Returns the compiled (key, (12, T) mV) -> (1700, 2200, 3) uint8."""

  def draw(key, mv):
    page = render.page(key, mv, layout=LAYOUT, style=looks.competition(), rate_hz=rate_hz)
    return jnp.round(255 * page.image).astype(jnp.uint8)

  return jax.jit(draw)


def _runs(mv: np.ndarray, *, fs: int) -> dict[str, tuple[int, np.ndarray]]:
  """Returns lead -> (first row, samples in mV) as the competition cuts them: floor(2.5 * fs) samples, lead II whole."""
  runs = {}
  for lead, values in zip(LEADS, np.round(mv, 3), strict=True):
    shown = LAYOUT.scored(lead)
    first = math.floor(shown.start_s * fs)
    runs[lead] = first, values[first : first + math.floor((shown.stop_s - shown.start_s) * fs)]
  return runs


def _on_paper(runs: dict[str, tuple[int, np.ndarray]], *, fs: int) -> np.ndarray:
  """Returns (12, T) mV with every lead's first sample where its column begins, between two samples at an odd fs."""
  times = 1 + fs % 2
  mv = np.zeros((len(LEADS), SECONDS * fs * times), np.float32)
  for lead, row in zip(LEADS, mv, strict=True):
    shown, run = LAYOUT.scored(lead), runs[lead][1]
    first, stop = round(shown.start_s * fs * times), round(shown.stop_s * fs * times)
    row[first:stop] = np.interp(np.arange(stop - first) / times, np.arange(len(run)), run)
  return mv


def _write_truth(path: pathlib.Path, runs: dict[str, tuple[int, np.ndarray]], *, fs: int) -> None:
  cells = np.full((SECONDS * fs, len(LEADS)), '', dtype=object)
  for column, lead in enumerate(LEADS):
    first, run = runs[lead]
    cells[first : first + len(run), column] = [f'{value + 0.0:.3f}' for value in run]
  path.write_text('\n'.join([','.join(LEADS), *(','.join(row) for row in cells)]) + '\n')


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--out', required=True, help='folder to write')
  parser.add_argument('--records', type=int, default=12, help='training records')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--overwrite', action='store_true', help='replace an older sample')
  args = parser.parse_args(argv)
  try:
    write_folder(args.out, records=args.records, seed=args.seed, overwrite=args.overwrite)
  except (ValueError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  print(f'wrote {args.records} training records to {args.out}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
