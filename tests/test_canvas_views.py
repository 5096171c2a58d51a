"""Canvases: their truth against the picture they are made of, and the fit of the plane map against known homographies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.geometry import paper
from ecgjax.locate import canvases, homography_fit
from ecgjax.networks import page_net
from ecgjax.training import canvas_views, losses

SIZE = 64


def picture():
  """A picture whose px say where they are: (48, 64, 3), and the page place that each shows."""
  ys, xs = np.meshgrid(np.arange(48) + 0.5, np.arange(64) + 0.5, indexing='ij')
  page_px = np.stack([xs * paper.WIDTH_PX / 64, ys * paper.HEIGHT_PX / 48], axis=-1).astype(np.float32)
  image = np.stack([xs / 64, ys / 48, np.ones_like(xs)], axis=-1).astype(np.float32)
  return jnp.asarray(image), jnp.asarray(page_px)


view_of = jax.jit(lambda key: canvas_views.view(key, *picture(), size_px=SIZE))


@pytest.mark.parametrize('seed', range(6))
def test_a_view_shows_at_every_cell_the_part_of_the_page_that_it_says(seed):
  view = view_of(jax.random.key(seed))
  cells = np.asarray(view.canvas).reshape(SIZE // 4, 4, SIZE // 4, 4, 3).mean((1, 3))  # what the px of a cell show on average
  inside = np.asarray(view.on_page) & (cells[..., 2] > 0.999)
  place_px = cells[..., :2] * [paper.WIDTH_PX, paper.HEIGHT_PX]
  off = np.abs(place_px - canvas_views.to_page_px(np.asarray(view.place)))[inside]
  assert inside.sum() > 30 and off.max() < 45  # a px of this small picture is 35 page px


def test_as_many_counter_clockwise_turns_as_a_view_says_make_it_upright():
  turns = set()
  for seed in range(30):
    view = view_of(jax.random.key(seed))
    turn = int(view.turn)
    place, on_page = np.asarray(view.place), np.asarray(view.on_page)
    upright, on_page = np.rot90(place, turn), np.rot90(on_page, turn)
    right = np.diff(upright[..., 0], axis=1)[on_page[:, 1:] & on_page[:, :-1]]
    down = np.diff(upright[..., 1], axis=0)[on_page[1:] & on_page[:-1]]
    assert np.median(right) > 0 and np.median(down) > 0
    turns.add(turn)
  assert turns == {0, 1, 2, 3}


@pytest.mark.parametrize('shape', [(30, 40, 3), (400, 300, 3), (97, 203, 3)])
def test_a_point_of_the_picture_lies_on_its_canvas_where_the_matrix_says(shape):
  image = np.zeros(shape, np.uint8)
  y, x = shape[0] // 3, shape[1] // 4
  side = max(1, max(shape) // 12)
  image[y : y + side, x : x + side] = 255
  canvas = canvases.canvas(image, size_px=192)[..., 0].astype(float)
  ys, xs = np.mgrid[:192, :192] + 0.5
  centre = np.array([(canvas * xs).sum(), (canvas * ys).sum()]) / canvas.sum() / 192 - 0.5
  found = canvases.canvas_matrix(shape, size_px=192) @ [*centre, 1.0]
  np.testing.assert_allclose(found[:2], [x + side / 2, y + side / 2], atol=0.02 * max(shape) / 10)


@pytest.mark.parametrize('seed', range(3))
def test_the_fit_finds_a_plane_map_although_a_third_of_the_cells_lie(seed):
  rng = np.random.default_rng(seed)
  true = np.eye(3) + 0.1 * rng.uniform(-1, 1, (3, 3))
  true /= true[2, 2]
  n = 32
  at = (np.arange(n) + 0.5) / n - 0.5
  x, y = np.meshgrid(at, at)
  moved = np.stack([x, y, np.ones_like(x)], axis=-1) @ true.T
  place = moved[..., :2] / moved[..., 2:]
  outliers = rng.random((n, n)) < 1 / 3
  place[outliers] += rng.uniform(-0.5, 0.5, (outliers.sum(), 2))
  out = page_net.PageNetOutput(*(jnp.asarray(a, jnp.float32) for a in (place, np.full((n, n), -4.0), np.full((n, n), 5.0), np.zeros(4))))
  matrix, miss = homography_fit.fit(out)
  corners = np.array([[-0.5, -0.5, 1], [0.5, -0.5, 1], [0.5, 0.5, 1], [-0.5, 0.5, 1]])
  a, b = corners @ true.T, corners @ np.asarray(matrix).T
  np.testing.assert_allclose(a[:, :2] / a[:, 2:], b[:, :2] / b[:, 2:], atol=1e-3)
  assert float(miss) < 0.02


def test_the_fit_is_finite_where_nothing_is_seen():
  n = 8
  out = page_net.PageNetOutput(jnp.zeros((n, n, 2)), jnp.zeros((n, n)), jnp.full((n, n), -50.0), jnp.zeros(4))
  assert all(np.isfinite(np.asarray(a)).all() for a in homography_fit.fit(out))


def test_the_place_loss_is_least_where_the_spread_is_the_error_itself():
  page, on_page = jnp.zeros((1, 1, 2)), jnp.ones((1, 1), bool)
  out = lambda spread: page_net.PageNetOutput(page + 0.1, jnp.full((1, 1), spread), jnp.zeros((1, 1)), jnp.zeros(4))
  at = lambda spread: float(losses.place_xent(out(spread), page, on_page))
  spreads = np.linspace(-6, 0, 121)
  best = spreads[np.argmin([at(s) for s in spreads])]
  assert best == pytest.approx(np.log(0.1 * 2**0.5 / 2 - losses.FINEST), abs=0.06)


def test_cells_off_the_page_do_not_count_and_give_no_bad_gradient():
  page = jnp.full((2, 2, 2), jnp.nan)
  none = jnp.zeros((2, 2), bool)
  loss = lambda place: losses.place_xent(page_net.PageNetOutput(place, jnp.zeros((2, 2)), jnp.zeros((2, 2)), jnp.zeros(4)), page, none)
  value, grad = jax.value_and_grad(loss)(jnp.ones((2, 2, 2)))
  assert float(value) == 0 and np.array_equal(grad, np.zeros_like(grad))


def test_the_page_network_refuses_a_canvas_that_does_not_fit():
  net = page_net.network(widths=(8, 8), dtype='float32')
  params = jax.eval_shape(net.init, jax.random.key(0))
  with pytest.raises(ValueError, match='multiple of 8'):
    jax.eval_shape(net.apply, params, jnp.zeros((20, 20, 3)))
  out = jax.eval_shape(net.apply, params, jnp.zeros((32, 32, 3)))
  assert out.place.shape == (8, 8, 2) and out.turn.shape == (4,)
