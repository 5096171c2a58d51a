"""Pages laid flat that are displaced by a known field."""

import numpy as np
from scipy import ndimage

from ecgjax.geometry import lattices, paper
from ecgjax.locate import unwarp


def flat_of(page, displacement_px):
  """The page laid flat if what belongs at p is found at p - displacement(p), on a mesh of its own; judge: SciPy's spline interpolation."""
  ys, xs = unwarp.centres_px(step_px=paper.HEIGHT_PX / len(displacement_px))
  x, y = np.meshgrid(xs, ys)
  at = [(y + displacement_px[..., 1] - 0.5), (x + displacement_px[..., 0] - 0.5)]
  smooth = ndimage.gaussian_filter(page.astype(np.float32) / 255, (0.7, 0.7, 0))
  colours = [ndimage.map_coordinates(smooth[..., c], at, order=1, mode='nearest') for c in range(3)]
  return [np.float32(np.mean(colours, 0)), np.float32(np.max(colours, 0))], np.ones(x.shape, np.float32)


def of_page(image, *, step_px=unwarp.STEP_PX):
  """A drawn page (1700, 2200, 3) in 0..1 that lies in its place, prepared."""
  image = np.round(255 * np.asarray(image)).astype(np.uint8)
  return unwarp.prepare(*unwarp.lay_flat(unwarp.shades(image), lattices.page_lattice(), step_px=step_px))


def at_nodes(displacement_px):
  step_px = paper.HEIGHT_PX / len(displacement_px)
  ys, xs = unwarp.centres_px(step_px=step_px)
  rows, cols = (np.clip(n, 1, size - 1) for n, size in zip(lattices.nodes_px(), (paper.HEIGHT_PX, paper.WIDTH_PX), strict=True))
  places = np.meshgrid((rows - ys[0]) / step_px, (cols - xs[0]) / step_px, indexing='ij')
  return np.stack([ndimage.map_coordinates(displacement_px[..., c], places, order=1, mode='nearest') for c in (0, 1)], axis=-1)


def inner(a):
  return a[3:-3, 3:-3]
