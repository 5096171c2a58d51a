"""Reading of an archive by Ray Data: tasks open files and decode pages, actors read them (`ray_tasks`), one per device or core.

Ray distributes the work, limits the pages in memory, and restarts the tasks of a lost machine.
"""

import collections
import contextlib
import logging
import math
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor
from typing import Any

import pyarrow

from ecgjax.archive import parquet_store, ray_tasks, schema
from ecgjax.archive.partition import ReadSettings, Unit, first_undone
from ecgjax.ecg.errors import ECGError, MissingLibrary
from ecgjax.jobs import hardware

MOST = (64, 8, 1)  # parts of sources that a task opens at most, and again of what was lost: what kills Ray's processes is alone at last
RETRIES = 3  # by Ray itself each time; without end if it is not told
BLOCK_BYTES = 8 << 20  # Ray hands on so much at a time: about one picture
READER_CPUS, OPENER_CPUS = 0.75, 0.25  # of Ray's reckoning: a core is shared by one reader and what feeds it
READER_BYTES = 5 << 29  # of memory
OPENERS = 8  # readers on a core for each task that opens files: a page takes 20 times as long to read
LOST = '(lost)'  # member that stands for those that may not have a row
COUNTED = ('unit', 'status', 'member', 'page', 'pages', 'reasons')


@contextlib.contextmanager
def connected() -> Iterator[None]:
  """Connects to the cluster that RAY_ADDRESS or a running Ray names, or starts Ray on this machine alone, until the context is left.

  Raises:
    MissingLibrary: if Ray is not installed.
  """
  os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')  # or it tells its maker
  os.environ.setdefault('RAY_BACKEND_LOG_LEVEL', 'fatal')  # what befalls pages is in their rows, what befalls Ray in its own logs
  try:
    import ray
    import ray.data
  except ImportError as error:
    raise MissingLibrary("archive needs ray: pip install 'ecgjax[scale]', or give --shard 0/1, which does without") from error
  ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
  logging.getLogger('ray.data').setLevel('ERROR')
  try:
    yield
  finally:
    ray.shutdown()


def readers(resources: Mapping[str, float], jobs: int | None) -> tuple[int, dict[str, Any]]:
  """Returns the number of readers and the resources of each: a device, or a core on a cluster without devices.

  Args:
    resources: of the cluster, as Ray names them: CPU, memory (bytes), GPU, TPU.
    jobs: number of readers, if given by the user; several share a GPU, a TPU chip has one.
  """
  device = next((kind for kind in hardware.PLUGINS if resources.get(kind) and hardware.usable(kind)), '')
  fit = max(1, int(resources.get('memory', 0) // READER_BYTES))  # not asked of Ray: it waits for ever where no machine has so much
  able = int(resources[device] if device else resources.get('CPU', 1))
  count = min(jobs or fit, able) if device == 'TPU' else jobs or min(fit, able)
  # the same number for each GPU; otherwise Ray would place more readers on one than on another
  takes = {'GPU': {'num_gpus': 1 / math.ceil(count / able)}, 'TPU': {'resources': {'TPU': 1}}}.get(device, {})
  return count, {'num_cpus': READER_CPUS * min(1.0, resources.get('CPU', 1) / count), **takes}


def read(
  units: list[Unit], done: Callable[[], parquet_store.CompletedPages], settings: ReadSettings, *, jobs: int | None
) -> Iterator[pyarrow.Table]:
  """Reads the pages of an archive that have no row yet.

  Args:
    units: its parts.
    done: returns the index of pages with a row; called again before lost pages are retried.
    settings: options of reading.
    jobs: number of readers; None for one per device, or per core without devices.

  Yields:
    Rows of `schema.SCHEMA` when they are finished, in no fixed order. Pages lost by Ray in all attempts have a row with the reason.

  Raises:
    BrokenExecutor: if no child process could be started for a page in all attempts.
    ECGError: if Ray's workers lack ecgjax[scale].
  """
  left, ended = dict(enumerate(units)), 0
  for most in MOST:
    received, ends, whole, broken = collections.defaultdict(set), {}, set(), {}
    for block in _blocks(left, done(), settings, jobs, most):
      new = []  # a task that Ray began anew may hand on a page twice
      for unit, status, name, page, pages, reasons in zip(*(block[c].to_pylist() for c in COUNTED), strict=True):
        new.append(unit not in whole and status not in (ray_tasks.END, ray_tasks.BROKEN) and (name, page) not in received[unit])
        if unit in whole:
          continue  # or `received` would fill again
        if status == ray_tasks.BROKEN:
          broken[unit] = reasons[0]
        elif status == ray_tasks.END:
          ends[unit] = pages
        else:
          received[unit].add((name, page))
        if ends.get(unit) == len(received[unit]):
          whole.add(unit)
          del received[unit]  # or memory would grow with the archive
      if any(new):
        yield block.filter(pyarrow.array(new)).select(schema.SCHEMA.names)
    ended += len(ends)
    left = {n: unit for n, unit in left.items() if n not in whole}
    if not left:
      return
  if why := next((broken[unit] for unit in left if unit in broken), ''):
    raise BrokenExecutor(why)
  if not ended:
    _able()
  already, reason = done(), f'it, or a part of it, was lost with a process of Ray, {len(MOST)} times'
  for source in sorted({unit.source for unit in left.values()}):
    name = LOST if source.kind != 'picture' and already.page(source.url, '', 1) else ''
    if not already.file(source.url, name):
      page = first_undone(already, source.url, name)
      yield schema.table([schema.where(source.url, name, data=None, page=page) | schema.failed(reason)])


def _able() -> None:
  """Checks that Ray's workers can run the tasks; a failure is then not the fault of a page.

  Raises:
    ECGError: if the workers lack ecgjax[scale].
  """
  import ray
  from ray.exceptions import RayError

  try:
    ray.get(ray.remote(num_cpus=OPENER_CPUS)(ray_tasks.ready).remote())
  except RayError as error:
    raise ECGError("Ray's workers opened nothing: is ecgjax[scale] installed where they run? Ray's own logs say more") from error


def _blocks(
  units: dict[int, Unit], done: parquet_store.CompletedPages, settings: ReadSettings, jobs: int | None, most: int
) -> Iterator[pyarrow.Table]:
  import ray.data

  context = ray.data.DataContext.get_current()
  context.enable_progress_bars = False
  context.target_max_block_size, context.max_errored_blocks = BLOCK_BYTES, -1  # what is lost is missed by `read`, and tried again
  resources = ray.cluster_resources()
  count, takes = readers(resources, jobs)
  on_devices = takes.keys() & {'num_gpus', 'resources'}
  openers = int(resources.get('CPU', 1)) if on_devices else math.ceil(count / OPENERS)
  size = max(1, min(most, len(units) // (16 * openers)))
  numbers = list(units)
  rows = [ray_tasks.listed(n, units[n]) for n in numbers]
  blocks = [pyarrow.Table.from_pylist(rows[at : at + size]) for at in range(0, len(rows), size)]
  opened: Any = ray_tasks.opened  # Ray's own types know tables of one kind alone
  pages = (
    ray.data.from_arrow(blocks)
    .map_batches(opened, batch_size=None, batch_format='pyarrow', fn_kwargs={'done': done, 'settings': settings},
                 num_cpus=OPENER_CPUS, max_retries=RETRIES, compute=ray.data.TaskPoolStrategy(size=openers))
    .map_batches(ray_tasks.PageReader, batch_size=1, batch_format='pyarrow', **takes, max_task_retries=RETRIES,
                 compute=ray.data.ActorPoolStrategy(min_size=1, max_size=count),
                 fn_constructor_kwargs={'settings': settings, 'place': uuid.uuid4().hex, 'share': count / resources.get('CPU', 1)})
  )  # fmt: skip
  yield from pages.iter_batches(batch_size=None, batch_format='pyarrow', prefetch_batches=0)
