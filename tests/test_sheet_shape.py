"""Bent sheets and what a camera sees of them: judged by integrated arc lengths, a pinhole camera and splines in NumPy float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial.transform import Rotation

from ecgjax.damage import aging, camera, sheet_shape
from ecgjax.geometry import homography, lattices

FRAME_PX = (1700, 2200)
PITCH_PX = 5 * 200 / 25.4
STILL = {'tilt_deg': 0.0, 'roll_deg': 0.0, 'fill': 0.0, 'zoom': 1.0, 'shift_px': 0.0, 'lens': 0.0}
bent = {name: jax.jit(getattr(sheet_shape, name)) for name in ('curl', 'wave', 'crumple', 'feed')}


@functools.partial(jax.jit, static_argnames='frame_px')
def seen(key, surface, options, *, frame_px=FRAME_PX):
  return sheet_shape.see(key, surface, frame_px=frame_px, **options)


@functools.partial(jax.jit, static_argnames='size_px')
def inverted(view, origin_px, *, size_px):
  return sheet_shape.page_px(view, size_px=size_px, origin_px=origin_px)


def sees(surface, *, key=0, frame_px=FRAME_PX, **options):
  return seen(jax.random.key(key), surface, {k: jnp.float32(v) for k, v in {**STILL, **options}.items()}, frame_px=frame_px)


def knots():
  """The node rows and columns, counted by hand: the page's 44 and 56 lines and its border, and three squares beyond each edge."""
  rows = [0.0, *(1700 - PITCH_PX * k for k in range(43, -1, -1))]
  cols = [*(PITCH_PX * k for k in range(56)), 2200.0]
  out = PITCH_PX * np.arange(1, 4)
  return tuple(np.concatenate([axis[0] - out[::-1], axis, axis[-1] + out]) for axis in (rows, cols))


def sheet():
  rows, cols = knots()
  return np.stack([*np.meshgrid(cols, rows), np.zeros((51, 63))], axis=-1)


@functools.cache
def strong():
  """A strongly bent view: curled, wet, tilted and seen through a bad lens."""
  ks = jax.random.split(jax.random.key(4), 3)
  surface = bent['curl'](ks[0], sheet_shape.flat(), height_px=jnp.float32(35.0))
  surface = bent['crumple'](ks[2], bent['wave'](ks[1], surface, height_px=jnp.float32(15.0)), shift_px=jnp.float32(1.5))
  return sees(surface, key=5, tilt_deg=20, roll_deg=6, fill=0.95, lens=0.02)


@functools.cache
def strong_pages():
  return np.asarray(inverted(strong(), jnp.zeros(2), size_px=FRAME_PX), np.float64)


def spline(lattice, xy):
  """(N, 2) image px of (N, 2) page px by two rounds of scipy's Hermite splines, in float64."""
  rows, cols = knots()
  across = CubicHermiteSpline(cols, lattice, np.gradient(lattice, cols, axis=1), axis=1)
  return np.array([CubicHermiteSpline(rows, line, np.gradient(line, rows, axis=0))(y) for line, y in
                   zip(np.moveaxis(across(xy[:, 0]), 1, 0), xy[:, 1], strict=True)])  # fmt: skip


def test_nodes_reach_three_squares_beyond_the_page():
  for got, wanted in zip(sheet_shape.nodes_px(), knots(), strict=True):
    np.testing.assert_allclose(got, wanted, atol=1e-4)
  np.testing.assert_allclose(sheet_shape.flat(), sheet(), atol=2e-4)


@pytest.mark.parametrize('name', ['curl', 'wave', 'crumple', 'feed'])
def test_a_bend_of_zero_leaves_the_sheet_as_it_is(name):
  option = 'height_px' if name in ('curl', 'wave') else 'shift_px'
  np.testing.assert_allclose(bent[name](jax.random.key(1), sheet_shape.flat(), **{option: jnp.float32(0)}), sheet(), atol=2e-4)


@pytest.mark.parametrize('key', range(4))
def test_a_curled_sheet_is_stretched_nowhere(key):
  height = 40.0
  surface = np.asarray(bent['curl'](jax.random.key(key), sheet_shape.flat(), height_px=jnp.float32(height)), np.float64)
  for axis, knot in enumerate(knots()):
    curve = CubicHermiteSpline(knot, surface, np.gradient(surface, knot, axis=axis), axis=axis)
    fine = np.linspace(knot[1], knot[-2], 4001)
    steps = np.linalg.norm(np.diff(curve(fine), axis=axis), axis=-1)  # ways over the sheet, along the curves through its nodes
    # uncorrected a step would be up to (40 * 1.6 * 2 pi / 2500)^2 / 2 = 1.3 % longer; left is an eighth of the slope's fourth power
    np.testing.assert_allclose(steps / np.diff(fine)[0], 1, atol=2e-4)
    np.testing.assert_allclose(steps.sum(axis), knot[-2] - knot[1], rtol=1e-4)
  assert np.ptp(surface[..., 2]) > 0.3 * height


def test_a_curl_is_a_cylinder_and_leaves_the_centre():
  surface = np.asarray(bent['curl'](jax.random.key(2), sheet_shape.flat(), height_px=jnp.float32(30.0)), np.float64)
  rows, cols = knots()
  y, x, z = rows - 850, cols - 1100, surface[..., 2]
  moved = surface[..., :2] - sheet()[..., :2]
  direction = np.linalg.svd(moved.reshape(-1, 2))[2][0]
  np.testing.assert_allclose(moved @ [direction[1], -direction[0]], 0, atol=1e-3)
  t = np.add.outer(y * direction[1], x * direction[0]).ravel()
  # along the cylinder's axis nothing changes: nodes sorted by t lie on one curve, whose slope is at most rise * wave
  order = np.argsort(t)
  steps = np.abs(np.diff(z.ravel()[order]))
  assert (steps <= 30 * 1.6 * 2 * np.pi / 2500 * np.diff(t[order]) + 1e-3).all()
  centre = ndimage.map_coordinates(z, [[np.interp(0, y, np.arange(51))], [np.interp(0, x, np.arange(63))]], order=1)
  assert abs(centre[0]) < 0.1


def rms(a):
  return np.sqrt((np.asarray(a, np.float64) ** 2).mean())


def many(name, count=24, **options):
  """(count, 51, 63, 3) displacements of as many keys."""
  bent = jax.jit(jax.vmap(lambda key: getattr(sheet_shape, name)(key, sheet_shape.flat(), **options)))
  sheets = bent(jax.random.split(jax.random.key(0), count))
  return np.asarray(sheets, np.float64) - sheet()


def test_waves_are_as_high_as_said_and_a_tenth_as_wide():
  moved = many('wave', height_px=8.0)
  # 24 sheets of some 40 independent bumps each: 3 %, at four standard deviations 12 %
  assert rms(moved[..., 2]) == pytest.approx(8, rel=0.12)
  assert rms(moved[..., 0]) == pytest.approx(0.8, rel=0.12) and rms(moved[..., 1]) == pytest.approx(0.8, rel=0.12)


def test_crumpling_shifts_by_as_much_as_said():
  moved = many('crumple', shift_px=1.5)
  assert rms(moved[..., 0]) == pytest.approx(1.5, rel=0.08) and rms(moved[..., 1]) == pytest.approx(1.5, rel=0.08)
  assert rms(moved[..., 2]) == pytest.approx(4.5, rel=0.08)


def test_a_feed_moves_rows_as_rows_and_columns_as_columns():
  moved = many('feed', count=96, shift_px=2.0)
  np.testing.assert_allclose(moved[..., 1], np.broadcast_to(moved[..., :1, 1], moved.shape[:-1]), atol=3e-4)
  np.testing.assert_allclose(moved[..., 0], np.broadcast_to(moved[:, :1, :, 0], moved.shape[:-1]), atol=3e-4)
  np.testing.assert_allclose(moved[..., 2], 0)
  # a row has only some 5 to 8 independent numbers, 96 sheets give 4 %
  assert rms(moved[..., 1]) == pytest.approx(2, rel=0.16) and rms(moved[..., 0]) == pytest.approx(1, rel=0.16)


def test_looking_straight_with_no_option_shows_the_page_lattice():
  view = sees(sheet_shape.flat())
  np.testing.assert_allclose(view.page_lattice, lattices.page_lattice(), atol=1e-3)
  np.testing.assert_allclose(view.lattice, sheet()[..., :2], atol=1e-3)


def test_a_scanner_turns_shifts_and_scales():
  view = sees(sheet_shape.flat(), key=3, roll_deg=5, zoom=0.8, shift_px=30)
  a, b = np.asarray(view.lattice, np.float64).reshape(-1, 2), sheet()[..., :2].reshape(-1, 2)
  fit, *_ = np.linalg.lstsq(np.column_stack([b - [1100, 850], np.ones(len(b))]), a, rcond=None)
  angle = np.degrees(np.arctan2(fit[0, 1], fit[0, 0]))
  assert 0.01 < abs(angle) <= 5
  np.testing.assert_allclose(fit[:2], 0.8 * Rotation.from_euler('z', -angle, degrees=True).as_matrix()[:2, :2], atol=1e-5)
  assert (np.abs(fit[2] - [1100, 850]) <= 30).all() and np.abs(fit[2] - [1100, 850]).max() > 1


@pytest.mark.parametrize('key', range(3))
def test_tilted_sheets_are_seen_as_by_a_pinhole_camera(key):
  """Distance, directions, scale and place are found by least squares; a pinhole camera in float64 must then agree everywhere."""
  from scipy.optimize import least_squares

  rng = np.random.default_rng(key)
  surface = sheet() + np.stack([0 * sheet()[..., 0], 0 * sheet()[..., 0], 40 * np.sin(sheet()[..., 0] / 300 + key)], -1)
  surface[..., 2] += rng.normal() * sheet()[..., 1] / 50
  view = sees(jnp.asarray(surface, jnp.float32), key=key, tilt_deg=25, roll_deg=8, fill=0.9)
  lattice = np.asarray(view.lattice, np.float64)

  def pinhole(p, points):
    turned = (points - [1100, 850, 0]) @ Rotation.from_rotvec(p[:3]).as_matrix().T
    eye = 4000 * np.exp(p[3])
    return np.exp(p[4]) * eye * turned[..., :2] / (eye - turned[..., 2:]) + 1000 * p[5:]

  fit = least_squares(lambda p: (pinhole(p, surface) - lattice).ravel(), [0, 0, 0, 0, 0, 1.1, 0.85], x_scale='jac')
  np.testing.assert_allclose(pinhole(fit.x, surface), lattice, atol=5e-3)  # float32 of 2,000 px, in a few steps
  assert 1.3 * 2200 <= 4000 * np.exp(fit.x[3]) <= 2.6 * 2200
  turn = Rotation.from_rotvec(fit.x[:3]).as_matrix()
  assert 0.5 < np.degrees(np.arccos(turn[2, 2])) <= 25
  # the plane is that camera's view of the points with no height
  flat = sheet()
  plane = np.asarray(homography.apply_plane(view.plane, jnp.asarray(flat[..., :2], jnp.float32)))
  np.testing.assert_allclose(plane, pinhole(fit.x, flat), atol=5e-3)


@pytest.mark.parametrize('fill', [0.8, 0.995])
@pytest.mark.parametrize('key', range(4))
def test_a_sheet_fills_the_frame_as_far_as_said_and_stays_inside(key, fill):
  size = np.array([900.0, 700.0])
  lattice = np.asarray(sees(sheet_shape.flat(), key=key, frame_px=(700, 900), tilt_deg=25, roll_deg=10, fill=fill).lattice)
  low, high = lattice.min((0, 1)), lattice.max((0, 1))
  assert ((high - low) / size).max() == pytest.approx(fill, abs=1e-4)
  assert (low > -1e-2).all() and (high < size + 1e-2).all()


def test_a_lens_moves_points_along_the_radius_by_its_share_of_the_squared_radius():
  flat = sheet_shape.flat()
  straight, through = (np.asarray(sees(flat, key=7, tilt_deg=9, fill=0.9, lens=lens).lattice, np.float64) for lens in (0, 0.03))
  radius = (straight - [1100, 850]) / np.hypot(1100, 850)  # 1 in the corner of the frame
  wanted = [1100, 850] + (straight - [1100, 850]) * (1 + 0.03 * (radius**2).sum(-1, keepdims=True))
  np.testing.assert_allclose(through, wanted, atol=2e-3)


def test_the_inverse_of_a_strongly_bent_view_is_exact():
  pages, rng = strong_pages(), np.random.default_rng(0)
  row, column = rng.integers(0, FRAME_PX[0], 4000), rng.integers(0, FRAME_PX[1], 4000)
  points = pages[row, column]
  inside = ((points > [0, 0]) & (points < [2200, 1700])).all(-1)
  assert inside.mean() > 0.5
  centres, points = np.stack([column, row], axis=-1)[inside] + 0.5, points[inside]
  judge = spline(np.asarray(strong().lattice, np.float64), points)
  # the page's lattice ends at its border, where a spline of its own takes a one-sided slope: compared from the next node on
  deep = ((points > 40) & (points < [2160, 1660])).all(-1)
  cut = np.asarray(lattices.image_px(strong().page_lattice, jnp.asarray(points, jnp.float32)))
  for name, error in (('all knots', judge - centres), ('cut', (cut - centres)[deep]), ('cut at the border', (cut - centres)[~deep])):
    error = np.linalg.norm(error, axis=-1)
    print(f'{name}: rms {rms(error):.4f} px, worst {error.max():.4f} px')
    assert rms(error) < (0.05 if 'border' in name else 0.01) and error.max() < (0.15 if 'border' in name else 0.05), name


def test_a_part_of_the_inverse_is_the_inverse_of_the_part():
  part = np.asarray(inverted(strong(), jnp.array([701.0, 333.0]), size_px=(240, 320)))
  whole = strong_pages()[333:573, 701:1021]
  # both interpolate between px of their own, 16 px apart
  assert rms(part - whole) < 0.02 and np.abs(part - whole).max() < 0.15


@functools.cache
def exposed():
  """A strongly bent sheet of smooth colours: its own float64 layers and the shot of it."""
  rng = np.random.default_rng(6)
  image = ndimage.gaussian_filter(rng.uniform(size=(1700, 2200, 3)), (2, 2, 0))
  image = np.clip(0.5 + 4 * (image - 0.5), 0.05, 0.95)
  sheet = aging.lay(jnp.asarray(image, jnp.float32), paper_rgb=jnp.array([0.9, 0.8, 0.7]))
  size, origin = (500, 900), np.array([0.0, 0.0])
  options = {'frame_px': FRAME_PX, 'size_px': size, 'shrink': 1.0}
  shot = jax.jit(functools.partial(camera.expose, **options))(sheet, strong(), origin_px=jnp.asarray(origin, jnp.float32))
  layers = np.full((1828, 2328, 3), [0.9, 0.8, 0.7])
  layers[64:-64, 64:-64] = image
  return layers, jax.tree.map(lambda a: np.asarray(a, np.float64), shot)


def keys(layers, xy):
  """(N, 3) by Keys' cubic convolution (a = -0.5), tap by tap in float64; 0 outside."""
  weight = lambda t: np.where(t < 1, 1.5 * t**3 - 2.5 * t**2 + 1, np.where(t < 2, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2, 0))
  total, padded = 0, np.pad(layers, ((4, 4), (4, 4), (0, 0)))
  for dy in range(-1, 3):
    for dx in range(-1, 3):
      column, row = np.floor(xy[:, 0] - 0.5).astype(int) + dx, np.floor(xy[:, 1] - 0.5).astype(int) + dy
      w = weight(np.abs(column + 0.5 - xy[:, 0])) * weight(np.abs(row + 0.5 - xy[:, 1]))
      total = total + w[:, None] * padded[np.clip(row, -4, layers.shape[0] + 3) + 4, np.clip(column, -4, layers.shape[1] + 3) + 4]
  return total


def test_a_picture_shows_the_sheets_own_px_by_keys_cubic():
  layers, shot = exposed()
  rng = np.random.default_rng(1)
  row, column = rng.integers(0, 500, 300), rng.integers(0, 900, 300)
  on_sheet = shot.page_px[row, column] + 64
  assert ((on_sheet > 0).all(-1)).mean() > 0.6
  judge = np.clip(keys(layers, on_sheet), 0, 1)
  # page px are float32 of up to 2,000: good to 1e-4 px, and the colours change by up to 0.3 a px
  np.testing.assert_allclose(shot.image[row, column], judge, atol=2e-4)
  at = on_sheet.T[::-1] - 0.5
  spline3 = [ndimage.map_coordinates(layers[..., k], at, order=3, mode='constant') for k in range(3)]
  deep = (on_sheet > 3).all(-1)
  assert rms((shot.image[row, column] - np.stack(spline3, -1))[deep]) < 0.02  # another cubic: near, not equal


def test_beyond_the_sheet_it_is_black_and_nothing_is_there():
  _, shot = exposed()
  outside = (shot.page_px < -68).any(-1)
  inside = ((shot.page_px > -60) & (shot.page_px < [2260, 1760])).all(-1)
  assert outside.sum() > 1000 and inside.sum() > 1000
  assert shot.there[outside].max() == 0 and shot.image[outside].max() == 0
  np.testing.assert_allclose(shot.there[inside], 1, atol=1e-5)
  np.testing.assert_allclose(shot.xs[:3], (np.arange(3) + 0.5) / 2200, atol=1e-6)
