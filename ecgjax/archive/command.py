"""`ecgjax archive`: lists, reads what has no row yet, writes rows; with Ray, or alone as one of many like it."""

import argparse
import collections
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import pyarrow

from ecgjax import pool, worker
from ecgjax.archive import cluster, estimate, members, rows, sources, store, work
from ecgjax.archive.cluster import How, Unit

TOLD_S = 10.0  # between two lines that say how far it is
PARTS = 16  # that an archive has at least where its sources can be parted, so that a cluster opens them side by side


class Due(NamedTuple):
  """A page, from 0, of a file in memory; `pages` is 0 for the first of a file to be read, whose answer says how many there are."""

  url: str
  name: str
  data: bytes
  number: int
  pages: int


def shard(text: str) -> tuple[int, int]:
  """Returns (i, n) of 'i/n'.

  Raises:
    ValueError: if it is not such, or i is not in 0 ... n - 1.
  """
  i, _, n = text.partition('/')
  if not (i.isdecimal() and n.isdecimal() and int(i) < int(n)):
    raise ValueError(f'--shard {text}: write i/n with i from 0 to n - 1, as 0/8')
  return int(i), int(n)


def alone(units: list[Unit], done: store.Done, how: How, *, jobs: int) -> Iterator[pyarrow.Table]:
  """Reads the pages of an archive that have no row yet, in child processes of this one.

  Args:
    units: its parts.
    done: which pages have their rows.
    how: they are read.
    jobs: child processes.

  Yields:
    Rows of `rows.SCHEMA` as they are there.
  """
  files = ((unit.source.url, member) for unit in units for member in _members(unit, done, how.column))
  waiting: collections.deque[Due] = collections.deque()
  broken: list[Mapping] = []
  more = True

  def take() -> tuple[Due, list] | None:
    nonlocal more
    while not waiting:
      url, member = next(files, ('', None)) if len(broken) < store.ROWS else ('', None)
      if member is None:
        more = len(broken) >= store.ROWS
        return None
      if member.data is None:
        broken.append(rows.where(url, member.name, data=None) | rows.failed(member.reason))
        continue
      first = 0
      while done.page(url, member.name, first + 1):
        first += 1
      waiting.append(Due(url, member.name, member.data, first, 0))
    task = waiting.popleft()
    return task, [task.data, task.number, how.wanted]

  with pool.children(jobs) as children:
    try:
      while more:
        for task, result, lost, _ in pool.answers(children, work.page, take, jobs=jobs, limit_s=how.limit_s):
          pages = task.pages
          if not pages:
            pages = result[0] if result else max(task.number + 1, worker.counted(children, '', task.data, limit_s=how.limit_s))
            others = (n for n in range(task.number + 1, pages) if not done.page(task.url, task.name, n + 1))
            waiting.extend(task._replace(number=n, pages=pages) for n in others)
          row = rows.where(task.url, task.name, data=task.data, page=task.number + 1, pages=pages)
          yield rows.table([row | (result[1] if result else rows.failed(lost))])
        yield rows.table(broken)
        broken.clear()
    except BaseException:
      children.stop()
      raise


def _members(unit: Unit, done: store.Done, column: str) -> Iterator[members.Member]:
  url = unit.source.url
  wanted = lambda name: not done.file(url, name)
  return members.members(unit.source, wanted=wanted, part=unit.part, parts=unit.parts, column=column)


def parted(found: list[sources.Origin]) -> list[Unit]:
  """Returns the parts of an archive's sources that a cluster opens side by side: a few large tars are more than a few parts."""
  parts = max(1, math.ceil(PARTS / len(found)))
  return [Unit(source, i, n) for source in found for n in [1 if source.kind == 'picture' else parts] for i in range(n)]


def run(args: argparse.Namespace) -> int:
  """Does what `ecgjax archive` asks for; returns 0 if every page has its row, whatever it says."""
  if not (args.timeout > 0 and 50 <= args.fs <= 10_000 and (args.jobs is None or args.jobs >= 1)):
    raise ValueError('--jobs must be 1 or more, --timeout above 0, --fs 50 to 10000')
  i, n = shard(args.shard) if args.shard else (0, 1)
  if args.retry and n > 1:
    raise ValueError('--retry takes away rows of all parts: give it once without --shard, or with --shard 0/1, while nothing else runs')
  path = os.path.abspath(args.weights) if args.weights else None  # a worker of Ray may be elsewhere
  wanted = worker.Options(fs=args.fs, speed_mm_s=args.speed, gain_mm_mv=args.gain, weights=path, engine=args.engine)
  how = How(wanted, args.timeout, args.column)
  with pool.children(1) as children:  # before anything is listed: that may take long
    if wrong := worker.checked(children, wanted):
      raise ValueError(wrong)
    weights = children.schedule(worker.checksum, args=[wanted.weights]).result()
  found = list(sources.listed(args.inputs, but=args.output))
  if not found:
    raise ValueError(f'nothing to read in {", ".join(args.inputs)}: no pictures, tars or Parquet files')
  if args.estimate:
    return estimate.told(found, how, jobs=args.jobs or pool.cores(), price=args.price, alone=alone)
  facts = {'fs_hz': args.fs, 'speed_mm_s': args.speed, 'gain_mm_mv': args.gain, 'weights_sha256': weights}
  with store.Store(args.output, facts, owner=f'{i}-of-{n}') as kept:
    if args.retry:
      print(f'{kept.forget(args.retry)} pages that were {args.retry} are read again', file=sys.stderr)
    stop = lambda: signal.signal(signal.SIGTERM, signal.default_int_handler)  # a job that must go writes what it has read
    if args.shard:
      stop()
      units = [Unit(source, i, n) for source in found]
      _kept(lambda done: alone(units, done(), how, jobs=args.jobs or pool.cores()), kept, found, parts=n)
    else:
      with cluster.connected():
        stop()  # Ray has put its own in place
        _kept(lambda done: cluster.read(parted(found), done, how, jobs=args.jobs), kept, found, parts=1)
  print(f'{_counted(kept.counts)}: rows in {args.output}')
  return 0


def _kept(read: Callable, kept: store.Store, found: list[sources.Origin], *, parts: int) -> None:
  """Keeps the rows that `read(done)` yields, and says on stderr how far it is with its share of `parts`."""
  start, size, before = time.monotonic(), sum(source.size_bytes for source in found), 0

  def done() -> store.Done:
    nonlocal before
    kept.flush()
    there, before = kept.done()
    return there

  pages, seen, told, first = 0, 0, start, start
  try:
    for table in read(done):
      kept.add(table)
      first = first if pages else time.monotonic()
      pages += len(table)
      seen += sum(count or 0 for count, page in zip(table['bytes'].to_pylist(), table['page'].to_pylist(), strict=True) if page == 1)
      if (now := time.monotonic()) - told > TOLD_S and seen:
        told, pace = now, (pages - 1) / max(now - first, 1e-6)
        share = min(1.0, seen / max(1.0, (size - before) / parts))
        left = f'; {pace:.2f} pages/s, {(1 / share - 1) * pages / pace / 60:.0f} min left' if pages > 1 else ''
        print(f'{_counted(kept.counts)}; {100 * share:.1f} % of what was to be read{left}', file=sys.stderr, flush=True)
  finally:
    print(f'{pages} pages read in {time.monotonic() - start:.0f} s', file=sys.stderr)


def _counted(counts: collections.Counter) -> str:
  return f'{sum(counts.values()):,} pages ({", ".join(f"{counts[s]:,} {s}" for s in ("ok", "review", "fail"))})'
