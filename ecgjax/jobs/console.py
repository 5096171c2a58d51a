"""Lines for the person who waits, on stderr."""

import sys

import jax


def say(text: str) -> None:
  """Prints a line on stderr, from the first host only."""
  if jax.process_index() == 0:
    print(text, file=sys.stderr, flush=True)
