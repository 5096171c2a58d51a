"""`ecgjax archive`: every page of an archive has exactly one row, whatever is in it and however often the work is cut off."""

import collections
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time

import fsspec
import numpy as np
import pyarrow
import pypdfium2
import pytest
from PIL import Image
from pyarrow import parquet

from ecgjax import cli, layout, worker
from ecgjax.archive import cluster, command, estimate, rows, sources, work

NONE = rows.Done(np.zeros(0, 'S16'), {})
HOW = cluster.How(worker.Options(engine='jax'), 60.0, '')


def png(value=0, size=(2, 2)):
  out = io.BytesIO()
  Image.fromarray(np.full((*size, 3), value, np.uint8)).save(out, 'PNG')
  return out.getvalue()


def two_pages():
  document, out = pypdfium2.PdfDocument.new(), io.BytesIO()
  for _ in range(2):
    document.new_page(400, 2)  # too flat to be read
  document.save(out)
  return out.getvalue()


def tar(path, files, mode='w'):
  with tarfile.open(path, mode) as archive:
    for name, data in files:
      info = tarfile.TarInfo(name)
      info.size = len(data)
      archive.addfile(info, io.BytesIO(data))
  return path


def a_table(path, values, *, name='image', group=2):
  parquet.write_table(pyarrow.table({name: values, 'label': list(range(len(values)))}), path, row_group_size=group)
  return path


@pytest.fixture
def home(tmp_path):
  """An archive of all kinds: 3 pictures, 3 in a tar, 3 in a Parquet file, and what is none of them."""
  folder = tmp_path / 'in'
  (folder / 'ward' / '.trash').mkdir(parents=True)
  for n, name in enumerate(('a.png', 'ward/b.JPG', 'ward/c.png')):
    (folder / name).write_bytes(png(n))
  for name in ('notes.txt', '.hidden.png', 'ward/.trash/d.png'):
    (folder / name).write_bytes(png())
  tar(folder / 'x-00000.tar', [('1.png', png(3)), ('1.json', b'{}'), ('2.png', png(4)), ('.3.png', b''), ('2.png', png(5))])
  images = [{'bytes': png(6), 'path': 'p'}, {'bytes': None, 'path': 'q'}, {'bytes': png(7), 'path': 'r'}]
  a_table(folder / 'y.parquet', images)
  return folder


def every(found, **options):
  """Returns {(base of the source, member): bytes or reason}, and whether none came twice."""
  read = [(os.path.basename(s.url), member) for s in found for member in sources.members(s, wanted=lambda _: True, **options)]
  pairs = [((base, member.name), member.data or member.reason) for base, member in read]
  assert len(pairs) == len(dict(pairs))
  return dict(pairs)


def test_an_archive_is_listed_once_and_in_order_without_what_is_hidden_or_ours(home, tmp_path):
  out = home / 'rows'
  out.mkdir()
  (out / 'pages-1.parquet').write_bytes(b'')
  found = list(sources.listed([str(home)], but=str(out)))
  assert [os.path.relpath(s.url, home) for s in found] == ['a.png', 'x-00000.tar', 'y.parquet', 'ward/b.JPG', 'ward/c.png']
  assert [s.kind for s in found] == ['picture', 'tar', 'parquet', 'picture', 'picture']
  assert [s.size_bytes for s in found] == [os.path.getsize(s.url) for s in found]
  twice = list(sources.listed([str(home / 'ward'), str(home), str(home / 'notes.txt')], but=str(out)))
  assert len(twice) == 6 and twice[-1].kind == 'picture'  # a person named it
  with pytest.raises(ValueError, match='does not exist'):
    list(sources.listed([str(home / 'none')], but=str(out)))


def test_every_member_is_read_with_its_bytes(home, tmp_path):
  found = every(sources.listed([str(home)], but=str(tmp_path / 'out')))
  assert found == {
    ('a.png', ''): png(0), ('b.JPG', ''): png(1), ('c.png', ''): png(2),
    ('x-00000.tar', '1.png'): png(3), ('x-00000.tar', '2.png'): png(4), ('x-00000.tar', '2.png#2'): png(5),
    ('y.parquet', '0'): png(6), ('y.parquet', '1'): 'the row holds no bytes', ('y.parquet', '2'): png(7),
  }  # fmt: skip


@pytest.mark.parametrize('parts', [2, 7])
def test_parts_hold_every_member_once(home, tmp_path, parts):
  found = list(sources.listed([str(home)], but=str(tmp_path / 'out')))
  shared = [every(found, part=part, parts=parts) for part in range(parts)]
  assert sum(map(len, shared)) == 9 and collections.ChainMap(*shared) == every(found)
  assert max(map(len, shared)) < 9


def test_an_object_store_is_an_archive_like_a_folder(home, tmp_path):
  memory = fsspec.filesystem('memory')
  memory.put(str(home), '/in', recursive=True)
  found = list(sources.listed(['memory://in'], but='memory://out'))
  assert all(s.url.startswith('memory://') for s in found)
  assert every(found) == every(sources.listed([str(home)], but=str(tmp_path / 'out')))
  with rows.Store('memory://out', {}) as store:
    store.add(rows.table([rows.where('a', '', data=b'x') | rows.failed('no')]))
  assert rows.Store('memory://out', {}).done()[0].file('a', '')


@pytest.mark.parametrize('name', ['cut.tar', 'cut.tar.gz', 'text.tar', 'text.parquet', 'two.parquet', 'none.parquet'])
def test_what_is_wrong_with_a_source_is_said_once_and_what_could_be_read_before_is_kept(tmp_path, name):
  path = tmp_path / name
  noise = np.random.default_rng(0).integers(0, 256, 200_000, dtype=np.uint8).tobytes()
  if name.startswith('cut'):
    whole = tar(path, [('1.png', png(1)), ('2.png', noise), ('3.png', png(2))], 'w:gz' if name.endswith('gz') else 'w').read_bytes()
    path.write_bytes(whole[:100_000])
  elif name.startswith('text'):
    path.write_bytes(b'nothing of the kind' * 100)
  elif name.startswith('two'):
    parquet.write_table(pyarrow.table({'a': [b'1'], 'b': [b'2']}), path)
  source = sources.Origin(str(path), 1, sources.kind_of(name, named=False))
  found = every([source])
  before = {(name, '1.png'): png(1)} if name.startswith('cut') else {}
  reasons = [told for member, told in found.items() if member not in before]
  assert before.items() <= found.items() and len(reasons) == 1 and isinstance(reasons[0], str) and 'it cannot be read' in reasons[0]
  if name.startswith('two'):
    assert '--column' in reasons[0] and every([source], column='b') == {(name, '0'): b'2'}
    assert 'no column c' in every([source], column='c')[name, '']
  assert every([source], part=1, parts=2).get((name, '')) is None  # the first part says it


def test_a_file_of_many_bytes_is_not_read(home, tmp_path, monkeypatch):
  monkeypatch.setattr(sources, 'MAX_BYTES', 10)
  found = every(sources.listed([str(home)], but=str(tmp_path / 'out')))
  assert len(found) == 9 and sum('at most 10 are read' in str(told) for told in found.values()) == 8


def test_what_is_done_is_what_the_files_hold(tmp_path):
  page = lambda name, n, of, status='ok': rows.where(name, 'm', data=b'12345', page=n, pages=of) | {'status': status}
  with rows.Store(str(tmp_path), {'fs_hz': 500}) as store:
    store.add(rows.table([page('one', 1, 1), page('three', 1, 3), page('three', 3, 3, 'fail'), page('two', 2, 2)]))
    assert not store.parts() and not store.done()[0].file('one', 'm')  # not yet
    store.flush()
    store.add(rows.table([page('two', 1, 2, 'fail')]))
    store.flush()
    done, size = store.done()
    assert [done.file(name, 'm') for name in ('one', 'two', 'three', 'four')] == [True, True, False, False] and not done.file('one', '')
    assert [done.page('three', 'm', n) for n in (1, 2, 3)] == [True, False, True] and done.page('two', 'm', 1)
    assert size == 15 and store.counts == {'ok': 3, 'fail': 2}
    assert store.forget('fail') == 2 and len(store.parts()) == 1
    done, _ = store.done()
    assert done.file('one', 'm') and not done.file('two', 'm') and not done.page('three', 'm', 3)


def test_rows_read_in_another_way_and_a_second_writer_are_refused(tmp_path):
  with rows.Store(str(tmp_path), {'fs_hz': 500}) as store:
    with pytest.raises(ValueError, match='another process is writing'):
      rows.Store(str(tmp_path), {'fs_hz': 500})
    with rows.Store(str(tmp_path), {'fs_hz': 500}, owner='1-of-2'):  # another part
      pass
    store.add(rows.table([rows.where('a', '', data=None) | rows.failed('no')]))
  with pytest.raises(ValueError, match='"fs_hz": 500.*"fs_hz": 250'):
    rows.Store(str(tmp_path), {'fs_hz': 250})
  with rows.Store(str(tmp_path), {'fs_hz': 500}) as store:
    assert store.done()[0].file('a', '')


def test_what_is_half_written_is_not_there(tmp_path, monkeypatch):
  def full(_):
    raise OSError(28, 'No space left on device')

  with rows.Store(str(tmp_path), {}) as store:
    store.add(rows.table([rows.failed('no')]))
    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space left'):
      store.flush()
  assert [p.name for p in tmp_path.iterdir()] == ['.all.lock']


def test_samples_are_kept_to_a_microvolt_and_absent_ones_absent(tmp_path):
  mv = {lead: np.where(np.arange(50) % 7 == n, np.nan, np.sin(np.arange(50) + n)) for n, lead in enumerate(layout.LEADS)}
  table = rows.table([rows.where('a', 'b', data=b'1') | {'status': 'ok', 'leads_uv': rows.samples(mv)}])
  path = tmp_path / 'a.parquet'
  path.write_bytes(rows.packed(table))
  back = parquet.read_table(path)
  assert back.schema == rows.SCHEMA and back['key'].to_pylist() == [hashlib.sha256(b'1').hexdigest() + '-1']
  for lead, values in back['leads_uv'].to_pylist()[0].items():
    np.testing.assert_allclose(np.array([np.nan if x is None else x / 1000 for x in values]), mv[lead], atol=5.001e-4)


def read_alone(home, out, done=NONE):
  units = [cluster.Unit(source, 0, 1) for source in sources.listed([str(home)], but=str(out))]
  return pyarrow.concat_tables(command.alone(units, done, HOW, jobs=1)).to_pylist()


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
  first = rows.Done(np.zeros(0, 'S16'), {rows._name(str(home / 'two.pdf'), ''): frozenset({1})})
  assert [(r['page'], r['pages']) for r in read_alone(home / 'two.pdf', tmp_path, first)] == [(2, 2)]  # only what has none


def started(*words, rows_each=100):
  """Starts the command, with files of `rows_each` rows."""
  code = f'import sys; from ecgjax import cli; from ecgjax.archive import rows; rows.ROWS = {rows_each}; sys.exit(cli.main())'
  words = [sys.executable, '-c', code, 'archive', *map(str, words)]
  return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def counted(out):
  return sum(parquet.read_metadata(path).num_rows for path in out.glob('pages-*.parquet'))


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
    run = started(many, out, '--shard', '0/1', '--engine', 'jax')
    while run.poll() is None and counted(out) < before + 300:
      time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert before < counted(out) < 2000
    before = counted(out)
  run = started(many, out, '--shard', '0/1', '--engine', 'jax')
  told, errors = run.communicate(timeout=120)
  assert run.returncode == 0 and '2,000 pages (0 ok, 0 review, 2,000 fail)' in told, errors
  found = parquet.read_table(out)
  assert len(found) == 2000 and len(set(found['key'].to_pylist())) == 2000
  assert all('no picture of a known kind' in reasons[0] for reasons in found['reasons'].to_pylist())
  assert f'{2000 - before} pages read' in errors  # nothing that had a row was read again


def test_what_was_read_is_written_when_the_job_must_go(many, tmp_path):
  out = tmp_path / 'out'
  run = started(many, out, '--shard', '0/1', '--engine', 'jax')
  while counted(out) < 100:
    time.sleep(0.02)
  run.terminate()
  _, errors = run.communicate(timeout=60)
  assert run.returncode == 130 and abs(int(errors.split()[0]) - counted(out)) <= 1


def test_a_part_of_an_archive_is_given_as_i_of_n():
  assert command.shard('3/8') == (3, 8)
  for wrong in ('8/8', '3', '-1/8', 'a/b', '1/0'):
    with pytest.raises(ValueError, match='write i/n'):
      command.shard(wrong)


def test_a_sample_is_spread_over_the_archive_and_the_rest_is_reckoned_by_it(tmp_path):
  for n in range(300):
    (tmp_path / f'{n:03d}.png').write_bytes(png())
  for n in range(30):
    tar(tmp_path / f'{n}.tar', [(f'{m}.png', png()) for m in range(10)])
  found = list(sources.listed([str(tmp_path)], but='/none'))
  sample, total = estimate.chosen(found, column='')
  assert total == 600 and len(sample) == len(set(sample)) == 100
  alone = sorted(int(os.path.basename(s.url)[:3]) for s, name in sample if not name)
  assert len(alone) == 50 and max(np.diff(alone)) <= 7
  assert len({s.url for s, name in sample if name}) == 20
  assert estimate.spread(0, most=5) == [] and estimate.spread(3, most=5) == [0, 1, 2]


def test_readers_are_as_many_as_devices_or_cores():
  assert cluster.readers({'CPU': 64.0}, None) == (64, {'num_cpus': cluster.READER_CPUS, 'memory': cluster.READER_BYTES})
  count, takes = cluster.readers({'CPU': 64.0, 'GPU': 8.0}, None)
  assert count == 8 and takes['num_gpus'] == 1
  assert cluster.readers({'CPU': 208.0, 'TPU': 4.0}, None)[1]['resources'] == {'TPU': 1}
  assert cluster.readers({'CPU': 64.0}, 5)[0] == 5


def test_a_decoded_page_is_read_or_refused_with_a_reason(monkeypatch):
  assert work.opened(b'x', 0).image is None and 'known kind' in work.opened(b'x', 0).reason
  assert work.opened(two_pages(), 1).pages == 2
  pages, told = work.page(png(), 0, HOW.wanted)
  assert pages == 1 and told['status'] == 'fail' and 'too few to be read' in told['reasons'][0] and told['engine'] == 'jax'


def test_wrong_usage_is_one_sentence(tmp_path, capsys):
  assert cli.main(['archive', str(tmp_path), str(tmp_path / 'out'), '--shard', '2/2']) == 2
  assert cli.main(['archive', str(tmp_path), str(tmp_path / 'out'), '--shard', '0/1', '--fs', '2']) == 2
  told = capsys.readouterr().err.splitlines()
  assert len(told) == 2 and '--shard 2/2' in told[0] and '--fs 50 to 10000' in told[1]


def reading_pids():
  """Process ids of all Ray workers that read or open pages, and of their children."""
  told = subprocess.run(['ps', '-eo', 'pid=,ppid=,args='], capture_output=True, text=True).stdout.splitlines()
  found = [(int(pid), int(parent), args) for pid, parent, args in (line.split(None, 2) for line in told)]
  workers = {pid for pid, _, args in found if 'ray::' in args and ('PageReader' in args or '_opened' in args)}
  return workers, {pid for pid, parent, args in found if parent in workers and 'spawn_main' in args}


@pytest.mark.slow
def test_with_ray_every_page_has_one_row_though_its_workers_and_their_children_are_killed(home, page, tmp_path):
  picture = io.BytesIO()
  Image.fromarray(page).save(picture, 'PNG')
  for n in range(6):
    (home / f'page-{n}.png').write_bytes(picture.getvalue())
  tar(home / 'more.tar', [(f'{n}.png', picture.getvalue()) for n in range(4)])
  (home / 'two.pdf').write_bytes(two_pages())
  out = tmp_path / 'out'
  run, killed = started(home, out, '--engine', 'jax', rows_each=1), 0
  while run.poll() is None and killed < 4:
    time.sleep(3)
    if counted(out) > 2 * killed:  # between two kills something is read
      for pids in reading_pids():
        for pid in sorted(pids)[:1]:
          os.kill(pid, signal.SIGKILL)
      killed += 1
  told, errors = run.communicate(timeout=500)
  assert run.returncode == 0 and killed == 4, errors
  found = {(os.path.basename(r['source']), r['member'], r['page']): r for r in parquet.read_table(out).to_pylist()}
  assert len(found) == counted(out) == 9 + 6 + 4 + 2 and f'{counted(out)} pages' in told
  good = [row for (name, _, _), row in found.items() if name.startswith(('page-', 'more'))]
  read = [row for row in good if row['status'] == 'ok']
  assert len(read) >= 6 and all('the process that read it ended' in row['reasons'][0] for row in good if row['status'] != 'ok')
  assert len({tuple(row['leads_uv']['II']) for row in read}) == 1  # of one picture, whoever read it
