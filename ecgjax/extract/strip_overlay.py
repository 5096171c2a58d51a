"""Pictures of strips with the trace as read, in NumPy alone."""

import numpy as np

READ_RGB, TRUE_RGB = (0, 90, 255), (0, 170, 60)


def overlay(strips: np.ndarray, rows_px: np.ndarray, std_px: np.ndarray, *, true_px: np.ndarray | None = None, step: int = 2) -> np.ndarray:
  """Draws strips one below the other, the trace as read in blue over a pale band of two standard deviations, the truth in green.

  Args:
    strips: (R, H, W, >= 3) colours in 0..1.
    rows_px: (R, W) continuous rows as read, nan where hidden.
    std_px: (R, W) their standard deviation.
    true_px: (R, W) true rows, nan where nothing is printed.
    step: every step-th px is kept in both directions.

  Returns:
    (R * H', W', 3) uint8.
  """
  panels = []
  for r in range(len(strips)):
    panel = 0.4 + 0.6 * np.clip(np.asarray(strips[r, ..., :3], np.float32), 0, 1)
    height = np.arange(panel.shape[0])[:, None] + 0.5
    distance = np.abs(height - rows_px[r])
    band = (distance < 2 * std_px[r])[..., None] * 0.25
    panel = panel * (1 - band) + band * (np.array(READ_RGB) / 255)
    if true_px is not None:
      panel[_line(height, true_px[r])] = np.array(TRUE_RGB) / 255
    panel[_line(height, rows_px[r])] = np.array(READ_RGB) / 255
    panels.append(panel[:: step, ::step])
  return np.round(255 * np.concatenate(panels)).astype(np.uint8)


def _line(height: np.ndarray, rows_px: np.ndarray) -> np.ndarray:
  """Returns (H, W) bool: px of a one px line that joins the rows of neighbouring columns."""
  after = np.append(rows_px[1:], rows_px[-1])
  low, high = np.fmin(rows_px, after), np.fmax(rows_px, after)
  return (height >= low - 1) & (height <= high + 1)
