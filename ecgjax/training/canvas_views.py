"""Canvases for training the page network. A canvas is a picture reduced and centred on a black square.

In training a simulated picture gives several canvases, each with its own turn, shift, zoom and tilt, because drawing it is expensive.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.damage import degrade
from ecgjax.drawing import render
from ecgjax.drawing.textures import uniform
from ecgjax.ecg import packs
from ecgjax.geometry import interpolation, paper
from ecgjax.geometry.layouts import Layout
from ecgjax.networks import page_net
from ecgjax.simulate import variants

PICTURE_PX = (768, 1024)  # of the simulated pictures that canvases are made of
SHRINK = 2.0  # about how many page px one of their px shows
ASKEW = 0.35  # share of the views that are turned, and tilted, further than pictures of paper mostly are


class Views(NamedTuple):
  """Canvases of one page and their truth, K views of S x S px and h x w cells.

  Attributes:
    canvas: (K, S, S, 3) in 0..1.
    place: (K, h, w, 2) page x, y of each cell's centre, in the units of `page_net.PageNetOutput`.
    on_page: (K, h, w) bool, whether it shows the page.
    turn: (K,) int, quarter turns counter-clockwise that make the canvas upright.
  """

  canvas: jax.Array
  place: jax.Array
  on_page: jax.Array
  turn: jax.Array


def to_units(page_px):
  """Converts page px to units of the page width from the page's middle."""
  return (page_px - np.array([paper.WIDTH_PX / 2, paper.HEIGHT_PX / 2], np.float32)) / paper.WIDTH_PX


def to_page_px(units):
  """Converts units of the page width from the page's middle to page px."""
  return units * paper.WIDTH_PX + np.array([paper.WIDTH_PX / 2, paper.HEIGHT_PX / 2], np.float32)


def example(key: jax.Array, mv: jax.Array, *, layout: Layout, names: tuple[str, ...], size_px: int, count: int) -> Views:
  """Draws, degrades and photographs a page, and takes `count` views of the picture.

  Args:
    key: of this example.
    mv: (12, T) record at packs.RATE_HZ.
    layout: of the page.
    names: keys of `variants.VARIANTS` to choose from.
    size_px: side of the canvas.
    count: of views.

  Returns:
    The views.
  """
  at_variant, at_page, at_photo, at_views = jax.random.split(key, 4)
  damage, style = variants.draw(at_variant, names)
  ratio = PICTURE_PX[1] / variants.MIXED_FRAME_PX[1]
  damage = damage._replace(zoom=damage.zoom * ratio, shift_px=damage.shift_px * ratio)
  page = render.page(at_page, mv, layout=layout, style=style, rate_hz=packs.RATE_HZ)
  photo = degrade.photo(at_photo, page.image, damage, paper_rgb=style.paper_rgb, frame_px=PICTURE_PX, shrink=SHRINK)
  canvas_of = lambda at: view(at, photo.image, photo.page_px, size_px=size_px)
  return jax.lax.map(canvas_of, jax.random.split(at_views, count))


def view(key: jax.Array, image: jax.Array, page_px: jax.Array, *, size_px: int) -> Views:
  """Takes a view of a picture from a random pose.

  Args:
    key: of the pose.
    image: (H, W, 3) in 0..1.
    page_px: (H, W, 2) page x, y of each px.
    size_px: side of the canvas.

  Returns:
    One view, without the leading axis; px outside the picture are black and do not show the page.
  """
  at_turn, at_turned, at_pose = jax.random.split(key, 3)
  turn = jnp.where(jax.random.bernoulli(at_turned), jax.random.randint(at_turn, (), 0, 4), 0)
  to_picture = pose(at_pose, turn)
  size = jnp.array(image.shape[1::-1], jnp.float32)

  def points(n):
    at = (jnp.arange(n) + 0.5) / n - 0.5
    xyw = jnp.stack([*jnp.meshgrid(at, at), jnp.ones((n, n))], axis=-1) @ to_picture.T
    return size / 2 + image.shape[1] * xyw[..., :2] / xyw[..., 2:]

  shrink = image.shape[1] / size_px
  canvas = interpolation.sample(image, points(size_px), shrink=(shrink, shrink))
  cells = points(size_px // page_net.STRIDE)
  place_px = interpolation.sample(page_px, cells)
  edge = jnp.array([paper.WIDTH_PX, paper.HEIGHT_PX])
  on_page = ((cells > 2) & (cells < size - 2) & (place_px > 0) & (place_px < edge)).all(-1)
  return Views(jnp.clip(canvas, 0, 1), to_units(place_px), on_page, turn)


def pose(key: jax.Array, turn: jax.Array) -> jax.Array:
  """Returns (3, 3): canvas units -> picture units (its width from its middle), a random pose and `turn` quarter turns."""
  ks = jax.random.split(key, 6)
  far = jnp.where(jax.random.bernoulli(ks[0], ASKEW), 1.0, 0.15)
  roll = far * uniform(ks[1], -1.0, 1.0) * math.radians(30)
  c, s = jnp.cos(roll), jnp.sin(roll)
  stretch = jnp.exp(uniform(ks[2], -0.08, 0.08))
  zoom = jnp.exp(uniform(ks[3], -0.25, 0.3))
  shift = far * uniform(ks[4], -0.15, 0.15, shape=(2,))
  tilt = far * uniform(ks[5], -0.35, 0.35, shape=(2,))
  linear = zoom * jnp.array([[c, -s], [s, c]]) @ jnp.diag(jnp.stack([stretch, 1 / stretch]))
  # what stands at x, y of a canvas that one turn counter-clockwise puts right, stands at y, -x once it is
  quarter = jnp.array([[[1, 0], [0, 1]], [[0, 1], [-1, 0]], [[-1, 0], [0, -1]], [[0, -1], [1, 0]]], jnp.float32)[turn]
  top = jnp.concatenate([linear, shift[:, None]], axis=1)
  whole = jnp.concatenate([top, jnp.append(tilt, 1.0)[None]])
  return whole @ jnp.eye(3).at[:2, :2].set(quarter)
