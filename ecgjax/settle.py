"""From about where a page lies to where exactly: straightened by its grid, turned and placed by its landmarks, settled on every line.

Everything is said in a page frame: a plane map takes it to the picture, and `moved` (45, 57, 2) is by how many page px its nodes lie
from their places in it.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax import bend, geometry, landmarks, lockin, surface
from ecgjax.paper import MAJOR_PX, MINOR_PX
from ecgjax.plane import MIDDLE, Lost, corners, homography, projected

ROUNDS, SETTLED_PX = 6, 1.0  # of straightening, at most, and the change of its shape below which it is done
COARSE_PX = 300.0  # knots of the surfaces that straighten
# surfaces that correct: knots, stiffness, and whether the 1 mm grid has a say, which slips by a line where more than half its pitch is off.
# The first hardly bends: flat baselines look like lines of the 5 mm grid, and must not pull it to themselves
STEPS = ((300.0, 30.0, False), (300.0, 1e-2, True), (150.0, 1e-2, True), (80.0, 1e-3, True))
CALM = 1e-3  # of these surfaces, which correct by a px or two: none where nothing is seen
STAY = 0.002  # how sure the 5 mm grid must be to have as much say as the landmarks: seen well it is 0.01 to 0.1, invisible 0.001
WINDOW = 2.5  # smoothing of the fine grid's angles, in its pitches
SCALES = (0.5, 0.7, 1.0, 1.4, 2.0)  # image px per page px for which pictures are laid flat


def flattener(image: np.ndarray, plane: np.ndarray, *, coarse: bool = False) -> Callable[[jax.Array], lockin.Flat]:
  """Prepares to lay a picture flat.

  Args:
    image: (H, W, 3) uint8.
    plane: (3, 3) page px -> image px.
    coarse: from a copy with about a px for each px of the flat picture: four times as fast, and near enough to straighten lines.

  Returns:
    `moved` (45, 57, 2) page px -> how the picture looks flat.
  """
  seen = geometry.image_scale(np.asarray(bend.apply_plane(plane, geometry.page_lattice())))
  smaller = max(1, round(seen * lockin.STEP_PX) if coarse else int(seen))
  image = _reduced(image, smaller)
  to_image = np.diag([1 / smaller, 1 / smaller, 1.0]) @ plane
  scale = min(SCALES, key=lambda s: abs(np.log(s * smaller / max(seen, 1e-3))))
  size, padded, to_image = jnp.array(image.shape[1::-1], jnp.float32), geometry.padded(image), jnp.asarray(to_image, jnp.float32)
  return lambda moved: _flatten(padded, to_image, moved, size, scale=scale)


def _reduced(image: np.ndarray, factor: int) -> np.ndarray:
  """The mean of every `factor` x `factor` px; px coordinates are divided by it."""
  from PIL import Image

  return image if factor == 1 else np.asarray(Image.fromarray(image).reduce(factor))


def straightened(flat: Callable[[jax.Array], lockin.Flat], moved: jax.Array, *, rounds: int = ROUNDS) -> tuple[jax.Array, lockin.Flat]:
  """Makes a picture's lines straight and evenly spaced, if not yet in their places.

  Args:
    flat: as `flattener` gives it.
    moved: (45, 57, 2) page px to begin with.
    rounds: at most.

  Returns:
    The better `moved`, and the picture as it lay flat before the last round, which moved it by less than SETTLED_PX if all went well.
  """
  for _ in range(rounds):
    shown = flat(moved)
    change = _straighten(shown, moved) - moved
    change -= change.mean((0, 1))  # slopes say nothing of the place
    moved += change
    if jnp.abs(change).max() < SETTLED_PX:
      break
  return moved, shown


def reframed(plane: np.ndarray, moved: jax.Array, *, turn: int, shift_px: np.ndarray) -> tuple[np.ndarray, jax.Array]:
  """Says the same of another page frame.

  Args:
    plane: (3, 3) page px -> image px.
    moved: (45, 57, 2) page px.
    turn: quarter turns of the new frame against the old, from its x to its y axis, around the page's middle.
    shift_px: (2,) where the new frame's middle lies from the old one's, along the new axes.

  Returns:
    Both for the new frame. The plane map takes over all of `moved` that it can, so that only the rest, which is small, has to go on as
    at its edge where the old frame ended.

  Raises:
    plane.Lost: if no plane map comes near to what they say.
  """
  turning = np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), turn % 4)
  to_old = np.eye(3)
  to_old[:2, :2] = turning
  to_old[:2, 2] = MIDDLE + turning @ (np.asarray(shift_px, np.float64) - MIDDLE)
  nodes = geometry.page_lattice().astype(np.float64)
  if not np.isfinite(np.asarray(moved)).all():
    raise Lost('the grid that was followed is not there')
  bent = homography(nodes.reshape(-1, 2), np.asarray(nodes + moved).reshape(-1, 2))
  rest = projected(np.linalg.inv(bent), nodes + np.asarray(moved)) - nodes
  seen = np.clip(projected(to_old, nodes), 0, 2 * MIDDLE)
  rest = geometry.image_px(jnp.asarray(rest, jnp.float32), jnp.asarray(seen, jnp.float32))
  framed = plane @ bent @ to_old
  if corners(framed) is None:
    raise Lost('the lines that were followed as a grid run together')
  return framed, rest @ jnp.asarray(turning, jnp.float32)


def righted(image: np.ndarray, plane: np.ndarray, templates: jax.Array, *, enough: float) -> tuple[np.ndarray, jax.Array, float]:
  """Straightens a page that lies anywhere in any turn, and finds its turn and place.

  Args:
    image: (H, W, 3) uint8.
    plane: (3, 3) page px -> image px, right in scale and direction within some per cent, but for quarter turns and the place.
    templates: (N, 850, 1100) landmarks.
    enough: score of the landmarks with which the other quarter turns need not be tried.

  Returns:
    The page's plane map, its `moved`, and how well its landmarks agree.

  Raises:
    plane.Lost: if what was taken for the page's grid comes apart.
  """
  start = plane, jnp.zeros(geometry.page_lattice().shape)
  best = -1.0, start
  for quarter in (0, 1):
    framed = reframed(*start, turn=quarter, shift_px=np.zeros(2))
    framed, shown = _straight(image, *framed)
    framed = reframed(*framed, turn=0, shift_px=np.asarray(_grid_shift(shown)))
    framed, shown = _straight(image, *framed)
    start = reframed(*framed, turn=-quarter, shift_px=np.zeros(2))
    for half, ink in enumerate((shown.ink, shown.ink[::-1, ::-1])):
      found = _match(ink, templates)
      if found.score > best[0]:
        best = float(found.score), reframed(*framed, turn=2 * half, shift_px=np.asarray(found.shift_px))
    if best[0] >= enough:
      break
  return placed(image, *best[1], templates)


def _straight(image, plane: np.ndarray, moved: jax.Array):
  moved, shown = straightened(flattener(image, plane, coarse=True), moved)
  return (plane, moved), shown


def placed(image, plane: np.ndarray, moved: jax.Array, templates: jax.Array) -> tuple[np.ndarray, jax.Array, float]:
  """Straightens what came into the frame (a plane map (3, 3) and its `moved`), and puts its landmarks in their places.

  Returns:
    Plane map, `moved` and score, as `righted` does.
  """
  for _ in range(2):
    moved, shown = straightened(flattener(image, plane, coarse=True), moved)
    found = _match(shown.ink, templates)
    plane, moved = reframed(plane, moved, turn=0, shift_px=np.asarray(found.shift_px))
    if np.abs(np.asarray(found.shift_px)).max() < MAJOR_PX:
      break
  return plane, moved, float(found.score)


def settled(image: np.ndarray, plane: np.ndarray, moved: jax.Array, templates: jax.Array):
  """Puts every grid line in its place, of a page whose lines lie within half a 5 mm square of theirs.

  Args:
    image: (H, W, 3) uint8.
    plane: (3, 3) page px -> image px.
    moved: (45, 57, 2) page px.
    templates: (N, 850, 1100) landmarks: if they lie whole lines off in the end, all is done once more from there.

  Returns:
    The better plane map and `moved`, how the picture then lies flat, and the Judgement.
  """
  for last in (False, True):
    rough, flat = flattener(image, plane, coarse=True), flattener(image, plane)
    for step_px, stiff, fine in STEPS:
      moved = _refine((flat if step_px < COARSE_PX else rough)(moved), moved, step_px=step_px, stiff=stiff, fine=fine)
    shown = flat(moved)
    judged: Judgement = jax.device_get(judge(shown, templates))
    if last or np.abs(judged.shift_px).max() < MINOR_PX / 2:
      break
    plane, moved = reframed(plane, moved, turn=0, shift_px=np.asarray(judged.shift_px))
  return plane, moved, shown, judged


@functools.partial(jax.jit, static_argnames='scale')
def _flatten(image, plane, moved, size, *, scale: float):
  return lockin.prepare(lockin.lay_flat(image, lockin.lattice(plane, moved), size, scale=scale))


@jax.jit
def _straighten(flat, moved):
  parts = [part for p in (MAJOR_PX, MINOR_PX) for part in lockin.slopes(lockin.demodulate(flat, pitch_px=p), pitch_px=p, step_px=COARSE_PX)]
  return surface.displace(moved, surface.fit(parts, step_px=COARSE_PX, stiff=1e-2))


_match = jax.jit(landmarks.match)


@jax.jit
def _grid_shift(flat):
  """(2,) page x, y by which the page's frame must be moved to hold the most of what bears a grid, and the least of what does not."""
  tones, coarse = (lockin.demodulate(flat, pitch_px=pitch) for pitch in (MINOR_PX, MAJOR_PX))
  look = lambda a, step_px: a[(tones.ys / step_px).astype(int)][:, (tones.xs / step_px).astype(int)]
  seen = tones.sure.mean(0) + look(coarse.sure.mean(0), MAJOR_PX)
  known = look(lockin.blur(flat.use.max(0), 2 * MINOR_PX), lockin.STEP_PX) > 0.1  # outside the picture there may be more of the page
  gain = (jnp.minimum(seen / jnp.quantile(seen, 0.7), 1.0) - 0.5) * known
  for axis, n in enumerate(gain.shape):  # sums over frames moved by -n // 2 to n // 2 lines
    sums = jnp.cumsum(jnp.pad(gain, [(n + 1, n) if i == axis else (0, 0) for i in (0, 1)]), axis)
    low = jnp.arange(n - n // 2, n + n // 2 + 1)
    gain = jnp.take(sums, low + n, axis) - jnp.take(sums, low, axis)
  best = jnp.stack(jnp.unravel_index(jnp.argmax(gain), gain.shape))
  return (best - jnp.array(gain.shape) // 2)[::-1] * MINOR_PX


@functools.partial(jax.jit, static_argnames=('step_px', 'stiff', 'fine'))
def _refine(flat, moved, *, step_px: float, stiff: float, fine: bool):
  coarse = lockin.demodulate(flat, pitch_px=MAJOR_PX)
  parts = lockin.angles(coarse, lockin.offset_px(coarse, pitch_px=MAJOR_PX), pitch_px=MAJOR_PX, step_px=step_px)
  if fine:
    parts += fine_angles(flat, coarse, step_px=step_px)
  else:  # nothing else is heard yet, so chance must not speak: what does not agree stays where the landmarks put it
    _, agreed = lockin.steady(coarse, coarse, coarse.z)
    (part,) = parts
    parts = [part._replace(weight=part.weight * agreed)]
    parts.append(part._replace(goal=jnp.zeros_like(part.goal), weight=jnp.full_like(part.weight, STAY / MAJOR_PX**2)))
  return surface.displace(moved, surface.fit(parts, step_px=step_px, stiff=stiff, calm=CALM))


def fine_angles(flat: lockin.Flat, coarse: lockin.Tones, *, step_px: float) -> list[surface.Part]:
  """Returns what the 1 mm grid says of a flat page's displacement; which of its lines is which, the `coarse` tones of the 5 mm grid say."""
  tones = lockin.demodulate(flat, pitch_px=MINOR_PX, window=WINDOW)
  off_px = lockin.offset_px(tones, pitch_px=MINOR_PX) + MINOR_PX * lockin.slip(tones, coarse)
  return lockin.angles(tones, off_px, pitch_px=MINOR_PX, step_px=step_px)


class Judgement(NamedTuple):
  """What speaks for a page that was found, and against it.

  Attributes:
    shift_px: (2,) page x, y by which its landmarks still seem to lie off.
    score: () how well they agree, at most 1.
    confidence: (45, 57) how well the grid bears its nodes out, 0..1.
  """

  shift_px: jax.Array
  score: jax.Array
  confidence: jax.Array


@jax.jit
def judge(flat: lockin.Flat, templates: jax.Array) -> Judgement:
  """Judges a page laid flat by landmarks (N, 850, 1100) and grid."""
  tones = lockin.demodulate(flat, pitch_px=MINOR_PX, window=WINDOW)
  doubt_px = lockin.doubt_px(tones, lockin.slip(tones, lockin.demodulate(flat, pitch_px=MAJOR_PX)))
  return Judgement(*landmarks.match(flat.ink, templates), 1 / (1 + doubt_px**2))
