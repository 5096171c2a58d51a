"""Rectified pictures: a page resampled along its approximate lattice, separated into paper, light and ink.

In the page frame a homography (3, 3) takes page px to image px, and `displacement_px` (45, 57, 2) is the displacement of the nodes from
their nominal positions in page px.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ecgjax.geometry import homography, lattices, paper
from ecgjax.locate.filters import blur, quantile, reduced, repeated

STEP_PX = 2  # page px per px of the flat picture
SIZE = (paper.HEIGHT_PX // STEP_PX, paper.WIDTH_PX // STEP_PX)
LINE_PX, LINE_SHARE = (200.0, 80.0), 0.6  # ink lies in a line along x or y if of a neighbourhood so long so much is ink
# a grid is black if the shares of ink that lie in lines along x and along y have such a product; for baselines and separators it is 0.025
BLACK = 0.05
INK_SHARE, INK_LEVEL = 1.3, 0.5  # per cent of the page that is as dark as traces; beyond half of that a px counts as ink, not grid
PAPER_PX, SPREAD_PX, SOFT_PX = 16.0, 32.0, 1.2  # sigmas, page px: of the paper's brightness, of the spread of darkness, of ink
LIGHTEST, DARKEST = -2.0, 2.5  # limits of a line's darkness, in units of its neighbourhood's spread


class FlatView(NamedTuple):
  """A rectified picture: h x w px of STEP_PX page px each.

  Attributes:
    lines: (n h, n w), n being 1 or STEP_PX: darkness relative to the neighbourhood, in units of its local spread; 0 outside the picture.
    ink: (h, w) 0..1, darkness of the lightest colour relative to the neighbourhood: traces, text, bars, black grids.
    use: (2, h, w) 0 or 1, whether the px is used for the grid along y and x: it is in the picture and holds no ink, or a line.
  """

  lines: np.ndarray
  ink: np.ndarray
  use: np.ndarray


def centres_px(*, step_px: float = STEP_PX) -> tuple[np.ndarray, np.ndarray]:
  """Returns page y and x of the px of a rectified picture with px of `step_px` page px."""
  ys, xs = (np.arange(step_px / 2, limit, step_px) for limit in (paper.HEIGHT_PX, paper.WIDTH_PX))
  return ys, xs


def lattice(plane: np.ndarray, displacement_px: np.ndarray) -> np.ndarray:
  """Returns (45, 57, 2) float32 image px of the nodes, each displaced by (45, 57, 2) page px from its place, by a homography (3, 3)."""
  return homography.projected(plane, lattices.page_lattice() + displacement_px).astype(np.float32)


def blurred(a: np.ndarray, sigma_px: float) -> np.ndarray:
  """Returns a flat picture (h, w) smoothed by a Gaussian of `sigma_px` page px; beyond its border it counts as 0."""
  return blur(a, (sigma_px / STEP_PX, sigma_px / STEP_PX))


def shades(image: np.ndarray) -> list[np.ndarray]:
  """Returns (H, W) float32 0..1 each, the mean and the highest of a picture's colours (H, W, 3) uint8: all that is used of it."""
  import cv2

  colours = cv2.split(image)
  total = np.add(np.add(colours[0], colours[1], dtype=np.uint16), colours[2])
  return [total * np.float32(1 / 765), np.maximum.reduce(colours) * np.float32(1 / 255)]


@functools.lru_cache(maxsize=4)
def _node_splines(step_px: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns (h, 45) and (w, 57) float32: weights of the nodes at the centres of px of `step_px` page px."""
  places = zip(lattices.nodes_px(), centres_px(step_px=step_px), strict=True)
  down, across = (lattices.spline_weights(knots, at).astype(np.float32) for knots, at in places)
  return down, across


def lay_flat(planes: Sequence[np.ndarray], lattice_px: np.ndarray, *, step_px: int = STEP_PX) -> tuple[list[np.ndarray], np.ndarray]:
  """Samples a picture in the page frame.

  Args:
    planes: (H, W) float32 each, of a picture with about one px per px of the result.
    lattice_px: (45, 57, 2) image px of the nodes.
    step_px: page px per px.

  Returns:
    (1700 / step_px, 2200 / step_px) each: the planes; and float32, 1 where the px is inside the picture, else 0.
  """
  import cv2

  down, across = _node_splines(step_px)
  x, y = (down @ lattice_px[..., i].astype(np.float32) @ across.T for i in (0, 1))
  height, width = planes[0].shape
  inside = np.minimum(cv2.inRange(x, 1.0, width - 1.0), cv2.inRange(y, 1.0, height - 1.0)) * np.float32(1 / 255)
  x, y = x - np.float32(0.5), y - np.float32(0.5)
  # plane by plane: of several channels at once `remap` takes the nearest 32nd of a px (findings/)
  return [cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for plane in planes], inside


def prepare(sampled: Sequence[np.ndarray], inside: np.ndarray) -> FlatView:
  """Removes paper, light and ink from a rectified picture, so that the grid remains.

  Args:
    sampled: (n h, n w) each, result of `lay_flat` for `shades`, n being 1 or STEP_PX.
    inside: (n h, n w), likewise.

  Returns:
    The grid's darkness with the ink and the usable px.
  """
  n, fine = len(inside) // SIZE[0], sampled[0]
  grey, brightest, there = (reduced(plane, n, n) for plane in (*sampled, inside))
  known = blurred(there, PAPER_PX) + np.float32(1e-3)
  light = blurred(grey * there, PAPER_PX) / known
  dark = (light - grey) / (light + 0.03) * there
  spread = np.sqrt(np.maximum(blurred(dark * dark, SPREAD_PX), 0) / (blurred(there, SPREAD_PX) + 1e-3)) + 0.01
  soft = blurred(brightest, SOFT_PX)
  paper_like = blurred(soft * there, PAPER_PX) / known
  ink = (paper_like - soft) / (paper_like + 0.03) * there
  few = np.maximum(ink[::4, ::4], 0)[there[::4, ::4] > 0]
  level = quantile(few, 1 - INK_SHARE / 100)
  lines = repeated(light, n, n) - fine
  lines *= repeated(1 / ((light + 0.03) * spread), n, n)
  lines *= inside
  return FlatView(
    np.clip(lines, LIGHTEST, DARKEST, out=lines), np.clip(ink / (level + 1e-6), 0, 1), _usable(ink > INK_LEVEL * level, there)
  )


def _usable(is_ink: np.ndarray, there: np.ndarray) -> np.ndarray:
  """Returns (2, h, w) float32: where a picture, `there` (h, w), holds no ink (h, w) bool, or ink that lies in the lines of a black grid."""
  import cv2

  as_bytes = is_ink.astype(np.uint8)
  total, in_lines = is_ink.sum() + 1e-6, []
  for axis in (0, 1):
    wide = cv2.dilate(as_bytes, np.ones((3, 1) if axis == 0 else (1, 3), np.uint8)).astype(np.float32)
    sigma = LINE_PX[axis] / STEP_PX
    in_lines.append(blur(wide, (0.0, sigma) if axis == 0 else (sigma, 0.0)) > LINE_SHARE)
  black = np.prod([(line & is_ink).sum() / total for line in in_lines]) > BLACK
  free = cv2.dilate(as_bytes, np.ones((5, 5), np.uint8)) == 0
  return np.stack([free | line if black else free for line in in_lines]).astype(np.float32) * there
