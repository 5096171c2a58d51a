"""Canvases: a picture reduced and centred on a black square, the input of the page network."""

import numpy as np


def canvas(image: np.ndarray, *, size_px: int) -> np.ndarray:
  """Reduces a picture and centres it on a black square.

  Args:
    image: (H, W, 3) uint8.
    size_px: side of the square.

  Returns:
    (size_px, size_px, 3) uint8; `canvas_matrix` maps its coordinates to those of the picture.
  """
  import cv2

  (width, height), (left, top) = placement(image.shape, size_px)
  small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if size_px < max(image.shape[:2]) else cv2.INTER_CUBIC)
  square = np.zeros((size_px, size_px, 3), np.uint8)
  square[top : top + height, left : left + width] = small
  return square


def canvas_matrix(shape: tuple[int, ...], *, size_px: int) -> np.ndarray:
  """Returns (3, 3): canvas units, the square's side from its middle, -> image px of a picture of `shape` (H, W, ...)."""
  small, corner = placement(shape, size_px)
  matrix = np.eye(3)
  for axis, whole in enumerate(shape[1::-1]):
    matrix[axis, axis] = size_px * whole / small[axis]
    matrix[axis, 2] = (size_px / 2 - corner[axis]) * whole / small[axis]
  return matrix


def placement(shape: tuple[int, ...], size_px: int) -> tuple[list[int], list[int]]:
  """Returns width and height of the reduced picture, and the x, y of its corner on the canvas, in px."""
  small = [max(1, round(n * size_px / max(shape[:2]))) for n in shape[1::-1]]
  return small, [(size_px - n) // 2 for n in small]
