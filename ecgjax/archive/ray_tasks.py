"""Tasks and actors of Ray for an archive: tasks open its sources and decode pages, actors read them.

Each uses a child process of its own (`process_pool`), because a page may crash its process and must not crash Ray's.
"""

import functools
import math
import os
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from typing import Any

import numpy as np
import pyarrow

from ecgjax.archive import containers, listing, page_rows, parquet_store, schema
from ecgjax.archive.partition import ReadSettings, Unit, first_undone, undone
from ecgjax.jobs import hardware, page_job, process_pool

END = 'end'  # status of the row that says how many rows a part of a source has
BROKEN = 'broken'  # of one that stands for a page for which no child process could be started: no fault of the page

PAGE = pyarrow.schema([*schema.SCHEMA, ('unit', pyarrow.int64())])
PICTURE = pyarrow.schema([*PAGE, ('height', pyarrow.int32()), ('width', pyarrow.int32()), ('px', pyarrow.large_binary())])


@functools.cache
def _decoder():
  return process_pool.Children(1)


def opened(units, *, done: parquet_store.CompletedPages, settings: ReadSettings):
  """Opens parts of sources: yields a table of one row per page, with its px or the reason for their absence, and END after each part."""
  for unit in units.to_pylist():
    source, count = listing.Origin(os.fsdecode(unit['url']), unit['size_bytes'], unit['kind']), 0
    try:
      for member in undone(Unit(source, unit['part'], unit['parts']), done, settings.column):
        for row in _pages(source, member, done, settings.limit_s):
          count += 1
          yield _picture(row | {'unit': unit['unit']})
    except BrokenExecutor as error:
      yield _picture({'unit': unit['unit']} | broken(error))
      return  # what is left of these units is missed, and tried again
    yield _picture({'unit': unit['unit'], 'status': END, 'pages': count})


def _pages(
  source: listing.Origin, member: containers.Member, done: parquet_store.CompletedPages, limit_s: float
) -> Iterator[dict[str, Any]]:
  first = first_undone(done, source.url, member.name)
  at = schema.where(source.url, member.name, data=member.data, page=first)
  if member.data is None:
    yield at | schema.failed(member.reason)
    return
  number, pages = first - 1, 0
  while not pages or number < pages:
    if not done.page(source.url, member.name, number + 1):
      found, lost = process_pool.answer(_decoder().schedule(page_rows.opened, args=[member.data, number], timeout=limit_s), limit_s=limit_s)
      pages = max(pages, number + 1, found.pages if found else page_job.counted(_decoder(), '', member.data, limit_s=limit_s))
      row = schema.paged(at, page=number + 1, pages=pages)
      if found is None or found.image is None:
        yield row | schema.failed(found.reason if found else lost)
      else:
        height, width = found.image.shape[:2]
        yield row | {'height': height, 'width': width, 'px': found.image.tobytes()}
    number += 1


def broken(error: BrokenExecutor) -> dict[str, Any]:
  """Returns the row of a page for which no child process could be started, by which the page is known to be tried again."""
  return {'status': BROKEN, 'reasons': [str(error)]}


def _picture(row: dict[str, Any]) -> pyarrow.Table:
  return pyarrow.Table.from_pylist([row], schema=PICTURE)


class PageReader:
  """An actor of Ray that reads pages in a child process of its own."""

  def __init__(self, *, settings: ReadSettings, place: str, share: float):
    shares = max(1, math.ceil(share * hardware.cores() - 0.01))  # readers on this machine
    self.settings, self.pool, self.wrong = settings, process_pool.Children(1, place=place, shares=shares), None

  def __call__(self, pictures: pyarrow.Table) -> pyarrow.Table:
    return pyarrow.Table.from_pylist([self._row(row) for row in pictures.to_pylist()], schema=PAGE)

  def _row(self, row: dict[str, Any]) -> dict[str, Any]:
    px, height, width = (row.pop(name) for name in ('px', 'height', 'width'))
    if px is None:
      return row
    image = np.frombuffer(px, np.uint8).reshape(height, width, 3)
    try:
      self._check()
      job = self.pool.schedule(page_rows.read, args=[image, self.settings.options], timeout=self.settings.limit_s)
      read, lost = process_pool.answer(job, limit_s=self.settings.limit_s)
    except BrokenExecutor as error:
      return row | broken(error)
    return row | (schema.failed(lost) if lost else read)

  def _check(self) -> None:
    """Raises BrokenExecutor if the options fail on this machine, unlike on the command's own: not the fault of a page."""
    self.wrong = page_job.checked(self.pool, self.settings.options) if self.wrong is None else self.wrong
    if self.wrong:
      raise BrokenExecutor(self.wrong)


def listed(number: int, unit: Unit) -> dict[str, Any]:
  """Returns a part of a source as an input row of `opened`."""
  # Arrow's text is UTF-8; file names may hold other bytes
  return unit.source._asdict() | {'url': os.fsencode(unit.source.url), 'unit': number, 'part': unit.part, 'parts': unit.parts}


def ready() -> None:
  """Does nothing; succeeds where this module can be imported."""
