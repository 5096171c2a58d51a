"""Finding the page: the lock-in against known displacements, and whole pictures in every turn against their exact lattice."""

import re

import flat_pages
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from ecgjax.drawing import looks, render
from ecgjax.geometry import homography, lattices, layouts, paper
from ecgjax.locate import displacement, find_page, grid_alignment, grid_phase, template_match, unwarp
from ecgjax.simulate import validation_set

TRUE = lattices.page_lattice()


@pytest.mark.parametrize('black', [True, False])
def test_ink_in_lines_speaks_of_the_grid_only_if_the_grid_is_black(beats_mv, black):
  """The flat baselines of a coloured page lie in lines, too, where no grid line is."""
  page = validation_set.draw(500)(jax.random.key(2), jnp.asarray(beats_mv), looks.competition())
  image = jnp.where(page.mean(-1, keepdims=True) < 0.93, 0.0, 1.0).repeat(3, -1) if black else page
  flat = flat_pages.of_page(image)
  ink_used = np.asarray((flat.use * (flat.ink > unwarp.INK_LEVEL)).mean((1, 2)) / (flat.ink > unwarp.INK_LEVEL).mean())
  assert (ink_used > 0.15).all() if black else (ink_used == 0).all()


def test_slopes_find_what_is_twenty_times_larger_but_for_a_constant(page):
  ys, xs = unwarp.centres_px()
  x, y = np.meshgrid(xs, ys)
  displacement_px = np.stack([0.02 * (x - 1100) + 0.015 * (y - 850) + 30, -0.02 * (x - 1100) + 25 * np.sin(y / 600)], axis=-1)
  found = np.zeros(TRUE.shape)
  found = grid_alignment._straighten(unwarp.prepare(*flat_pages.flat_of(page, displacement_px)), found)
  off = flat_pages.inner(np.asarray(found) + flat_pages.at_nodes(displacement_px))
  before, after = flat_pages.inner(flat_pages.at_nodes(displacement_px)).std((0, 1)), off.std((0, 1))
  assert (before > 8).all() and (after < paper.MINOR_PX / 4).all()  # within half a fine pitch is near enough for the angles


def test_a_displaced_lattice_shows_what_the_surface_says():
  shift = displacement.translation(np.array([3.0, -2.0]))
  np.testing.assert_allclose(displacement.displace(np.zeros(TRUE.shape), shift), np.broadcast_to([-3.0, 2.0], TRUE.shape), atol=1e-4)


def test_a_surface_follows_a_parabola_and_is_not_led_astray_by_a_tenth_of_outliers():
  rng = np.random.default_rng(0)
  ys, xs = np.linspace(20, 1680, 40), np.linspace(20, 2180, 50)
  x, y = np.meshgrid(xs, ys)
  goal = np.stack([1e-6 * (x - 900) ** 2, 1e-6 * (y - 800) * (x - 1000)])
  wild = rng.random(goal.shape) < 0.1
  seen = np.where(wild, goal + rng.uniform(-4, 4, goal.shape), goal)
  bases = displacement.bases(ys, xs, step_px=300.0)
  fitted = displacement.fit([displacement.Observation(*bases, seen, np.ones(goal.shape))], step_px=300.0, bending=1e-3)
  off = np.einsum('ha,cab,wb->chw', bases[0], fitted.coefficients, bases[1]) - goal
  assert np.sqrt((off**2).mean()) < 0.06


@pytest.mark.parametrize('name', ['3x4+II', *(pytest.param(n, marks=pytest.mark.slow) for n in ('6x2', '12x1', '3x4'))])
def test_landmarks_match_their_own_layout_best(beats_mv, name):
  """A page of one layout scores higher with its own landmarks than with any other's."""
  drawn = render.page(jax.random.key(2), jnp.asarray(beats_mv), layout=layouts.make(name), style=looks.competition(), rate_hz=500)
  found = flat_pages.of_page(drawn.image)
  scores = {other: float(template_match.match(found.ink, template_match.template_spectra(other)).score) for other in layouts.LAYOUTS}
  assert max(scores, key=scores.__getitem__) == name and scores[name] > find_page.SURE


@pytest.mark.parametrize('shift', [(40, -26), (300, -96)])
def test_landmarks_say_by_how_much_a_page_has_slipped(page, shift):
  displacement_px = np.broadcast_to(-np.array(shift, float), (*unwarp.SIZE, 2))  # what is found right of its place belongs further left
  match = template_match.match(unwarp.prepare(*flat_pages.flat_of(page, displacement_px)).ink, template_match.template_spectra('3x4+II'))
  np.testing.assert_allclose(match.shift_px, shift, atol=2)


@pytest.fixture(scope='module')
def photo(page):
  """The page seen askew in a larger picture, and its exact lattice: an independent warp by SciPy."""
  plane = np.array([[0.93, -0.05, 110.0], [0.04, 0.95, 60.0], [1e-5, -6e-6, 1.0]])
  back = np.linalg.inv(plane)
  height, width = 1750, 2300
  xy = homography.apply_plane(back, np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1))
  taken = [ndimage.map_coordinates(page[..., c].astype(float), [xy[..., 1] - 0.5, xy[..., 0] - 0.5], order=1, cval=60) for c in range(3)]
  return np.stack(taken, axis=-1).round().astype(np.uint8), np.asarray(homography.apply_plane(plane, TRUE))


@pytest.mark.parametrize('turn', [pytest.param(0, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.slow), 2, 3])
def test_a_picture_in_any_turn_is_found_to_a_third_of_a_px(photo, turn):
  image, true = photo
  turned = np.ascontiguousarray(np.rot90(image, -turn))
  found = find_page.find_page(turned)
  upright = np.asarray(found.lattice)
  off = lattices.off_px(upright, homography.turned(true, turned.shape, turn))
  assert found.status == 'ok' and found.score > find_page.SURE and np.sqrt((off**2).mean()) < 0.33
  assert found.confidence.shape == (45, 57) and (found.confidence >= 0).all() and (found.confidence <= 1).all()


def test_turning_a_lattice_back_agrees_with_turning_the_picture():
  image = np.arange(12 * 20).reshape(12, 20)
  for turn in range(4):
    turned = np.rot90(image, turn)
    x, y = np.meshgrid(np.arange(turned.shape[1]) + 0.5, np.arange(turned.shape[0]) + 0.5)
    back = homography.turned(np.stack([x, y], axis=-1), image.shape, turn)
    np.testing.assert_array_equal(image[back[..., 1].astype(int), back[..., 0].astype(int)], turned)


def test_the_digital_original_is_left_as_it_is(page):
  found = find_page.find_page(page)
  assert found.status == 'ok'
  np.testing.assert_array_equal(found.lattice, TRUE)


def test_a_picture_too_small_to_show_a_grid_fails_with_its_size(page):
  found = find_page.find_page(np.ascontiguousarray(page[::12, ::12]))
  assert found.status == 'fail' and '184 x 142 px' in found.reason


def cloudy(height, width):
  """A picture of nothing, as smooth and as coloured as a natural one: its spectrum falls with the frequency."""
  rng = np.random.default_rng(0)
  f = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
  f[0, 0] = 1
  waves = [np.fft.irfft2(np.exp(2j * np.pi * rng.random(f.shape)) / f**1.1, (height, width)) for _ in range(3)]
  return np.stack([255 * (w - w.min()) / np.ptp(w) for w in waves], axis=-1).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(('kind', 'reason'), [
  ('blank', 'no page'), ('black', 'no page'), ('noise', 'no page'), ('cloudy', 'no page'), ('mirrored', 'no page'),
  ('left half', '% of the page.s traces lie outside'), ('two pages', 'a grid beside it|no page'),
])  # fmt: skip
def test_what_is_not_one_whole_page_is_not_taken_for_one(page, kind, reason):
  desk = cloudy(1900, 4700) // 3 + 90
  desk[100:1800, 50:2250], desk[80:1780, 2400:4600] = page, page
  image = {
    'blank': lambda: np.full((900, 1200, 3), 255, np.uint8), 'black': lambda: np.zeros((900, 1200, 3), np.uint8),
    'noise': lambda: np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8), 'cloudy': lambda: cloudy(1200, 1600),
    'mirrored': lambda: np.ascontiguousarray(page[:, ::-1]), 'left half': lambda: np.ascontiguousarray(page[:, :1100]),
    'two pages': lambda: desk,
  }[kind]()  # fmt: skip
  found = find_page.find_page(image)
  assert found.status in ('review', 'fail') and re.search(reason, found.reason), found.reason


@pytest.mark.slow
@pytest.mark.parametrize('gain_mm_mv', layouts.GAINS_MM_MV)
def test_the_pulses_tell_the_gain(beats_mv, gain_mm_mv):
  drawn = render.page(
    jax.random.key(2), jnp.asarray(beats_mv), layout=layouts.make(gain_mm_mv=gain_mm_mv), style=looks.competition(), rate_hz=500
  )
  found = find_page.find_page(np.asarray(drawn.image * 255).astype(np.uint8))
  assert found.status == 'ok' and found.pulse_mv == pytest.approx(gain_mm_mv / 10, rel=0.02)


@pytest.mark.slow
def test_a_page_is_found_within_the_corners_that_a_person_pointed_to(photo):
  image, true = photo
  rough = true[[0, 0, -1, -1], [0, -1, -1, 0]] + np.array([[9, -7], [-8, 5], [6, 9], [-5, -9]])
  off = lattices.off_px(find_page.within(image, rough).lattice, true)
  assert np.sqrt((off**2).mean()) < 0.33


def test_a_lattice_that_is_given_is_believed_as_far_as_the_picture_s_grid_bears_it_out(photo):
  image, true = photo
  found = find_page.along(image, true)
  assert (found.status, found.reason) == ('ok', '') and np.median(found.confidence) > 0.95 and found.pulse_mv == pytest.approx(1, rel=0.02)
  np.testing.assert_array_equal(found.lattice, true)
  squares = 2 * (true[20, 21] - true[20, 20]) / 5  # two 1 mm squares to the right: the fine lines alone would fit
  moved = find_page.along(image, true + squares)
  assert moved.status == 'review' and moved.reason and np.median(moved.confidence) < 0.2
  with pytest.raises(ValueError, match='shows no page from the front'):
    find_page.along(image, true[:, ::-1])


def test_corners_that_show_no_page_are_refused(page):
  with pytest.raises(ValueError, match='upper left, upper right, lower right, lower left'):
    find_page.within(page, np.array([[0, 0], [0, 1700], [2200, 1700], [2200, 0]]))


@pytest.mark.slow
def test_a_picture_of_108_million_px_is_found_as_exactly(photo):
  image, true = photo
  large = np.ascontiguousarray(np.asarray(Image.fromarray(image).resize((12_000, 9_000), Image.Resampling.BICUBIC)))
  found = find_page.find_page(large)
  off = lattices.off_px(found.lattice, true * np.array([12_000 / image.shape[1], 9_000 / image.shape[0]]))
  assert found.status == 'ok' and np.sqrt((off**2).mean()) < 0.33


def test_pulses_are_measured_within_one_per_cent_and_a_white_page_shows_none(page):
  flat = unwarp.prepare(*flat_pages.flat_of(page, np.zeros((*unwarp.SIZE, 2))))
  heights_mv, clear = template_match.pulses_mv(flat.ink, layout=layouts.make())
  np.testing.assert_allclose(heights_mv, paper.PULSE_MV, atol=0.01)
  assert (clear > find_page.PULSE_CLEAR).all()
  _, clear = template_match.pulses_mv(np.zeros(unwarp.SIZE), layout=layouts.make())
  assert (clear < find_page.PULSE_CLEAR).all()


def phase_of(off_px, pitch_px, *, sure=0.05):
  """What a grid would tell that lies off_px off everywhere, along y and x."""
  ys, xs = (np.arange(pitch_px / 2, size, pitch_px) for size in (paper.HEIGHT_PX, paper.WIDTH_PX))
  z = np.full((2, len(ys), len(xs)), np.exp(2j * np.pi * off_px / pitch_px))
  return grid_phase.PhaseField(z, np.full(z.shape, sure), ys, xs)


@pytest.mark.parametrize('off_px', [0.0, 2.5, -6.0, 9.5, -14.0])
def test_the_5_mm_grid_says_which_fine_line_is_which(off_px):
  """As on a vernier: fine lines tell the rest, the coarse ones how many whole lines to add to it."""
  fine, coarse = phase_of(off_px, paper.MINOR_PX), phase_of(off_px, paper.MAJOR_PX)
  found = grid_phase.offset_px(fine, pitch_px=paper.MINOR_PX) + paper.MINOR_PX * grid_phase.slip(fine, coarse)
  np.testing.assert_allclose(found, off_px, atol=1e-3)


def test_a_5_mm_grid_of_chance_angles_says_nothing_of_slips():
  fine, coarse = phase_of(0.0, paper.MINOR_PX), phase_of(0.0, paper.MAJOR_PX)
  turned = np.exp(2j * np.pi * np.random.default_rng(0).random(coarse.z.shape))
  assert np.abs(grid_phase.slip(fine, coarse._replace(z=turned))).max() == 0


@pytest.mark.parametrize('image', [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32), np.zeros((0, 5, 3), np.uint8), None])
def test_what_is_no_picture_is_refused_by_what_it_is(image):
  with pytest.raises(ValueError, match=r'it must be uint8 \(H, W, 3\)'):
    find_page.find_page(image)
