"""Orientation of a page: its grid is straightened once, then its landmarks are matched in all four quarter turns."""

import numpy as np

from ecgjax.geometry import lattices
from ecgjax.geometry.homography import change_frame
from ecgjax.geometry.paper import MAJOR_PX, MINOR_PX
from ecgjax.locate import filters, grid_phase, template_match, unwarp
from ecgjax.locate.grid_alignment import Flattener, straightened

NEAR_PX = 2 * MAJOR_PX  # how far the frame may lie off the visible grid: so little of it is missing that its landmarks are seen


def orient(
  flat: Flattener, plane: np.ndarray, templates: template_match.TemplateSpectra, *, enough: float
) -> tuple[np.ndarray, np.ndarray, float]:
  """Straightens a page of any position and rotation, and finds its quarter turn and shift.

  Args:
    flat: coarse rectification of the picture.
    plane: (3, 3) page px -> image px, right in scale and direction within some per cent, up to quarter turns and a shift.
    templates: landmarks.
    enough: score of the landmarks with which the other turns need not be tried.

  Returns:
    The page's plane map, its `displacement_px`, and the score of its landmarks.

  Raises:
    homography.TrackingLost: if the assumed grid of the page does not converge.
  """
  start = plane, np.zeros(lattices.page_lattice().shape)
  best = -1.0, np.zeros(2), start
  for quarter in (0, 1):
    framed, view = _straight(flat, *change_frame(*start, turn=quarter, shift_px=np.zeros(2)))
    away_px = _grid_shift(view)
    if np.abs(away_px).max() > NEAR_PX:
      framed, view = _straight(flat, *change_frame(*framed, turn=0, shift_px=away_px))
    start = change_frame(*framed, turn=-quarter, shift_px=np.zeros(2))
    for half, ink in enumerate((view.ink, view.ink[::-1, ::-1])):
      found = template_match.match(ink, templates)
      if found.score > best[0]:
        best = float(found.score), found.shift_px, change_frame(*framed, turn=2 * half, shift_px=found.shift_px)
      if best[0] >= enough:
        return _placed(flat, *best, templates)
  return _placed(flat, *best, templates)


def _straight(flat, plane: np.ndarray, displacement_px: np.ndarray):
  displacement_px, view = straightened(flat, plane, displacement_px)
  return (plane, displacement_px), view


def _placed(flat, score: float, shift_px: np.ndarray, framed: tuple[np.ndarray, np.ndarray], templates: template_match.TemplateSpectra):
  """Straightens the part that the shift brought into the frame, and applies the landmarks' shift, at most twice."""
  for _ in range(2):
    if np.abs(shift_px).max() < MAJOR_PX:
      break
    framed, view = _straight(flat, *framed)
    found = template_match.match(view.ink, templates)
    score, shift_px = float(found.score), found.shift_px
    framed = change_frame(*framed, turn=0, shift_px=shift_px)
  return *framed, score


def _grid_shift(flat: unwarp.FlatView) -> np.ndarray:
  """Returns the shift (2,) of the page's frame, page x, y, that includes most of the grid and least of the rest."""
  phase, coarse = (grid_phase.demodulate(flat, pitch_px=pitch) for pitch in (MINOR_PX, MAJOR_PX))
  index = lambda at_px, step_px, size: np.minimum((at_px / step_px).astype(int), size - 1)  # the last square is not a whole one
  nearest = lambda a, step_px: a[index(phase.ys, step_px, len(a))][:, index(phase.xs, step_px, a.shape[1])]
  sure = phase.sure.mean(0) + nearest(coarse.sure.mean(0), MAJOR_PX)
  known = nearest(unwarp.blurred(flat.use.max(0), 2 * MINOR_PX), unwarp.STEP_PX) > 0.1  # outside the picture there may be more of the page
  gain = (np.minimum(sure / (filters.quantile(sure.ravel(), 0.7) + 1e-12), 1.0) - 0.5) * known
  for axis, n in enumerate(gain.shape):  # sums over frames moved by -n // 2 to n // 2 lines
    sums = np.cumsum(np.pad(gain, [(n + 1, n) if i == axis else (0, 0) for i in (0, 1)]), axis)
    low = np.arange(n - n // 2, n + n // 2 + 1)
    gain = np.take(sums, low + n, axis) - np.take(sums, low, axis)
  best = np.array(np.unravel_index(np.argmax(gain), gain.shape))
  return (best - np.array(gain.shape) // 2)[::-1] * MINOR_PX
