import numpy as np
import pytest

from ecgjax.competition import data_folder
from ecgjax.ecg.leads import LEADS

FS = 4  # short leads of 10 samples, lead II of 40


def truth(fs=FS):
  """40 rows of 12 cells, lead by column; the value is its row, short leads blank outside their quarter."""
  quarter = {lead: c for c, leads in enumerate((LEADS[:3], LEADS[3:6], LEADS[6:9], LEADS[9:])) for lead in leads}
  length = 10 * fs
  columns = {}
  for lead in LEADS:
    start = quarter[lead] * length // 4
    shown = range(length) if lead == 'II' else range(start, start + length // 4)
    columns[lead] = [f'{row}' if row in shown else '' for row in range(length)]
  return columns


def put(path, columns):
  rows = zip(*columns.values(), strict=True)
  path.write_text('\n'.join([','.join(columns), *(','.join(row) for row in rows)]) + '\n')
  return path


@pytest.fixture
def data_dir(tmp_path):
  (tmp_path / 'train.csv').write_text(f'id,fs,sig_len\nr2,{FS},40\nr1,{FS},40\n')
  for record in ('r1', 'r2'):
    (tmp_path / 'train' / record).mkdir(parents=True)
    put(tmp_path / 'train' / record / f'{record}.csv', truth())
  for name in ('r2-0001.png', 'r2-0005.jpg', 'r2.png', 'other-0003.png', 'r2-0006.txt'):
    (tmp_path / 'train' / 'r2' / name).touch()
  lines = [f'{r},{lead},{FS},{40 if lead == "II" else 10}\n' for r in ('t2', 't1') for lead in LEADS]
  (tmp_path / 'test.csv').write_text('id,lead,fs,number_of_rows\n' + ''.join(lines))
  (tmp_path / 'test').mkdir()
  for name in ('t1.png', 't2.JPG', 'stray.png'):
    (tmp_path / 'test' / name).touch()
  return tmp_path


def test_a_lead_is_its_printed_run(data_dir):
  leads = data_folder.read_record_csv(data_dir / 'train/r1/r1.csv', fs=FS)
  assert tuple(leads) == LEADS
  assert leads['II'].tolist() == list(range(40))
  assert leads['aVL'].tolist() == list(range(10, 20))
  assert leads['V6'].tolist() == list(range(30, 40))
  assert all(values.dtype == np.float64 for values in leads.values())


def test_a_short_lead_is_as_long_as_the_file_says(tmp_path):
  columns = truth()
  columns['V1'][30], columns['V2'][20], columns['I'][0] = '1.5', ' ', 'nan'
  leads = data_folder.read_record_csv(put(tmp_path / 'r.csv', columns), fs=FS)
  assert [len(leads[lead]) for lead in ('V1', 'V2', 'I', 'V3')] == [11, 9, 9, 10]
  assert leads['V1'][-1] == 1.5


@pytest.mark.parametrize(
  ('lead', 'row', 'cell', 'error'),
  [
    ('II', 0, '', 'lead II has 39 samples; need 40, it is the one printed whole'),
    ('II', 39, '', 'lead II has 39 samples; need 40'),
    ('V1', 25, '', 'lead V1 is nan in row 25, inside its run; fill the gap'),
    ('V1', 29, 'inf', 'lead V1 is inf in row 29, inside its run'),
    ('V1', 25, 'x', 'lead V1: .*; need numbers in mV, blank where not printed'),
    ('V1', slice(None), [''] * 40, 'lead V1 has no sample; need at least one, in every lead'),
  ],
)
def test_a_faulty_lead_is_refused(tmp_path, lead, row, cell, error):
  columns = truth()
  columns[lead][row] = cell
  with pytest.raises(ValueError, match=error):
    data_folder.read_record_csv(put(tmp_path / 'r.csv', columns), fs=FS)


def test_a_record_of_another_length_rate_or_header_is_refused(tmp_path):
  path = put(tmp_path / 'r.csv', truth())
  with pytest.raises(ValueError, match=r'r.csv has 40 rows; need sig_len = 10 \* fs = 50; see fs in train.csv'):
    data_folder.read_record_csv(path, fs=5)
  with pytest.raises(ValueError, match=r'r.csv has 40 rows; need sig_len = 10 \* fs = 30'):
    data_folder.read_record_csv(path, fs=3)
  put(path, {lead: cells[:39] for lead, cells in truth().items()})
  with pytest.raises(ValueError, match=r'r.csv has 39 rows; need sig_len = 10 \* fs = 40'):
    data_folder.read_record_csv(path, fs=FS)
  put(path, {lead: cells for lead, cells in truth().items() if lead not in ('aVF', 'V6')})
  with pytest.raises(ValueError, match=r'but no aVF, V6; fix its header'):
    data_folder.read_record_csv(path, fs=FS)
  with pytest.raises(FileNotFoundError, match=r'no file .*gone.csv; need a csv with columns I, II'):
    data_folder.read_record_csv(tmp_path / 'gone.csv', fs=FS)


@pytest.mark.parametrize(
  ('rows', 'error'),
  [
    ('', 'train.csv has a header but no rows'),
    ('a,4,40\na,4,40\n', "id 'a' is empty or stands twice"),
    (',4,40\n', "id '' is empty or stands twice"),
    ('a,4,41\n', r'record a has sig_len=41; need 10 \* fs = 40'),
    ('a,0,0\n', "record a: fs is '0'; need a whole number > 0"),
    ('a,4,x\n', "record a: sig_len is 'x'; need a whole number > 0"),
  ],
)
def test_a_faulty_train_csv_is_refused(tmp_path, rows, error):
  (tmp_path / 'train.csv').write_text('id,fs,sig_len\n' + rows)
  with pytest.raises(ValueError, match=error):
    data_folder.read_train_csv(tmp_path / 'train.csv')


def test_training_records_come_in_order_with_their_own_images_only(data_dir):
  second, first = data_folder.list_train(data_dir)
  assert (second.id, second.fs, second.sig_len) == ('r2', FS, 40)
  assert second.csv == data_dir / 'train/r2/r2.csv'
  assert {variant: path.name for variant, path in second.images.items()} == {
    '0001': 'r2-0001.png',
    '0005': 'r2-0005.jpg',
  }
  assert (first.id, first.images) == ('r1', {})


def test_pages_to_read_come_in_the_order_of_test_csv(data_dir):
  found = data_folder.list_test(data_dir)
  assert [(r.id, r.image.name, r.wanted.id) for r in found] == [('t2', 't2.JPG', 't2'), ('t1', 't1.png', 't1')]


def test_what_is_missing_on_disk_is_named(data_dir):
  (data_dir / 'test/t1.jpeg').touch()
  with pytest.raises(ValueError, match=r'has t1.jpeg and t1.png; need one image a record'):
    data_folder.list_test(data_dir)
  for name in ('t1.jpeg', 't1.png'):
    (data_dir / 'test' / name).unlink()
  assert [r.image for r in data_folder.list_test(data_dir) if r.id == 't1'] == [None]  # predict gives it a fallback
  (data_dir / 'test').rename(data_dir / 'moved')
  with pytest.raises(
    FileNotFoundError, match=r'no folder .*test; need one with <id>.png .*; check the path to the data'
  ):
    data_folder.list_test(data_dir)
  (data_dir / 'train/r2/r2-0001.jpg').touch()
  with pytest.raises(ValueError, match=r'has r2-0001.jpg and r2-0001.png; need one image a variant'):
    data_folder.list_train(data_dir)
  (data_dir / 'train/r2/r2.csv').unlink()
  with pytest.raises(FileNotFoundError, match=r'no .*r2.csv; train.csv names record r2; complete the folder or drop'):
    data_folder.list_train(data_dir)
  (data_dir / 'train/r2').rename(data_dir / 'train/r3')
  with pytest.raises(FileNotFoundError, match=r'no folder .*r2; need one with r2.csv and r2-<variant>.png'):
    data_folder.list_train(data_dir)
  for listing in (data_folder.list_train, data_folder.list_test):
    with pytest.raises(FileNotFoundError, match=r'no folder .*nowhere; need one with t'):
      listing(data_dir / 'nowhere')


def test_the_kit_reads_whole(shared):
  records = data_folder.list_train(shared / 'bench/kit')
  assert len(records) == 20
  for record in records:
    assert list(record.images) == ['0001', '0015']
  leads = data_folder.read_record_csv(records[0].csv, fs=records[0].fs)
  assert {lead: len(values) for lead, values in leads.items()} == {
    lead: 5000 if lead == 'II' else 1250 for lead in LEADS
  }


def test_the_competitions_own_files_read_whole(shared, tmp_path):
  folder = shared / 'data/kaggle_look'
  leads = data_folder.read_record_csv(folder / '46930936.csv', fs=250)
  assert len(leads['II']) == 2500
  assert all(abs(len(values) - 625) <= 1 for lead, values in leads.items() if lead != 'II')
  (tmp_path / 'test.csv').write_bytes((folder / 'test.csv').read_bytes())
  (tmp_path / 'test').mkdir()
  for page in ('1053922973.png', '2352854581.png'):
    (tmp_path / 'test' / page).symlink_to(folder / page)
  assert [r.image.stem for r in data_folder.list_test(tmp_path)] == ['1053922973', '2352854581']
