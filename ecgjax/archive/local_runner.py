"""Reading of an archive without Ray, in child processes of this one."""

import collections
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pyarrow

from ecgjax.archive import page_rows, parquet_store, schema
from ecgjax.archive.partition import ReadSettings, Unit, first_undone, undone
from ecgjax.jobs import page_job, process_pool


class Due(NamedTuple):
  """A page `number`, from 0, of a file in memory with the facts `at`; `pages` is 0 for the first page read, whose result holds it."""

  url: str
  name: str
  at: Mapping
  data: bytes
  number: int
  pages: int


def read(units: list[Unit], done: parquet_store.ProgressIndex, settings: ReadSettings, *, jobs: int) -> Iterator[pyarrow.Table]:
  """Reads the pages of an archive that have no row yet, in child processes of this one.

  Args:
    units: its parts.
    done: index of the pages with a row.
    settings: options of reading.
    jobs: number of child processes.

  Yields:
    Rows of `schema.SCHEMA` when they are finished.
  """
  files = ((unit.source.url, member) for unit in units for member in undone(unit, done, settings.column))
  waiting: collections.deque[Due] = collections.deque()
  broken: list[Mapping] = []
  more = True

  def take() -> tuple[Due, list] | None:
    nonlocal more
    while not waiting:
      url, member = next(files, ('', None)) if len(broken) < parquet_store.ROWS else ('', None)
      if member is None:
        more = len(broken) >= parquet_store.ROWS
        return None
      first = first_undone(done, url, member.name)
      at = schema.where(url, member.name, data=member.data, page=first)
      if member.data is None:
        broken.append(at | schema.failed(member.reason))
      else:
        waiting.append(Due(url, member.name, at, member.data, first - 1, 0))
    task = waiting.popleft()
    return task, [task.data, task.number, settings.options]

  with process_pool.Children(jobs) as children:
    while more:
      for task, result, lost, _ in process_pool.answers(children, page_rows.page, take, limit_s=settings.limit_s):
        pages = task.pages
        if not pages:
          pages = max(task.number + 1, result[0] if result else page_job.counted(children, '', task.data, limit_s=settings.limit_s))
          others = (n for n in range(task.number + 1, pages) if not done.page(task.url, task.name, n + 1))
          waiting.extend(task._replace(number=n, pages=pages) for n in others)
        yield schema.table([schema.paged(task.at, page=task.number + 1, pages=pages) | (result[1] if result else schema.failed(lost))])
      yield schema.table(broken)
      broken.clear()
