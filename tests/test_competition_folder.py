"""Simulated folders and the fixed validation set: the same every time, whole, and read by the same code as real ones."""

import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from ecgjax.competition import data_folder, evaluate
from ecgjax.ecg.leads import LEADS
from ecgjax.geometry import lattices, layouts
from ecgjax.io import images
from ecgjax.simulate import competition_folder, validation_set, variants

MV = np.stack([np.sin(2 * np.pi * (1 + 0.1 * n) * np.arange(5000) / 500 + n) for n in range(12)]).astype(np.float32)


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  """Two records as a far page and as the original, at one rate: one program for the damage."""
  out = tmp_path_factory.mktemp('samples') / 'data'
  competition_folder.write_folder(out, records=2, seed=3, names=('0001', 'small'), tests=1, rates_hz=(500,))
  return out


def test_every_variant_asked_for_is_written_with_its_true_lattice(small):
  for record in data_folder.list_train(small):
    assert sorted(record.images) == ['0001', 'small']
    for name, path in record.images.items():
      with Image.open(path) as image:
        assert (image.height, image.width) == variants.get(name).frame_px
      lattice = np.load(path.with_suffix('.lattice.npy'))
      assert lattice.shape == lattices.page_lattice().shape and lattice.dtype == np.float32
  assert len(data_folder.list_test(small)) == 1
  far = variants.get('small')
  assert validation_set._picture(far.frame_px, far.shrink)._cache_size() == 1  # one program, however many pages


def test_the_lattice_beside_a_far_page_finds_its_grid(small):
  # the page's outline is white paper on a darker table: all four corners of the margin lie on the sheet, none 100 px further out
  record = data_folder.list_train(small)[0]
  image = images.read(record.images['small']).astype(float)
  lattice = np.load(record.images['small'].with_suffix('.lattice.npy'))
  rows = lattice[:, 5:-5]
  down = np.abs(np.diff(image.mean(-1), axis=0))
  at = lambda xy: down[np.clip(xy[..., 1].astype(int), 0, len(down) - 1), np.clip(xy[..., 0].astype(int), 0, image.shape[1] - 1)]
  step = np.diff(rows, axis=0)[:-1] / 2
  assert np.maximum(at(rows[1:-1]), at(rows[1:-1] - [0, 1])).mean() > 1.2 * at(rows[1:-1] + step).mean()


def test_a_folder_asks_for_known_variants_and_enough_recordings(tmp_path, small):
  with pytest.raises(ValueError, match="no variant '0002'; choose one of 0001, 0003"):
    competition_folder.write_folder(tmp_path / 'a', records=1, seed=0, names=('0002',))
  with pytest.raises(ValueError, match='not empty; give another --out or --overwrite'):
    competition_folder.write_folder(small, records=1, seed=0)
  with pytest.raises(ValueError, match='0 records and 0 for test/; need at least 1 and 0'):
    competition_folder.write_folder(tmp_path / 'a', records=0, seed=0)
  assert not (tmp_path / 'a').exists()


def test_the_command_says_what_it_takes():
  process = subprocess.run([sys.executable, '-m', 'ecgjax', 'simulate', '--help'], capture_output=True, text=True, timeout=120)
  assert process.returncode == 0 and '--variant NAME' in process.stdout


def test_a_case_of_the_validation_set_depends_on_its_name_and_number_alone():
  mv = jax.numpy.asarray(MV)
  first, again, other = (validation_set.case(mv, name, n) for name, n in (('small', 1), ('small', 1), ('small', 2)))
  np.testing.assert_array_equal(first.image, again.image)
  assert np.abs(first.lattice - other.lattice).max() > 1
  for lead, values in first.leads.items():
    segment = layouts.make().scored(lead)
    start = round(500 * segment.start_s)
    np.testing.assert_array_equal(values, MV[LEADS.index(lead), start : start + len(values)])
    assert len(values) == 500 * (segment.stop_s - segment.start_s)


@pytest.mark.slow
def test_recordings_without_a_source_are_simulated_and_fewer_are_a_part_of_more():
  one, two = validation_set.recordings('', count=1), validation_set.recordings('', count=2)
  assert len(two) == 2 and two[0].shape == (12, 5000)
  np.testing.assert_array_equal(one[0], two[0])


def test_evaluate_reads_the_validation_set_with_its_true_lattice(monkeypatch):
  monkeypatch.setattr(validation_set, 'recordings', lambda source, count: [jax.numpy.asarray(MV)] * count)
  jobs = evaluate.simulated_jobs('', wanted=['0001', 'small'], count=2)
  assert [(job.variant, job.id) for job in jobs] == [('0001', '000'), ('0001', '001'), ('small', '000'), ('small', '001')]
  image, lattice = jobs[0].picture()
  assert image.shape == (1700, 2200, 3) and image.dtype == np.uint8
  np.testing.assert_array_equal(lattice, lattices.page_lattice())
  assert set(jobs[2].truth()) == set(LEADS)


def test_a_true_lattice_is_taken_from_beside_the_picture_where_there_is_one(small, tmp_path):
  folder_of_pages = shutil.copytree(small, tmp_path / 'copy')
  picture = lambda: evaluate.folder_jobs(str(folder_of_pages), wanted=['small'])[0].picture()
  assert picture()[1].shape == (45, 57, 2)
  for path in folder_of_pages.glob('train/*/*.lattice.npy'):
    path.unlink()
  assert picture()[1] is None
