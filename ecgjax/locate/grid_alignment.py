"""Alignment of a lattice to the grid, from an initial error below 2.5 mm: straightening, landmarks, sub-pixel refinement.

All coordinates are in a page frame: a homography takes it to the picture, and `displacement_px` (45, 57, 2) is the displacement of its
nodes from their nominal positions in page px.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ecgjax.geometry import homography, lattices
from ecgjax.geometry.homography import change_frame
from ecgjax.geometry.paper import MAJOR_PX, MINOR_PX
from ecgjax.locate import displacement, grid_phase, subpixel, template_match, unwarp

ROUNDS, SETTLED_PX = 6, 1.0  # of straightening, at most, and the change of its shape below which it is done
COARSE_PX = 300.0  # knots of the surfaces that straighten
# the surface through the 5 mm grid hardly bends: flat baselines look like lines of it, and must not pull it to themselves
KNOTS_PX, BENDING = 300.0, 30.0  # knots and stiffness
MAJOR_ROUNDS = 3  # at most: once more only if a line was a whole square off. Where the 5 mm grid is invisible, each pulls by a px or so
FLAT_PX = 0.1  # rms by which a rung moves a page that is flat (0.01 to 0.09; wrinkled ones 0.3): a finer one has nothing left to follow
PRIOR = 0.002  # how sure the 5 mm grid must be to have as much say as the landmarks: seen well it is 0.01 to 0.1, invisible 0.001
# doubt, and the rms error of nodes with that doubt, on the first four pages of every variant of sim:even
OFF_PX = (0.3, 0.5, 0.7, 1.0, 1.3, 1.7, 2.3, 4.0), (0.03, 0.08, 0.1, 0.17, 0.25, 1.0, 3.2, 3.5)
BORNE_OUT = 0.95  # median confidence of nodes below which the grid does not bear a lattice out: then some are a whole line off
# share of the trace area that may have no grid: of good registered pages a torn one has 0.11, the one that was accepted and wrong 0.2
TORN = 0.15
DENSE = 1.2  # px per px of the flat picture that a picture keeps before it is laid flat: px between px are then told by their neighbours


Flattener = Callable[[np.ndarray, np.ndarray], unwarp.FlatView]


def flattener(image: np.ndarray, plane: np.ndarray, *, coarse: bool = False) -> Flattener:
  """Prepares the rectification of a picture.

  Args:
    image: (H, W, 3) uint8.
    plane: (3, 3) page px -> image px, right in scale.
    coarse: use a copy with about one px per px of the rectified picture: four times as fast, and accurate enough for straightening.

  Returns:
    The function (plane (3, 3), `displacement_px` (45, 57, 2) page px) -> picture rectified along them.
  """
  scale = lattices.image_scale(homography.projected(plane, lattices.page_lattice()))
  step_px = unwarp.STEP_PX if coarse else 1
  small, factors = _shrunk(image, DENSE / step_px / max(scale, 1e-3))
  planes, to_small = unwarp.shades(small), np.diag([*factors, 1.0])

  def flat(plane, displacement_px):
    return unwarp.prepare(*unwarp.lay_flat(planes, unwarp.lattice(to_small @ plane, displacement_px), step_px=step_px))

  return flat


def _shrunk(image: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
  """Makes a picture smaller, if `factor` is below 0.9; also returns the factors of its px coordinates x, y."""
  import cv2

  if factor > 0.9:
    return image, np.ones(2)
  size = [max(1, round(n * factor)) for n in image.shape[1::-1]]
  return cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.array(size) / image.shape[1::-1]


def straightened(flat, plane: np.ndarray, displacement_px: np.ndarray) -> tuple[np.ndarray, unwarp.FlatView]:
  """Makes the grid lines straight and evenly spaced, up to a constant shift.

  Args:
    flat: a result of `flattener`.
    plane: (3, 3) page px -> image px.
    displacement_px: (45, 57, 2) initial displacement in page px.

  Returns:
    The better `displacement_px`, and the picture rectified before the last round, which changed it by less than SETTLED_PX on convergence.
  """
  for _ in range(ROUNDS):
    view = flat(plane, displacement_px)
    change = _straighten(view, displacement_px) - displacement_px
    change -= change.mean((0, 1))  # slopes say nothing of the place
    displacement_px = displacement_px + change
    if np.abs(change).max() < SETTLED_PX:
      break
  return displacement_px, view


def align(image: np.ndarray, rough: Flattener, plane: np.ndarray, displacement_px: np.ndarray, templates: template_match.TemplateSpectra):
  """Aligns the lattice to the grid; the initial error must be below half a 5 mm square.

  Args:
    image: (H, W, 3) uint8.
    rough: the coarse rectification of this picture, as used for straightening.
    plane: (3, 3) page px -> image px.
    displacement_px: (45, 57, 2) page px.
    templates: landmarks: if they are whole lines off in the end, the alignment is repeated once from there.

  Returns:
    The better plane map and `displacement_px`, the picture rectified along them, and the Judgement.
  """
  flat = flattener(image, plane)
  for last in (False, True):
    for _ in range(MAJOR_ROUNDS):
      before, displacement_px = displacement_px, _align_major(rough(plane, displacement_px), displacement_px)
      if np.abs(displacement_px - before).max() < MINOR_PX:
        break
    for step_px, bending in subpixel.RUNGS:
      before, view = displacement_px, flat(plane, displacement_px)
      displacement_px = subpixel.refine(view, displacement_px, step_px=step_px, bending=bending)
      if np.sqrt(((displacement_px - before) ** 2).sum(-1).mean()) < FLAT_PX:
        break
    view = flat(plane, displacement_px)
    judgement: Judgement = judge(view, templates)
    if last or np.abs(judgement.shift_px).max() < MINOR_PX / 2:
      break
    plane, displacement_px = change_frame(plane, displacement_px, turn=0, shift_px=judgement.shift_px)
  return plane, displacement_px, view, judgement


def _straighten(flat, displacement_px):
  phases = ((p, grid_phase.demodulate(flat, pitch_px=p)) for p in (MAJOR_PX, MINOR_PX))
  parts = [part for p, phase in phases for part in grid_phase.slopes(phase, pitch_px=p, step_px=COARSE_PX)]
  return displacement.displace(displacement_px, displacement.fit(parts, step_px=COARSE_PX, bending=1e-2))


def _align_major(flat, displacement_px):
  phase = grid_phase.demodulate(flat, pitch_px=MAJOR_PX)
  _, agreed = grid_phase.consensus(phase, phase, phase.z)  # an incoherent phase is chance: there the landmarks decide
  part = grid_phase.angles(phase, grid_phase.offset_px(phase, pitch_px=MAJOR_PX), pitch_px=MAJOR_PX, step_px=KNOTS_PX)
  parts = [part._replace(weight=part.weight * agreed), grid_phase.zero_prior(phase, PRIOR, step_px=KNOTS_PX)]
  return displacement.displace(displacement_px, displacement.fit(parts, step_px=KNOTS_PX, bending=BENDING, ridge=subpixel.RIDGE))


class Judgement(NamedTuple):
  """Evidence for and against a page that was found.

  Attributes:
    shift_px: (2,) remaining displacement of its landmarks, page x, y.
    score: () correlation of the landmarks, at most 1.
    confidence: (45, 57) 1 / (1 + d^2), d the expected rms error of a node in page px, from the visible grid around it.
  """

  shift_px: np.ndarray
  score: np.ndarray
  confidence: np.ndarray


def judge(flat: unwarp.FlatView, templates: template_match.TemplateSpectra) -> Judgement:
  """Returns the evidence of landmarks and grid on a rectified page."""
  phase = subpixel.minor_grid_phase(flat)
  doubt_px = grid_phase.doubt_px(phase, grid_phase.slip(phase, grid_phase.demodulate(flat, pitch_px=MAJOR_PX)))
  off_px = np.exp(np.interp(np.log(doubt_px), np.log(OFF_PX[0]), np.log(OFF_PX[1])))
  return Judgement(*template_match.match(flat.ink, templates), 1 / (1 + off_px**2))


def doubtful_share(confidence: np.ndarray) -> float:
  """Returns the share of nodes in the trace area whose confidence (45, 57) is below 0.5."""
  return float((confidence[lattices.trace_area()] < 0.5).mean())
