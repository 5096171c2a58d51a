"""Progress of a batch: a bar with the time left on a terminal, plain lines elsewhere, a summary at the end."""

import collections
import contextlib
import sys
from collections.abc import Callable, Iterator

from ecgjax.jobs.page_job import Outcome

LISTED = 40  # pages with reasons that a summary lists


@contextlib.contextmanager
def tracker(files: int) -> Iterator[Callable[[Outcome, int], None]]:
  """Shows the progress of a batch on stderr.

  Args:
    files: number of files to be read, assumed to have one page each.

  Yields:
    A function to be called with each result and the number of further pages found.
  """
  if sys.stderr.isatty():
    with _bar(files) as step:
      yield step
    return
  total, done = files, 0

  def line(result: Outcome, more: int) -> None:
    nonlocal total, done
    total, done = total + more, done + 1
    detail = f'{result.status} {"; ".join(result.reasons)}'.strip()
    print(f'{done}/{total} {name(result)} {detail} ({result.seconds:.1f} s)', file=sys.stderr, flush=True)

  yield line


@contextlib.contextmanager
def _bar(files: int) -> Iterator[Callable[[Outcome, int], None]]:
  from rich import console, progress

  columns = ('{task.description}', progress.BarColumn(), progress.MofNCompleteColumn(), progress.TimeElapsedColumn(),
             'left', progress.TimeRemainingColumn())  # fmt: skip
  with progress.Progress(*columns, console=console.Console(stderr=True)) as bar:
    task = bar.add_task('reading', total=files)

    def step(result: Outcome, more: int) -> None:
      bar.update(task, advance=1, total=(bar.tasks[0].total or 0) + more)
      if result.status == 'fail':
        bar.console.print(f'{name(result)}: {"; ".join(result.reasons)}', markup=False, highlight=False)

    yield step


def name(result: Outcome) -> str:
  """Returns a page's name for messages."""
  return f'{result.file} page {result.page}' if result.pages > 1 else result.file


def summary(outcomes: list[Outcome]) -> str:
  """Returns the summary of a batch: the pages that are not ok with their reasons, and the counts by status."""
  odd = [result for result in outcomes if result.status in ('fail', 'review')]
  lines = [f'{result.status:<7} {name(result)}: {"; ".join(result.reasons)}' for result in odd[:LISTED]]
  lines += [f'... and {len(odd) - LISTED} more; --json lists all'] if len(odd) > LISTED else []
  count = collections.Counter(result.status for result in outcomes)
  statuses = ', '.join(f'{count[status]} {status}' for status in ('ok', 'review', 'fail', 'skipped') if count[status] or status == 'ok')
  read = [result.seconds for result in outcomes if result.status in ('ok', 'review')]
  pace = f', {sum(read) / len(read):.1f} s a page' if read else ''
  return '\n'.join([*lines, f'{len(outcomes)} pages: {statuses}{pace}'])
