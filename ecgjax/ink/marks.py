"""Black marks at known positions (pulses, separators, names, words of header and footer), which measure the offset of a page's black ink.

Each mark is compared with its own drawing, to a few hundredths of a px: its picture is modelled as the drawing, moved and blurred, over
fixed grid lines, by least squares that are robust against traces through it.
"""

import functools
import pathlib
from typing import NamedTuple

import numpy as np

from ecgjax.geometry import lattices, paper

PATH = pathlib.Path(__file__).with_name('marks.npz')  # scripts/make_landmarks.py
KINDS = ('pulse', 'separator', 'name', 'header', 'footer')
ROOM_PX, BEYOND_PX = 7, 12  # around a mark, what is looked at; and around that, what may move into it
BLUR_PX, LINE_PX = 1.0, 1.0  # standard deviation of a printed edge, and of a grid line, in a scan
ROUNDS, STEP_PX, FARTHEST_PX = 3, 1.0, 2.0  # of the search: most that a round may move, and all of them together
RASTER = 0.2  # of the ink's darkness: what px make of an edge, and no outlier
SOME = 5  # of so many px one is asked how large the usual misfit is
OUTLIER = 2.0  # standard deviations from which on a px counts less and less: a trace, not the mark
ALIKE = 0.5  # least correlation of a mark with its drawing
OWN_TEXT = 0.55  # of the header's words, the median, on the competition's page: on others too few marks stand in too few columns
RIPPLE_PX = (0.06, 0.09)  # what a mark is off besides its least-squares error, by rasters, lattice and neighbours


class Marks(NamedTuple):
  """Measured offsets of N marks.

  Attributes:
    at_px: (N, 2) page x, y of their centres.
    off_px: (N, 2) offset to the right and downwards.
    std_px: (N, 2) its standard deviation.
  """

  at_px: np.ndarray
  off_px: np.ndarray
  std_px: np.ndarray


def none() -> Marks:
  """Returns the result without any visible mark."""
  return Marks(*np.zeros((3, 0, 2)))


class _Mark(NamedTuple):
  """One known mark.

  Attributes:
    kind: index into KINDS.
    middle_px: page x, y.
    down, across: (h, 45) and (w, 57): where the px of its box lie, ROOM_PX around it included, as weights of the lattice's nodes.
    drawing: its coverage, blurred, with BEYOND_PX more on every side.
    fixed: (L, h w) parts that do not move with it: grid lines, and paper.
  """

  kind: int
  middle_px: tuple[float, float]
  down: np.ndarray
  across: np.ndarray
  drawing: np.ndarray
  fixed: np.ndarray


@functools.cache
def competition_marks() -> tuple[_Mark, ...]:
  """Reads the known marks of the competition's page."""
  import cv2

  with np.load(PATH) as file:
    cover, boxes, kinds = file['cover'].astype(np.float32) / 255, file['boxes'], file['kinds']
  soft = np.pad(cv2.GaussianBlur(cover, (0, 0), BLUR_PX), BEYOND_PX)
  found = []
  for kind, (x0, y0, x1, y1) in zip(kinds, boxes, strict=True):
    left, top = max(x0 - ROOM_PX, 1), max(y0 - ROOM_PX, 1)
    right, bottom = min(x1 + ROOM_PX, paper.WIDTH_PX - 1), min(y1 + ROOM_PX, paper.HEIGHT_PX - 1)
    drawing = soft[top : bottom + 2 * BEYOND_PX, left : right + 2 * BEYOND_PX]
    fixed = [*_lines(left, top, right, bottom).reshape(4, -1), np.ones((bottom - top) * (right - left))]
    rows, cols = lattices.nodes_px()
    down, across = (lattices.spline_weights(*of) for of in ((rows, np.arange(top, bottom) + 0.5), (cols, np.arange(left, right) + 0.5)))
    found.append(_Mark(int(kind), ((left + right) / 2, (top + bottom) / 2), down, across, drawing, np.stack(fixed)))
  return tuple(found)


def _lines(left: int, top: int, right: int, bottom: int) -> np.ndarray:
  """Returns (4, h, w): minor and major grid lines along y, then along x."""

  def across(first, stop, origin):
    at = np.arange(first, stop) + 0.5 - origin
    minor, major = (np.exp(-0.5 * ((at - np.round(at / pitch) * pitch) / LINE_PX) ** 2) for pitch in (paper.MINOR_PX, paper.MAJOR_PX))
    return minor - major, major

  size = bottom - top, right - left
  along_y = [np.broadcast_to(line, size) for line in across(left, right, paper.GRID_X_PX)]
  return np.stack([*along_y, *(np.broadcast_to(line[:, None], size) for line in across(top, bottom, paper.GRID_Y_PX))])


def measure(image: np.ndarray, lattice: np.ndarray) -> Marks:
  """Measures the marks of a page.

  Args:
    image: (H, W, 3) uint8.
    lattice: (45, 57, 2) image px of the page's nodes: of its grid.

  Returns:
    The visible marks; none on a page that differs from the competition's.
  """
  lattice = np.asarray(lattice, np.float64)
  header, others = ([mark for mark in competition_marks() if (KINDS[mark.kind] == 'header') == own] for own in (True, False))
  found = [_located(image, lattice, mark) for mark in header]
  if np.median([correlation for _, _, correlation in found]) <= OWN_TEXT:
    return none()
  found += [_located(image, lattice, mark) for mark in others]
  off_px, std_px, correlation = (np.array(a) for a in zip(*found, strict=True))
  accepted = (correlation > ALIKE) & (np.abs(off_px).max(1) < FARTHEST_PX)
  return Marks(np.array([mark.middle_px for mark in header + others])[accepted], off_px[accepted], std_px[accepted])


def _located(image: np.ndarray, lattice: np.ndarray, mark: _Mark) -> tuple[np.ndarray, np.ndarray, float]:
  """Returns the result of `_placed` for a mark in a picture."""
  import cv2

  x_px, y_px = ((mark.down @ lattice[..., i] @ mark.across.T - 0.5).astype(np.float32) for i in (0, 1))
  patch = cv2.remap(image, x_px, y_px, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
  return _placed(255 - np.maximum.reduce(cv2.split(patch)), mark)  # of the lightest colour: a coloured grid is hardly seen in it


def _placed(dark: np.ndarray, mark: _Mark) -> tuple[np.ndarray, np.ndarray, float]:
  """Returns the offset of a mark (h, w) and its standard deviation, px, and its correlation with the drawing."""
  import cv2

  height, width = dark.shape
  values, off, trust = dark.ravel().astype(np.float64), np.zeros(2), np.ones(dark.size)
  for _ in range(ROUNDS):
    move = np.array([[1, 0, BEYOND_PX - off[0]], [0, 1, BEYOND_PX - off[1]]], np.float32)
    drawn = cv2.warpAffine(mark.drawing, move, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    slopes = [cv2.Sobel(drawn, -1, *order, ksize=1, scale=-0.5).ravel() for order in ((1, 0), (0, 1))]
    terms = np.concatenate([np.stack([drawn.ravel(), *slopes]), mark.fixed])
    inverse = (terms * trust) @ terms.T
    inverse[np.diag_indices(len(inverse))] *= 1 + 1e-6
    inverse[np.diag_indices(len(inverse))] += 1e-6
    scale = np.linalg.solve(inverse, (terms * trust) @ values)
    rest = values - scale @ terms
    noise = np.hypot(1.4826 * np.median(np.abs(rest[::SOME])), RASTER * scale[0] + 1.0)
    trust = 1 / (1 + (rest / (OUTLIER * noise)) ** 2) ** 2
    if scale[0] <= 0:
      break
    off = np.clip(off + np.clip(scale[1:3] / scale[0], -STEP_PX, STEP_PX), -FARTHEST_PX, FARTHEST_PX)
  std = noise * np.sqrt(np.diag(np.linalg.inv(inverse))[1:3]) / max(scale[0], 1.0)
  bare = values - scale[3:] @ terms[3:]
  bare, drawn = bare - bare.mean(), terms[0] - terms[0].mean()
  correlation = float(bare @ drawn / max(np.sqrt((bare @ bare) * (drawn @ drawn)), 1e-6))
  return off, np.hypot(3 * std, RIPPLE_PX), correlation  # neighbouring px err alike: three times as much
