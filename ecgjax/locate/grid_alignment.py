"""Alignment of a lattice to the grid, from an initial error below 2.5 mm: straightened, turned and placed by landmarks, then refined.

Everything is said in a page frame: a plane map takes it to the picture, and `displacement_px` (45, 57, 2) is by how many page px
its nodes lie from their places in it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.geometry import homography as homography
from ecgjax.geometry import lattices
from ecgjax.geometry.homography import change_frame
from ecgjax.geometry.paper import MAJOR_PX, MINOR_PX
from ecgjax.locate import displacement, grid_phase, subpixel, template_match, unwarp

ROUNDS, SETTLED_PX = 6, 1.0  # of straightening, at most, and the change of its shape below which it is done
COARSE_PX = 300.0  # knots of the surfaces that straighten
# the surface through the 5 mm grid hardly bends: flat baselines look like lines of it, and must not pull it to themselves
KNOTS_PX, BENDING = 300.0, 30.0  # distance of the knots, and weight of the bending penalty
MAJOR_ROUNDS = 3  # at most: once more only if a line was a whole square off. Where the 5 mm grid is invisible, each pulls by a px or so
FLAT_PX = 0.1  # rms by which a rung moves a page that is flat (0.01 to 0.09; wrinkled ones 0.3): a finer one has nothing left to follow
PRIOR = 0.002  # how sure the 5 mm grid must be to have as much weight as the landmarks: seen well it is 0.01 to 0.1, invisible 0.001
# doubt, and the rms error of nodes of so much doubt: on the first four pages of every variant of sim:even
OFF_PX = (0.3, 0.5, 0.7, 1.0, 1.3, 1.7, 2.3, 4.0), (0.03, 0.08, 0.1, 0.17, 0.25, 1.0, 3.2, 3.5)
BORNE_OUT = 0.95  # median confidence of nodes below which the grid does not bear a lattice out: then some are a whole line off
# share of the trace area that may show no grid: of good registered pages a torn one has 0.11, the one that was accepted and wrong 0.2
TORN = 0.15
DENSE = 1.2  # px per px of the flat picture that a picture keeps before it is laid flat: px between px are then interpolated


Flattener = Callable[[np.ndarray, jax.Array], unwarp.FlatView]


def flattener(image: np.ndarray, plane: np.ndarray, *, coarse: bool = False) -> Flattener:
  """Prepares to lay a picture flat.

  Args:
    image: (H, W, 3) uint8.
    plane: (3, 3) page px -> image px, right in scale.
    coarse: from a copy with about a px for each px of the flat picture: four times as fast, and near enough to straighten lines.

  Returns:
    (plane (3, 3), `displacement_px` (45, 57, 2) page px) -> how the picture looks flat along them.
  """
  scale = lattices.image_scale(np.asarray(homography.apply_plane(plane, lattices.page_lattice())))
  step_px = unwarp.STEP_PX if coarse else 1
  image, factors = _reduced(image, DENSE / step_px / max(scale, 1e-3))
  size, planes = jnp.array(image.shape[1::-1], jnp.float32), _shades(lattices.padded(image))

  def flat(plane, displacement_px):
    found = _lattice(jnp.asarray(np.diag([*factors, 1.0]) @ plane, jnp.float32), displacement_px)
    return _prepare(_lay_flat(planes, found, size, step_px=step_px))

  return flat


# programs of their own: in one, XLA's CPU compiler samples the picture anew for all that is made of a sample
_shades, _prepare, _lattice = jax.jit(unwarp.shades), jax.jit(unwarp.prepare), jax.jit(unwarp.lattice)
_lay_flat = jax.jit(unwarp.lay_flat, static_argnames='step_px')


def _reduced(image: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
  """Makes a picture smaller, if `factor` is below 0.9; also returns by what its px coordinates x, y are to be multiplied."""
  from PIL import Image

  if factor > 0.9:
    return image, np.ones(2)
  size = [max(1, round(n * factor)) for n in image.shape[1::-1]]
  return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.HAMMING)), np.array(size) / image.shape[1::-1]


def straightened(flat, plane: np.ndarray, displacement_px: jax.Array) -> tuple[jax.Array, unwarp.FlatView]:
  """Makes a picture's lines straight and evenly spaced, if not yet in their places.

  Args:
    flat: as `flattener` gives it.
    plane: (3, 3) page px -> image px.
    displacement_px: (45, 57, 2) page px to begin with.

  Returns:
    The better displacement, and the picture as it lay flat before the last round, which moved it by less than SETTLED_PX if all went well.
  """
  for _ in range(ROUNDS):
    view = flat(plane, displacement_px)
    change = _straighten(view, displacement_px) - displacement_px
    change -= change.mean((0, 1))  # slopes say nothing of the place
    displacement_px += change
    if jnp.abs(change).max() < SETTLED_PX:
      break
  return displacement_px, view


def align(image: np.ndarray, rough: Flattener, plane: np.ndarray, displacement_px: jax.Array, templates: template_match.TemplateSpectra):
  """Aligns a page to its grid, if its lines lie within half a 5 mm square of their places.

  Args:
    image: (H, W, 3) uint8.
    rough: of this picture, coarse, as it was straightened by.
    plane: (3, 3) page px -> image px.
    displacement_px: (45, 57, 2) page px.
    templates: of the landmarks: if these lie whole lines off in the end, all is done once more from there.

  Returns:
    The better plane map and displacement, the picture laid flat along them, and the Judgement.
  """
  flat = flattener(image, plane)
  for last in (False, True):
    for _ in range(MAJOR_ROUNDS):
      before, displacement_px = displacement_px, _align_major(rough(plane, displacement_px), displacement_px)
      if jnp.abs(displacement_px - before).max() < MINOR_PX:
        break
    for step_px, bending in subpixel.RUNGS:
      before = displacement_px
      displacement_px = subpixel.refine(flat(plane, before), before, step_px=step_px, bending=bending)
      if jnp.sqrt(((displacement_px - before) ** 2).sum(-1).mean()) < FLAT_PX:
        break
    view = flat(plane, displacement_px)
    judgement: Judgement = jax.device_get(judge(view, templates))
    if last or np.abs(judgement.shift_px).max() < MINOR_PX / 2:
      break
    plane, displacement_px = change_frame(plane, displacement_px, turn=0, shift_px=np.asarray(judgement.shift_px))
  return plane, displacement_px, view, judgement


@jax.jit
def _straighten(flat, displacement_px):
  phases = ((p, grid_phase.demodulate(flat, pitch_px=p)) for p in (MAJOR_PX, MINOR_PX))
  parts = [part for p, phase in phases for part in grid_phase.slopes(phase, pitch_px=p, step_px=COARSE_PX)]
  return displacement.displace(displacement_px, displacement.fit(parts, step_px=COARSE_PX, bending=1e-2))


@jax.jit
def _align_major(flat, displacement_px):
  phase = grid_phase.demodulate(flat, pitch_px=MAJOR_PX)
  _, agreed = grid_phase.consensus(phase, phase, phase.z)  # what does not agree is chance, and stays where the landmarks put it
  part = grid_phase.angles(phase, grid_phase.offset_px(phase, pitch_px=MAJOR_PX), pitch_px=MAJOR_PX, step_px=KNOTS_PX)
  parts = [part._replace(weight=part.weight * agreed), grid_phase.zero_prior(phase, PRIOR, step_px=KNOTS_PX)]
  return displacement.displace(displacement_px, displacement.fit(parts, step_px=KNOTS_PX, bending=BENDING, ridge=subpixel.RIDGE))


class Judgement(NamedTuple):
  """What speaks for a page that was found, and against it.

  Attributes:
    shift_px: (2,) page x, y by which its landmarks still seem to lie off.
    score: () how well they agree, at most 1.
    confidence: (45, 57) 1 / (1 + d^2), d the rms error that is to be expected of a node that the grid bears out so well, in page px.
  """

  shift_px: jax.Array
  score: jax.Array
  confidence: jax.Array


@jax.jit
def judge(flat: unwarp.FlatView, templates: template_match.TemplateSpectra) -> Judgement:
  """Judges a page laid flat by its landmarks and its grid."""
  phase = subpixel.minor_grid_phase(flat)
  doubt_px = grid_phase.doubt_px(phase, grid_phase.slip(phase, grid_phase.demodulate(flat, pitch_px=MAJOR_PX)))
  off_px = jnp.exp(jnp.interp(jnp.log(doubt_px), *(jnp.log(jnp.array(a)) for a in OFF_PX)))
  return Judgement(*template_match.match(flat.ink, templates), 1 / (1 + off_px**2))


def doubtful_share(confidence: lattices.Array) -> float:
  """Returns the share of the trace area's nodes whose confidence (45, 57) says that they are more likely off than not."""
  return float((np.asarray(confidence)[lattices.trace_area()] < 0.5).mean())
