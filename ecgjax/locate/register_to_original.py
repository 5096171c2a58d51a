"""Registration of a picture to the clean original of its page, without weights: the source of training data from photographs.

The picture's grid gives the approximate pose and straightens the page, the original's own ink gives the quarter turn and the shift, and
both together, coarse to fine, the exact lattice. Black may be displaced from the grid (`offset_field`): last a second lattice is fitted
to the ink alone. The remaining displacement between the two inks is the residual.
"""

import functools
from typing import NamedTuple

import numpy as np

from ecgjax.ecg.errors import PageNotFound
from ecgjax.geometry import lattices
from ecgjax.geometry.homography import TrackingLost
from ecgjax.geometry.paper import MAJOR_PX
from ecgjax.locate import displacement, grid_alignment, grid_phase, initial_guesses, orientation, subpixel, template_match, unwarp

PATCH_PX = 30.0  # sigma of the neighbourhoods in which inks are compared
STEPS = ((16.0, 300.0), (8.0, 150.0))  # coarse to fine: blur of the inks, and knots of the surface
SHARP_PX = 4.0  # blur of the inks beside the 1 mm grid, and of their residual in the end
WORSE = 1.015  # times the residual before: then lines are not believed. On five pages of sim:even 1.01 at most, where it goes wrong 1.03
SAME = 0.25  # of the original's ink must be seen for a neighbourhood to count
TRUSTED_PX = 0.05  # best accuracy of one neighbourhood
INK_WEIGHT = 0.02  # of inks beside fine lines, which are five times as exact where they are seen; where they are not, the ink still rules
LIKELY = 0.3  # correlation with which a start is followed: black-and-white prints with a black grid begin at 0.37, and only the end decides
INK_ALONE = (80.0, 0.01, 0.003, 2)  # knots, bending, ridge of how far ink stands off the grid, and how often that is measured
EDGE_PX = 2 * MAJOR_PX  # there the page's edge is dark, too, and would be the only ink around
# By the grid, residual and correlation of a page that fits: right originals have 0.81 and more, others at most 0.52
ACCEPTED_PX, ALIKE = 1.0, 0.72


class Registered(NamedTuple):
  """Position of a page.

  Attributes:
    lattice: (45, 57, 2) float32 image px of the page's nodes, from its grid.
    ink_lattice: the same from its ink: the position of the original's black.
    residual_px: rms displacement between the two inks along the ink lattice, in page px.
  """

  lattice: np.ndarray
  ink_lattice: np.ndarray
  residual_px: float


class Offsets(NamedTuple):
  """Displacement of neighbourhoods of MAJOR_PX, (2, h, w) along y and x.

  Attributes:
    goal: shift of the picture's ink onto the original's, page px.
    weight: 0..1, confidence of the shift; 0 where no ink is visible.
  """

  goal: np.ndarray
  weight: np.ndarray


def register(image: np.ndarray, clean: np.ndarray) -> Registered:
  """Locates a page in a picture by its original.

  Args:
    image: (H, W, 3) uint8, at any rotation.
    clean: (1700, 2200, 3) uint8, the original of the same page.

  Returns:
    The position of the page.

  Raises:
    ECGError: if the two do not fit within ACCEPTED_PX, show different ink, or too little of the grid is visible.
  """
  try:
    return _registered(image, clean)
  except TrackingLost as error:
    raise PageNotFound(f'the picture does not show its original: {error}') from error


def _registered(image: np.ndarray, clean: np.ndarray) -> Registered:
  twin, grid = _twin(clean)
  templates = template_match.spectra(twin[None])
  plane, displacement_px = _start(image, templates)
  flat = functools.partial(grid_alignment.flattener(image, plane), plane)
  # where a print has lost most of its grid, no bending at all may be nearer to the truth than what noise made of it
  score = lambda bent: float(grid_alignment.judge(flat(bent), templates).score)
  displacement_px = max((displacement_px, np.zeros_like(displacement_px)), key=score)
  for blur_px, step_px in STEPS:
    displacement_px = _inked(flat(displacement_px), displacement_px, twin, grid, blur_px=blur_px, step_px=step_px)
  last, residual_px = flat(displacement_px), np.inf
  for step_px, bending in subpixel.RUNGS:
    ink = _ink(last, twin, grid, blur_px=SHARP_PX, step_px=step_px, weight=INK_WEIGHT)
    better = subpixel.refine(last, displacement_px, step_px=step_px, bending=bending, others=(ink,))
    view = flat(better)
    left_px = _residual(view, twin, grid)
    if left_px > WORSE * residual_px:  # bits of a grid that a print lost tell no truth, though all tell the same
      break
    displacement_px, last, residual_px = better, view, left_px
  _, alike, confidence = grid_alignment.judge(last, templates)
  if not (residual_px <= ACCEPTED_PX and alike >= ALIKE):
    raise PageNotFound(
      f'the picture does not fit its original: {residual_px:.2f} px rms between their inks, whose correlation is {alike:.2f}; '
      f'need at most {ACCEPTED_PX:g} px and at least {ALIKE:g}'
    )
  borne_out = float(np.median(confidence))
  if borne_out < grid_alignment.BORNE_OUT:  # where nothing is written, only the grid can tell
    raise PageNotFound(f'the picture shows its original, but its grid does not bear the lattice out (confidence {borne_out:.2f})')
  lost, allowed = grid_alignment.doubtful_share(confidence), grid_alignment.TORN
  if lost > allowed:  # one part of the page may lie whole lines off, with its ink where the original has none to compare
    share = f'{100 * lost:.0f} % of it has no grid that fits; need at most {100 * allowed:.0f} %'
    raise PageNotFound(f'the picture shows its original, but {share}')
  by_ink, residual_px = _by_ink(flat, displacement_px, last, twin, grid)
  lattice, ink_lattice = (unwarp.lattice(plane, nodes) for nodes in (displacement_px, by_ink))
  return Registered(lattice, ink_lattice, residual_px)


def _start(image: np.ndarray, templates: template_match.TemplateSpectra) -> tuple[np.ndarray, np.ndarray]:
  """Returns the plane map of the initial guess that shows the twin's ink best, and its `displacement_px`."""
  best = None, None, 0.0
  for start in initial_guesses.by_grid(initial_guesses.thumbnail(image)):
    try:
      rough = grid_alignment.flattener(image, start, coarse=True)
      best = max(best, orientation.orient(rough, start, templates, enough=ALIKE), key=lambda each: each[2])
    except TrackingLost:
      continue
    if best[2] >= ALIKE:
      break
  plane, displacement_px, score = best
  if plane is None or displacement_px is None or score < LIKELY:
    reason = f'along its grid their inks correlate by {score:.2f}; need {LIKELY:g}, unmirrored'
    raise PageNotFound(f'the picture does not show its original: {reason}')
  return plane, displacement_px


def offsets(seen: np.ndarray, wanted: np.ndarray, grid: np.ndarray, *, blur_px: float) -> Offsets:
  """Compares two inks in neighbourhoods: least squares for gain and displacement, to first order (Lucas and Kanade, 1981).

  On a black-and-white print the grid is as black as the ink; its share is an unknown of the same fit.

  Args:
    seen: (h, w) ink of a rectified picture.
    wanted: (h, w) ink of the original.
    grid: (h, w) darkness of the original without its ink.
    blur_px: sigma of the blur of both in page px, about the largest displacement that can be measured.

  Returns:
    The displacements.
  """
  sharp = lambda a: unwarp.blurred(a, blur_px) - unwarp.blurred(a, 80.0)
  seen, wanted, grid = sharp(seen), sharp(wanted), sharp(grid)
  along = [wanted, *(g / unwarp.STEP_PX for g in np.gradient(wanted)), grid]
  over = lambda a: grid_phase.on_mesh(a, pitch_px=MAJOR_PX, sigma_px=PATCH_PX).astype(np.float64)
  upper = {(i, j): over(along[i] * along[j]) for i in range(len(along)) for j in range(i, len(along))}  # of a symmetric matrix
  normal = np.stack([np.stack([upper[min(i, j), max(i, j)] for j in range(len(along))], -1) for i in range(len(along))], -1)
  right = np.stack([over(a * seen) for a in along], -1)
  floor = 1e-6 * np.array([1.0, blur_px**-2, blur_px**-2, 1.0])
  inverse = np.linalg.inv(normal + np.diag(floor))
  solved = (inverse @ right[..., None])[..., 0]
  gain = np.maximum(solved[..., 0], 1e-3)
  goal = np.moveaxis(solved[..., 1:3] / gain[..., None], -1, 0)
  noise = np.maximum(over(seen**2) - (solved * right).sum(-1), 0) + 1e-4
  spread = np.stack([inverse[..., i, i] for i in (1, 2)]) * noise / gain**2 * (blur_px / PATCH_PX) ** 2
  there = (solved[..., 0] > SAME) & (np.abs(goal) < 1.5 * blur_px).all(0)
  weight = there * TRUSTED_PX**2 / (spread + TRUSTED_PX**2)
  return Offsets(goal, weight)


def _twin(clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the (850, 1100) ink of the original, and its grid."""
  planes = [*unwarp.shades(clean), clean.min(-1) * np.float32(1 / 255)]
  (grey, brightest, darkest), inside = unwarp.lay_flat(planes, lattices.page_lattice())
  return unwarp.prepare([grey, brightest], inside).ink, (1 - darkest) * (brightest > 0.7)


def _by_ink(flat, displacement_px, last, twin, grid) -> tuple[np.ndarray, float]:
  """Returns `displacement_px` fitted to the ink alone, without that at the page's edges, and the residual."""
  step_px, bending, ridge, rounds = INK_ALONE
  ys, xs = (np.minimum(at, size - at) > EDGE_PX for at, size in zip(grid_phase.mesh_px(MAJOR_PX), displacement.SIZE_PX, strict=True))
  within = (ys[:, None] & xs).astype(np.float32)
  for _ in range(rounds):
    ink = _ink(last, twin, grid, blur_px=SHARP_PX, step_px=step_px, weight=1.0)
    ink = ink._replace(weight=ink.weight * within)
    displacement_px = displacement.displace(displacement_px, displacement.fit([ink], step_px=step_px, bending=bending, ridge=ridge))
    last = flat(displacement_px)
  return displacement_px, _residual(last, twin, grid, within)


def _ink(flat, twin, grid, *, blur_px: float, step_px: float, weight: float) -> displacement.Observation:
  found = offsets(flat.ink, twin, grid, blur_px=blur_px)
  return displacement.Observation(*displacement.bases(*grid_phase.mesh_px(MAJOR_PX), step_px=step_px), found.goal, found.weight * weight)


def _inked(flat, displacement_px, twin, grid, *, blur_px: float, step_px: float):
  """Returns `displacement_px` fitted to the ink and the 5 mm grid."""
  phase = grid_phase.demodulate(flat, pitch_px=MAJOR_PX)
  lines = grid_phase.angles(phase, grid_phase.offset_px(phase, pitch_px=MAJOR_PX), pitch_px=MAJOR_PX, step_px=step_px)
  ink = _ink(flat, twin, grid, blur_px=blur_px, step_px=step_px, weight=1.0)
  return displacement.displace(displacement_px, displacement.fit([ink, lines], step_px=step_px, bending=1e-2))


def _residual(flat, twin, grid, within: np.ndarray | float = 1.0) -> float:
  found = offsets(flat.ink, twin, grid, blur_px=SHARP_PX)
  weight = found.weight * within
  square = (weight * found.goal**2).sum((1, 2)) / (weight.sum((1, 2)) + 1e-6)
  return float(np.sqrt(square.sum())) if weight.any() else np.inf
