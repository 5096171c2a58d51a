"""The rows of an archive, one a page, and the Parquet files that hold them: what is in them is done, and nothing else says so."""

import collections
import datetime
import hashlib
import json
import os
import time
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow
from pyarrow import compute, parquet

from ecgjax.archive.sources import place
from ecgjax.io import signals
from ecgjax.layout import LEADS

ROWS, FLUSH_S = 1000, 60.0  # a file is written when one of them is reached
FACTS = b'ecgjax.archive'  # in a file's schema: how its pages were read


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
])  # fmt: skip
SAMPLES = [f'{column}.{lead}.list.element' for column in ('leads_uv', 'std_uv') for lead in LEADS]


def table(facts: list[Mapping[str, Any]]) -> pyarrow.Table:
  """Returns rows of SCHEMA; what a row does not name is null."""
  return pyarrow.Table.from_pylist([dict(row) for row in facts], schema=SCHEMA)


def failed(reason: str) -> dict[str, Any]:
  """Returns what is known of a page that could not be read."""
  return {'status': 'fail', 'reasons': [reason]}


def where(source: str, member: str, *, data: bytes | None, page: int = 1, pages: int = 1) -> dict[str, Any]:
  """Returns what is known of a page before it is read.

  Args:
    source: url of the source.
    member: name in it.
    data: the file's bytes, where they could be had.
    page: from 1.
    pages: of the file.
  """
  key = None if data is None else f'{hashlib.sha256(data).hexdigest()}-{page}'
  return {'key': key, 'source': source, 'member': member, 'page': page, 'pages': pages, 'bytes': None if data is None else len(data)}


def samples(leads: Mapping[str, np.ndarray]) -> dict[str, pyarrow.Array]:
  """Returns lead -> int16 uV, null where absent, of lead -> (n,) mV, nan where absent.

  Raises:
    ValueError: if a value is beyond what 16 bits hold.
  """
  steps = {lead: signals.microvolts(mv) for lead, mv in leads.items()}
  return {lead: pyarrow.array(uv, mask=uv == signals.ABSENT) for lead, uv in steps.items()}


def _name(source: str, member: str) -> bytes:
  digest = hashlib.blake2b(f'{source}\0{member}'.encode('utf-8', 'surrogateescape'), digest_size=16).digest()
  return digest.rstrip(b'\0')  # as NumPy has it


class Done:
  """Which pages have their row already: 16 bytes a file, so that an archive of millions is known in little memory."""

  def __init__(self, files: np.ndarray, begun: Mapping[bytes, frozenset[int]]):
    self.files, self.begun = files, begun  # (N,) S16, sorted: files with all of their pages; pages of the others

  def file(self, source: str, member: str) -> bool:
    """Returns whether all pages of a file have their rows."""
    name = _name(source, member)
    at = int(np.searchsorted(self.files, name))
    return at < len(self.files) and self.files[at] == name

  def page(self, source: str, member: str, page: int) -> bool:
    """Returns whether a page, from 1, has its row."""
    return self.file(source, member) or page in self.begun.get(_name(source, member), ())


class Store:
  """The folder of an archive's rows; a context that writes what waits when it is left, and lets others write.

  Args:
    out: path or URL; made where there is none.
    facts: how pages are read; rows of a folder are all read in one way.
    owner: whose rows this process writes; two processes of one owner are refused on a local disk.

  Raises:
    ValueError: if there are rows that were read in another way, or another process of the same owner is at work.
  """

  def __init__(self, out: str, facts: Mapping[str, Any], *, owner: str = 'all'):
    self.files, self.root = place(out)
    self.local = 'file' in self.files.protocol
    self.facts = {FACTS: json.dumps(facts, sort_keys=True).encode()}
    self.waiting: list[pyarrow.Table] = []
    self.flushed, self.counts = time.monotonic(), collections.Counter()
    self.files.makedirs(self.root, exist_ok=True)
    self.lock = _locked(os.path.join(self.root, f'.{owner}.lock')) if self.local else None
    for part in self.parts()[:1]:
      with self.files.open(part, 'rb') as file:
        there = parquet.read_schema(file).metadata.get(FACTS, b'{}')
      if there != self.facts[FACTS]:
        self.__exit__()
        now = self.facts[FACTS].decode()
        raise ValueError(f'{out} holds pages read with {there.decode()}, now {now} was asked for: give another OUTPUT')

  def __enter__(self) -> 'Store':
    return self

  def __exit__(self, *_) -> None:
    try:
      self.flush()
    finally:
      if self.lock:
        self.lock.close()

  def parts(self) -> list[str]:
    """Returns the paths of the files of rows."""
    return sorted(str(path) for path in self.files.glob(f'{self.root}/pages-*.parquet'))

  def read(self, part: str, columns: list[str] | None) -> pyarrow.Table:
    """Returns columns of a file of rows, all of them where `columns` is None."""
    with self.files.open(part, 'rb') as file:
      return parquet.ParquetFile(file).read(columns)

  def done(self) -> tuple[Done, int]:
    """Reads what is done, counting statuses anew; returns it and the bytes of its files."""
    whole, begun, size = [], collections.defaultdict(set), 0
    self.counts.clear()
    for part in self.parts():
      rows = self.read(part, ['source', 'member', 'page', 'pages', 'bytes', 'status']).to_pydict()
      self.counts.update(rows['status'])
      for source, member, page, pages, count in zip(*(rows[c] for c in ('source', 'member', 'page', 'pages', 'bytes')), strict=True):
        size += (count or 0) if page == 1 else 0
        if pages == 1:
          whole.append(_name(source, member))
          continue
        begun[_name(source, member)].add(page)
        if len(begun[_name(source, member)]) == pages:
          whole.append(_name(source, member))
          del begun[_name(source, member)]
    return Done(np.sort(np.array(whole, 'S16')), {name: frozenset(pages) for name, pages in begun.items()}), size

  def forget(self, status: str) -> int:
    """Takes away all rows of a status, so that those pages are read again; returns how many. Only while no other process writes here."""
    gone = 0
    for part in self.parts():
      rows = self.read(part, None)
      kept = rows.filter(compute.field('status') != status)
      gone += len(rows) - len(kept)
      if not len(kept):
        self.files.rm_file(part)
      elif len(kept) < len(rows):
        self._put(part, kept)
    return gone

  def add(self, rows: pyarrow.Table) -> None:
    """Takes rows, and writes them when there are ROWS of them or FLUSH_S have passed."""
    self.waiting.append(rows)
    self.counts.update(rows['status'].to_pylist())
    if sum(map(len, self.waiting)) >= ROWS or time.monotonic() - self.flushed > FLUSH_S:
      self.flush()

  def flush(self) -> None:
    """Writes what waits to a new file, whole or not at all."""
    rows, self.waiting, self.flushed = self.waiting, [], time.monotonic()
    if rows:
      stamp = datetime.datetime.now(datetime.UTC).strftime('%Y%m%dT%H%M%S')
      self._put(f'{self.root}/pages-{stamp}-{uuid.uuid4().hex[:12]}.parquet', pyarrow.concat_tables(rows))

  def _put(self, path: str, rows: pyarrow.Table) -> None:
    data = packed(rows.replace_schema_metadata(self.facts))
    if self.local:
      signals.whole(path, lambda part: _to_disk(part, data))
    else:
      self.files.pipe_file(path, data)  # object stores show it when it is complete


def packed(rows: pyarrow.Table) -> bytes:
  """Returns rows as a Parquet file: samples as differences, zstd."""
  sink = pyarrow.BufferOutputStream()
  repeated: Any = ['source', 'status', 'layout', 'ecgjax', 'weights_sha256', 'engine']
  parquet.write_table(
    rows, sink, compression='zstd', use_dictionary=repeated, column_encoding=dict.fromkeys(SAMPLES, 'DELTA_BINARY_PACKED'),
  )  # fmt: skip
  return sink.getvalue().to_pybytes()


def _to_disk(path, data: bytes) -> None:
  with open(path, 'wb') as file:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _locked(path: str):
  import fcntl

  file = open(path, 'w')  # noqa: SIM115  # held as long as this process writes
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    file.close()
    raise ValueError(f'{os.path.dirname(path)}: another process is writing the same pages here ({path})') from error
  return file
