"""Scores weights on a competition folder: python -m ecgjax.evaluate --data DIR [--weights PATH] [--json FILE]

Prints one line per variant. A picture that cannot be read counts with an all-zero prediction, and is listed on stderr.
Research software, not a medical device.
"""

import argparse
import csv
import json
import os
import pathlib
import sys
import time
from typing import NamedTuple

import numpy as np

from ecgjax import digitize, folder, geometry, log, metrics, plot
from ecgjax.evaluators import HEAD, line, summary


class Page(NamedTuple):
  """One page's outcome."""

  id: str
  variant: str
  report: metrics.ImageReport
  status: str  # ok, review or fail
  reason: str
  seconds: float


def evaluate_page(record: folder.TrainRecord, variant: str, *, reader: digitize.Reader, pictures: pathlib.Path | None = None) -> Page:
  """Reads one page and compares it with its truth.

  Args:
    record: of the training folder.
    variant: key of record.images.
    reader: loaded weights.
    pictures: folder for an overlay picture, or None.

  Returns:
    The outcome; a picture that cannot be read has status 'fail' and is scored as all zeros.

  Raises:
    ValueError: if the truth is faulty.
  """
  true = folder.read_record_csv(record.csv, fs=record.fs)
  counts = {lead: len(v) for lead, v in true.items()}
  tic = time.perf_counter()
  try:
    image = digitize.read_image(record.images[variant])
    found = digitize.digitize(image, reader=reader, fs=record.fs, counts=counts)
    leads, status, reason = digitize.finite(found.leads), found.status, '; '.join(found.warnings)
    if pictures:
      strips = geometry.cut(image, found.lattice, layout=reader.page, frame=reader.frame)
      shown = plot.overlay(np.asarray(strips), digitize.seen_rows(found.trace), np.asarray(found.trace.std_px))
      (pictures / f'{record.id}-{variant}.png').write_bytes(log.png(shown))
  except Exception as error:  # one odd picture must not end the batch; it is listed with whatever it raised
    leads, status, reason = {lead: np.zeros(n) for lead, n in counts.items()}, 'fail', f'{type(error).__name__}: {error}'
  seconds = time.perf_counter() - tic
  return Page(record.id, variant, metrics.image_report(true, leads, fs=record.fs), status, reason, seconds)


def table(pages: list[Page]) -> str:
  """Returns the per-variant table."""
  lines = [f'{HEAD}{"ok":>5}{"review":>8}{"fail":>6}{"s/page":>8}']
  groups = {v: [p for p in pages if p.variant == v] for v in sorted({p.variant for p in pages})}
  if len(groups) > 1:
    groups['all'] = pages
  for name, group in groups.items():
    n = summary([p.report for p in group])
    ok, review, fail = (sum(p.status == status for p in group) for status in ('ok', 'review', 'fail'))
    # the median: the first page also pays for compiling
    seconds = np.median([p.seconds for p in group])
    lines.append(f'{line(name, n)}{ok:>5}{review:>8}{fail:>6}{seconds:>8.2f}')
  return '\n'.join(lines)


def run(args: argparse.Namespace) -> int:
  """Does what the command line asks for; returns the exit code."""
  if args.json and not pathlib.Path(args.json).resolve().parent.is_dir():
    raise ValueError(f'no folder {pathlib.Path(args.json).parent} for --json; make it or choose another')
  records = folder.list_train(args.data)
  reader = digitize.reader(args.weights)
  pictures = pathlib.Path(args.pictures) if args.pictures else None
  if pictures:
    pictures.mkdir(parents=True, exist_ok=True)
  jobs = [(r, v) for r in records for v in sorted(r.images) if not args.variant or v in args.variant]
  if not jobs:
    raise ValueError(f'{args.data} holds {len(records)} records but no picture of the variants asked for')
  pages, unscored = [], []
  for i, (record, variant) in enumerate(jobs, start=1):
    try:
      page = evaluate_page(record, variant, reader=reader, pictures=pictures)
    except (ValueError, OSError, csv.Error) as error:  # of the truth: there is nothing to compare with
      unscored.append(f'{record.id}-{variant} is not scored: {error}')
      log.say(f'{i}/{len(jobs)} {unscored[-1]}')
      continue
    pages.append(page)
    log.say(f'{i}/{len(jobs)} {page.id}-{variant} {page.report.db_open:.2f} dB {page.status} {page.reason}')
  if not pages:
    raise ValueError(f'none of {len(jobs)} pages could be scored; the first: {unscored[0]}')
  print(table(pages))
  for text in unscored:
    log.say(text)
  if args.json:
    rows = [{**p._asdict(), 'report': p.report._asdict()} for p in pages]
    _write_json(pathlib.Path(args.json), {'weights': pathlib.Path(args.weights).name, 'meta': reader.meta, 'pages': rows})
  failed = sum(p.status == 'fail' for p in pages)
  return 3 if failed == len(pages) else int(bool(unscored) or any(p.status != 'ok' for p in pages))


def _write_json(path: pathlib.Path, value) -> None:
  """Writes beside, then renames; what is not a number (the correlation of a flat lead) becomes null."""
  plain = lambda x: {k: plain(v) for k, v in x.items()} if isinstance(x, dict) else (
    [plain(v) for v in x] if isinstance(x, list | tuple) else None if isinstance(x, float) and not np.isfinite(x) else x
  )  # fmt: skip
  beside = path.with_name(f'.{path.name}.part')
  beside.write_text(json.dumps(plain(value), indent=1, allow_nan=False))
  os.replace(beside, path)


def main() -> None:
  parser = argparse.ArgumentParser(prog='python -m ecgjax.evaluate', description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--data', required=True, help='folder with train.csv and train/<id>/')
  parser.add_argument('--weights', default=digitize.WEIGHTS, help='a .safetensors file (default: the shipped weights)')
  parser.add_argument('--variant', nargs='*', help='only these variants, e.g. 0001')
  parser.add_argument('--pictures', help='folder for overlays of what was read')
  parser.add_argument('--json', help='file for every number of every page')
  args = parser.parse_args()
  try:
    sys.exit(run(args))
  except (ValueError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2)


if __name__ == '__main__':
  main()
