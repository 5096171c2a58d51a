"""The chain of damage: nothing at strength 0, everything at 1, and the lattice and what is hidden say what the picture shows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.damage import aging, camera, degrade, sheet_shape
from ecgjax.geometry import interpolation, lattices

QUICK = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}  # compiling takes longer than running
EFFECTS = {effect.__name__: effect for _, effect in (*degrade.PAPER, *degrade.CAMERA)}
PAPER, CAMERA = ([effect.__name__ for _, effect in effects] for effects in (degrade.PAPER, degrade.CAMERA))
PX_NOISE = ('sensor', 'bilevel', 'jpeg')  # drawn or rounded for the px of the picture that is made
X0_PX, WIDTH_PX = 2008, 192  # the page's right edge: there are the label and two of the corners that tear
FRAME_PX, ZOOM = (450, 600), 0.25  # the whole page small, of which only that strip is printed
PART_PX = (449, 599)  # odd, so that rounding cannot decide where the part around the middle begins: at 0, 0
PAPER_RGB = np.array([0.97, 0.95, 0.9], np.float32)


def test_no_two_effects_of_a_list_have_one_number_and_each_has_a_strength():
  for effects in (degrade.PAPER, degrade.CAMERA):
    assert len({number for number, _ in effects}) == len(effects)
    assert all(hasattr(degrade.Damage(), effect.__name__) for _, effect in effects)
NONE = degrade.Damage()


@functools.cache
def strip():
  """(1700, 192, 3): the right edge of a page with a grid and a wave, nothing pure black or white."""
  y, x = np.mgrid[0:1700, X0_PX : X0_PX + WIDTH_PX] + 0.5
  grid = np.maximum(x % 39.37 < 2, y % 39.37 < 2)[..., None] * [0.02, 0.5, 0.5]
  line = np.clip(2.5 - np.abs(y - 850 - 300 * np.sin(x / 40)), 0, 1)[..., None]
  return ((PAPER_RGB - grid) * (1 - line) + 0.1 * line).astype(np.float32)


@functools.cache
def sheet():
  """The upper right corner of the sheet, before anything happened to it."""
  whole = aging.lay(jnp.asarray(strip()), paper_rgb=jnp.asarray(PAPER_RGB), x0_px=X0_PX)
  return whole._replace(**{name: getattr(whole, name)[:400] for name in ('image', 'there', 'hidden')})


@functools.cache
def shot():
  """A part of a picture, 1.3 image px a page px."""
  y, x = np.mgrid[0:160, 0:200].astype(np.float32) + 0.5
  page_px = np.stack([X0_PX + x / 1.3, 40 + y / 1.3], axis=-1)
  image = jnp.clip(interpolation.sample(jnp.asarray(strip()), jnp.asarray(page_px - [X0_PX, 0])), 0, 1)
  return camera.Shot(image, jnp.asarray(page_px), jnp.ones((160, 200)), jnp.asarray(y[:, 0] / 160), jnp.asarray(x[0] / 200))


@functools.cache
def acting(name):
  return jax.jit(lambda key, thing, strength: EFFECTS[name](key, thing, strength=strength), compiler_options=QUICK)


def after(name, strength, key=0):
  item = sheet() if name in PAPER else shot()
  return item, acting(name)(jax.random.key(key), item, jnp.float32(strength))


def assert_same(got, wanted, **tolerance):
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
    np.testing.assert_allclose(a, b, **(tolerance or {'rtol': 0, 'atol': 0}))


def shoot(key, image, damage, x_px):
  """The part of the picture around a page x; around 1100 it is the whole but for its last row and column."""
  options = {'paper_rgb': jnp.asarray(PAPER_RGB), 'frame_px': FRAME_PX, 'x0_px': X0_PX, 'part': (PART_PX, x_px)}
  return degrade.photo(key, image, damage, **options)


shot_of = jax.jit(shoot, compiler_options=QUICK)


def damaged(**strengths):
  return jax.tree.map(jnp.float32, NONE._replace(**{'zoom': ZOOM, **strengths}))


def photo(*, key=0, x_px=1100.0, **strengths):
  return shot_of(jax.random.key(key), jnp.asarray(strip()), damaged(**strengths), jnp.float32(x_px))


@pytest.mark.parametrize('name', [name for name in EFFECTS if name != 'jpeg'])  # a JPEG file of quality 95 is the least there is
def test_strength_zero_leaves_it_as_it_is(name):
  before, now = after(name, 0.0)
  # colours divided by the paper's and multiplied again are off by a rounding
  assert_same(now, before, **({'rtol': 0, 'atol': 2e-6} if name == 'dot_gain' else {}))


@pytest.mark.parametrize('name', EFFECTS)
def test_full_strength_changes_something_within_range_and_keeps_the_geometry(name):
  changed = []
  for key in range(4):
    before, now = after(name, 1.0, key)
    assert now.image.shape == before.image.shape and np.isfinite(now.image).all()
    assert now.image.min() >= 0
    # an overexposed or bright picture is clipped at the end of the chain
    assert now.image.max() <= (1 + 1e-6 if name not in ('light', 'screen') else 2.5)
    changed.append(np.abs(now.image - before.image).max())
    if name in PAPER:
      assert now.there.min() >= 0 and now.there.max() <= 1 and now.hidden.min() >= 0 and now.hidden.max() <= 1
      assert_same((now.paper_rgb, now.x0_px), (before.paper_rgb, before.x0_px))
    else:
      assert_same(now._replace(image=0), before._replace(image=0))
  assert max(changed) > 0.02


@pytest.mark.parametrize('name', ['mould', 'grey', 'sensor', 'stain'])
def test_the_key_decides(name):
  (_, once), (_, again), (_, other) = after(name, 1.0, 1), after(name, 1.0, 1), after(name, 1.0, 2)
  assert_same(again, once)
  assert np.abs(other.image - once.image).max() > 0.02


def test_no_damage_is_the_page_itself():
  taken = photo(zoom=1.0)  # the frame shows the middle of the page: paper that is not there, then the strip is out of sight
  np.testing.assert_allclose(taken.lattice, lattices.page_lattice() - [800, 625], atol=1e-3)
  image = jnp.asarray(np.random.default_rng(0).uniform(size=(1700, 96, 3)), jnp.float32)
  view = sheet_shape.View(jnp.eye(3), jnp.asarray(np.stack(np.meshgrid(*sheet_shape.nodes_px()[::-1]), -1), jnp.float32))
  exposed = jax.jit(functools.partial(camera.expose, frame_px=(1700, 96), size_px=(1700, 96), shrink=1.0))(
    aging.lay(image, paper_rgb=jnp.ones(3)), view, origin_px=jnp.zeros(2)
  )
  # float32 page px are good to 1e-4 px, and this noise changes by up to 2 a px
  np.testing.assert_allclose(exposed.image, image, atol=2e-3)


def test_damage_of_the_paper_leaves_the_lattice_where_it_is():
  bent = {'roll_deg': 3, 'curl_px': 10}
  clean, worn = photo(**bent), photo(**bent, **dict.fromkeys(PAPER, 1.0))
  assert_same(worn.lattice, clean.lattice)
  assert np.abs(worn.image - clean.image).max() > 0.2


def test_everything_at_once_stays_within_zero_and_one_and_one_key_gives_one_picture():
  everything = {'curl_px': 20, 'wave_px': 8, 'tilt_deg': 10, 'lens': 0.01, **dict.fromkeys(EFFECTS, 1.0)}
  for key, ground in enumerate((degrade.LID_WHITE, degrade.LID_BLACK, degrade.DESK, degrade.MONITOR)):
    taken = photo(key=key, ground=ground, **everything)
    for values in (taken.image, taken.hidden):
      assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1
  assert_same(photo(key=key, ground=ground, **everything), taken)


@pytest.mark.parametrize('name', ['light', 'screen', 'grey', 'tint', 'glare'])
def test_each_alone_gives_a_picture_within_zero_and_one(name):
  for key in range(3):
    taken = photo(key=key, **{name: 1.2})  # the most that `variants.draw` asks for
    assert taken.image.min() >= 0 and taken.image.max() <= 1


def page_grid():
  """(N, 2) points of the strip."""
  return jnp.asarray(np.stack(np.meshgrid(np.arange(X0_PX + 4, 2196, 8.0), np.arange(4, 1696, 8.0)), axis=-1).reshape(-1, 2), jnp.float32)


visible = jax.jit(degrade.visible)


@pytest.mark.parametrize('key', range(3))
def test_what_is_torn_off_is_black_and_not_visible(key):
  for k in range(key, 60, 3):  # one of the two corners in sight
    taken = photo(key=k, tear=1.0, ground=degrade.LID_BLACK)
    seen = np.asarray(visible(taken, page_grid()))
    if (~seen).sum() > 100:
      break
  else:
    pytest.fail('no page was torn within the strip')
  places = np.asarray(lattices.image_px(taken.lattice, page_grid()))
  levels = np.asarray(taken.image)[tuple(np.floor(places).astype(int).T[::-1])].max(-1)
  hidden = np.asarray(taken.hidden)[tuple(np.floor(np.asarray(page_grid() - taken.corner_px)).astype(int).T[::-1])]
  np.testing.assert_array_equal(hidden[np.abs(hidden - 0.5) > 0.45] < 0.5, seen[np.abs(hidden - 0.5) > 0.45])
  # torn off is the lid, but for the pale rim of some 15 px; what remains is paper, grid or ink as before
  whole = photo(key=k, ground=degrade.LID_BLACK)
  before = np.asarray(whole.image)[tuple(np.floor(places).astype(int).T[::-1])].max(-1)
  gone = levels < 0.07
  gone &= before > 0.5
  assert gone.sum() > 50 and (seen & gone).sum() <= 0.01 * gone.sum()  # the px that holds a point reaches 2 page px beyond it
  changed = np.abs(levels - before) > 0.05
  assert (seen & changed).sum() < 0.01 * seen.sum()  # half covered px of the rim


def test_the_label_hides_what_lies_under_it():
  taken = photo(sticker=1.0)
  seen = np.asarray(visible(taken, jnp.array([[2120.0, 62.0], [2100.0, 40.0], [2030.0, 400.0], [2190.0, 1000.0]])))
  assert seen.tolist() == [False, False, True, True]
  covered = (np.asarray(taken.hidden) > 0.5).sum()
  assert (1.32 * 104) ** 2 < covered < (1.32 * 128) ** 2  # 116 px within a tenth, and a white edge of 16 % on either side


def test_a_point_out_of_the_picture_is_not_visible():
  view = photo(zoom=0.3)  # the part shows page x 100 to 2097 and y 100 to 1597
  seen = visible(view, jnp.array([[2020.0, 850.0], [2095.0, 850.0], [2099.0, 850.0], [2020.0, 99.0], [2020.0, 101.0], [2020.0, 1599.0]]))
  assert np.asarray(seen).tolist() == [True, True, False, False, True, False]


def assert_same_px(one, other):
  """Both show the same px where they overlap, 14 px from the edges: blurs, one after another, see them repeated."""
  moved = np.asarray(one.lattice - other.lattice)
  x, y = np.round(moved[0, 0]).astype(int)
  np.testing.assert_allclose(moved, np.broadcast_to([x, y], moved.shape), atol=2e-4)
  (height, width), (high, wide) = one.image.shape[:2], other.image.shape[:2]
  top, left, bottom, right = max(0, -y) + 14, max(0, -x) + 14, min(high, height - y) - 14, min(wide, width - x) - 14
  assert bottom - top > 300 and right - left > 200
  np.testing.assert_allclose(other.image[top:bottom, left:right], one.image[y + top : y + bottom, x + left : x + right], atol=2e-3)
  assert_same((other.hidden, other.corner_px), (one.hidden, one.corner_px))
  return x, y


STRENGTHS = {name: 0.8 for name in EFFECTS if name not in PX_NOISE}


def test_two_parts_show_the_same_where_they_overlap():
  bent = {'tilt_deg': 8, 'roll_deg': 3, 'ground': degrade.LID_BLACK}  # a desk has sharp edges, which a rounding moves by a px
  one, other = (photo(key=3, x_px=x, **bent, **STRENGTHS) for x in (1300.0, 1909.0))
  moved = assert_same_px(one, other)
  assert 100 < moved[0] < 200
  for part, x in ((one, 1300.0), (other, 1909.0)):
    middle = lattices.image_px(part.lattice, jnp.array([x, 850.0]))
    np.testing.assert_allclose(middle, np.array(PART_PX[::-1]) / 2, atol=sheet_shape.STEP_PX / 2 + 0.01)


def test_the_lattice_of_a_bent_part_is_moved_by_whole_px():
  bent = {'curl_px': 25, 'wave_px': 8, 'feed_px': 1, 'tilt_deg': 12, 'lens': 0.02}
  one, other = (photo(key=5, x_px=x, **bent) for x in (1100.0, 1700.0))
  moved = np.asarray(one.lattice - other.lattice)
  np.testing.assert_allclose(moved, np.broadcast_to(np.round(moved[0, 0]), moved.shape), atol=2e-4)


@pytest.mark.slow
def test_a_part_is_the_same_part_of_the_whole():
  options = {'paper_rgb': jnp.asarray(PAPER_RGB), 'frame_px': FRAME_PX, 'x0_px': X0_PX}
  damage = damaged(tilt_deg=8, roll_deg=3, ground=degrade.LID_BLACK, **STRENGTHS)
  whole = jax.jit(functools.partial(degrade.photo, **options), compiler_options=QUICK)(jax.random.key(3), jnp.asarray(strip()), damage)
  assert whole.image.shape == (*FRAME_PX, 3)
  assert_same_px(whole, shot_of(jax.random.key(3), jnp.asarray(strip()), damage, jnp.float32(1700.0)))


@pytest.mark.slow
def test_a_batch_is_taken_one_by_one():
  keys, images = jax.random.split(jax.random.key(0)), jnp.asarray(np.stack([strip(), strip()[:, ::-1]]))
  damages = [damaged(curl_px=10, tilt_deg=5, ground=degrade.DESK, **dict.fromkeys(PAPER, 0.7), light=0.5, jpeg=0.5),
             damaged(roll_deg=4, ground=degrade.MONITOR, screen=1, glare=0.5, grey=1, sensor=0.5)]  # fmt: skip
  shoot_both = jax.jit(jax.vmap(functools.partial(shoot, x_px=jnp.float32(1100))), compiler_options=QUICK)
  both = shoot_both(keys, images, jax.tree.map(lambda *a: jnp.stack(a), *damages))
  for i, damage in enumerate(damages):
    alone = shot_of(keys[i], images[i], damage, jnp.float32(1100))
    each = jax.tree.map(lambda a, i=i: a[i], both)
    np.testing.assert_allclose(each.lattice, alone.lattice, atol=1e-3)
    np.testing.assert_allclose(each.hidden, alone.hidden, atol=1e-4)
    # rounding decides which way a JPEG coefficient of a block or an edge of the desk falls: measured 0.12 % of the px
    assert (np.abs(each.image - alone.image) > 2e-3).mean() < 4e-3


def test_pages_from_disk_vary_in_light_and_keep_their_range():
  vary = jax.jit(lambda key, image, strength: degrade.photometric(key, image, strength=strength), compiler_options=QUICK)
  image = jnp.asarray(strip()[:200])
  np.testing.assert_array_equal(vary(jax.random.key(0), image, 0.0), image)
  for key in range(4):
    varied = np.asarray(vary(jax.random.key(key), image, 1.0))
    assert varied.min() >= 0 and varied.max() <= 1 and np.abs(varied - image).max() > 0.02
