"""Orientation of a page: its grid is straightened once, then its landmarks are looked for in all four quarter turns."""

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.geometry import lattices
from ecgjax.geometry.homography import change_frame
from ecgjax.geometry.paper import MAJOR_PX, MINOR_PX
from ecgjax.locate import filters, grid_phase, template_match, unwarp
from ecgjax.locate.grid_alignment import Flattener, straightened

NEAR_PX = 2 * MAJOR_PX  # how far the frame may lie off what bears a grid: so little of it is missing that its landmarks are seen


def orient(
  flat: Flattener, plane: np.ndarray, templates: template_match.TemplateSpectra, *, enough: float
) -> tuple[np.ndarray, jax.Array, float]:
  """Straightens a page that lies anywhere in any turn, and finds its turn and place.

  Args:
    flat: of the picture, coarse.
    plane: (3, 3) page px -> image px, right in scale and direction within some per cent, but for quarter turns and the place.
    templates: of the landmarks.
    enough: score of the landmarks with which the other turns need not be tried.

  Returns:
    The page's plane map, its displacement, and how well its landmarks agree.

  Raises:
    homography.TrackingLost: if what was taken for the page's grid comes apart.
  """
  start = plane, jnp.zeros(lattices.page_lattice().shape)
  best = -1.0, np.zeros(2), start
  for quarter in (0, 1):
    framed, view = _straight(flat, *change_frame(*start, turn=quarter, shift_px=np.zeros(2)))
    away_px = np.asarray(_grid_shift(view))
    if np.abs(away_px).max() > NEAR_PX:
      framed, view = _straight(flat, *change_frame(*framed, turn=0, shift_px=away_px))
    start = change_frame(*framed, turn=-quarter, shift_px=np.zeros(2))
    for half, ink in enumerate((view.ink, view.ink[::-1, ::-1])):
      found = jax.device_get(_match(ink, templates))
      if found.score > best[0]:
        best = float(found.score), found.shift_px, change_frame(*framed, turn=2 * half, shift_px=found.shift_px)
      if best[0] >= enough:
        return _placed(flat, *best, templates)
  return _placed(flat, *best, templates)


def _straight(flat, plane: np.ndarray, displacement_px: jax.Array):
  displacement_px, view = straightened(flat, plane, displacement_px)
  return (plane, displacement_px), view


def _placed(flat, score: float, shift_px: np.ndarray, framed: tuple[np.ndarray, jax.Array], templates: template_match.TemplateSpectra):
  """Straightens what came into the frame by the shift, and puts its landmarks in their places, at most twice."""
  for _ in range(2):
    if np.abs(shift_px).max() < MAJOR_PX:
      break
    framed, view = _straight(flat, *framed)
    found = jax.device_get(_match(view.ink, templates))
    score, shift_px = float(found.score), found.shift_px
    framed = change_frame(*framed, turn=0, shift_px=shift_px)
  return *framed, score


_match = jax.jit(template_match.match)


@jax.jit
def _grid_shift(flat):
  """(2,) page x, y by which the page's frame must be moved to hold the most of what bears a grid, and the least of what does not."""
  phase, coarse = (grid_phase.demodulate(flat, pitch_px=pitch) for pitch in (MINOR_PX, MAJOR_PX))
  on_mesh = lambda a, step_px: a[(phase.ys / step_px).astype(int)][:, (phase.xs / step_px).astype(int)]
  clear = phase.sure.mean(0) + on_mesh(coarse.sure.mean(0), MAJOR_PX)
  inside = on_mesh(unwarp.blur(flat.use.max(0), 2 * MINOR_PX), unwarp.STEP_PX) > 0.1  # outside the picture there may be more of the page
  gain = (jnp.minimum(clear / filters.quantile(clear.ravel(), jnp.ones(clear.size, bool), 0.7), 1.0) - 0.5) * inside
  for axis, n in enumerate(gain.shape):  # sums over frames moved by -n // 2 to n // 2 lines
    sums = jnp.cumsum(jnp.pad(gain, [(n + 1, n) if i == axis else (0, 0) for i in (0, 1)]), axis)
    low = jnp.arange(n - n // 2, n + n // 2 + 1)
    gain = jnp.take(sums, low + n, axis) - jnp.take(sums, low, axis)
  best = jnp.stack(jnp.unravel_index(jnp.argmax(gain), gain.shape))
  return (best - jnp.array(gain.shape) // 2)[::-1] * MINOR_PX
