"""`ecgjax digitize`: which files, under which names, what becomes of each page, and that none can stop the rest."""

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pypdfium2
import pytest
from PIL import Image

from ecgjax.cli import command_line, digitize, progress
from ecgjax.ecg.errors import ECGError
from ecgjax.extract import digitizer, pixel_classes
from ecgjax.geometry import lattices, layouts
from ecgjax.jobs import page_job
from ecgjax.locate import find_page
from ecgjax.networks import shipped

PAGE = layouts.make()
FRAME = lattices.frame(PAGE, rate_hz=500, height_px=640)
WHITE = np.full((1700, 2200, 3), 255, np.uint8)


def parsed(*words):
  return command_line.parser().parse_args(['digitize', *map(str, words), '-o', 'out'])


@pytest.fixture
def folder(tmp_path):
  home = tmp_path / 'in'
  (home / 'ward').mkdir(parents=True)
  for name in ('a.png', 'a.jpg', 'b.PDF', 'notes.txt', '.hidden.png', 'ward/c.d.tif'):
    (home / name).write_bytes(b'x')
  return home


def test_a_folder_is_listed_in_order_without_what_is_no_picture_and_every_file_has_a_name_of_its_own(folder, tmp_path):
  out = tmp_path / 'out'
  flat = digitize.listed([str(folder)], out, recursive=False)
  assert [(os.path.basename(f.path), f.stem.relative_to(out).as_posix()) for f in flat] == [
    ('a.jpg', 'a.jpg'), ('a.png', 'a.png'), ('b.PDF', 'b'),
  ]  # fmt: skip
  deep = digitize.listed([str(folder)], out, recursive=True)
  assert [f.stem.relative_to(out).as_posix() for f in deep] == ['a.jpg', 'a.png', 'b', 'ward/c.d']
  assert digitize.listed(['-'], out, recursive=False) == [digitize.File('-', out / 'stdin')]


def test_what_cannot_be_listed_is_refused(folder, tmp_path):
  with pytest.raises(ValueError, match='nowhere.png does not exist'):
    digitize.listed([str(tmp_path / 'nowhere.png')], tmp_path, recursive=False)
  (tmp_path / 'bare').mkdir()
  with pytest.raises(ValueError, match='no pictures in'):
    digitize.listed([str(tmp_path / 'bare')], tmp_path, recursive=False)
  with pytest.raises(ValueError, match='both be written as'):
    digitize.listed([str(folder / 'b.PDF'), str(folder)], tmp_path, recursive=False)
  (folder / 'b-p001.png').write_bytes(b'x')
  with pytest.raises(ValueError, match='b-p001; give them other names'):
    digitize.listed([str(folder)], tmp_path, recursive=False)
  (tmp_path / 'bare' / 'a b.png').write_bytes(b'x')
  (tmp_path / 'bare' / 'a_b.png').write_bytes(b'x')
  with pytest.raises(ValueError, match='both be the WFDB record'):
    digitize.run(command_line.parser().parse_args(['digitize', str(tmp_path / 'bare'), '-o', str(tmp_path / 'out'), '--format', 'wfdb']))


@pytest.mark.parametrize(('words', 'reason'), [
  (['--format', 'csv,xls'], 'xls is not one of csv'), (['--jobs', '0'], '--jobs'), (['--timeout', '0'], '--timeout'),
  (['--fs', '9'], '--fs'), (['--corners=1,2,3,4,5,6,7'], 'four points'), (['--corners=1,2,3,4,5,6,x,y'], 'four points'),
])  # fmt: skip
def test_an_option_that_cannot_be_is_refused_by_its_name(words, reason):
  with pytest.raises(ValueError, match=reason):
    digitize.options(parsed('a.png', *words))


@pytest.fixture
def found(monkeypatch):
  """A worker that finds the page of any picture at once and reads flat lines from it that obey Einthoven."""
  from ecgjax.extract import path_decoder

  lattice = lattices.page_lattice()
  monkeypatch.setattr(find_page, 'find_page', lambda image: find_page.Found(lattice, np.ones((45, 57)), '3x4+II', 1.0, 1.0, 'ok', ''))
  rows = np.full((4, FRAME.width_px), FRAME.rows_px(0.5), np.float32)
  for lead, mv in {'III': 0.0, 'aVR': -0.5, 'aVL': 0.25, 'aVF': 0.25}.items():  # I and II are 0.5
    segment = PAGE.scored(lead)
    rows[segment.row, round(FRAME.columns_px(segment.start_s)) : round(FRAME.columns_px(segment.stop_s))] = FRAME.rows_px(mv)
  trace = path_decoder.Trace(rows, np.full_like(rows, 0.3), np.ones_like(rows))
  plain = digitizer.Reader(lambda image, lattice: trace, PAGE, FRAME, {})
  monkeypatch.setattr(digitizer, 'cached', lambda weights, **how: plain)
  return plain


def test_masks_are_written_only_where_they_are_asked_for(tmp_path, found, monkeypatch):
  file = put(tmp_path / 'a.png')
  scores = np.zeros((4, FRAME.height_px, FRAME.width_px, 4), np.float32)
  scores[..., 1] = 1.0
  with_classes = found._replace(classes=lambda image, lattice: scores)
  monkeypatch.setattr(digitizer, 'cached', lambda weights, **how: with_classes)
  done = page_job.page(file, str(tmp_path / 'out'), 0, page_job.Options(masks=True), None)
  assert done.status == 'ok' and str(tmp_path / 'out.mask.png') in done.written
  numbers, times = np.unique(np.asarray(Image.open(tmp_path / 'out.mask.png')), return_counts=True)
  assert numbers.tolist() == [1, pixel_classes.UNREAD] and times[0] > times[1]  # most of the page is looked at
  assert not any(path.endswith('.png') for path in page_job.page(file, str(tmp_path / 'b'), 0, page_job.Options(), None).written)


def test_what_an_earlier_run_left_in_a_folder_is_no_picture_to_be_read(tmp_path):
  for name in ('a.png', 'a.mask.png', 'a.overlay.jpg', 'b.png'):
    put(tmp_path / name)
  assert [file.stem.name for file in digitize.listed([str(tmp_path)], tmp_path / 'out', recursive=False)] == ['a', 'b']


def put(path, pages=1):
  pictures = [Image.fromarray(WHITE[::10, ::10]) for _ in range(pages)]
  pictures[0].save(path, **({'save_all': True, 'append_images': pictures[1:]} if pages > 1 else {}))
  return str(path)


def test_a_page_leaves_its_signals_and_its_facts_and_nothing_is_overwritten_unasked(tmp_path, found):
  file, stem = put(tmp_path / 'a.png'), str(tmp_path / 'a')
  wanted = page_job.Options(formats=('csv', 'wfdb'), overlay=True)
  done = page_job.page(file, stem, 0, wanted, None)
  assert (done.status, done.reasons, done.page, done.pages) == ('ok', (), 1, 1)
  assert sorted(os.path.basename(p) for p in done.written) == ['a.csv', 'a.dat', 'a.hea', 'a.json', 'a.overlay.jpg']
  assert sorted(p.name for p in tmp_path.iterdir()) == ['a.csv', 'a.dat', 'a.hea', 'a.json', 'a.overlay.jpg', 'a.png']
  facts = json.loads((tmp_path / 'a.json').read_text())
  assert facts['source']['file'] == 'a.png' and len(facts['source']['sha256']) == 64 and facts['made_by']['engine'] == 'jax'
  assert facts['made_by']['weights_sha256'] == hashlib.sha256(shipped.located('base').read_bytes()).hexdigest()
  assert facts['made_by']['weights'] == 'base' and facts['made_by']['precision'] == 'float32'
  table = (tmp_path / 'a.csv').read_text().splitlines()
  assert table[0] == 'I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6' and len(table) == 5001
  assert [table[1].split(',')[n] for n in (0, 1, 3)] == ['0.5000', '0.5000', '']
  before = (tmp_path / 'a.csv').stat().st_mtime_ns
  again = page_job.page(file, stem, 0, wanted, None)
  assert again.status == 'fail' and '--overwrite' in again.reasons[0] and (tmp_path / 'a.csv').stat().st_mtime_ns == before
  assert page_job.page(file, stem, 0, wanted._replace(skip_existing=True), None).status == 'skipped'
  assert page_job.page(file, stem, 0, wanted._replace(overwrite=True), None).status == 'ok'
  assert (tmp_path / 'a.csv').stat().st_mtime_ns > before
  (tmp_path / 'a.json').unlink()  # then nothing says that what is left is ours
  assert 'a.csv is there' in page_job.page(file, stem, 0, wanted._replace(skip_existing=True), None).reasons[0]


def test_the_picture_itself_is_never_replaced(tmp_path, found):
  file = put(tmp_path / 'a.png').replace('.png', '.dcm')
  os.rename(tmp_path / 'a.png', file)  # what it is, its bytes say
  done = page_job.page(file, str(tmp_path / 'a'), 0, page_job.Options(formats=('dicom',), overwrite=True), None)
  assert done.status == 'fail' and 'itself would be replaced' in done.reasons[0]


def test_nothing_is_written_where_one_of_the_formats_cannot_be(tmp_path, found):
  file = put(tmp_path / 'a.png')
  done = page_job.page(file, str(tmp_path / 'a'), 0, page_job.Options(formats=('csv', 'dicom'), fs=1025.0), None)
  assert done.status == 'fail' and [p.name for p in tmp_path.iterdir()] == ['a.png']


def test_each_page_of_a_file_has_a_name_and_a_number(tmp_path, found):
  file = put(tmp_path / 'a.tif', pages=2)
  done = [page_job.page(file, str(tmp_path / 'a'), n, page_job.Options(), None) for n in (0, 1)]
  assert [(d.page, d.pages, os.path.basename(d.written[0])) for d in done] == [(1, 2, 'a-p001.csv'), (2, 2, 'a-p002.csv')]


def test_strict_writes_nothing_that_needs_a_review(tmp_path, found, monkeypatch):
  doubtful = find_page.find_page(WHITE)._replace(status='review', reason='hard to see')
  monkeypatch.setattr(find_page, 'find_page', lambda image: doubtful)
  file = put(tmp_path / 'a.png')
  done = page_job.page(file, str(tmp_path / 'a'), 0, page_job.Options(strict=True), None)
  assert done.status == 'fail' and 'hard to see' in done.reasons and not list(tmp_path.glob('*.csv'))
  done = page_job.page(file, str(tmp_path / 'a'), 0, page_job.Options(), None)
  assert done.status == 'review' and done.reasons == ('hard to see',) and list(tmp_path.glob('*.csv'))


def test_whatever_befalls_a_page_is_its_outcome(tmp_path, found, monkeypatch):
  (tmp_path / 'text.png').write_text('no picture')
  outcome = page_job.page(str(tmp_path / 'text.png'), str(tmp_path / 't'), 0, page_job.Options(), None)
  assert 'no picture of a known kind' in outcome.reasons[0]
  file = put(tmp_path / 'a.png')
  faults = ((MemoryError(), 'MemoryError'), (KeyError('x'), "KeyError: 'x'"), (ValueError('x'), 'ValueError: x'))
  for error, reason in ((ECGError('no page'), 'no page'), *faults):

    def broken(image, error=error):
      raise error

    monkeypatch.setattr(find_page, 'find_page', broken)
    done = page_job.page(file, str(tmp_path / 'a'), 0, page_job.Options(), None)
    assert done.status == 'fail' and reason in done.reasons[0] and not list(tmp_path.glob('a.csv'))


def run(*words, stdin=None):
  done = subprocess.run([sys.executable, '-m', 'ecgjax', *map(str, words)], capture_output=True, timeout=200, input=stdin)
  return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_a_batch_of_bad_files_says_why_of_each_and_exits_with_3(tmp_path):
  (tmp_path / 'empty.pdf').write_bytes(b'')
  (tmp_path / 'text.png').write_text('no picture')
  Image.new('RGB', (1, 1)).save(tmp_path / 'dot.png')
  Image.new('RGB', (60_000, 1)).save(tmp_path / 'thread.png')
  code, out, _ = run('digitize', tmp_path, '-o', tmp_path / 'out', '--json', '--engine', 'jax', '--weights', 'small')
  results = {os.path.basename(line['file']): line for line in map(json.loads, out.splitlines())}
  assert code == 3 and {line['status'] for line in results.values()} == {'fail'}
  reasons = {name: line['reasons'][0] for name, line in results.items()}
  assert 'empty' in reasons['empty.pdf'] and 'known kind' in reasons['text.png']
  assert '1 x 1 px' in reasons['dot.png'] and '60000 x 1 px' in reasons['thread.png']
  assert not list((tmp_path / 'out').iterdir())


def test_every_page_of_a_file_on_stdin_is_tried(tmp_path):
  document = pypdfium2.PdfDocument.new()
  for _ in range(2):
    document.new_page(400, 2)  # too flat to be read
  document.save(tmp_path / 'two.pdf')
  words = ('-o', tmp_path / 'out', '--json', '--engine', 'jax', '--weights', 'small')
  code, out, _ = run('digitize', '-', *words, stdin=(tmp_path / 'two.pdf').read_bytes())
  results = [json.loads(line) for line in out.splitlines()]
  assert code == 3 and [(line['page'], line['pages']) for line in results] == [(1, 2), (2, 2)]
  assert all('too few to be read' in line['reasons'][0] for line in results)


def test_wrong_usage_exits_with_2_and_one_line(tmp_path):
  code, out, err = run('digitize', put(tmp_path / 'a.png'), '-o', tmp_path / 'out', '--layout', '6x2')
  assert code == 2 and out == '' and 'these weights read 3x4+II' in err and 'Traceback' not in err
  for words, text in ((['--gain', '0'], 'gain_mm_mv=0'), (['--format', 'edf', '--fs', '333.4'], 'whole number')):
    code, out, err = run('digitize', tmp_path / 'a.png', '-o', tmp_path / 'out', *words)
    assert code == 2 and text in err and 'Traceback' not in err
  assert run('digitize', tmp_path / 'none.png', '-o', tmp_path)[0] == 2


def test_a_page_that_hangs_is_given_up_and_one_that_is_killed_is_reported_and_the_batch_goes_on(tmp_path):
  hang, text = tmp_path / 'hang.png', tmp_path / 'text.png'
  os.mkfifo(hang)  # opening it waits for a writer that never comes
  text.write_text('no picture')
  files = [digitize.File(str(hang), tmp_path / 'h'), digitize.File(str(text), tmp_path / 't')]  # even its pages cannot be counted
  outcomes = [outcome for outcome, _ in digitize.results(files, page_job.Options(weights='small', engine='jax'), jobs=1, limit_s=2.0)]
  assert 'given up after 2 s' in outcomes[0].reasons[0] and 'known kind' in outcomes[1].reasons[0]

  def kill():
    writer = os.open(hang, os.O_WRONLY)  # waits until the child opens it to read
    for child in multiprocessing.active_children():
      os.kill(child.pid or 0, signal.SIGKILL)
    os.close(writer)

  killer = threading.Thread(target=kill)
  killer.start()
  outcomes = [outcome for outcome, _ in digitize.results(files, page_job.Options(weights='small', engine='jax'), jobs=1, limit_s=4.0)]
  killer.join()
  assert 'the process that read it ended' in outcomes[0].reasons[0] and 'known kind' in outcomes[1].reasons[0]


AS_ON_WINDOWS = """
import socket, sys
sys.modules['resource'] = sys.modules['fcntl'] = None
del socket.AF_UNIX
"""


def test_where_a_system_has_neither_limits_nor_locks_pages_are_read_and_an_archive_says_what_it_needs(tmp_path, monkeypatch):
  (tmp_path / 'sitecustomize.py').write_text(AS_ON_WINDOWS)  # which the children import, too
  monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get('PYTHONPATH')])]))
  Image.fromarray(np.full((300, 400, 3), 255, np.uint8)).save(tmp_path / 'small.png')
  code, out, err = run('digitize', tmp_path / 'small.png', '-o', tmp_path / 'out', '--jobs', '1', '--json')
  (page,) = map(json.loads, out.splitlines())
  assert code == 3 and page['status'] == 'fail' and 'too few to be read' in page['reasons'][0], err
  code, _, err = run('archive', tmp_path / 'small.png', tmp_path / 'rows')
  assert code == 2 and 'needs Linux or macOS: this system has no locks' in err and 'Traceback' not in err


def test_the_summary_counts_and_lists_what_is_not_ok():
  outcome = lambda name, status, *reasons: page_job.Outcome(name, 1, 1, status, reasons, {}, (), 2.0)
  some = [outcome('a', 'ok'), outcome('b', 'review', 'hard to see'), outcome('c', 'fail', 'no page'), outcome('d', 'skipped')]
  assert progress.summary(some).splitlines() == [
    'review  b: hard to see', 'fail    c: no page', '4 pages: 1 ok, 1 review, 1 fail, 1 skipped, 2.0 s a page',
  ]  # fmt: skip


def test_help_and_version_load_nothing_heavy():
  code = (
    'import sys; from ecgjax.cli import command_line\n'
    'try: command_line.main(["digitize", "--help"])\n'
    'except SystemExit: print(sorted({"jax", "numpy", "PIL"} & set(sys.modules)))'
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
  assert done.stdout.splitlines()[-1] == '[]' and 'not a medical device' in ' '.join(done.stdout.split())
