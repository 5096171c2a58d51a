"""Messages to the user, on stderr."""

import argparse
import sys
import traceback
from typing import Any


def say(text: str) -> None:
  """Prints a line on stderr, from the first host only."""
  import jax  # here, since commands show their options without it

  if jax.process_index() == 0:
    print(text, file=sys.stderr, flush=True)


def add_debug(parser: argparse.ArgumentParser, *, default: Any = False) -> None:
  """Adds --debug; with argparse.SUPPRESS as its default it keeps the value set by a parent parser."""
  parser.add_argument('--debug', action='store_true', default=default, help='also print the traceback of an error')


def refused(error: BaseException, *, debug: bool) -> None:
  """Prints the one sentence of a refusal, after its traceback if `debug`."""
  if debug:
    traceback.print_exception(error)
  print(f'error: {error}', file=sys.stderr)
