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
    out = net.apply(params, canvas / jnp.float32(255))
    return jax.nn.log_softmax(out.turn), homography_fit.fit(out)[0]

  return predict, meta['canvas']['size_px']


class Thumbnail(NamedTuple):
  """A picture made small, in which grids are looked for: once for all that do.

  Attributes:
    shape: of the picture, (H, W, 3).
    canvas: (S, S, 3) uint8, see `canvases.canvas`.
    corner: (2,) x, y of the picture's corner on it.
    size: (2,) width and height of the picture on it.
  """

  shape: tuple[int, ...]
  canvas: np.ndarray
  corner: np.ndarray
  size: np.ndarray


def thumbnail(image: np.ndarray) -> Thumbnail:
  """Returns the thumbnail of a picture (H, W, 3) uint8."""
  size, corner = (np.array(a, np.float32) for a in canvases.placement(image.shape, grid_spectrum.CANVAS_PX))
  return Thumbnail(image.shape, canvases.canvas(image, size_px=grid_spectrum.CANVAS_PX), corner, size)


def by_grid(small: Thumbnail) -> Iterator[np.ndarray]:
  """Yields (3, 3) page px -> px of the picture, sound but for quarter turns and the place."""
  found = jax.device_get(_find(small.canvas, small.corner, small.size))
  to_image = np.diag([small.shape[1] / small.size[0], small.shape[0] / small.size[1], 1.0])
  to_image[:2, 2] = -np.diag(to_image)[:2] * small.corner
  yield from (guess for guess in to_image @ grid_spectrum.planes(found) if homography.is_plausible(guess, small.shape))


def another_grid(small: Thumbnail, lattice: np.ndarray) -> bool:
  """Returns whether a picture still bears a grid once the page of the lattice (45, 57, 2) is covered: perhaps a second page."""
  from PIL import Image, ImageDraw

  rim = np.concatenate([lattice[0], lattice[1:, -1], lattice[-1, -2::-1], lattice[-2:0:-1, 0]]).astype(np.float64)
  rim = rim.mean(0) + (rim - rim.mean(0)) * RIM
  covered, top = Image.fromarray(small.canvas), int(small.corner[1])
  grey = int(small.canvas[top : int(small.corner[1] + small.size[1])].mean())
  points = [(float(x), float(y)) for x, y in rim * small.size / small.shape[1::-1] + small.corner]
  ImageDraw.Draw(covered).polygon(points, fill=(grey, grey, grey))
  return float(jax.device_get(_find(np.asarray(covered), small.corner, small.size)).sure[0]) > SECOND


@jax.jit
def _find(canvas, corner, size):
  return grid_spectrum.find(canvas / jnp.float32(255), corner, size)


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


def planes(image: np.ndarray, small: Thumbnail) -> Iterator[np.ndarray]:
  """Guesses where the page lies.

  Args:
    image: (H, W, 3) uint8.
    small: its thumbnail.

  Yields:
    (3, 3) page px -> image px, the likeliest first.
  """
  yield from by_grid(small)
  yield from by_network(image, turns=2)
  yield whole(image.shape)
