"""What an archive holds: folders, tars, Parquet files and object stores, whole, damaged or cut off."""

import collections
import errno
import io
import os
import tarfile
import zipfile

import fsspec
import numpy as np
import pyarrow
import pytest
from archives import a_table, png, tar
from pyarrow import parquet

from ecgjax.archive import containers, listing, parquet_store, schema


def every(found, **options):
  """Returns {(base of the source, member): bytes or reason}, and whether none came twice."""
  read = [(os.path.basename(s.url), member) for s in found for member in containers.members(s, wanted=lambda _: True, **options)]
  pairs = [((base, member.name), member.data or member.reason) for base, member in read]
  assert len(pairs) == len(dict(pairs))
  return dict(pairs)


def test_an_archive_is_listed_once_and_in_order_without_what_is_hidden_or_ours(home, tmp_path):
  out = home / 'rows'
  out.mkdir()
  (out / 'pages-1.parquet').write_bytes(b'')
  for name in ('a.overlay.jpg', 'a.mask.png'):  # `digitize` left them beside their page
    (home / name).write_bytes(b'')
  found = list(listing.listed([str(home)], exclude=str(out)))
  assert [os.path.relpath(s.url, home) for s in found] == ['a.png', 'x-00000.tar', 'y.parquet', 'ward/b.JPG', 'ward/c.png']
  assert [s.kind for s in found] == ['picture', 'tar', 'parquet', 'picture', 'picture']
  assert [s.size_bytes for s in found] == [os.path.getsize(s.url) for s in found]
  twice = list(listing.listed([str(home / 'ward'), str(home), str(home / 'notes.txt')], exclude=str(out)))
  assert len(twice) == 6 and twice[-1].kind == 'picture'  # a person named it
  with pytest.raises(ValueError, match='does not exist'):
    list(listing.listed([str(home / 'none')], exclude=str(out)))


def test_every_member_is_read_with_its_bytes(home, tmp_path):
  found = every(listing.listed([str(home)], exclude=str(tmp_path / 'out')))
  assert found == {
    ('a.png', ''): png(0), ('b.JPG', ''): png(1), ('c.png', ''): png(2),
    ('x-00000.tar', '1.png'): png(3), ('x-00000.tar', '2.png'): png(4), ('x-00000.tar', '2.png#2'): png(5),
    ('y.parquet', '0'): png(6), ('y.parquet', '1'): 'the row holds no bytes', ('y.parquet', '2'): png(7),
  }  # fmt: skip


@pytest.mark.parametrize('parts', [2, 7])
def test_parts_hold_every_member_once(home, tmp_path, parts):
  found = list(listing.listed([str(home)], exclude=str(tmp_path / 'out')))
  shared = [every(found, part=part, parts=parts) for part in range(parts)]
  assert sum(map(len, shared)) == 9 and collections.ChainMap(*shared) == every(found)
  assert max(map(len, shared)) < 9


def test_an_object_store_is_an_archive_like_a_folder(home, tmp_path):
  memory = fsspec.filesystem('memory')
  memory.put(str(home), '/in', recursive=True)
  found = list(listing.listed(['memory://in'], exclude='memory://out'))
  assert all(s.url.startswith('memory://') for s in found)
  assert every(found) == every(listing.listed([str(home)], exclude=str(tmp_path / 'out')))
  with parquet_store.Store('memory://out', {}) as kept:
    kept.add(schema.table([schema.where('a', '', data=b'x') | schema.failed('no')]))
  assert parquet_store.Store('memory://out', {}).done()[0].file('a', '')


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
  source = listing.Origin(str(path), 1, listing.kind_of(name, named=False))
  found = every([source])
  before = {(name, '1.png'): png(1)} if name.startswith('cut') else {}
  reasons = [reason for member, reason in found.items() if member not in before]
  assert before.items() <= found.items() and len(reasons) == 1 and isinstance(reasons[0], str) and 'it cannot be read' in reasons[0]
  if name.startswith('two'):
    assert '--column' in reasons[0] and every([source], column='b') == {(name, '0'): b'2'}
    assert '--column c holds no bytes; a, b would' in every([source], column='c')[name, '']
  assert every([source], part=1, parts=2).get((name, '')) is None  # the first part says it


def test_a_file_of_many_bytes_is_not_read(home, tmp_path, monkeypatch):
  monkeypatch.setattr(containers, 'MAX_BYTES', 10)
  found = every(listing.listed([str(home)], exclude=str(tmp_path / 'out')))
  assert len(found) == 9 and sum('at most 10 are read' in str(reason) for reason in found.values()) == 8


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
  found = every(listing.listed([str(home)], exclude=str(tmp_path / 'out')))
  assert 'FileNotFoundError' in found.pop(('c.png', ''))
  assert found == {
    ('a.png', ''): png(), ('b.png', ''): png(), ('l.tar', '1.png'): png(), ('l.tar', '3.png'): png(),
    ('l.tar', '2.png'): 'it is a link to 1.png',
  }  # fmt: skip


def test_columns_that_hold_no_bytes_or_hold_them_by_a_dictionary(tmp_path):
  coded = pyarrow.array([b'1', b'2', b'1']).dictionary_encode()
  path = a_table(tmp_path / 'a.parquet', coded)
  source = listing.Origin(str(path), 1, 'parquet')
  assert list(every([source]).values()) == [b'1', b'2', b'1']
  (reason,) = every([source], column='label').values()
  assert 'holds no bytes; image would' in reason


@pytest.mark.parametrize('cut', ['header', 'end', 'flipped', 'more'])
def test_a_tar_that_ends_where_it_should_not_says_so(tmp_path, cut):
  path = tar(tmp_path / 'a.tar', [(f'{n}.png', png(n)) for n in range(6)])
  whole, third = bytearray(path.read_bytes()), 2 * (512 + 512)  # of a header and a block each
  if cut == 'flipped':
    whole[third + 10] ^= 1
  path.write_bytes({'header': whole[: third + 100], 'end': whole[:third], 'flipped': whole, 'more': whole + whole}[cut])
  found = every([listing.Origin(str(path), 1, 'tar')])
  assert 'damaged or cut off' in found.pop(('a.tar', ''))
  assert list(found.values()) == [png(n) for n in range(6 if cut == 'more' else 2)]


def test_a_damaged_group_of_rows_costs_its_own_rows_alone(tmp_path):
  noise = [np.random.default_rng(n).bytes(5000) for n in range(6)]
  path = a_table(tmp_path / 'a.parquet', noise)
  data = bytearray(path.read_bytes())
  at = data.index(noise[2][:50])
  data[at - 60 : at] = bytes(60)  # the head of the page that holds the second group
  path.write_bytes(data)
  found = every([listing.Origin(str(path), 1, 'parquet')])
  assert [found['a.parquet', str(n)] == noise[n] for n in range(6)] == [True, True, False, False, True, True]
  assert 'it cannot be read' in found['a.parquet', '2'] and 'it cannot be read' in found['a.parquet', '3']


def test_a_folder_that_cannot_be_listed_has_a_row_that_says_so(home, tmp_path, monkeypatch):
  listed = listing.LocalFileSystem.ls

  def ls(self, path, **options):
    if path.endswith('ward'):
      raise PermissionError(13, 'Permission denied')
    return listed(self, path, **options)

  monkeypatch.setattr(listing.LocalFileSystem, 'ls', ls)
  found = every(listing.listed([str(home)], exclude=str(tmp_path / 'out')))
  assert 'could not be listed' in found['ward', ''] and len(found) == 8


def test_a_connection_that_fails_for_a_while_costs_nothing_and_one_that_stays_away_is_said_by_its_part(home, monkeypatch):
  source, opened, fails = listing.Origin(str(home / 'x-00000.tar'), 1, 'tar'), containers._of_tar, 2

  def of_tar(*given):
    nonlocal fails
    yield from opened(*given)
    if fails:
      fails -= 1
      raise ConnectionResetError(104, 'reset by peer')

  monkeypatch.setattr(containers, '_of_tar', of_tar)
  monkeypatch.setattr(containers.time, 'sleep', lambda _: None)
  assert len(every([source])) == 3
  fails = 99
  assert 'reset by peer' in every([source], part=1, parts=2)['x-00000.tar', 'part 1 of 2']


def test_a_connection_that_fails_within_a_parquet_file_costs_nothing(tmp_path, monkeypatch):
  noise = [np.random.default_rng(n).bytes(5000) for n in range(6)]
  source, fails = listing.Origin(str(a_table(tmp_path / 'a.parquet', noise)), 1, 'parquet'), [12_000]

  class Failing(io.FileIO):
    def readinto(self, buffer):
      if fails and self.tell() >= fails[0]:
        fails.pop()
        raise ConnectionResetError(104, 'reset by peer')
      return super().readinto(buffer)

    def read(self, size=-1):
      data = bytearray(size if size >= 0 else os.path.getsize(source.url))
      return bytes(data[: self.readinto(data)])

  class Store:
    def open(self, path, mode):
      return Failing(path)

  monkeypatch.setattr(containers, 'place', lambda url: (Store(), url))
  monkeypatch.setattr(containers, 'READ_BYTES', 1)
  monkeypatch.setattr(containers.time, 'sleep', lambda _: None)
  assert list(every([source]).values()) == noise and not fails


@pytest.mark.parametrize('group', [0, 1])
def test_a_part_of_a_disk_that_cannot_be_read_costs_its_own_group_of_rows_alone(tmp_path, monkeypatch, group):
  noise = [np.random.default_rng(n).bytes(5000) for n in range(6)]
  source = listing.Origin(str(a_table(tmp_path / 'a.parquet', noise)), 1, 'parquet')
  batches = parquet.ParquetFile.iter_batches

  def iter_batches(self, size, *, row_groups, columns):
    if row_groups == [group]:
      raise OSError(errno.EIO, 'Input/output error')
    return batches(self, size, row_groups=row_groups, columns=columns)

  monkeypatch.setattr(parquet.ParquetFile, 'iter_batches', iter_batches)
  monkeypatch.setattr(containers.time, 'sleep', lambda _: None)
  found = every([source])
  rows = [found['a.parquet', str(n)] for n in range(6)]
  assert [data if data == noise[n] else 'lost' if 'Input/output error' in data else data for n, data in enumerate(rows)] == [
    'lost' if n // 2 == group else noise[n] for n in range(6)
  ]


def test_a_connection_that_is_lost_now_and_then_is_opened_again_each_time(tmp_path, monkeypatch):
  path = tar(tmp_path / 'a.tar', [(f'{n}.png', png(n)) for n in range(8)])
  opened = containers._of_tar

  def of_tar(*given):
    for n, member in enumerate(opened(*given)):
      yield member
      if n == 0:  # after one member each time
        raise ConnectionResetError(104, 'reset by peer')

  monkeypatch.setattr(containers, '_of_tar', of_tar)
  monkeypatch.setattr(containers.time, 'sleep', lambda _: None)
  assert list(every([listing.Origin(str(path), 1, 'tar')]).values()) == [png(n) for n in range(8)]


def test_names_that_look_like_addresses_are_names(tmp_path):
  (tmp_path / 'b.png').write_bytes(b'one')
  (tmp_path / 'b.png::c.png').write_bytes(b'two')
  (tmp_path / 's3:').mkdir()
  (tmp_path / 's3:' / 'd.png').write_bytes(b'three')
  found = every(listing.listed([f'{tmp_path}/../{tmp_path.name}'], exclude='out'))
  assert found == {('b.png', ''): b'one', ('b.png::c.png', ''): b'two', ('d.png', ''): b'three'}
  with zipfile.ZipFile(tmp_path / 'e.zip', 'w') as archive:
    archive.writestr('a.png', b'four')
  with pytest.raises(ValueError, match='addresses hold all that is needed'):
    list(listing.listed([f'zip://::{tmp_path}/e.zip'], exclude='out'))
