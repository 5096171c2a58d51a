"""`ecgjax archive`: every page of an archive has exactly one row, whatever is in it and however often the work is cut off."""

import errno
import hashlib
import os
import re
import signal
import time
from concurrent.futures import BrokenExecutor

import numpy as np
import pyarrow
import pytest
from archives import NONE, SETTINGS, counted, png, started, tar, two_pages
from pyarrow import parquet

from ecgjax.archive import command, estimate, listing, local_runner, page_rows, parquet_store, partition, ray_tasks, schema
from ecgjax.cli import command_line, doctor
from ecgjax.ecg.errors import ECGError, MissingLibrary
from ecgjax.ecg.leads import LEADS
from ecgjax.jobs import process_pool


def test_what_is_done_is_what_the_files_hold(tmp_path):
  page = lambda name, n, of, status='ok': schema.paged(schema.where(name, 'm', data=b'12345'), page=n, pages=of) | {'status': status}
  with parquet_store.Store(str(tmp_path), {'fs_hz': 500}) as kept:
    kept.add(schema.table([page('one', 1, 1), page('three', 1, 3), page('three', 3, 3, 'fail'), page('two', 2, 2)]))
    assert not kept.parts() and not kept.done()[0].file('one', 'm')  # not yet
    kept.flush()
    kept.add(schema.table([page('two', 1, 2, 'fail')]))
    kept.flush()
    done, size = kept.done()
    assert [done.file(name, 'm') for name in ('one', 'two', 'three', 'four')] == [True, True, False, False] and not done.file('one', '')
    assert [done.page('three', 'm', n) for n in (1, 2, 3)] == [True, False, True] and done.page('two', 'm', 1)
    assert size == 15 and kept.counts == {'ok': 3, 'fail': 2}
    assert kept.forget('fail') == 2 and len(kept.parts()) == 1
    done, _ = kept.done()
    assert done.file('one', 'm') and not done.file('two', 'm') and not done.page('three', 'm', 3)


def test_a_file_is_done_when_all_pages_have_rows_that_the_one_which_knows_fewest_gives(tmp_path):
  row = lambda name, n, of: schema.paged(schema.where(name, 'm', data=b'1'), page=n, pages=of) | {'status': 'ok'}
  with parquet_store.Store(str(tmp_path), {}) as kept:  # files of four pages, of which after some could not be had any more
    kept.add(schema.table([row('done', 3, 3), row('done', 1, 4), row('done', 2, 4)]))
    kept.add(schema.table([row('gap', 1, 4), row('gap', 3, 3), row('gap', 4, 4)]))  # the second was taken away by --retry
    kept.flush()
    done, _ = kept.done()
  assert done.file('done', 'm') and not done.file('gap', 'm') and not done.page('gap', 'm', 2)


def test_rows_read_in_another_way_and_a_second_writer_are_refused(tmp_path):
  with parquet_store.Store(str(tmp_path), {'fs_hz': 500}, owner='0-of-2'):
    with parquet_store.Store(str(tmp_path), {'fs_hz': 500}, owner='1-of-2'):  # another part
      pass
    for owner in ('0-of-2', parquet_store.SOLE):
      with pytest.raises(ValueError, match='another process is writing'):
        parquet_store.Store(str(tmp_path), {'fs_hz': 500}, owner=owner)
  with parquet_store.Store(str(tmp_path), {'fs_hz': 500}) as kept:
    for owner in ('0-of-2', parquet_store.SOLE):
      with pytest.raises(ValueError, match='another process is writing'):
        parquet_store.Store(str(tmp_path), {'fs_hz': 500}, owner=owner)
    kept.add(schema.table([schema.where('a', '', data=None) | schema.failed('no')]))
  with pytest.raises(ValueError, match='"fs_hz": 500.*"fs_hz": 250'):
    parquet_store.Store(str(tmp_path), {'fs_hz': 250})
  with parquet_store.Store(str(tmp_path / 'new'), {'fs_hz': 500}, owner='0-of-2') as one:
    with parquet_store.Store(str(tmp_path / 'new'), {'fs_hz': 250}, owner='1-of-2') as other:  # both begun while there was nothing
      one.add(schema.table([schema.where('a', '', data=None) | schema.failed('no')]))
      other.add(schema.table([schema.where('b', '', data=None) | schema.failed('no')]))
    one.flush()
    with pytest.raises(ValueError, match='"fs_hz": 250.*"fs_hz": 500'):
      one.done()
  with parquet_store.Store(str(tmp_path), {'fs_hz': 500}) as kept:
    assert kept.done()[0].file('a', '')


def test_what_is_half_written_is_not_there(tmp_path, monkeypatch):
  def full(_):
    raise OSError(28, 'No space left on device')

  with parquet_store.Store(str(tmp_path), {}) as kept:
    kept.add(schema.table([schema.failed('no')]))
    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space left'):
      kept.flush()
    assert not [p for p in tmp_path.iterdir() if p.name[0] != '.']
    monkeypatch.undo()
  assert sorted(p.name[:6] for p in tmp_path.iterdir()) == ['..lock', '.0-of-', 'pages-']  # and it is, as soon as there is room


def test_rows_are_written_when_they_fill_a_minute_or_a_number_of_rows_or_of_bytes(tmp_path, monkeypatch):
  row = schema.table([schema.where('a', 'b', data=None) | {'leads_uv': schema.samples(dict.fromkeys(LEADS, np.zeros(5000)))}])
  with parquet_store.Store(str(tmp_path), {}) as kept:
    for limit, wanted in (('ROWS', 4), ('BYTES', 3 * row.nbytes + 1), ('FLUSH_S', 0.2)):
      with monkeypatch.context() as patch:
        patch.setattr(parquet_store, limit, wanted)
        for _ in range(3):
          kept.add(row)
        before = len(kept.parts())
        time.sleep(0.2 if limit == 'FLUSH_S' else 0)
        kept.add(row)
        assert len(kept.parts()) == before + 1 and not kept.waiting


def test_samples_are_kept_to_a_microvolt_and_absent_ones_absent(tmp_path):
  mv = {lead: np.where(np.arange(50) % 7 == n, np.nan, np.sin(np.arange(50) + n)) for n, lead in enumerate(LEADS)}
  table = schema.table([schema.where('a', 'b', data=b'1') | {'status': 'ok', 'leads_uv': schema.samples(mv)}])
  path = tmp_path / 'a.parquet'
  path.write_bytes(schema.packed(table))
  back = parquet.read_table(path)
  assert back.schema == schema.SCHEMA and back['key'].to_pylist() == [hashlib.sha256(b'1').hexdigest() + '-1']
  for lead, values in back['leads_uv'].to_pylist()[0].items():
    np.testing.assert_allclose(np.array([np.nan if x is None else x / 1000 for x in values]), mv[lead], atol=5.001e-4)


def read_alone(home, out, done=NONE):
  units = [partition.Unit(source, 0, 1) for source in listing.listed([str(home)], exclude=str(out))]
  return pyarrow.concat_tables(local_runner.read(units, done, SETTINGS, jobs=1)).to_pylist()


def test_every_page_has_one_row_with_the_reason_why_it_could_not_be_read(home, tmp_path):
  (home / 'two.pdf').write_bytes(two_pages())
  (home / 'empty.png').write_bytes(b'')
  found = read_alone(home, tmp_path)
  by = {(os.path.basename(row['source']), row['member'], row['page']): row for row in found}
  assert len(found) == len(by) == 12 and {row['status'] for row in found} == {'fail'}
  assert all(len(row['reasons']) == 1 and row['reasons'][0] for row in found)
  assert 'the file is empty' in by['empty.png', '', 1]['reasons'][0] and by['y.parquet', '1', 1]['key'] is None
  assert [by['two.pdf', '', n]['pages'] for n in (1, 2)] == [2, 2] and 'too few to be read' in by['two.pdf', '', 2]['reasons'][0]
  assert by['a.png', '', 1]['key'] == f'{hashlib.sha256(png(0)).hexdigest()}-1' and by['a.png', '', 1]['bytes'] == len(png(0))
  digest = hashlib.sha256((home / 'two.pdf').read_bytes()).hexdigest()
  assert [by['two.pdf', '', n]['key'] for n in (1, 2)] == [f'{digest}-1', f'{digest}-2']
  first = parquet_store.CompletedPages(np.zeros(0, 'S16'), {parquet_store._name(str(home / 'two.pdf'), ''): frozenset({1})})
  assert [(r['page'], r['pages']) for r in read_alone(home / 'two.pdf', tmp_path, first)] == [(2, 2)]  # only what has none


@pytest.mark.parametrize('lost', ['gone', 'unreadable'])
def test_a_file_that_was_begun_and_cannot_be_had_any_more_has_one_row_more_and_is_done(tmp_path, lost, monkeypatch):
  path, out = tmp_path / 'four.pdf', str(tmp_path / 'out')
  path.write_bytes(b'no picture any more')
  unit = partition.Unit(listing.Origin(str(path), 7, 'picture'), 0, 1)
  if lost == 'gone':
    path.unlink()
  with parquet_store.Store(out, {}) as kept:
    four = schema.where(str(path), '', data=b'1', page=4) | {'status': 'ok'}
    kept.add(schema.table([schema.paged(four, page=n, pages=4) for n in (1, 2, 4)]))
    kept.flush()
    for _ in range(2):
      for table in local_runner.read([unit], kept.done()[0], SETTINGS, jobs=1):
        kept.add(table)
      kept.flush()
    done, _ = kept.done()
    found = [row for part in kept.parts() for row in kept.read(part, ['page', 'pages', 'status']).to_pylist()]
    assert [row for row in found if row['status'] == 'fail'] == [{'page': 3, 'pages': 3, 'status': 'fail'}] and len(found) == 4
    assert done.file(str(path), '')
    kept.forget('fail')
    assert not kept.done()[0].page(str(path), '', 3)  # it is tried again when it is asked for
  first = parquet_store.CompletedPages(np.zeros(0, 'S16'), {parquet_store._name(str(path), ''): frozenset({1, 2})})
  member = next(partition.undone(unit, first, ''))
  with process_pool.Children(1) as children:
    monkeypatch.setattr(ray_tasks, '_decoder', lambda: children)
    assert [(row['page'], row['pages']) for row in ray_tasks._pages(unit.source, member, first, 60.0)] == [(3, 3)]


@pytest.fixture
def many(tmp_path):
  """2,000 pages, quickly refused: 1,000 pictures in a folder and 1,000 in two tars, each with bytes of its own."""
  (tmp_path / 'in').mkdir()
  for n in range(1000):
    (tmp_path / 'in' / f'{n}.png').write_bytes(b'page %d' % n)
  for n in range(2):
    tar(tmp_path / 'in' / f'{n}.tar', [(f'{m}.png', b'tar %d page %d' % (n, m)) for m in range(500)])
  return tmp_path / 'in'


def test_two_thousand_pages_killed_three_times_have_two_thousand_rows_and_none_twice(many, tmp_path):
  out, before = tmp_path / 'out', 0
  for _ in range(3):
    run = started(many, out, '--shard', '0/1', '--engine', 'jax', '--weights', 'small')
    while run.poll() is None and counted(out) < before + 300:
      time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert before < counted(out) < 2000
    before = counted(out)
  run = started(many, out, '--shard', '0/1', '--engine', 'jax', '--weights', 'small')
  out_text, errors = run.communicate(timeout=120)
  assert run.returncode == 0 and '2,000 pages (0 ok, 0 review, 2,000 fail)' in out_text, errors
  found = parquet.read_table(out)
  assert len(found) == 2000 and len(set(found['key'].to_pylist())) == 2000
  assert all('no picture of a known kind' in reasons[0] for reasons in found['reasons'].to_pylist())
  assert f'{2000 - before} pages read' in errors  # nothing that had a row was read again


def test_what_was_read_is_written_when_the_job_must_go(many, tmp_path):
  out = tmp_path / 'out'
  run = started(many, out, '--shard', '0/1', '--engine', 'jax', '--weights', 'small')
  while counted(out) < 100:
    time.sleep(0.02)
  run.terminate()
  _, errors = run.communicate(timeout=60)
  reported = re.search(r'(\d+) pages read in', errors)  # a slow machine has said before how far it is
  assert run.returncode == 130 and reported and abs(int(reported[1]) - counted(out)) <= 1


def test_a_part_of_an_archive_is_given_as_i_of_n():
  assert command.shard('3/8') == (3, 8)
  with pytest.raises(ValueError, match='--retry takes away rows of all parts'):
    command.run(command_line.parser().parse_args(['archive', 'a', 'b', '--shard', '0/2', '--retry', 'fail']))
  for wrong in ('8/8', '3', '-1/8', 'a/b', '1/0'):
    with pytest.raises(ValueError, match='write i/n'):
      command.shard(wrong)


def test_a_sample_is_spread_over_the_archive_and_the_rest_is_reckoned_by_it(tmp_path):
  for n in range(300):
    (tmp_path / f'{n:03d}.png').write_bytes(png())
  for n in range(30):
    tar(tmp_path / f'{n}.tar', [(f'{m}.png', png()) for m in range(10)])
  found = list(listing.listed([str(tmp_path)], exclude='/none'))
  sample, total = estimate.chosen(found, column='')
  assert total == 600 and len(sample) == len(set(sample)) == 100
  alone = sorted(int(os.path.basename(s.url)[:3]) for s, name in sample if not name)
  assert len(alone) == 50 and max(np.diff(alone)) <= 7
  assert len({s.url for s, name in sample if name}) == 20
  assert estimate.spread(0, most=5) == [] and estimate.spread(3, most=5) == [0, 1, 2]


def test_names_that_are_no_text_are_written_out_and_found_again(tmp_path):
  name = os.fsdecode(b'\xff \xe4.png')
  home, out = tmp_path / 'in', tmp_path / 'out [1]*'
  home.mkdir()
  (home / name).write_bytes(b'no picture')
  tar(home / 'a.tar', [(name, b'neither')])
  (row,) = [r for r in read_alone(home, out) if not r['member']]
  assert row['source'].endswith(r'\udcff \udce4.png')
  with parquet_store.Store(str(out), {}) as kept:
    units = [partition.Unit(s, 0, 1) for s in listing.listed([str(home)], exclude=str(out))]
    for table in local_runner.read(units, NONE, SETTINGS, jobs=1):
      kept.add(table)
    kept.flush()
    done, _ = kept.done()
  assert read_alone(home, out, done) == []


def test_a_decoded_page_is_read_or_refused_with_a_reason(monkeypatch):
  assert page_rows.opened(b'x', 0).image is None and 'known kind' in page_rows.opened(b'x', 0).reason
  assert page_rows.opened(two_pages(), 1).pages == 2
  pages, row = page_rows.page(png(), 0, SETTINGS.options)
  assert pages == 1 and row['status'] == 'fail' and 'too few to be read' in row['reasons'][0] and row['engine'] == 'jax'


def test_wrong_usage_is_one_sentence(tmp_path, capsys):
  assert command_line.main(['archive', str(tmp_path), str(tmp_path / 'out'), '--shard', '2/2']) == 2
  assert command_line.main(['archive', str(tmp_path), str(tmp_path / 'out'), '--shard', '0/1', '--fs', '2']) == 2
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 2 and '--shard 2/2' in lines[0] and '--fs 50 to 10000' in lines[1]


def test_a_machine_that_fails_is_distinguished_from_wrong_usage(monkeypatch, capsys):
  def failing(error):
    def run(_):
      raise error

    monkeypatch.setattr(doctor, 'run', run)
    return command_line.main(['doctor'])

  lacks = OSError(errno.ENOSPC, 'No space left'), ConnectionResetError('reset'), TimeoutError('late'), BrokenExecutor('no child')
  assert [failing(error) for error in lacks] == [4] * 4
  refused = ECGError('no'), FileNotFoundError(errno.ENOENT, 'none'), MissingLibrary('x'), BrokenPipeError(errno.EPIPE, 'nobody reads it')
  assert [failing(error) for error in refused] == [2] * 4
  assert len(capsys.readouterr().err.splitlines()) == 8


@pytest.mark.parametrize('fault', [ValueError('no'), ImportError('x'), KeyError('x'), TypeError('y')])
def test_a_fault_of_the_program_is_shown_as_one(monkeypatch, fault):
  def run(_):
    raise fault

  monkeypatch.setattr(doctor, 'run', run)
  with pytest.raises(type(fault)):
    command_line.main(['doctor'])


def test_debug_shows_where_something_was_refused(monkeypatch, capsys):
  def run(_):
    raise ECGError('no such page')

  monkeypatch.setattr(doctor, 'run', run)
  assert command_line.main(['--debug', 'doctor']) == 2
  err = capsys.readouterr().err
  assert err.startswith('Traceback') and err.splitlines()[-1] == 'error: no such page'


def test_an_object_store_without_folders_may_be_empty(monkeypatch):
  with parquet_store.Store('memory://new', {}) as kept:
    monkeypatch.setattr(type(kept.files), 'ls', lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError('new')))
    assert kept.parts() == []
