"""The page frame: millimetres, seconds and millivolts of ECG paper, in pixels.

Convention, used by every module: coordinates are continuous, x to the right and y (or rows) downwards; pixel i covers
[i, i + 1), so its centre is i + 0.5. The page is US letter at 200 dpi, the size of the competition's originals. No other
file holds a constant of the paper.
"""

DPI = 200.0
PX_PER_MM = DPI / 25.4
WIDTH_PX, HEIGHT_PX = 2200, 1700
PX_PER_PT = DPI / 72.0

MINOR_PX = 1.0 * PX_PER_MM
MAJOR_PX = 5.0 * PX_PER_MM  # a large square, the pitch of the lattice
GRID_X_PX = 0.0  # a major vertical line lies at GRID_X_PX + k * MAJOR_PX
GRID_Y_PX = HEIGHT_PX % MAJOR_PX  # major horizontal lines are counted from the bottom edge

START_X_PX = 3 * MAJOR_PX  # where the trace of second 0 begins
PULSE_S, PULSE_MV = 0.2, 1.0  # the calibration pulse: one large square wide, 1 mV tall, left of START_X_PX

SPEED_MM_S = 25.0
GAIN_MM_MV = 10.0


def px_per_s(speed_mm_s: float = SPEED_MM_S) -> float:
  """Returns page px per second; 196.850 at 25 mm/s."""
  return speed_mm_s * PX_PER_MM


def px_per_mv(gain_mm_mv: float = GAIN_MM_MV) -> float:
  """Returns page px per mV; 78.740 at 10 mm/mV."""
  return gain_mm_mv * PX_PER_MM
