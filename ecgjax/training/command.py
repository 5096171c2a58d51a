"""Trains a network: python -m ecgjax.train --config configs/unet.py [--workdir DIR] [--config.x=y]"""

import functools
import pathlib
import sys
from typing import Any, NamedTuple

from absl import app, flags
from ml_collections import config_flags

from ecgjax.ecg.errors import ECGError
from ecgjax.jobs import console
from ecgjax.training import loop, multihost


class _Flags(NamedTuple):
  """Flags of the command line, defined at first use: a program that only calls `train` may have flags of the same names."""

  config: Any
  workdir: Any
  hosts: Any
  debug: Any


@functools.cache
def _flags() -> _Flags:
  found = _Flags(
    config_flags.DEFINE_config_file('config', None, 'Config of the training: a file of configs/, with :variant.', lock_config=True),
    flags.DEFINE_string('workdir', None, 'Folder of the run (default: runs/<config name>). An existing run is resumed.'),
    flags.DEFINE_string('hosts', '', 'Training on several hosts: auto, or HOST:PORT,COUNT,RANK of this process.'),
    flags.DEFINE_boolean('debug', False, 'Also print the traceback of an error.'),
  )
  flags.mark_flag_as_required('config')
  for flag in found:  # --help shows those of the program that runs
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[flag.name])
  return found


def parse(argv: list[str]) -> list[str]:
  """Parses the command line; a mistake in it ends with one sentence instead of a traceback."""
  try:
    rest = flags.FLAGS(argv)
    _ = _flags().config.value.name  # a file that could not be loaded only says so here
    return rest
  except (flags.Error, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
    # ml_collections wraps the reason, or its "did you mean", into several lines: the last one says it
    text = str(error.args[0] if error.args else error).replace('\\n', '\n').strip().splitlines()[-1]
    sys.exit(f'error: --config: {text.strip()}')


def run(argv) -> None:
  """Runs the training of the flags; an error of the user ends the process with one sentence."""
  del argv
  wanted = _flags()
  c = wanted.config.value
  workdir = pathlib.Path(wanted.workdir.value or f'runs/{c.name}')
  try:
    multihost.join(wanted.hosts.value)
  except (ValueError, RuntimeError) as error:
    sys.exit(f'error: --hosts: {error}')
  try:
    loop.train(c, workdir)
  except (ECGError, FloatingPointError, OSError) as error:
    console.refused(error, debug=wanted.debug.value)
    sys.exit(1)


def main(argv: list[str] | None = None) -> None:
  """Runs the command line, and ends the process."""
  _flags()
  sys.modules['__main__'].__doc__ = __doc__  # what --help begins with
  app.run(run, argv=[sys.argv[0], *(sys.argv[1:] if argv is None else argv)], flags_parser=parse)
