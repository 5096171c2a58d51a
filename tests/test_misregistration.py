"""Black against the colours of a print: drawn where the field says, measured by known marks, and told for the whole page with its doubt."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from ecgjax.drawing import ground_truth, looks, misregistration
from ecgjax.geometry import lattices, layouts, paper
from ecgjax.ink import marks, offset_field
from ecgjax.simulate import validation_set

PAGE = layouts.make()
SHIFTED = misregistration.none()._replace(shift_px=np.array([0.8, -0.4]))
WANTED_PX = np.stack(np.broadcast_arrays(np.arange(120.0, 2080, 40), np.array(PAGE.zeros_px)[:, None]), axis=-1).reshape(-1, 2)


def drawn(mv, field):
  apart = jax.tree.map(jnp.float32, field)
  return np.asarray(validation_set.draw(500)(jax.random.key(0), jnp.asarray(mv), looks.competition(), apart))


def picture(field, beats_mv):
  return np.round(255 * drawn(beats_mv, field)).astype(np.uint8)


def field_of(measured):
  return offset_field.fit(measured.at_px, measured.off_px, measured.std_px, wanted_px=WANTED_PX)


def fields(count):
  return [jax.tree.map(np.asarray, misregistration.draw(jax.random.key(n), strength=1.0)) for n in range(count)]


def true(field, at_px):
  return np.stack(misregistration.off_px(field, at_px[:, 0], at_px[:, 1]), axis=-1)


def test_a_print_without_error_has_all_its_ink_in_its_place():
  nowhere = misregistration.draw(jax.random.key(0), strength=0.0)
  assert all(np.abs(off).max() == 0 for off in misregistration.off_px(nowhere, np.arange(0.0, 2200, 10), 900.0))


def test_black_moves_by_the_field_and_the_grid_stays():
  mv = np.full((12, 5000), 0.3, np.float32)
  exact, apart = (drawn(mv, field) for field in (misregistration.none(), SHIFTED))
  rows, printed = ground_truth.at(jnp.asarray(mv), np.array([1.0, 1.5]), layout=PAGE, rate_hz=500)
  assert printed.all()
  x = np.round(paper.START_X_PX + 196.85 * np.array([1.0, 1.5])).astype(int)
  dark = lambda image, axis: 1 - image.max(-1) if axis is None else image
  for row, zero in enumerate(PAGE.zeros_px):
    y = zero - np.asarray(rows)[row] * PAGE.px_per_mv
    exact_y, apart_y = (reference.center_of_mass(dark(image, None)[:, x], y, reach=6) for image in (exact, apart))
    np.testing.assert_allclose(np.array(apart_y) - exact_y, -0.4, atol=0.05)
  red = lambda image: np.abs(image - [1, 0, 0]).max(-1) < 0.05
  np.testing.assert_array_equal(red(exact)[300, 300:2000], red(apart)[300, 300:2000])


def test_marks_are_measured_to_a_tenth_of_a_px(beats_mv):
  for field in (misregistration.none(), SHIFTED):
    seen = marks.measure(picture(field, beats_mv), lattices.page_lattice())
    off = seen.off_px - true(field, seen.at_px)
    assert len(seen.at_px) >= 30 and np.median(np.abs(off), axis=0).max() < 0.1 and np.abs(off[:, 0]).max() < 0.25


def test_a_page_of_another_kind_has_no_marks():
  noise = np.random.default_rng(0).integers(0, 255, (1700, 2200, 3), np.uint8)
  for image in (np.full_like(noise, 255), noise):
    assert not len(marks.measure(image, lattices.page_lattice()).at_px)


def test_without_marks_nothing_is_moved_and_all_is_doubted():
  mean, std = offset_field.fit(*marks.none(), wanted_px=WANTED_PX)
  assert (mean == 0).all() and (std[:, 0] > 0.3).all() and (std[:, 1] < std[:, 0]).all()


@pytest.mark.parametrize('wrong', [0, 3])
def test_the_field_is_found_within_its_own_doubt_even_where_some_marks_are_wrong(beats_mv, wrong):
  seen = marks.measure(picture(misregistration.none(), beats_mv), lattices.page_lattice())
  errors, before, doubts = [], [], []
  for n, field in enumerate(fields(12)):
    random = np.random.default_rng(n)
    off = true(field, seen.at_px) + seen.std_px * random.normal(size=seen.off_px.shape)
    off[random.permutation(len(off))[:wrong]] += 1.5
    mean, std = field_of(seen._replace(off_px=off))
    wanted = true(field, WANTED_PX)
    errors, before, doubts = [*errors, mean - wanted], [*before, wanted], [*doubts, (mean - wanted) / std]
  rms = lambda values: np.sqrt((np.stack(values)[..., 0] ** 2).mean())
  assert rms(errors) < 0.5 * rms(before) and 0.5 < rms(doubts) < 1.4


def test_a_page_that_is_exact_is_left_alone(beats_mv):
  mean, std = field_of(marks.measure(picture(misregistration.none(), beats_mv), lattices.page_lattice()))
  assert np.abs(mean[:, 0]).max() < 0.01 and std[:, 0].max() < 0.05


def test_the_fields_of_prints_are_found_from_their_marks(beats_mv):
  errors, before = [], []
  for field in fields(4):
    mean, std = field_of(marks.measure(picture(field, beats_mv), lattices.page_lattice()))
    wanted = true(field, WANTED_PX)[:, 0]
    errors, before = [*errors, (mean[:, 0] - wanted)], [*before, wanted]
    assert np.abs(errors[-1] / std[:, 0]).max() < 4
  rms = lambda values: np.sqrt((np.stack(values) ** 2).mean())
  assert rms(errors) < 0.5 * rms(before)
