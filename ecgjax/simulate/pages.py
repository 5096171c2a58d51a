"""Simulated pages for users: a clean page drawn from a record, and a picture of it with the damage of a variant."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.drawing import looks, render
from ecgjax.ecg.errors import ECGError
from ecgjax.geometry import layouts, paper
from ecgjax.simulate import validation_set, variants


class Photograph(NamedTuple):
  """A picture of a page.

  Attributes:
    image: (H, W, 3) uint8.
    lattice: (45, 57, 2) image x, y px of the page's 5 mm nodes and border.
  """

  image: np.ndarray
  lattice: np.ndarray


def draw_page(key: jax.Array, mv, *, rate_hz: float = 500.0, layout: str = '3x4+II', look: looks.Style | None = None) -> np.ndarray:
  """Draws a clean page.

  Args:
    key: random key for the header's digits and letters.
    mv: (12, T) record in the order of leads.LEADS, mV; samples that are not finite are not printed.
    rate_hz: of `mv`, within ground_truth.RATES_HZ.
    layout: a name of layouts.LAYOUTS.
    look: style of the page; None for the competition's.

  Returns:
    (1700, 2200, 3) uint8, the page frame at 200 dpi.

  Raises:
    ECGError: for another layout, or a record or rate that cannot be printed (see `ground_truth.lay_out`).
  """
  style = looks.competition() if look is None else look
  return np.asarray(_drawn(layouts.make(layout), rate_hz)(key, jnp.asarray(mv, jnp.float32), style))


@functools.lru_cache(4)
def _drawn(layout: layouts.Layout, rate_hz: float):
  image = lambda key, mv, style: render.page(key, mv, layout=layout, style=style, rate_hz=rate_hz).image
  return jax.jit(lambda *of: jnp.round(255 * image(*of)).astype(jnp.uint8))


def photograph(key: jax.Array, page: np.ndarray, *, variant: str = '0005') -> Photograph:
  """Applies the damage of a variant to a clean page and photographs it.

  Args:
    key: random key for the damage.
    page: (1700, 2200, 3) uint8, a result of `draw_page`.
    variant: a name of variants.VARIANTS.

  Returns:
    The picture with its true lattice; for an original (0001) the page itself.

  Raises:
    ECGError: for another variant, or a page of another size.
  """
  if page.shape != (paper.HEIGHT_PX, paper.WIDTH_PX, 3) or page.dtype != np.uint8:
    raise ECGError(f'the page is {page.dtype} {page.shape}; it must be uint8 (1700, 2200, 3), as draw_page draws it')
  paper_rgb = jnp.asarray(np.quantile(page.reshape(-1, 3), 0.9, axis=0) / 255, jnp.float32)
  image, lattice, _ = validation_set.pictured(key, jnp.asarray(page / np.float32(255)), variants.get(variant), paper_rgb=paper_rgb)
  return Photograph(np.asarray(image), np.asarray(lattice))
