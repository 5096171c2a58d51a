"""The chain of all damage between printer and file, with a separate strength for each effect.

Strengths are data, so one compiled program takes a page through any of them; on a CPU an effect of strength 0 costs nothing.
The truth that comes out is exact: geometry acts on the lattice alone, and the sheet is sampled once.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ecgjax.damage import aging, camera, creases, jpeg, scanner_feed, sheet_shape
from ecgjax.drawing.textures import Number
from ecgjax.geometry import interpolation, lattices, paper

LID_WHITE, LID_BLACK, DESK, MONITOR = range(4)


class Damage(NamedTuple):
  """How much of each effect; all 0 is the page itself. Strengths of `aging` and `camera` are 0..1, 1 being what archives hold.

  Attributes:
    curl_px, wave_px, crumple_px, feed_px: of `sheet_shape`.
    tilt_deg, roll_deg, fill, zoom, shift_px, lens: of `sheet_shape.see`.
    ground: LID_WHITE, LID_BLACK, DESK or MONITOR, what lies behind the sheet.
    leap: of `scanner_feed`.
  """

  curl_px: Number = 0.0
  wave_px: Number = 0.0
  crumple_px: Number = 0.0
  feed_px: Number = 0.0
  tilt_deg: Number = 0.0
  roll_deg: Number = 0.0
  fill: Number = 0.0
  zoom: Number = 1.0
  shift_px: Number = 0.0
  lens: Number = 0.0
  ground: Number = LID_WHITE
  dot_gain: Number = 0.0
  halftone: Number = 0.0
  fade: Number = 0.0
  stain: Number = 0.0
  soak: Number = 0.0
  mould: Number = 0.0
  dirt: Number = 0.0
  crease: Number = 0.0
  wrinkle: Number = 0.0
  tear: Number = 0.0
  sticker: Number = 0.0
  screen: Number = 0.0
  light: Number = 0.0
  shadow: Number = 0.0
  glare: Number = 0.0
  focus: Number = 0.0
  motion: Number = 0.0
  tint: Number = 0.0
  grey: Number = 0.0
  sensor: Number = 0.0
  sharpen: Number = 0.0
  bilevel: Number = 0.0
  jpeg: Number = 0.0
  leap: Number = 0.0


class Photo(NamedTuple):
  """A picture of a page with its truth.

  Attributes:
    image: (H, W, 3) in 0..1.
    lattice: (45, 57, 2) image x, y of the page's nodes, were the feed even.
    hidden: (1700 + 2 aging.MARGIN_PX, W') of the page frame, how far the print is out of sight.
    corner_px: (2,) page x, y of the left upper corner of `hidden`.
    page_px: (H, W, 2) page x, y that each px of the image shows.
  """

  image: jax.Array
  lattice: jax.Array
  hidden: jax.Array
  corner_px: jax.Array
  page_px: jax.Array


# In the order in which they happen, each with the number that is folded into its key: a new one takes the next number of its list, so that
# the others look as before wherever it stands. In `Damage` it goes to the end, since `variants.draw` varies the strengths by their place.
PAPER = (
  (0, aging.dot_gain), (1, aging.halftone), (2, aging.fade), (3, aging.stain), (4, aging.soak), (5, aging.mould), (6, aging.dirt),
  (7, creases.crease), (8, creases.wrinkle), (9, creases.tear), (10, aging.sticker),
)  # fmt: skip
CAMERA = (
  (0, camera.screen), (1, camera.light), (2, camera.shadow), (3, camera.glare), (4, camera.focus), (5, camera.motion), (6, camera.tint),
  (7, camera.grey), (8, camera.sensor), (9, camera.sharpen), (10, camera.bilevel), (11, jpeg.jpeg),
)  # fmt: skip


def photo(
  key: jax.Array, image: jax.Array, damage: Damage, *, paper_rgb: jax.Array, frame_px: tuple[int, int], shrink: float = 1.0,
  x0_px: int | jax.Array = 0, part: tuple[tuple[int, int], jax.Array] | None = None,
) -> Photo:  # fmt: skip
  """Takes a drawn page through its damage and pictures it.

  Args:
    key: of this page; the same key and damage give the same picture, whole or in part.
    image: (1700, W, 3) as `render.page` draws it, the whole page or a window of it.
    damage: strengths, may be traced.
    paper_rgb: of the blank paper.
    frame_px: (height, width) of the picture.
    shrink: page px per image px where that is above 1.
    x0_px: page x of the window's left edge.
    part: ((height, width) of the part of the picture that is wanted, page x in its middle); the whole picture where it is None.

  Returns:
    The picture with its truth; the lattice is in px of what is returned.
  """
  at_shape, at_view, at_paper, at_ground, at_camera, at_relief = jax.random.split(key, 6)
  surface = shape(at_shape, damage)
  view = see(at_view, surface, damage, frame_px=frame_px)
  size_px, origin_px = frame_px, jnp.zeros(2)
  if part is not None:
    size_px = part[0]
    middle = lattices.image_px(view.page_lattice, jnp.stack([part[1], paper.HEIGHT_PX / 2]))
    # on the steps at which the view is inverted, so that a part shows the px of the whole
    origin_px = sheet_shape.STEP_PX * jnp.round((middle - jnp.array(size_px[::-1]) / 2) / sheet_shape.STEP_PX)
  sheet = _chain(PAPER, at_paper, aging.lay(image, paper_rgb=paper_rgb, x0_px=x0_px), damage, changing=('image', 'there', 'hidden'))
  sheet = creases.relief(at_relief, sheet, surface[..., 2], knots=sheet_shape.nodes_px(), strength=jnp.asarray(damage.light, jnp.float32))
  never = isinstance(damage.leap, float) and not damage.leap  # where examples share a program both sides of a condition are computed
  feed = None if never else scanner_feed.draw(jax.random.fold_in(key, 6), lines=max(frame_px), leap=damage.leap)
  shot = camera.expose(sheet, view, frame_px=frame_px, size_px=size_px, origin_px=origin_px, shrink=shrink, feed=feed)
  grounds = [
    lambda s: camera.plain(at_ground, s, white=True), lambda s: camera.plain(at_ground, s, white=False),
    lambda s: camera.desk(at_ground, s), lambda s: camera.monitor(at_ground, s),
  ]  # fmt: skip
  shot = jax.lax.switch(jnp.asarray(damage.ground, jnp.int32), grounds, shot)
  shot = _chain(CAMERA, at_camera, shot, damage, changing=('image',))
  corner_px = jnp.stack([sheet.x0_px, -aging.MARGIN_PX])
  return Photo(jnp.clip(shot.image, 0, 1), view.page_lattice - origin_px, sheet.hidden, corner_px, shot.page_px)


def shape(key: jax.Array, damage: Damage) -> jax.Array:
  """Returns (51, 63, 3): the bent sheet."""
  ks = jax.random.split(key, 4)
  surface = sheet_shape.curl(ks[0], sheet_shape.flat(), height_px=damage.curl_px)
  surface = sheet_shape.wave(ks[1], surface, height_px=damage.wave_px)
  surface = sheet_shape.crumple(ks[2], surface, shift_px=damage.crumple_px)
  return sheet_shape.feed(ks[3], surface, shift_px=damage.feed_px)


def see(key: jax.Array, surface: jax.Array, damage: Damage, *, frame_px: tuple[int, int]) -> sheet_shape.View:
  """Returns how the damage's camera or scanner sees a sheet."""
  return sheet_shape.see(
    key, surface, frame_px=frame_px, tilt_deg=damage.tilt_deg, roll_deg=damage.roll_deg, fill=damage.fill, zoom=damage.zoom,
    shift_px=damage.shift_px, lens=damage.lens,
  )  # fmt: skip


def photometric(key: jax.Array, image: jax.Array, *, strength: float) -> jax.Array:
  """Varies light, focus and noise of a picture as it is, for pages that come from disk.

  Args:
    key: of this picture.
    image: (H, W, 3) in 0..1.
    strength: 0 leaves it as it is, 1 is a mediocre camera.

  Returns:
    (H, W, 3) in 0..1.
  """
  height, width = image.shape[:2]
  whole = jnp.ones((height, width))
  ys, xs = ((jnp.arange(n) + 0.5) / n for n in (height, width))
  shot = camera.Shot(image, jnp.zeros((height, width, 2)), whole, ys, xs)
  damage = Damage(light=strength, focus=strength, sensor=strength)
  return _chain(((0, camera.light), (1, camera.focus), (2, camera.sensor)), key, shot, damage, changing=('image',)).image


def _chain(effects, key: jax.Array, state, damage: Damage, *, changing: tuple[str, ...]):
  """Applies (number, effect) pairs in turn, each under its own name's strength and its number's key, and only those that have a strength.

  Only the leaves named by `changing` pass through the conditions: a CPU copies what does.
  """
  for n, effect in effects:
    strength = jnp.asarray(getattr(damage, effect.__name__), jnp.float32)

    def act(leaves, *, effect=effect, n=n, strength=strength, state=state):
      after = effect(jax.random.fold_in(key, n), state._replace(**leaves), strength=strength)
      return {name: getattr(after, name) for name in leaves}

    leaves = {name: getattr(state, name) for name in changing}
    state = state._replace(**jax.lax.cond(strength > 0, act, lambda leaves: leaves, leaves))
  return state


def visible(photo: Photo, page_px: jax.Array) -> jax.Array:
  """Whether the print at points of the page can be seen in the picture.

  Args:
    photo: with its truth.
    page_px: (..., 2) page x, y.

  Returns:
    (...,) bool: False where it is covered or torn off, or lies outside the picture.
  """
  hidden = interpolation.sample(photo.hidden[..., None], page_px - photo.corner_px)[..., 0]
  xy = lattices.image_px(photo.lattice, page_px)
  size = jnp.array(photo.image.shape[1::-1])
  return (hidden < 0.5) & ((xy > 0) & (xy < size)).all(-1)
