"""Training examples of damaged pages: what a strip shows stands where its labels say."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.ecg import packs
from ecgjax.geometry import lattices, layouts, paper
from ecgjax.training import examples

PAGE = layouts.make()
FRAME = lattices.frame(PAGE, rate_hz=250, height_px=640)
QUICK = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
TIMES = np.arange(5000) / 500
MV = (0.3 * np.sin(2 * np.pi * 0.7 * TIMES + np.arange(12)[:, None])).astype(np.float32)  # slow, and no row comes near another


def drawn(names, count, **options):
  one = functools.partial(examples.example, layout=PAGE, frame=FRAME, window_px=64, names=names, **options)
  make = jax.jit(lambda key: one(key, jnp.asarray(MV)), compiler_options=QUICK)
  return [jax.tree.map(np.asarray, make(jax.random.key(n))) for n in range(count)]


def centres(cover, rows, reach):
  """(R, W) centre of mass of (R, H, W) within `reach` px of the rows."""
  heights = np.arange(cover.shape[1])[:, None] + 0.5
  near = cover * (np.abs(heights - rows[:, None]) < reach)
  return (near * heights).sum(1) / np.maximum(near.sum(1), 1e-6)


@pytest.mark.parametrize('rows_share', [0.0, 1.0])
def test_a_clean_window_shows_its_ink_at_its_rows(rows_share):
  for example in drawn(('0001',), 3, rows_share=rows_share):
    off = (centres(example.inks[..., 2], example.rows_px, 6) - example.rows_px)[example.printed]
    assert off.size > 100 and np.sqrt((off**2).mean()) < 0.15


def test_rows_are_moved_as_often_as_said_stay_on_the_paper_and_keep_their_distances_within_bounds():
  zeros = np.asarray(jax.vmap(lambda key: examples.rows(key, PAGE, share=0.5).zeros_px)(jax.random.split(jax.random.key(0), 400)))
  moved = np.abs(zeros - np.asarray(PAGE.zeros_px)).max(1) > 1e-3
  steps_mm = np.diff(zeros[moved], axis=1) / paper.PX_PER_MM
  assert 0.4 < moved.mean() < 0.6 and np.ptp(steps_mm, axis=1).max() < 0.01
  assert 11.9 < steps_mm.min() < 14 and 36 < steps_mm.max() < 38.1
  assert zeros[moved].min() >= 299 and zeros[moved].max() <= 1561


@pytest.mark.slow
def test_a_damaged_window_shows_its_trace_at_its_rows():
  # the labels come from the page frame, the colours through the picture and its lattice: two ways that meet in the strip
  found = []
  for example in drawn(('0003', '0005', '0010', '0015'), 12):
    dark = 1 - example.strips[..., :3].mean(-1)
    dark = dark - np.median(dark, axis=1, keepdims=True)
    off = centres(np.clip(dark - 0.1, 0, None), example.rows_px, 4) - example.rows_px
    ink = centres(example.inks[..., 2], example.rows_px, 6) - example.rows_px
    assert np.sqrt((ink[example.printed] ** 2).mean()) < 0.15
    found.append(off[example.printed & (np.abs(off) < 4)])
  off = np.concatenate(found)
  # grid lines and stains pull single columns; a shift of the lattice would move the middle of them all
  assert off.size > 1500 and abs(np.median(off)) < 0.05 and np.median(np.abs(off)) < 0.35


def test_a_tall_share_of_records_is_as_tall_as_said_and_the_others_are_as_they_were():
  noise = np.random.default_rng(0).integers(-100, 100, (8, 5000))  # 0.5 mV, before its gain of at most 1.5
  noise[:, -1] = noise[:, 0]  # no step from end to start, which would be taken away
  pack = jnp.asarray(noise, jnp.int16)
  draw = jax.jit(jax.vmap(functools.partial(examples.record, simulated_share=0.0, tall_share=0.3), (0, None)))
  keys = jax.random.split(jax.random.key(0), 200)
  tall_mv = np.abs(np.asarray(draw(keys, pack))).max((1, 2))
  tall = tall_mv > 2.4
  assert 0.2 < tall.mean() < 0.4 and (tall_mv[tall] < 6.6).all() and tall_mv[tall].max() > 6 and (tall_mv[~tall] < 1.6).all()


def test_a_record_begins_anywhere_without_a_step_that_no_heart_makes():
  t_s = jnp.arange(5000) / 500
  waves = [200 * jnp.sin(2 * jnp.pi * t_s) + 10 * (n + 1) * t_s for n in range(8)]
  drifting = jnp.stack(waves).astype(jnp.int16)  # ends far from where it begins
  draw = jax.jit(functools.partial(examples.record, simulated_share=0.0, tall_share=0.0))
  for n in range(8):
    mv = np.asarray(draw(jax.random.key(n), drifting))
    assert np.abs(np.diff(mv)).max() < 0.05  # its own steps are 0.02 mV, the seam was up to 6
    np.testing.assert_allclose(mv[0] + mv[2], mv[1], atol=1e-4)  # I + III = II
  whole = jnp.asarray(np.random.default_rng(0).normal(size=(12, 5000)))
  np.testing.assert_array_equal(examples.seamless(whole)[:, 200:-200], whole[:, 200:-200])


def test_a_slow_record_shows_the_same_waves_over_twice_the_time():
  pack = (1000 * MV[:8]).astype(np.int16)
  drawn = functools.partial(examples.record, jax.random.key(3), jnp.asarray(pack), simulated_share=0.0, tall_share=0.0)
  plain, slow = np.asarray(drawn()), np.asarray(drawn(slow_share=1.0))
  t = np.arange(slow.shape[1]) / packs.RATE_HZ
  wanted = np.stack([np.interp(t / 2, t, lead) for lead in plain])
  assert np.abs(slow - wanted).max() < 0.02 * np.abs(plain).max() and np.abs(slow - plain).max() > 0.2
