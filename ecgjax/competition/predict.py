"""Reads a competition's test folder: python -m ecgjax.predict --data DIR --out submission.csv [--weights NAME|PATH]

Works offline. A picture that cannot be read gets zeros for all its samples, which the file format demands, and is listed
on stderr. Research software, not a medical device.
"""

import argparse
import pathlib
import time

import numpy as np

from ecgjax.competition import data_folder, submission
from ecgjax.ecg.errors import ECGError
from ecgjax.extract import digitizer
from ecgjax.io import images
from ecgjax.jobs import console, options, page_job


def read_record(record: data_folder.TestRecord, *, reader: digitizer.Reader) -> tuple[dict[str, np.ndarray], bool, str]:
  """Reads one record of the test folder.

  Args:
    record: as listed by `data_folder.list_test`.
    reader: loaded weights.

  Returns:
    Lead -> (number_of_rows,) mV; whether anything was read; and a note, '' without any problem.
  """
  counts = {lead: n for lead, (_, n) in record.wanted.leads.items()}
  rates = {fs for fs, _ in record.wanted.leads.values()}
  try:
    if record.image is None:
      raise ECGError('it has no image in test/')
    found = digitizer.digitize(images.read(record.image), reader=reader, fs=rates.pop(), counts=counts)
    absent = [lead for lead, mv in found.leads.items() if np.isnan(mv).any()]
    return digitizer.finite(found.leads), True, f'zeros for {", ".join(absent)}, of which nothing was seen' if absent else ''
  except Exception as error:  # one odd picture must not end the batch; it is listed with whatever it raised
    return {lead: np.zeros(n) for lead, n in counts.items()}, False, f'not read, zeros written: {page_job.reason(error)}'


def run(args: argparse.Namespace) -> int:
  """Runs the parsed command; returns the exit code."""
  if pathlib.Path(args.out).exists() and not args.overwrite:
    raise ECGError(f'{args.out} exists; choose another --out or add --overwrite')
  if not pathlib.Path(args.out).resolve().parent.is_dir():
    raise ECGError(f'no folder {pathlib.Path(args.out).parent} for --out; make it or choose another')
  records = data_folder.list_test(args.data)
  reader = digitizer.load_reader(args.weights, engine=args.engine, precision=args.precision, registration=args.registration)
  leads, notes, read, start = {}, [], 0, time.perf_counter()
  for i, record in enumerate(records, start=1):
    leads[record.id], ok, note = read_record(record, reader=reader)
    read += ok
    if note:
      notes.append(f'{record.id}: {note}')
    console.say(f'{i}/{len(records)} {record.id} {"read" if ok else "fallback"}, {(time.perf_counter() - start) / i:.2f} s/page')
  wanted = [record.wanted for record in records]
  submission.write(args.out, wanted, leads)
  print(f'{args.out}: {submission.check(args.out, wanted)} rows, {read} of {len(records)} records read')
  for text in notes:
    console.say(text)
  return 3 if not read else int(bool(notes))


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  parser = argparse.ArgumentParser(prog='python -m ecgjax.predict', description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--data', required=True, help='folder with test.csv and test/<id>.png')
  parser.add_argument('--out', required=True, help='the submission.csv to write')
  options.add_weights(parser)
  options.add_engine(parser)
  options.add_registration(parser)
  parser.add_argument('--overwrite', action='store_true', help='replace --out if it exists')
  console.add_debug(parser)
  args = parser.parse_args(argv)
  try:
    return run(args)
  except (ECGError, OSError) as error:
    console.refused(error, debug=args.debug)
    return 2
