"""From a competition folder to a submission and a table of scores, with a reader that knows the truth in place of the network."""

import argparse
import csv
import json

import numpy as np
import pytest
from known import FS, MV, PAGE, WHITE, reader
from PIL import Image

from ecgjax.competition import evaluate, predict, report, scoring
from ecgjax.ecg.leads import LEADS
from ecgjax.extract import digitizer
from ecgjax.geometry import lattices
from ecgjax.locate import find_page

pytestmark = pytest.mark.usefixtures('a_page_is_found')


@pytest.fixture
def data_dir(tmp_path, runs):
  """A competition folder: two records to score, three to read."""
  (tmp_path / 'test').mkdir()
  train, test = ['id,fs,sig_len'], ['id,lead,fs,number_of_rows']
  for record in ('a', 'b'):
    (tmp_path / 'train' / record).mkdir(parents=True)
    Image.fromarray(WHITE).save(tmp_path / f'train/{record}/{record}-0001.png', compress_level=1)
    train.append(f'{record},{FS},{10 * FS}')
    with (tmp_path / f'train/{record}/{record}.csv').open('w', newline='') as file:
      rows = csv.writer(file)
      rows.writerow(LEADS)
      for i in range(10 * FS):
        inside = [round(PAGE.scored(lead).start_s * FS) <= i < round(PAGE.scored(lead).stop_s * FS) for lead in LEADS]
        rows.writerow([f'{mv[i]:.6f}' if shown else '' for mv, shown in zip(MV, inside, strict=True)])
  for record in ('x', 'y', 'z'):
    test += [f'{record},{lead},{FS},{len(run)}' for lead, run in runs.items()]
  Image.fromarray(WHITE).save(tmp_path / 'test/x.png', compress_level=1)
  (tmp_path / 'test/y.png').write_bytes(b'\x89PNG\r\n\x1a\n and no more')  # z has no picture at all
  (tmp_path / 'train.csv').write_text('\n'.join(train))
  (tmp_path / 'test.csv').write_text('\n'.join(test))
  return tmp_path


def options(data_dir, **more):
  base = {'data': str(data_dir), 'weights': 'w', 'variant': None, 'pictures': None, 'json': None, 'overwrite': False,
          'true_lattice': False, 'signals': '', 'pages': 2, 'engine': 'auto', 'precision': 'auto', 'registration': '', 'masks': False}
  return argparse.Namespace(**{**base, **more})


def test_the_table_of_classes_pools_px_over_the_pages_of_a_variant():
  page = lambda variant, overlaps: report.Page('1', variant, None, None, None, 'ok', '', {}, 0.0, overlaps)
  whole, half = np.array([[8, 8], [6, 8], [0, 4], [1, 1]]), np.array([[0, 8], [2, 8], [0, 0], [1, 3]])
  lines = report.mask_table([page('0001', whole), page('0005', half), page('0005', None)]).splitlines()
  assert lines[0].split() == ['IoU', 'background', 'grid', 'text', 'trace']
  assert [line.split() for line in lines[1:]] == [
    ['0001', '1.000', '0.750', '0.000', '1.000'], ['0005', '0.000', '0.250', '0.000', '0.333'], ['all', '0.500', '0.500', '0.000', '0.500'],
  ]  # fmt: skip


def test_predict_goes_on_past_bad_pictures_and_lists_them(data_dir, tmp_path, monkeypatch, capsys, runs):
  monkeypatch.setattr(digitizer, 'load_reader', lambda weights, **how: reader())
  out = tmp_path / 'submission.csv'
  assert predict.run(options(data_dir, out=out)) == 1
  printed = capsys.readouterr()
  assert '1 of 3 records read' in printed.out
  assert 'y: not read' in printed.err and 'z: not read, zeros written: it has no image' in printed.err
  rows = list(csv.DictReader(out.read_text().splitlines()))
  assert len(rows) == 3 * sum(len(run) for run in runs.values())
  values = {row['id']: float(row['value']) for row in rows}
  assert values['y_0_V1'] == 0 and values['x_7_V1'] == pytest.approx(runs['V1'][7], abs=0.02)
  with pytest.raises(ValueError, match='exists; choose another --out or add --overwrite'):
    predict.run(options(data_dir, out=out))
  with pytest.raises(ValueError, match='no folder .*nowhere for --out'):
    predict.run(options(data_dir, out=tmp_path / 'nowhere/s.csv'))


def test_predict_says_which_leads_it_filled_with_zeros(data_dir, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(digitizer, 'load_reader', lambda weights, **how: reader(hidden=(3,)))
  assert predict.run(options(data_dir, out=tmp_path / 's.csv')) == 1
  assert 'x: zeros for II, of which nothing was seen' in capsys.readouterr().err


def test_evaluate_counts_what_it_cannot_read_and_lists_what_it_cannot_score(data_dir, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(digitizer, 'load_reader', lambda weights, **how: reader())
  (data_dir / 'train/a/a-0005.jpg').write_bytes(b'no picture')
  truth_csv = data_dir / 'train/b/b.csv'
  truth_csv.write_text(truth_csv.read_text().replace('aVF', 'aVX', 1))
  assert evaluate.run(options(data_dir, json=tmp_path / 'out.json', pictures=tmp_path / 'pictures')) == 1
  printed = capsys.readouterr()
  assert 'b-0001 is not scored' in printed.err and (tmp_path / 'pictures/a-0001.png').is_file()
  line = next(text for text in printed.out.splitlines() if text.startswith('all')).split()
  assert line[1] == '2' and line[-4:-1] == ['1', '0', '1']  # ok, review, fail

  def refuse(name):
    raise AssertionError(f'{name} is not JSON')

  pages = json.loads((tmp_path / 'out.json').read_text(), parse_constant=refuse)['pages']
  assert {p['variant']: p['status'] for p in pages} == {'0001': 'ok', '0005': 'fail'}
  assert pages[0]['report']['db_open'] > 40 and pages[1]['report']['lead_r']['I'] is None


def test_a_folder_without_the_variant_asked_for_is_one_sentence(data_dir, monkeypatch):
  monkeypatch.setattr(digitizer, 'load_reader', lambda weights, **how: reader())
  with pytest.raises(ValueError, match='holds no picture of the variants asked for'):
    evaluate.run(options(data_dir, variant=['0003']))


def test_the_page_score_is_the_metrics_own(data_dir, runs):
  (job, _) = evaluate.folder_jobs(str(data_dir), wanted=['0001'])
  page = evaluate.evaluate_page(job, reader=reader())
  assert page.report.ratio_open == pytest.approx(scoring.reference_ratio(runs, digitizer.digitize(
    WHITE, reader=reader(), fs=FS).leads, fs=FS, cap=scoring.CAP_OPEN), rel=1e-3)  # fmt: skip


def test_a_page_whose_lattice_is_known_is_read_along_it_too_and_the_table_shows_the_difference(data_dir, monkeypatch):
  """A page that is not found scores 10 log10 of next to nothing; along its true lattice it reaches the cap."""
  known = lattices.page_lattice()
  job = evaluate.folder_jobs(str(data_dir), wanted=['0001'])[0]._replace(picture=lambda: (WHITE, known))
  found = find_page.find_page(WHITE)
  monkeypatch.setattr(find_page, 'find_page', lambda image: found._replace(status='fail', reason='not found'))
  page = evaluate.evaluate_page(job, reader=reader())
  assert page.status == 'fail' and page.true_lattice is not None and page.true_lattice.ratio_open > 1e4
  cost = 10 * np.log10(page.true_lattice.ratio / page.report.ratio)
  titles, numbers = (text.split() for text in evaluate.table([page]).replace(' dB', '_dB').replace('p95 px', 'p95_px').splitlines())
  assert titles[-5] == 'lost_dB' and float(numbers[-5]) == pytest.approx(cost, abs=0.01)
  assert evaluate.evaluate_page(job, reader=reader(), true_lattice=True).true_lattice is None
