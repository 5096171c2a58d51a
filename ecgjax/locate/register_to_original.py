"""A picture of a page whose clean original is at hand to a lattice, with no weights: so photographs become training data.

The picture's grid says about where the page lies and straightens it, the original's own ink says which way up and which square is
which, and both together, coarse to fine, say exactly where. Black may stand off the grid (`offset_field`): last the ink alone says where
it stands. What is left between the two inks then is the residual.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.ecg.errors import PageNotFound
from ecgjax.geometry import lattices, paper
from ecgjax.geometry.homography import TrackingLost
from ecgjax.geometry.paper import MAJOR_PX
from ecgjax.locate import displacement, filters, grid_alignment, grid_phase, initial_guesses, orientation, subpixel, template_match, unwarp

PATCH_PX = 30.0  # sigma of the neighbourhoods in which inks are compared
STEPS = ((16.0, 300.0), (8.0, 150.0))  # coarse to fine: blur of the inks, and knots of the surface
SHARP_PX = 4.0  # blur of the inks beside the 1 mm grid, and of what is left between them in the end
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
  """Where a page lies.

  Attributes:
    lattice: (45, 57, 2) float32 image px of the page's nodes, by its grid.
    ink_lattice: the same by its ink: where the original's black is found.
    residual_px: rms of what is left between the two inks along the second, in page px.
  """

  lattice: np.ndarray
  ink_lattice: np.ndarray
  residual_px: float


class Offsets(NamedTuple):
  """Displacement by neighbourhoods of MAJOR_PX, (2, h, w) along y and x.

  Attributes:
    goal: by how much what is seen must be moved to lie on the original, page px.
    weight: 0..1, how sure that is; 0 where nothing is seen.
  """

  goal: jax.Array
  weight: jax.Array


def register(image: np.ndarray, clean: np.ndarray) -> Registered:
  """Finds a page in a picture by its original.

  Args:
    image: (H, W, 3) uint8, any turn.
    clean: (1700, 2200, 3) uint8, the same page as it was printed.

  Returns:
    Where it lies.

  Raises:
    ECGError: if they do not fit within ACCEPTED_PX, show different ink, or too little of the grid is seen.
  """
  twin, grid = _twin(clean, jnp.asarray(lattices.page_lattice()))
  templates = template_match.spectra(twin[None])
  plane, displacement_px = _start(image, templates)
  flat = functools.partial(grid_alignment.flattener(image, plane), plane)
  # where a print has lost most of its grid, no bending at all may be nearer to the truth than what noise made of it
  displacement_px = max((displacement_px, jnp.zeros_like(displacement_px)), key=lambda bent: float(_judge(flat(bent), templates).score))
  for blur_px, step_px in STEPS:
    displacement_px = _inked(flat(displacement_px), displacement_px, twin, grid, blur_px=blur_px, step_px=step_px)
  last, residual_px = flat(displacement_px), np.inf
  for step_px, bending in subpixel.RUNGS:
    ink = _ink(last, twin, grid, blur_px=SHARP_PX, step_px=step_px, weight=INK_WEIGHT)
    better = subpixel.refine(last, displacement_px, step_px=step_px, bending=bending, others=(ink,))
    view = flat(better)
    left_px = float(_residual(view, twin, grid))
    if left_px > WORSE * residual_px:  # bits of a grid that a print lost tell no truth, though all tell the same
      break
    displacement_px, last, residual_px = better, view, left_px
  _, correlation, confidence = _judge(last, templates)
  if not (residual_px <= ACCEPTED_PX and correlation >= ALIKE):
    raise PageNotFound(
      f'the picture does not fit its original: {residual_px:.2f} px rms between their inks, whose correlation is {correlation:.2f}; '
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
  at = jnp.asarray(plane, jnp.float32)
  lattice, ink_lattice = (np.asarray(unwarp.lattice(at, px), np.float32) for px in (displacement_px, by_ink))
  return Registered(lattice, ink_lattice, residual_px)


def _judge(flat, templates: template_match.TemplateSpectra) -> grid_alignment.Judgement:
  return jax.device_get(grid_alignment.judge(flat, templates))


def _start(image: np.ndarray, templates: template_match.TemplateSpectra) -> tuple[np.ndarray, jax.Array]:
  """The plane map of the initial guess whose page shows the twin's ink best, and its displacement."""
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


def offsets(ink: jax.Array, twin: jax.Array, grid: jax.Array, *, blur_px: float) -> Offsets:
  """Compares two inks in neighbourhoods: least squares for gain and displacement, to first order (Lucas and Kanade, 1981).

  On a black-and-white print the grid is as black as the ink: so much of it as is seen is taken out in the same fit.

  Args:
    ink: (h, w) ink of a picture laid flat.
    twin: (h, w) ink of the original.
    grid: (h, w) darkness of all else on the original.
    blur_px: sigma of the blur of both in page px, about the largest displacement that is understood.

  Returns:
    The displacement and its weight.
  """
  sharp = lambda a: unwarp.blur(a, blur_px) - unwarp.blur(a, 80.0)
  ink, twin, grid = sharp(ink), sharp(twin), sharp(grid)
  along = [twin, *(g / unwarp.STEP_PX for g in jnp.gradient(twin)), grid]
  near = [filters.gaussian(a, p, PATCH_PX) for a, p in zip(_mesh(), unwarp.centres_px(), strict=True)]
  over = lambda a: filters.product(near[1], filters.product(near[0], a, axis=0), axis=1)
  normal = jnp.stack([jnp.stack([over(a * b) for b in along], -1) for a in along], -1)
  right = jnp.stack([over(a * ink) for a in along], -1)
  floor = 1e-6 * jnp.array([1.0, blur_px**-2, blur_px**-2, 1.0])
  inverse = jnp.linalg.inv(normal + jnp.diag(floor))
  solved = jnp.einsum('hwab,hwb->hwa', inverse, right)
  gain = jnp.maximum(solved[..., 0], 1e-3)
  goal = jnp.moveaxis(solved[..., 1:3] / gain[..., None], -1, 0)
  noise = jnp.maximum(over(ink**2) - (solved * right).sum(-1), 0) + 1e-4
  spread = jnp.stack([inverse[..., i, i] for i in (1, 2)]) * noise / gain**2 * (blur_px / PATCH_PX) ** 2
  there = (solved[..., 0] > SAME) & (jnp.abs(goal) < 1.5 * blur_px).all(0)
  weight = there * TRUSTED_PX**2 / (spread + TRUSTED_PX**2)
  return Offsets(goal, weight)


def _mesh() -> list[np.ndarray]:
  return [np.arange(MAJOR_PX / 2, limit, MAJOR_PX) for limit in (paper.HEIGHT_PX, paper.WIDTH_PX)]


@jax.jit
def _twin(clean, lattice):
  """(850, 1100) ink of the original, and its grid."""
  size = jnp.array([paper.WIDTH_PX, paper.HEIGHT_PX], jnp.float32)
  grey, brightest, darkest, inside = unwarp.lay_flat([*unwarp.shades(clean), clean.min(-1) / 255], lattice, size)
  return unwarp.prepare([grey, brightest, inside]).ink, (1 - darkest) * (brightest > 0.7)


def _by_ink(flat, displacement_px, last, twin, grid) -> tuple[jax.Array, float]:
  """Returns the displacement once the ink alone lies on the twin's but at its edges, and what is left between them then."""
  step_px, bending, ridge, rounds = INK_ALONE
  ys, xs = (np.minimum(at, size - at) > EDGE_PX for at, size in zip(_mesh(), displacement.SIZE_PX, strict=True))
  within = (ys[:, None] & xs).astype(np.float32)
  for _ in range(rounds):
    ink = _ink(last, twin, grid, blur_px=SHARP_PX, step_px=step_px, weight=1.0)
    ink = ink._replace(weight=ink.weight * within)
    displacement_px = displacement.displace(displacement_px, displacement.fit([ink], step_px=step_px, bending=bending, ridge=ridge))
    last = flat(displacement_px)
  return displacement_px, float(_residual(last, twin, grid, within))


@functools.partial(jax.jit, static_argnames=('blur_px', 'step_px'))
def _ink(flat, twin, grid, *, blur_px: float, step_px: float, weight: float) -> displacement.Observation:
  offset = offsets(flat.ink, twin, grid, blur_px=blur_px)
  return displacement.Observation(*displacement.bases(*_mesh(), step_px=step_px), offset.goal, offset.weight * weight)


@functools.partial(jax.jit, static_argnames=('blur_px', 'step_px'))
def _inked(flat, displacement_px, twin, grid, *, blur_px: float, step_px: float):
  """The displacement once ink and 5 mm grid lie on the twin's."""
  phase = grid_phase.demodulate(flat, pitch_px=MAJOR_PX)
  lines = grid_phase.angles(phase, grid_phase.offset_px(phase, pitch_px=MAJOR_PX), pitch_px=MAJOR_PX, step_px=step_px)
  ink = _ink(flat, twin, grid, blur_px=blur_px, step_px=step_px, weight=1.0)
  return displacement.displace(displacement_px, displacement.fit([ink, lines], step_px=step_px, bending=1e-2))


@jax.jit
def _residual(flat, twin, grid, within=1.0):
  offset = offsets(flat.ink, twin, grid, blur_px=SHARP_PX)
  weight = offset.weight * within
  square = (weight * offset.goal**2).sum((1, 2)) / (weight.sum((1, 2)) + 1e-6)
  return jnp.sqrt(square.sum() + jnp.where(weight.sum() > 0, 0.0, jnp.inf))
