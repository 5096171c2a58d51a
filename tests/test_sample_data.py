"""The sample folder and the script that writes it."""

import importlib.util
import pathlib

import numpy as np
import pytest
import reference

from ecgjax.competition import data_folder
from ecgjax.ecg.leads import LEADS
from ecgjax.simulate import competition_folder

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module')
def script():
  spec = importlib.util.spec_from_file_location('make_sample_data', ROOT / 'scripts' / 'make_sample_data.py')
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_the_sample_has_the_competitions_form(sample):
  records = data_folder.list_train(sample)
  assert [r.id for r in records] == ['900000001', '900000002', '900000003']
  assert [list(r.images) for r in records] == [['0001']] * 3
  assert [r.id for r in data_folder.list_test(sample)] == ['900000004']
  mv = reference.table(records[0].csv, LEADS)
  quarter = [0, None, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
  for values, q in zip(mv, quarter, strict=True):
    shown = np.arange(2500) if q is None else np.arange(625 * q, 625 * (q + 1))
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(values)), shown)
  assert np.abs(mv * 1000 - np.round(mv * 1000))[~np.isnan(mv)].max() < 1e-6
  runs = competition_folder._runs(np.broadcast_to(np.arange(10250.0), (12, 10250)), fs=1025)
  assert [(runs[lead][0], len(runs[lead])) for lead in ('I', 'aVR', 'V1', 'V4', 'II')] == [
    (0, 2562), (2562, 2562), (5125, 2562), (7687, 2562), (0, 10250)]  # fmt: skip


def test_a_folder_that_the_script_did_not_write_is_never_replaced(script, tmp_path, capsys):
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine' / 'thesis.txt').touch()
  assert script.main(['--out', str(tmp_path / 'mine'), '--overwrite']) == 2
  assert 'was not written by this command' in capsys.readouterr().err
  assert [path.name for path in tmp_path.rglob('*')] == ['mine', 'thesis.txt']
  assert script.main(['--out', str(tmp_path / 'new'), '--records', '0']) == 2
