"""Files of an archive: pictures, tars (WebDataset) and Parquet files in folders, on disks and in object stores."""

import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ecgjax.ecg.errors import ECGError, MissingLibrary
from ecgjax.io.suffixes import is_page

TARS = ('.tar', '.tar.gz', '.tgz', '.tar.bz2', '.tar.xz')
PACKAGES = {'s3': 's3fs', 'gs': 'gcsfs', 'gcs': 'gcsfs', 'az': 'adlfs', 'abfs': 'adlfs'}


class Origin(NamedTuple):
  """A file of the archive: path or URL, size, and kind: 'picture', 'tar', 'parquet', or 'folder' for one that cannot be listed."""

  url: str
  size_bytes: int
  kind: str


def kind_of(name: str, *, named: bool) -> str:
  """Returns the kind of a file by its name: 'picture' if the user `named` it, '' for other files and for outputs of `digitize`."""
  if name.lower().endswith(TARS):
    return 'tar'
  suffix = pathlib.PurePosixPath(name).suffix.lower()
  return 'parquet' if suffix == '.parquet' else 'picture' if named or is_page(name) else ''


def place(text: str) -> tuple[Any, str]:
  """Returns the fsspec file system of a path or URL and the path in it, absolute.

  Raises:
    ECGError: for an unknown protocol.
    MissingLibrary: if its library is not installed.
  """
  if text.startswith('/') or '://' not in text:  # fsspec would read a::b and a://b in a name as addresses
    return LocalFileSystem(), os.path.abspath(text)
  try:
    return fsspec.core.url_to_fs(text)
  except ImportError as error:
    package = PACKAGES.get(text.split('://')[0], str(error))
    raise MissingLibrary(f'{text} needs {package}: pip install {package}') from error
  except ValueError as error:  # fsspec's own, of a protocol that it has not
    raise ECGError(f'{text}: {error}') from error


def address(files, path: str) -> str:
  """Returns the path or URL for which `place` gives this file system and path."""
  return path if isinstance(files, LocalFileSystem) else str(files.unstrip_protocol(path))


def listed(inputs: list[str], *, exclude: str) -> Iterator[Origin]:
  """Lists an archive.

  Args:
    inputs: files and folders, paths or URLs that fsspec supports; folders are searched recursively, hidden names are skipped.
    exclude: the folder of the rows, whose Parquet files do not belong to the archive.

  Yields:
    Its files in an order that depends on their names alone, each once.

  Raises:
    ECGError: if an input does not exist.
    MissingLibrary: as `place`.
  """
  urls: set[str] = set()
  out = address(*place(exclude)).rstrip('/')
  for text in inputs:
    files, root = place(text)
    if not files.exists(root):
      raise ECGError(f'{text} does not exist')
    if not _found_again(files, root):
      raise ECGError(f'{text}: archives are read from disks and object stores whose addresses hold all that is needed (s3, gs, az)')
    found = [(root, int(files.size(root) or 0), kind_of(root, named=True))] if files.isfile(root) else _below(files, root)
    for path, size, kind in found:
      url = address(files, path)
      if not kind or (kind == 'parquet' and url.rpartition('/')[0] == out):
        continue
      if len(inputs) == 1 or url not in urls:  # of one input alone no name comes twice, and nothing need be kept
        urls |= {url} if len(inputs) > 1 else set()
        yield Origin(url, size, kind)


def _found_again(files, path: str) -> bool:
  """Returns whether a page can be reopened by its address alone: for zip:// or sftp:// fsspec omits the file or the host."""
  try:
    return place(address(files, path)) == (files, path)
  except Exception:  # what a made-up address leads to may raise anything
    return False


def _below(files, folder: str) -> Iterator[tuple[str, int, str]]:
  """Lists path, size and kind of the files in a folder, then of its subfolders; links to folders, possibly cyclic, are skipped."""
  try:
    entries = sorted(files.ls(folder, detail=True), key=lambda info: info['name'])
  except OSError:
    yield folder, 0, 'folder'
    return
  named = [(str(info['name']).rstrip('/'), info) for info in entries]
  visible = [(path, info) for path, info in named if not os.path.basename(path).startswith('.')]
  for path, info in visible:
    if info['type'] == 'file' or (info.get('islink') and not files.isdir(path)):
      yield path, info.get('size') or 0, kind_of(path, named=False)
  for path, info in visible:
    if info['type'] == 'directory' and path != folder.rstrip('/'):
      yield from _below(files, path)
