"""The clean page, drawn analytically on the device: grid, traces, pulses, separators, names, header, footer, handwriting.

A trace px's coverage comes from its distance to the polyline, a bar's from an interval, a grid line's from a coordinate.
Everything is a pure function of (key, mV, layout, style), so the truth that comes with the picture is exact.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.drawing import glyphs, ground_truth, handwriting, looks, misregistration
from ecgjax.drawing.ground_truth import Rows
from ecgjax.drawing.looks import Style
from ecgjax.drawing.misregistration import Misregistration
from ecgjax.geometry import paper
from ecgjax.geometry.layouts import Layout

WIDEST_PX = 6.0  # no trace is wider, its soft edge included
APART_PX = 1.5  # and none stands farther off the grid
NAME_DROP_MV, RHYTHM_DROP_MV = 0.7, 0.8  # baseline of a lead's name below the zero line
NAME_UP_PX = 0.13  # of the nearest whole px, on which the competition's names stand; and how far right of their lead's start, measured
NAME_RIGHT_PX = {'I': -0.2, 'II': -0.2, 'III': -0.1, 'aVR': 0.1, 'aVL': 0.1, 'aVF': 0.1, 'V1': 0.2, 'V2': 0.3, 'V3': 0.2, 'V5': 0.1}
HEADER_MOVES_PX = (60.0, 16.0)  # a header but the competition's stands up to so much further right and down
HEADER, NAME, FOOTER = range(3)  # parts of the text


class Page(NamedTuple):
  """A drawn page.

  Attributes:
    image: (1700, W, 3) in 0..1.
    inks: (1700, W, 3) coverage of grid, of text (with pulses, separators, border and handwriting) and of traces.
  """

  image: jax.Array
  inks: jax.Array


def _apart(field: Misregistration | None, x, y):
  """Where black ink stands that belongs to x, y."""
  return (x, y) if field is None else tuple(at + off for at, off in zip((x, y), misregistration.off_px(field, x, y), strict=True))


def _interval(low, high, edges):
  """Share of each px [e, e + 1) that lies within [low, high]."""
  return jnp.clip(jnp.minimum(high, edges + 1) - jnp.maximum(low, edges), 0, 1)


def _lines(edges, style: Style, *, origin_px: float, pitch_mm, width_px, between: bool):
  """Coverage (N,) of the lines across an axis, counted from the first on the page; `between`: where no 5 mm line is."""
  pitch = pitch_mm * paper.PX_PER_MM
  first = origin_px - jnp.floor(origin_px / pitch + 1e-4) * pitch
  at = jnp.maximum(jnp.round((edges + 0.5 - first) / pitch), 0) * pitch + first  # a px meets no line but the nearest
  centre = jnp.where(style.snap > 0.5, jnp.round(at) + 0.5, at)
  squares = (at - origin_px) / paper.MAJOR_PX
  printed = jnp.abs(squares - jnp.round(squares)) > 1e-2 if between else 1.0
  return _interval(centre - width_px / 2, centre + width_px / 2, edges) * printed


def _dashes(edges, style: Style, *, origin_px: float):
  """Share (N,) of each px along a 5 mm line that is printed; a dash is centred on every crossing."""
  period = style.dash_mm * paper.PX_PER_MM
  length = style.major_on * period
  start = edges - origin_px + length / 2
  until = lambda at: jnp.floor(at / period) * length + jnp.minimum(jnp.mod(at, period), length)
  return jnp.where(style.major_on < 1, jnp.clip(until(start + 1) - until(start), 0, 1), 1.0)


def _grid(xs, ys, style: Style):
  """Coverage of minor and major vertical lines, then of minor and major horizontal ones, each broadcasting to (1700, W)."""
  minor = functools.partial(_lines, style=style, pitch_mm=style.minor_mm, width_px=style.minor_px, between=True)
  major = functools.partial(_lines, style=style, pitch_mm=5.0, width_px=style.major_px, between=False)
  minor_x, minor_y = minor(xs, origin_px=paper.GRID_X_PX)[None], minor(ys, origin_px=paper.GRID_Y_PX)[:, None]
  # dots are what both directions share, drawn once
  return (
    minor_x * (1 - style.minor_dots * (1 - minor_y)),
    major(xs, origin_px=paper.GRID_X_PX)[None] * _dashes(ys, style, origin_px=paper.GRID_Y_PX)[:, None],
    minor_y * (1 - style.minor_dots),
    major(ys, origin_px=paper.GRID_Y_PX)[:, None] * _dashes(xs, style, origin_px=paper.GRID_X_PX)[None],
  )


def _traces(table: Rows, xs, style: Style, *, layout: Layout, rate_hz: float, apart: Misregistration | None):
  """Coverage (1700, W) of all traces: 1 within the line, falling to 0 over `trace_soft_px` at its edge."""
  step = layout.px_per_s / rate_hz
  around = math.ceil((WIDEST_PX / 2 + (0.0 if apart is None else APART_PX)) / step) + 2
  centre = xs + 0.5
  nearest = jnp.floor((centre - paper.START_X_PX) / step).astype(jnp.int32)
  last = table.mv.shape[-1] - 1
  zeros_px = jnp.asarray(layout.zeros_px, jnp.float32)
  reach_px = ground_truth.REACH_MV * layout.px_per_mv
  high = min(paper.HEIGHT_PX, math.ceil(2 * reach_px) + 2)  # of the part of the page that a row's trace may cross

  def draw(canvas, row):
    zero, mv, joined, times_s = row
    top = jnp.clip(jnp.floor(zero - reach_px).astype(jnp.int32), 0, paper.HEIGHT_PX - high)
    heights = (top + jnp.arange(high))[:, None] + 0.5
    x = paper.START_X_PX + times_s * layout.px_per_s
    y = zero - mv * layout.px_per_mv
    x, y = _apart(apart, x, y)
    lines = jnp.stack([jnp.diff(x), jnp.diff(y)])

    def nearer(distance2, k):
      i = jnp.clip(nearest + k, 0, last - 1)
      drawn = joined[i] & (nearest + k >= 0)
      d2 = handwriting.distance2(centre - x[i], heights - y[i], *lines[:, i])
      return jnp.minimum(distance2, jnp.where(drawn, d2, 1e6)), None

    distance2 = jnp.full((high, xs.shape[0]), 1e6)
    distance2, _ = jax.lax.scan(nearer, distance2, jnp.arange(-around, around + 1))
    cover = jnp.clip((style.trace_px / 2 + style.trace_soft_px / 2 - jnp.sqrt(distance2)) / style.trace_soft_px, 0, 1)
    cover = cover * ((heights > jnp.floor(zero - reach_px)) & (heights < jnp.ceil(zero + reach_px)))
    below = jax.lax.dynamic_slice(canvas, (top, 0), cover.shape)
    return jax.lax.dynamic_update_slice(canvas, jnp.maximum(below, cover), (top, 0)), None

  rows = zeros_px, table.mv, table.joined, jnp.asarray(table.times_s, jnp.float32)
  return jax.lax.scan(draw, jnp.zeros((paper.HEIGHT_PX, xs.shape[0])), rows)[0]


def _bars(xs, ys, style: Style, *, layout: Layout, apart: Misregistration | None):
  """Coverage (1700, W) of the calibration pulses and the separators: axis-aligned bars, each an outer product."""
  pulse, bar = style.pulse_px / 2, style.bar_px / 2
  left = round(paper.START_X_PX - paper.PULSE_S * layout.px_per_s) + 0.5
  right = round(paper.START_X_PX) + 0.5
  boxes = []
  for zero in layout.zeros_px:
    top = zero - paper.PULSE_MV * layout.px_per_mv
    boxes += [(x - pulse, x + pulse, top - pulse, zero + pulse) for x in (left, right)]
    boxes += [(left - pulse, right + pulse, top - pulse, top + pulse)]
  for segment in layout.segments:
    if segment.start_s > 0:
      x = round(paper.START_X_PX + segment.start_s * layout.px_per_s)
      zero, half = layout.zeros_px[segment.row], style.bar_mv * paper.px_per_mv() / 2 + bar
      boxes += [(x - bar, x + bar, zero - half, zero + half)]
  x0, x1, y0, y1 = (jnp.stack([jnp.asarray(b[i], jnp.float32) for b in boxes])[:, None] for i in range(4))
  (x, y), half_x, half_y = _apart(apart, (x0 + x1) / 2, (y0 + y1) / 2), (x1 - x0) / 2, (y1 - y0) / 2
  x0, x1, y0, y1 = x - half_x, x + half_x, y - half_y, y + half_y
  pulses = jnp.arange(len(boxes)) < 3 * len(layout.zeros_px)
  strength = jnp.where(pulses, style.pulse, 1.0)[:, None]
  return jnp.clip(jnp.einsum('bh,bw->hw', _interval(y0, y1, ys), strength * _interval(x0, x1, xs)), 0, 1)


@functools.cache
def _texts(layout: Layout) -> tuple[np.ndarray, ...]:
  """What may stand on a page: (H, F, N) letters, index of the letter that begins their line, its x and y in px, their part and row.

  A lead name's y counts from the zero line of its row, all others' are of no row, -1, and count from the top of the page.
  """
  names = []
  for segment in layout.segments:
    drop_px = (RHYTHM_DROP_MV if layout.is_strip(segment) else NAME_DROP_MV) * paper.px_per_mv()
    x = paper.START_X_PX + segment.start_s * layout.px_per_s + NAME_RIGHT_PX.get(segment.label, 0.0)
    names.append((segment.label, x, drop_px, segment.row))

  def table(*parts):
    lines = [(text, x, y, part, *(row or [-1])) for part, of_part in enumerate(parts) for text, x, y, *row in of_part]
    firsts = np.cumsum([0] + [len(text) for text, *_ in lines])
    return [(code, first, *where) for (text, *where), first in zip(lines, firsts, strict=False) for code in glyphs.encode(text)]

  footers = [[(t.format(speed=layout.speed_mm_s, gain=layout.gain_mm_mv), x, y) for t, x, y in f] for f in looks.FOOTERS]
  tables = [[table(header, names, footer) for footer in footers] for header in looks.HEADERS]
  longest = max(len(t) for row in tables for t in row)
  blank = (ord(' '), 0, 0, 0, FOOTER, -1)
  filled = np.array([[t + [blank] * (longest - len(t)) for t in row] for row in tables])
  return tuple(filled[..., i].astype(np.float32 if i in (2, 3) else np.int32) for i in range(6))


def _letters(key, style: Style, *, layout: Layout, apart: Misregistration | None) -> glyphs.Letters:
  """Header and footer of the style's kind, with random digits and letters, and lead names."""
  texts = _texts(layout._replace(zeros_px=(0.0,) * len(layout.zeros_px)))  # those of the layout may be traced
  at_random = jax.random.uniform(key, (texts[0].shape[-1] + 2,))
  pick = lambda kind, count: jnp.clip(jnp.round(kind), 0, count - 1).astype(jnp.int32)
  kinds = pick(style.header_kind, len(looks.HEADERS)), pick(style.footer_kind, len(looks.FOOTERS))
  codes, first, x, y, part, row = (jnp.asarray(a)[kinds] for a in texts)
  y = y + jnp.where(row >= 0, jnp.asarray(layout.zeros_px, jnp.float32)[row], 0.0)
  digits, capitals = (ord(base) + jnp.floor(n * at_random[2:]).astype(jnp.int32) for base, n in (('0', 10), ('A', 26)))
  codes = jnp.where(codes == ord('#'), digits, codes)
  codes = jnp.where(codes == ord('@'), capitals, codes)
  codes = jnp.where((part == HEADER) & (style.header <= 0), ord(' '), codes)
  offset = at_random[:2] * jnp.array(HEADER_MOVES_PX) * (kinds[0] > 0)
  x = x + jnp.where(part == HEADER, offset[0], 0.0)
  y = jnp.where(part == NAME, jnp.round(y) - NAME_UP_PX - style.name_up_px, y + jnp.where(part == HEADER, offset[1], 0.0))
  letters = glyphs.lines(codes, first, x, y, em_px=style.em_px, wide=style.wide, font=style.font)
  x, y = _apart(apart, letters.x_px, letters.y_px)
  return letters._replace(x_px=x, y_px=y)


def page(
  key: jax.Array, mv: jax.Array, *, layout: Layout, style: Style, rate_hz: float,
  x0_px: int | jax.Array = 0, width_px: int = paper.WIDTH_PX, apart: Misregistration | None = None,
) -> Page:  # fmt: skip
  """Draws a page, or a full-height window of it.

  Args:
    key: for the header's digits and letters, and the handwriting.
    mv: (12, T) leads in leads.LEADS order, as `ground_truth.lay_out` takes them; beyond ground_truth.REACH_MV they are not drawn.
    layout: which lead stands where.
    style: the look.
    rate_hz: of `mv`, within ground_truth.RATES_HZ.
    x0_px: page x of the window's left edge; may be traced.
    width_px: width of the window.
    apart: how far traces, pulses, separators and text stand off the grid; nowhere if it is None.

  Returns:
    The page; its lattice is `lattices.page_lattice()` moved by x0_px, its rows' truth `ground_truth.at`.

  Raises:
    ECGError: for a record or rate that `ground_truth.lay_out` refuses.
  """
  table = ground_truth.lay_out(mv, layout=layout, rate_hz=rate_hz)
  xs, ys = x0_px + jnp.arange(width_px), jnp.arange(paper.HEIGHT_PX)
  minor_x, major_x, minor_y, major_y = _grid(xs, ys, style)
  edge = ((xs == 0) | (xs == paper.WIDTH_PX - 1))[None] | ((ys == 0) | (ys == paper.HEIGHT_PX - 1))[:, None]
  canvas = {'height_px': paper.HEIGHT_PX, 'width_px': width_px, 'x0_px': x0_px}
  letters = glyphs.coverage(_letters(key, style, layout=layout, apart=apart), **canvas)
  pen = style.pen * handwriting.draw(jax.random.fold_in(key, 1), pen_px=style.pen_px, **canvas)
  bars = _bars(xs, ys, style, layout=layout, apart=apart)
  traces = _traces(table, xs, style, layout=layout, rate_hz=rate_hz, apart=apart)
  image = jnp.broadcast_to(style.paper_rgb, (paper.HEIGHT_PX, width_px, 3))
  # vertical lines first: on the competition's pages the horizontal ones lie over them, minor over major
  for cover, rgb in (
    (minor_x, style.minor_rgb), (major_x, style.major_rgb), (minor_y, style.minor_rgb), (major_y, style.major_rgb),
    (edge * style.border, style.text_rgb), (traces, style.ink_rgb), (bars, style.ink_rgb), (letters, style.text_rgb),
  ):  # fmt: skip
    image = image + cover[..., None] * (rgb - image)
  image = image * (1 - pen[..., None] * (1 - style.pen_rgb))  # a pen's ink is transparent
  grid = jnp.maximum(jnp.maximum(minor_x, major_x), jnp.maximum(minor_y, major_y))
  text = jnp.maximum(jnp.maximum(bars, letters), jnp.maximum(edge * style.border, pen))
  return Page(image, jnp.stack([grid, text, traces], axis=-1))
