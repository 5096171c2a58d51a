"""The work of a child process on one page: decode, read, write. It always returns an `Outcome`, also on failure."""

import functools
import hashlib
import importlib.util
import os
import pathlib
import tempfile
import time
from concurrent.futures import BrokenExecutor
from typing import NamedTuple

from ecgjax.ecg.errors import ECGError, Unreadable
from ecgjax.io import record_name
from ecgjax.io.formats import FORMATS
from ecgjax.networks import shipped


class Options(NamedTuple):
  """Options of reading and of the files written; see `ecgjax digitize --help`."""

  formats: tuple[str, ...] = ('csv',)
  overlay: bool = False
  masks: bool = False
  fs: float = 500.0
  layout: str = 'auto'
  speed_mm_s: float = 25.0
  gain_mm_mv: float | None = None
  corners: tuple[float, ...] | None = None
  skip_existing: bool = False
  overwrite: bool = False
  strict: bool = False
  weights: str = shipped.DEFAULT
  engine: str = 'auto'
  precision: str = 'auto'
  registration: str = ''


class Outcome(NamedTuple):
  """Result of one page.

  Attributes:
    file: as it was given.
    page: its number in the file, from 1.
    pages: number of pages of the file, as far as known.
    status: ok, review, fail or skipped.
    reasons: for a status other than ok.
    quality: lead name -> 0..1.
    written: paths of its files.
    seconds: time for reading.
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


def reason(error: Exception) -> str:
  """Returns the reason why a page could not be read, as a sentence for users."""
  return str(error) if isinstance(error, ECGError | OSError) and str(error) else f'{type(error).__name__}: {error}'


def check(options: Options) -> str:
  """Returns the error of the options for all pages, or ''; runs in a child, because it needs the same libraries and memory as a page."""
  try:
    from ecgjax.geometry import layouts

    read = reader(options).layout.name
    if options.layout not in ('auto', read):
      return f'--layout {options.layout}: these weights read {read}; give --weights of others, trained for it'
    gain_mm_mv = layouts.paper.GAIN_MM_MV if options.gain_mm_mv is None else options.gain_mm_mv
    layouts.make(read, speed_mm_s=options.speed_mm_s, gain_mm_mv=gain_mm_mv)
  except (ECGError, OSError, ImportError) as error:  # the last of a library that is there and cannot be loaded
    return str(error)
  for name in options.formats:
    if FORMATS[name].library and importlib.util.find_spec(FORMATS[name].library) is None:
      return f"--format {name} needs {FORMATS[name].library}: pip install 'ecgjax[files]'"
    if reason := FORMATS[name].refuses(options.fs):
      return f'--fs {options.fs:g}: {reason}'
  return ''


def count(path: str, data: bytes | None) -> int:
  """Returns the number of pages of a file, 1 if it cannot be opened."""
  from ecgjax.io import images

  try:
    return images.open_bytes(pathlib.Path(path).read_bytes() if data is None else data).pages
  except (Unreadable, OSError):
    return 1


def checked(children, options: Options) -> str:
  """Returns the error of the options for all pages, or '', from `check` in a child.

  Raises:
    BrokenExecutor: if no child could check them: lack of memory, or a system that starts no further process.
  """
  try:
    return children.schedule(check, args=[options]).result()
  except Exception as error:
    raise BrokenExecutor(f'the options could not be looked at ({type(error).__name__}: {error})') from error


def counted(children, path: str, data: bytes | None, *, limit_s: float) -> int:
  """Returns the number of pages of a file, counted by a child, 1 if that fails.

  Raises:
    BrokenExecutor: if no child could be started; a count of 1 would then hide further pages.
  """
  try:
    return children.schedule(count, args=[path, data], timeout=limit_s).result()
  except BrokenExecutor:
    raise
  except Exception:  # nor can it be counted: what is known of it is that it failed
    return 1


def page(path: str, stem: str, number: int, options: Options, data: bytes | None) -> Outcome:
  """Reads one page of a file and writes its signals.

  Args:
    path: of the file, for messages where `data` is given.
    stem: path of the output files without suffix; a file of several pages adds -p001, -p002 ...
    number: of the page, from 0.
    options: the options.
    data: the file's bytes; None reads them from `path`.

  Returns:
    The result; no exception is raised.
  """
  start, pages = time.perf_counter(), 1
  try:
    from ecgjax.io import images

    data = pathlib.Path(path).read_bytes() if data is None else data
    source = images.open_bytes(data)
    pages = source.pages
    target = f'{stem}-p{number + 1:03d}' if pages > 1 else stem
    outputs = paths(target, options)
    existing = [p for p in outputs.values() if p.exists()]
    if any(os.path.exists(path) and p.samefile(path) for p in existing):
      raise ECGError(f'{path} itself would be replaced; choose another --out')
    if options.skip_existing and outputs['json'] in existing:
      return Outcome(path, number + 1, pages, 'skipped', (f'{outputs["json"]} is there',), {}, (), 0.0)
    if existing and not options.overwrite:
      raise ECGError(f'{existing[0]} is there; --overwrite replaces it, --skip-existing passes over it')
    return _read(source.read(number), path, data, number, pages, outputs, options, start)
  except Exception as error:  # a page must not end the batch
    return failed(path, number, reason(error), seconds=time.perf_counter() - start, pages=pages)


def record(stem: pathlib.Path) -> pathlib.Path:
  """Returns the path, without suffix, of a stem's WFDB record, whose name permits fewer characters than a file system."""
  return stem.with_name(record_name(stem.name))


def paths(target: str, options: Options) -> dict[str, pathlib.Path]:
  """Returns the output files of a page: format -> path, with 'json' and, if requested, 'overlay' and 'mask'."""
  made = {name: pathlib.Path(target + FORMATS[name].suffix) for name in options.formats}
  if 'wfdb' in made:
    made |= {'wfdb': record(pathlib.Path(target)).with_suffix('.hea'), 'wfdb samples': record(pathlib.Path(target)).with_suffix('.dat')}
  made |= {'overlay': pathlib.Path(target + '.overlay.jpg')} if options.overlay else {}
  made |= {'mask': pathlib.Path(target + '.mask.png')} if options.masks else {}
  return made | {'json': pathlib.Path(target + '.json')}  # last: where it is, all is


def reader(options: Options):
  """Returns the `digitizer.Reader` of the options; loaded once."""
  from ecgjax.extract import digitizer

  return digitizer.cached(options.weights, engine=options.engine, precision=options.precision, registration=options.registration)


@functools.cache
def checksum(weights: str) -> str:
  """Returns the sha256 of weights, a name or a path; computed once."""
  from ecgjax.networks import weight_files

  return weight_files.sha256(shipped.located(weights))


def made_by(options: Options) -> dict[str, str]:
  """Returns versions, weights and engine for the results of a page."""
  from ecgjax import __version__

  used = reader(options)
  return {
    'ecgjax': __version__, 'weights': shipped.label(options.weights), 'weights_sha256': checksum(options.weights),
    'engine': used.engine, 'precision': used.precision, **({'registration': options.registration} if options.registration else {}),
  }  # fmt: skip


def _read(image, path, data, number, pages, outputs, options: Options, start: float) -> Outcome:
  import numpy as np
  from PIL import Image

  from ecgjax.extract import digitizer, pixel_classes, recording

  corners = None if options.corners is None else np.reshape(options.corners, (4, 2))
  found = digitizer.digitize(
    image, reader=reader(options), fs=options.fs, corners=corners, speed_mm_s=options.speed_mm_s, gain_mm_mv=options.gain_mm_mv,
    masked=options.masks,
  )
  quality = {lead: round(value, 3) for lead, value in found.quality.items()}
  if options.strict and found.status != 'ok':
    reasons = ('not written (--strict)', *found.warnings)
    return Outcome(path, number + 1, pages, 'fail', reasons, quality, (), round(time.perf_counter() - start, 3))
  source = {'file': os.path.basename(path), 'sha256': hashlib.sha256(data).hexdigest(), 'page': number + 1, 'pages': pages}
  with tempfile.TemporaryDirectory(dir=outputs['json'].parent, prefix='.') as part:  # all of it is made before any is put in place
    beside = {name: pathlib.Path(part) / final.name for name, final in outputs.items()}
    for name in options.formats:
      found.save(beside[name], format=name)
    if options.overlay:
      Image.fromarray(found.overlay(image)).save(beside['overlay'], quality=88)
    if found.mask is not None:
      beside['mask'].write_bytes(pixel_classes.png(found.mask))
    recording.write_json(beside['json'], {'source': source, **found.facts(), 'made_by': made_by(options)})
    outputs['json'].unlink(missing_ok=True)  # it says that what lies beside it is whole
    for name, final in outputs.items():
      os.replace(beside[name], final)
  seconds = round(time.perf_counter() - start, 3)
  return Outcome(path, number + 1, pages, found.status, found.warnings, quality, tuple(str(p) for p in outputs.values()), seconds)
