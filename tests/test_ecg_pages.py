import csv
import io
import os
import shutil
import sys

import numpy as np
import pytest
import reference
from PIL import Image

from data_builders.ecg_pages import __main__ as command
from data_builders.ecg_pages import builder
from ecgjax.competition import data_folder
from ecgjax.ecg.leads import LEADS
from ecgjax.geometry import lattices
from ecgjax.ink import printers
from ecgjax.networks import unet
from ecgjax.training import examples as stream
from ecgjax.training import records

FS = 250
PX_PER_MV = 78.7402
TO_PAGE = (0.02, 1.05, 30.0, -1.02, 0.01, 1900.0, 1e-5, 2e-5)  # photo px -> page px: on its side, in perspective
GOOD = ('900000001', '900000002', '900000003')
TRACE, TEXT, GRID, BARE = (unet.CLASSES.index(name) for name in ('trace', 'text', 'grid', 'background'))


@pytest.fixture
def data_dir(sample, tmp_path):
  return shutil.copytree(sample, tmp_path / 'data')


@pytest.fixture(scope='module')
def built(sample, tmp_path_factory):
  """The sample with four bad records, a photo, a photo of another page and an empty file, built by the command line: (out, exit code)."""
  root = tmp_path_factory.mktemp('built')
  data, out = shutil.copytree(sample, root / 'data'), root / 'out'
  with (data / 'train.csv').open('a') as listing:
    for record in ('bad_png', 'bad_csv', 'bad_size', 'bad_pair'):
      shutil.copytree(data / 'train' / GOOD[0], data / 'train' / record)
      for name in (f'{GOOD[0]}.csv', f'{GOOD[0]}-0001.png'):
        (data / 'train' / record / name).rename(data / 'train' / record / name.replace(GOOD[0], record))
      listing.write(f'{record},{FS},{10 * FS}\n')
  (data / 'train/bad_png/bad_png-0001.png').write_bytes(b'\x89PNG\r\n\x1a\n, and no more')
  truth = data / 'train/bad_csv/bad_csv.csv'
  truth.write_text(truth.read_text().replace('aVF', 'aVX', 1))
  Image.new('RGB', (2200, 1699)).save(data / 'train/bad_size/bad_size-0001.png')
  shutil.copy(data / f'train/{GOOD[1]}/{GOOD[1]}-0001.png', data / 'train/bad_pair/bad_pair-0001.png')
  for name, of in ((GOOD[0], GOOD[0]), (GOOD[1], GOOD[2])):  # the second is a picture of another record's page
    shown = Image.open(data / f'train/{of}/{of}-0001.png').convert('RGB')
    taken = shown.transform((2000, 2500), Image.Transform.PERSPECTIVE, TO_PAGE, Image.Resampling.BICUBIC)
    taken.save(data / f'train/{name}/{name}-0005.png')
  (data / f'train/{GOOD[1]}/{GOOD[1]}-0011.png').touch()
  stdout = io.StringIO()
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys, 'stdout', stdout)
    code = command.main(['--data', str(data), '--out', str(out), '--val_share', '0'])
  return data, out, code, stdout.getvalue()


@pytest.fixture(scope='module')
def pages(built):
  return {str(page['id']): page for page in records.read(built[1], split='train') if page['variant'] == '0001'}


@pytest.fixture(scope='module')
def photo(built):
  (only,) = (page for page in records.read(built[1], split='train') if page['variant'] != '0001')
  return only


def test_bad_records_are_listed_with_a_reason_and_the_others_are_built(built, pages):
  _, out, code, stdout = built
  assert code == 1
  assert sorted(pages) == sorted(GOOD)
  with (out / 'skipped.csv').open() as file:
    reasons = {row['id'] if row['variant'] == '0001' else (row['id'], row['variant']): row['reason'] for row in csv.DictReader(file)}
  others = {key: reasons.pop(key) for key in list(reasons) if isinstance(key, tuple)}
  assert sorted(others) == [(GOOD[1], '0005'), (GOOD[1], '0011')]
  assert 'original' in others[GOOD[1], '0005'] and 'cannot be read' in others[GOOD[1], '0011']
  assert sorted(reasons) == ['bad_csv', 'bad_pair', 'bad_png', 'bad_size']
  assert 'no aVF' in reasons['bad_csv']
  assert 'csv and picture disagree' in reasons['bad_pair']
  assert 'cannot be read' in reasons['bad_png']
  assert '2200 x 1699' in reasons['bad_size']
  assert 'left out: 6' in stdout


def test_a_photo_is_built_with_its_lattice_and_the_page_s_own_labels(photo, pages):
  page = pages[GOOD[0]]
  assert photo['image'].shape == (2500, 2000, 3) and str(photo['variant']) == '0005'
  for name in ('rows_px', 'mv', 'mask'):
    np.testing.assert_array_equal(photo[name], page[name])
  at = np.concatenate([photo['lattice'], np.ones((45, 57, 1))], -1) @ np.append(TO_PAGE, 1).reshape(3, 3).T
  off = (at[..., :2] / at[..., 2:] - lattices.page_lattice())[2:-2, 2:-2]
  assert np.sqrt((off**2).sum(-1).mean()) < 0.25
  assert np.abs(lattices.apart_px(photo['grid_lattice'], photo['lattice'])[lattices.trace_area()]).max() < 0.5  # this print is exact


def test_what_the_prints_have_in_common_is_written_beside_the_dataset(built, photo):
  table = printers.load(built[1] / 'registration.csv', variant='0005')
  apart_px = lattices.apart_px(photo['grid_lattice'], photo['lattice'])
  rows, cols = lattices.nodes_px()
  np.testing.assert_allclose(printers.at(table, np.array([[cols[20], rows[20]]]))[0], apart_px[20, 20], atol=0.02)


def test_pictures_of_all_sizes_go_into_one_batch(photo, pages):
  batch = stream.recorded([photo, pages[GOOD[0]]], batch_size=2, seed=0)(0)
  assert batch['image'].shape == (2, 2560, 2560, 3) and batch['mask'].shape == (2, 1700, 2200)
  sizes = sorted((image.max((1, 2)) > 0).sum() for image in batch['image'])
  assert sizes[0] <= 1700 < sizes[1]  # padded below, not scaled


def test_an_example_holds_the_page_and_the_csv_as_they_are(built, pages):
  data = built[0]
  for record in GOOD:
    page = pages[record]
    np.testing.assert_array_equal(page['image'], np.asarray(Image.open(data / f'train/{record}/{record}-0001.png')))
    np.testing.assert_array_equal(page['mv'], reference.table(data / f'train/{record}/{record}.csv', LEADS).astype(np.float32))
    np.testing.assert_array_equal(page['lattice'], lattices.page_lattice())
    assert (int(page['fs']), str(page['variant'])) == (FS, '0001')


def test_rows_are_the_csv_joined_by_straight_lines_at_500_a_second(pages):
  # by hand: 124 columns lie before second 0, a sample of 250 Hz is 2 columns long, 640 px are 8.13 mV
  for page in pages.values():
    rows, mv = page['rows_px'], {str(lead): values for lead, values in zip(LEADS, page['mv'], strict=True)}
    mv['short II'] = np.where(np.arange(10 * FS) < 625, mv['II'], np.nan)
    assert rows.shape == (4, 5248)
    for row, leads in enumerate(('I,aVR,V1,V4', 'short II,aVL,V2,V5', 'III,aVF,V3,V6')):
      expected = 320 - PX_PER_MV * np.nansum([mv[lead] for lead in leads.split(',')], axis=0)
      np.testing.assert_allclose(rows[row, 124 : 124 + 20 * FS : 2], expected, atol=2e-3)
      between = (expected[:-1] + expected[1:]) / 2
      between[[624, 1249, 1874]] = np.nan  # no line from lead to lead
      np.testing.assert_allclose(rows[row, 125 : 125 + 20 * FS - 2 : 2], between, atol=2e-3)
    np.testing.assert_allclose(rows[3, 124 : 124 + 20 * FS : 2], 320 - PX_PER_MV * mv['II'], atol=2e-3)
    assert np.isnan(rows[:, :124]).all()
    assert np.isnan(rows[:, 124 + 20 * FS - 1 :]).all()


def test_the_mask_says_what_the_px_show(pages):
  for page in pages.values():
    image, mask = page['image'].astype(int), page['mask']
    assert (image[mask == TRACE].max(-1) < 170).mean() > 0.99  # half a trace and half bare paper is 139
    assert (image[mask == TEXT].max(-1) < 110).all()
    assert (image[mask == BARE].min(-1) >= 245).all()
    assert (image[mask == GRID].min(-1) < 245).all()
    dark = image.max(-1) < 110
    assert np.isin(mask[dark], (TRACE, TEXT)).all()


def test_trace_px_lie_along_the_rows_and_nowhere_else(pages):
  zeros = np.array([708.333, 991.667, 1275.0, 1534.71])
  for page in pages.values():
    rows, mask = page['rows_px'], page['mask']
    columns = np.arange(5248)[~np.isnan(rows).any(0)]
    y = zeros[:, None] + rows[:, columns] - 320
    x = np.broadcast_to(118.110 + (columns - 124) / 500 * 196.850, y.shape)
    assert (mask[y.astype(int), x.astype(int)] == TRACE).mean() > 0.995
    assert 1.5 * 4 * 1968 < (mask == TRACE).sum() < 0.1 * mask.size
    assert not (mask[:, 2090:] == TRACE).any()
    assert not (mask[:, :116] == TRACE).any()


def test_an_interrupted_build_goes_on_and_gives_the_same(data_dir, pages, tmp_path, monkeypatch):
  out, make, made = tmp_path / 'out', builder.example, []

  def counted(record, *, variant):
    made.append(record.id)
    if made == list(GOOD):
      raise KeyboardInterrupt
    return make(record, variant=variant)

  monkeypatch.setattr(builder, 'example', counted)
  arguments = ['--data', str(data_dir), '--out', str(out), '--val_share', '0']
  assert command.main(arguments) == 130
  with pytest.raises(ValueError, match='no finished records'):
    records.read(out, split='train')
  made.clear()
  assert command.main(arguments) == 0
  assert made == [GOOD[2]]
  assert sorted(path.name for path in out.iterdir()) == ['ecg_pages', 'skipped.csv']
  source = records.read(out, split='train')
  assert len(source) == len(pages)
  for page in (source[i] for i in range(len(source))):
    for name, value in pages[str(page['id'])].items():
      np.testing.assert_array_equal(page[name], value)


def test_a_page_whose_source_has_changed_is_made_anew(data_dir):
  record = data_folder.list_train(data_dir)[0]
  before = command._fingerprint(record, '0001')
  assert command._fingerprint(record, '0001') == before
  status = record.csv.stat()
  os.utime(record.csv, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
  other_time = command._fingerprint(record, '0001')
  record.csv.write_text(record.csv.read_text() + '\n')
  os.utime(record.csv, ns=(status.st_atime_ns, status.st_mtime_ns))
  other_size = command._fingerprint(record, '0001')
  assert len({before, other_time, other_size}) == 3


def test_a_finished_dataset_is_replaced_only_on_request(built, capsys):
  data, out = built[:2]
  assert command.main(['--data', str(data), '--out', str(out)]) == 2
  assert 'is finished; give another --out, or --overwrite' in capsys.readouterr().err


def test_splits_share_no_record_and_do_not_depend_on_the_others(monkeypatch, data_dir, tmp_path):
  ids = [f'{n}' for n in range(20000)]
  val = {i for i in ids if builder.split_of(i, val_share=0.1) == 'val'}
  assert 0.09 < len(val) / len(ids) < 0.11
  assert val < {i for i in ids if builder.split_of(i, val_share=0.2) == 'val'}
  assert builder.split_of('46930936', val_share=0.1) == 'train'
  assert builder.split_of('9', val_share=0.0) == 'train'
  assert builder.split_of('9', val_share=1.0) == 'val'
  page = builder.example(data_folder.list_train(data_dir)[0], variant='0001')
  # all variants of a record stay together; one of them is faked here
  monkeypatch.setattr(builder, 'example', lambda record, *, variant: page | {'id': record.id, 'variant': variant})
  for record in GOOD:
    shutil.copy(data_dir / f'train/{record}/{record}-0001.png', data_dir / f'train/{record}/{record}-0003.png')
  share = 0.5
  done = command.build(data_dir, tmp_path / 'out', val_share=share)
  found = {split: [p['id'] for p in records.read(tmp_path / 'out', split=split)] for split in done.pages}
  assert sorted(i for split in found.values() for i in split) == sorted(GOOD * 2)
  for split, ids in found.items():
    assert {builder.split_of(record, val_share=share) for record in ids} == {split}


def test_leads_in_other_places_are_refused(data_dir):
  record = data_folder.list_train(data_dir)[0]
  lines = record.csv.read_text().splitlines()
  v1 = LEADS.index('V1')
  cells = [line.split(',') for line in lines]
  column = [line[v1] for line in cells]
  for line, cell in zip(cells[1:], [''] + column[1:-1], strict=True):
    line[v1] = cell
  record.csv.write_text('\n'.join(','.join(line) for line in cells) + '\n')
  with pytest.raises(ValueError, match='lead V1 has 625 samples from row 1251; 3x4.II prints 625 from row 1250'):
    builder.example(record, variant='0001')


@pytest.mark.parametrize('first', [2562, 2563])
def test_at_an_odd_rate_a_lead_begins_where_its_column_does(first):
  # 2.5 s are 2562.5 samples at 1025 Hz; on paper the lead's first sample stands at 2.5 s all the same
  mv = np.full((12, 10250), np.nan, np.float32)
  mv[1] = 0
  for lead in range(12):
    column = 0 if lead < 3 else lead // 3
    if lead != 1:
      start = (0, first, 5125, 7687)[column]
      mv[lead, start : start + 2562] = np.arange(2562) / 1025
  printed, rate = builder.as_printed(mv, fs=1025)
  rows = builder.truth_rows(printed, rate_hz=rate)
  ramp = 320 - PX_PER_MV * np.arange(1249) / 500
  for start in (124, 124 + 1250, 124 + 2500, 124 + 3750):
    np.testing.assert_allclose(rows[0, start : start + 1249], ramp, atol=2e-3)


def test_the_real_page_of_the_competition_is_built(shared, tmp_path):
  record = '46930936'
  (tmp_path / 'data' / 'train' / record).mkdir(parents=True)
  for name in (f'{record}.csv', f'{record}-0001.png'):
    shutil.copy(shared / 'data' / 'kaggle_look' / name, tmp_path / 'data' / 'train' / record / name)
  (tmp_path / 'data' / 'train.csv').write_text(f'id,fs,sig_len\n{record},250,2500\n')
  assert command.main(['--data', str(tmp_path / 'data'), '--out', str(tmp_path / 'out')]) == 0
  (page,) = records.read(tmp_path / 'out', split='train')
  dark = page['image'].max(-1) < 170
  assert dark[page['mask'] == TRACE].mean() > 0.97
  with pytest.raises(ValueError, match=r"split='val' is not in .*; it has train"):
    records.read(tmp_path / 'out', split='val')


@pytest.mark.parametrize(
  ('arguments', 'code', 'error'),
  [
    (['--data', 'nowhere', '--out', 'out'], 2, 'error: no folder nowhere; need one with train.csv'),
    (['--data', 'data', '--out', 'out', '--val_share', '1.5'], 2, 'error: val_share=1.5 is not in 0..1'),
    (['--data', 'data', '--out', 'out'], 3, 'left out r-0001: no picture r-0001.png'),
  ],
)
def test_a_mistake_ends_with_one_sentence_and_its_exit_code(tmp_path, monkeypatch, capsys, arguments, code, error):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'data/train/r').mkdir(parents=True)
  (tmp_path / 'data/train/r/r.csv').touch()
  (tmp_path / 'data/train.csv').write_text('id,fs,sig_len\nr,250,2500\n')
  assert command.main(arguments) == code
  assert error in capsys.readouterr().err
  assert not (tmp_path / 'out' / '.partial').exists()
