"""Classes of px (background, grid, text, trace) as a picture in the page frame."""

import io

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.geometry import lattices, layouts, paper
from ecgjax.networks import unet

UNREAD = 255  # px that no strip shows: beside, above and below the rows
# of the numbers of unet.CLASSES in their order, and of UNREAD
COLOURS = {0: (255, 255, 255), 1: (244, 166, 160), 2: (60, 110, 220), 3: (0, 0, 0), UNREAD: (225, 225, 225)}
AROUND = (-1, 0, 1)  # columns of a strip that a page px, 2.5 of them wide at 500 a second, is the mean of


def page_mask(classes: np.ndarray, *, layout: layouts.Layout, frame: lattices.Frame) -> np.ndarray:
  """Composes the strips' classes into a page; a px belongs to the row whose zero line is nearest.

  Args:
    classes: (R, H, W, 4) unnormalised log-probabilities (`unet.Scores.classes`).
    layout: layout with the rows' zero lines.
    frame: of the strips.

  Returns:
    (1700, 2200) uint8: the number of the likeliest of unet.CLASSES, UNREAD where no strip shows the page.
  """
  ys, xs = (np.arange(size) + 0.5 for size in (paper.HEIGHT_PX, paper.WIDTH_PX))
  zeros_px = np.asarray(layout.zeros_px)
  columns = np.round(frame.columns_px((xs - paper.START_X_PX) / layout.px_per_s)).astype(int)
  inside = (columns + AROUND[0] >= 0) & (columns + AROUND[-1] < frame.width_px)
  near = columns[inside, None] + np.array(AROUND)
  nearest = np.abs(ys[:, None] - zeros_px).argmin(1)
  mask = np.full((len(ys), len(xs)), UNREAD, np.uint8)
  for row, zero_px in enumerate(zeros_px):
    lines = np.flatnonzero(nearest == row)
    of_strip = np.floor(frame.rows_px((zero_px - ys[lines]) / layout.px_per_mv)).astype(int)
    on_strip = (of_strip >= 0) & (of_strip < frame.height_px)
    scores = np.asarray(classes[row])[of_strip[on_strip]]
    chances = np.exp(scores - scores.max(-1, keepdims=True))
    chances /= chances.sum(-1, keepdims=True)
    mask[np.ix_(lines[on_strip], inside)] = chances[:, near].mean(2).argmax(-1)
  return mask


def class_target(inks: jax.Array) -> jax.Array:
  """Turns coverage into classes.

  Args:
    inks: (..., 3) coverage 0..1 of grid, text and trace; later ones are drawn on top.

  Returns:
    (..., 4) float32 share of each of unet.CLASSES, summing to 1.
  """
  grid, text, trace = jnp.moveaxis(jnp.clip(inks, 0, 1), -1, 0)
  text = text * (1 - trace)
  grid = grid * (1 - trace - text)
  return jnp.stack([1 - grid - text - trace, grid, text, trace], axis=-1)


def true(inks: np.ndarray) -> np.ndarray:
  """Returns (1700, 2200) uint8, the class that covers most of each px, of a drawn page's `inks` (see `render.Page`)."""
  return np.asarray(class_target(jnp.asarray(inks)).argmax(-1), np.uint8)


def overlaps(found: np.ndarray, right: np.ndarray) -> np.ndarray:
  """Returns (4, 2): px of intersection and of union of each class, of masks (H, W); px that are UNREAD in `found` are ignored."""
  read = found != UNREAD
  both = [(read & (found == n), read & (right == n)) for n in range(len(unet.CLASSES))]
  return np.array([((a & b).sum(), (a | b).sum()) for a, b in both])


def png(mask: np.ndarray) -> bytes:
  """Returns a PNG file whose px are the class numbers of a mask (H, W) uint8, and whose palette shows them in COLOURS."""
  from PIL import Image

  picture, palette = Image.fromarray(mask, 'P'), np.zeros((256, 3), np.uint8)
  for number, colour in COLOURS.items():
    palette[number] = colour
  picture.putpalette(palette.tobytes())
  file = io.BytesIO()
  picture.save(file, 'PNG')
  return file.getvalue()
