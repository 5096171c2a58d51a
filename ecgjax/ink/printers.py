"""The mean offset of a printer's black ink from its colours, measured on many of its prints.

On the competition's print that is known (46930936) the field of its scan and that of its photograph correlate by 0.80: much of it is the
printer's own. The dataset builder measures the field in a competition folder, where every page's clean original is available, and the
table can be given when pages of the same printer are read (`--registration`).
"""

import csv
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ecgjax.ecg.errors import ECGError
from ecgjax.geometry import lattices
from ecgjax.io import atomic

ALL = 'all'  # the variant's name that stands for every print
STEP = 2  # nodes of the lattice between two points of a table
ROWS_PX = (300.0, 1660.0)  # where traces are
LEAST_RMS_PX = 0.05  # by which prints of one printer differ at least
COLUMNS = ('variant', 'x_px', 'y_px', 'right_px', 'below_px', 'right_rms_px', 'below_rms_px', 'pages')


class Printer(NamedTuple):
  """Mean offset of black from the colours.

  Attributes:
    x_px, y_px: (N,) and (M,) page x and y of the points.
    off_px: (M, N, 2) offset to the right and downwards there.
    rms_px: (2,) rms deviation of a print from that mean.
  """

  x_px: np.ndarray
  y_px: np.ndarray
  off_px: np.ndarray
  rms_px: np.ndarray


def at(printer: Printer, page_px: np.ndarray) -> np.ndarray:
  """Returns (K, 2) the offset of black to the right and downwards at page points (K, 2); constant beyond the table."""
  from scipy import interpolate

  axes = printer.y_px, printer.x_px
  inside = [np.clip(page_px[:, 1 - i], axis[0], axis[-1]) for i, axis in enumerate(axes)]
  return interpolate.RegularGridInterpolator(axes, printer.off_px)(np.stack(inside, axis=-1))


def write(path: str | os.PathLike, fields: Mapping[str, Sequence[np.ndarray]]) -> None:
  """Writes mean and spread of the measured fields, by variant and for all, one line per point.

  Args:
    path: of the CSV.
    fields: variant -> (45, 57, 2) each: offset of black to the right and downwards at the nodes, in page px.
  """
  ys, xs = lattices.nodes_px()
  rows, cols = np.flatnonzero((ys >= ROWS_PX[0]) & (ys <= ROWS_PX[1]))[::STEP], np.arange(0, len(xs), STEP)
  groups = {ALL: [field for some in fields.values() for field in some], **fields}
  lines: list[tuple[str, ...]] = [COLUMNS]
  for variant, some in groups.items():
    if some:
      mean, rms = np.mean(some, axis=0), np.std(some, axis=0)
      for i, j in itertools.product(rows, cols):
        values = (f'{value:.3f}' for value in (*mean[i, j], *rms[i, j]))
        lines.append((variant, f'{xs[j]:.1f}', f'{ys[i]:.1f}', *values, str(len(some))))
  atomic.whole(path, lambda part: part.write_text('\n'.join(','.join(line) for line in lines) + '\n', encoding='utf-8'))


def load(path: str | os.PathLike, *, variant: str = ALL) -> Printer:
  """Reads such a table.

  Args:
    path: of the CSV.
    variant: of the fields.

  Returns:
    The printer. The spread of a single print is unknown, and set to that without a table.

  Raises:
    OSError: if the file cannot be read.
    ECGError: if it is no such table, or has no such variant.
  """
  try:
    with open(path, newline='', encoding='utf-8') as file:
      lines = list(csv.DictReader(file))
  except (UnicodeDecodeError, csv.Error) as error:
    raise ECGError(f'{path} is no table of registration: {error}') from error
  if not lines or not set(COLUMNS) <= set(lines[0]):
    raise ECGError(f'{path} is no table of registration: it needs the columns {", ".join(COLUMNS)}')
  lines = [line for line in lines if line['variant'] == variant]
  try:
    numbers = np.array([[float(line[name]) for name in COLUMNS[1:]] for line in lines])
  except (TypeError, ValueError) as error:
    raise ECGError(f'{path} is no table of registration: {error}') from error
  numbers = numbers.reshape(-1, len(COLUMNS) - 1)
  xs, ys = np.unique(numbers[:, 0]), np.unique(numbers[:, 1])
  if not lines or len(numbers) != len(xs) * len(ys) or not np.isfinite(numbers).all():
    raise ECGError(f'{path} has no whole table of registration for {variant}: {len(lines)} points, {len(xs)} x {len(ys)} places')
  ordered = numbers[np.lexsort((numbers[:, 0], numbers[:, 1]))].reshape(len(ys), len(xs), -1)
  rms = np.sqrt((ordered[..., 4:6] ** 2).mean((0, 1))) if numbers[:, 6].min() > 1 else np.full(2, np.inf)
  return Printer(xs, ys, ordered[..., 2:4], np.maximum(rms, LEAST_RMS_PX))
