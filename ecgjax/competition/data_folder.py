"""The competition's data folder as found on disk: records with their truth and pages, and the pages to be read.

`train.csv` (id, fs, sig_len), `train/<id>/<id>.csv` with 12 columns in mV, `train/<id>/<id>-<variant>.png|jpg`;
`test.csv` (see `submission`), `test/<id>.png|jpg`. A short lead is blank outside the seconds in which it was printed.
"""

import os
import pathlib
from typing import NamedTuple

import numpy as np

from ecgjax.competition import submission
from ecgjax.ecg.errors import ECGError
from ecgjax.ecg.leads import LEADS

SECONDS = 10  # of every record
_IMAGES = ('.png', '.jpg', '.jpeg')


class TrainRecord(NamedTuple):
  """One training record: rate in Hz, samples of lead II, the csv of its truth, and variant ('0001') -> image."""

  id: str
  fs: int
  sig_len: int
  csv: pathlib.Path
  images: dict[str, pathlib.Path]


class TestRecord(NamedTuple):
  """One record to be read: its image and the requested samples."""

  __test__ = False  # pytest collects classes by their name

  id: str
  image: pathlib.Path | None
  wanted: submission.Wanted


def read_train_csv(path: str | os.PathLike) -> dict[str, tuple[int, int]]:
  """Reads id -> (fs in Hz, sig_len in samples) of every training record, in the file's order.

  Raises:
    FileNotFoundError: if there is no such file.
    ECGError: for a missing column, no rows, an empty or repeated id, a number that is not whole and > 0, or a
      sig_len other than 10 * fs.
  """
  records: dict[str, tuple[int, int]] = {}
  for row in submission.read_rows(path, columns=('id', 'fs', 'sig_len')):
    record = row['id']
    if not record or record in records:
      raise ECGError(f'{path}: id {record!r} is empty or stands twice; need each record once')
    fs, sig_len = (submission.positive(row[name], label=f'{path}: record {record}: {name}') for name in ('fs', 'sig_len'))
    if sig_len != SECONDS * fs:
      raise ECGError(f'{path}: record {record} has sig_len={sig_len}; need {SECONDS} * fs = {SECONDS * fs}')
    records[record] = fs, sig_len
  if not records:
    raise ECGError(f'{path} has a header but no rows; need one row a record')
  return records


def read_record_csv(path: str | os.PathLike, *, fs: int) -> dict[str, np.ndarray]:
  """Reads the truth of one record.

  Args:
    path: csv with the 12 columns of LEADS in mV; blank (or nan) where a lead is not printed.
    fs: sampling rate in Hz, from train.csv.

  Returns:
    Lead -> (n,) float64 mV, its printed run only: 10 * fs samples of II, the others as many as the file holds.

  Raises:
    FileNotFoundError: if there is no such file.
    ECGError: for a missing column, a number of rows other than 10 * fs, a cell that is no number or infinite, a lead
      without samples or with a gap inside its run, or a lead II that is not whole.
  """
  rows = submission.read_rows(path, columns=LEADS)
  if len(rows) != SECONDS * fs:
    raise ECGError(
      f'{path} has {len(rows)} rows; need sig_len = {SECONDS} * fs = {SECONDS * fs}; see fs in train.csv'
    )
  leads = {lead: _run(path, lead, [row[lead] for row in rows]) for lead in LEADS}
  if len(leads['II']) != len(rows):
    raise ECGError(f'{path}: lead II has {len(leads["II"])} samples; need {len(rows)}, it is the one printed whole')
  return leads


def _run(path: str | os.PathLike, lead: str, cells: list[str]) -> np.ndarray:
  try:
    values = np.array([cell.strip() or 'nan' for cell in cells]).astype(np.float64)
  except ValueError as error:
    raise ECGError(f'{path}: lead {lead}: {error}; need numbers in mV, blank where not printed') from None
  printed = np.flatnonzero(~np.isnan(values))
  if not printed.size:
    raise ECGError(f'{path}: lead {lead} has no sample; need at least one, in every lead')
  run = values[printed[0] : printed[-1] + 1]
  bad = np.flatnonzero(~np.isfinite(run))
  if bad.size:
    raise ECGError(f'{path}: lead {lead} is {run[bad[0]]} in row {printed[0] + bad[0]}, inside its run; fill the gap')
  return run


def list_train(data_dir: str | os.PathLike) -> list[TrainRecord]:
  """Lists the training records in the order of train.csv; a record may have no image.

  Raises:
    FileNotFoundError: if the folder, train.csv, or a record's folder or csv is missing.
    ECGError: for a faulty train.csv, or two images of one variant.
  """
  data_dir = _folder(data_dir, holds='train.csv and train/')
  records = []
  for record, (fs, sig_len) in read_train_csv(data_dir / 'train.csv').items():
    folder = _folder(data_dir / 'train' / record, holds=f'{record}.csv and {record}-<variant>.png')
    truth = folder / f'{record}.csv'
    if not truth.is_file():
      raise FileNotFoundError(f'no {truth}; train.csv names record {record}; complete the folder or drop that row')
    images: dict[str, pathlib.Path] = {}
    for path in sorted(folder.iterdir()):
      if path.suffix.lower() in _IMAGES and path.stem.startswith(f'{record}-'):
        variant = path.stem.removeprefix(f'{record}-')
        if variant in images:
          raise ECGError(f'{folder} has {images[variant].name} and {path.name}; need one image a variant')
        images[variant] = path
    records.append(TrainRecord(record, fs, sig_len, truth, images))
  return records


def list_test(data_dir: str | os.PathLike) -> list[TestRecord]:
  """Lists the records to be read in the order of test.csv.

  Raises:
    FileNotFoundError: if the folder, test.csv or test/ is missing.
    ECGError: for a faulty test.csv, or two images of one record.
  """
  data_dir = _folder(data_dir, holds='test.csv and test/')
  wanted = submission.read_test_csv(data_dir / 'test.csv')
  folder = _folder(data_dir / 'test', holds='<id>.png or <id>.jpg of every record in test.csv')
  found: dict[str, list[pathlib.Path]] = {}
  for path in sorted(folder.iterdir()):
    if path.suffix.lower() in _IMAGES:
      found.setdefault(path.stem, []).append(path)
  for record in wanted:
    images = found.get(record.id, [])
    if len(images) > 1:
      raise ECGError(f'{folder} has {images[0].name} and {images[1].name}; need one image a record')
  return [TestRecord(record.id, found[record.id][0] if record.id in found else None, record) for record in wanted]


def _folder(path: str | os.PathLike, *, holds: str) -> pathlib.Path:
  path = pathlib.Path(path)
  if not path.is_dir():
    raise FileNotFoundError(f'no folder {path}; need one with {holds}; check the path to the data')
  return path
