"""`ecgjax archive`: lists the files, reads pages without a row, writes rows; with Ray, or as one job of an array."""

import argparse
import collections
import os
import signal
import sys
import time
from collections.abc import Callable

from ecgjax.archive import estimate, listing, local_runner, parquet_store, ray_pipeline
from ecgjax.archive.partition import ReadSettings, Unit, parted
from ecgjax.ecg.errors import ECGError
from ecgjax.jobs import hardware, options, page_job, process_pool
from ecgjax.networks import shipped

REPORT_S = 10.0  # between two lines of progress


def shard(text: str) -> tuple[int, int]:
  """Returns (i, n) of 'i/n'.

  Raises:
    ECGError: if the text has another form, or i is not in 0 ... n - 1.
  """
  i, _, n = text.partition('/')
  if not (i.isdecimal() and n.isdecimal() and int(i) < int(n)):
    raise ECGError(f'--shard {text}: write i/n with i from 0 to n - 1, as 0/8')
  return int(i), int(n)


def run(args: argparse.Namespace) -> int:
  """Runs `ecgjax archive`; returns 0 if every page has its row, whatever its status."""
  options.check_how(args)
  if args.jobs is not None and args.jobs < 1:
    raise ECGError('--jobs must be 1 or more')
  i, n = shard(args.shard) if args.shard else (0, 1)
  if args.retry and n > 1:
    raise ECGError('--retry takes away rows of all parts: give it once without --shard, or with --shard 0/1, while nothing else runs')
  path = args.weights if args.weights in shipped.NAMES else os.path.abspath(args.weights)  # a worker of Ray may be elsewhere
  page_options = page_job.Options(
    fs=args.fs, speed_mm_s=args.speed, gain_mm_mv=args.gain, weights=path, engine=args.engine, precision=args.precision
  )
  settings = ReadSettings(page_options, args.timeout, args.column)
  with process_pool.Children(1) as children:  # before anything is listed: that may take long
    if wrong := page_job.checked(children, page_options):
      raise ECGError(wrong)
    weights = children.schedule(page_job.checksum, args=[page_options.weights]).result()
  found = list(listing.listed(args.inputs, exclude=args.output))
  if not found:
    raise ECGError(f'nothing to read in {", ".join(args.inputs)}: no pictures, tars or Parquet files')
  if args.estimate:
    return estimate.print_estimate(found, settings, jobs=args.jobs or hardware.readers(), price=args.price)
  facts = {'fs_hz': args.fs, 'speed_mm_s': args.speed, 'gain_mm_mv': args.gain, 'weights_sha256': weights}
  with parquet_store.Store(args.output, facts, owner=f'{i}-of-{n}') as store:
    if args.retry:
      print(f'{store.forget(args.retry)} pages that were {args.retry} are read again', file=sys.stderr)
    stop = lambda: signal.signal(signal.SIGTERM, signal.default_int_handler)  # a job that must go writes what it has read
    if args.shard:
      stop()
      units = [Unit(source, i, n) for source in found]
      _keep(lambda done: local_runner.read(units, done(), settings, jobs=args.jobs or hardware.readers()), store, found, parts=n)
    else:
      with ray_pipeline.connected():
        stop()  # Ray has put its own in place
        _keep(lambda done: ray_pipeline.read(parted(found), done, settings, jobs=args.jobs), store, found, parts=1)
  print(f'{_counted(store.counts)}: rows in {args.output}')
  return 0


def _keep(read: Callable, store: parquet_store.Store, found: list[listing.Origin], *, parts: int) -> None:
  """Stores the rows that `read(done)` yields, and prints the progress of its share of `parts` on stderr."""
  start, size, before = time.monotonic(), sum(source.size_bytes for source in found), 0

  def done() -> parquet_store.CompletedPages:
    nonlocal before
    store.flush()
    completed, before = store.done()
    return completed

  pages, read_bytes, reported, first = 0, 0, start, start
  try:
    for table in read(done):
      store.add(table)
      first = first if pages else time.monotonic()
      pages += len(table)
      read_bytes += sum(count or 0 for count, page in zip(table['bytes'].to_pylist(), table['page'].to_pylist(), strict=True) if page == 1)
      if (now := time.monotonic()) - reported > REPORT_S and read_bytes:
        reported, pace = now, (pages - 1) / max(now - first, 1e-6)
        share = min(1.0, read_bytes / max(1.0, (size - before) / parts))
        left = f'; {pace:.2f} pages/s, {(1 / share - 1) * pages / pace / 60:.0f} min left' if pages > 1 else ''
        print(f'{_counted(store.counts)}; {100 * share:.1f} % of what was to be read{left}', file=sys.stderr, flush=True)
  finally:
    print(f'{pages} pages read in {time.monotonic() - start:.0f} s', file=sys.stderr)


def _counted(counts: collections.Counter) -> str:
  return f'{sum(counts.values()):,} pages ({", ".join(f"{counts[s]:,} {s}" for s in ("ok", "review", "fail"))})'
