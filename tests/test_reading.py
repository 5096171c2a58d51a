"""From a picture to leads, tables and a submission, with a reader that knows the truth in place of the network."""

import argparse
import csv
import io
import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from ecgjax import chart, decode, evaluate, fuse, geometry, layout, log, metrics, paper, plot, predict, reading, rectify, truth

FS = 250
PAGE = layout.make()
FRAME = geometry.frame(PAGE, rate_hz=500, height_px=640)
WHITE = np.full((paper.HEIGHT_PX, paper.WIDTH_PX, 3), 255, np.uint8)
TIMES = np.arange(10 * FS) / FS
MV = np.stack([np.sin(2 * np.pi * (1 + 0.1 * n) * TIMES + n) for n in range(12)])
MV[:6] = [one * MV[0] + two * MV[1] for one, two in fuse.LIMBS.values()]  # as bodies have it


def reader(hidden=()):
  """A Reader that finds MV on any page, but for the rows named in `hidden`."""
  mv, printed = truth.at(jnp.asarray(MV, jnp.float32), FRAME.times_s(), layout=PAGE, rate_hz=FS)
  visible = jnp.asarray(printed, jnp.float32).at[jnp.array(hidden, int)].set(0.0)
  trace = decode.Trace(FRAME.rows_px(mv), jnp.full(mv.shape, 0.3), visible)
  return reading.Reader(lambda image, lattice: trace, PAGE, FRAME, {'model': {}})


@pytest.fixture(autouse=True)
def a_page_is_found(monkeypatch):
  """White pages have neither grid nor landmarks; that they are found at all is taken for granted here (test_rectify)."""
  lattice = geometry.page_lattice()
  found = rectify.Found(lattice, np.ones(lattice.shape[:2]), '3x4+II', 1.0, 1.0, 'ok', '')
  monkeypatch.setattr(rectify, 'rectify', lambda image: found)


@pytest.fixture
def runs():
  """Lead -> its printed run."""
  segments = {s.lead: s for s in (PAGE.scored(lead) for lead in layout.LEADS)}
  cut = {lead: slice(round(s.start_s * FS), round(s.stop_s * FS)) for lead, s in segments.items()}
  return {lead: MV[i, cut[lead]] for i, lead in enumerate(layout.LEADS)}


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
      rows.writerow(layout.LEADS)
      for i in range(10 * FS):
        inside = [round(PAGE.scored(lead).start_s * FS) <= i < round(PAGE.scored(lead).stop_s * FS) for lead in layout.LEADS]
        rows.writerow([f'{mv[i]:.6f}' if shown else '' for mv, shown in zip(MV, inside, strict=True)])
  for record in ('x', 'y', 'z'):
    test += [f'{record},{lead},{FS},{len(run)}' for lead, run in runs.items()]
  Image.fromarray(WHITE).save(tmp_path / 'test/x.png', compress_level=1)
  (tmp_path / 'test/y.png').write_bytes(b'\x89PNG\r\n\x1a\n and no more')  # z has no picture at all
  (tmp_path / 'train.csv').write_text('\n'.join(train))
  (tmp_path / 'test.csv').write_text('\n'.join(test))
  return tmp_path


def test_what_is_on_the_page_comes_out_as_leads(runs):
  found = reading.digitize(WHITE, reader=reader(), fs=FS)
  assert metrics.reference_ratio(runs, found.leads, fs=FS, cap=metrics.CAP_OPEN) > 1e4
  # a column may lie after a lead's last sample, where nothing is printed
  assert found.status == 'ok' and not found.warnings and min(found.quality.values()) > 0.999
  assert all(np.median(found.std[lead]) == pytest.approx(0.3 / 78.740, rel=1e-3) for lead in layout.LEADS[6:])
  assert all(np.median(found.std[lead]) < 0.29 / 78.740 for lead in layout.LEADS[:6])  # the others tell of them, too


def test_a_lead_that_was_not_seen_is_absent_and_asks_for_a_review():
  found = reading.digitize(WHITE, reader=reader(hidden=(3,)), fs=FS)
  assert np.isnan(found.leads['II']).all() and np.isfinite(found.leads['V5']).all()
  assert found.status == 'review' and found.warnings == ('uncertain: quality 0.00 of II',) and found.quality['II'] == 0
  with pytest.raises(ValueError, match='no trace was seen'):
    reading.digitize(WHITE, reader=reader(hidden=(0, 1, 2, 3)), fs=FS)


def test_what_is_left_of_a_torn_page_is_read():
  found = reading.digitize(WHITE, reader=reader(hidden=(0, 1, 3)), fs=FS)
  seen = [lead for lead in layout.LEADS if found.quality[lead]]
  assert seen == ['III', 'aVF', 'V3', 'V6'] and found.status == 'review' and all(np.isfinite(found.leads[lead]).all() for lead in seen)


@pytest.mark.parametrize(('db', 'status'), [(20, 'ok'), (6, 'review'), (-3, 'fail')])
def test_a_page_is_ok_for_review_or_not_read_by_what_is_expected_of_its_errors(db, status):
  trace = reader().trace(WHITE, geometry.page_lattice())
  vague = trace._replace(std_px=trace.std_px * 0 + 10 ** (-db / 20) * np.sqrt(0.5) * 78.74)  # MV's chest leads are sines of 1 mV
  read = lambda: reading.digitize(WHITE, reader=reader()._replace(trace=lambda image, lattice: vague), fs=FS)
  if status == 'fail':
    with pytest.raises(ValueError, match='too little of it can be read: the quality of its leads is 0.'):
      read()
  else:
    found = read()
    assert found.status == status and found.quality['V1'] == pytest.approx(1 / (1 + 10 ** (-db / 10)), abs=0.02)


CUT = 'V4 may be cut off: beyond 4.1 mV nothing is read'


@pytest.mark.parametrize(('peak_mv', 'warnings'), [(3.7, ()), (-3.7, ()), (3.9, (CUT,)), (-3.9, (CUT,))])
def test_a_trace_that_nears_the_edge_of_what_is_read_asks_for_a_review(peak_mv, warnings):
  column = round(FRAME.columns_px(PAGE.scored('V4').start_s + 1.0))
  trace = reader().trace(WHITE, geometry.page_lattice())
  rows_px = trace.rows_px.at[0, column].set(FRAME.rows_px(peak_mv)).at[1, 0].set(1.0)  # before the first lead nothing counts
  found = reading.digitize(WHITE, reader=reader()._replace(trace=lambda image, lattice: trace._replace(rows_px=rows_px)), fs=FS)
  assert found.warnings == warnings and found.status == ('review' if warnings else 'ok')


def page_of_pulses(monkeypatch, pulse_mv):
  found = rectify.rectify(WHITE)._replace(pulse_mv=pulse_mv)  # of the fixture above
  monkeypatch.setattr(rectify, 'rectify', lambda image: found)


@pytest.mark.parametrize(('pulse_mv', 'given', 'gain', 'warning'), [
  (1.01, None, 10, ''), (float('nan'), None, 10, ''), (0.5, None, 5, 'read with a gain of 5'), (1.97, None, 20, 'read with a gain of 20'),
  (0.75, None, 10, 'gain is not 10'), (0.5, 5.0, 5, ''), (1.0, 5.0, 5, 'gain is not 5'), (float('nan'), 20.0, 20, ''),
])  # fmt: skip
def test_the_gain_that_pulses_or_a_person_tell_scales_every_sample(monkeypatch, pulse_mv, given, gain, warning):
  plain = reading.digitize(WHITE, reader=reader(), fs=FS)
  page_of_pulses(monkeypatch, pulse_mv)
  found = reading.digitize(WHITE, reader=reader(), fs=FS, gain_mm_mv=given)
  assert found.gain_mm_mv == gain and bool(found.warnings) == bool(warning) and warning in ''.join(found.warnings)
  for lead in layout.LEADS:
    np.testing.assert_allclose(found.leads[lead], plain.leads[lead] * 10 / gain, rtol=1e-12)
    np.testing.assert_allclose(found.std[lead], plain.std[lead] * 10 / gain, rtol=1e-12)


def test_at_50_mm_a_second_the_same_page_shows_half_the_seconds():
  slow = reading.digitize(WHITE, reader=reader(), fs=FS)
  fast = reading.digitize(WHITE, reader=reader(), fs=2 * FS, speed_mm_s=50.0)
  assert (slow.seconds, fast.seconds) == (10, 5) and fast.start_s['V1'] == 2.5
  for lead in layout.LEADS:  # the same samples of the same columns, said to be half as long apart
    np.testing.assert_allclose(fast.leads[lead], slow.leads[lead][: len(fast.leads[lead])], atol=1e-9)
    assert abs(len(fast.leads[lead]) - len(slow.leads[lead])) <= 1


def test_the_table_holds_each_lead_where_it_was_printed_and_nothing_elsewhere():
  found = reading.digitize(WHITE, reader=reader(hidden=(3,)), fs=FS)  # the row of lead II
  table = found.table()
  assert table.shape == (10 * FS, 12) and np.isnan(table[:, layout.LEADS.index('II')]).all()
  for column, lead in zip(table.T, layout.LEADS, strict=True):
    if lead != 'II':
      first = int(PAGE.scored(lead).start_s * FS)
      np.testing.assert_array_equal(np.flatnonzero(~np.isnan(column)), first + np.arange(int(2.5 * FS)))
      np.testing.assert_allclose(column[first + 5 : first + 600], MV[layout.LEADS.index(lead), first + 5 : first + 600], atol=0.01)
  frame = found.to_dataframe()
  assert list(frame.columns) == list(layout.LEADS) and frame.index[1] == 1 / FS and frame['V6'].count() == 625


def test_a_recording_is_saved_by_its_suffix_and_says_what_it_can_be_saved_as(tmp_path, monkeypatch):
  found = reading.digitize(WHITE, reader=reader(), fs=FS)
  assert found.save(tmp_path / 'a.csv').read_text().startswith('I,II,III')
  assert found.to_wfdb(tmp_path / 'a.hea').is_file() and (tmp_path / 'a.dat').is_file()
  with pytest.raises(ValueError, match='choose a suffix of .csv'):
    found.save(tmp_path / 'a.xls')
  monkeypatch.setitem(sys.modules, 'edfio', None)
  with pytest.raises(ImportError, match=r"edf needs edfio: pip install 'ecgjax\[files\]'"):
    found.save(tmp_path / 'a.edf')
  facts = json.loads(json.dumps(found.facts(), allow_nan=False))
  assert facts['status'] == 'ok' and np.shape(facts['lattice_px']) == (45, 57, 2) and len(facts['std_mv']['II']) == 10 * FS


def test_the_overlay_lies_where_the_page_was_printed(printed):
  mv = np.repeat(MV, 2, axis=1).astype(np.float32)  # 500 Hz, in steps: what is drawn must be what is laid over it
  page = printed(0, mv)
  leads = {lead: mv[n, round(s.start_s * 500) : round(s.stop_s * 500)] for n, lead in enumerate(layout.LEADS) for s in [PAGE.scored(lead)]}
  std = {lead: np.full(len(v), 0.01) for lead, v in leads.items()}
  shown = chart.on_picture(page, leads, std, fs=500, page=PAGE, lattice=geometry.page_lattice()).astype(int)
  drawn = (shown[..., 2] - shown[..., 0]) > 150
  ink = ndimage.binary_dilation(page.max(-1) < 120, iterations=2)
  assert drawn.sum() > 10_000 and (drawn & ink).sum() > 0.99 * drawn.sum()


def test_the_chart_holds_every_lead_of_the_layout(tmp_path):
  figure = reading.digitize(WHITE, reader=reader(), fs=FS).plot()
  assert [text.get_text() for text in figure.axes[0].texts][: len(PAGE.segments)] == [s.lead for s in PAGE.segments]
  lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 2]
  assert len(lines) == len(PAGE.segments) and all(np.isfinite(line.get_ydata()).all() for line in lines)


def test_a_page_that_is_not_found_is_not_read_and_one_that_is_hard_to_see_is_for_review(monkeypatch):
  lattice = geometry.page_lattice()
  outcome = lambda status, reason: rectify.Found(lattice, np.ones(lattice.shape[:2]), '3x4+II', 0.5, 1.0, status, reason)
  monkeypatch.setattr(rectify, 'rectify', lambda image: outcome('fail', 'no page was found'))
  with pytest.raises(ValueError, match='no page was found'):
    reading.digitize(WHITE, reader=reader())
  monkeypatch.setattr(rectify, 'rectify', lambda image: outcome('review', 'hard to see'))
  found = reading.digitize(WHITE, reader=reader())
  assert found.status == 'review' and found.warnings == ('hard to see',)


def options(data_dir, **more):
  base = {'data': str(data_dir), 'weights': 'w', 'variant': None, 'pictures': None, 'json': None, 'overwrite': False,
          'true_lattice': False, 'signals': '', 'pages': 2}
  return argparse.Namespace(**{**base, **more})


def test_predict_goes_on_past_bad_pictures_and_lists_them(data_dir, tmp_path, monkeypatch, capsys, runs):
  monkeypatch.setattr(reading, 'reader', lambda path, engine='auto': reader())
  out = tmp_path / 'submission.csv'
  assert predict.run(options(data_dir, out=out)) == 1
  printed = capsys.readouterr()
  assert '1 of 3 records read' in printed.out
  assert 'y: not read' in printed.err and 'z: not read, zeros written: ValueError: it has no image' in printed.err
  rows = list(csv.DictReader(out.read_text().splitlines()))
  assert len(rows) == 3 * sum(len(run) for run in runs.values())
  values = {row['id']: float(row['value']) for row in rows}
  assert values['y_0_V1'] == 0 and values['x_7_V1'] == pytest.approx(runs['V1'][7], abs=0.02)
  with pytest.raises(ValueError, match='exists; choose another --out or add --overwrite'):
    predict.run(options(data_dir, out=out))
  with pytest.raises(ValueError, match='no folder .*nowhere for --out'):
    predict.run(options(data_dir, out=tmp_path / 'nowhere/s.csv'))


def test_predict_says_which_leads_it_filled_with_zeros(data_dir, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(reading, 'reader', lambda path, engine='auto': reader(hidden=(3,)))
  assert predict.run(options(data_dir, out=tmp_path / 's.csv')) == 1
  assert 'x: zeros for II, of which nothing was seen' in capsys.readouterr().err


def test_evaluate_counts_what_it_cannot_read_and_lists_what_it_cannot_score(data_dir, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(reading, 'reader', lambda path, engine='auto': reader())
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
  monkeypatch.setattr(reading, 'reader', lambda path, engine='auto': reader())
  with pytest.raises(ValueError, match='holds no picture of the variants asked for'):
    evaluate.run(options(data_dir, variant=['0003']))


def test_the_page_score_is_the_metrics_own(data_dir, runs):
  (job, _) = evaluate.folder_jobs(str(data_dir), wanted=['0001'])
  page = evaluate.evaluate_page(job, reader=reader())
  assert page.report.ratio_open == pytest.approx(metrics.reference_ratio(runs, reading.digitize(
    WHITE, reader=reader(), fs=FS).leads, fs=FS, cap=metrics.CAP_OPEN), rel=1e-3)  # fmt: skip


def test_a_page_whose_lattice_is_known_is_read_along_it_too_and_the_table_shows_the_difference(data_dir, monkeypatch):
  """A page that is not found scores 10 log10 of next to nothing; along its true lattice it reaches the cap."""
  known = geometry.page_lattice()
  job = evaluate.folder_jobs(str(data_dir), wanted=['0001'])[0]._replace(picture=lambda: (WHITE, known))
  found = rectify.rectify(WHITE)
  monkeypatch.setattr(rectify, 'rectify', lambda image: found._replace(status='fail', reason='not found'))
  page = evaluate.evaluate_page(job, reader=reader())
  assert page.status == 'fail' and page.true_lattice is not None and page.true_lattice.ratio_open > 1e4
  cost = 10 * np.log10(page.true_lattice.ratio / page.report.ratio)
  titles, numbers = (text.split() for text in evaluate.table([page]).replace(' dB', '_dB').replace('p95 px', 'p95_px').splitlines())
  assert titles[-5] == 'lost_dB' and float(numbers[-5]) == pytest.approx(cost, abs=0.01)
  assert evaluate.evaluate_page(job, reader=reader(), true_lattice=True).true_lattice is None


def test_our_png_is_what_pillow_reads():
  image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
  np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(log.png(image)))), image)
  with pytest.raises(ValueError, match=r'float64 \(5, 7, 3\); it must be uint8'):
    log.png(image.astype(float))


def test_an_overlay_draws_what_was_seen_and_nothing_else():
  rows = np.full((1, 20), 8.5)
  rows[0, 10:] = np.nan
  drawn = plot.overlay(np.ones((1, 32, 20, 3)), rows, np.full((1, 20), 0.1), step=1)
  blue = (drawn == plot.READ_RGB).all(-1)
  assert blue[8, :9].all() and not blue[:, 10:].any() and not blue[20:].any()


def test_calibration_states_the_error_that_was_measured_between_its_deviations_by_logarithm():
  table = {'std_mv': [0.015, 0.03, 0.06], 'off_mv': [0.0025, 0.01, 0.08]}
  got = reading.calibrated(np.array([0.01, 0.02, 0.04, 0.09]), table)
  share = np.log2(4 / 3)  # 2 lies there between 1.5 and 3, 4 between 3 and 6
  np.testing.assert_allclose(got, [0.0025, 0.0025 * 4**share, 0.01 * 8**share, 0.08])


def test_the_shipped_reader_states_measured_errors():
  table = reading.reader().meta['calibration']
  assert len(table['std_mv']) == len(table['off_mv']) > 5 and (np.diff(table['std_mv']) > 0).all() and (np.diff(table['off_mv']) >= 0).all()


def test_a_reader_with_a_calibration_reads_the_same_leads_and_states_its_errors():
  plain = reader()
  table = {'std_mv': [1e-4, 1.0], 'off_mv': [0.007, 0.007]}
  told = reading.digitize(WHITE, reader=plain._replace(meta={'calibration': table}))
  for lead, mv in reading.digitize(WHITE, reader=plain).leads.items():
    np.testing.assert_array_equal(told.leads[lead], mv)
    np.testing.assert_allclose(told.std[lead], 0.007)


def test_the_package_offers_its_verb_and_nothing_that_it_has_not():
  import ecgjax

  assert ecgjax.digitize is reading.digitize and ecgjax.reader is reading.reader and ecgjax.Recording.__module__ == 'ecgjax.recording'
  with pytest.raises(AttributeError, match='digitise'):
    ecgjax.digitise  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_a_path_is_read_as_its_pixels_are(tmp_path):
  Image.fromarray(WHITE).save(tmp_path / 'page.png')
  by_path, by_pixels = (reading.digitize(what, reader=reader(), fs=FS) for what in (str(tmp_path / 'page.png'), WHITE))
  np.testing.assert_array_equal(by_path.leads['V5'], by_pixels.leads['V5'])
