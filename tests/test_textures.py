"""Random textures: judged by their statistics, by differences, and by scipy's Gaussian."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from ecgjax.drawing import textures

SPAN = ((0.0, 600.0), (0.0, 900.0))
YS, XS = np.arange(0, 600, 5.0, np.float32), np.arange(0, 900, 5.0, np.float32)


@functools.partial(jax.jit, static_argnames=('grain', 'slope'))
def drawn(key, ys, xs, *, grain=(20.0, 30.0), slope=None):
  return textures.at(textures.draw(key, scale_px=grain, span=SPAN), ys, xs, slope=slope)


blur = jax.jit(textures.blur, static_argnames='reach_px')


def test_a_field_has_mean_zero_and_variance_one():
  values = np.stack([drawn(jax.random.key(k), YS, XS) for k in range(20)]).astype(np.float64)
  # 20 x some 700 independent values: one standard deviation of mean and variance is 1 %
  assert values.mean() == pytest.approx(0, abs=0.04) and values.var() == pytest.approx(1, abs=0.04)
  # on the border as well: knots reach beyond the span
  border = np.concatenate([values[:, 0], values[:, -1]], axis=-1)
  assert border.var() == pytest.approx(1, abs=0.35)
  assert stats.kurtosis(values.ravel()) == pytest.approx(0, abs=0.3)  # Gaussian, but for the weights' change between knots


def test_grain_says_how_far_values_hang_together():
  values = np.stack([drawn(jax.random.key(k), YS, XS) for k in range(20)]).astype(np.float64)
  along = lambda lag, axis: (values * np.roll(values, lag, axis=axis)).mean()
  # a B-spline's coefficients four knots apart share nothing, and one step of grain away most is left
  for axis, grain in ((1, 20), (2, 30)):
    assert along(round(0.5 * grain / 5), axis) > 0.75 and abs(along(4 * grain // 5, axis)) < 0.08


def test_smooth_is_a_field_as_coarse_both_ways():
  key = jax.random.key(3)
  got = textures.smooth(key, YS, XS, scale_px=25.0, span=SPAN)
  np.testing.assert_allclose(got, drawn(key, YS, XS, grain=(25.0, 25.0)), atol=1e-4)  # float32 of 900 / 25


@pytest.mark.parametrize('slope', [(1.0, 0.0), (0.0, 1.0), (0.6, -0.8)])
def test_the_slope_is_the_difference_of_values(slope):
  key, step = jax.random.key(1), 0.5
  got = drawn(key, YS, XS, slope=slope)
  at = lambda s: np.asarray(drawn(key, YS + s * step * slope[0], XS + s * step * slope[1]), np.float64)
  # the third derivative is at most 25 / 20^3, of which the difference over 1 px leaves 1 / 24
  np.testing.assert_allclose(got, at(1) - at(-1), atol=3e-4)
  assert np.abs(got).max() > 0.05


def test_a_window_shows_what_the_whole_shows():
  key = jax.random.key(2)
  for slope in (None, (0.6, -0.8)):
    whole, part = drawn(key, YS, XS, slope=slope), drawn(key, YS[20:50], XS[70:110], slope=slope)
    np.testing.assert_allclose(part, whole[20:50, 70:110], atol=1e-6)


def test_the_key_decides():
  assert np.abs(drawn(jax.random.key(1), YS, XS) - drawn(jax.random.key(2), YS, XS)).max() > 1


def test_noise_is_white_with_mean_zero_and_variance_one_and_bounded():
  values = np.asarray(jax.jit(textures.noise, static_argnums=1)(jax.random.key(0), (500, 700)), np.float64)
  assert np.abs(values).max() <= 3.5
  # 350,000 values: a standard deviation of the mean is 0.0017, of the variance 0.0024 or less, of a correlation 0.0017
  assert values.mean() == pytest.approx(0, abs=0.008) and values.var() == pytest.approx(1, abs=0.01)
  for dy, dx in ((0, 1), (1, 0), (1, 1), (0, 2), (3, 5)):
    assert abs((values * np.roll(values, (dy, dx), axis=(0, 1))).mean()) < 0.008, (dy, dx)
  # the sum of four uniform numbers: kurtosis -1.2 / 4
  assert stats.kurtosis(values.ravel()) == pytest.approx(-0.3, abs=0.03) and stats.skew(values.ravel()) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize('sigma', [(0.6, 0.6), (1.2, 0.4), (0.0, 1.5), (2.0, 0.0)])
def test_blur_is_scipys_gaussian_cut_off_at_its_reach(sigma):
  image = np.random.default_rng(0).uniform(size=(23, 31, 3))
  judge = image
  for axis, width in enumerate(sigma):
    if width:
      judge = ndimage.gaussian_filter1d(judge, width, axis=axis, mode='nearest', radius=4)
  got = blur(jnp.asarray(image, jnp.float32), sigma_px=tuple(map(jnp.float32, sigma)), reach_px=4)
  np.testing.assert_allclose(got, judge, atol=2e-6)  # float32


def test_blur_of_sigma_zero_changes_nothing_and_plain_arrays_are_taken():
  image = jnp.asarray(np.random.default_rng(1).uniform(size=(20, 30)), jnp.float32)
  zero = jnp.float32(0)
  np.testing.assert_array_equal(blur(image, sigma_px=(zero, zero), reach_px=4), image)


def test_blur_keeps_a_constant_and_what_is_in_the_middle():
  np.testing.assert_allclose(blur(jnp.full((9, 9, 1), 0.3), sigma_px=(jnp.float32(1.5), jnp.float32(0.7)), reach_px=4), 0.3, atol=1e-6)
  dot = jnp.zeros((21, 21, 1)).at[10, 10].set(1.0)
  assert blur(dot, sigma_px=(jnp.float32(1.5), jnp.float32(0.7)), reach_px=4).sum() == pytest.approx(1, abs=1e-5)


def test_a_ramp_is_flat_outside_and_rises_smoothly_between():
  x = np.linspace(-1, 5, 601)
  got = np.asarray(textures.ramp(jnp.asarray(x, jnp.float32), 1.0, 3.0), np.float64)
  assert (got[x < 1] == 0).all() and (got[x > 3] == 1).all()
  # the only cubic that leaves 0 and reaches 1 with slope 0
  inside = (x > 1) & (x < 3)
  np.testing.assert_allclose(got[inside], np.polyval(np.linalg.solve(
    [[0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 1, 0], [3, 2, 1, 0]], [0, 1, 0, 0]), (x[inside] - 1) / 2), atol=1e-5)  # fmt: skip
  assert (np.diff(got) >= 0).all()
