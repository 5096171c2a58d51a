"""Streams of training examples. A stream is a function step -> host batch, so that a run resumes exactly from its step.

The host only reads signals; pages are drawn, degraded and cut on the device (`example`), inside the training step.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.damage import degrade
from ecgjax.drawing import ground_truth, looks, render
from ecgjax.ecg import leads, packs, synthesis
from ecgjax.ecg.errors import ECGError
from ecgjax.geometry import lattices, paper
from ecgjax.geometry.lattices import Frame
from ecgjax.geometry.layouts import Layout
from ecgjax.simulate import variants
from ecgjax.training import records

EDGE_PX = 24  # drawn beyond the window on either side, for ink that creeps, blur and the sampling kernel
LEAN_PX = 248  # how much wider than a window of the page its picture is, for pages that stand askew
TALL_MV = (2.5, 6.5)  # of the tallest wave of a record that is made tall
SEAM = 125  # samples over which the step from a record's end to its start is taken away, at either end: 0.25 s
ROWS_MM = (12.0, 38.0)  # from one zero line to the next, where they are drawn at random: as near as on pages of 12 rows
HIGHEST_PX, LOWEST_PX = 300.0, 1560.0  # zero lines that are drawn at random
Batch = dict[str, np.ndarray]
Item = Mapping[str, jax.Array]  # one element of a batch, on the device


class Example(NamedTuple):
  """One page, or a window of its time, as the network trains on it.

  Attributes:
    strips: (R, H, W, 5) as `lattices.with_coordinates` makes them.
    rows_px: (R, W) fractional row of the trace.
    printed: (R, W) bool, whether there is a trace.
    inks: (R, H, W, 3) coverage of grid, text and trace.
  """

  strips: jax.Array
  rows_px: jax.Array
  printed: jax.Array
  inks: jax.Array


COLUMNS = Example._make((2, 1, 1, 2))  # which axis they are


def order(size: int, *, batch_size: int, seed: int) -> Callable[[int], list[int]]:
  """Returns a pure function step -> `batch_size` indices below `size`, every epoch in an order of its own."""

  def indices(step: int) -> list[int]:
    at = range(step * batch_size, (step + 1) * batch_size)
    orders = {e: np.random.default_rng((seed, e)).permutation(size) for e in {i // size for i in at}}
    return [int(orders[i // size][i % size]) for i in at]

  return indices


def stream(pack: np.ndarray | None, *, batch_size: int, seed: int) -> Callable[[int], Batch]:
  """Recordings for simulated pages, shuffled anew in every epoch.

  Args:
    pack: (N, 8, 5000) int16 in 5 uV units as `packs.load` gives it, or None: then every record is simulated.
    batch_size: global.
    seed: of the order.

  Returns:
    A pure function: step 0, 1, ... -> {'pack': (B, 8, 5000) int16}; zeros without a pack.
  """
  if pack is None:
    return lambda step: {'pack': np.zeros((batch_size, 8, 10 * packs.RATE_HZ), np.int16)}
  indices = order(len(pack), batch_size=batch_size, seed=seed)
  return lambda step: {'pack': pack[indices(step)]}


def recorded(pages: Sequence[dict[str, Any]], *, batch_size: int, seed: int) -> Callable[[int], Batch]:
  """Built pages, shuffled anew in every epoch.

  Args:
    pages: as `records.read` opens them.
    batch_size: global.
    seed: of the order.

  Returns:
    A pure function: step 0, 1, ... -> {'image': (B, H, W, 3) uint8, padded on the right and below, 'mask': (B, 1700, 2200) uint8
    class numbers, 'lattice': (B, 45, 57, 2), 'rows_px': (B, R, W) in the frame of `records`, nan where nothing is printed}.
  """
  indices = order(len(pages), batch_size=batch_size, seed=seed)

  def batch(step: int) -> Batch:
    items = [pages[i] for i in indices(step)]
    whole = {name: np.stack([item[name] for item in items]) for name in ('mask', 'lattice', 'rows_px')}
    images = [lattices.padded(item['image']) for item in items]
    most = np.max([image.shape for image in images], axis=0)
    return whole | {'image': np.stack([np.pad(image, [(0, n) for n in most - image.shape]) for image in images])}

  return batch


def record(key: jax.Array, pack: jax.Array, *, simulated_share: float, tall_share: float, slow_share: float = 0.0) -> jax.Array:
  """Returns one record for a page: a recording varied in gain and start, or a simulated one.

  Args:
    key: of this example.
    pack: (8, T) int16 at packs.RATE_HZ, 5 uV units.
    simulated_share: 0..1, share of simulated records; at 0 and at 1 the other source is not compiled.
    tall_share: 0..1, share of records that are scaled so that their tallest wave measures TALL_MV: one recording in thirty is
      that tall, and the strokes of neighbouring rows cross on such pages.
    slow_share: 0..1, share of records that last twice as long, as at 50 mm/s.

  Returns:
    (12, T) mV.
  """
  ks = jax.random.split(key, 7)
  mv = jnp.zeros((12, pack.shape[-1]))
  if simulated_share < 1:
    gain = jnp.exp(jax.random.uniform(ks[0], minval=math.log(0.7), maxval=math.log(1.5)))
    mv = leads.twelve(pack * (gain * packs.MV_PER_UNIT))
    mv = jnp.roll(seamless(mv), jax.random.randint(ks[1], (), 0, mv.shape[-1]), axis=-1)
  if simulated_share > 0:
    drawn = synthesis.simulate(ks[2], rate_hz=packs.RATE_HZ, seconds=pack.shape[-1] / packs.RATE_HZ)
    mv = drawn if simulated_share >= 1 else jnp.where(jax.random.bernoulli(ks[3], simulated_share), drawn, mv)
  tall_mv = jax.random.uniform(ks[5], minval=TALL_MV[0], maxval=TALL_MV[1])
  mv = mv * jnp.where(jax.random.bernoulli(ks[6], tall_share), tall_mv / jnp.maximum(jnp.abs(mv).max(), 0.1), 1.0)
  if slow_share:
    half = mv[:, : -(-mv.shape[-1] // 2) + 1]
    twice = jnp.stack([half[:, :-1], (half[:, :-1] + half[:, 1:]) / 2], axis=-1).reshape(12, -1)[:, : mv.shape[-1]]
    mv = jnp.where(jax.random.bernoulli(jax.random.fold_in(key, 0), slow_share), twice, mv)
  # the competition prints records of 250 Hz too: longer straight lines, sharper corners
  coarse = mv.at[:, 1:-1:2].set((mv[:, :-2:2] + mv[:, 2::2]) / 2)
  return jnp.where(jax.random.bernoulli(ks[4], 0.4), coarse, mv)


def seamless(mv: jax.Array) -> jax.Array:
  """Returns a record (12, T) whose end meets its start, so that it may be rotated in time: each end is shifted by half of the step.

  A network would otherwise learn the artificial steps of rotated records. Linear relations between leads are preserved.
  """
  fade = jnp.maximum(1 - jnp.arange(mv.shape[-1]) / SEAM, 0.0)
  half = (mv[:, :1] - mv[:, -1:]) / 2
  return mv - half * fade + half * fade[::-1]


def rows(key: jax.Array, layout: Layout, *, share: float) -> Layout:
  """Returns the layout, with probability `share` with zero lines ROWS_MM apart and the first one at a random height."""
  ks = jax.random.split(key, 3)
  step = paper.PX_PER_MM * jax.random.uniform(ks[0], minval=ROWS_MM[0], maxval=ROWS_MM[1])
  n = jnp.arange(len(layout.zeros_px))
  free = HIGHEST_PX, LOWEST_PX - step * n[-1]
  drawn = free[0] + (free[1] - free[0]) * jax.random.uniform(ks[1]) + step * n
  return layout._replace(zeros_px=jnp.where(jax.random.bernoulli(ks[2], share), drawn, jnp.asarray(layout.zeros_px)))


def example(
  key: jax.Array, mv: jax.Array, *, layout: Layout, frame: Frame, window_px: int, names: tuple[str, ...], rows_share: float = 0.0
) -> Example:
  """Draws, degrades, photographs and cuts one page, or a random window of its time.

  Args:
    key: of this example.
    mv: (12, T) record at packs.RATE_HZ.
    layout: of the page.
    frame: of its strips.
    window_px: columns of the frame to show, at most frame.width_px.
    names: keys of `variants.VARIANTS` to choose from; ('0001',) is the competition's original and costs nothing but its drawing.
    rows_share: of `rows`.

  Returns:
    The example, its width `window_px`. Parts that are torn off, covered or outside the picture count as not printed.
  """
  at_window, at_variant, at_page, at_photo = jax.random.split(key, 4)
  layout = rows(jax.random.fold_in(key, 0), layout, share=rows_share) if rows_share else layout
  first = jax.random.randint(at_window, (), 0, frame.width_px - window_px + 1)
  scale = layout.px_per_s / frame.rate_hz
  x0 = jnp.floor(paper.START_X_PX + (first - frame.margin_px) * scale).astype(jnp.int32) - EDGE_PX
  width = min(paper.WIDTH_PX, math.ceil(window_px * scale) + 2 * EDGE_PX)
  x0 = jnp.clip(x0, 0, paper.WIDTH_PX - width)
  plain = names == ('0001',)
  damage, style = (degrade.Damage(), looks.competition()) if plain else variants.draw(at_variant, names)
  page = render.page(at_page, mv, layout=layout, style=style, rate_hz=packs.RATE_HZ, x0_px=x0, width_px=width)
  page_lattice = lattices.page_lattice() - jnp.array([1, 0]) * x0
  image, lattice, photo = page.image, page_lattice, None
  if not plain:
    part = (variants.MIXED_FRAME_PX[0], min(variants.MIXED_FRAME_PX[1], width + LEAN_PX)), x0 + width / 2
    photo = degrade.photo(
      at_photo, page.image, damage, paper_rgb=style.paper_rgb, frame_px=variants.MIXED_FRAME_PX, x0_px=x0, part=part
    )
    image, lattice = photo.image, photo.lattice
  window = (first, window_px)
  strips = lattices.cut(image, lattice, layout=layout, frame=frame, window=window)
  inks = lattices.cut(page.inks, page_lattice, layout=layout, frame=frame, window=window)
  wanted, printed = ground_truth.at(mv, frame.times_s(), layout=layout, rate_hz=packs.RATE_HZ)
  take = lambda a: jax.lax.dynamic_slice_in_dim(jnp.asarray(a), first, window_px, axis=-1)
  wanted, printed = take(wanted), take(printed)
  if photo is not None:
    printed &= degrade.visible(photo, layout.page_px(take(frame.times_s()), wanted))
  return Example(lattices.with_coordinates(strips, frame=frame, first=first), frame.rows_px(wanted), printed, inks)


def recorded_example(key: jax.Array, item: Item, *, layout: Layout, frame: Frame, window_px: int, strength: float) -> Example:
  """Cuts a random window of time out of a built page.

  Args:
    key: of this example.
    item: one page of `recorded`.
    layout: of the page.
    frame: of the strips; its rate must divide records.RATE_HZ.
    window_px: columns of the frame to show.
    strength: of `degrade.photometric`.

  Returns:
    The example, its width `window_px`; inks are 0 or 1 before they are sampled.

  Raises:
    ECGError: if the record's columns cannot be decimated to the frame's rate.
  """
  if records.RATE_HZ % frame.rate_hz or abs(frame.margin_px - lattices.MARGIN_S * frame.rate_hz) > 1e-6:
    raise ECGError(f"config.strip.rate_hz={frame.rate_hz} must divide the records' {records.RATE_HZ} columns/s and have a whole margin")
  at_window, at_light = jax.random.split(key)
  first = jax.random.randint(at_window, (), 0, frame.width_px - window_px + 1)
  image = item['image'].astype(jnp.float32) / 255
  image = degrade.photometric(at_light, image, strength=strength) if strength else image
  inks = (item['mask'][..., None] == jnp.arange(1, 4)).astype(jnp.float32)
  short, long = sorted(image.shape[:2])  # padded by less than BUCKET_PX
  scale = max(1.0, math.floor(2 * min(short / paper.HEIGHT_PX, long / paper.WIDTH_PX)) / 2)
  take = functools.partial(lattices.cut, layout=layout, frame=frame, window=(first, window_px))
  strips, inks = take(image, item['lattice'], image_scale=scale), take(inks, lattices.page_lattice())
  columns = jnp.clip((first + jnp.arange(window_px)) * (records.RATE_HZ // frame.rate_hz), 0, item['rows_px'].shape[-1] - 1)
  rows = item['rows_px'][:, columns] + (frame.height_px - records.HEIGHT_PX) / 2
  printed = ~jnp.isnan(rows)
  strips = lattices.with_coordinates(strips, frame=frame, first=first)
  return Example(strips, jnp.where(printed, rows, 0.0), printed, inks)
