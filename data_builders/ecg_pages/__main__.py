"""Builds training data from a competition folder: python -m data_builders.ecg_pages --data DIR --out DIR

An interrupted build goes on where it stopped. Ends with 0 if all is well, 1 if records were left out (see
<out>/skipped.csv), 2 if it could not begin, 3 if no page could be built.
"""

import argparse
import collections
import contextlib
import csv
import hashlib
import io
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from data_builders.ecg_pages import builder
from ecgjax.competition import data_folder
from ecgjax.ecg.errors import ECGError
from ecgjax.geometry import lattices
from ecgjax.ink import printers
from ecgjax.io import atomic


class Summary(NamedTuple):
  """What a build did: split -> pages, and (id, variant, reason) of what was left out."""

  pages: dict[str, int]
  bad: list[tuple[str, str, str]]


def build(
  data_dir: str | os.PathLike,
  out_dir: str | os.PathLike,
  *,
  variants: Collection[str] = (),
  val_share: float = 0.1,
  overwrite: bool = False,
  say: Callable[[str], None] = lambda line: None,
) -> Summary:
  """Builds the dataset; finished pages wait in <out>/.partial, so that a second call after an interruption goes on.

  Args:
    data_dir: competition folder with train.csv and train/.
    out_dir: the dataset goes to <out>/ecg_pages/<version>, the list of what was left out to <out>/skipped.csv, and
      how far printers set black off their colours to <out>/registration.csv.
    variants: to build; none: the original and every picture that lies beside it.
    val_share: 0..1, share of the records in 'val'; all pages of a record are in one split.
    overwrite: replace a finished dataset.
    say: is told of the progress, one line at a time.

  Raises:
    FileNotFoundError, ECGError: as data_folder.list_train does, or for a wrong option, or a dataset that is finished.
  """
  out_dir = pathlib.Path(out_dir)
  if not 0 <= val_share <= 1:
    raise ECGError(f'val_share={val_share} is not in 0..1; change --val_share')
  finished = out_dir / 'ecg_pages' / str(builder.EcgPages.VERSION)
  if finished.exists() and not overwrite:
    raise ECGError(f'{finished} is finished; give another --out, or --overwrite to build it anew')
  records = data_folder.list_train(data_dir)
  partial = out_dir / '.partial'
  partial.mkdir(parents=True, exist_ok=True)
  pages, bad = collections.defaultdict(list), []
  for record in _progress(records, say=say):
    for variant in variants or sorted({builder.ORIGINAL, *record.images}):
      path = partial / f'{_fingerprint(record, variant)}.npz'
      reason = None if path.exists() else _make(record, variant, path)
      if reason:
        bad.append((record.id, variant, reason))
      else:
        pages[builder.split_of(record.id, val_share=val_share)].append(path)
  _write_csv(out_dir / 'skipped.csv', bad)
  if pages:
    _finish(out_dir, pages)
    _measure_prints(out_dir / 'registration.csv', [path for paths in pages.values() for path in paths])
  shutil.rmtree(partial)
  return Summary({split: len(paths) for split, paths in pages.items()}, bad)


def _make(record: data_folder.TrainRecord, variant: str, path: pathlib.Path) -> str | None:
  """Makes and saves one page; returns the reason if that is not possible."""
  if variant not in record.images:
    return f'no picture {record.id}-{variant}.png'
  try:
    page = builder.example(record, variant=variant)
  except (ECGError, OSError) as error:
    return str(error)
  _save(path, page)  # a full disk is no fault of the record and ends the build
  return None


def _save(path: pathlib.Path, page: Mapping) -> None:
  arrays: dict[str, Any] = {k: np.frombuffer(v, np.uint8) if isinstance(v, bytes) else v for k, v in page.items()}
  atomic.whole(path, lambda part: np.savez(part, **arrays))


def _load(path: pathlib.Path) -> dict:
  with np.load(path, allow_pickle=False) as file:
    page = dict(file)
  page |= {name: page[name].tobytes() for name in ('image', 'mask')}
  return page | {name: str(page[name]) for name in ('id', 'variant')}


def _fingerprint(record: data_folder.TrainRecord, variant: str) -> str:
  """Names a page by its sources, so that a page made from a file that has changed since is not taken for finished."""
  parts = [str(builder.EcgPages.VERSION), record.id, variant, str(record.fs)]
  for path in (record.csv, record.images.get(builder.ORIGINAL), record.images.get(variant)):
    if path:
      parts += [str(path.stat().st_size), str(path.stat().st_mtime_ns)]
  return hashlib.sha256('\n'.join(parts).encode()).hexdigest()[:32]


def _finish(out_dir: pathlib.Path, pages: dict[str, list[pathlib.Path]]) -> None:
  for rest in out_dir.glob('ecg_pages/*.incomplete*'):  # of a build that was killed here
    shutil.rmtree(rest)
  tfds.disable_progress_bar()
  mode = tfds.download.GenerateMode.REUSE_CACHE_IF_EXISTS  # in TFDS's words: write the dataset anew
  config = tfds.download.DownloadConfig(download_mode=mode)
  dataset = builder.EcgPages(data_dir=out_dir, pages={split: map(_load, paths) for split, paths in pages.items()})
  with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints that it downloads
    dataset.download_and_prepare(download_config=config, download_dir=out_dir / '.partial')


def _measure_prints(path: pathlib.Path, pages: list[pathlib.Path]) -> None:
  """Writes how far ink stands off the grid in the pictures of prints, by variant (see `printers`); nothing where there is no picture."""
  fields = collections.defaultdict(list)
  for page in pages:
    with np.load(page, allow_pickle=False) as file:
      if str(file['variant']) not in builder.UNPRINTED:
        fields[str(file['variant'])].append(lattices.apart_px(file['grid_lattice'], file['lattice']))
  if fields:
    printers.write(path, fields)


def _write_csv(path: pathlib.Path, bad: Iterable[tuple[str, str, str]]) -> None:

  def to(part: pathlib.Path) -> None:
    with part.open('w', newline='', encoding='utf-8') as file:
      csv.writer(file, lineterminator='\n').writerows([('id', 'variant', 'reason'), *bad])

  atomic.whole(path, to)


def _progress(records: list[data_folder.TrainRecord], *, say: Callable[[str], None]) -> Iterator[data_folder.TrainRecord]:
  begin = time.monotonic()
  for n, record in enumerate(records, start=1):
    yield record
    spent = time.monotonic() - begin
    say(f'{n}/{len(records)} records, {spent / n:.1f} s each, {spent / n * (len(records) - n) / 60:.0f} min left')


def _printer() -> Callable[[str], None]:
  """Returns a function that shows a line on stderr: over the last one on a terminal, else one line in 10 s."""
  last = -10.0

  def say(line: str) -> None:
    nonlocal last
    if sys.stderr.isatty():
      print(f'\r{line:<70}', end='', file=sys.stderr, flush=True)
    elif time.monotonic() - last >= 10:
      last = time.monotonic()
      print(line, file=sys.stderr, flush=True)

  return say


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  parser = argparse.ArgumentParser('python -m data_builders.ecg_pages', description=__doc__)
  parser.formatter_class = argparse.RawTextHelpFormatter
  parser.add_argument('--data', required=True, help='competition folder, with train.csv and train/')
  parser.add_argument('--out', required=True, help='folder for the dataset')
  parser.add_argument('--variants', nargs='+', default=(), metavar='0001', help='variants to build (default: all)')
  parser.add_argument('--val_share', type=float, default=0.1, help='share of the records in the split val')
  parser.add_argument('--overwrite', action='store_true', help='replace a finished dataset')
  args = parser.parse_args(argv)
  try:
    done = build(args.data, args.out, variants=args.variants, val_share=args.val_share, overwrite=args.overwrite, say=_printer())
  except (ECGError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print('\ninterrupted; the same command goes on from here', file=sys.stderr)
    return 130
  if sys.stderr.isatty():
    print(file=sys.stderr)
  for record, variant, reason in done.bad:
    print(f'left out {record}-{variant}: {reason}', file=sys.stderr)
  counts = ', '.join(f'{split} {n}' for split, n in sorted(done.pages.items())) or 'none'
  print(f'pages built: {counts}')
  print(f'left out: {len(done.bad)}' + (f', listed in {pathlib.Path(args.out) / "skipped.csv"}' if done.bad else ''))
  return 3 if not done.pages else 1 if done.bad else 0


if __name__ == '__main__':
  sys.exit(main())
