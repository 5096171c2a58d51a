"""What a child process does with one page: decode, read, write. It returns a `Outcome`, whatever befalls it."""

import functools
import hashlib
import importlib.util
import os
import pathlib
import platform
import tempfile
import time
from typing import NamedTuple

from ecgjax.io import record_name

MEMORY_BYTES = 8 << 30  # of a child; a page needs 2 GiB


class Options(NamedTuple):
  """How pages are read and what is written; see `ecgjax digitize --help`."""

  formats: tuple[str, ...] = ('csv',)
  overlay: bool = False
  fs: float = 500.0
  layout: str = 'auto'
  speed_mm_s: float = 25.0
  gain_mm_mv: float | None = None
  corners: tuple[float, ...] | None = None
  skip_existing: bool = False
  overwrite: bool = False
  strict: bool = False
  weights: str | None = None
  engine: str = 'auto'


class Outcome(NamedTuple):
  """What became of one page.

  Attributes:
    file: as it was given.
    page: its number in the file, from 1.
    pages: of the file, as far as is known.
    status: ok, review, fail or skipped.
    reasons: why it is not ok.
    quality: lead name -> 0..1.
    written: paths.
    seconds: that it took.
  """

  file: str
  page: int
  pages: int
  status: str
  reasons: tuple[str, ...]
  quality: dict[str, float]
  written: tuple[str, ...]
  seconds: float


def failed(file: str, number: int, reason: str, *, seconds: float, pages: int = 1) -> Outcome:
  """Returns the Outcome of a page, `number` from 0, that could not be read."""
  return Outcome(file, number + 1, pages, 'fail', (reason,), {}, (), round(seconds, 3))


def check(wanted: Options) -> str:
  """Returns what is wrong with the options for every page, '' if nothing is; in a child, because it needs what a page needs."""
  try:
    from ecgjax import layout, reading

    read = reading.cached(wanted.weights or reading.WEIGHTS, engine=wanted.engine).page.name
    if wanted.layout not in ('auto', read):
      return f'--layout {wanted.layout}: these weights read {read}; give --weights of others, trained for it'
    gain_mm_mv = layout.paper.GAIN_MM_MV if wanted.gain_mm_mv is None else wanted.gain_mm_mv
    layout.make(read, speed_mm_s=wanted.speed_mm_s, gain_mm_mv=gain_mm_mv)
  except (ValueError, OSError, ImportError) as error:
    return str(error)
  needs = {'wfdb': 'wfdb', 'edf': 'edfio', 'parquet': 'pyarrow', 'dicom': 'pydicom'}
  missing = [name for name in wanted.formats if name in needs and importlib.util.find_spec(needs[name]) is None]
  if missing:
    return f"--format {missing[0]} needs {needs[missing[0]]}: pip install 'ecgjax[files]'"
  if 'edf' in wanted.formats and wanted.fs != round(wanted.fs):
    return f'--fs {wanted.fs:g}: EDF holds whole seconds, so its rate must be a whole number'
  if 'dicom' in wanted.formats and not 200 <= wanted.fs <= 1000:
    return f'--fs {wanted.fs:g}: a DICOM ECG has 200 to 1000 samples a second'
  return ''


def programs_folder() -> pathlib.Path:
  """Returns where compiled programs are kept from one run to the next: below XDG_CACHE_HOME, one folder for each kind of CPU."""
  home = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache')
  try:
    flags = next(line for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines() if line.startswith(('flags', 'Features')))
  except (OSError, StopIteration):
    flags = platform.processor()
  return home / 'ecgjax' / hashlib.sha256(f'{platform.machine()} {flags}'.encode()).hexdigest()[:12]


def children(jobs: int):
  """Returns a pebble.ProcessPool of so many child processes, each with its share of the machine (see `prepare`)."""
  import multiprocessing

  import pebble

  # glibc looks at it when a child starts: with huge pages for its many large arrays a page of ECG takes a fifth less time
  os.environ.setdefault('GLIBC_TUNABLES', 'glibc.malloc.hugetlb=1')
  context = multiprocessing.get_context('spawn')
  return pebble.ProcessPool(max_workers=jobs, context=context, initializer=prepare, initargs=[context.Array('i', jobs)])


def keep_programs() -> None:
  """Has JAX keep what it compiles in `programs_folder`; to be called before JAX is imported."""
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(programs_folder()))
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')


def prepare(slots) -> None:
  """Gives a child process its share of cores and memory and the programs of earlier runs, before anything heavy is imported.

  Args:
    slots: shared array of the process ids of all children, 0 where there is none yet.
  """
  import resource

  keep_programs()
  jobs = len(slots)
  with slots.get_lock():  # the place of one that died, or a new one
    mine = next((i for i, pid in enumerate(slots) if not pid or not os.path.exists(f'/proc/{pid}')), 0)
    slots[mine] = os.getpid()
  if hasattr(os, 'sched_setaffinity') and jobs > 1:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core for i, core in enumerate(cores) if i % jobs == mine} or {cores[mine % len(cores)]})
  hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
  resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard), hard))


def count(path: str, data: bytes | None) -> int:
  """Returns how many pages a file has, 1 if it cannot be opened."""
  from ecgjax.io import pictures

  try:
    return pictures.open_bytes(pathlib.Path(path).read_bytes() if data is None else data).pages
  except (pictures.Unreadable, OSError):
    return 1


def page(path: str, stem: str, number: int, wanted: Options, data: bytes | None) -> Outcome:
  """Reads one page of a file and writes its signals.

  Args:
    path: of the file, for messages where `data` is given.
    stem: path, without suffix, of what is written; a file of several pages adds -p001, -p002 ...
    number: of the page, from 0.
    wanted: how.
    data: the file's bytes; read from `path` where it is None.

  Returns:
    What became of it; nothing is raised.
  """
  start, pages = time.perf_counter(), 1
  try:
    from ecgjax.io import pictures

    data = pathlib.Path(path).read_bytes() if data is None else data
    source = pictures.open_bytes(data)
    pages = source.pages
    target = f'{stem}-p{number + 1:03d}' if pages > 1 else stem
    outputs = paths(target, wanted)
    there = [p for p in outputs.values() if p.exists()]
    if any(os.path.exists(path) and p.samefile(path) for p in there):
      raise ValueError(f'{path} itself would be replaced; choose another --out')
    if wanted.skip_existing and outputs['json'] in there:
      return Outcome(path, number + 1, pages, 'skipped', (f'{outputs["json"]} is there',), {}, (), 0.0)
    if there and not wanted.overwrite:
      raise ValueError(f'{there[0]} is there; --overwrite replaces it, --skip-existing passes over it')
    return _read(source.read(number), path, data, number, pages, outputs, wanted, start)
  except Exception as error:  # a page must not end the batch
    told = str(error) if isinstance(error, ValueError | OSError) and str(error) else f'{type(error).__name__}: {error}'
    return failed(path, number, told, seconds=time.perf_counter() - start, pages=pages)


def record(stem: pathlib.Path) -> pathlib.Path:
  """Returns the path, without suffix, of the WFDB record of a stem: WFDB allows fewer characters in a name than a file system."""
  return stem.with_name(record_name(stem.name))


def paths(target: str, wanted: Options) -> dict[str, pathlib.Path]:
  """Returns what is written for a page: format -> path, 'json' and, if wanted, 'overlay' among them."""
  from ecgjax.recording import FORMATS

  made = {name: pathlib.Path(target + FORMATS[name][0]) for name in wanted.formats}
  if 'wfdb' in made:
    made |= {'wfdb': record(pathlib.Path(target)).with_suffix('.hea'), 'wfdb samples': record(pathlib.Path(target)).with_suffix('.dat')}
  made |= {'overlay': pathlib.Path(target + '.overlay.jpg')} if wanted.overlay else {}
  return made | {'json': pathlib.Path(target + '.json')}  # last: where it is, all is


@functools.cache
def _checksum(weights) -> str:
  """Of the file that `reading.cached` loaded, once as that does."""
  from ecgjax import checkpoint

  return checkpoint.sha256(weights)


def _read(image, path, data, number, pages, outputs, wanted: Options, start: float) -> Outcome:
  import numpy as np
  from PIL import Image

  from ecgjax import __version__, reading, recording

  corners = None if wanted.corners is None else np.reshape(wanted.corners, (4, 2))
  weights = wanted.weights or reading.WEIGHTS
  reader = reading.cached(weights, engine=wanted.engine)
  found = reading.digitize(
    image, reader=reader, fs=wanted.fs, corners=corners, speed_mm_s=wanted.speed_mm_s, gain_mm_mv=wanted.gain_mm_mv
  )
  quality = {lead: round(value, 3) for lead, value in found.quality.items()}
  if wanted.strict and found.status != 'ok':
    reasons = ('not written (--strict)', *found.warnings)
    return Outcome(path, number + 1, pages, 'fail', reasons, quality, (), round(time.perf_counter() - start, 3))
  source = {'file': os.path.basename(path), 'sha256': hashlib.sha256(data).hexdigest(), 'page': number + 1, 'pages': pages}
  made = {'ecgjax': __version__, 'weights_sha256': _checksum(weights), 'engine': reader.engine}
  with tempfile.TemporaryDirectory(dir=outputs['json'].parent, prefix='.') as part:  # all of it is made before any is put in place
    beside = {name: pathlib.Path(part) / final.name for name, final in outputs.items()}
    for name in wanted.formats:
      found.save(beside[name], format=name)
    if wanted.overlay:
      Image.fromarray(found.overlay(image)).save(beside['overlay'], quality=88)
    recording.write_json(beside['json'], {'source': source, **found.facts(), 'made_by': made})
    outputs['json'].unlink(missing_ok=True)  # it says that what lies beside it is whole
    for name, final in outputs.items():
      os.replace(beside[name], final)
  seconds = round(time.perf_counter() - start, 3)
  return Outcome(path, number + 1, pages, found.status, found.warnings, quality, tuple(str(p) for p in outputs.values()), seconds)
