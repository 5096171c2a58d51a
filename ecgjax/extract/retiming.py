"""Correction of the rows' timing for scanner feed jumps and for the offset of black from the grid.

The lattice is a smooth fit to the grid. A column of a strip shows the ink of another instant after a feed jump (`feed_jumps`) and where
black is displaced from the colours (`offset_field`, from `marks`); both are functions of the position on the page.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ecgjax.extract import resample
from ecgjax.extract.path_decoder import Trace
from ecgjax.geometry import lattices, paper
from ecgjax.geometry.lattices import Frame
from ecgjax.geometry.layouts import Layout
from ecgjax.ink import feed_jumps, marks, offset_field
from ecgjax.ink.printers import Printer

COARSEST = 0.8  # image px per page px: in coarser pictures a grid line is off by as much as a leap, for their own px alone
LEAP_STD_PX, BESIDE_PX = 0.4, 8.0  # rms error of columns that leapt, on 56 scans of sim:val; and so near a leap nothing is surer
KNOT_PX = 40.0  # between the points at which the field of `offset_field` is asked for


class InkOffsets(NamedTuple):
  """Correction of the ink's position in each column of each row, in page px relative to the lattice.

  Attributes:
    right_px: (R, W) shift to the right.
    below_px: (R, W) shift downwards.
    std_px: (R, W) standard deviation of `right_px`.
  """

  right_px: np.ndarray
  below_px: np.ndarray
  std_px: np.ndarray


def exact(layout: Layout, frame: Frame) -> InkOffsets:
  """Returns the zero correction with zero standard deviation."""
  nowhere = np.zeros((len(layout.zeros_px), frame.width_px))
  return InkOffsets(nowhere, nowhere, nowhere)


def ink_offsets(
  image: np.ndarray, lattice: np.ndarray, *, layout: Layout, frame: Frame, printer: Printer | None = None
) -> InkOffsets:  # fmt: skip
  """Measures the displacement of a page's ink from its lattice.

  Args:
    image: (H, W, 3) uint8.
    lattice: (45, 57, 2) image px of the page's nodes.
    layout: the layout.
    frame: of its strips.
    printer: mean offset field of its printer, if known.

  Returns:
    The correction; zero in pictures coarser than COARSEST. Without visible marks its standard deviation is that of an unknown print.
  """
  fine = lattices.image_scale(lattice) >= COARSEST
  leaps, measured = (feed_jumps.find(image, lattice), marks.measure(image, lattice)) if fine else (None, marks.none())
  leapt = lambda x_px, y_px: np.zeros(len(x_px)) if leaps is None else feed_jumps.right_px(leaps, x_px, y_px)
  at_marks = np.array([leapt(np.array([x]), y)[0] for x, y in measured.at_px]).reshape(-1, 1)
  columns_px = paper.START_X_PX + frame.times_s() * layout.px_per_s
  knots_px = np.arange(columns_px[0], columns_px[-1] + KNOT_PX, KNOT_PX)
  wanted = np.stack(np.broadcast_arrays(knots_px, np.array(layout.zeros_px)[:, None]), axis=-1).reshape(-1, 2)
  off, std = offset_field.fit(measured.at_px, measured.off_px + at_marks * (1, 0), measured.std_px, wanted_px=wanted, printer=printer)
  dense = lambda values: np.stack([np.interp(columns_px, knots_px, row) for row in values.reshape(len(layout.zeros_px), -1)])
  right = np.stack([leapt(columns_px, zero) for zero in layout.zeros_px])
  return InkOffsets(right - dense(off[:, 0]), -dense(off[:, 1]), np.hypot(dense(std[:, 0]), LEAP_STD_PX * _leapt(right, columns_px)))


def _leapt(right_px: np.ndarray, columns_px: np.ndarray) -> np.ndarray:
  """Returns (R, W) bool: columns at a feed jump, and those beside them."""
  beside = round(BESIDE_PX / (columns_px[1] - columns_px[0]))
  sums = np.cumsum(np.pad(right_px != 0, ((0, 0), (beside + 1, beside))), axis=1)
  return sums[:, 2 * beside + 1 :] > sums[:, : -2 * beside - 1]


def retimed(trace: Trace, ink: InkOffsets, *, layout: Layout, frame: Frame) -> Trace:
  """Resamples rows by the correction, each lead within its own columns, because its neighbours are another lead or a pulse.

  Args:
    trace: (R, W) of the strips.
    ink: the correction.
    layout: the layout.
    frame: of the strips.

  Returns:
    (R, W) rows whose columns show their own instants. Repeated ink is read once; lost ink is interpolated from its neighbours.
  """
  per_px, columns = frame.rate_hz / layout.px_per_s, np.arange(trace.rows_px.shape[-1])
  rows_px, std_px, visible = (np.array(values) for values in trace)
  belongs = np.maximum.accumulate(columns + per_px * ink.right_px, axis=1) + 1e-9 * columns
  for segment in layout.segments:
    row, ends = segment.row, [round(frame.columns_px(second)) for second in (segment.start_s, segment.stop_s)]
    own = slice(*ends)
    # the lead's own column that shows the instant of each column
    source = np.clip(np.interp(columns[own], belongs[row], columns), ends[0], ends[1] - 1) - ends[0]
    nearest, valid = np.round(source).astype(int), visible[row, own] >= resample.VISIBLE
    lower = np.interp(source, columns[own] - ends[0], ink.below_px[row, own]) * lattices.STRIP_PX_PER_MV / layout.px_per_mv
    rows_px[row, own] = _between(rows_px[row, own], valid, source) + lower
    std_px[row, own], visible[row, own] = std_px[row, own][nearest], visible[row, own][nearest]
  return Trace(*(jnp.asarray(values, jnp.float32) for values in (rows_px, std_px, visible)))


def _between(values: np.ndarray, valid: np.ndarray, at: np.ndarray) -> np.ndarray:
  """Returns (n,) values at fractional columns, by Catmull and Rom's cubic; the nearest value where one of its four columns is hidden."""
  first = np.clip(np.floor(at).astype(int), 0, len(values) - 2)
  u = at - first
  four = np.clip(first[:, None] + np.arange(-1, 3), 0, len(values) - 1)
  weights = np.stack([u * (u * (2 - u) - 1), u**2 * (3 * u - 5) + 2, u * (u * (4 - 3 * u) + 1), u**2 * (u - 1)], axis=1) / 2
  return np.where(valid[four].all(1), (values[four] * weights).sum(1), values[np.round(at).astype(int)])


def std_mv(mv: np.ndarray, ink: InkOffsets, *, row: int, start_s: float, fs: float, layout: Layout, frame: Frame) -> np.ndarray:
  """Returns (n,) the error in mV of a lead's samples from the error of their instants: slope times standard deviation.

  Args:
    mv: (n,) samples, nan where absent.
    ink: of the page.
    row, start_s: of the lead.
    fs: of the samples.
    layout: the layout, at the speed of the samples.
    frame: of the strips.
  """
  if len(mv) < 2:
    return np.zeros(len(mv))
  columns = frame.columns_px(start_s + np.arange(len(mv)) / fs)
  std_s = np.interp(columns, np.arange(ink.std_px.shape[-1]), ink.std_px[row]) / layout.px_per_s
  return np.abs(np.nan_to_num(np.gradient(mv))) * fs * std_s
