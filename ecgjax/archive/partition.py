"""Partition of an archive into units, each opened by one task, and the pages of a unit without a row."""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

from ecgjax.archive import containers, listing, parquet_store
from ecgjax.jobs import page_job

PARTS = 16  # that an archive has at least where its sources can be parted, so that a cluster opens them side by side


class Unit(NamedTuple):
  """Part `part` of `parts` of a source, opened by one task."""

  source: listing.Origin
  part: int
  parts: int


class ReadSettings(NamedTuple):
  """Options of reading an archive: `limit_s` per page, `column` as in `containers.members`."""

  options: page_job.Options
  limit_s: float
  column: str


def parted(found: list[listing.Origin]) -> list[Unit]:
  """Returns the parts of an archive's sources that a cluster opens in parallel: a few large tars are split into several parts each."""
  parts = max(1, math.ceil(PARTS / len(found)))
  return [Unit(source, i, n) for source in found for n in [1 if source.kind == 'picture' else parts] for i in range(n)]


def first_undone(done: parquet_store.ProgressIndex, url: str, name: str) -> int:
  """Returns the first page, from 1, of a file that has no row yet."""
  return next(page for page in itertools.count(1) if not done.page(url, name, page))


def undone(unit: Unit, done: parquet_store.ProgressIndex, column: str) -> Iterator[containers.Member]:
  """Yields the members of a part of a source that have pages without a row; `column` as in `containers.members`."""
  wanted = lambda name: not done.file(unit.source.url, name)
  return containers.members(unit.source, wanted=wanted, part=unit.part, parts=unit.parts, column=column)
