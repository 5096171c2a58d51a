"""The competition's submission: the samples requested by test.csv, and a file with exactly these.

`submission.csv` has the header id,value; an id is `{record}_{row}_{lead}` with row from 0, a value is in mV. Records
and leads come in the order of test.csv, and each lead has the number_of_rows named there, whatever fs suggests.
"""

import csv
import itertools
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ecgjax.ecg.errors import ECGError
from ecgjax.ecg.leads import LEADS
from ecgjax.io import atomic

_HEADER = ['id', 'value']


class Wanted(NamedTuple):
  """One record of test.csv: lead -> (fs in Hz, number_of_rows), all 12 leads in the file's order."""

  id: str
  leads: dict[str, tuple[int, int]]


def read_rows(path: str | os.PathLike, *, columns: Sequence[str]) -> list[dict[str, str]]:
  """Returns the rows of a csv file with a header as dicts of its `columns`.

  Raises:
    FileNotFoundError: if there is no such file.
    ECGError: if a column is missing, or a row has not as many cells as the header.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'no file {path}; need a csv with columns {", ".join(columns)}; check the data folder')
  try:
    with path.open(newline='', encoding='utf-8-sig') as file:
      rows = csv.DictReader(file)
      found, table = rows.fieldnames or [], list(rows)
  except (UnicodeDecodeError, csv.Error) as error:
    raise ECGError(f'{path} is no csv in UTF-8: {error}; save it as such') from error
  missing = [name for name in columns if name not in found]
  if missing:
    raise ECGError(f'{path} has columns {", ".join(found) or "none"} but no {", ".join(missing)}; fix its header')
  for row in table:
    if None in row or None in row.values():
      raise ECGError(f'{path}: row {table.index(row) + 1} has not the {len(found)} cells of the header; fix that row')
  return table


def positive(text: str, *, label: str) -> int:
  """Returns `text` as a whole number > 0; ECGError naming `label` (file, row and column) if it is not one."""
  if not text.isascii() or not text.isdigit() or not int(text):
    raise ECGError(f'{label} is {text!r}; need a whole number > 0')
  return int(text)


def read_test_csv(path: str | os.PathLike) -> list[Wanted]:
  """Reads the requested samples.

  Args:
    path: test.csv with columns id, lead, fs, number_of_rows; one row a lead.

  Returns:
    Records in the order of their first row.

  Raises:
    FileNotFoundError: if there is no such file.
    ECGError: for a missing column, no rows, an id that cannot be told apart in a submission (empty or with '_'), an
      unknown or repeated lead, fewer than 12 leads, two rates in a record, or a number that is not whole and > 0.
  """
  records: dict[str, dict[str, tuple[int, int]]] = {}
  for row in read_rows(path, columns=('id', 'lead', 'fs', 'number_of_rows')):
    record, lead = row['id'], row['lead']
    if not record or '_' in record:
      raise ECGError(
        f'{path}: id {record!r} must be non-empty and without "_", which separates the parts of a row id'
      )
    leads = records.setdefault(record, {})
    if lead not in LEADS or lead in leads:
      raise ECGError(f'{path}: record {record} has lead {lead!r} twice or it is not one of {", ".join(LEADS)}')
    where = f'{path}: record {record}, lead {lead}'
    fs, count = (positive(row[name], label=f'{where}: {name}') for name in ('fs', 'number_of_rows'))
    leads[lead] = fs, count
  for record, leads in records.items():
    missing = [lead for lead in LEADS if lead not in leads]
    if missing:
      raise ECGError(f'{path}: record {record} has {len(leads)} leads, no {", ".join(missing)}; need all 12')
    if len({fs for fs, _ in leads.values()}) > 1:
      raise ECGError(f'{path}: record {record} has more than one fs; the metric needs one rate in a record')
  if not records:
    raise ECGError(f'{path} has a header but no rows; need 12 rows a record')
  return [Wanted(record, leads) for record, leads in records.items()]


def write(
  path: str | os.PathLike, wanted: Sequence[Wanted], leads_by_record: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
  """Writes a submission; checks everything first and leaves no half-written file behind.

  Args:
    path: the csv to write or replace; its folder must exist.
    wanted: the requests of test.csv.
    leads_by_record: record id -> lead -> (number_of_rows,) mV, exactly the wanted records and leads. Values are
      written to 1e-6 mV.

  Raises:
    FileNotFoundError: if the folder of `path` does not exist.
    ECGError: for no wanted record, or a record or lead that is missing or not wanted, a wrong number of samples, or
      a value that is not finite.
  """
  path = pathlib.Path(path)
  if not path.parent.is_dir():
    raise FileNotFoundError(f'no folder {path.parent} to write {path.name} into; make it or change the path')
  _check_records(wanted, leads_by_record)

  def to(part: pathlib.Path) -> None:
    with part.open('w', newline='', encoding='utf-8') as file:
      rows = csv.writer(file, lineterminator='\n')
      rows.writerow(_HEADER)
      values = (v for record, lead, _ in _series(wanted) for v in np.asarray(leads_by_record[record][lead]).tolist())
      rows.writerows((name, f'{value:.6f}') for name, value in zip(_ids(wanted), values, strict=True))

  atomic.whole(path, to)


def check(path: str | os.PathLike, wanted: Sequence[Wanted]) -> int:
  """Re-reads a submission and compares it with the requests, ids in the order of test.csv.

  Returns:
    The number of its values.

  Raises:
    FileNotFoundError: if there is no such file.
    ECGError: for the first error: the header, an id (missing, extra, out of order), a value that is no finite
      number; the message names the line.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'no submission at {path}; write one first or change the path')
  with path.open(newline='', encoding='utf-8') as file:
    rows = csv.reader(file)
    header = next(rows, [])
    if header != _HEADER:
      raise ECGError(f'{path} begins with {",".join(header)!r}; the header must be id,value')
    line = 1
    for line, (row, name) in enumerate(itertools.zip_longest(rows, _ids(wanted)), start=2):
      if row is None or len(row) != 2 or row[0] != name:
        found = 'the end of the file' if row is None else ','.join(row)
        raise ECGError(f'{path} line {line}: found {found!r}; need {f"{name},value" if name else "no more rows"}')
      try:
        finite = math.isfinite(float(row[1]))
      except ValueError:
        finite = False
      if not finite:
        raise ECGError(f'{path} line {line}: value of {name} is {row[1]!r}; need a finite number in mV')
  return line - 1


def _series(wanted: Sequence[Wanted]) -> Iterator[tuple[str, str, int]]:
  return ((record, lead, count) for record, leads in wanted for lead, (_, count) in leads.items())


def _ids(wanted: Sequence[Wanted]) -> Iterator[str]:
  return (f'{record}_{row}_{lead}' for record, lead, count in _series(wanted) for row in range(count))


def _check_records(wanted: Sequence[Wanted], leads_by_record: Mapping[str, Mapping[str, np.ndarray]]) -> None:
  if not wanted:
    raise ECGError('no record is wanted; read them with read_test_csv')
  _check_names('records', leads_by_record, [record for record, _ in wanted])
  for record, leads in wanted:
    _check_names(f'leads of record {record}', leads_by_record[record], LEADS)
    _check_names(f'wanted leads of record {record}', leads, LEADS)
  for record, lead, count in _series(wanted):
    values = np.asarray(leads_by_record[record][lead])
    if values.shape != (count,):
      raise ECGError(f'record {record}, lead {lead}: shape {values.shape}; test.csv asks for number_of_rows={count}')
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
      raise ECGError(
        f'record {record}, lead {lead}: row {bad[0]} is {values[bad[0]]} ({bad.size} of {count} rows are not finite); '
        'fill every gap before writing'
      )


def _check_names(label: str, found: Mapping, needed: Sequence[str]) -> None:
  missing, extra = [name for name in needed if name not in found], [name for name in found if name not in needed]
  if missing or extra:
    raise ECGError(f'{label}: missing {missing[:3]}, not asked for {extra[:3]}; need exactly what test.csv names')
