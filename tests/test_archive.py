"""`ecgjax archive`: every page of an archive has exactly one row, whatever is in it and however often the work is cut off."""

import collections
import concurrent.futures
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile

import fsspec
import numpy as np
import pyarrow
import pypdfium2
import pytest
from PIL import Image
from pyarrow import parquet

from ecgjax import cli, layout, worker
from ecgjax.archive import alone, cluster, command, estimate, members, rows, sources, store, work

NONE = store.Done(np.zeros(0, 'S16'), {})
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
  read = [(os.path.basename(s.url), member) for s in found for member in members.members(s, wanted=lambda _: True, **options)]
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
  with store.Store('memory://out', {}) as kept:
    kept.add(rows.table([rows.where('a', '', data=b'x') | rows.failed('no')]))
  assert store.Store('memory://out', {}).done()[0].file('a', '')


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
    assert '--column c holds no bytes; a, b would' in every([source], column='c')[name, '']
  assert every([source], part=1, parts=2).get((name, '')) is None  # the first part says it


def test_a_file_of_many_bytes_is_not_read(home, tmp_path, monkeypatch):
  monkeypatch.setattr(members, 'MAX_BYTES', 10)
  found = every(sources.listed([str(home)], but=str(tmp_path / 'out')))
  assert len(found) == 9 and sum('at most 10 are read' in str(told) for told in found.values()) == 8


def test_what_is_done_is_what_the_files_hold(tmp_path):
  page = lambda name, n, of, status='ok': rows.where(name, 'm', data=b'12345', page=n, pages=of) | {'status': status}
  with store.Store(str(tmp_path), {'fs_hz': 500}) as kept:
    kept.add(rows.table([page('one', 1, 1), page('three', 1, 3), page('three', 3, 3, 'fail'), page('two', 2, 2)]))
    assert not kept.parts() and not kept.done()[0].file('one', 'm')  # not yet
    kept.flush()
    kept.add(rows.table([page('two', 1, 2, 'fail')]))
    kept.flush()
    done, size = kept.done()
    assert [done.file(name, 'm') for name in ('one', 'two', 'three', 'four')] == [True, True, False, False] and not done.file('one', '')
    assert [done.page('three', 'm', n) for n in (1, 2, 3)] == [True, False, True] and done.page('two', 'm', 1)
    assert size == 15 and kept.counts == {'ok': 3, 'fail': 2}
    assert kept.forget('fail') == 2 and len(kept.parts()) == 1
    done, _ = kept.done()
    assert done.file('one', 'm') and not done.file('two', 'm') and not done.page('three', 'm', 3)


def test_rows_read_in_another_way_and_a_second_writer_are_refused(tmp_path):
  with store.Store(str(tmp_path), {'fs_hz': 500}, owner='0-of-2'):
    with store.Store(str(tmp_path), {'fs_hz': 500}, owner='1-of-2'):  # another part
      pass
    for owner in ('0-of-2', store.ALONE):
      with pytest.raises(ValueError, match='another process is writing'):
        store.Store(str(tmp_path), {'fs_hz': 500}, owner=owner)
  with store.Store(str(tmp_path), {'fs_hz': 500}) as kept:
    for owner in ('0-of-2', store.ALONE):
      with pytest.raises(ValueError, match='another process is writing'):
        store.Store(str(tmp_path), {'fs_hz': 500}, owner=owner)
    kept.add(rows.table([rows.where('a', '', data=None) | rows.failed('no')]))
  with pytest.raises(ValueError, match='"fs_hz": 500.*"fs_hz": 250'):
    store.Store(str(tmp_path), {'fs_hz': 250})
  with store.Store(str(tmp_path), {'fs_hz': 500}) as kept:
    assert kept.done()[0].file('a', '')


def test_what_is_half_written_is_not_there(tmp_path, monkeypatch):
  def full(_):
    raise OSError(28, 'No space left on device')

  with store.Store(str(tmp_path), {}) as kept:
    kept.add(rows.table([rows.failed('no')]))
    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space left'):
      kept.flush()
    assert not [p for p in tmp_path.iterdir() if p.name[0] != '.']
    monkeypatch.undo()
  assert sorted(p.name[:6] for p in tmp_path.iterdir()) == ['..lock', '.0-of-', 'pages-']  # and it is, as soon as there is room


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
  return pyarrow.concat_tables(alone.read(units, done, HOW, jobs=1)).to_pylist()


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
  first = store.Done(np.zeros(0, 'S16'), {store._name(str(home / 'two.pdf'), ''): frozenset({1})})
  assert [(r['page'], r['pages']) for r in read_alone(home / 'two.pdf', tmp_path, first)] == [(2, 2)]  # only what has none


def started(*words, rows_each=100):
  """Starts the command, with files of `rows_each` rows."""
  code = f'import sys; from ecgjax import cli; from ecgjax.archive import store; store.ROWS = {rows_each}; sys.exit(cli.main())'
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
  with pytest.raises(ValueError, match='--retry takes away rows of all parts'):
    command.run(cli.parser().parse_args(['archive', 'a', 'b', '--shard', '0/2', '--retry', 'fail']))
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


def test_readers_are_as_many_as_devices_or_cores(monkeypatch):
  much = {'CPU': 64.0, 'memory': float(1 << 40)}
  assert cluster.readers(much, None) == (64, {'num_cpus': cluster.READER_CPUS})
  assert cluster.readers(much | {'GPU': 8.0}, None)[0] == 64  # which JAX cannot use here
  monkeypatch.setattr(cluster.importlib.util, 'find_spec', lambda name: name in ('jax_cuda13_plugin', 'libtpu'))
  count, takes = cluster.readers(much | {'GPU': 8.0}, None)
  assert count == 8 and takes['num_gpus'] == 1
  assert cluster.readers(much | {'TPU': 4.0}, None)[1]['resources'] == {'TPU': 1}
  assert cluster.readers(much | {'memory': 3.0 * cluster.READER_BYTES}, None)[0] == 3
  assert cluster.readers(much | {'memory': 1e9}, None)[0] == 1 and cluster.readers(much, 5)[0] == 5


def test_names_that_are_no_text_are_written_out_and_found_again(tmp_path):
  name = os.fsdecode(b'\xff \xe4.png')
  home, out = tmp_path / 'in', tmp_path / 'out [1]*'
  home.mkdir()
  (home / name).write_bytes(b'no picture')
  tar(home / 'a.tar', [(name, b'neither')])
  (row,) = [r for r in read_alone(home, out) if not r['member']]
  assert row['source'].endswith(r'\udcff \udce4.png')
  with store.Store(str(out), {}) as kept:
    for table in alone.read([cluster.Unit(s, 0, 1) for s in sources.listed([str(home)], but=str(out))], NONE, HOW, jobs=1):
      kept.add(table)
    kept.flush()
    done, _ = kept.done()
  assert read_alone(home, out, done) == []


def test_links_are_not_followed_in_circles_and_a_link_in_a_tar_says_so(tmp_path):
  home = tmp_path / 'in'
  (home / 'ward').mkdir(parents=True)
  (home / 'ward' / 'a.png').write_bytes(png())
  (home / 'ward' / 'again').symlink_to(home)
  (home / 'b.png').symlink_to(home / 'ward' / 'a.png')
  (home / 'c.png').symlink_to(home / 'nowhere.png')
  with tarfile.open(home / 'l.tar', 'w') as archive:
    archive.add(home / 'ward' / 'a.png', '1.png')
    link = tarfile.TarInfo('2.png')
    link.type, link.linkname = tarfile.LNKTYPE, '1.png'
    archive.addfile(link)
    archive.add(home / 'ward' / 'a.png', '3.png')
  found = every(sources.listed([str(home)], but=str(tmp_path / 'out')))
  assert 'FileNotFoundError' in found.pop(('c.png', ''))
  assert found == {
    ('a.png', ''): png(), ('b.png', ''): png(), ('l.tar', '1.png'): png(), ('l.tar', '3.png'): png(),
    ('l.tar', '2.png'): 'it is a link to 1.png',
  }  # fmt: skip


def test_columns_that_hold_no_bytes_or_hold_them_by_a_dictionary(tmp_path):
  coded = pyarrow.array([b'1', b'2', b'1']).dictionary_encode()
  path = a_table(tmp_path / 'a.parquet', coded)
  source = sources.Origin(str(path), 1, 'parquet')
  assert list(every([source]).values()) == [b'1', b'2', b'1']
  (told,) = every([source], column='label').values()
  assert 'holds no bytes; image would' in told


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


@pytest.mark.parametrize('cut', ['header', 'end', 'flipped', 'more'])
def test_a_tar_that_ends_where_it_should_not_says_so(tmp_path, cut):
  path = tar(tmp_path / 'a.tar', [(f'{n}.png', png(n)) for n in range(6)])
  whole, third = bytearray(path.read_bytes()), 2 * (512 + 512)  # of a header and a block each
  if cut == 'flipped':
    whole[third + 10] ^= 1
  path.write_bytes({'header': whole[: third + 100], 'end': whole[:third], 'flipped': whole, 'more': whole + whole}[cut])
  found = every([sources.Origin(str(path), 1, 'tar')])
  assert 'damaged or cut off' in found.pop(('a.tar', ''))
  assert list(found.values()) == [png(n) for n in range(6 if cut == 'more' else 2)]


def test_a_damaged_group_of_rows_costs_its_own_rows_alone(tmp_path):
  noise = [np.random.default_rng(n).bytes(5000) for n in range(6)]
  path = a_table(tmp_path / 'a.parquet', noise)
  data = bytearray(path.read_bytes())
  at = data.index(noise[2][:50])
  data[at - 60 : at] = bytes(60)  # the head of the page that holds the second group
  path.write_bytes(data)
  found = every([sources.Origin(str(path), 1, 'parquet')])
  assert [found['a.parquet', str(n)] == noise[n] for n in range(6)] == [True, True, False, False, True, True]
  assert 'it cannot be read' in found['a.parquet', '2'] and 'it cannot be read' in found['a.parquet', '3']


def test_a_folder_that_cannot_be_listed_has_a_row_that_says_so(home, tmp_path, monkeypatch):
  listed = sources.LocalFileSystem.ls

  def ls(self, path, **options):
    if path.endswith('ward'):
      raise PermissionError(13, 'Permission denied')
    return listed(self, path, **options)

  monkeypatch.setattr(sources.LocalFileSystem, 'ls', ls)
  found = every(sources.listed([str(home)], but=str(tmp_path / 'out')))
  assert 'could not be listed' in found['ward', ''] and len(found) == 8


def test_a_connection_that_fails_for_a_while_costs_nothing_and_one_that_stays_away_is_said_by_its_part(home, monkeypatch):
  source, opened, fails = sources.Origin(str(home / 'x-00000.tar'), 1, 'tar'), members._of_tar, 2

  def of_tar(*given):
    nonlocal fails
    yield from opened(*given)
    if fails:
      fails -= 1
      raise ConnectionResetError(104, 'reset by peer')

  monkeypatch.setattr(members, '_of_tar', of_tar)
  monkeypatch.setattr(members.time, 'sleep', lambda _: None)
  assert len(every([source])) == 3
  fails = 99
  assert 'reset by peer' in every([source], part=1, parts=2)['x-00000.tar', 'part 1 of 2']


def test_names_that_look_like_addresses_are_names(tmp_path):
  (tmp_path / 'b.png').write_bytes(b'one')
  (tmp_path / 'b.png::c.png').write_bytes(b'two')
  (tmp_path / 's3:').mkdir()
  (tmp_path / 's3:' / 'd.png').write_bytes(b'three')
  found = every(sources.listed([f'{tmp_path}/../{tmp_path.name}'], but='out'))
  assert found == {('b.png', ''): b'one', ('b.png::c.png', ''): b'two', ('d.png', ''): b'three'}
  with zipfile.ZipFile(tmp_path / 'e.zip', 'w') as archive:
    archive.writestr('a.png', b'four')
  with pytest.raises(ValueError, match='addresses hold all that is needed'):
    list(sources.listed([f'zip://::{tmp_path}/e.zip'], but='out'))


def test_an_object_store_without_folders_may_be_empty(monkeypatch):
  with store.Store('memory://new', {}) as kept:
    monkeypatch.setattr(type(kept.files), 'ls', lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError('new')))
    assert kept.parts() == []


def test_pages_of_a_file_that_was_begun_are_read_with_ray_as_without(monkeypatch):
  class Now:
    def schedule(self, function, *, args, timeout):
      job = concurrent.futures.Future()
      job.set_result(function(*args))
      return job

  monkeypatch.setattr(cluster, '_decoder', Now)
  source, member = sources.Origin('a.pdf', 1, 'picture'), members.Member('', two_pages())
  read = lambda begun: [row['page'] for row in cluster._pages(source, member, store.Done(np.zeros(0, 'S16'), begun), 60.0)]
  name = store._name('a.pdf', '')
  assert [read({}), read({name: frozenset({1})}), read({name: frozenset({2})})] == [[1, 2], [2], [1]]


def blocks_of(*passes):
  """A stand-in for Ray: what each pass hands on, as (unit, member, END's count) or (unit, member, None)."""
  left = iter(passes)

  def blocks(units, done, how, jobs):
    for unit, member, count in next(left):
      row = rows.where(units[unit].source.url, member, data=b'1') | {'status': 'ok'} if count is None else {'status': 'end', 'pages': count}
      yield pyarrow.Table.from_pylist([row | {'unit': unit}], schema=cluster.PAGE)

  return blocks


def test_what_ray_lost_is_read_again_what_it_repeats_is_kept_once_and_what_stays_lost_is_said(monkeypatch):
  units = [cluster.Unit(sources.Origin(f'{n}.tar', 1, 'tar'), 0, 1) for n in range(3)]
  first = [(0, 'a', None), (0, 'a', None), (0, '', 1), (1, 'a', None), (1, '', 2), (2, 'a', None)]
  monkeypatch.setattr(cluster, '_blocks', blocks_of(first, [(1, 'b', None), (1, '', 1)], []))
  found = pyarrow.concat_tables(cluster.read(units, lambda: NONE, HOW, jobs=1)).to_pylist()
  told = [(r['source'], r['member'], r['status']) for r in found]
  good = [('0.tar', 'a', 'ok'), ('1.tar', 'a', 'ok'), ('2.tar', 'a', 'ok'), ('1.tar', 'b', 'ok')]
  assert told == [*good, ('2.tar', '', 'fail')] and 'was lost with a process of Ray' in found[-1]['reasons'][0]
  monkeypatch.setattr(cluster, '_blocks', blocks_of([], [], []))
  with pytest.raises(ValueError, match='opened nothing'):  # an installation that cannot work makes no rows
    list(cluster.read(units, lambda: NONE, HOW, jobs=1))


def test_a_child_ends_with_its_parent(tmp_path):
  code = (
    'import time\nfrom ecgjax import pool\n'
    'if __name__ == "__main__":\n'
    '  children = pool.children(1)\n  job = children.schedule(time.sleep, args=[600])\n'
    '  import multiprocessing\n  time.sleep(2)\n  print(multiprocessing.active_children()[0].pid, flush=True)\n  time.sleep(600)'
  )
  (tmp_path / 'parent.py').write_text(code)
  parent = subprocess.Popen([sys.executable, str(tmp_path / 'parent.py')], stdout=subprocess.PIPE, text=True)
  child = int(parent.stdout.readline())
  os.kill(child, 0)
  parent.kill()
  parent.communicate()
  for _ in range(50):
    time.sleep(0.1)
    try:
      os.kill(child, 0)
    except ProcessLookupError:
      return
  raise AssertionError('it is still there')


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
