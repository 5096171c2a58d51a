"""Looks: every print there is goes through one program, and its parts are where and what its style says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.drawing import glyphs, handwriting, looks, render
from ecgjax.geometry import layouts, paper

PAGE = layouts.make()
FS = 250
BLANK, FLAT = np.zeros((12, 1)), np.zeros((12, 10 * FS))
STYLED = [looks.clinic, looks.thermal, looks.black_and_white, looks.tinted]


@functools.partial(jax.jit, static_argnames='width_px')
def draw(key, mv, style, *, x0_px=0, width_px=paper.WIDTH_PX):
  return render.page(key, mv, layout=PAGE, style=style, rate_hz=FS, x0_px=x0_px, width_px=width_px)


def drawn(mv, *, key=0, **style):
  style = looks.competition()._replace(**{k: jnp.float32(v) for k, v in style.items()})
  page = draw(jax.random.key(key), jnp.asarray(mv, jnp.float32), style)
  return np.asarray(page.image), np.asarray(page.inks)


def many(look, count=300):
  return jax.jit(jax.vmap(look))(jax.random.split(jax.random.key(0), count))


@pytest.mark.parametrize('look', [*STYLED, looks.draw])
def test_drawn_styles_are_colours_and_widths_that_print(look):
  styles = many(look)
  for name, one, leaf in zip(looks.Style._fields, looks.competition(), styles, strict=True):
    assert leaf.shape == (300, *one.shape) and leaf.dtype == one.dtype, name
    if name.endswith('_rgb'):
      assert (leaf >= 0).all() and (leaf <= 1).all(), name
  assert (styles.trace_px + styles.trace_soft_px <= render.WIDEST_PX).all() and (styles.trace_px > 1.3).all()
  assert (styles.trace_soft_px >= 1).all() and (styles.pulse_px >= styles.trace_px - 1e-6).all()
  assert (styles.em_px * glyphs.CELL_PX / glyphs.ATLAS_EM_PX < glyphs.STAMP_PX - 1).all()
  assert (styles.pen_px * 1.25 <= handwriting.WIDEST_PX).all()
  # ink that is hardly darker than its paper cannot be read by anyone
  assert (styles.paper_rgb.mean(-1) - styles.ink_rgb.mean(-1) > 0.3).all()


def test_prints_are_from_thin_to_thick_and_of_many_fonts_and_grids():
  styles = many(looks.draw, 600)
  assert styles.trace_px.min() < 1.6 and styles.trace_px.max() > 4
  for name, values in (('font', range(5)), ('header_kind', range(5)), ('footer_kind', range(4)), ('minor_mm', (1, 2, 2.5, 5))):
    assert set(np.unique(getattr(styles, name)).tolist()) == set(values), name
  for name, low, high in (('header', 0.3, 0.7), ('minor_dots', 0.03, 0.25), ('snap', 0.3, 0.7)):
    assert low < float(getattr(styles, name).mean()) < high, name
  assert 0.08 < float((styles.pen > 0).mean()) < 0.35


def test_named_looks_are_what_they_are_called():
  grey = many(looks.black_and_white)
  for rgb in (grey.paper_rgb, grey.major_rgb, grey.minor_rgb, grey.ink_rgb, grey.text_rgb, grey.pen_rgb):
    assert (np.ptp(rgb, axis=-1) < 1e-6).all()
  assert (grey.major_rgb[:, 0] <= grey.minor_rgb[:, 0]).all() and grey.major_rgb.min() < 0.1
  warm = many(looks.thermal)
  assert (warm.paper_rgb[:, 0] > warm.paper_rgb[:, 2]).all() and (warm.ink_rgb.max(-1) > 0.15).all()
  kit = many(looks.tinted)
  assert (kit.header == 0).all() and (kit.paper_rgb == 1).all()
  dark = kit.major_rgb.mean(-1) < 0.35
  assert 0.3 < float(dark.mean()) < 0.6 and (kit.minor_rgb[~dark].mean(-1) > kit.major_rgb[~dark].mean(-1)).mean() > 0.8


def ink_width(text, *, font, wide=1.0):
  codes = glyphs.encode(text)
  letters = glyphs.lines(codes, np.zeros(len(codes), int), 10.0, np.full(len(codes), 60.0), em_px=30.0, wide=wide, font=font)
  cover = np.asarray(glyphs.coverage(letters, height_px=80, width_px=700))
  columns = np.flatnonzero(cover.max(0) > 0.2)
  return columns[-1] - columns[0], cover.sum()


def test_fonts_keep_their_character():
  narrow, wide = ink_width('iiiiiiiiii', font=0)[0], ink_width('MMMMMMMMMM', font=0)[0]
  assert wide > 2 * narrow
  # the letters of a typewriter are all as wide, but for their own side bearings
  assert ink_width('iiiiiiiiii', font=1.0)[0] == pytest.approx(ink_width('MMMMMMMMMM', font=1.0)[0], abs=8)
  assert ink_width('aVR aVL aVF', font=3)[1] > 1.3 * ink_width('aVR aVL aVF', font=0)[1]
  assert ink_width('aVR aVL aVF', font=0, wide=0.8)[0] == pytest.approx(0.8 * ink_width('aVR aVL aVF', font=0)[0], abs=2)
  cells = glyphs._atlas()[0]
  assert cells.shape[:2] == (len(glyphs.FONTS), 95) and (cells[:, 1:].max((2, 3)) > 200).all()


@pytest.mark.parametrize('kind', range(5))
def test_headers_and_footers_stay_on_the_page_in_every_font(kind):
  key = jax.random.key(3)
  for font in range(len(glyphs.FONTS)):
    for footer in range(len(looks.FOOTERS)):
      style = looks.competition()._replace(
        header_kind=jnp.float32(kind), footer_kind=jnp.float32(footer), font=jnp.float32(font), em_px=jnp.float32(35.1)
      )
      letters = render._letters(key, style, layout=PAGE, apart=None)
      shown = np.asarray(letters.codes) != ord(' ')
      x, y = np.asarray(letters.x_px)[shown], np.asarray(letters.y_px)[shown]
      assert x.min() >= 0 and x.max() + 35 < paper.WIDTH_PX and y.min() > 35 and y.max() < paper.HEIGHT_PX - 10
      # no letter is printed upon another of its line
      for line in np.unique(y):
        gaps = np.diff(np.sort(x[y == line]))
        assert gaps.size == 0 or gaps.min() > 5, f'{looks.HEADERS[kind]} in {glyphs.FONTS[font]}'


def test_every_look_goes_through_one_program():
  one = jax.jit(lambda style: render.page(jax.random.key(0), jnp.zeros((12, 500)), layout=PAGE, style=style, rate_hz=50, width_px=64).image)
  styles = [looks.competition()] + [named(jax.random.key(1)) for _, named in looks.LOOKS] + [looks.draw(jax.random.key(2))]
  for style in styles:
    assert np.isfinite(one(style)).all()
  assert one._cache_size() == 1


@pytest.mark.parametrize('pitch_mm', [1.0, 2.0, 2.5, 5.0])
def test_the_fine_grid_has_its_pitch_and_leaves_out_the_large_squares(pitch_mm):
  # 1 px wide, not snapped, and no major lines
  _, inks = drawn(BLANK, minor_mm=pitch_mm, minor_px=1, major_px=0, snap=0)
  wanted = pitch_mm * np.arange(1, 279)
  wanted = wanted[wanted < 278.5]
  wanted = wanted[np.abs(wanted / 5 - np.round(wanted / 5)) > 1e-6] * 7.874016
  profile = inks[2:7, 4:-4, 0].min(0)  # above the first horizontal line
  assert profile.sum() == pytest.approx(len(wanted), abs=0.01)
  for x in wanted:
    near = np.arange(round(x) - 3, round(x) + 3)
    assert (near + 0.5) @ profile[near - 4] == pytest.approx(x, abs=0.01)


def test_dots_stand_where_the_fine_lines_would_cross():
  lines = drawn(BLANK, major_px=0)[1][..., 0]
  dots = drawn(BLANK, major_px=0, minor_dots=1)[1][..., 0]
  crossing = np.outer(lines[:, 400:500].min(1), lines[600:700].min(0))
  np.testing.assert_allclose(dots, crossing, atol=1e-5)
  square = dots[1700 - 5 * 39 - 1 : 1700 - 4 * 39 - 2, 397:433]  # inside a large square: 4 x 4 dots
  assert (square > 0.9).sum() == 16


@pytest.mark.parametrize(('dash_mm', 'share'), [(1.0, 0.6), (0.5, 0.4)])
def test_a_dashed_line_has_its_share_of_ink_and_meets_the_crossings(dash_mm, share):
  grid = drawn(BLANK, minor_px=0, major_on=share, dash_mm=dash_mm)[1][..., 0]
  line = grid[1700 - 20 * 39 - 30 : 1700 - 15 * 39 - 27, 394]  # the line at x = 393.70, five squares of it
  assert line[: round(4 * 39.3701)].mean() == pytest.approx(share, abs=0.03)
  for k in range(2, 40):
    y = round(1700 - 39.3701 * k)
    assert grid[y - 1 : y + 1, 394].sum() > 1.2


@pytest.mark.parametrize(('trace_px', 'soft_px'), [(1.39, 1.0), (3.0, 1.8), (4.17, 1.6)])
def test_a_trace_has_the_ink_of_its_width_however_soft(trace_px, soft_px):
  inks = drawn(FLAT, trace_px=trace_px, trace_soft_px=soft_px)[1]
  np.testing.assert_allclose(inks[690:730, 150:550, 2].sum(0), trace_px, atol=0.1)


def test_handwriting_darkens_the_page_and_is_text():
  image, inks = drawn(FLAT, key=6, pen=1.0, header=0)
  bare, without = drawn(FLAT, key=6, header=0)
  assert (image <= bare + 1e-6).all()
  written = (bare - image).max(-1) > 1e-3
  assert 1000 < written.sum() < 50_000
  assert (inks[..., 1][written] > 0).all()
  np.testing.assert_array_equal(inks[..., [0, 2]], without[..., [0, 2]])
  np.testing.assert_allclose(inks[~written], without[~written], atol=2e-3)


def test_scribbles_are_the_polylines_they_claim_to_be():
  key, width = jax.random.key(6), 3.0
  cover = np.asarray(handwriting.draw(key, pen_px=width, height_px=paper.HEIGHT_PX, width_px=paper.WIDTH_PX))
  scribbles = jax.vmap(handwriting._scribble)(jax.random.split(key, handwriting.SCRIBBLES))
  points, pressure, shown = (np.asarray(a, np.float64) for a in scribbles)
  wanted = np.zeros_like(cover)
  assert shown.any()
  for line, press in zip(points[shown > 0], pressure[shown > 0], strict=True):
    for a, b, p in zip(line[:-1], line[1:], press[:-1], strict=True):
      low, high = np.floor(np.minimum(a, b) - 5).astype(int), np.ceil(np.maximum(a, b) + 5).astype(int)
      (x0, y0), (x1, y1) = np.maximum(low, 0), np.minimum(high, (paper.WIDTH_PX, paper.HEIGHT_PX))
      if x0 >= x1 or y0 >= y1:
        continue
      at = np.stack(np.meshgrid(np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5), axis=-1)
      along = np.clip((at - a) @ (b - a) / max((b - a) @ (b - a), 1e-12), 0, 1)
      far = np.linalg.norm(at - a - along[..., None] * (b - a), axis=-1)
      wanted[y0:y1, x0:x1] = np.maximum(wanted[y0:y1, x0:x1], np.clip(width * p / 2 + 0.5 - far, 0, 1))
  np.testing.assert_allclose(cover, wanted, atol=2e-3)


def test_no_piece_of_a_scribble_is_longer_than_its_stamp():
  points = jax.jit(jax.vmap(lambda key: handwriting._scribble(key)[0]))(jax.random.split(jax.random.key(0), 5000))
  longest = np.abs(np.diff(points, axis=1)).max()
  assert longest <= handwriting.LONGEST_PX
  assert handwriting.LONGEST_PX + handwriting.WIDEST_PX + 1 + 1 <= handwriting.STAMP_PX
