"""Initial poses of the page: from the picture's grid, from the page network, or as a scan that fills the picture."""

import functools
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.geometry import homography, paper
from ecgjax.locate import canvases, grid_spectrum, homography_fit
from ecgjax.networks import page_net, weight_files

RIM, SECOND = 1.03, 4.0  # how far around a page is covered with it, and how clear a grid beyond it must be: desks have 2, pages 6
WEIGHTS = pathlib.Path(__file__).parents[1] / 'weights' / 'page.safetensors'


@functools.cache
def network(*, path=WEIGHTS):
  """Loads the page network.

  Args:
    path: of its weights.

  Returns:
    (uint8 canvas -> (turn's log-probabilities (4,), (3, 3) canvas units -> page units), side of the canvas in px).

  Raises:
    ECGError: as `weight_files.load_network`.
  """
  net, params, meta = weight_files.load_network(path, page_net.network, part='canvas')

  @jax.jit
  def predict(canvas):
    seen = net.apply(params, canvas / jnp.float32(255))
    return jax.nn.log_softmax(seen.turn), homography_fit.fit(seen)[0]

  return predict, meta['canvas']['size_px']


class Thumbnail(NamedTuple):
  """A reduced picture for the grid search, computed once for all its users.

  Attributes:
    shape: of the picture, (H, W, 3).
    canvas: (S, S, 3) uint8, see `canvases.canvas`.
    corner: (2,) x, y of the picture's corner on the canvas.
    size: (2,) width and height of the picture on the canvas.
  """

  shape: tuple[int, ...]
  canvas: np.ndarray
  corner: np.ndarray
  size: np.ndarray


def thumbnail(image: np.ndarray) -> Thumbnail:
  """Returns the reduced picture of (H, W, 3) uint8."""
  size, corner = (np.array(a, np.float32) for a in canvases.placement(image.shape, grid_spectrum.CANVAS_PX))
  return Thumbnail(image.shape, canvases.canvas(image, size_px=grid_spectrum.CANVAS_PX), corner, size)


def by_grid(seen: Thumbnail) -> Iterator[np.ndarray]:
  """Yields (3, 3) page px -> px of the picture, right up to quarter turns and a shift."""
  found = grid_spectrum.find(seen.canvas, seen.corner, seen.size)
  to_image = np.diag([seen.shape[1] / seen.size[0], seen.shape[0] / seen.size[1], 1.0])
  to_image[:2, 2] = -np.diag(to_image)[:2] * seen.corner
  yield from (guess for guess in to_image @ grid_spectrum.planes(found) if homography.is_plausible(guess, seen.shape))


def another_grid(seen: Thumbnail, lattice: np.ndarray) -> bool:
  """Returns whether a grid remains after covering the page of the lattice (45, 57, 2): perhaps a second page."""
  import cv2

  rim = np.concatenate([lattice[0], lattice[1:, -1], lattice[-1, -2::-1], lattice[-2:0:-1, 0]]).astype(np.float64)
  rim = rim.mean(0) + (rim - rim.mean(0)) * RIM
  covered, top = seen.canvas.copy(), int(seen.corner[1])
  grey = int(seen.canvas[top : int(seen.corner[1] + seen.size[1])].mean())
  points = np.round(rim * seen.size / seen.shape[1::-1] + seen.corner).astype(np.int32)
  cv2.fillPoly(covered, [points], (grey, grey, grey))
  return float(grid_spectrum.find(covered, seen.corner, seen.size).sure[0]) > SECOND


def by_network(image: np.ndarray, *, turns: int) -> Iterator[np.ndarray]:
  """Yields (3, 3) page px -> px of the picture (H, W, 3) by the page network, for its likeliest turns."""
  predict, size_px = network()
  units = np.diag([1 / paper.WIDTH_PX, 1 / paper.WIDTH_PX, 1.0])
  units[:2, 2] = -0.5, -0.5 * paper.HEIGHT_PX / paper.WIDTH_PX
  chances, _ = predict(canvases.canvas(image, size_px=size_px))
  for turn in (int(t) for t in np.argsort(-np.asarray(chances))[:turns]):
    upright = np.rot90(image, turn)
    to_page = np.asarray(predict(canvases.canvas(upright, size_px=size_px))[1], np.float64)
    axes = homography.turned(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), image.shape, turn)
    back = np.eye(3)
    back[:2] = np.stack([axes[1] - axes[0], axes[2] - axes[0], axes[0]], axis=-1)
    guess = back @ canvases.canvas_matrix(upright.shape, size_px=size_px) @ np.linalg.pinv(to_page) @ units
    if homography.is_plausible(guess, image.shape):
      yield guess


def whole(shape: tuple[int, ...]) -> np.ndarray:
  """Returns (3, 3) page px -> px of a picture of `shape` (H, W, ...) that the page fills."""
  scale = max(shape[1] / paper.WIDTH_PX, shape[0] / paper.HEIGHT_PX)
  filled = np.diag([scale, scale, 1.0])
  filled[:2, 2] = (shape[1] - scale * paper.WIDTH_PX) / 2, (shape[0] - scale * paper.HEIGHT_PX) / 2
  return filled


def planes(image: np.ndarray, seen: Thumbnail) -> Iterator[np.ndarray]:
  """Guesses the pose of the page.

  Args:
    image: (H, W, 3) uint8.
    seen: the same picture reduced.

  Yields:
    (3, 3) page px -> image px, the likeliest first.
  """
  yield from by_grid(seen)
  yield from by_network(image, turns=2)
  yield whole(image.shape)
