"""Cutting the strips of a page for a network, and the differentiable function from a picture to rows."""

import functools
import math
from collections.abc import Callable

import jax
import numpy as np

from ecgjax.extract import path_decoder
from ecgjax.geometry import lattices, layouts

LINES = 40  # of strips that are cut at a time, at most
SCALES = (1.0, 1.25, 1.6, 2.0, 3.0)  # image px per page px for which strips are cut: each is a program of its own


def make_trace(apply, *, layout: layouts.Layout, frame: lattices.Frame):
  """Returns the function (params, image, lattice) -> Trace; differentiable in all three.

  Cutting, network and decoder are compiled separately: in a single program XLA's CPU compiler samples the image again for
  every convolution tap (26 s a page instead of 3).
  """
  cut = make_cut(layout=layout, frame=frame)
  scores, decoded, begins = jax.jit(apply), jax.jit(path_decoder.soft_argmax), lattices.begins(layout, frame)
  return lambda params, image, lattice: decoded(scores(params, cut(image, lattice)), begins=begins)


@functools.cache
def make_cut(
  *, layout: layouts.Layout, frame: lattices.Frame, cell: tuple[int, int] | None = None
) -> Callable[[np.ndarray, np.ndarray], jax.Array]:
  """Returns the function (image, lattice) -> strips for a network, smoothed according to the image's scale.

  The strips are (R, H, W, 5) with coordinates, or by cells of (a, b) px (R, H / a, W / b, a b 3) colours (see `inference.Engine`). One
  function per page and frame, so that reading and its pictures share compiled programs.
  """

  step = cell[0] if cell else 1  # whole cells
  lines = step * math.gcd(max(1, LINES // step), frame.height_px // step)

  @functools.partial(jax.jit, static_argnames='scale')
  def cut(image, lattice, *, scale):
    strips = lattices.cut(image, lattice, layout=layout, frame=frame, image_scale=scale, lines=lines, cell=cell)
    return strips if cell else lattices.with_coordinates(strips, frame=frame)

  def nearest(image, lattice):
    found = lattices.image_scale(np.asarray(lattice))
    image = lattices.padded(image) if isinstance(image, np.ndarray) else image
    return cut(image, lattice, scale=min(SCALES, key=lambda s: abs(np.log(s / found))))

  return nearest
