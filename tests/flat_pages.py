"""Pages laid flat that are displaced by a known field."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from ecgjax.geometry import lattices, paper
from ecgjax.locate import subpixel, unwarp

prepare, phase_of, lines = jax.jit(unwarp.prepare), jax.jit(subpixel.minor_grid_phase), jax.jit(subpixel.lines)
_lay_flat = jax.jit(unwarp.lay_flat, static_argnames='step_px')


def flat_of(page, displacement_px):
  """The page laid flat if what belongs at p is found at p - displacement(p), on a mesh of its own; judge: SciPy's spline interpolation."""
  ys, xs = unwarp.centres_px(step_px=paper.HEIGHT_PX / len(displacement_px))
  x, y = np.meshgrid(xs, ys)
  at = [(y + displacement_px[..., 1] - 0.5), (x + displacement_px[..., 0] - 0.5)]
  smooth = ndimage.gaussian_filter(page.astype(np.float32) / 255, (0.7, 0.7, 0))
  colours = [ndimage.map_coordinates(smooth[..., c], at, order=1, mode='nearest') for c in range(3)]
  return [jnp.asarray(plane, jnp.float32) for plane in (np.mean(colours, 0), np.max(colours, 0), np.ones_like(x))]


def of_page(image, *, step_px=unwarp.STEP_PX):
  """A drawn page (1700, 2200, 3) that lies in its place, prepared."""
  size_px = jnp.array([paper.WIDTH_PX, paper.HEIGHT_PX], jnp.float32)
  return prepare(_lay_flat(unwarp.shades(image), jnp.asarray(lattices.page_lattice()), size_px, step_px=step_px))


def at_nodes(displacement_px):
  step_px = paper.HEIGHT_PX / len(displacement_px)
  ys, xs = unwarp.centres_px(step_px=step_px)
  rows, cols = (np.clip(n, 1, size - 1) for n, size in zip(lattices.nodes_px(), (paper.HEIGHT_PX, paper.WIDTH_PX), strict=True))
  places = np.meshgrid((rows - ys[0]) / step_px, (cols - xs[0]) / step_px, indexing='ij')
  return np.stack([ndimage.map_coordinates(displacement_px[..., c], places, order=1, mode='nearest') for c in (0, 1)], axis=-1)


def inner(a):
  return a[3:-3, 3:-3]
