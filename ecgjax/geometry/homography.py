"""Homographies, (3, 3) in float64: fit, apply, plausibility, change of page frame."""

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.geometry import lattices, paper

FINEST = 0.3  # image px per page px: below it neither grid nor print can be seen
MIDDLE = np.array([paper.WIDTH_PX, paper.HEIGHT_PX]) / 2


def projected(plane: np.ndarray, points: np.ndarray) -> np.ndarray:
  """Returns (..., 2) points moved by a plane map (3, 3), in float64."""
  mapped = points @ plane[:, :2].T + plane[:, 2]
  return mapped[..., :2] / mapped[..., 2:]


def homography(source: np.ndarray, target: np.ndarray) -> np.ndarray:
  """Returns the (3, 3) plane map that takes (N, 2) points to others best, least squares of their equations made linear."""
  (x, y), (u, v) = (source / MIDDLE - 1).T, (target / MIDDLE - 1).T
  one, none = np.ones_like(x), np.zeros_like(x)
  rows = [np.stack([x, y, one, none, none, none, -u * x, -u * y], -1), np.stack([none, none, none, x, y, one, -v * x, -v * y], -1)]
  solved = np.linalg.lstsq(np.concatenate(rows), np.concatenate([u, v]), rcond=None)[0]
  units = np.array([[1 / MIDDLE[0], 0, -1], [0, 1 / MIDDLE[1], -1], [0, 0, 1]])
  fitted = np.linalg.inv(units) @ np.append(solved, 1.0).reshape(3, 3) @ units
  return fitted / fitted[2, 2]


class TrackingLost(ValueError):
  """A page that was followed has come apart, or turned its back: it cannot be where it was looked for."""


def corners(plane: np.ndarray) -> np.ndarray | None:
  """Returns (4, 2), where a plane map (3, 3) shows the page's corners, or None if it does not show the page from the front."""
  if not np.isfinite(plane).all():
    return None
  (width, height), one = 2 * MIDDLE, 1.0
  xyw = np.array([[0, 0, one], [width, 0, one], [width, height, one], [0, height, one]]) @ plane.T
  if (xyw[:, 2] * xyw[0, 2] <= 0).any():
    return None
  xy = xyw[:, :2] / xyw[:, 2:]
  sides = np.roll(xy, -1, 0) - xy
  crosses = sides[:, 0] * np.roll(sides, -1, 0)[:, 1] - sides[:, 1] * np.roll(sides, -1, 0)[:, 0]
  return xy if (crosses > 0).all() else None


def is_plausible(plane: np.ndarray, shape: tuple[int, ...]) -> bool:
  """Returns whether a plane map shows the page from the front, at a size that can be read, not far out of the picture of `shape`."""
  xy = corners(plane)
  if xy is None:
    return False
  area = abs(np.sum(xy[:, 0] * np.roll(xy[:, 1], -1) - xy[:, 1] * np.roll(xy[:, 0], -1))) / 2
  return bool(0.5 * FINEST**2 * paper.WIDTH_PX * paper.HEIGHT_PX < area < 9 * shape[0] * shape[1])


def change_frame(plane: np.ndarray, displacement_px: jax.Array, *, turn: int, shift_px: np.ndarray) -> tuple[np.ndarray, jax.Array]:
  """Takes a plane map and a displacement to another page frame.

  Args:
    plane: (3, 3) page px -> image px.
    displacement_px: (45, 57, 2) of the nodes from their places, page px.
    turn: quarter turns of the new frame against the old, from its x to its y axis, around the page's middle.
    shift_px: (2,) where the new frame's middle lies from the old one's, along the new axes.

  Returns:
    Both for the new frame. The plane map takes over all of `displacement_px` that it can, so that only the rest, which is small, has to
    go on as at its edge where the old frame ended.

  Raises:
    TrackingLost: if no plane map comes near to what they say.
  """
  turning = np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), turn % 4)
  to_old = np.eye(3)
  to_old[:2, :2] = turning
  to_old[:2, 2] = MIDDLE + turning @ (np.asarray(shift_px, np.float64) - MIDDLE)
  nodes = lattices.page_lattice().astype(np.float64)
  if not np.isfinite(np.asarray(displacement_px)).all():
    raise TrackingLost('the grid that was followed is not there')
  bent = homography(nodes.reshape(-1, 2), np.asarray(nodes + displacement_px).reshape(-1, 2))
  rest = projected(np.linalg.inv(bent), nodes + np.asarray(displacement_px)) - nodes
  clipped = np.clip(projected(to_old, nodes), 0, 2 * MIDDLE)
  rest = _image_px(jnp.asarray(rest, jnp.float32), jnp.asarray(clipped, jnp.float32))
  framed = plane @ bent @ to_old
  if corners(framed) is None:
    raise TrackingLost('the lines that were followed as a grid run together')
  return framed, rest @ jnp.asarray(turning, jnp.float32)


_image_px = jax.jit(lattices.image_px)


def apply_plane(plane: lattices.Array, xy_px: lattices.Array) -> jax.Array:
  """Returns (..., 2): points moved by a (3, 3) homography."""
  mapped = jnp.einsum('...i,ji->...j', xy_px, plane[:, :2], precision='highest') + plane[:, 2]
  return mapped[..., :2] / mapped[..., 2:]


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
