"""Parquet files of an archive's rows, which are the only record of progress."""

import collections
import datetime
import errno
import hashlib
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pyarrow
from fsspec.implementations.local import LocalFileSystem
from pyarrow import compute, parquet

from ecgjax.archive.containers import OURS
from ecgjax.archive.listing import place
from ecgjax.archive.schema import packed, printable
from ecgjax.ecg.errors import ECGError, MissingLibrary
from ecgjax.io import atomic

SOLE = '0-of-1'  # owner of all rows
ROWS, BYTES, FLUSH_S = 1000, 64 << 20, 60.0  # a file is written when one of them is reached


def _name(source: str, member: str) -> bytes:
  digest = hashlib.blake2b(printable(f'{source}\0{member}').encode(), digest_size=16).digest()
  return digest.rstrip(b'\0')  # as NumPy has it


class ProgressIndex(Protocol):
  """Index of files and pages that are not to be read: `CompletedPages`, or those outside a sample."""

  def file(self, source: str, member: str) -> bool: ...
  def page(self, source: str, member: str, page: int) -> bool: ...


class CompletedPages:
  """Index of the pages that have a row: 16 bytes per file, so that millions of files need little memory."""

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
  """The folder of an archive's rows; a context that writes pending rows and releases its locks at the end.

  Args:
    out: path or URL; created if missing.
    facts: options of reading; all rows of a folder have the same.
    owner: part of the rows that this process writes, or ALONE for all; on a local disk ALONE excludes all other writers, and a part
      excludes a second writer of that part.

  Raises:
    ECGError: if the folder has rows with other options, or another process of the same owner is running.
  """

  def __init__(self, out: str, facts: Mapping[str, Any], *, owner: str = SOLE):
    self.files, self.root = place(out)
    self.local = isinstance(self.files, LocalFileSystem)
    self.facts = {OURS: json.dumps(facts, sort_keys=True).encode()}
    self.waiting: list[pyarrow.Table] = []
    self.size = 0  # bytes of those that wait
    self.flushed, self.counts, self.next = time.monotonic(), collections.Counter(), _new_name()
    self.files.makedirs(self.root, exist_ok=True)
    self.locks = []
    try:
      for name, shared in ((owner, False), ('', owner != SOLE)) if self.local else ():
        self.locks.append(_locked(self.root, name, shared=shared))
      self._same_facts()
    except BaseException:
      self.__exit__()
      raise

  def _same_facts(self) -> None:
    for part in self.parts()[:1]:  # of the others `done` sees it, which reads them all
      with self.files.open(part, 'rb') as file:
        self._check(parquet.read_schema(file))

  def _check(self, schema: pyarrow.Schema) -> None:
    stored, now = (schema.metadata or {}).get(OURS, b'{}'), self.facts[OURS]
    if stored != now:
      raise ECGError(f'{self.root} holds pages read with {stored.decode()}, now {now.decode()} was asked for: give another OUTPUT')

  def __enter__(self) -> 'Store':
    return self

  def __exit__(self, *_) -> None:
    try:
      self.flush()
    finally:
      for lock in self.locks:
        lock.close()

  def parts(self) -> list[str]:
    """Returns the paths of the files of rows."""
    self.files.invalidate_cache()  # others may write here, too
    try:
      paths = [str(path) for path in self.files.ls(self.root, detail=False)]
    except FileNotFoundError:  # an object store has no empty folders
      paths = []
    return sorted(path for path in paths if re.fullmatch(r'pages-.*\.parquet', path.rpartition('/')[2]))

  def read(self, part: str, columns: list[str] | None) -> pyarrow.Table:
    """Returns columns of a file of rows, all if `columns` is None."""
    with self.files.open(part, 'rb') as file:
      return parquet.ParquetFile(file).read(columns)

  def done(self) -> tuple[CompletedPages, int]:
    """Reads the index of completed pages and recounts the statuses; returns the index and the bytes of its files.

    A file is done when all pages up to the smallest `pages` of its rows are: a later row may state fewer pages, for a file that
    could not be read any more.
    """
    whole, begun, last, size = [np.zeros(0, 'S16')], collections.defaultdict(set), {}, 0
    self.counts.clear()
    for part in self.parts():
      table = self.read(part, ['source', 'member', 'page', 'pages', 'bytes', 'status'])
      self._check(table.schema)
      rows = table.to_pydict()
      self.counts.update(rows['status'])
      names = []
      for source, member, page, pages, count in zip(*(rows[c] for c in ('source', 'member', 'page', 'pages', 'bytes')), strict=True):
        size += (count or 0) if page == 1 else 0
        name = _name(source, member)
        begun[name].add(page)
        last[name] = min(pages, last.get(name, pages))
        if len(begun[name]) >= last[name] and begun[name].issuperset(range(1, last[name] + 1)):
          names.append(name)
          del begun[name], last[name]
      whole.append(np.array(names, 'S16'))
    return CompletedPages(np.sort(np.concatenate(whole)), {name: frozenset(pages) for name, pages in begun.items()}), size

  def forget(self, status: str) -> int:
    """Deletes all rows of a status, so that their pages are read again; returns their number. No other process may write meanwhile."""
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
    """Adds rows, and writes them when there are ROWS or BYTES of them or FLUSH_S have passed."""
    self.waiting.append(rows)
    self.counts.update(rows['status'].to_pylist())
    self.size += rows.nbytes
    if sum(map(len, self.waiting)) >= ROWS or self.size >= BYTES or time.monotonic() - self.flushed > FLUSH_S:
      self.flush()

  def flush(self) -> None:
    """Writes pending rows to a new file, whole or not at all."""
    if any(map(len, self.waiting)):
      self._put(f'{self.root}/{self.next}', pyarrow.concat_tables(self.waiting))
    # only now: after an interruption above the same file is written again
    self.waiting, self.size, self.flushed, self.next = [], 0, time.monotonic(), _new_name()

  def _put(self, path: str, rows: pyarrow.Table) -> None:
    data = packed(rows.replace_schema_metadata(self.facts))
    if self.local:
      atomic.whole(path, lambda part: _to_disk(part, data))
    else:
      self.files.pipe_file(path, data)  # object stores show it when it is complete


def _new_name() -> str:
  return f'pages-{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:12]}.parquet'


def _to_disk(path, data: bytes) -> None:
  with open(path, 'wb') as file:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def _locked(root: str, owner: str, *, shared: bool):
  """Acquires a lock of a folder, held until the returned file is closed or the process ends in any way."""
  try:
    import fcntl
  except ModuleNotFoundError as error:
    raise MissingLibrary('an archive on a local disk needs Linux or macOS: this system has no locks of files (fcntl)') from error
  path = os.path.join(root, f'.{owner}.lock')
  file = open(path, 'w')  # noqa: SIM115  # held as long as this process writes
  try:
    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
  except OSError as error:
    if error.errno in (errno.EAGAIN, errno.EACCES):
      file.close()
      raise ECGError(f'{root}: another process is writing the same pages here ({path})') from error
    print(f'{path}: this file system knows no locks ({error}); start no two runs of the same pages', file=sys.stderr)
  return file
