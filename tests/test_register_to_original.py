"""Registering a picture with its page's clean original: against independent warps by SciPy, and what must be refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from ecgjax.drawing import looks, misregistration
from ecgjax.geometry import homography, lattices, layouts
from ecgjax.locate import register_to_original, unwarp
from ecgjax.simulate import validation_set

PLANE = np.array([[0.90, -0.06, 120.0], [0.05, 0.92, 40.0], [2e-5, -1e-5, 1.0]])
TRUE = lattices.page_lattice()


def photograph(page, *, wave_px=0.0):
  """The page in perspective, its content at p moved by a wave before: (1750, 2250, 3) uint8 and its exact lattice."""
  xy = np.stack(np.meshgrid(np.arange(2250) + 0.5, np.arange(1750) + 0.5), axis=-1)
  at = np.asarray(homography.apply_plane(np.linalg.inv(PLANE), xy))
  at = at + wave_px * np.sin(at[..., ::-1] / 250)
  taken = [ndimage.map_coordinates(page[..., c].astype(float), [at[..., 1] - 0.5, at[..., 0] - 0.5], order=1, cval=70) for c in range(3)]
  displacement_px = TRUE.astype(float)
  for _ in range(20):  # the inverse of p + wave(p)
    displacement_px = TRUE - wave_px * np.sin(displacement_px[..., ::-1] / 250)
  return np.stack(taken, axis=-1).round().astype(np.uint8), np.asarray(homography.apply_plane(PLANE, displacement_px))


def rms_px(found, true):
  return np.sqrt((lattices.off_px(found, true) ** 2).mean())


@pytest.mark.parametrize('turn', [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 2, 3))])
def test_a_wavy_picture_in_any_turn_is_registered_to_a_fifth_of_a_px(page, turn):
  image, true = photograph(page, wave_px=6.0)
  found = register_to_original.register(np.ascontiguousarray(np.rot90(image, turn)), page)
  true = homography.turned(true, np.rot90(image, turn).shape, -turn)
  assert rms_px(found.lattice, true) < 0.2
  assert found.residual_px < 0.3 and found.lattice.dtype == np.float32


def test_ink_that_stands_off_the_grid_is_found_where_it_stands(page, beats_mv):
  """A print whose black went astray by 0.8 px: the grid's lattice stays, the ink's goes with it."""
  apart = jax.tree.map(jnp.float32, misregistration.none()._replace(shift_px=np.array([0.8, -0.4])))
  printed = np.asarray(validation_set.draw(500)(jax.random.key(0), jnp.asarray(beats_mv), looks.competition(), apart))
  found = register_to_original.register(np.round(255 * printed).astype(np.uint8), page)
  rows = [np.abs(lattices.nodes_px()[0] - zero).argmin() for zero in layouts.make().zeros_px]
  off_px = lattices.apart_px(TRUE, found.ink_lattice)[rows, 4:52]
  np.testing.assert_allclose(np.median(off_px, axis=(0, 1)), [0.8, -0.4], atol=0.08)
  assert rms_px(found.lattice, TRUE) < 0.3 and found.residual_px < 0.2


@pytest.mark.parametrize(('level', 'left'), [(215, True), pytest.param(190, False, marks=pytest.mark.slow)])
def test_a_black_and_white_print_is_held_by_its_5_mm_grid_and_refused_where_that_is_gone_too(page, level, left):
  """Where nothing is written only the grid can tell; without it the lattice is 3 px off there."""
  image, true = photograph(page)
  bilevel = np.where(image.mean(-1, keepdims=True) < level, 0, 255).astype(np.uint8).repeat(3, -1)
  if left:
    assert rms_px(register_to_original.register(bilevel, page).lattice, true) < 0.4
    return
  with pytest.raises(ValueError, match='grid does not bear the lattice out|does not (fit|show) its original'):
    register_to_original.register(bilevel, page)


def test_offsets_tell_a_shift_of_a_px_and_how_sure_they_are(page):
  ink = np.zeros(unwarp.SIZE, np.float32)
  ink[400:404, 100:1000] = 1  # a line says nothing of its own direction
  ink[600:640, 300:340] = 1
  y, x = 0.7, -0.9  # flat px of 2 page px
  found = register_to_original.offsets(ndimage.shift(ink, (y, x), order=1), ink, np.zeros_like(ink), blur_px=8.0)
  near = np.unravel_index(np.argmax(np.asarray(found.weight).min(0)), found.weight.shape[1:])
  np.testing.assert_allclose(np.asarray(found.goal)[(slice(None), *near)], [-2 * y, -2 * x], atol=0.1)
  on_line = (slice(None), int(804 / register_to_original.MAJOR_PX), 14)
  down, across = np.asarray(found.weight)[on_line]
  assert down > 10 * across
  assert np.asarray(found.goal)[on_line][0] == pytest.approx(-2 * y, abs=0.1)
  assert np.asarray(found.weight)[:, 35:, :].max() < 1e-3  # nothing is there


@pytest.mark.parametrize('kind', ['another', *(pytest.param(kind, marks=pytest.mark.slow) for kind in ('mirrored', 'blank', 'half'))])
def test_what_is_not_the_original_is_refused_with_the_reason(page, printed, beats_mv, kind):
  image, _ = photograph(page)
  other = printed(5, np.roll(-0.8 * beats_mv, 130, axis=1))
  pictures = {'another': photograph(other)[0], 'mirrored': np.ascontiguousarray(image[:, ::-1]), 'blank': np.full_like(image, 230),
              'half': np.ascontiguousarray(image[:700])}  # fmt: skip
  with pytest.raises(ValueError, match='does not show its original|does not fit its original'):
    register_to_original.register(pictures[kind], page)
