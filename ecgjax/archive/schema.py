"""Rows of an archive, one per page: their columns and their encoding in Parquet."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

from ecgjax.ecg.leads import LEADS
from ecgjax.io import waveform_files

MAX_STD_MV = waveform_files.MAX_MV  # of a lead that was bridged for long; more is not told


def _leads(kind: pyarrow.DataType) -> pyarrow.DataType:
  return pyarrow.struct([(lead, kind) for lead in LEADS])


SCHEMA = pyarrow.schema([
  ('key', pyarrow.string()),  # sha256 of the file's bytes, -, page; null where they could not be had
  ('source', pyarrow.string()), ('member', pyarrow.string()), ('page', pyarrow.int32()), ('pages', pyarrow.int32()),
  ('bytes', pyarrow.int64()),
  ('status', pyarrow.string()), ('reasons', pyarrow.list_(pyarrow.string())),
  ('quality', _leads(pyarrow.float32())),
  ('leads_uv', _leads(pyarrow.list_(pyarrow.int16()))), ('std_uv', _leads(pyarrow.list_(pyarrow.int16()))),  # null where absent
  ('fs_hz', pyarrow.float64()), ('seconds', pyarrow.float64()), ('start_s', _leads(pyarrow.float64())),
  ('layout', pyarrow.string()), ('speed_mm_s', pyarrow.float64()), ('gain_mm_mv', pyarrow.float64()),
  ('read_s', pyarrow.float64()),  # that it took
  ('ecgjax', pyarrow.string()), ('weights_sha256', pyarrow.string()), ('engine', pyarrow.string()),
  ('weights', pyarrow.string()), ('precision', pyarrow.string()),
])  # fmt: skip
SAMPLES = [f'{column}.{lead}.list.element' for column in ('leads_uv', 'std_uv') for lead in LEADS]


def table(facts: list[Mapping[str, Any]]) -> pyarrow.Table:
  """Returns rows of SCHEMA; missing columns of a row are null."""
  return pyarrow.Table.from_pylist([dict(row) for row in facts], schema=SCHEMA)


def failed(reason: str) -> dict[str, Any]:
  """Returns status and reason of a page that could not be read."""
  return {'status': 'fail', 'reasons': [printable(reason)]}


def printable(name: str) -> str:
  """Returns a name with bytes that are not UTF-8 escaped, as \\udc80."""
  return name.encode('utf-8', 'backslashreplace').decode()


def where(source: str, member: str, *, data: bytes | None, page: int = 1) -> dict[str, Any]:
  """Returns the facts of a page before its file is opened, as if it were the last one; `paged` gives those of any page of the file.

  Args:
    source: URL of the source.
    member: name in it.
    data: the file's bytes, if they could be read.
    page: from 1.
  """
  key = None if data is None else f'{hashlib.sha256(data).hexdigest()}-{page}'
  size = None if data is None else len(data)
  return {'key': key, 'source': printable(source), 'member': printable(member), 'page': page, 'pages': page, 'bytes': size}


def paged(at: Mapping[str, Any], *, page: int, pages: int) -> dict[str, Any]:
  """Returns the facts of `where` for page `page`, from 1, of `pages`, without hashing a large file again for each."""
  return {**at, 'key': f'{at["key"].split("-")[0]}-{page}', 'page': page, 'pages': pages}


def samples(leads: Mapping[str, np.ndarray]) -> dict[str, pyarrow.Array]:
  """Returns lead -> int16 uV, null where absent, of lead -> (n,) mV, nan where absent.

  Raises:
    ECGError: if a value is beyond what 16 bits hold.
  """
  steps = {lead: waveform_files.microvolts(mv) for lead, mv in leads.items()}
  return {lead: pyarrow.array(uv, mask=uv == waveform_files.ABSENT) for lead, uv in steps.items()}


def packed(rows: pyarrow.Table) -> bytes:
  """Returns rows as a Parquet file: samples delta-encoded, zstd."""
  sink = pyarrow.BufferOutputStream()
  repeated: Any = ['source', 'status', 'layout', 'ecgjax', 'weights', 'weights_sha256', 'engine', 'precision']
  parquet.write_table(
    rows, sink, compression='zstd', use_dictionary=repeated, column_encoding=dict.fromkeys(SAMPLES, 'DELTA_BINARY_PACKED'),
  )  # fmt: skip
  return sink.getvalue().to_pybytes()
