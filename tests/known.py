"""A page whose signals are known, and a reader that knows them in place of the network."""

import jax.numpy as jnp
import numpy as np

from ecgjax.drawing import ground_truth
from ecgjax.ecg.leads import LIMBS
from ecgjax.extract import digitizer, path_decoder
from ecgjax.geometry import lattices, layouts, paper
from ecgjax.locate import find_page

FS = 250
PAGE = layouts.make()
FRAME = lattices.frame(PAGE, rate_hz=500, height_px=640)
FOUND = find_page.Found(lattices.page_lattice(), np.ones((45, 57)), '3x4+II', 1.0, 1.0, 'ok', '')  # the page fills its picture
WHITE = np.full((paper.HEIGHT_PX, paper.WIDTH_PX, 3), 255, np.uint8)
TIMES = np.arange(10 * FS) / FS
MV = np.stack([np.sin(2 * np.pi * (1 + 0.1 * n) * TIMES + n) for n in range(12)])
MV[:6] = [one * MV[0] + two * MV[1] for one, two in LIMBS.values()]  # as bodies have it


def reader(hidden=()):
  """A Reader that finds MV on any page, but for the rows named in `hidden`."""
  mv, printed = ground_truth.at(jnp.asarray(MV, jnp.float32), FRAME.times_s(), layout=PAGE, rate_hz=FS)
  visible = jnp.asarray(printed, jnp.float32).at[jnp.array(hidden, int)].set(0.0)
  trace = path_decoder.Trace(FRAME.rows_px(mv), jnp.full(mv.shape, 0.3), visible)
  return digitizer.Reader(lambda image, lattice: trace, PAGE, FRAME, {'model': {}})
