"""What `import ecgjax` offers: every name is there, in the document, and does what it says."""

import pathlib
import pickle
import runpy
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import ecgjax
from ecgjax.archive import listing
from ecgjax.competition import submission
from ecgjax.ecg import errors
from ecgjax.geometry import lattices
from ecgjax.ink import printers
from ecgjax.networks import weight_files
from ecgjax.simulate import pages, validation_set, variants

ROOT = pathlib.Path(__file__).resolve().parents[1]
GREY = np.full((900, 1200, 3), 200, np.uint8)


@pytest.mark.parametrize('name', ecgjax.__all__)
def test_every_name_is_there_and_in_the_document_with_its_docstring(name):
  entry = runpy.run_path(str(ROOT / 'scripts' / 'make_api_page.py'))['entry'](name)
  page = (ROOT / 'docs' / 'api.md').read_text()
  text = entry.partition('\n\n')[2] if '```' not in entry else entry.rsplit('\n\n', entry.count('\n\n') - 1)[-1]
  assert f'## `{name}`' in page and text.strip() in page, 'run scripts/make_api_page.py'


def test_nothing_heavy_is_imported_before_it_is_used():
  code = 'import ecgjax, sys; assert not {"jax", "numpy", "cv2", "PIL"} & set(sys.modules); print(len(dir(ecgjax)))'
  assert subprocess.run([sys.executable, '-c', code], capture_output=True, timeout=60).returncode == 0


@pytest.mark.parametrize('kind', [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.ECGError)])
def test_errors_are_ecg_errors_and_reach_a_parent_process_as_they_are(kind):
  again = pickle.loads(pickle.dumps(kind('a sentence')))
  assert type(again) is kind and str(again) == 'a sentence' and isinstance(again, ecgjax.ECGError) and isinstance(again, ValueError)


def test_what_cannot_be_read_says_so_by_its_class(tmp_path):
  (tmp_path / 'a.png').write_bytes(b'no picture')
  with pytest.raises(ecgjax.Unreadable, match='no picture of a known kind'):
    ecgjax.digitize(tmp_path / 'a.png')
  with pytest.raises(ecgjax.PageNotFound):
    ecgjax.digitize(GREY[:400, :400])
  with pytest.raises(ecgjax.UnsupportedLayout, match='speed_mm_s=10'):
    ecgjax.digitize(GREY, speed_mm_s=10)
  with pytest.raises(ecgjax.ECGError, match='1 to 256'):
    next(ecgjax.digitize_many([], jobs=0))


def test_a_page_is_drawn_as_the_validation_set_draws_it_and_pictured_where_its_lattice_says(beats_mv):
  key = jax.random.key(5)
  style = variants.draw_look(key, 0)
  page = ecgjax.draw_page(key, beats_mv, look=style)
  drawn = np.round(255 * np.asarray(validation_set.draw(500)(key, jax.numpy.asarray(beats_mv), style)))
  assert np.abs(page - drawn).max() <= 1
  same = ecgjax.photograph(key, page, variant='0001')
  np.testing.assert_array_equal(same.image, page)
  np.testing.assert_array_equal(same.lattice, lattices.page_lattice())
  with pytest.raises(ecgjax.ECGError, match=r'uint8 \(1700, 2200, 3\)'):
    pages.photograph(key, page[:100], variant='0001')


def test_many_are_read_page_by_page_and_what_cannot_be_read_stops_none(tmp_path):
  frames = [Image.fromarray(GREY[:500, :500]) for _ in range(2)]
  frames[0].save(tmp_path / 'two.tif', save_all=True, append_images=frames[1:])
  (tmp_path / 'text.png').write_bytes(b'no picture')
  files = [tmp_path / 'two.tif', tmp_path / 'text.png', tmp_path / 'missing.png']
  found = {(pathlib.Path(r.path).name, r.page): r for r in ecgjax.digitize_many(files, weights='small', engine='jax')}
  assert sorted(found) == [('missing.png', 1), ('text.png', 1), ('two.tif', 1), ('two.tif', 2)]
  assert all(r.recording is None for r in found.values())
  assert 'known kind' in found['text.png', 1].reason and 'too few' in found['two.tif', 2].reason


@pytest.mark.parametrize(('meta', 'arrays', 'told'), [
  ('no json', {}, 'header that cannot be read'), ('[' * 100_000, {}, 'header that cannot be read'),
  ('{"model": {}, "strip": {}}', {'a': 1, 'a/b': 1}, 'header that cannot be read'),
  ('{"model": {}, "strip": {}}', {'a': 1}, 'its strip has no height_px, layout, rate_hz'),
  ('{"model": {}, "strip": 3}', {'a': 1}, 'says nothing of a strip'),
])  # fmt: skip
def test_weights_with_a_strange_header_are_refused_with_a_sentence(tmp_path, meta, arrays, told):
  path = tmp_path / 'w.safetensors'
  path.write_bytes(safetensors.numpy.save({name: np.zeros(n, np.float32) for name, n in arrays.items()}, metadata={'meta': meta}))
  with pytest.raises(ecgjax.ECGError, match=told):
    weight_files.load_network(path, lambda **how: None, part='strip')


def test_files_that_are_no_tables_are_refused_with_a_sentence(tmp_path):
  path = tmp_path / 'train.csv'
  path.write_bytes('id,fs,sig_len\nM\xfcller,500,5000\n'.encode('latin-1'))
  with pytest.raises(ecgjax.ECGError, match='no csv in UTF-8'):
    submission.read_rows(path, columns=('id', 'fs', 'sig_len'))
  path.write_bytes(b'\x89PNG\r\n\x1a\n\xff')
  with pytest.raises(ecgjax.ECGError, match='no table of registration'):
    printers.load(path)
  with pytest.raises(ecgjax.ECGError, match='foo://x'):
    listing.place('foo://x')


@pytest.mark.parametrize('corners', [[[0, 0], [9, 0], [9, 9]], [[0, 0], [900, 0], [900, float('nan')], [0, 800]]])
def test_corners_that_are_no_four_points_are_refused(corners):
  with pytest.raises(ecgjax.ECGError, match='not four points'):
    ecgjax.digitize(GREY, corners=np.array(corners))


def test_train_stays_the_function_and_defines_no_flag_before_its_command_runs():
  code = (
    'import ecgjax, ecgjax.train; from absl import flags; assert callable(ecgjax.train) and "config" not in flags.FLAGS; '
    'from ecgjax.cli import command_line; command_line.main(["--debug", "train", "--config=nowhere.py"])'
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
  assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith('error: --config: ') and 'Traceback' not in done.stderr
