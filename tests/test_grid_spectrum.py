"""The grid's pitch and direction from spectra: against grids drawn from two plain waves of lines, whose frequencies are known."""

import numpy as np
import pytest

from ecgjax.locate import grid_spectrum

SIZE = grid_spectrum.CANVAS_PX
WHOLE = np.zeros(2, np.float32), np.full(2, SIZE, np.float32)
find = grid_spectrum.find


def as_bytes(image):
  return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)


def grid(waves, *, minor=0.25, major=0.4, inside=None):
  """(SIZE, SIZE, 3): lines a px and a half wide wherever a wave (2, 2), squares a px along x and y, passes a whole number or a fifth."""
  y, x = np.mgrid[:SIZE, :SIZE] + 0.5
  image = np.full((SIZE, SIZE), 0.95)
  for a, b in waves:
    phase, pitch = a * x + b * y, 1 / np.hypot(a, b)
    for share, dark in ((1, major), (5, minor)):
      off = np.abs((share * phase + 0.5) % 1 - 0.5) * pitch / share
      image -= dark * np.clip(1.25 - off, 0, 1)
  image = np.clip(image, 0, 1) if inside is None else np.where(inside(x, y), np.clip(image, 0, 1), 0.3)
  rng = np.random.default_rng(0)
  return as_bytes((image + 0.02 * rng.standard_normal(image.shape))[..., None].repeat(3, -1))


def waves(degrees, pitch, stretch=1.0, lean=0.0):
  a, b = np.radians(degrees), np.radians(degrees + 90 + lean)
  return np.array([[np.cos(a), np.sin(a)], [np.cos(b) / stretch, np.sin(b) / stretch]]) / pitch


@pytest.mark.parametrize(('degrees', 'pitch', 'stretch', 'lean'), [(0, 18, 1, 0), (37, 14, 1, 0), (-20, 22, 1.15, 6), (44, 30, 0.9, -4)])
def test_a_grid_in_any_direction_is_measured_within_one_per_cent(degrees, pitch, stretch, lean):
  true = waves(degrees, pitch, stretch, lean)
  found = find(grid(true), *WHOLE)
  np.testing.assert_allclose(np.asarray(found.squares[0]) @ np.linalg.inv(true), np.eye(2), atol=0.012)


def test_where_only_the_fine_lines_are_seen_the_second_guess_is_right():
  true = waves(3, 30)
  found = find(grid(true, major=0.0), *WHOLE)
  np.testing.assert_allclose(np.asarray(found.squares[1]) @ np.linalg.inv(true), np.eye(2), atol=0.012)


def test_the_grid_is_looked_for_in_the_picture_alone_and_said_to_be_where_it_is():
  true = waves(5, 16)
  image = grid(true, inside=lambda x, y: (x > 500) & (x < 900) & (y > 350) & (y < 700))
  corner, size = np.array([0, 200], np.float32), np.array([1024, 600], np.float32)
  black = (np.arange(SIZE) >= 200) & (np.arange(SIZE) < 800)
  found = find(image * black[:, None, None], corner, size)
  np.testing.assert_allclose(np.asarray(found.squares[0]) @ np.linalg.inv(true), np.eye(2), atol=0.02)
  np.testing.assert_allclose(found.middle[0], [700, 525], atol=60)


def test_noise_is_no_grid():
  noise = as_bytes(np.random.default_rng(1).random((SIZE, SIZE, 3)))
  assert find(noise, *WHOLE).sure.max() < 0.5 * find(grid(waves(0, 18)), *WHOLE).sure[0]


def test_the_plane_maps_put_a_5_mm_square_on_a_5_mm_square():
  true = waves(10, 20)
  found = find(grid(true), *WHOLE)
  plane = grid_spectrum.planes(found)[0]
  np.testing.assert_allclose(39.37 * true @ plane[:2, :2], np.eye(2), atol=0.012)
  np.testing.assert_allclose(plane @ [1100, 850, 1], [*np.asarray(found.middle[0]), 1], atol=1e-3)
