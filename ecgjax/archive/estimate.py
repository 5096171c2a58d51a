"""Estimate of the time, size and cost of reading an archive, from a sample of its pages."""

import math

import numpy as np
import pyarrow

from ecgjax.archive import containers, listing, local_runner, schema
from ecgjax.archive.partition import ReadSettings, Unit
from ecgjax.ecg.errors import ECGError
from ecgjax.jobs import hardware

SAMPLE = 100  # files
CONTAINERS = 20  # tars and Parquet files that are looked into


class Chosen:
  """A `parquet_store.ProgressIndex` in which all files outside the sample are done."""

  def __init__(self, files: set[tuple[str, str]]):
    self.files = files

  def file(self, source: str, member: str) -> bool:
    return (source, member) not in self.files

  def page(self, source: str, member: str, page: int) -> bool:
    return self.file(source, member)


def spread(count: int, *, most: int) -> list[int]:
  """Returns at most `most` numbers below `count`, evenly spread."""
  return sorted({int(at) for at in np.linspace(0, count - 1, min(count, most)).round()}) if count else []


def chosen(found: list[listing.Origin], *, column: str) -> tuple[list[tuple[listing.Origin, str]], int]:
  """Chooses a sample.

  Args:
    found: the archive.
    column: of bytes in Parquet files.

  Returns:
    SAMPLE files or fewer, as source and member, spread over the archive, and the number of files: exact for at most CONTAINERS tars and
    Parquet files, else extrapolated by bytes from those that were opened.
  """
  single = [(source, '') for source in found if source.kind == 'picture']
  held = [source for source in found if source.kind != 'picture']
  opened = [held[i] for i in spread(len(held), most=CONTAINERS)]
  inside = [(source, name) for source in opened for name in containers.names(source, column=column)]
  weight = lambda many: sum(s.size_bytes for s in many) or len(many)  # not every store tells sizes
  inner = math.ceil(len(inside) * weight(held) / max(1, weight(opened)))
  total = len(single) + inner
  singles = round(SAMPLE * len(single) / max(1, total))
  return [many[i] for many, most in ((single, singles), (inside, SAMPLE - singles)) for i in spread(len(many), most=most)], total


def print_estimate(found: list[listing.Origin], settings: ReadSettings, *, jobs: int, price: float | None) -> int:
  """Reads a sample and prints time, size and cost of the whole archive; writes no rows.

  Args:
    found: the archive.
    settings: options of reading.
    jobs: processes that read the sample.
    price: of a core-hour.

  Returns:
    0, or 3 if no page of the sample could be read.
  """
  sample, files = chosen(found, column=settings.column)
  if not sample:
    raise ECGError('no picture was found in the tars and Parquet files that were looked into')
  units = [Unit(source, 0, 1) for source in dict.fromkeys(source for source, _ in sample)]
  read = pyarrow.concat_tables(local_runner.read(units, Chosen({(source.url, name) for source, name in sample}), settings, jobs=jobs))
  pages = files * len(read) / len(sample)
  status = {name: read['status'].to_pylist().count(name) for name in ('ok', 'review', 'fail')}
  print(f'{files:,} files, about {pages:,.0f} pages; read for this: {len(read)} pages of {len(sample)} files, {status}')
  seconds = np.array([s or 0.0 for s in read['read_s'].to_pylist()])
  seconds = seconds[2 * jobs :] if len(seconds) > 4 * jobs else seconds  # a process compiles at its first pages
  each = seconds * max(1.0, hardware.cores() / jobs)
  core_s, off_s = float(each.mean()), 2 * float(each.std()) / math.sqrt(len(each))
  hours, size = pages * core_s / 3600, len(schema.packed(read)) / len(read)
  here = f'{hours / hardware.cores():,.1f} h on {hardware.cores()} cores as these'
  print(f'time: {core_s:.2f} +- {off_s:.2f} core-seconds a page, {hours:,.1f} core-hours, {here}')
  print(f'rows: {size / 1000:.1f} kB a page, {pages * size / 1e9:,.2f} GB')
  if price is not None:
    print(f'cost: {hours * price:,.2f} at {price:g} a core-hour')
  return 3 if status['fail'] == len(read) else 0
