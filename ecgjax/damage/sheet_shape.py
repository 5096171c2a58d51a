"""Shape of the sheet and the camera's view of it. Every effect acts on a surface or a lattice, never on pixels.

A surface is (51, 63, 3): where each node of `nodes_px` lies in space, x and y in page px, z in px towards the eye. `see` turns it into a
lattice: the image's x, y px of the same nodes. Its inner part is the page's own lattice (`lattices`), the outer one carries the margin.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.drawing import textures
from ecgjax.drawing.textures import Number
from ecgjax.geometry import interpolation, lattices, paper
from ecgjax.geometry.homography import apply_plane

OUTER = 3  # node rows and columns beyond the page on every side
_CENTRE = np.array([paper.WIDTH_PX / 2, paper.HEIGHT_PX / 2, 0.0], np.float32)
_DENSE_PX = 8  # spacing at which a lattice is tabulated before it is inverted
STEP_PX = 16  # spacing of image px whose page coordinates are solved for; those between are interpolated


class View(NamedTuple):
  """How an image sees the nodes: a plane map, and what the paper's shape adds to it.

  Attributes:
    plane: (3, 3) homography from page px to image px of an ideal flat sheet.
    lattice: (51, 63, 2) image px of the outer nodes.
  """

  plane: jax.Array
  lattice: jax.Array

  @property
  def page_lattice(self) -> jax.Array:
    """(45, 57, 2): the part that `lattices` calls the lattice."""
    return self.lattice[OUTER:-OUTER, OUTER:-OUTER]


def nodes_px() -> tuple[np.ndarray, np.ndarray]:
  """Returns the page px of the outer node rows (51,) and columns (63,)."""
  outside = paper.MAJOR_PX * np.arange(1, OUTER + 1)
  rows, cols = (np.concatenate([axis[0] - outside[::-1], axis, axis[-1] + outside]) for axis in lattices.nodes_px())
  return rows, cols


def flat() -> jax.Array:
  """Returns (51, 63, 3): a sheet that lies on the table."""
  rows, cols = nodes_px()
  x, y = np.meshgrid(cols, rows)
  return jnp.asarray(np.stack([x, y, 0 * x], axis=-1), jnp.float32)


def curl(key: jax.Array, surface: jax.Array, *, height_px: Number) -> jax.Array:
  """Rolls the sheet as paper does that was kept rolled or folded: a cylinder along a random direction, `height_px` of typical rise."""
  ks = jax.random.split(key, 4)
  angle = jax.random.uniform(ks[0], maxval=2 * jnp.pi)
  along = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
  t = ((surface[..., :2] - _CENTRE[:2]) * along).sum(-1)
  wave = 2 * jnp.pi / jax.random.uniform(ks[1], minval=2500.0, maxval=6000.0)
  phase, rise = jax.random.uniform(ks[2], maxval=2 * jnp.pi), height_px * jax.random.uniform(ks[3], minval=0.4, maxval=1.6)
  z = rise * (jnp.cos(wave * t + phase) - jnp.cos(phase))
  # paper does not stretch: what goes up is missing along the way, by half the square of the slope
  square = (rise * wave) ** 2 / 2
  lost = square * (t / 2 - (jnp.sin(2 * (wave * t + phase)) - jnp.sin(2 * phase)) / (4 * wave))
  return surface + jnp.concatenate([-lost[..., None] * along, z[..., None]], axis=-1)


def wave(key: jax.Array, surface: jax.Array, *, height_px: Number, scale_px: float = 330.0) -> jax.Array:
  """Cockles the sheet as water does: smooth bumps of `height_px` rms and a tenth of that within the plane."""
  rows, cols = map(jnp.asarray, nodes_px())
  bumps = jnp.stack([textures.smooth(k, rows, cols, scale_px=scale_px) for k in jax.random.split(key, 3)], axis=-1)
  return surface + height_px * bumps * jnp.array([0.1, 0.1, 1.0])


def crumple(key: jax.Array, surface: jax.Array, *, shift_px: Number) -> jax.Array:
  """Leaves the small uneven shifts of a sheet that was crumpled and flattened again: `shift_px` rms within the plane."""
  return wave(key, surface, height_px=10 * shift_px * jnp.array([1.0, 1.0, 0.3]), scale_px=110.0)


def feed(key: jax.Array, surface: jax.Array, *, shift_px: Number) -> jax.Array:
  """Moves rows and columns as an uneven scanner or printer does: each by an amount of its own, `shift_px` rms along y and half along x."""
  rows, cols = map(jnp.asarray, nodes_px())
  down, across = (textures.smooth(k, rows, cols, scale_px=260.0) for k in jax.random.split(key))
  return surface.at[..., 1].add(shift_px * down[:, :1]).at[..., 0].add(0.5 * shift_px * across[:1])


def see(
  key: jax.Array, surface: jax.Array, *, frame_px: tuple[int, int], tilt_deg: Number, roll_deg: Number, fill: Number,
  zoom: Number, shift_px: Number, lens: Number,
) -> View:  # fmt: skip
  """Looks at a surface through a camera or a scanner.

  Args:
    key: of direction, turn and distance, each drawn within what the options allow.
    surface: of the sheet.
    frame_px: (height, width) of the image.
    tilt_deg: largest angle between the sheet and the image plane.
    roll_deg: largest turn within the plane.
    fill: share of the frame that the sheet fills, or 0: then the scale is `zoom`, as a scanner's.
    zoom: image px per page px where `fill` is 0.
    shift_px: largest displacement of the centre where `fill` is 0; where it is not, the sheet wanders within the frame.
    lens: radial distortion, the share by which the frame's corner moves; positive is a pincushion.

  Returns:
    The view.
  """
  ks = jax.random.split(key, 5)
  roll, tilt = jax.random.uniform(ks[0], (2,), minval=-1.0) * jnp.deg2rad(jnp.stack([roll_deg, tilt_deg]))
  heading = jax.random.uniform(ks[1], maxval=2 * jnp.pi)
  turn = _chained(_about_z(heading), _about_x(tilt), _about_z(roll - heading))
  distance = jax.random.uniform(ks[2], minval=1.3, maxval=2.6) * paper.WIDTH_PX

  def project(points):
    x = jnp.einsum('...i,ji->...j', points - _CENTRE, turn, precision='highest')  # an accelerator's default would jitter the nodes
    return x[..., :2] * (distance / (distance - x[..., 2]))[..., None]

  edge = surface[jnp.array([0, 0, -1, -1]), jnp.array([0, -1, 0, -1])]
  corners = project(edge)
  low, high = corners.min(0), corners.max(0)
  size = jnp.array(frame_px[::-1], jnp.float32)
  fitted = fill * jnp.min(size / (high - low))
  scale = jnp.where(fill > 0, fitted, zoom)
  room = jnp.where(fill > 0, (size - scale * (high - low)) / 2, shift_px)
  middle = jnp.where(fill > 0, -scale * (low + high) / 2, 0.0)
  centre = size / 2 + middle + room * jax.random.uniform(ks[3], (2,), minval=-1.0)
  # x = centre + scale * distance * (R p)_xy / (distance - (R p)_z), as one matrix for the points with z = 0
  plane = jnp.stack([turn[0, :2], turn[1, :2], -turn[2, :2] / (scale * distance)]) * scale
  constant = jnp.array([0.0, 0.0, 1.0])
  to_image = jnp.concatenate([plane, constant[:, None]], axis=1)
  to_image = _chained(jnp.eye(3).at[:2, 2].set(centre), to_image, jnp.eye(3).at[:2, 2].set(-_CENTRE[:2]))
  lattice = centre + scale * project(surface)
  radius2 = jnp.sum((lattice - size / 2) ** 2, axis=-1, keepdims=True) / jnp.sum((size / 2) ** 2)
  return View(to_image, size / 2 + (lattice - size / 2) * (1 + lens * radius2))


def _chained(*matrices):
  return jnp.linalg.multi_dot(matrices, precision='highest')


def _about_z(angle):
  c, s = jnp.cos(angle), jnp.sin(angle)
  return jnp.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _about_x(angle):
  c, s = jnp.cos(angle), jnp.sin(angle)
  return jnp.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def page_px(view: View, *, size_px: tuple[int, int], origin_px: jax.Array, rounds: int = 12) -> jax.Array:
  """Inverts a view: which page point each px of the image shows.

  The paper's own shape is a displacement on top of the plane map, small in its slope, so p <- plane^-1(x - displacement(p)) contracts.
  Beyond the margin the displacement stays what it is at the margin's edge.

  Args:
    view: to be inverted.
    size_px: (height, width) of the part of the image that is wanted.
    origin_px: (2,) image x, y of that part's corner.
    rounds: of the iteration.

  Returns:
    (height, width, 2) page x, y of the px centres.
  """
  rows, cols = nodes_px()
  displacement = view.lattice - apply_plane(view.plane, flat()[..., :2])
  table_y, table_x = (np.arange(axis[0], axis[-1], _DENSE_PX) for axis in (rows, cols))
  down, across = (jnp.asarray(lattices.spline_weights(k, a), jnp.float32) for k, a in ((rows, table_y), (cols, table_x)))
  table = jnp.einsum('hr,rcd,wc->hwd', down, displacement, across, precision='highest')
  first = jnp.array([table_x[0], table_y[0]], jnp.float32)
  last = jnp.array([len(table_x) - 2, len(table_y) - 2], jnp.float32)
  back = jnp.linalg.inv(view.plane)

  axes = [np.arange(-1, -(-n // STEP_PX) + 2) * STEP_PX + 0.5 for n in size_px]
  goal = jnp.stack(jnp.meshgrid(jnp.asarray(axes[1]), jnp.asarray(axes[0])), axis=-1).astype(jnp.float32) + origin_px

  def nearer(_, at):
    inside = jnp.clip((at - first) / _DENSE_PX, 1.0, last)
    return apply_plane(back, goal - interpolation.sample(table, inside + 0.5))

  solved = jax.lax.fori_loop(0, rounds, nearer, apply_plane(back, goal))
  dense = [jnp.asarray(lattices.spline_weights(a, np.arange(n) + 0.5), jnp.float32) for a, n in zip(axes, size_px, strict=True)]
  return jnp.einsum('hr,rcd,wc->hwd', dense[0], solved, dense[1], precision='highest')


