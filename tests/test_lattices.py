"""Lattices and strips: judged by closed forms, by scipy's splines and by a slow float64 copy of the cubic kernel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from scipy import ndimage
from scipy.interpolate import CubicHermiteSpline

from ecgjax.geometry import interpolation, lattices, layouts, paper

FRAME = lattices.frame(layouts.make(), rate_hz=250, height_px=640)
SMALL = lattices.Frame(rate_hz=50, height_px=64, width_px=512)
WINDOW = 64  # columns cut at once where the whole strip would be slow


sample = jax.jit(interpolation.sample, static_argnames='shrink')


@pytest.fixture(scope='module')
def ramp_page():
  """A page whose px hold their own page x and y in units of the page's width."""
  y, x = np.mgrid[0 : paper.HEIGHT_PX, 0 : paper.WIDTH_PX] + 0.5
  return jnp.asarray(np.stack([x, y], -1) / 2200.0, jnp.float32)


@functools.partial(jax.jit, static_argnames=('page', 'frame', 'count'))
def window(image, lattice, first, *, page, frame, count):
  return lattices.cut(image, lattice, layout=page, frame=frame, window=(first, count))


def test_between_four_px_is_what_scipy_says_and_beyond_the_border_is_the_border():
  rng = np.random.default_rng(0)
  plane = rng.random((30, 40), np.float32)
  x_px, y_px = rng.uniform(-5, 45, (2, 500))
  judge = ndimage.map_coordinates(plane, [y_px - 0.5, x_px - 0.5], order=1, mode='nearest')
  np.testing.assert_allclose(interpolation.linear(plane, jnp.asarray(x_px), jnp.asarray(y_px)), judge, atol=2e-5)


def test_strips_cut_some_lines_at_a_time_are_those_cut_at_once(ramp_page):
  cut = jax.jit(functools.partial(lattices.cut, layout=layouts.make(), frame=SMALL), static_argnames='lines')
  at_once = cut(ramp_page, lattices.page_lattice())
  assert at_once.shape == (4, SMALL.height_px, SMALL.width_px, 2) and float(at_once.std()) > 0.1
  np.testing.assert_allclose(cut(ramp_page, lattices.page_lattice(), lines=16), at_once, atol=1e-6)


def test_nodes_are_the_major_lines_and_the_border():
  rows, cols = lattices.nodes_px()
  assert lattices.page_lattice().shape == (45, 57, 2)
  # 44 horizontal lines counted from the bottom edge, and the top edge; vertical lines from the left edge, and the right edge
  np.testing.assert_allclose(rows[1:], [1700 - 39.3700787 * k for k in range(43, -1, -1)], atol=1e-4)
  np.testing.assert_allclose(cols[:-1], [39.3700787 * k for k in range(56)], atol=1e-4)
  assert rows[0] == cols[0] == 0 and rows[-1] == 1700 and cols[-1] == 2200


def test_page_lattice_holds_x_then_y():
  rows, cols = lattices.nodes_px()
  np.testing.assert_allclose(lattices.page_lattice()[7, 11], [cols[11], rows[7]], rtol=1e-6)


@pytest.mark.parametrize('axis', [0, 1])
def test_spline_matches_scipys_hermite_with_numpys_slopes(axis):
  knots = lattices.nodes_px()[axis]
  values = np.random.default_rng(axis).normal(size=len(knots))
  at = np.random.default_rng(2).uniform(knots[0], knots[-1], 500)
  judge = CubicHermiteSpline(knots, values, np.gradient(values, knots))(at)
  np.testing.assert_allclose(lattices.spline_weights(knots, at) @ values, judge, atol=1e-12)


def test_spline_passes_through_its_knots():
  knots = lattices.nodes_px()[0]
  np.testing.assert_allclose(lattices.spline_weights(knots, knots), np.eye(len(knots)), atol=1e-12)


def test_spline_is_exact_for_lines_even_beyond_the_ends():
  knots = lattices.nodes_px()[0]
  at = np.linspace(-300, 2000, 777)
  np.testing.assert_allclose(lattices.spline_weights(knots, at) @ (3 - 0.7 * knots), 3 - 0.7 * at, atol=1e-9)


def test_spline_is_exact_for_parabolas_inside():
  knots = lattices.nodes_px()[0]
  at = np.linspace(knots[1], knots[-2], 777)
  np.testing.assert_allclose(lattices.spline_weights(knots, at) @ (knots**2), at**2, rtol=1e-10)


@pytest.mark.parametrize('shrink', [(1.0, 1.0), (1.7, 1.0), (1.0, 2.4)])
def test_sample_matches_a_slow_float64_copy(shrink):
  rng = np.random.default_rng(0)
  image = rng.uniform(size=(17, 23))
  points = rng.uniform([-2, -2], [25, 19], size=(60, 2))
  judge = [reference.keys_cubic(image.tolist(), x, y, shrink=shrink) for x, y in points]
  got = sample(jnp.asarray(image, jnp.float32)[..., None], jnp.asarray(points, jnp.float32), shrink=shrink)[:, 0]
  np.testing.assert_allclose(got, judge, atol=5e-6)


def test_sampling_at_px_centres_returns_the_px():
  image = np.random.default_rng(1).uniform(size=(9, 12, 2)).astype(np.float32)
  y, x = np.mgrid[0:9, 0:12] + 0.5
  np.testing.assert_allclose(sample(jnp.asarray(image), jnp.stack([x, y], -1)), image, atol=1e-6)


@pytest.mark.parametrize('shrink', [(1.0, 1.0), (2.0, 1.5)])
def test_a_ramp_and_a_constant_are_reproduced(shrink):
  y, x = np.mgrid[0:40, 0:50] + 0.5
  image = jnp.asarray(np.stack([0.02 * x - 0.01 * y, np.full_like(x, 0.25)], -1), jnp.float32)
  at = np.random.default_rng(2).uniform([6, 6], [44, 34], (200, 2))
  got = sample(image, jnp.asarray(at, jnp.float32), shrink=shrink)
  # a widened kernel has a ripple in its first moment; 0.02 px of it is far below what a trace can show
  tolerance = 1e-6 if shrink == (1.0, 1.0) else 0.02 * 0.03
  np.testing.assert_allclose(got[:, 0], 0.02 * at[:, 0] - 0.01 * at[:, 1], atol=tolerance)
  np.testing.assert_allclose(got[:, 1], 0.25, atol=1e-6)


def test_sample_reads_bytes_as_shares_and_zero_outside():
  image = jnp.full((8, 8, 1), 51, jnp.uint8)
  points = jnp.array([[4.0, 4.0], [-9.0, 4.0], [4.0, 30.0]])
  np.testing.assert_allclose(sample(image, points)[:, 0], [0.2, 0, 0], atol=1e-6)


def test_moving_the_image_moves_what_is_sampled():
  image = jnp.asarray(np.random.default_rng(3).uniform(size=(30, 40, 1)), jnp.float32)
  at = jnp.asarray(np.random.default_rng(4).uniform(8, 20, (50, 2)), jnp.float32)
  after = jnp.roll(image, (3, 5), axis=(0, 1))
  np.testing.assert_allclose(sample(after, at + jnp.array([5, 3])), sample(image, at), atol=2e-6)


def test_a_moved_page_with_its_lattice_moved_gives_the_same_strip():
  image = jnp.asarray(np.random.default_rng(5).uniform(size=(paper.HEIGHT_PX, paper.WIDTH_PX, 1)), jnp.float32)
  lattice = lattices.page_lattice()
  options = {'page': layouts.make(), 'frame': SMALL, 'count': WINDOW}
  before = window(image, lattice, 200, **options)
  after = window(jnp.roll(image, (4, 7), axis=(0, 1)), lattice + np.array([7, 4], np.float32), 200, **options)
  # f32 coordinates near 2000 px are good to 1.2e-4 px, and noise changes by about 1 per px
  np.testing.assert_allclose(after, before, atol=2e-3)


@pytest.mark.parametrize(('speed', 'gain'), [(25.0, 10.0), (50.0, 10.0), (25.0, 5.0), (25.0, 20.0)])
def test_columns_are_seconds_and_rows_are_millivolts_at_every_speed_and_gain(ramp_page, speed, gain):
  page = layouts.make(speed_mm_s=speed, gain_mm_mv=gain)
  frame = lattices.frame(page, rate_hz=250, height_px=320)
  first, count = 300, WINDOW
  strips = np.asarray(window(ramp_page, lattices.page_lattice(), first, page=page, frame=frame, count=count), np.float64) * 2200
  second = (np.arange(first, first + count) - frame.margin_px) / 250
  x = 118.110 + second * speed / 25.4 * 200
  mv = (160 - (np.arange(320) + 0.5)) / 78.740
  y = np.array(page.zeros_px)[:, None, None] - mv[:, None] * gain / 25.4 * 200
  inside = np.broadcast_to((y > 3) & (y < paper.HEIGHT_PX - 3), strips.shape[:3])  # a px nearer to the edge mixes with the 0 outside
  assert inside.mean() > 0.8
  np.testing.assert_allclose(strips[..., 0][inside], np.broadcast_to(x, inside.shape)[inside], atol=2e-2)
  np.testing.assert_allclose(strips[..., 1][inside], np.broadcast_to(y, inside.shape)[inside], atol=2e-2)


def test_a_window_is_a_slice_of_the_whole_cut(ramp_page):
  lattice = lattices.page_lattice() + np.random.default_rng(6).normal(size=(45, 57, 2)).astype(np.float32)
  whole = jax.jit(lambda image: lattices.cut(image, lattice, layout=layouts.make(), frame=SMALL))(ramp_page)
  part = window(ramp_page, lattice, 123, page=layouts.make(), frame=SMALL, count=WINDOW)
  assert whole.shape == (4, SMALL.height_px, SMALL.width_px, 2)
  np.testing.assert_allclose(part, whole[:, :, 123 : 123 + WINDOW], atol=1e-5)


def test_the_strip_follows_the_lattice_differentiably(ramp_page):
  lattice = jnp.asarray(lattices.page_lattice())
  tiny = lattices.Frame(rate_hz=50, height_px=16, width_px=32)

  cut = lambda lattice: lattices.cut(ramp_page, lattice, layout=layouts.make(), frame=tiny)
  weights = np.random.default_rng(8).normal(size=(4, 16, 32, 2))
  strips, slope = jax.jit(cut), jax.jit(jax.grad(lambda lattice: (cut(lattice) * weights).sum()))(lattice)
  assert np.isfinite(slope).all()
  push = np.float32(np.random.default_rng(7).normal(size=lattice.shape))
  # on a ramp the strip is linear in the lattice, so a wide step is exact up to rounding
  difference = (np.float64(strips(lattice + 2 * push)) - np.float64(strips(lattice - 2 * push))) / 4
  assert float((slope * push).sum()) == pytest.approx((difference * weights).sum(), rel=1e-2)


def test_frame_turns_millivolts_and_seconds_into_px_and_back():
  mv = np.linspace(-4, 4, 9)
  np.testing.assert_allclose(FRAME.millivolts(FRAME.rows_px(mv)), mv, atol=1e-12)
  assert FRAME.rows_px(0.0) == 320 and FRAME.rows_px(1.0) == pytest.approx(320 - 78.7402, abs=1e-4)
  np.testing.assert_allclose(FRAME.columns_px(FRAME.times_s()), np.arange(FRAME.width_px), atol=1e-9)


@pytest.mark.parametrize('rate', [250, 500])
@pytest.mark.parametrize('speed', layouts.SPEEDS_MM_S)
def test_a_frame_shows_the_whole_row_its_pulse_and_a_margin(rate, speed):
  page = layouts.make(speed_mm_s=speed)
  frame = lattices.frame(page, rate_hz=rate, height_px=640)
  times = frame.times_s()
  assert frame.width_px % 64 == 0
  assert times[0] <= -paper.PULSE_S and times[-1] >= page.seconds + 0.2
  np.testing.assert_allclose(np.diff(times), 1 / rate, atol=1e-12)


def test_coordinates_say_how_high_and_when():
  strips = jnp.zeros((2, FRAME.height_px, 10, 3))
  got = np.asarray(lattices.with_coordinates(strips, frame=FRAME, first=100))
  assert got.shape == (2, 640, 10, 5)
  assert got[0, 0, 0, 3] == pytest.approx(1 - 1 / 640) and got[1, -1, 0, 3] == pytest.approx(-1 + 1 / 640)
  np.testing.assert_allclose(got[..., 3] + got[:, ::-1, :, 3], 0, atol=1e-6)
  np.testing.assert_allclose(got[0, 0, :, 4], (np.arange(100, 110) - FRAME.width_px / 2) / 1250, atol=1e-6)


def test_points_go_where_cut_samples_them():
  # a picture whose colours are its own coordinates: what a strip shows is the place that it was cut from
  rng = np.random.default_rng(5)
  lattice = (lattices.page_lattice() * 0.9 + 40 + rng.normal(0, 2, (45, 57, 2))).astype(np.float32)
  y, x = np.mgrid[:1700, :2200] + 0.5
  image = np.stack([x, y], axis=-1).astype(np.float32)
  page = layouts.make()
  frame = lattices.frame(page, rate_hz=250, height_px=64)
  strips = np.asarray(lattices.cut(image, lattice, layout=page, frame=frame, window=(500, 32)))
  times = frame.times_s()[500:532]
  for h in (0, 20, 63):
    mv = jnp.full((4, 32), frame.millivolts(h + 0.5), jnp.float32)
    points = lattices.image_px(lattice, page.page_px(jnp.asarray(times, jnp.float32), mv))
    np.testing.assert_allclose(strips[:, h], points, atol=2e-3)


def test_traced_spline_weights_are_the_host_ones():
  knots = lattices.nodes_px()[0]
  at = np.random.default_rng(1).uniform(-50, 1750, 200)
  host, device = lattices.spline_weights(knots, at), jax.jit(lambda a: lattices.spline_weights(knots, a))(jnp.asarray(at, jnp.float32))
  np.testing.assert_allclose(device, host, atol=2e-4)


@pytest.mark.parametrize('scale', [0.4, 1.0, 1.47])
def test_the_scale_of_a_lattice_is_image_px_per_page_px(scale):
  turned = lattices.page_lattice() @ np.array([[0.8, 0.6], [-0.6, 0.8]]) * scale + 300
  assert lattices.image_scale(turned) == pytest.approx(scale, rel=1e-5)


def test_strips_cut_by_cells_hold_the_same_px(page):
  from ecgjax.networks import unet

  how = {'layout': layouts.make(), 'frame': lattices.Frame(500, 640, 5248), 'window': (700, 64), 'lines': 40}
  lattice = lattices.page_lattice() + 0.3
  plain = lattices.cut(page, lattice, **how)
  for cell in ((4, 4), (4, 8)):
    # places are rounded in another order
    np.testing.assert_allclose(lattices.cut(page, lattice, **how, cell=cell), unet.to_depth(plain, cell), atol=1e-3)
