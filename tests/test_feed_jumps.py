"""Feeds that leap: drawn exactly, found in the grid, and undone in the rows that were read."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.damage import scanner_feed
from ecgjax.extract import path_decoder, retiming
from ecgjax.geometry import lattices, layouts, paper
from ecgjax.ink import feed_jumps

PAGE = layouts.make()
FRAME = lattices.frame(PAGE, rate_hz=500, height_px=640)
SIZE = (1700, 2200)
ROW = 1


def feed(shift_px, *, lean_px=None, down=0.0):
  shift_px = jnp.asarray(shift_px, jnp.float32)
  return scanner_feed.Feed(shift_px, jnp.zeros_like(shift_px) if lean_px is None else jnp.asarray(lean_px, jnp.float32), jnp.float32(down))


def leapt(image, shift_px, lean=0.0):
  """The page as a scanner takes it whose sheet lies `shift_px` (2200,) off in each line, `lean` more at its lower edge."""
  columns, heights = np.arange(SIZE[1]) + 0.5, 2 * (np.arange(SIZE[0]) + 0.5) / SIZE[0] - 1
  from_px = columns + shift_px * (1 + lean * heights[:, None])
  low = np.clip(np.floor(from_px - 0.5).astype(int), 0, SIZE[1] - 2)
  share = (from_px - 0.5 - low)[..., None]
  rows = np.arange(SIZE[0])[:, None]
  return np.round((1 - share) * image[rows, low] + share * image[rows, low + 1]).astype(np.uint8)


def bump(first, last, most_px):
  return np.where((np.arange(SIZE[1]) >= first) & (np.arange(SIZE[1]) < last), most_px, 0.0)


def even():
  y, x = np.mgrid[0:40, 0:60].astype(np.float32)
  return jnp.asarray(np.stack([0.98 * x + 0.01 * y + 300, y - 0.01 * x + 200], axis=-1))


@pytest.mark.parametrize('down', [0.0, 1.0])
def test_a_line_shows_what_lies_so_far_along_its_way(down):
  axis = int(down)
  lines = np.arange(100)
  shift, lean = np.where(lines == 20, 2.0, 0.0), np.where(lines == 20, 1.0, 0.0)
  moved = scanner_feed.apply(feed(shift, lean_px=lean, down=down), even(), frame_px=(40, 60), origin_px=jnp.zeros(2)) - even()
  here, slope = (moved[20], np.array([0.98, -0.01])) if axis else (moved[:, 20], np.array([0.98, -0.01]))
  slope = np.array([0.01, 1.0]) if axis else slope
  ends = 2 * (np.arange(here.shape[0]) + 0.5) / here.shape[0] - 1
  np.testing.assert_allclose(here, (2.0 + ends)[:, None] * slope, atol=1e-3)
  assert np.abs(np.delete(moved, 20, axis=1 - axis)).max() == 0


def test_a_part_of_a_picture_shows_what_the_whole_shows():
  drawn = scanner_feed.draw(jax.random.key(3), lines=60, leap=1.0)
  whole = scanner_feed.apply(drawn, even(), frame_px=(40, 60), origin_px=jnp.zeros(2))
  part = scanner_feed.apply(drawn, even()[10:30, 20:50], frame_px=(40, 60), origin_px=jnp.array([20.0, 10.0]))
  np.testing.assert_allclose(part[1:-1, 1:-1], whole[11:29, 21:49], atol=1e-4)


def test_leaps_are_as_high_as_said_and_none_without_strength():
  drawn = [scanner_feed.draw(jax.random.key(n), lines=2200, leap=1.0) for n in range(40)]
  most = np.array([np.abs(d.shift_px).max() for d in drawn])
  assert 0.4 < np.median(most[most > 0]) < 3.5 and (most == 0).sum() < 10 and 4 < sum(float(d.down) for d in drawn) < 24
  assert np.abs(scanner_feed.draw(jax.random.key(0), lines=2200, leap=0.0).shift_px).max() == 0


@pytest.mark.parametrize(('most_px', 'lean'), [(2.0, 0.0), (-1.5, 0.0), (2.0, 0.8)])
def test_a_leap_is_found_where_it_is_and_as_high(page, most_px, lean):
  found = feed_jumps.find(leapt(page, bump(1200, 1240, most_px), lean), lattices.page_lattice())
  assert found is not None
  x = np.arange(100.0, 2080)
  for zero in PAGE.zeros_px:
    right = feed_jumps.right_px(found, x, zero)
    here = most_px * (1 + lean * (2 * zero / SIZE[0] - 1))
    assert np.median(np.abs(right[(x > 1205) & (x < 1235)] - here)) < 0.35
    assert np.abs(right[(x < 1190) | (x > 1250)]).max() < 0.2


def test_an_even_page_and_one_without_a_grid_have_no_leap(page):
  for image in (page, np.full_like(page, 255), leapt(page, np.full(SIZE[1], 0.2))):
    assert feed_jumps.find(image, lattices.page_lattice()) is None


def test_no_leap_is_seen_in_a_picture_whose_px_are_as_coarse(page):
  """A leap at full size is there; at half the size it is left alone, and the instants are doubted."""
  image = leapt(page, bump(1200, 1240, 2.0))
  half = np.round(image.reshape(850, 2, 1100, 2, 3).mean((1, 3))).astype(np.uint8)
  whole, coarse = (retiming.ink_offsets(a, lattices.page_lattice() * s, layout=PAGE, frame=FRAME) for a, s in ((image, 1.0), (half, 0.5)))
  assert np.abs(whole.right_px).max() > 1 and np.abs(coarse.right_px).max() == 0 and coarse.std_px.min() > 0.2


def wave(columns):
  """Row px of a trace that is slow against the columns."""
  return 320 + 40 * np.sin(2 * np.pi * columns / 90)


def trace(rows_px, visible=1.0):
  full = np.broadcast_to(rows_px, (len(PAGE.zeros_px), FRAME.width_px)).astype(np.float32)
  return path_decoder.Trace(full, np.full_like(full, 0.5), np.broadcast_to(np.float32(visible), full.shape))


COLUMNS = np.arange(FRAME.width_px)
INSIDE = slice(round(FRAME.columns_px(0.1)), round(FRAME.columns_px(2.4)))
PER_PX = FRAME.rate_hz / PAGE.px_per_s
move = functools.partial(retiming.retimed, layout=PAGE, frame=FRAME)


def to(right_px, below_px=0.0):
  exact = retiming.exact(PAGE, FRAME)
  return exact._replace(right_px=exact.right_px + right_px, below_px=exact.below_px + below_px)


def test_columns_that_leapt_and_those_beside_them_are_less_sure_and_no_others(page):
  ink = retiming.ink_offsets(leapt(page, bump(1200, 1240, 2.0)), lattices.page_lattice(), layout=PAGE, frame=FRAME)
  x = paper.START_X_PX + FRAME.times_s() * PAGE.px_per_s
  leap, far = (x > 1202) & (x < 1238), (x < 1180) | (x > 1260)
  off = np.abs(ink.right_px[:, leap] - 2.0)
  assert (off < 3 * ink.std_px[:, leap]).mean() > 0.95
  beside = (x > 1196) & (x < 1244)
  assert ink.std_px[:, beside].min() > ink.std_px[:, far].max()


def test_rows_stay_where_ink_stands_right():
  before = trace(wave(COLUMNS))
  after = move(before, retiming.exact(PAGE, FRAME))
  for a, b in zip(before, after, strict=True):
    np.testing.assert_allclose(a, b, atol=2e-3)


@pytest.mark.parametrize('right_px', [0.6, -1.3])
def test_rows_move_to_their_own_instants_and_heights(right_px):
  after = move(trace(wave(COLUMNS)), to(right_px, below_px=0.5))
  scale = lattices.STRIP_PX_PER_MV / PAGE.px_per_mv
  np.testing.assert_allclose(np.asarray(after.rows_px)[ROW, INSIDE], wave(COLUMNS - right_px * PER_PX)[INSIDE] + 0.5 * scale, atol=0.02)


def test_a_leap_and_its_return_are_undone_but_for_the_lines_that_are_lost():
  shift_px = 2.0 * ((COLUMNS > 700) & (COLUMNS < 800))
  after = np.asarray(move(trace(wave(COLUMNS + shift_px * PER_PX)), to(shift_px)).rows_px)[ROW]
  off = np.abs(after - wave(COLUMNS))
  assert off[INSIDE].max() < 12 and np.sort(off[INSIDE])[: -2 * round(2.0 * PER_PX)].max() < 0.1


def test_no_lead_takes_what_stands_beside_it():
  rows = np.where(round(FRAME.columns_px(2.5)) > COLUMNS, 100.0, 500.0)
  for right_px in (-1.5, 1.5):
    after = np.asarray(move(trace(rows), to(right_px)).rows_px)[ROW]
    np.testing.assert_array_equal(after, rows)


def test_an_instant_that_is_not_sure_makes_steep_waves_unsure():
  mv = np.concatenate([np.zeros(100), np.linspace(0, 1, 11), np.ones(100)])
  ink = retiming.exact(PAGE, FRAME)._replace(std_px=np.full((len(PAGE.zeros_px), FRAME.width_px), 0.4))
  std = retiming.std_mv(mv, ink, row=0, start_s=0.0, fs=500.0, layout=PAGE, frame=FRAME)
  assert std[:99].max() == 0 and std[105] == pytest.approx(0.1 * 500 * 0.4 / PAGE.px_per_s, rel=1e-6)
  assert paper.px_per_s() == PAGE.px_per_s
