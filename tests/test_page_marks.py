"""Pulses and names of pages of every layout and speed, before they are drawn."""

import jax.numpy as jnp
import pytest

from ecgjax.drawing import looks, render
from ecgjax.geometry import layouts, paper

TRACE_PX = 0.75 * 200 / 72


@pytest.mark.parametrize('speed_mm_s', layouts.SPEEDS_MM_S)
def test_a_pulse_lasts_a_fifth_of_a_second_at_every_speed(speed_mm_s):
  page = layouts.make(speed_mm_s=speed_mm_s)
  bars = render._bars(jnp.arange(paper.WIDTH_PX), jnp.arange(paper.HEIGHT_PX), looks.competition(), layout=page, apart=None)
  top = round(page.zeros_px[0] - paper.PULSE_MV * page.px_per_mv)
  assert float(bars[top, : round(paper.START_X_PX) + 5].sum()) == pytest.approx(0.2 * page.px_per_s + 1.5 * TRACE_PX, abs=1)


@pytest.mark.parametrize('name', layouts.LAYOUTS)
def test_names_stand_equally_high_but_for_those_of_rhythm_strips(name):
  page = layouts.make(name)
  _, first, _, y_px, part, row = (a[0, 0] for a in render._texts(page))
  names = part == 1
  drops = {int(r): {float(y) for y in y_px[names & (row == r)]} for r in set(row[names])}
  strips = {segment.row for segment in page.segments if page.is_strip(segment)}
  assert strips == ({len(page.zeros_px) - 1} if name.endswith('+II') else {3, 4, 5} if name.endswith('+3') else set())
  assert len(set().union(*(d for r, d in drops.items() if r not in strips))) == 1
  assert len(set().union(*(d for r, d in drops.items() if r in strips))) <= 1
