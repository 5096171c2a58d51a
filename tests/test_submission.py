import os

import numpy as np
import pytest

from ecgjax.competition import submission
from ecgjax.ecg.leads import LEADS

HEADER = 'id,lead,fs,number_of_rows\n'


def wanted_csv(records=('b7', 'a1'), *, fs=4, short=10, leads=LEADS):
  return HEADER + ''.join(f'{r},{lead},{fs},{10 * fs if lead == "II" else short}\n' for r in records for lead in leads)


def put(folder, text, name='test.csv'):
  (folder / name).write_text(text)
  return folder / name


@pytest.fixture
def wanted(tmp_path):
  return submission.read_test_csv(put(tmp_path, wanted_csv()))


def signals(wanted, seed=0):
  rng = np.random.default_rng(seed)
  return {w.id: {lead: rng.normal(size=count) for lead, (_, count) in w.leads.items()} for w in wanted}


def test_records_and_leads_keep_the_order_of_test_csv_even_where_records_mix(tmp_path):
  lines = wanted_csv().splitlines()[1:]
  mixed = [lines[i] for i in (*range(0, 24, 2), *range(1, 24, 2))]
  found = submission.read_test_csv(put(tmp_path, HEADER + '\n'.join(mixed) + '\n'))
  assert [w.id for w in found] == ['b7', 'a1']
  assert list(found[0].leads) == [*LEADS[::2], *LEADS[1::2]]
  assert found[0].leads['II'] == (4, 40)
  assert found[1].leads['V1'] == (4, 10)


def test_the_real_test_csv_wants_ten_seconds_of_ii_and_a_quarter_of_the_rest(shared):
  found = submission.read_test_csv(shared / 'data/kaggle_look/test.csv')
  assert [w.id for w in found] == ['1053922973', '2352854581']
  assert all(w.leads == {lead: (1000, 10000 if lead == 'II' else 2500) for lead in LEADS} for w in found)


@pytest.mark.parametrize(
  ('text', 'error'),
  [
    ('id,lead,fs\n', 'test.csv has columns id, lead, fs but no number_of_rows; fix its header'),
    ('', 'test.csv has columns none but no id, lead, fs, number_of_rows'),
    (HEADER, 'test.csv has a header but no rows; need 12 rows a record'),
    (HEADER + 'a,I,4\n', 'row 1 has not the 4 cells of the header'),
    (HEADER + 'a,I,4,10,3\n', 'row 1 has not the 4 cells of the header'),
    (HEADER + 'a_b,I,4,10\n', "id 'a_b' must be non-empty and without"),
    (HEADER + ',I,4,10\n', "id '' must be non-empty"),
    (HEADER + 'a,X,4,10\n', "record a has lead 'X' twice or it is not one of I, II"),
    (HEADER + 'a,I,4,10\na,I,4,10\n', "record a has lead 'I' twice"),
    (HEADER + 'a,I,4.5,10\n', "record a, lead I: fs is '4.5'; need a whole number > 0"),
    (HEADER + 'a,I,4,0\n', "record a, lead I: number_of_rows is '0'; need a whole number > 0"),
    (wanted_csv(leads=LEADS[:-1]), 'record b7 has 11 leads, no V6; need all 12'),
    (wanted_csv(('a',)).replace('V3,4', 'V3,5'), 'record a has more than one fs'),
  ],
)
def test_a_faulty_test_csv_is_refused(tmp_path, text, error):
  with pytest.raises(ValueError, match=error):
    submission.read_test_csv(put(tmp_path, text))


def test_what_is_written_is_what_is_read_back(tmp_path, wanted):
  values = signals(wanted)
  path = tmp_path / 'submission.csv'
  path.write_text('an older one')
  submission.write(path, wanted, values)
  assert submission.check(path, wanted) == 2 * (40 + 11 * 10)
  lines = path.read_text().splitlines()
  assert lines[0] == 'id,value'
  assert [line.split(',')[0] for line in lines[1:12]] == [*(f'b7_{i}_I' for i in range(10)), 'b7_0_II']
  assert lines[-1].startswith('a1_9_V6,')
  read = np.array([float(line.split(',')[1]) for line in lines[1:]])
  sent = np.concatenate([values[w.id][lead] for w in wanted for lead in w.leads])
  assert np.abs(read - sent).max() <= 0.5e-6 + 1e-12
  assert sorted(p.name for p in tmp_path.iterdir()) == ['submission.csv', 'test.csv']


def test_number_of_rows_is_obeyed_where_it_is_not_what_fs_suggests(tmp_path):
  wanted = submission.read_test_csv(put(tmp_path, wanted_csv(fs=1025, short=2563)))
  submission.write(tmp_path / 's.csv', wanted, signals(wanted))
  assert submission.check(tmp_path / 's.csv', wanted) == 2 * (10250 + 11 * 2563)


def spoil(values, record, lead, change):
  return values | {record: values[record] | {lead: change(values[record][lead].copy())}}


def with_gap(bad):
  return lambda v: np.where((np.arange(v.size) == 3) | (np.arange(v.size) == 7), bad, v)


@pytest.mark.parametrize(
  ('change', 'error'),
  [
    (lambda v: {'a1': v['a1']}, r"records: missing \['b7'\], not asked for \[\]"),
    (lambda v: v | {'c': v['a1']}, r"records: missing \[\], not asked for \['c'\]; need exactly what test.csv names"),
    (lambda v: v | {'a1': {k: x for k, x in v['a1'].items() if k != 'V2'}}, r"leads of record a1: missing \['V2'\]"),
    (lambda v: v | {'a1': v['a1'] | {'II_short': v['a1']['I']}}, r"not asked for \['II_short'\]"),
    (
      lambda v: spoil(v, 'a1', 'V2', lambda x: x[1:]),
      r'record a1, lead V2: shape \(9,\); test.csv asks for .*_rows=10',
    ),
    (lambda v: spoil(v, 'a1', 'V2', lambda x: x[None]), r'record a1, lead V2: shape \(1, 10\)'),
    (
      lambda v: spoil(v, 'a1', 'V2', with_gap(np.nan)),
      r'record a1, lead V2: row 3 is nan \(2 of 10 rows .* fill every',
    ),
    (lambda v: spoil(v, 'b7', 'II', with_gap(np.inf)), r'record b7, lead II: row 3 is inf \(2 of 40'),
  ],
)
def test_faulty_signals_are_refused_before_anything_is_written(tmp_path, wanted, change, error):
  path = tmp_path / 'out' / 'submission.csv'
  path.parent.mkdir()
  with pytest.raises(ValueError, match=error):
    submission.write(path, wanted, change(signals(wanted)))
  assert not list(path.parent.iterdir())


def test_a_submission_needs_wanted_records_with_all_leads_and_a_folder(tmp_path, wanted):
  with pytest.raises(ValueError, match='no record is wanted; read them with read_test_csv'):
    submission.write(tmp_path / 's.csv', [], {})
  some = [submission.Wanted(w.id, {'I': (4, 10)}) for w in wanted]
  with pytest.raises(ValueError, match=r"wanted leads of record b7: missing \['II', 'III', 'aVR'\]"):
    submission.write(tmp_path / 's.csv', some, signals(wanted))
  with pytest.raises(FileNotFoundError, match=r'no folder .*nowhere to write s.csv into; make it or change the path'):
    submission.write(tmp_path / 'nowhere' / 's.csv', wanted, signals(wanted))


def test_a_write_that_breaks_leaves_the_older_file_and_nothing_else(tmp_path, wanted, monkeypatch):
  path = put(tmp_path, 'older', 'submission.csv')

  def broken(*_):
    raise OSError('disk full')

  monkeypatch.setattr(os, 'replace', broken)
  with pytest.raises(OSError, match='disk full'):
    submission.write(path, wanted, signals(wanted))
  assert path.read_text() == 'older'
  assert sorted(p.name for p in tmp_path.iterdir()) == ['submission.csv', 'test.csv']


@pytest.mark.parametrize(
  ('change', 'error'),
  [
    (lambda t: t.replace('id,value', 'id,mv'), "begins with 'id,mv'; the header must be id,value"),
    (lambda t: '', "begins with ''"),
    (lambda t: t[: t.rindex('a1_9_V6')], "line 301: found 'the end of the file'; need a1_9_V6,value"),
    (lambda t: t + 'a1_10_V6,0\n', "line 302: found 'a1_10_V6,0'; need no more rows"),
    (lambda t: t.replace('b7_1_I,', 'b7_2_I,', 1), "line 3: found 'b7_2_I,.*'; need b7_1_I,value"),
    (lambda t: t.replace('b7_1_I,', 'b7_1_I,0,', 1), "line 3: found 'b7_1_I,0,"),
    (lambda t: t.replace('b7_1_I,', 'b7_1_I,x', 1), "line 3: value of b7_1_I is 'x.*; need a finite number in mV"),
  ],
)
def test_a_faulty_submission_is_found_by_its_line(tmp_path, wanted, change, error):
  path = tmp_path / 's.csv'
  submission.write(path, wanted, signals(wanted))
  path.write_text(change(path.read_text()))
  with pytest.raises(ValueError, match=error):
    submission.check(path, wanted)


@pytest.mark.parametrize('value', ['nan', 'inf', ''])
def test_a_value_that_is_not_finite_is_found_by_its_line(tmp_path, wanted, value):
  path = tmp_path / 's.csv'
  submission.write(path, wanted, signals(wanted))
  lines = path.read_text().splitlines()
  lines[5] = f'b7_4_I,{value}'
  path.write_text('\n'.join(lines))
  with pytest.raises(ValueError, match=f"line 6: value of b7_4_I is '{value}'; need a finite number"):
    submission.check(path, wanted)


def test_a_missing_file_says_which(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'no submission at .*s.csv; write one first'):
    submission.check(tmp_path / 's.csv', [])
  with pytest.raises(FileNotFoundError, match=r'no file .*test.csv; need a csv with columns id, lead, fs'):
    submission.read_test_csv(tmp_path / 'test.csv')
