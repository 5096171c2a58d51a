"""Streams of training examples. A stream is a function step -> host batch, so that a run resumes exactly from its step.

The host only reads signals; pages are drawn, degraded and cut on the device (`example`), inside the training step.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax import degrade, geometry, packs, paper, render, signals
from ecgjax.geometry import Frame
from ecgjax.layout import Layout

PACK_RATE_HZ = 500
EDGE_PX = 8  # drawn beyond the window on either side, for the sampling kernel
Batch = dict[str, np.ndarray]


class Example(NamedTuple):
  """One page, or a window of its time, as the network trains on it.

  Attributes:
    strips: (R, H, W, 5) as `geometry.with_coordinates` makes them.
    rows_px: (R, W) fractional row of the trace.
    printed: (R, W) bool, whether there is one.
    inks: (R, H, W, 3) coverage of grid, text and trace.
  """

  strips: jax.Array
  rows_px: jax.Array
  printed: jax.Array
  inks: jax.Array


def stream(pack: np.ndarray | None, *, batch_size: int, seed: int) -> Callable[[int], Batch]:
  """Recordings for simulated pages, shuffled anew in every epoch.

  Args:
    pack: (N, 8, 5000) int16 in 5 uV units as `packs.load` gives it, or None: then every record is simulated.
    batch_size: global.
    seed: of the order.

  Returns:
    A pure function: step 0, 1, ... -> {'pack': (B, 8, 5000) int16}; zeros without a pack.
  """

  def batch(step: int) -> Batch:
    if pack is None:
      return {'pack': np.zeros((batch_size, 8, 10 * PACK_RATE_HZ), np.int16)}
    at = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, places = at // len(pack), at % len(pack)
    orders = {e: np.random.default_rng((seed, int(e))).permutation(len(pack)) for e in np.unique(epochs)}
    return {'pack': np.stack([pack[orders[e][i]] for e, i in zip(epochs, places, strict=True)])}

  return batch


def record(key: jax.Array, pack: jax.Array, *, simulated_share: float) -> jax.Array:
  """One record for a page: a recording varied in gain and start, or a simulated one.

  Args:
    key: of this example.
    pack: (8, T) int16 at PACK_RATE_HZ, 5 uV units.
    simulated_share: 0..1, how often the simulator is asked instead; at 0 and at 1 the other source is not even compiled.

  Returns:
    (12, T) mV.
  """
  ks = jax.random.split(key, 5)
  mv = None
  if simulated_share < 1:
    gain = jnp.exp(jax.random.uniform(ks[0], minval=math.log(0.7), maxval=math.log(1.5)))
    mv = signals.twelve(pack * (gain * packs.MV_PER_UNIT))
    mv = jnp.roll(mv, jax.random.randint(ks[1], (), 0, mv.shape[-1]), axis=-1)
  if simulated_share > 0:
    drawn = signals.simulate(ks[2], rate_hz=PACK_RATE_HZ, seconds=pack.shape[-1] / PACK_RATE_HZ)
    mv = drawn if mv is None else jnp.where(jax.random.bernoulli(ks[3], simulated_share), drawn, mv)
  # a record at half the rate is printed with longer straight lines and sharper corners
  coarse = mv.at[:, 1:-1:2].set((mv[:, :-2:2] + mv[:, 2::2]) / 2)
  return jnp.where(jax.random.bernoulli(ks[4], 0.4), coarse, mv)


def example(key: jax.Array, mv: jax.Array, *, layout: Layout, frame: Frame, window_px: int, strength: float) -> Example:
  """Draws, degrades and cuts one page, or a random window of its time.

  Args:
    key: of this example.
    mv: (12, T) record at PACK_RATE_HZ.
    layout: of the page.
    frame: of its strips.
    window_px: columns of the frame to show, at most frame.width_px.
    strength: of `degrade.photometric`; 0 also fixes the style to the competition's.

  Returns:
    The example, its width `window_px`.
  """
  ks = jax.random.split(key, 5)
  first = jax.random.randint(ks[0], (), 0, frame.width_px - window_px + 1)
  scale = layout.px_per_s / frame.rate_hz
  x0 = jnp.floor(paper.START_X_PX + (first - frame.margin_px) * scale).astype(jnp.int32) - EDGE_PX
  width = min(paper.WIDTH_PX, math.ceil(window_px * scale) + 2 * EDGE_PX)
  x0 = jnp.clip(x0, 0, paper.WIDTH_PX - width)
  style = render.competition()
  if strength:
    plain = jax.random.bernoulli(ks[1], 0.3)
    style = jax.tree.map(lambda a, b: jnp.where(plain, a, b), style, render.draw_style(ks[2]))
  page = render.page(ks[3], mv, layout=layout, style=style, rate_hz=PACK_RATE_HZ, x0_px=x0, width_px=width)
  image = degrade.photometric(ks[4], page.image, strength=strength) if strength else page.image
  lattice = geometry.page_lattice() - jnp.array([1, 0]) * x0
  strips, inks = (
    geometry.cut(layer, lattice, layout=layout, frame=frame, window=(first, window_px)) for layer in (image, page.inks)
  )
  truth, printed = render.strip_truth(mv, frame.times_s(), layout=layout, rate_hz=PACK_RATE_HZ)
  take = lambda a: jax.lax.dynamic_slice_in_dim(jnp.asarray(a), first, window_px, axis=-1)
  return Example(geometry.with_coordinates(strips, frame=frame, first=first), frame.rows_px(take(truth)), take(printed), inks)
