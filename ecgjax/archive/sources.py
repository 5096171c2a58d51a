"""What an archive is made of: pictures in folders, in tars (WebDataset) and in Parquet files, on disks and in object stores.

A member of a source is a file: of a tar by its name, of a Parquet file by the number of its row, from 0; a picture by itself is its own
only member, ''. Bytes are not looked into here.
"""

import os
import pathlib
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import fsspec

from ecgjax.batch import SUFFIXES

TARS = ('.tar', '.tar.gz', '.tgz', '.tar.bz2', '.tar.xz')
MAX_BYTES = 1 << 29  # of a file
PACKAGES = {'s3': 's3fs', 'gs': 'gcsfs', 'gcs': 'gcsfs', 'az': 'adlfs', 'abfs': 'adlfs'}
ROWS = 16  # of a Parquet file that are in memory at once


class Origin(NamedTuple):
  """A file of the archive: its path or URL, its size and its kind, 'picture', 'tar' or 'parquet'."""

  url: str
  size_bytes: int
  kind: str


class Member(NamedTuple):
  """A file to be read, or, where `data` is None, the reason why it, or what is left of its source, cannot be."""

  name: str
  data: bytes | None
  reason: str = ''


def kind_of(name: str, *, named: bool) -> str:
  """Returns the kind of a file by its name; '' if it is none of ours, a picture if a person `named` it."""
  suffix = pathlib.PurePosixPath(name).suffix.lower()
  if name.lower().endswith(TARS):
    return 'tar'
  return 'parquet' if suffix == '.parquet' else 'picture' if named or suffix in SUFFIXES else ''


def place(text: str) -> tuple[Any, str]:
  """Returns the fsspec file system of a path or URL and the path in it.

  Raises:
    ValueError: for a protocol that is not known.
    ImportError: if its library is not installed.
  """
  try:
    return fsspec.core.url_to_fs(text)
  except ImportError as error:
    package = PACKAGES.get(text.split('://')[0], str(error))
    raise ImportError(f'{text} needs {package}: pip install {package}') from error


def listed(inputs: list[str], *, but: str) -> Iterator[Origin]:
  """Lists an archive.

  Args:
    inputs: files and folders, paths or URLs that fsspec knows; folders are searched to the bottom, hidden names passed over.
    but: the folder of the rows, whose own Parquet files are not of the archive.

  Yields:
    Its files in an order that depends on their names alone, each once.

  Raises:
    ValueError: if an input does not exist.
    ImportError: as `place`.
  """
  seen: set[str] = set()
  out = str(place(but)[0].unstrip_protocol(place(but)[1])).rstrip('/')
  for text in inputs:
    files, root = place(text)
    if not files.exists(root):
      raise ValueError(f'{text} does not exist')
    if files.isfile(root):
      found = [(root, int(files.size(root) or 0), kind_of(root, named=True))]
    else:
      found = ((path, info.get('size') or 0, kind_of(path, named=False)) for path, info in _files(files, root))
    for path, size, kind in found:
      if not kind or (kind == 'parquet' and str(files.unstrip_protocol(path)).rpartition('/')[0] == out):
        continue
      url = path if 'file' in files.protocol else str(files.unstrip_protocol(path))
      if len(inputs) == 1 or url not in seen:  # of one input alone no name comes twice, and nothing need be kept
        seen |= {url} if len(inputs) > 1 else set()
        yield Origin(url, size, kind)


def _files(files, root: str) -> Iterator[tuple[str, dict]]:
  for folder, folders, names in files.walk(root, detail=True):
    for hidden in [name for name in folders if name.startswith('.')]:
      folders.pop(hidden)  # walk goes on with what is left
    entries = dict(sorted(folders.items()))
    folders.clear()
    folders.update(entries)
    for name, info in sorted(names.items()):
      if info['type'] == 'file' and not name.startswith('.'):
        yield f'{folder.rstrip("/")}/{name}', info


def part_of(name: str, *, parts: int) -> int:
  """Returns to which of `parts` a name belongs, always the same."""
  return zlib.crc32(name.encode('utf-8', 'surrogateescape')) % parts


def members(source: Origin, *, wanted: Callable[[str], bool], part: int = 0, parts: int = 1, column: str = '') -> Iterator[Member]:
  """Reads the files of a source.

  Args:
    source: one of `listed`.
    wanted: whether a member is to be read; what is not is passed over, where possible without reading it.
    part: of `parts`, into which the members are shared out by their names (of a Parquet file, by groups of rows).
    parts: how many.
    column: of a Parquet file's bytes; the only one of bytes where it is ''.

  Yields:
    Its members. Whatever is wrong is a Member with a reason: nothing is raised.
  """
  mine = lambda name: part_of(f'{source.url} {name}', parts=parts) == part
  name = ''
  try:
    files, path = place(source.url)
    if source.kind == 'picture':
      if mine('') and wanted(''):
        yield _sized('', source.size_bytes, lambda: files.cat_file(path))
      return
    with files.open(path, 'rb') as file:
      found = _of_tar(file, wanted, mine) if source.kind == 'tar' else _of_parquet(file, wanted, mine, column)
      for member in found:
        name = member.name
        yield member
  except Exception as error:  # of a damaged container or a lost connection nearly anything
    after = f', after {name}' if name else ''
    told = f'it cannot be read{after} ({type(error).__name__}: {error})'
    if (part == 0 or source.kind == 'picture') and wanted(''):  # it is said once
      yield Member('', None, told)


def names(source: Origin, *, column: str) -> list[str]:
  """Lists the members of a source without reading them, '' among them if they cannot all be listed; `column` as in `members`."""
  found: list[str] = []
  for _ in members(source, wanted=lambda name: found.append(name) is not None, column=column):
    pass  # none is wanted
  return found


def _sized(name: str, size: int, read: Callable[[], bytes]) -> Member:
  if size > MAX_BYTES:
    return Member(name, None, f'it has {size:,} bytes; at most {MAX_BYTES:,} are read')
  return Member(name, read())


def _of_tar(file, wanted: Callable[[str], bool], mine: Callable[[str], bool]) -> Iterator[Member]:
  tar: Any
  with tarfile.open(fileobj=file, mode='r:*') as tar:
    seen: dict[str, int] = {}
    while (info := tar.next()) is not None:
      tar.members.clear()  # or they add up: a tar may hold millions
      base = os.path.basename(info.name)
      if not info.isfile() or base.startswith('.') or kind_of(base, named=False) != 'picture':
        continue
      seen[info.name] = seen.get(info.name, 0) + 1
      name = info.name if seen[info.name] == 1 else f'{info.name}#{seen[info.name]}'
      if mine(name) and wanted(name):
        yield _sized(name, info.size, tar.extractfile(info).read)


def _of_parquet(file, wanted: Callable[[str], bool], mine: Callable[[str], bool], column: str) -> Iterator[Member]:
  from pyarrow import parquet

  table = parquet.ParquetFile(file)
  column = column or _bytes_column(table.schema_arrow)
  if column not in table.schema_arrow.names:
    raise ValueError(f'it has no column {column}; --column may be one of {", ".join(table.schema_arrow.names)}')
  first = 0
  for group in range(table.num_row_groups):
    rows = range(first, first := first + table.metadata.row_group(group).num_rows)
    if not mine(f'group {group}') or not any(wanted(str(row)) for row in rows):
      continue
    row = rows.start
    for batch in table.iter_batches(ROWS, row_groups=[group], columns=[column]):
      for value in batch.column(0):
        data = value.as_py()
        data = data.get('bytes') if isinstance(data, dict) else data
        if wanted(str(row)):
          yield Member(str(row), None, 'the row holds no bytes') if data is None else _sized(str(row), len(data), lambda data=data: data)
        row += 1


def _bytes_column(schema) -> str:
  from pyarrow import types

  is_bytes = lambda kind: types.is_binary(kind) or types.is_large_binary(kind)
  holds = lambda kind: is_bytes(kind) or (types.is_struct(kind) and any(f.name == 'bytes' and is_bytes(f.type) for f in kind))
  names = [field.name for field in schema if holds(field.type)]
  if len(names) != 1:
    raise ValueError(f'it has {len(names)} columns of bytes ({", ".join(names)}); say which with --column')
  return names[0]
