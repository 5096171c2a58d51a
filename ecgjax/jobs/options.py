"""Options shared by several commands: weights, engine, precision, printer. Imports nothing heavy, like `cli`."""

import argparse

from ecgjax.ecg.errors import ECGError
from ecgjax.networks import shipped
from ecgjax.networks.shipped import ENGINES, PRECISIONS


def add_weights(parser: argparse.ArgumentParser) -> None:
  """Adds --weights."""
  names = ' or '.join(shipped.NAMES)
  parser.add_argument('--weights', metavar='NAME|FILE', default=shipped.DEFAULT, help=(
    f'trace weights: {names}, which install with the package, or a .safetensors file (default: {shipped.DEFAULT})'))  # fmt: skip


def add_registration(parser: argparse.ArgumentParser) -> None:
  """Adds --registration."""
  parser.add_argument('--registration', metavar='FILE', default='', help=(
    "the printer's mean offset of black from its colours: registration.csv of a dataset built from its prints"))  # fmt: skip


def add_engine(parser: argparse.ArgumentParser) -> None:
  """Adds --engine and --precision."""
  parser.add_argument('--engine', choices=ENGINES, default='auto', help=(
    'inference engine of the network (default: openvino where installed)'))  # fmt: skip
  parser.add_argument('--precision', choices=PRECISIONS, default='auto', help=(
    'precision of the convolutions (default: bfloat16 in openvino where the CPU has it, else float32)'))  # fmt: skip


def check_how(args: argparse.Namespace) -> None:
  """Validates --timeout and --fs.

  Raises:
    ECGError: for a time limit or rate out of range.
  """
  if not (args.timeout > 0 and 50 <= args.fs <= 10_000):
    raise ECGError('--timeout must be above 0, --fs 50 to 10000')
