"""Plane maps and page frames: closed forms and symmetries."""

import numpy as np
import pytest

from ecgjax.geometry import homography, lattices, paper
from ecgjax.locate import grid_alignment, orientation, unwarp

NODES = lattices.page_lattice().astype(float)
ASKEW = np.array([[0.93, -0.05, 110.0], [0.04, 0.95, 60.0], [1e-5, -6e-6, 1.0]])


def test_a_homography_is_found_again_from_the_points_that_it_moved():
  points = NODES.reshape(-1, 2)
  np.testing.assert_allclose(homography.homography(points, homography.projected(ASKEW, points)), ASKEW, atol=1e-7)


@pytest.mark.parametrize(('change', 'fits'), [
  (np.eye(3), True), (np.diag([-1.0, 1, 1]), False), (np.diag([0.1, 0.1, 1]), False), (np.diag([30.0, 30, 1]), False),
  (np.full((3, 3), np.nan), False), (np.array([[1, 0, 0], [0, 1, 0], [-1e-3, 0, 1.0]]), False),
])  # fmt: skip
def test_a_plane_map_is_sane_if_it_shows_the_page_from_the_front_large_enough_and_about_in_the_picture(change, fits):
  assert homography.is_plausible(ASKEW @ change, (1750, 2300)) is fits


@pytest.mark.parametrize('turn', range(-1, 4))
def test_a_turned_and_shifted_frame_shows_every_point_where_the_old_one_did(turn):
  """What lies at p of the new frame lies, turned about the middle and shifted, in the old one: at the same place of the picture."""
  displacement_px = np.stack([3 * np.sin(NODES[..., 1] / 300), 2 * np.cos(NODES[..., 0] / 250)], axis=-1) + 0.01 * NODES
  shift = np.array([35.0, -20.0])
  new_plane, new_displacement_px = homography.change_frame(ASKEW, displacement_px, turn=turn, shift_px=shift)
  shown = np.asarray(unwarp.lattice(new_plane, new_displacement_px))
  x, y = (NODES + shift - homography.MIDDLE)[..., 0], (NODES + shift - homography.MIDDLE)[..., 1]
  old = np.stack([(x, y), (-y, x), (-x, -y), (y, -x)][turn % 4], axis=-1) + homography.MIDDLE
  before = lattices.image_px(homography.projected(ASKEW, NODES + displacement_px), old)
  inside = ((old > 0) & (old < 2 * homography.MIDDLE)).all(-1)
  assert inside.mean() > 0.5
  np.testing.assert_allclose(shown[inside], before[inside], atol=0.2)  # the spline between turned nodes is not the same


def test_the_frame_is_moved_to_where_the_grid_is(page):
  """A page on a grey desk, laid flat in a frame that lies 212 px too far left and 150 px too low."""
  desk = np.full((2100, 2700, 3), 120, np.uint8)
  desk[100:1800, 300:2500] = page
  frame = np.eye(3)
  frame[:2, 2] = 300 - 212, 100 + 150
  flat = grid_alignment.flattener(desk, frame, coarse=True)(frame, np.zeros(NODES.shape))
  np.testing.assert_allclose(orientation._grid_shift(flat), [212, -150], atol=paper.MAJOR_PX)  # as wide as what it judges by


def test_a_part_of_the_page_without_a_grid_counts_by_its_share_of_the_trace_area():
  confidence, area = np.ones((45, 57), np.float32), lattices.trace_area()
  assert grid_alignment.doubtful_share(confidence) == 0
  confidence[:, :20] = 0.4
  np.testing.assert_allclose(grid_alignment.doubtful_share(confidence), area[:, :20].sum() / area.sum())
  confidence[:] = np.where(area, 0.9, 0.0)  # what is not read may be unseen
  assert grid_alignment.doubtful_share(confidence) == 0
