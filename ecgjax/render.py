"""The clean page, drawn analytically on the device: grid, traces, pulses, separators, names, header and footer.

A trace px's coverage comes from its distance to the polyline, a bar's from an interval, a grid line's from a coordinate.
Everything is a pure function of (key, mV, layout, style), so the truth that comes with the picture is exact.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax import glyphs, paper
from ecgjax.layout import LEADS, Layout

BAR_MV = 0.625  # height of a separator without its caps
WIDEST_PX = 4.0  # no trace is wider, its soft edge included
MITER_LIMIT = 4.0  # corners of the competition's traces are mitred: a sharp R peak reaches up to 4 half widths too far
REACH_MV = 6.5  # a trace is drawn this far from its zero line
NAME_DROP_MV, RHYTHM_DROP_MV = 0.7, 0.8  # baseline of a lead's name below the zero line
HEADER_X_PX, HEADER_Y_PX, HEADER_STEP_PX = (10.0, 600.0, 1191.0), 46.0, paper.MAJOR_PX
FOOTER_SQUARES, FOOTER_Y_PX = (10, 20), 1661.0


class Style(NamedTuple):
  """Look of a page; every leaf is a float or an RGB triple in 0..1, so a style can be drawn, mixed and vmapped."""

  paper_rgb: jax.Array
  major_rgb: jax.Array
  minor_rgb: jax.Array
  ink_rgb: jax.Array
  text_rgb: jax.Array
  grid_px: jax.Array  # width of a grid line
  trace_px: jax.Array
  em_px: jax.Array
  border: jax.Array  # 0 or 1: black edge of the picture
  header: jax.Array  # 0 or 1


class Page(NamedTuple):
  """A drawn page.

  Attributes:
    image: (1700, W, 3) in 0..1.
    inks: (1700, W, 3) coverage of grid, of text (with pulses, separators and border) and of traces.
  """

  image: jax.Array
  inks: jax.Array


def competition() -> Style:
  """Returns the look of the competition's originals (variant 0001), measured on a real page."""
  rgb = lambda *v: jnp.array(v, jnp.float32)
  f = lambda v: jnp.float32(v)
  return Style(
    paper_rgb=rgb(1, 1, 1), major_rgb=rgb(1, 0, 0), minor_rgb=rgb(0.996, 0.875, 0.859), ink_rgb=rgb(0.09, 0.09, 0.09),
    text_rgb=rgb(0, 0, 0), grid_px=f(0.5 * paper.PX_PER_PT), trace_px=f(0.75 * paper.PX_PER_PT),
    em_px=f(11 * paper.PX_PER_PT), border=f(1), header=f(1),
  )  # fmt: skip


def draw_style(key: jax.Array) -> Style:
  """Draws a look near the competition's: ink 0..0.25, the colours, widths and letter sizes of other prints, half without header."""
  ks = jax.random.split(key, 9)
  base = competition()
  uniform = lambda k, low, high, shape=(): jax.random.uniform(k, shape, minval=low, maxval=high)
  hue = jnp.clip(base.major_rgb + uniform(ks[0], -0.35, 0.35, (3,)), 0, 1)
  major = jnp.where(jax.random.bernoulli(ks[1], 0.5), base.major_rgb, hue)
  fade = uniform(ks[2], 0.08, 0.45)
  return Style(
    paper_rgb=1 - uniform(ks[3], 0, 0.08, (3,)), major_rgb=major, minor_rgb=1 - fade * (1 - major) - 0.02,
    ink_rgb=uniform(ks[4], 0, 0.25) + jnp.zeros(3), text_rgb=uniform(ks[4], 0, 0.25) + jnp.zeros(3),
    grid_px=base.grid_px * uniform(ks[5], 0.7, 1.5), trace_px=base.trace_px * uniform(ks[6], 0.8, 1.4),
    em_px=base.em_px * uniform(ks[7], 0.85, 1.15), border=base.border,
    header=jax.random.bernoulli(ks[8], 0.5).astype(jnp.float32),
  )  # fmt: skip


class Rows(NamedTuple):
  """What each row of a page shows; static but for the signals.

  Attributes:
    mv: (R, T) signal at the record's samples.
    owners: (R, T) int, number of the segment that prints the sample, -1 where the row is blank.
    times_s: (R, T) the row's second at which the sample is printed: a segment's first sample stands at its very start.
  """

  mv: jax.Array
  owners: np.ndarray
  times_s: np.ndarray


def rows(mv: jax.Array, *, layout: Layout, rate_hz: float) -> Rows:
  """Lays a record out in rows.

  Args:
    mv: (12, T) leads in layout.LEADS order, sample i at i / rate_hz s.
    layout: says which lead stands where; T must cover layout.seconds.
    rate_hz: of `mv`.

  Returns:
    The rows.

  Raises:
    ValueError: if the record is shorter than the layout.
  """
  samples = math.floor(layout.seconds * rate_hz + 1e-6)
  if mv.shape[-2] != len(LEADS) or mv.shape[-1] < samples:
    raise ValueError(f'mv is {mv.shape}; layout {layout.name} needs ({len(LEADS)}, >= {samples}) at {rate_hz} Hz')
  shape = (len(layout.zeros_px), mv.shape[-1])
  signals, owners = jnp.zeros(shape), np.full(shape, -1)
  times_s = np.broadcast_to(np.arange(mv.shape[-1]) / rate_hz, shape).copy()
  for n, segment in enumerate(layout.segments):
    first, stop = (math.ceil(second * rate_hz - 1e-6) for second in (segment.start_s, segment.stop_s))
    here = (segment.row, slice(first, stop))
    signals = signals.at[here].set(segment.sign * mv[LEADS.index(segment.lead), first:stop])
    owners[here] = n
    times_s[here] = segment.start_s + np.arange(stop - first) / rate_hz
  return Rows(signals, owners, times_s)


def strip_truth(mv: jax.Array, times_s: np.ndarray, *, layout: Layout, rate_hz: float) -> tuple[jax.Array, np.ndarray]:
  """Truth of every row at the given instants, on the very polyline that is drawn.

  Args:
    mv: (12, T) as in `rows`.
    times_s: (W,) seconds, increasing.
    layout: says which lead stands where.
    rate_hz: of `mv`.

  Returns:
    (R, W) mV and (R, W) bool: whether a trace is printed there.
  """
  table = rows(mv, layout=layout, rate_hz=rate_hz)
  values, printed = [], []
  for row, owner, printed_s in zip(table.mv, table.owners, table.times_s, strict=True):
    left = np.clip(np.searchsorted(printed_s, times_s + 1e-9, side='right') - 1, 0, len(printed_s) - 2)
    share = np.clip((times_s - printed_s[left]) / (printed_s[left + 1] - printed_s[left]), 0.0, 1.0)
    share = np.where(share < 1e-6, 0.0, share)
    right = left + (share > 0)
    inside = (times_s > printed_s[0] - 1e-9) & (times_s < printed_s[-1] + 1e-9)
    printed.append(inside & (owner[left] >= 0) & (owner[left] == owner[right]))
    values.append(row[left] * (1 - share) + row[left + 1] * share)
  return jnp.stack(values), np.stack(printed)


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


def _miters(x, y, joined, half_px):
  """Spurs (T,) dx, dy px from each vertex: how far a mitred corner of the line reaches beyond a round one."""
  along = jnp.stack([jnp.diff(x), jnp.diff(y)])
  unit = along / jnp.sqrt((along**2).sum(0) + 1e-12)
  before, after = unit[:, :-1], unit[:, 1:]
  ratio = jnp.minimum(MITER_LIMIT, 1 / jnp.sqrt(jnp.clip((1 + (before * after).sum(0)) / 2, 1e-6, 1)))
  outward = before - after
  outward = outward / jnp.sqrt((outward**2).sum(0) + 1e-12)
  spur = outward * (ratio - 1) * half_px * (joined[:-1] & joined[1:])
  return jnp.pad(spur, ((0, 0), (1, 1)))


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
    spurs = _miters(x, y, joined, style.trace_px / 2)
    lines = jnp.stack([jnp.diff(x), jnp.diff(y)])

    def nearer(distance2, k, *, x=x, y=y, heights=heights, joined=joined, spurs=spurs, lines=lines):
      i = jnp.clip(nearest + k, 0, last - 1)
      drawn = joined[i] & (nearest + k >= 0)
      px, py = centre - x[i], heights - y[i]
      d2 = jnp.minimum(_distance2(px, py, *lines[:, i]), _distance2(px, py, *spurs[:, i]))
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


def page(key: jax.Array, mv: jax.Array, *, layout: Layout, style: Style, rate_hz: float, x0_px=0, width_px: int = paper.WIDTH_PX) -> Page:
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
    The page; its lattice is `geometry.page_lattice()` moved by x0_px, its rows' truth `strip_truth`.
  """
  table = rows(mv, layout=layout, rate_hz=rate_hz)
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
