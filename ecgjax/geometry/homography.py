"""Homographies, (3, 3) in float64: fit, apply, plausibility, change of page frame."""

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.geometry import lattices, paper

FINEST = 0.3  # image px per page px: below it neither grid nor print can be seen
MIDDLE = np.array([paper.WIDTH_PX, paper.HEIGHT_PX]) / 2


def projected(plane: np.ndarray, points: np.ndarray) -> np.ndarray:
  """Returns (..., 2) points moved by a plane map (3, 3), in float64."""
  moved = points @ plane[:, :2].T + plane[:, 2]
  return moved[..., :2] / moved[..., 2:]


def homography(source: np.ndarray, target: np.ndarray) -> np.ndarray:
  """Returns the (3, 3) plane map between two sets of (N, 2) points, by linear least squares."""
  (x, y), (u, v) = (source / MIDDLE - 1).T, (target / MIDDLE - 1).T
  one, none = np.ones_like(x), np.zeros_like(x)
  rows = [np.stack([x, y, one, none, none, none, -u * x, -u * y], -1), np.stack([none, none, none, x, y, one, -v * x, -v * y], -1)]
  solved = np.linalg.lstsq(np.concatenate(rows), np.concatenate([u, v]), rcond=None)[0]
  units = np.array([[1 / MIDDLE[0], 0, -1], [0, 1 / MIDDLE[1], -1], [0, 0, 1]])
  fitted = np.linalg.inv(units) @ np.append(solved, 1.0).reshape(3, 3) @ units
  return fitted / fitted[2, 2]


class TrackingLost(ValueError):
  """Raised when the tracking of a page fails: the estimate is degenerate or seen from behind."""


def corners(plane: np.ndarray) -> np.ndarray | None:
  """Returns (4, 2), the image px of the page's corners under a plane map (3, 3), or None if it shows the page from behind."""
  if not np.isfinite(plane).all():
    return None
  (width, height), one = 2 * MIDDLE, 1.0
  shown = np.array([[0, 0, one], [width, 0, one], [width, height, one], [0, height, one]]) @ plane.T
  if (shown[:, 2] * shown[0, 2] <= 0).any():
    return None
  xy = shown[:, :2] / shown[:, 2:]
  sides = np.roll(xy, -1, 0) - xy
  crosses = sides[:, 0] * np.roll(sides, -1, 0)[:, 1] - sides[:, 1] * np.roll(sides, -1, 0)[:, 0]
  return xy if (crosses > 0).all() else None


def is_plausible(plane: np.ndarray, shape: tuple[int, ...]) -> bool:
  """Returns whether a plane map shows the page from the front, at a readable size, not far outside the picture of `shape`."""
  xy = corners(plane)
  if xy is None:
    return False
  area = abs(np.sum(xy[:, 0] * np.roll(xy[:, 1], -1) - xy[:, 1] * np.roll(xy[:, 0], -1))) / 2
  return bool(0.5 * FINEST**2 * paper.WIDTH_PX * paper.HEIGHT_PX < area < 9 * shape[0] * shape[1])


def change_frame(plane: np.ndarray, displacement_px: np.ndarray, *, turn: int, shift_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Converts a homography and the displacement to another page frame.

  Args:
    plane: (3, 3) page px -> image px.
    displacement_px: (45, 57, 2) page px.
    turn: quarter turns of the new frame against the old, from its x to its y axis, around the page's middle.
    shift_px: (2,) position of the new frame's middle relative to the old one's, along the new axes.

  Returns:
    Both for the new frame. The homography absorbs as much of the displacement as possible, so that only the small rest is extrapolated as
    a constant beyond the old frame.

  Raises:
    TrackingLost: if no homography approximates them.
  """
  turning = np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), turn % 4)
  to_old = np.eye(3)
  to_old[:2, :2] = turning
  to_old[:2, 2] = MIDDLE + turning @ (np.asarray(shift_px, np.float64) - MIDDLE)
  nodes = lattices.page_lattice().astype(np.float64)
  if not np.isfinite(displacement_px).all():
    raise TrackingLost('the grid that was followed is not there')
  bent = homography(nodes.reshape(-1, 2), (nodes + displacement_px).reshape(-1, 2))
  rest = projected(np.linalg.inv(bent), nodes + displacement_px) - nodes
  seen = np.clip(projected(to_old, nodes), 0, 2 * MIDDLE)
  framed = plane @ bent @ to_old
  if corners(framed) is None:
    raise TrackingLost('the lines that were followed as a grid run together')
  return framed, lattices.image_px(rest, seen) @ turning


def apply_plane(plane: lattices.Array, xy_px: lattices.Array) -> jax.Array:
  """Returns (..., 2): points moved by a (3, 3) homography."""
  moved = jnp.einsum('...i,ji->...j', xy_px, plane[:, :2], precision='highest') + plane[:, 2]
  return moved[..., :2] / moved[..., 2:]


def turned(lattice, shape: tuple[int, ...], turn: int) -> np.ndarray:
  """Turns a lattice back with its picture.

  Args:
    lattice: (..., 2) px of a picture that has been turned by `turn` quarters counter-clockwise.
    shape: (H, W, ...) of the picture before.
    turn: any whole number.

  Returns:
    (..., 2) px of the picture before.
  """
  height, width = shape[:2]
  x, y = lattice[..., 0], lattice[..., 1]
  back = {0: (x, y), 1: (width - y, x), 2: (width - x, height - y), 3: (y, height - x)}[turn % 4]
  return np.stack(back, axis=-1)
