"""`ecgjax digitize`: files to signals, page by page, in child processes, so that no page can hang, exhaust or crash the batch."""

import argparse
import collections
import functools
import json
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

from ecgjax.ecg.errors import ECGError
from ecgjax.io.formats import FORMATS
from ecgjax.io.suffixes import SUFFIXES, is_page
from ecgjax.jobs import page_job, process_pool
from ecgjax.jobs.options import check_how


class File(NamedTuple):
  """A file to be read and the path, without suffix, of its output files."""

  path: str
  stem: pathlib.Path


def listed(inputs: list[str], out: pathlib.Path, *, recursive: bool) -> list[File]:
  """Lists the files to be read and gives each a unique output name.

  Args:
    inputs: files, folders, or '-' for stdin.
    out: output folder; subfolders of an input folder are kept below it.
    recursive: whether subfolders are searched.

  Returns:
    The files. If two differ by their suffix alone, the suffix is part of the output name.

  Raises:
    ECGError: if an input does not exist, or there is no picture.
  """
  found: list[tuple[str, pathlib.Path]] = []
  for text in inputs:
    path = pathlib.Path(text)
    if text == '-':
      found.append(('-', pathlib.Path('stdin')))
    elif path.is_dir():
      inside = sorted(path.rglob('*') if recursive else path.iterdir())
      found += [(str(p), p.relative_to(path)) for p in inside if is_page(p.name) and p.name[0] != '.' and p.is_file()]
    elif path.exists():
      found.append((text, pathlib.Path(path.name)))
    else:
      raise ECGError(f'{text} does not exist')
  if not found:
    raise ECGError(f'no pictures in {", ".join(inputs)} (suffixes {", ".join(sorted(SUFFIXES))}{"" if recursive else "; --recursive?"})')
  bare = collections.Counter(name.with_suffix('') for _, name in found)
  files = [File(path, out / (name.with_suffix('') if bare[name.with_suffix('')] == 1 else name)) for path, name in found]
  twice = [str(stem) for stem, n in collections.Counter(file.stem for file in files).items() if n > 1]
  stems = {str(file.stem) for file in files}
  twice += [stem for stem in stems if re.sub(r'-p\d{3,}$', '', stem) in stems - {stem}]  # as a page of the other would be
  if twice:
    raise ECGError(f'two inputs would both be written as {twice[0]}; give them other names, or read them with two commands')
  return files


def options(args: argparse.Namespace) -> page_job.Options:
  """Returns the options of reading from the command line.

  Raises:
    ECGError: for an invalid value.
  """
  formats = tuple(args.format.split(','))
  if unknown := [name for name in formats if name not in FORMATS]:
    raise ECGError(f'--format {unknown[0]} is not one of {", ".join(FORMATS)}')
  if not 1 <= args.jobs <= 256:
    raise ECGError('--jobs must be 1 to 256')
  check_how(args)
  corners = None
  if args.corners:
    try:
      corners = tuple(float(x) for x in args.corners.split(','))
    except ValueError:
      corners = ()
    if len(corners) != 8:
      raise ECGError(f'--corners={args.corners}: four points are needed, X,Y,X,Y,X,Y,X,Y')
  return page_job.Options(
    formats, args.overlay, args.masks, args.fs, args.layout, args.speed, args.gain, corners, args.skip_existing, args.overwrite,
    args.strict, args.weights, args.engine, args.precision, args.registration,
  )  # fmt: skip


def results(files: list[File], options: page_job.Options, *, jobs: int, limit_s: float) -> Iterator[tuple[page_job.Outcome, int]]:
  """Reads all pages of all files.

  Args:
    files: to be read.
    options: options of reading.
    jobs: number of child processes.
    limit_s: time limit of one page; its process is then killed and replaced.

  Yields:
    Each page's result when it is finished, and the number of further pages found in its file.

  Raises:
    ECGError: if no page can be read with these options (see `page_job.check`).
  """
  stdin = functools.cache(lambda: sys.stdin.buffer.read())  # once, for all of its pages
  given = lambda file: stdin() if file.path == '-' else None
  tasks = collections.deque((file, 0) for file in files)

  def take():
    if tasks:
      file, number = tasks.popleft()
      return (file, number), [file.path, str(file.stem), number, options, given(file)]

  with process_pool.Children(jobs) as children:
    if wrong := page_job.checked(children, options):
      raise ECGError(wrong)
    for (file, number), result, lost, seconds in process_pool.answers(children, page_job.page, take, limit_s=limit_s):
      if lost:  # a first page that could not even say how many there are has them counted
        pages = page_job.counted(children, file.path, given(file), limit_s=limit_s) if number == 0 else 1
        result = page_job.failed(file.path, number, lost, seconds=seconds, pages=pages)
      more = result.pages - 1 if number == 0 else 0
      tasks.extendleft((file, n) for n in range(more, 0, -1))
      yield result, more


def run(args: argparse.Namespace) -> int:
  """Runs `ecgjax digitize`; returns the exit code."""
  chosen = options(args)
  files = listed(args.inputs, pathlib.Path(args.out), recursive=args.recursive)
  records = collections.Counter(page_job.record(file.stem) for file in files) if 'wfdb' in chosen.formats else {}
  if alike := [str(record) for record, n in records.items() if n > 1]:
    raise ECGError(f'two inputs would both be the WFDB record {alike[0]}, whose name may hold letters, digits, - and _; rename one')
  if chosen.corners and len(files) > 1:
    raise ECGError('--corners belong to one picture; give one file')
  for folder in {file.stem.parent for file in files}:
    folder.mkdir(parents=True, exist_ok=True)
  from ecgjax.cli import progress

  outcomes = []
  with progress.tracker(len(files)) as step:
    for result, more in results(files, chosen, jobs=args.jobs, limit_s=args.timeout):
      outcomes.append(result)
      step(result, more)
      if args.json:
        print(json.dumps(result._asdict()), flush=True)
  if not args.json:
    print(progress.summary(outcomes))
  status = collections.Counter(result.status for result in outcomes)
  return 3 if status['fail'] == len(outcomes) else int(status['fail'] + status['review'] > 0)
