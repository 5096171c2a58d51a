"""What a printer does on the mean: written as it was measured, read as written, and believed where a print's own marks say little."""

import csv

import numpy as np
import pytest

from ecgjax.geometry import lattices, layouts
from ecgjax.ink import offset_field, printers

ROWS, COLS = lattices.nodes_px()
PAGE = layouts.make()
WANTED_PX = np.stack(np.broadcast_arrays(np.arange(120.0, 2080, 40), np.array(PAGE.zeros_px)[:, None]), axis=-1).reshape(-1, 2)


def plane(*slopes):
  """(45, 57, 2) a field that is linear over the page: right by shift, slope along x and along y, below by half of that."""
  shift, across, down = slopes
  right = shift + across * (COLS / 2200 - 0.5) + down * (ROWS[:, None] / 1700 - 0.5)
  return np.stack([right, right / 2], axis=-1)


def right(field_px, at_px):
  """What `plane` says, in closed form."""
  shift, across, down = field_px
  return shift + across * (at_px[:, 0] / 2200 - 0.5) + down * (at_px[:, 1] / 1700 - 0.5)


@pytest.fixture
def table(tmp_path):
  path = tmp_path / 'registration.csv'
  printers.write(path, {'0003': [plane(0.1, 0.4, 0.2), plane(0.3, 0.4, 0.2)], '0005': [plane(0.5, 0.4, 0.2)]})
  return path


def test_a_table_tells_the_mean_and_the_spread_of_what_was_measured(table):
  inside = WANTED_PX[(WANTED_PX[:, 1] > 350) & (WANTED_PX[:, 1] < 1600)]
  whole, scans = printers.load(table), printers.load(table, variant='0003')
  np.testing.assert_allclose(printers.at(whole, inside)[:, 0], right((0.3, 0.4, 0.2), inside), atol=2e-3)
  np.testing.assert_allclose(printers.at(scans, inside)[:, 1], right((0.2, 0.4, 0.2), inside) / 2, atol=2e-3)
  np.testing.assert_allclose(whole.rms_px, np.std([0.1, 0.3, 0.5]) * np.array([1, 0.5]), atol=2e-3)
  assert np.isinf(printers.load(table, variant='0005').rms_px).all()  # one print says nothing of the next
  beyond = printers.at(whole, np.array([[-50.0, 900.0], [0.0, 900.0]]))
  np.testing.assert_allclose(beyond[0], beyond[1])


def test_what_is_no_table_is_refused_with_the_reason(table, tmp_path):
  lines = table.read_text().splitlines()
  faults = {
    'a,b\n1,2': 'needs the columns', '\n'.join(lines[:1]): 'needs the columns', '\n'.join(lines[:-3]): 'no whole table .* for 0005',
    '\n'.join([*lines[:-1], lines[-1].replace('0.', 'x.')]): 'no table of registration',
  }  # fmt: skip
  for text, reason in faults.items():
    (tmp_path / 'b.csv').write_text(text)
    with pytest.raises(ValueError, match=reason):
      printers.load(tmp_path / 'b.csv', variant='0005')
  with pytest.raises(ValueError, match='for 0012: 0 points'):
    printers.load(table, variant='0012')
  with table.open(newline='') as file:
    assert next(csv.reader(file)) == list(printers.COLUMNS)


def test_lattices_stand_apart_by_what_one_was_moved_in_the_page():
  """Ink at page point p is found at p + off: its lattice is the grid's, a camera's plane, at p + off."""
  moved = lambda at: np.stack([0.9 * at[..., 0] - 0.1 * at[..., 1] + 30, 0.2 * at[..., 0] + 0.8 * at[..., 1] - 7], axis=-1)
  field, page = plane(0.4, 0.3, -0.2), lattices.page_lattice().astype(np.float64)
  np.testing.assert_allclose(lattices.apart_px(moved(page), moved(page + field)), field, atol=1e-5)


@pytest.mark.parametrize('seen', [0, 6])
def test_a_known_printer_tells_what_few_marks_do_not(table, seen):
  printer, rng = printers.load(table)._replace(rms_px=np.array([0.1, 0.05])), np.random.default_rng(0)
  at_px = WANTED_PX[rng.permutation(len(WANTED_PX))[:seen]]
  true = lambda px: np.stack([right((0.32, 0.4, 0.2), px), right((0.32, 0.4, 0.2), px) / 2], axis=-1)
  measured = at_px, true(at_px) + 0.05 * rng.normal(size=at_px.shape), np.full(at_px.shape, 0.05)
  (alone, doubt), (with_printer, less) = (offset_field.fit(*measured, wanted_px=WANTED_PX, printer=p) for p in (None, printer))
  rms = lambda values: np.sqrt(((values - true(WANTED_PX)) ** 2).mean())
  assert rms(with_printer) < 0.7 * rms(alone) and less[:, 0].mean() < doubt[:, 0].mean()


def test_a_page_that_is_exact_is_left_alone_though_its_printer_is_not(table):
  """The digital original of a print: its marks stand where they belong."""
  at_px = WANTED_PX[::5]
  mean, _ = offset_field.fit(at_px, np.zeros(at_px.shape), np.full(at_px.shape, 0.06), wanted_px=WANTED_PX, printer=printers.load(table))
  assert np.abs(mean).max() < 0.03
