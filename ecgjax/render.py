"""The clean page, drawn analytically on the device: grid, traces, pulses, separators, names, header and footer.

A trace px's coverage comes from its distance to the polyline, a bar's from an interval, a grid line's from a coordinate.
Everything is a pure function of (key, mV, layout, style), so the truth that comes with the picture is exact.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax import glyphs, paper, truth
from ecgjax.layout import Layout
from ecgjax.looks import Style
from ecgjax.truth import Rows

BAR_MV = 0.625  # height of a separator without its caps
WIDEST_PX = 4.0  # no trace is wider, its soft edge included
REACH_MV = 6.5  # a trace is drawn this far from its zero line
NAME_DROP_MV, RHYTHM_DROP_MV = 0.7, 0.8  # baseline of a lead's name below the zero line
HEADER_X_PX, HEADER_Y_PX, HEADER_STEP_PX = (10.0, 600.0, 1191.0), 46.0, paper.MAJOR_PX
FOOTER_SQUARES, FOOTER_Y_PX = (10, 20), 1661.0


class Page(NamedTuple):
  """A drawn page.

  Attributes:
    image: (1700, W, 3) in 0..1.
    inks: (1700, W, 3) coverage of grid, of text (with pulses, separators and border) and of traces.
  """

  image: jax.Array
  inks: jax.Array


def _interval(low, high, edges):
  """Share of each px [e, e + 1) that lies within [low, high]."""
  return jnp.clip(jnp.minimum(high, edges + 1) - jnp.maximum(low, edges), 0, 1)


def _grid(xs, ys, style: Style, *, pitch_px: float, avoid: int):
  """Coverage (W,) and (H,) of vertical and horizontal lines, snapped to px centres as the competition's renderer does."""

  def lines(edges, origin, count):
    at = origin + pitch_px * np.arange(count)
    at = at[(np.arange(count) % avoid) != 0] if avoid > 1 else at
    centres = np.round(at)[:, None] + 0.5
    return _interval(centres - style.grid_px / 2, centres + style.grid_px / 2, edges).sum(0)

  return (
    jnp.clip(lines(xs, paper.GRID_X_PX, math.ceil(paper.WIDTH_PX / pitch_px)), 0, 1),
    jnp.clip(lines(ys, paper.GRID_Y_PX % pitch_px, math.ceil(paper.HEIGHT_PX / pitch_px)), 0, 1),
  )


def _distance2(px, py, dx, dy):
  """Squared distance of points from the segment that runs from the origin to (dx, dy)."""
  along = jnp.clip((px * dx + py * dy) / (dx * dx + dy * dy + 1e-12), 0, 1)
  return (px - along * dx) ** 2 + (py - along * dy) ** 2


def _traces(table: Rows, xs, style: Style, *, layout: Layout, rate_hz: float):
  """Coverage (1700, W) of all traces: 1 within the line, falling to 0 over one px at its edge."""
  step = layout.px_per_s / rate_hz
  around = math.ceil(WIDEST_PX / 2 / step) + 2
  centre = xs + 0.5
  nearest = jnp.floor((centre - paper.START_X_PX) / step).astype(jnp.int32)
  last = table.mv.shape[-1] - 1
  canvas = jnp.zeros((paper.HEIGHT_PX, xs.shape[0]))
  for row, zero in enumerate(layout.zeros_px):
    low = max(0, math.floor(zero - REACH_MV * layout.px_per_mv))
    high = min(paper.HEIGHT_PX, math.ceil(zero + REACH_MV * layout.px_per_mv))
    heights = jnp.arange(low, high)[:, None] + 0.5
    x = jnp.asarray(paper.START_X_PX + table.times_s[row] * layout.px_per_s, jnp.float32)
    y = zero - table.mv[row] * layout.px_per_mv
    owner = table.owners[row]
    joined = jnp.asarray((owner[:-1] >= 0) & (owner[:-1] == owner[1:]))
    lines = jnp.stack([jnp.diff(x), jnp.diff(y)])

    def nearer(distance2, k, *, x=x, y=y, heights=heights, joined=joined, lines=lines):
      i = jnp.clip(nearest + k, 0, last - 1)
      drawn = joined[i] & (nearest + k >= 0)
      d2 = _distance2(centre - x[i], heights - y[i], *lines[:, i])
      return jnp.minimum(distance2, jnp.where(drawn, d2, 1e6)), None

    distance2 = jnp.full((high - low, xs.shape[0]), 1e6)
    distance2, _ = jax.lax.scan(nearer, distance2, jnp.arange(-around, around + 1))
    cover = jnp.clip(style.trace_px / 2 + 0.5 - jnp.sqrt(distance2), 0, 1)
    canvas = canvas.at[low:high].max(cover)
  return canvas


def _bars(xs, ys, style: Style, *, layout: Layout):
  """Coverage (1700, W) of the calibration pulses and the separators: axis-aligned bars, each an outer product."""
  pulse, bar = 1.5 * style.trace_px / 2, 3.0 * style.trace_px / 2
  left = round(paper.START_X_PX - paper.PULSE_S * paper.px_per_s()) + 0.5
  right = round(paper.START_X_PX) + 0.5
  boxes = []
  for zero in layout.zeros_px:
    top = zero - paper.PULSE_MV * layout.px_per_mv
    boxes += [(x - pulse, x + pulse, top - pulse, zero + pulse) for x in (left, right)]
    boxes += [(left - pulse, right + pulse, top - pulse, top + pulse)]
  for segment in layout.segments:
    if segment.start_s > 0:
      x = round(paper.START_X_PX + segment.start_s * layout.px_per_s)
      zero, half = layout.zeros_px[segment.row], BAR_MV * paper.px_per_mv() / 2 + bar
      boxes += [(x - bar, x + bar, zero - half, zero + half)]
  x0, x1, y0, y1 = (jnp.stack([jnp.asarray(b[i], jnp.float32) for b in boxes])[:, None] for i in range(4))
  return jnp.clip(jnp.einsum('bh,bw->hw', _interval(y0, y1, ys), _interval(x0, x1, xs)), 0, 1)


def _letters(key, style: Style, *, layout: Layout) -> glyphs.Letters:
  """Lead names, and a header and footer as the competition prints them, with random digits."""
  ids, days = jax.random.split(key)
  digit = lambda k, n: jax.random.randint(k, (n,), ord('0'), ord('9') + 1)
  fill = lambda text, k: jnp.where(glyphs.encode(text) == ord('#'), digit(k, len(text)), glyphs.encode(text))
  lines = []
  for segment in layout.segments:
    rhythm = segment.stop_s - segment.start_s == layout.seconds and segment.row >= 3
    drop = (RHYTHM_DROP_MV if rhythm else NAME_DROP_MV) * paper.px_per_mv()
    x = paper.START_X_PX + segment.start_s * layout.px_per_s
    lines.append(glyphs.line(glyphs.encode(segment.label), x, layout.zeros_px[segment.row] + drop, style.em_px))
  on = style.header
  header = (('ID: #####_hr', 0, 0), ('Age: ## yrs', 0, 1), ('Sex: Female', 0, 2), ('Name:', 1, 0), ('Height: 1## cm', 1, 1),
            ('Date: 19##-0#-1#, 1#:2#:3#', 2, 0), ('Weight: ## kg', 2, 1))  # fmt: skip
  for text, column, row in header:
    y = HEADER_Y_PX + row * HEADER_STEP_PX
    codes = jnp.where(on > 0, fill(text, jax.random.fold_in(ids, 3 * column + row)), ord(' '))
    lines.append(glyphs.line(codes, HEADER_X_PX[column], y, style.em_px))
  for text, squares in zip((f'{layout.speed_mm_s:g}mm/s', f'{layout.gain_mm_mv:g}mm/mV'), FOOTER_SQUARES, strict=True):
    lines.append(glyphs.line(glyphs.encode(text), squares * paper.MAJOR_PX, FOOTER_Y_PX, style.em_px))
  return glyphs.join(lines)


def page(
  key: jax.Array, mv: jax.Array, *, layout: Layout, style: Style, rate_hz: float,
  x0_px: int | jax.Array = 0, width_px: int = paper.WIDTH_PX,
) -> Page:  # fmt: skip
  """Draws a page, or a full-height window of it.

  Args:
    key: for the header's digits.
    mv: (12, T) leads in layout.LEADS order; amplitudes beyond REACH_MV are not drawn.
    layout: which lead stands where.
    style: the look.
    rate_hz: of `mv`.
    x0_px: page x of the window's left edge; may be traced.
    width_px: width of the window.

  Returns:
    The page; its lattice is `geometry.page_lattice()` moved by x0_px, its rows' truth `truth.at`.
  """
  table = truth.lay_out(mv, layout=layout, rate_hz=rate_hz)
  xs, ys = x0_px + jnp.arange(width_px), jnp.arange(paper.HEIGHT_PX)
  minor_x, minor_y = _grid(xs, ys, style, pitch_px=paper.MINOR_PX, avoid=5)
  major_x, major_y = _grid(xs, ys, style, pitch_px=paper.MAJOR_PX, avoid=1)
  edge = ((xs == 0) | (xs == paper.WIDTH_PX - 1))[None] | ((ys == 0) | (ys == paper.HEIGHT_PX - 1))[:, None]
  letters = glyphs.coverage(_letters(key, style, layout=layout), height_px=paper.HEIGHT_PX, width_px=width_px, x0_px=x0_px)
  bars = _bars(xs, ys, style, layout=layout)
  traces = _traces(table, xs, style, layout=layout, rate_hz=rate_hz)
  image = jnp.broadcast_to(style.paper_rgb, (paper.HEIGHT_PX, width_px, 3))
  # vertical lines first: on the competition's pages the horizontal ones lie over them, minor over major
  for cover, rgb in (
    (minor_x[None], style.minor_rgb), (major_x[None], style.major_rgb), (minor_y[:, None], style.minor_rgb),
    (major_y[:, None], style.major_rgb), (edge * style.border, style.text_rgb), (traces, style.ink_rgb),
    (bars, style.ink_rgb), (letters, style.text_rgb),
  ):  # fmt: skip
    image = image + cover[..., None] * (rgb - image)
  grid = jnp.maximum(jnp.maximum(minor_x, major_x)[None], jnp.maximum(minor_y, major_y)[:, None])
  text = jnp.maximum(jnp.maximum(bars, letters), edge * style.border)
  return Page(image, jnp.stack([grid, text, traces], axis=-1))
