"""The kinds of picture: the table, the mixture, and in each of them the ink lies where the truth says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, spatial

from ecgjax.competition import scoring
from ecgjax.damage import aging, camera, degrade
from ecgjax.drawing import ground_truth, looks, render
from ecgjax.ecg.leads import LEADS
from ecgjax.extract import path_decoder, resample
from ecgjax.geometry import lattices, layouts
from ecgjax.networks import unet
from ecgjax.simulate import variants
from ecgjax.training import losses

PAGE, FS = layouts.make(), 500
ROWS = ('I aVR V1 V4', 'II aVL V2 V5', 'III aVF V3 V6', 'II')
ZEROS_PX = (708.33, 991.67, 1275.00, 1534.71)
BENDS = ('curl_px', 'wave_px', 'crumple_px', 'feed_px', 'tilt_deg', 'roll_deg', 'fill', 'zoom', 'shift_px', 'lens')  # what moves ink
FRAME_PX, SMALL_PX, SMALL_SHRINK = (1700, 2200), (675, 900), 2.7
STRIP = lattices.frame(PAGE, rate_hz=FS, height_px=320)
QUICK = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}  # compiling takes longer than running
READ = ('0003', '0005', '0010', '0015')


@functools.cache
def ecg():
  """(12, 5000) mV: beats of five bumps each, in every lead of another size."""
  rng, t = np.random.default_rng(3), np.arange(10 * FS) / FS
  bumps = np.array([(-0.2, 0.03, 0.12), (-0.03, 0.012, -0.15), (0.0, 0.014, 0.9), (0.035, 0.014, -0.3), (0.28, 0.06, 0.3)])  # s, s, mV
  sizes = rng.uniform(0.5, 1.2, (12, 1, 5)) * bumps[:, 2] * rng.choice([-1, 1], (12, 1, 1))
  beats = (np.arange(13) * 0.83 + 0.3 + rng.uniform(-0.05, 0.05, 13))[:, None] + bumps[:, 0]
  shapes = np.exp(-0.5 * ((t[:, None, None] - beats) / bumps[:, 1]) ** 2).sum(1)
  return np.einsum('tb,lb->lt', shapes, sizes[:, 0]) + 0.05 * np.sin(2 * np.pi * 0.3 * t + np.arange(12)[:, None])


@functools.cache
def darkness():
  """(1700, 2200) the page's traces alone, 1 where there is ink."""
  draw = lambda mv: render.page(jax.random.key(0), mv, layout=PAGE, style=looks.competition(), rate_hz=FS).inks[..., 2]
  return jax.jit(draw)(jnp.asarray(ecg(), jnp.float32))


@functools.partial(jax.jit, static_argnames=('frame_px', 'shrink'))
def take(key, dark, damage, *, frame_px, shrink):
  at_shape, at_view = jax.random.split(key)
  view = degrade.see(at_view, degrade.shape(at_shape, damage), damage, frame_px=frame_px)
  sheet = aging.lay(jnp.broadcast_to(1 - dark[..., None], (*dark.shape, 3)), paper_rgb=jnp.ones(3))
  shot = camera.expose(sheet, view, frame_px=frame_px, size_px=frame_px, origin_px=jnp.zeros(2), shrink=shrink)
  return (shot.there - shot.image[..., 0]), view.page_lattice


@pytest.fixture(scope='module')
def seen(request):
  """A variant's picture without anything but its geometry: name, darkness, lattice."""
  name, _, small = request.param.partition(' at ')
  damage = variants.VARIANTS[name].damage
  bent = degrade.Damage()._replace(**{field: getattr(damage, field) for field in BENDS})
  options = {'frame_px': SMALL_PX, 'shrink': SMALL_SHRINK} if small else {'frame_px': FRAME_PX, 'shrink': 1.0}
  key = jax.random.key(list(variants.VARIANTS).index(name))
  dark, lattice = take(key, darkness(), jax.tree.map(jnp.float32, bent), **options)
  return name, np.asarray(dark), lattice


def pictures(*quick):
  names = [*variants.VARIANTS, 'small at its own size']
  marks = lambda name: () if name in quick else pytest.mark.slow
  return pytest.mark.parametrize('seen', [pytest.param(name, marks=marks(name)) for name in names], indirect=True)


@functools.cache
def lonely():
  """1,000 points of the traces that have nothing beside them but a nearly straight line: (1000, 2) page x, y, and (1000, 2) directions."""
  rng = np.random.default_rng(5)
  times = np.sort(rng.uniform(0, 10, 3500))
  values, printed = ground_truth.at(jnp.asarray(ecg(), jnp.float32), times, layout=PAGE, rate_hz=FS)
  points = np.asarray(PAGE.page_px(times, values), np.float64)[np.asarray(printed)]
  fine = np.arange(0, 10, 1e-4)
  lines = []
  for row, zero in zip(ROWS, ZEROS_PX, strict=True):
    names = row.split()
    owner = np.minimum((fine * len(names) / 10).astype(int), len(names) - 1)
    own = np.stack([np.interp(fine, np.arange(10 * FS) / FS, ecg()[LEADS.index(name)]) for name in names])
    lines.append(np.stack([118.110 + 196.850 * fine, zero - 78.740 * own[owner, np.arange(len(fine))]], axis=-1))
  lines = np.concatenate(lines)
  tree, starts = spatial.cKDTree(lines), 118.110 + 492.126 * np.arange(5)
  kept, headings = [], []
  for point in points[rng.permutation(len(points))]:
    away = lines[tree.query_ball_point(point, 10.0)] - point
    heading = np.linalg.svd(away, full_matrices=False)[2][0]
    if np.abs(away @ [heading[1], -heading[0]]).max() < 1.2 and np.abs(starts - point[0]).min() > 12:
      kept.append(point)
      headings.append(heading)
  return np.array(kept[:1000]), np.array(headings[:1000])


@pictures(*variants.VARIANTS)
def test_ink_lies_where_the_lattice_takes_the_truth(seen):
  name, dark, lattice = seen
  points, headings = lonely()
  assert len(points) == 1000
  place = lambda xy: np.asarray(lattices.image_px(lattice, jnp.asarray(xy, jnp.float32)), np.float64)
  middle, along = place(points), place(points + headings) - place(points - headings)
  normal = along[:, ::-1] * [-1, 1] / np.linalg.norm(along, axis=-1, keepdims=True)
  inside = ((middle > 10) & (middle < np.array(dark.shape[::-1]) - 10)).all(-1)
  assert inside.mean() > 0.9
  steps = np.linspace(-1, 1, 49) * min(6, 8 * lattices.image_scale(np.asarray(lattice)))  # of the 10 page px that are lonely
  x, y = np.moveaxis(middle[inside, None] + steps[:, None] * normal[inside, None], -1, 0)
  profile = ndimage.map_coordinates(dark.astype(np.float64), [y - 0.5, x - 0.5], order=3)
  error = profile @ steps / profile.sum(-1)
  rms = np.sqrt((error**2).mean())
  print(f'{name}: {inside.sum()} points, rms {rms:.4f} px, mean {error.mean():+.4f}, worst {np.abs(error).max():.3f}')
  # measured 0.03 to 0.05 where an image px is about a page px, and 0.10 where it is three
  assert rms <= (0.08 if dark.shape == FRAME_PX else 0.15) and abs(error.mean()) < 0.03


@jax.jit
def cut(dark, lattice):
  return lattices.cut(dark[..., None], lattice, layout=PAGE, frame=STRIP)[..., 0]


@jax.jit
def decoded(rows_px, printed):
  logp = jnp.log(losses.column_target(rows_px, printed, height_px=STRIP.height_px, sigma_px=1.5) + 1e-12)
  return path_decoder.soft_argmax(unet.Scores(jnp.zeros((*logp[:, :-1].shape, 4)), logp[:, :-1], logp[:, -1]))


def as_read(strips, rows_px, printed):
  """The rows' centres of mass where a trace is level and alone, the truth elsewhere; and the share of the former."""
  reach = 15  # columns, 6 page px
  level = ndimage.minimum_filter1d((np.abs(np.gradient(rows_px, axis=-1)) < 0.35) & printed, 2 * reach + 1, axis=-1)
  rows, zeros = rows_px.copy(), np.array(ZEROS_PX)[:, None]
  y = rows_px + zeros - STRIP.height_px / 2
  for r in range(len(rows)):
    alone = np.all([ndimage.minimum_filter1d(np.abs(y[k] - y[r]), 2 * reach + 1) > 20 for k in range(len(rows)) if k != r], axis=0)
    level[r] &= alone
    h = np.arange(STRIP.height_px)[:, None] + 0.5
    dark = strips[r] * (np.abs(h - rows_px[r]) < 6)
    rows[r] = np.where(level[r], (dark * h).sum(0) / np.maximum(dark.sum(0), 1e-3), rows_px[r])
  return rows, level.sum() / printed.sum()


@pictures(*READ)
def test_a_picture_cut_by_its_true_lattice_gives_the_signal_back(seen):
  name, dark, lattice = seen
  wanted, printed = ground_truth.at(jnp.asarray(ecg(), jnp.float32), STRIP.times_s(), layout=PAGE, rate_hz=FS)
  strips = np.asarray(cut(jnp.asarray(dark), lattice), np.float64)
  rows, share = as_read(strips, np.asarray(STRIP.rows_px(wanted), np.float64), np.asarray(printed))
  assert share > 0.5
  trace, true, pred = decoded(jnp.asarray(rows, jnp.float32), printed), {}, {}
  for lead in LEADS:
    segment = PAGE.scored(lead)
    first, count = int(segment.start_s * FS), int((segment.stop_s - segment.start_s) * FS)
    true[lead] = ecg()[LEADS.index(lead), first : first + count]
    pred[lead] = np.asarray(resample.lead(trace, segment, layout=PAGE, frame=STRIP, fs=FS, count=count)[0], np.float64)
  db = 10 * np.log10(scoring.reference_ratio(true, pred, fs=FS, cap=scoring.CAP_OPEN))
  print(f'{name}: {share:.0%} of the columns read from the picture, {db:.1f} dB')
  assert db >= 35


def test_every_row_names_a_known_look_and_ground_and_strengths_in_range():
  for name, row in variants.VARIANTS.items():
    assert row.look in range(len(variants.LOOKS)), name
    assert row.damage.ground in (degrade.LID_WHITE, degrade.LID_BLACK, degrade.DESK, degrade.MONITOR), name
    for _, effect in (*degrade.PAPER, *degrade.CAMERA):
      # 1 is what archives hold; 1.2 is what `draw` makes of it at the most
      assert 0 <= getattr(row.damage, effect.__name__) <= 1.2, f'{name}: {effect.__name__}'
    assert all(getattr(row.damage, field) >= 0 for field in BENDS), name
  assert not set(variants.MIXED) - set(variants.VARIANTS)


def test_sizes_are_those_of_the_competitions_files():
  size = {name: row.frame_px for name, row in variants.VARIANTS.items()}
  assert size['0001'] == (1700, 2200)
  assert {size[name][0] for name in ('0003', '0004', '0011', '0012')} == {1652}
  assert all(2132 <= size[name][1] <= 2200 for name in ('0003', '0004', '0011', '0012'))
  assert {size[name] for name in ('0005', '0006', '0009', '0010')} == {(3024, 4032)}
  assert variants.VARIANTS['0001'].damage == degrade.Damage()


@pytest.fixture(scope='module')
def mixture():
  draw = jax.jit(jax.vmap(lambda key: variants.draw(key, tuple(variants.MIXED))), compiler_options=QUICK)
  damage, style = draw(jax.random.split(jax.random.key(0), 1000))
  return {field: np.asarray(values) for field, values in damage._asdict().items()}, jax.tree.map(np.asarray, style)


def origin(damage):
  """(N,) which variant each damage was drawn from: the one that has the same effects, ground, fill and zoom."""
  keep = ('ground', 'fill', 'zoom', 'sticker')
  sign = lambda d: tuple(np.float32(v) if field in keep else float(v) != 0 for field, v in d.items())
  known = {sign(variants.even(variants.VARIANTS[name]).damage._asdict()): name for name in variants.MIXED}
  assert len(known) == len(variants.MIXED)
  return np.array([known[sign({field: v[i] for field, v in damage.items()})] for i in range(len(damage['fill']))])


def test_every_variant_of_the_mixture_occurs_as_often_as_said(mixture):
  names = origin(mixture[0])
  total = sum(variants.MIXED.values())
  for name, weight in variants.MIXED.items():
    share = weight / total
    # four standard deviations of a count among 1,000
    assert abs((names == name).mean() - share) < 4 * np.sqrt(share / 1000), name


def test_drawn_strengths_lie_between_a_fifth_and_six_fifths_of_the_tables(mixture):
  damage, names = mixture[0], origin(mixture[0])
  lowest, highest = 2.0, 0.0
  for name in variants.MIXED:
    row = variants.even(variants.VARIANTS[name]).damage._asdict()  # what is learned is labelled along a lattice
    for field, value in row.items():
      drawn = damage[field][names == name]
      if field in ('ground', 'fill', 'zoom', 'sticker') or not value:
        np.testing.assert_array_equal(drawn, np.float32(value))
      else:
        lowest, highest = min(lowest, (drawn / value).min()), max(highest, (drawn / value).max())
  assert 0.2 - 1e-5 <= lowest < 0.25 and 1.15 < highest <= 1.2 + 1e-5


def test_two_thirds_of_the_pages_look_as_their_variant_does(mixture):
  names, style = origin(mixture[0]), mixture[1]
  own = jax.tree.map(lambda drawn, base: (np.abs(drawn - base) < 1e-6).reshape(1000, -1).all(-1), style, looks.competition())
  own = np.all(jax.tree.leaves(own), axis=0)
  competition = np.isin(names, [name for name in variants.MIXED if variants.VARIANTS[name].look == variants.COMPETITION])
  # the competition's look is also 0.15 of `looks.draw`
  assert own[competition].mean() == pytest.approx(2 / 3 + 0.15 / 3, abs=0.06)
  assert own[~competition].mean() < 0.15


def test_a_variant_of_another_width_is_the_same_in_proportion():
  half = variants.frame_of(variants.get('fax'), width_px=825)
  assert half.frame_px == (637, 825) and half.shrink == pytest.approx(1 / 0.375, abs=0.05)
  assert half.damage.zoom == pytest.approx(0.375) and half.damage.shift_px == 6
  assert half.damage._replace(zoom=0.75, shift_px=12) == variants.get('fax').damage and half.look == variants.get('fax').look


def test_a_text_stands_for_names():
  assert variants.parse('mixed') == tuple(variants.MIXED)
  assert variants.parse('0005,fax') == ('0005', 'fax')
  assert variants.get('0010') is variants.VARIANTS['0010']


@pytest.mark.parametrize('ask', [variants.get, variants.parse])
@pytest.mark.parametrize('name', ['0002', '', 'Mixed'])
def test_unknown_names_are_refused_with_those_there_are(ask, name):
  with pytest.raises(ValueError, match=f"no variant '{name}'; choose one of 0001, 0003, .*small"):
    ask(name)
