"""Options that several commands have: which weights read, and what runs them. Imports nothing heavy, as `cli`."""

import argparse

from ecgjax import shipped

ENGINES = ('auto', 'jax', 'openvino')
PRECISIONS = ('auto', 'bfloat16', 'float32')


def add_weights(parser: argparse.ArgumentParser) -> None:
  """Adds --weights."""
  names = ' or '.join(shipped.NAMES)
  parser.add_argument('--weights', metavar='NAME|FILE', default=shipped.DEFAULT, help=(
    f'trace weights: {names}, which install with the package, or a .safetensors file (default: {shipped.DEFAULT})'))  # fmt: skip


def add_registration(parser: argparse.ArgumentParser) -> None:
  """Adds --registration."""
  parser.add_argument('--registration', metavar='FILE', default='', help=(
    'how far the printer of these pages sets black off its colours: registration.csv of a dataset built from its prints'))  # fmt: skip


def add_engine(parser: argparse.ArgumentParser) -> None:
  """Adds --engine and --precision."""
  parser.add_argument('--engine', choices=ENGINES, default='auto', help=(
    'of the network (default: openvino where installed)'))  # fmt: skip
  parser.add_argument('--precision', choices=PRECISIONS, default='auto', help=(
    'of its convolutions (default: bfloat16 in openvino where the CPU has it, else float32)'))  # fmt: skip
