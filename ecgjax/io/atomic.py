"""Atomic writing of files: a temporary file, then renamed."""

import os
import pathlib
import uuid
from collections.abc import Callable


def whole(path, write: Callable[[pathlib.Path], object]) -> None:
  """Has `write(part)` write beside `path` and puts it in place when it is complete.

  Args:
    path: to appear.
    write: takes a path of the same suffix.
  """
  path = pathlib.Path(path)
  part = path.with_name(f'.{uuid.uuid4().hex}{path.suffix}')
  try:
    write(part)
    os.replace(part, path)
  finally:
    part.unlink(missing_ok=True)
