"""Reading of many pictures from Python, in child processes, so that no page can hang, exhaust or crash the caller's process."""

import collections
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax

from ecgjax.ecg.errors import ECGError
from ecgjax.extract import digitizer
from ecgjax.extract.recording import Recording
from ecgjax.io import images
from ecgjax.jobs import page_job, process_pool
from ecgjax.networks import shipped


class PageResult(NamedTuple):
  """One page of a file, read or refused.

  Attributes:
    path: of the file, as given.
    page: of the file, from 1.
    recording: the result; None if the page could not be read.
    reason: why there is no recording; '' if there is one.
  """

  path: str
  page: int
  recording: Recording | None
  reason: str


class Answer(NamedTuple):
  """Result of `recording` for a page: a recording, or the reason why there is none; and the number of pages of its file."""

  recording: Recording | None
  reason: str
  pages: int


def recording(path: str, number: int, options: page_job.Options) -> Answer:
  """Reads one page of a file, `number` from 0, and writes nothing; nothing is raised."""
  pages = 1
  try:
    source = images.open_bytes(pathlib.Path(path).read_bytes())
    pages = source.pages
    arguments = {'fs': options.fs, 'speed_mm_s': options.speed_mm_s, 'gain_mm_mv': options.gain_mm_mv}
    return Answer(jax.device_get(digitizer.digitize(source.read(number), reader=page_job.reader(options), **arguments)), '', pages)
  except Exception as error:  # a page must not end the batch
    return Answer(None, page_job.reason(error), pages)


def digitize_many(
  paths: Iterable[str | os.PathLike], *, jobs: int = 1, weights: str = shipped.DEFAULT, engine: str = 'auto', precision: str = 'auto',
  registration: str = '', fs: float = 500.0, speed_mm_s: float = 25.0, gain_mm_mv: float | None = None, limit_s: float = 300.0,
) -> Iterator[PageResult]:  # fmt: skip
  """Reads every page of every file.

  A script that calls this function needs the guard `if __name__ == '__main__':`, because child processes import the script.

  Args:
    paths: files of any kind that `ecgjax digitize` reads.
    jobs: child processes, 1 to 256; the cores are shared out among them.
    weights, engine, precision, registration: as of `digitizer.load_reader`.
    fs: output sampling rate, 50 to 10,000 Hz.
    speed_mm_s, gain_mm_mv: as of `digitizer.digitize`.
    limit_s: time limit of one page; its process is then killed and replaced.

  Yields:
    Each page's result when it is finished, in no fixed order. A page that cannot be read does not stop the others.

  Raises:
    ECGError: if no page can be read with these options.
    BrokenExecutor: if no process can be started.
  """
  if not (1 <= jobs <= 256 and limit_s > 0 and 50 <= fs <= 10_000):
    raise ECGError(f'jobs={jobs}, limit_s={limit_s:g}, fs={fs:g}: need 1 to 256, above 0, 50 to 10000')
  how = page_job.Options(
    fs=fs, speed_mm_s=speed_mm_s, gain_mm_mv=gain_mm_mv, weights=weights, engine=engine, precision=precision, registration=registration
  )
  tasks = collections.deque((os.fspath(path), 0) for path in paths)

  def take():
    if tasks:
      task = tasks.popleft()
      return task, [*task, how]

  with process_pool.Children(jobs) as children:
    if wrong := page_job.checked(children, how):
      raise ECGError(wrong)
    for (path, number), answer, lost, _ in process_pool.answers(children, recording, take, limit_s=limit_s):
      if lost:
        pages = page_job.counted(children, path, None, limit_s=limit_s) if number == 0 else 1
        answer = Answer(None, lost, pages)
      if number == 0:
        tasks.extendleft((path, n) for n in range(answer.pages - 1, 0, -1))
      yield PageResult(path, number + 1, answer.recording, answer.reason)
