"""Layouts as data: lead, row, start, end and zero line of each segment.

The renderer, the cutter, the decoder and the writers all read the same table, so they cannot disagree.
"""

from typing import NamedTuple

import jax.numpy as jnp

from ecgjax.ecg.errors import UnsupportedLayout
from ecgjax.ecg.leads import LEADS
from ecgjax.geometry import paper

SPEEDS_MM_S = (25.0, 50.0)
GAINS_MM_MV = (5.0, 10.0, 20.0)
TRACE_MM = 250.0  # printed length of a row: 10 s at 25 mm/s

# Rows of lead names, left to right; '-' before a name is a lead printed upside down (Cabrera's -aVR).
_THREE = ('I aVR V1 V4', 'II aVL V2 V5', 'III aVF V3 V6')
_SIX = ('I V1', 'II V2', 'III V3', 'aVR V4', 'aVL V5', 'aVF V6')
_CABRERA = ('aVL', 'I', '-aVR', 'II', 'aVF', 'III')
ROWS = {
  '3x4+II': (*_THREE, 'II'),
  '3x4': _THREE,
  '3x4+3': (*_THREE, 'II', 'V1', 'V5'),
  '6x2': _SIX,
  '6x2+II': (*_SIX, 'II'),
  '12x1': LEADS,
  '3x4-cabrera': ('aVL II V1 V4', 'I aVF V2 V5', '-aVR III V3 V6'),
  '6x2-cabrera': tuple(f'{limb} V{i}' for i, limb in enumerate(_CABRERA, start=1)),
  '12x1-cabrera': (*_CABRERA, 'V1', 'V2', 'V3', 'V4', 'V5', 'V6'),
}
LAYOUTS = tuple(ROWS)  # names that `make` knows

# Zero lines measured on the competition's own pages; the other layouts spread theirs over the same part of the paper.
_ZEROS_PX = {'3x4+II': (1700 * 2.5 / 6, 1700 * 3.5 / 6, 1700 * 4.5 / 6, 1534.71)}
_FIRST_ZERO_PX, _LAST_ZERO_PX = 420.0, 1540.0


class Segment(NamedTuple):
  """One lead in one row: it shows `sign` times the lead from `start_s` to `stop_s`, in the record's and the row's seconds."""

  lead: str
  row: int
  start_s: float
  stop_s: float
  sign: int = 1

  @property
  def label(self) -> str:
    return self.lead if self.sign > 0 else f'-{self.lead}'

  def count(self, fs: float) -> int:
    """Returns the number of its samples printed at `fs` Hz, rounded down as in the competition (2562.5 gives 2562)."""
    return int((self.stop_s - self.start_s) * fs + 1e-6)


class Layout(NamedTuple):
  """A page's arrangement. Hashable, so it can be a static argument of a jitted function.

  Attributes:
    name: key of ROWS.
    segments: row by row, left to right; a rhythm row is one segment.
    zeros_px: y of each row's zero line in page px; a traced array where rows are drawn at random distances.
    speed_mm_s: paper speed. The printed length is fixed, so 50 mm/s shows half the seconds.
    gain_mm_mv: gain, mm per mV.
  """

  name: str
  segments: tuple[Segment, ...]
  zeros_px: tuple[float, ...]
  speed_mm_s: float
  gain_mm_mv: float

  @property
  def seconds(self) -> float:
    return TRACE_MM / self.speed_mm_s

  @property
  def px_per_s(self) -> float:
    return paper.px_per_s(self.speed_mm_s)

  @property
  def px_per_mv(self) -> float:
    return paper.px_per_mv(self.gain_mm_mv)

  def page_px(self, times_s, mv):
    """Returns (R, W, 2) page x, y of the rows' values: times_s (W,) in the rows' seconds, mv (R, W)."""
    x = paper.START_X_PX + times_s * self.px_per_s
    y = jnp.asarray(self.zeros_px)[:, None] - mv * self.px_per_mv
    return jnp.stack([jnp.broadcast_to(x, y.shape), y], axis=-1)

  def is_strip(self, segment: Segment) -> bool:
    """Returns whether a segment is a rhythm strip: a whole row, on a page whose other rows show several leads."""
    longs = [s.stop_s - s.start_s == self.seconds for s in self.segments]
    return segment.stop_s - segment.start_s == self.seconds and not all(longs)

  def scored(self, lead: str) -> Segment:
    """Returns the segment that is read for `lead`: its longest copy, the rhythm strip where there is one."""
    return max((s for s in self.segments if s.lead == lead), key=lambda s: s.stop_s - s.start_s)


def make(name: str = '3x4+II', *, speed_mm_s: float = paper.SPEED_MM_S, gain_mm_mv: float = paper.GAIN_MM_MV) -> Layout:
  """Builds one of the layouts of ROWS.

  Args:
    name: key of ROWS.
    speed_mm_s: one of SPEEDS_MM_S.
    gain_mm_mv: one of GAINS_MM_MV.

  Returns:
    The layout, with the start and end of every segment.

  Raises:
    ECGError: for a name, speed or gain that is not in the tables.
  """
  for option, value, choices in (
    ('layout', name, tuple(ROWS)),
    ('speed_mm_s', speed_mm_s, SPEEDS_MM_S),
    ('gain_mm_mv', gain_mm_mv, GAINS_MM_MV),
  ):
    if value not in choices:
      raise UnsupportedLayout(f'{option}={value!r} is not one of {", ".join(map(str, choices))}')
  rows = [row.split() for row in ROWS[name]]
  seconds = TRACE_MM / speed_mm_s
  segments = tuple(
    Segment(lead.lstrip('-'), r, c * seconds / len(row), (c + 1) * seconds / len(row), -1 if lead[0] == '-' else 1)
    for r, row in enumerate(rows)
    for c, lead in enumerate(row)
  )
  step = (_LAST_ZERO_PX - _FIRST_ZERO_PX) / max(len(rows) - 1, 1)
  first = _FIRST_ZERO_PX if len(rows) > 1 else (_FIRST_ZERO_PX + _LAST_ZERO_PX) / 2
  zeros = _ZEROS_PX.get(name, tuple(first + step * r for r in range(len(rows))))
  return Layout(name, segments, zeros, speed_mm_s, gain_mm_mv)
