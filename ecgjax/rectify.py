"""Any picture to a lattice: where the page lies, how sure that is, and which layout it shows.

The page network says roughly where; the grid, locked in, says exactly but for whole squares; the landmarks say which square, and
whether it is a page at all. What no landmarks confirm is tried in the other turns, and as a scan that fills the picture, before
it is given up.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax import bend, checkpoint, geometry, landmarks, lockin, pagenet, paper, pose, surface, views
from ecgjax.paper import MAJOR_PX, MINOR_PX

WEIGHTS = pathlib.Path(__file__).parent / 'weights' / 'page.safetensors'
READ = '3x4+II'  # the layout whose landmarks are looked for first
SURE, POSSIBLE = 0.6, 0.45  # landmark scores: above the first a page is found, below the second it is not; wrong turns score 0.2 to 0.4
CLEAR = 0.85  # so good that no other start can be better
SEEN = 0.25  # median confidence below which the grid does not bear the lattice out
FINEST = 0.3  # image px per page px: below it neither grid nor print can be seen
ROUNDS, SETTLED_PX = 6, 0.3  # of straightening, at most, and the change below which it is done
COARSE_PX = 300.0  # knots of the surfaces that straighten
# surfaces that correct: knots, stiffness, and whether the 1 mm grid has a say, which slips by a line where more than half its pitch is off.
# The first hardly bends: flat baselines look like lines of the 5 mm grid, and must not pull it to themselves
STEPS = ((300.0, 30.0, False), (300.0, 1e-2, True), (150.0, 1e-2, True), (80.0, 1e-3, True))
CALM = 1e-3  # of these surfaces, which correct by a px or two: none where nothing is seen
WINDOW = 2.5  # smoothing of the fine grid's angles, in its pitches
SCALES = (0.5, 1.0, 1.4, 2.0, 3.0, 4.5)  # image px per page px for which pictures are laid flat
EXACT_PX = 0.5  # a picture of the page's own size that lies so well is the digital original: no need to sample it anew


class Found(NamedTuple):
  """Where the page lies.

  Attributes:
    lattice: (45, 57, 2) float32 image px of the page's nodes.
    confidence: (45, 57) 0..1; 1 / (1 + d^2) where the grid at the node is d page px off, rms, and low where none is seen.
    layout: key of `layout.ROWS`.
    score: how well the layout's landmarks agree with the page's ink, at most 1.
    status: ok, review or fail.
    reason: why it is not ok, or ''.
  """

  lattice: np.ndarray
  confidence: np.ndarray
  layout: str
  score: float
  status: str
  reason: str


@functools.cache
def network(*, path=WEIGHTS):
  """Loads the page network.

  Args:
    path: of its weights.

  Returns:
    (uint8 canvas -> (turn's log-probabilities (4,), (3, 3) canvas units -> page units), side of the canvas in px).

  Raises:
    ValueError: if the file is missing or holds no page network.
  """
  params, meta = checkpoint.load_weights(path)
  if 'canvas' not in meta:
    raise ValueError(f'{path} holds no page network')
  net = pagenet.network(**meta['model'])
  checkpoint.compare(params, jax.eval_shape(net.init, jax.random.key(0)), path)

  @jax.jit
  def look(canvas):
    seen = net.apply(params, canvas / jnp.float32(255))
    return jax.nn.log_softmax(seen.turn), pose.fit(seen)[0]

  return look, meta['canvas']['size_px']


def rectify(image: np.ndarray) -> Found:
  """Finds the page in a picture.

  Args:
    image: (H, W, 3) uint8, any turn.

  Returns:
    Where it lies; with status 'fail' the lattice is the best guess, and should not be read.

  Raises:
    ValueError: if it is no such array.
  """
  if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
    raise ValueError(f'the picture is {getattr(image, "dtype", type(image))} {np.shape(image)}; it must be uint8 (H, W, 3)')
  best, right_turn = None, None
  for turn, plane in candidates(image):
    if right_turn not in (None, turn):
      continue
    upright = np.ascontiguousarray(np.rot90(image, turn))
    found = lock(upright, plane)
    found = found._replace(lattice=bend.turned(found.lattice, image.shape, turn))
    if best is None or found.score > best.score:
      best = found
    if best.score >= CLEAR and best.status == 'ok':
      break
    right_turn = turn if found.score >= SURE else right_turn
  if best is None:
    corners = geometry.page_lattice() * (np.array(image.shape[1::-1]) / [paper.WIDTH_PX, paper.HEIGHT_PX])
    reason = f'the picture is {image.shape[1]} x {image.shape[0]} px; a page in it has too few to be read (need about {FINEST * 2200:.0f})'
    return Found(corners.astype(np.float32), np.zeros(corners.shape[:2]), READ, 0.0, 'fail', reason)
  return best


def candidates(image: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
  """Yields (turn, (3, 3) page px -> px of the picture turned so often counter-clockwise), the likeliest first; none for a tiny picture."""
  if max(image.shape[:2]) < FINEST * paper.WIDTH_PX:
    return
  look, size_px = network()
  chances, _ = look(views.canvas(image, size_px=size_px))
  for turn in (int(t) for t in np.argsort(-np.asarray(chances))):
    upright = np.ascontiguousarray(np.rot90(image, turn))
    to_page = np.asarray(look(views.canvas(upright, size_px=size_px))[1], np.float64)
    units = np.diag([1 / paper.WIDTH_PX, 1 / paper.WIDTH_PX, 1.0])
    units[:2, 2] = -0.5, -0.5 * paper.HEIGHT_PX / paper.WIDTH_PX
    plane = views.canvas_matrix(upright.shape, size_px=size_px) @ np.linalg.pinv(to_page) @ units
    if sane(plane, upright.shape):
      yield turn, plane
    height, width = image.shape[:2] if turn % 2 == 0 else image.shape[1::-1]
    scale = max(width / paper.WIDTH_PX, height / paper.HEIGHT_PX)
    plane = np.diag([scale, scale, 1.0])
    plane[:2, 2] = (width - scale * paper.WIDTH_PX) / 2, (height - scale * paper.HEIGHT_PX) / 2
    yield turn, plane


def sane(plane: np.ndarray, shape) -> bool:
  """Returns whether a plane map shows the page from the front, at a size that can be read, not far out of the picture of `shape`."""
  if not np.isfinite(plane).all():
    return False
  corners = np.array([[0, 0, 1], [paper.WIDTH_PX, 0, 1], [paper.WIDTH_PX, paper.HEIGHT_PX, 1], [0, paper.HEIGHT_PX, 1]]) @ plane.T
  if (corners[:, 2] * corners[0, 2] <= 0).any():
    return False
  xy = corners[:, :2] / corners[:, 2:]
  sides = np.roll(xy, -1, 0) - xy
  crosses = sides[:, 0] * np.roll(sides, -1, 0)[:, 1] - sides[:, 1] * np.roll(sides, -1, 0)[:, 0]
  area = abs(np.sum(xy[:, 0] * np.roll(xy[:, 1], -1) - xy[:, 1] * np.roll(xy[:, 0], -1))) / 2
  return bool((crosses > 0).all() and area > (FINEST / 2) ** 2 * paper.WIDTH_PX * paper.HEIGHT_PX and area < 9 * shape[0] * shape[1])


def lock(image: np.ndarray, plane: np.ndarray) -> Found:
  """Finds an upright page exactly.

  Args:
    image: (H, W, 3) uint8.
    plane: (3, 3) page px -> image px, right within landmarks.REACH_PX and a few per cent of scale.

  Returns:
    Where it lies.
  """
  template = jnp.asarray(landmarks.templates()[READ])
  flat = flattener(image, plane)
  moved = straightened(flat)
  moved = placed(flat(moved), moved, template)
  for step_px, stiff, fine in STEPS:
    moved = _refine(flat(moved), moved, step_px=step_px, stiff=stiff, fine=fine)
  shift, score, confidence = (np.asarray(x) for x in judge(flat(moved), template))
  lattice = np.asarray(lockin.lattice(jnp.asarray(plane, jnp.float32), moved), np.float32)
  if image.shape[:2] == (paper.HEIGHT_PX, paper.WIDTH_PX) and np.sqrt(((lattice - geometry.page_lattice()) ** 2).mean()) < EXACT_PX:
    lattice = geometry.page_lattice()
  status, reason = _verdict(float(score), shift, lattice, confidence)
  return Found(lattice, confidence, READ, float(score), status, reason)


def flattener(image: np.ndarray, plane: np.ndarray) -> Callable[[jax.Array], lockin.Flat]:
  """Returns how the picture (H, W, 3) looks flat, by a plane map (3, 3) page px -> image px of nodes `moved` (45, 57, 2) page px."""
  size, padded = jnp.array(image.shape[1::-1], jnp.float32), geometry.padded(image)
  to_image = jnp.asarray(plane, jnp.float32)
  seen = geometry.image_scale(np.asarray(bend.apply_plane(plane, geometry.page_lattice())))
  scale = min(SCALES, key=lambda s: abs(np.log(s / max(seen, 1e-3))))
  return lambda moved: _flatten(padded, to_image, moved, size, scale=scale)


def straightened(flat: Callable[[jax.Array], lockin.Flat]) -> jax.Array:
  """Returns the `moved` (45, 57, 2) with which a flattened picture's lines are straight and evenly spaced, if not yet in their places."""
  moved = jnp.zeros((*geometry.page_lattice().shape[:2], 2))
  for _ in range(ROUNDS):
    before, moved = moved, _straighten(flat(moved), moved)
    if np.std(np.asarray(moved - before), axis=(0, 1)).max() < SETTLED_PX:
      break
  return moved


def _verdict(score: float, shift_px: np.ndarray, lattice: np.ndarray, confidence: np.ndarray) -> tuple[str, str]:
  steps = [np.diff(lattice, axis=axis) for axis in (0, 1)]
  turns = steps[1][:-1, :, 0] * steps[0][:, :-1, 1] - steps[1][:-1, :, 1] * steps[0][:, :-1, 0]
  if score < POSSIBLE:
    return 'fail', f'no page of layout {READ} was found: pulses, separators and lead names are not where they belong (score {score:.2f})'
  if (turns <= 0).any() or np.abs(shift_px).max() > MINOR_PX:
    return 'review', 'the page was found, but its lattice is folded or its grid does not fit its print'
  if np.median(confidence) < SEEN:
    return 'review', 'the page was found by its print alone: its grid is hardly seen, so time and height may be off by 1 per cent'
  if score < SURE:
    return 'review', f'the page was found, but its landmarks are hard to see (score {score:.2f})'
  return 'ok', ''


@functools.partial(jax.jit, static_argnames='scale')
def _flatten(image, plane, moved, size, *, scale: float):
  return lockin.prepare(lockin.lay_flat(image, lockin.lattice(plane, moved), size, scale=scale))


@jax.jit
def _straighten(flat, moved):
  parts = [part for p in (MAJOR_PX, MINOR_PX) for part in lockin.slopes(lockin.demodulate(flat, pitch_px=p), pitch_px=p, step_px=COARSE_PX)]
  return surface.displace(moved, surface.fit(parts, step_px=COARSE_PX, stiff=1e-2))


@jax.jit
def placed(flat: lockin.Flat, moved: jax.Array, template: jax.Array) -> jax.Array:
  """Returns `moved` (45, 57, 2) shifted so that what is seen lies where the template (850, 1100) has it."""
  return surface.displace(moved, surface.translation(-landmarks.match(flat, template).shift_px))


@functools.partial(jax.jit, static_argnames=('step_px', 'stiff', 'fine'))
def _refine(flat, moved, *, step_px: float, stiff: float, fine: bool):
  parts = lockin.angles(lockin.demodulate(flat, pitch_px=MAJOR_PX), pitch_px=MAJOR_PX, step_px=step_px)
  if fine:
    parts += lockin.angles(lockin.demodulate(flat, pitch_px=MINOR_PX, window=WINDOW), pitch_px=MINOR_PX, step_px=step_px)
  return surface.displace(moved, surface.fit(parts, step_px=step_px, stiff=stiff, calm=CALM))


@jax.jit
def judge(flat: lockin.Flat, template: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns shift_px (2,) and score of the template (850, 1100), as `landmarks.match` does, and the nodes' confidence (45, 57)."""
  shift, score = landmarks.match(flat, template)
  doubt_px = lockin.doubt_px(lockin.demodulate(flat, pitch_px=MINOR_PX, window=WINDOW), pitch_px=MINOR_PX)
  return shift, score, 1 / (1 + doubt_px**2)
