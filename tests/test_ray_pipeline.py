"""An archive read by Ray: who reads, what is begun anew, and what is left when its workers are killed."""

import concurrent.futures
import io
import os
import signal
import subprocess
import time
import types

import numpy as np
import pyarrow
import pytest
from archives import NONE, SETTINGS, counted, started, tar, two_pages
from PIL import Image
from pyarrow import parquet

from ecgjax.archive import containers, listing, parquet_store, partition, ray_pipeline, ray_tasks, schema
from ecgjax.jobs import hardware


def test_readers_are_as_many_as_devices_or_cores(monkeypatch):
  much = {'CPU': 64.0, 'memory': float(1 << 40)}
  assert ray_pipeline.readers(much, None) == (64, {'num_cpus': ray_pipeline.READER_CPUS})
  assert ray_pipeline.readers(much | {'GPU': 8.0}, None)[0] == 64  # which JAX cannot use here
  monkeypatch.setattr(hardware.importlib.util, 'find_spec', lambda name: name in ('jax_cuda13_plugin', 'libtpu'))
  count, takes = ray_pipeline.readers(much | {'GPU': 8.0}, None)
  assert count == 8 and takes['num_gpus'] == 1
  count, takes = ray_pipeline.readers(much | {'GPU': 8.0}, 12)
  assert count == 12 and takes['num_gpus'] == 0.5  # two on each at most
  count, takes = ray_pipeline.readers(much | {'TPU': 4.0}, 12)
  assert count == 4 and takes['resources'] == {'TPU': 1}
  assert ray_pipeline.readers(much | {'memory': 3.0 * ray_pipeline.READER_BYTES}, None)[0] == 3
  assert ray_pipeline.readers(much | {'memory': 1e9}, None)[0] == 1 and ray_pipeline.readers(much, 5)[0] == 5


def test_pages_of_a_file_that_was_begun_are_read_with_ray_as_without(monkeypatch):
  class ImmediatePool:
    def schedule(self, function, *, args, timeout):
      job = concurrent.futures.Future()
      job.set_result(function(*args))
      return job

  monkeypatch.setattr(ray_tasks, '_decoder', ImmediatePool)
  source, member = listing.Origin('a.pdf', 1, 'picture'), containers.Member('', two_pages())
  done = lambda begun: parquet_store.CompletedPages(np.zeros(0, 'S16'), begun)
  read = lambda begun: [row['page'] for row in ray_tasks._pages(source, member, done(begun), 60.0)]
  name = parquet_store._name('a.pdf', '')
  assert [read({}), read({name: frozenset({1})}), read({name: frozenset({2})})] == [[1, 2], [2], [1]]


def blocks_of(*passes):
  """A stand-in for Ray: what each pass hands on, as (unit, member, END's count) or (unit, member, None)."""
  left = iter(passes)

  def blocks(units, done, settings, jobs, most):
    for unit, member, count in next(left):
      at = schema.where(units[unit].source.url, member, data=b'1')
      row = at | {'status': 'ok'} if count is None else {'status': 'end', 'pages': count}
      yield pyarrow.Table.from_pylist([row | {'unit': unit}], schema=ray_tasks.PAGE)

  return blocks


def test_what_ray_lost_is_read_again_what_it_repeats_is_kept_once_and_what_stays_lost_is_said(monkeypatch):
  units = [partition.Unit(listing.Origin(f'{n}.tar', 1, 'tar'), 0, 1) for n in range(3)]
  first = [(0, 'a', None), (0, 'a', None), (0, '', 1), (0, 'a', None), (0, '', 1), (1, 'a', None), (1, '', 2), (2, 'a', None)]
  monkeypatch.setattr(ray_pipeline, '_blocks', blocks_of(first, [(1, 'b', None), (1, '', 1)], []))
  found = pyarrow.concat_tables(ray_pipeline.read(units, lambda: NONE, SETTINGS, jobs=1)).to_pylist()
  rows = [(r['source'], r['member'], r['status']) for r in found]
  good = [('0.tar', 'a', 'ok'), ('1.tar', 'a', 'ok'), ('2.tar', 'a', 'ok'), ('1.tar', 'b', 'ok')]
  assert rows == [*good, ('2.tar', '', 'fail')] and 'was lost with a process of Ray' in found[-1]['reasons'][0]


def test_where_nothing_is_opened_at_all_an_installation_that_cannot_work_makes_no_rows_and_one_that_can_says_what_was_lost(monkeypatch):
  ray = pytest.importorskip('ray')
  tar, pdf = listing.Origin('a.tar', 1, 'tar'), listing.Origin('b.pdf', 1, 'picture')
  units = [partition.Unit(tar, 0, 2), partition.Unit(tar, 1, 2), partition.Unit(pdf, 0, 1)]
  begun = parquet_store.CompletedPages(np.zeros(0, 'S16'), {parquet_store._name('b.pdf', ''): frozenset({1})})

  def unable(_):
    raise ray.exceptions.RayError('no module named ecgjax')

  monkeypatch.setattr(ray, 'remote', lambda **_: lambda function: types.SimpleNamespace(remote=function))
  for able in (unable, lambda _: None):
    monkeypatch.setattr(ray, 'get', able)
    monkeypatch.setattr(ray_pipeline, '_blocks', blocks_of([], [], []))
    read = ray_pipeline.read(units, lambda: begun, SETTINGS, jobs=1)
    if able is unable:
      with pytest.raises(ValueError, match='opened nothing'):
        list(read)
    else:
      found = pyarrow.concat_tables(read).to_pylist()
      assert [(r['source'], r['member'], r['page'], r['pages']) for r in found] == [('a.tar', '', 1, 1), ('b.pdf', '', 2, 2)]


def test_a_machine_that_starts_no_child_process_is_an_error_and_no_page_is_given_up_for_it(monkeypatch):
  class None_:
    def schedule(self, *_, **__):
      job = concurrent.futures.Future()
      job.set_exception(concurrent.futures.BrokenExecutor('no child'))
      return job

  units = [partition.Unit(listing.Origin(f'{name}.pdf', 1, 'picture'), 0, 1) for name in 'ab']
  monkeypatch.setattr(ray_tasks, '_decoder', None_)
  monkeypatch.setattr(ray_tasks.process_pool, 'Children', lambda *_, **__: None_())
  monkeypatch.setattr(containers, '_opened', lambda *_, **__: iter([containers.Member('', b'1')]))
  rows = pyarrow.Table.from_pylist([ray_tasks.listed(n, unit) for n, unit in enumerate(units)])
  opened = ray_tasks.opened(rows, done=NONE, settings=SETTINGS)
  (first,) = [table.to_pylist()[0] for table in opened]  # the others are missed, and tried again
  assert (first['unit'], first['status']) == (0, ray_tasks.BROKEN)
  reader = ray_tasks.PageReader(settings=SETTINGS, place='', share=1.0)
  second = reader._row({'unit': 1, 'px': bytes(3), 'height': 1, 'width': 1})
  broken = [pyarrow.Table.from_pylist([row], schema=ray_tasks.PAGE) for row in ({'unit': 0, **ray_tasks.broken(ValueError('x'))}, second)]
  whole = [schema.where('a.pdf', '', data=b'1') | {'unit': 0, 'status': 'ok'}, {'unit': 0, 'status': ray_tasks.END, 'pages': 1}]
  passes = iter([broken, [*broken, pyarrow.Table.from_pylist(whole, schema=ray_tasks.PAGE)], broken[1:]])
  monkeypatch.setattr(ray_pipeline, '_blocks', lambda *_: next(passes))
  read, found = ray_pipeline.read(units, lambda: NONE, SETTINGS, jobs=1), []
  with pytest.raises(concurrent.futures.BrokenExecutor, match='no child'):
    found.extend(table.to_pylist() for table in read)
  assert [[row['source'] for row in table] for table in found] == [['a.pdf']]


def reading_pids():
  """Process ids of all Ray workers that read or open pages, and of their children."""
  lines = subprocess.run(['ps', '-eo', 'pid=,ppid=,args='], capture_output=True, text=True).stdout.splitlines()
  found = [(int(pid), int(parent), args) for pid, parent, args in (line.split(None, 2) for line in lines)]
  workers = {pid for pid, _, args in found if 'ray::' in args and ('PageReader' in args or 'opened' in args)}
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
  run, killed = started(home, out, '--weights', 'small', rows_each=1), 0
  while run.poll() is None and killed < 4:
    time.sleep(3)
    if counted(out) > 2 * killed:  # between two kills something is read
      for pids in reading_pids():
        for pid in sorted(pids)[:1]:
          os.kill(pid, signal.SIGKILL)
      killed += 1
  printed, errors = run.communicate(timeout=500)
  assert run.returncode == 0 and killed == 4, errors
  found = {(os.path.basename(r['source']), r['member'], r['page']): r for r in parquet.read_table(out).to_pylist()}
  assert len(found) == counted(out) == 9 + 6 + 4 + 2 and f'{counted(out)} pages' in printed
  good = [row for (name, _, _), row in found.items() if name.startswith(('page-', 'more'))]
  read = [row for row in good if row['status'] == 'ok']
  assert len(read) >= 6 and all('the process that read it ended' in row['reasons'][0] for row in good if row['status'] != 'ok')
  assert len({tuple(row['leads_uv']['II']) for row in read}) == 1  # of one picture, whoever read it


POISON = """
import os, tarfile
opened = tarfile.open
def poisoned(*args, **options):
  if 'poison' in str(getattr(options.get('fileobj'), 'name', '')):
    os._exit(1)
  return opened(*args, **options)
tarfile.open = poisoned
"""


@pytest.mark.slow
def test_with_ray_a_file_that_ends_each_process_that_opens_it_has_a_row_and_costs_no_other(tmp_path, monkeypatch):
  (tmp_path / 'sitecustomize.py').write_text(POISON)  # which Ray's workers import as they start
  monkeypatch.setenv('PYTHONPATH', str(tmp_path))
  (tmp_path / 'in').mkdir()
  for name in (*'abcdefghijklmno', 'poison'):
    tar(tmp_path / 'in' / f'{name}.tar', [(f'{n}.png', b'%s %d' % (name.encode(), n)) for n in range(4)])
  run = started(tmp_path / 'in', tmp_path / 'out')
  printed, errors = run.communicate(timeout=500)
  assert run.returncode == 0 and '61 pages (0 ok, 0 review, 61 fail)' in printed, errors
  found = parquet.read_table(tmp_path / 'out').to_pylist()
  reasons = {(os.path.basename(row['source']), row['member']): row['reasons'][0] for row in found}
  assert len(found) == len(reasons) == 61 and 'was lost with a process of Ray' in reasons.pop(('poison.tar', ''))
  assert all('no picture of a known kind' in reason for reason in reasons.values())
