"""Containers: single pictures, members of tars, rows of Parquet files. Their bytes are not decoded here.

A member has a name: in a tar its own, in a Parquet file the number of its row, from 0; a single picture is its own only member, ''.
"""

import os
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ecgjax.archive.listing import Origin, kind_of, place
from ecgjax.ecg.errors import ECGError

MAX_BYTES = 1 << 29  # of a file
BATCH = 16  # rows of a Parquet file that are in memory at once
READ_BYTES = 1 << 20  # of a Parquet file at a time, or a whole group of rows would be
TRIES = 3  # of a source whose disk or connection fails
LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)  # no use to try again
OURS = b'ecgjax.archive'  # in the schema of a file of rows: it is no source


class Member(NamedTuple):
  """A file to be read, or, if `data` is None, the reason why it, or the rest of its source, cannot be read."""

  name: str
  data: bytes | None
  reason: str = ''


def part_of(name: str, *, parts: int) -> int:
  """Returns the part, of `parts`, of a name; it depends on the name alone."""
  return zlib.crc32(name.encode('utf-8', 'surrogateescape')) % parts


def members(source: Origin, *, wanted: Callable[[str], bool], part: int = 0, parts: int = 1, column: str = '') -> Iterator[Member]:
  """Reads the files of a source.

  Args:
    source: one of `listing.listed`.
    wanted: whether a member is to be read; other members are skipped, where possible without reading them.
    part: of `parts`, into which the members are divided by their names (of a Parquet file, by groups of rows).
    parts: number of parts.
    column: of a Parquet file's bytes; '' for its only column of bytes.

  Yields:
    Its members. Every error is a Member with a reason: no exception is raised. An error of the whole source is reported by its first part,
    with the name ''; a failed connection is reported by each part itself.
  """
  given: set[str] = set()
  mine = lambda name: part_of(f'{source.url} {name}', parts=parts) == part
  left = lambda name: name not in given and wanted(name)
  error: Exception | None = None
  attempt = 0
  while attempt < TRIES:
    time.sleep(attempt)
    before = len(given)
    try:
      for member in _opened(source, left, mine, column, last=attempt == TRIES - 1):
        given.add(member.name)
        yield member
      return
    except Exception as failed:  # of a damaged container or a lost connection nearly anything
      error = failed
      if not _passing(failed):
        break
      attempt = 1 if len(given) > before else attempt + 1  # in a source that takes hours a connection may be lost more than once
  of_part = source.kind != 'picture' and part > 0
  name = f'part {part} of {parts}' if of_part else ''
  if (not of_part or (error is not None and _passing(error))) and left(name):
    yield Member(name, None, _reason(error) + (', or not all of it' if given else ''))


def _passing(error: Exception) -> bool:
  """Returns whether an error is of a disk or a connection, thus transient; for damaged bytes Arrow raises an OSError without a number."""
  numbered = isinstance(error, OSError) and error.errno is not None
  return (numbered or isinstance(error, ConnectionError | TimeoutError)) and not isinstance(error, LASTING)


def names(source: Origin, *, column: str) -> list[str]:
  """Lists the members of a source without reading them, with '' if the list is incomplete; `column` as in `members`."""
  found: list[str] = []
  for _ in members(source, wanted=lambda name: found.append(name) is not None, column=column):
    pass  # none is wanted
  return found


def _reason(error: Exception | None) -> str:
  return f'it cannot be read ({type(error).__name__}: {error})'


def _opened(source: Origin, wanted: Callable[[str], bool], mine: Callable[[str], bool], column: str, *, last: bool) -> Iterator[Member]:
  if source.kind == 'folder':
    raise NotADirectoryError(f'{source.url} could not be listed')
  files, path = place(source.url)
  if source.kind == 'picture':
    if mine('') and wanted(''):
      yield _sized('', source.size_bytes, lambda: files.cat_file(path))
    return
  with files.open(path, 'rb') as file:
    yield from _of_tar(file, wanted, mine) if source.kind == 'tar' else _of_parquet(file, wanted, mine, column, last=last)


def _sized(name: str, size: int, read: Callable[[], bytes]) -> Member:
  data = read() if size <= MAX_BYTES else b''
  size = max(size, len(data))  # not every store tells it before
  too_large = f'it has {size:,} bytes; at most {MAX_BYTES:,} are read'
  return Member(name, None, too_large) if size > MAX_BYTES else Member(name, data)


def _of_tar(file, wanted: Callable[[str], bool], mine: Callable[[str], bool]) -> Iterator[Member]:
  tar: Any
  with tarfile.open(fileobj=file, mode='r:*') as tar:
    counts: dict[str, int] = {}
    while (info := tar.next()) is not None:
      tar.members.clear()  # or they add up: a tar may hold millions
      base = os.path.basename(info.name)
      if base.startswith('.') or kind_of(base, named=False) != 'picture' or info.isdir():
        continue
      counts[info.name] = counts.get(info.name, 0) + 1
      name = info.name if counts[info.name] == 1 else f'{info.name}#{counts[info.name]}'
      if not (mine(name) and wanted(name)):
        continue
      if not info.isfile():
        yield Member(name, None, f'it is a link to {info.linkname}' if info.islnk() or info.issym() else 'it is no file')
      else:
        yield _sized(name, info.size, tar.extractfile(info).read)
    # tarfile takes a damaged header for the end of the tar, without an error
    tar.fileobj.seek(tar.offset)
    end = tar.fileobj.read(1 << 20)
    if len(end) < tarfile.BLOCKSIZE or any(end):
      raise tarfile.ReadError('the tar is damaged or cut off: something other than its end follows the last file that was found')


def _of_parquet(file, wanted: Callable[[str], bool], mine: Callable[[str], bool], column: str, *, last: bool) -> Iterator[Member]:
  from pyarrow import parquet

  table = parquet.ParquetFile(file, buffer_size=READ_BYTES, pre_buffer=False)
  if OURS in (table.schema_arrow.metadata or {}):
    return
  column = _bytes_column(table.schema_arrow, column)
  first = 0
  for group in range(table.num_row_groups):
    rows = range(first, first := first + table.metadata.row_group(group).num_rows)
    if not mine(f'group {group}') or not any(wanted(str(row)) for row in rows):
      continue
    row = rows.start
    try:
      for batch in table.iter_batches(BATCH, row_groups=[group], columns=[column]):
        for value in batch.column(0):
          data = value.as_py()
          data = data.get('bytes') if isinstance(data, dict) else data
          if wanted(str(row)):
            yield Member(str(row), None, 'the row holds no bytes') if data is None else _sized(str(row), len(data), lambda data=data: data)
          row += 1
    except Exception as error:
      if _passing(error) and not last:
        raise  # the file is opened again, for what it has not given yet
      # the other groups may be sound
      yield from (Member(str(lost), None, _reason(error)) for lost in range(row, rows.stop) if wanted(str(lost)))


def _bytes_column(schema, column: str) -> str:
  from pyarrow import types

  plain = lambda kind: kind.value_type if types.is_dictionary(kind) else kind
  tests = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
  is_bytes = lambda kind: any(test(plain(kind)) for test in tests)
  holds = lambda kind: is_bytes(kind) or (types.is_struct(kind) and any(f.name == 'bytes' and is_bytes(f.type) for f in kind))
  able = [field.name for field in schema if holds(field.type)]
  if column and column not in able:
    raise ECGError(f'--column {column} holds no bytes; {", ".join(able) or "none"} would')
  if not column and len(able) != 1:
    raise ECGError(f'it has {len(able)} columns of bytes ({", ".join(able)}); say which with --column')
  return column or able[0]
