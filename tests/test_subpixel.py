"""The last px: against known displacements, known noise, and the arithmetic of split halves."""

import flat_pages
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from ecgjax.drawing import looks
from ecgjax.geometry import homography, lattices, paper
from ecgjax.locate import displacement, filters, grid_phase, subpixel, unwarp
from ecgjax.simulate import validation_set

TRUE = lattices.page_lattice()


def test_angles_find_a_small_smooth_displacement_to_a_tenth_of_a_px(page):
  ys, xs = unwarp.centres_px(step_px=1)
  x, y = np.meshgrid(xs, ys)
  displacement_px = np.stack([1.5 * np.sin(y / 300), 1.2 * np.cos(x / 350 + y / 500)], axis=-1)
  found = subpixel.refine(unwarp.prepare(*flat_pages.flat_of(page, displacement_px)), np.zeros(TRUE.shape), step_px=150.0, bending=1e-2)
  off = flat_pages.inner(np.asarray(found) + flat_pages.at_nodes(displacement_px))
  assert np.sqrt((off**2).mean()) < 0.1


@pytest.mark.parametrize('snapped', [True, False])
def test_what_one_neighbourhood_says_of_a_page_in_its_place_is_hardly_off_snapped_or_not(beats_mv, snapped):
  """Lines snapped to px centres jitter by up to 0.5 px; a wave of constant pitch makes that 0.16 px, aliases of thin lines another 0.1."""
  style = looks.competition()._replace(snap=jnp.float32(snapped))
  drawn = validation_set.draw(500)(jax.random.key(2), jnp.asarray(beats_mv), style)
  flat = flat_pages.of_page(drawn, step_px=1)
  phase = subpixel.minor_grid_phase(flat)
  assert rms_off_px(phase) < 0.04


def rms_off_px(phase):
  """Of what each neighbourhood says of a page that lies in its place, below its header."""
  off_px, sure = (np.asarray(a)[:, 40:-10, 10:-10] for a in (grid_phase.offset_px(phase, pitch_px=paper.MINOR_PX), phase.sure))
  return np.sqrt((off_px**2 * sure).sum() / sure.sum())


def test_the_second_harmonic_takes_a_quarter_off_the_noise(page):
  noisy = np.clip(page + np.random.default_rng(0).normal(0, 60, page.shape[:2])[..., None], 0, 255)
  flat = unwarp.prepare(*flat_pages.flat_of(noisy, np.zeros((*page.shape[:2], 2))))
  first = grid_phase.demodulate(flat, pitch_px=paper.MINOR_PX, window=subpixel.WINDOW)
  assert rms_off_px(subpixel.minor_grid_phase(flat)) < 0.75 * rms_off_px(first)


def test_the_second_harmonic_is_not_looked_for_where_it_folds_back(page):
  with pytest.raises(ValueError, match='step_px=1'):
    subpixel.minor_grid_phase(unwarp.prepare(*flat_pages.flat_of(page, np.zeros((*unwarp.SIZE, 2)))))


@pytest.mark.parametrize('sigma_px', [1.2, 2.5, 6.0, 7.9, 8.1, 16.0, 40.0])
def test_a_blur_is_a_gaussian_by_whatever_way_it_is_made(sigma_px):
  noise = np.random.default_rng(0).random(unwarp.SIZE).astype(np.float32)
  judge = ndimage.gaussian_filter(noise, sigma_px / unwarp.STEP_PX, mode='constant', truncate=6)
  off = unwarp.blurred(noise, sigma_px) - judge
  assert np.abs(off).max() < 0.004 * judge.max()  # its tails end at 3.5 sigma
  inner = off[200:-200, 200:-200]
  assert np.abs(inner - inner.mean()).max() < 0.2 * judge[200:-200, 200:-200].std()


@pytest.mark.parametrize('axis', [0, 1])
@pytest.mark.parametrize('lead', [(), (2, 3)])
@pytest.mark.parametrize('sigma_px', [5.9, 700.0])
def test_a_product_that_leaves_zeros_out_is_the_whole_product(axis, lead, sigma_px):
  rng = np.random.default_rng(0)
  weights = filters.gaussian(grid_phase.mesh_px(paper.MINOR_PX)[axis], unwarp.centres_px()[axis], sigma_px)
  weights, a = weights * rng.random((*lead, 1, 1)), rng.random(unwarp.SIZE)
  judge = np.einsum('...ap,pw->...aw' if axis == 0 else '...ap,hp->...ha', weights, a)
  np.testing.assert_allclose(filters.product(filters.banded(weights), a.astype(np.float32), axis=axis), judge, rtol=2e-5, atol=1e-5)


def test_rows_of_zeros_anywhere_in_a_matrix_are_zeros_in_its_product():
  weights, a = np.zeros((30, 40)), np.ones((40, 5))
  weights[13, 39] = weights[2, 0] = 1
  np.testing.assert_array_equal(filters.product(filters.banded(weights), a.astype(np.float32), axis=0), weights @ a)


@pytest.mark.parametrize('share', [0.0, 0.3, 0.5, 0.987, 1.0])
def test_a_quantile_is_what_numpy_says(share):
  a = np.random.default_rng(0).exponential(size=181).astype(np.float32)
  assert filters.quantile(a, share) == np.quantile(a, share, method='inverted_cdf')
  assert filters.quantile(a[:0], share) == 0


def test_the_shades_of_a_picture_are_the_mean_and_the_highest_of_its_colours():
  image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
  np.testing.assert_allclose(unwarp.shades(image), np.stack([image.mean(-1), image.max(-1)]) / 255, atol=1e-6)


def test_the_sums_of_two_halves_are_those_of_the_page(page):
  flat = unwarp.prepare(*flat_pages.flat_of(page, np.zeros((*unwarp.SIZE, 2))))
  board = subpixel._checkerboard()
  some = lambda use: grid_phase.smoothed(flat._replace(use=flat.use * use), pitch_px=paper.MINOR_PX, window=2.5, harmonics=(1,))[0]
  for whole, black, white in zip(some(np.ones_like(board)), some(board), some(1 - board), strict=True):
    np.testing.assert_allclose(black + white, whole, atol=1e-4 * np.abs(whole).max())
    assert np.abs(black - white).max() > 0.01 * np.abs(whole).max()


def test_fine_and_coarse_px_show_the_same_ink_and_the_same_use(page):
  coarse, fine = (unwarp.prepare(*flat_pages.flat_of(page, np.zeros((1700 // n, 2200 // n, 2)))) for n in (2, 1))
  assert fine.lines.shape == page.shape[:2] and fine.ink.shape == coarse.ink.shape == unwarp.SIZE
  np.testing.assert_allclose(fine.ink, coarse.ink, atol=1e-5)
  np.testing.assert_array_equal(fine.use, coarse.use)


def test_a_displacement_beyond_half_a_square_is_told_line_by_line(page):
  """Its angle alone says nothing of whole lines: 6.5 px look like -1.4."""
  ys, xs = unwarp.centres_px(step_px=1)
  x, y = np.meshgrid(xs, ys)
  bump = 6.5 * np.exp(-((x - 1200) ** 2 + (y - 1000) ** 2) / 2 / 160**2)
  displacement_px = np.stack([bump, -bump], axis=-1)
  flat = unwarp.prepare(*flat_pages.flat_of(page, displacement_px))
  phase = subpixel.minor_grid_phase(flat)
  found_px = grid_phase.offset_px(phase, pitch_px=paper.MINOR_PX) + paper.MINOR_PX * subpixel.lines(flat, phase)
  at = np.searchsorted(ys, phase.ys), np.searchsorted(xs, phase.xs)
  off_px = np.asarray(found_px) - np.moveaxis(displacement_px, -1, 0)[::-1][:, at[0]][:, :, at[1]]
  near = (np.abs(phase.ys - 1000) < 250)[:, None] & (np.abs(phase.xs - 1200) < 250)
  assert np.mean(np.abs(off_px[:, near]) < 1) > 0.99
  assert np.mean(np.abs(np.asarray(grid_phase.offset_px(phase, pitch_px=paper.MINOR_PX) - found_px)[:, near]) > 1) > 0.05


def halves_of(share, *, seed=0):
  """What two halves predict of a displacement of rms 1 in noise of variance `share` each, on the mesh of the 1 mm grid, and its phase."""
  rng = np.random.default_rng(seed)
  ys, xs = (np.arange(paper.MINOR_PX / 2, size, paper.MINOR_PX) for size in (paper.HEIGHT_PX, paper.WIDTH_PX))
  true = rng.normal(size=(2, len(ys), len(xs)))
  predicted = [true + rng.normal(size=true.shape) * share**0.5 for _ in range(2)]
  return grid_phase.PhaseField(np.ones(true.shape, complex), np.ones(true.shape), ys, xs), predicted


@pytest.mark.parametrize('noise', [0.0, 0.5, 1.0, 3.0])
def test_as_much_is_believed_as_a_wiener_filter_would(noise):
  """Of the mean of two halves, each with signal 1 and noise n, the share 1 / (1 + n / 2) is signal."""
  phase, predicted = halves_of(noise)
  gain = np.asarray(subpixel.split_half_reliability(phase, predicted, predicted, step_px=80.0))
  np.testing.assert_allclose(gain.mean(), 1 / (1 + noise / 2), atol=0.02)
  assert gain.shape == (2, *(len(k) for k in displacement.knots_px(80.0)))


def test_what_one_half_says_and_the_other_denies_is_not_believed():
  phase, (predicted, _) = halves_of(0.0)
  assert np.abs(subpixel.split_half_reliability(phase, [predicted, predicted], [-predicted, -predicted], step_px=80.0)).max() == 0


def test_a_noisy_page_in_its_place_is_hardly_moved_and_a_clean_one_that_is_not_is(page):
  """The noise alone would bend the page by 0.2 px: what one half of the squares says, the other denies."""
  noisy = np.clip(page + np.random.default_rng(0).normal(0, 60, page.shape[:2])[..., None], 0, 255)
  ys, xs = unwarp.centres_px(step_px=1)
  displacement_px = np.stack(np.broadcast_arrays(0.8 * np.sin(ys[:, None] / 60), 0.8 * np.cos(xs / 60)), axis=-1)
  found = {}
  for name, image, shift in (('noisy', noisy, 0 * displacement_px), ('wavy', page, displacement_px)):
    flat = unwarp.prepare(*flat_pages.flat_of(image, shift))
    found[name] = flat_pages.inner(np.asarray(subpixel.refine(flat, np.zeros(TRUE.shape), step_px=60.0, bending=3e-3)))
  wanted = flat_pages.inner(flat_pages.at_nodes(displacement_px))
  assert found['noisy'].std() < 0.06
  assert np.std(found['wavy'] + wanted) < 0.3 * wanted.std()


@pytest.mark.parametrize('step_px', [60.0, 150.0])
def test_every_spline_has_its_middle_where_its_knot_is(step_px):
  ys, xs = (np.arange(-5 * step_px, size + 5 * step_px) + 0.5 for size in (paper.HEIGHT_PX, paper.WIDTH_PX))
  for weights, at, knots in zip(displacement.bases(ys, xs, step_px=step_px), (ys, xs), displacement.knots_px(step_px), strict=True):
    weights = np.asarray(weights, np.float64)
    np.testing.assert_allclose(at @ weights / weights.sum(0), knots, atol=0.05)


def test_a_fit_to_what_is_no_number_is_given_up_as_a_grid_that_was_lost():
  ys, xs = np.linspace(0, 1700, 40), np.linspace(0, 2200, 50)
  nothing = np.full((2, 40, 50), np.nan)
  part = displacement.Observation(*displacement.bases(ys, xs, step_px=300.0), nothing, nothing)
  with pytest.raises(homography.TrackingLost, match='the grid that was followed is not there'):
    displacement.fit([part], step_px=300.0, bending=1e-2)


@pytest.mark.parametrize(('step_px', 'bending'), [(300.0, 0.0), (500.0, 0.3), (1000.0, 0.3)])
def test_a_fit_by_the_splines_that_overlap_is_the_least_squares_of_all(step_px, bending):
  rng = np.random.default_rng(3)
  ys, xs = (np.sort(rng.uniform(0, size, n)) for size, n in zip(displacement.SIZE_PX, (40, 50), strict=True))
  down, across = displacement.bases(ys, xs, step_px=step_px)
  goal, weight = rng.normal(size=(2, 40, 50)), rng.uniform(0.1, 1, (2, 40, 50))
  part = displacement.Observation(down, across, goal, weight)
  found = displacement.fit([part], step_px=step_px, bending=bending, ridge=1e-2, rounds=1).coefficients
  rows = np.kron(down, across)  # (h w, ny nx)
  squares = []  # of second differences down, across, and in both ways
  for orders in ((2, 0), (0, 2), (1, 1), (1, 1)):
    differences = np.kron(*(np.diff(np.eye(base.shape[1]), order, axis=0) for base, order in zip((down, across), orders, strict=True)))
    squares.append(differences.T @ differences)
  for axis in (0, 1):
    normal = (rows.T * weight[axis].ravel()) @ rows
    penalty = np.trace(normal) / len(normal) * (1e-2 * np.eye(len(normal)) + bending * sum(squares))
    judge = np.linalg.solve(normal + penalty, rows.T @ (weight[axis] * goal[axis]).ravel())
    np.testing.assert_allclose(np.asarray(found[axis]).ravel(), judge, atol=1e-7 * np.abs(judge).max())
