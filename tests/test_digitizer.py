"""From a picture to leads, with a reader that knows the truth in place of the network."""

import io
import json
import sys

import numpy as np
import pytest
from known import FRAME, FS, MV, PAGE, WHITE, reader
from PIL import Image
from scipy import ndimage

from ecgjax.competition import scoring
from ecgjax.ecg.leads import LEADS
from ecgjax.extract import charts, digitizer, resample, strip_overlay
from ecgjax.geometry import lattices
from ecgjax.io import images
from ecgjax.locate import find_page

pytestmark = pytest.mark.usefixtures('a_page_is_found')


def test_what_is_on_the_page_comes_out_as_leads(runs):
  found = digitizer.digitize(WHITE, reader=reader(), fs=FS)
  assert scoring.reference_ratio(runs, found.leads, fs=FS, cap=scoring.CAP_OPEN) > 1e4
  # a column may lie after a lead's last sample, where nothing is printed
  assert found.status == 'ok' and not found.warnings and min(found.quality.values()) > 0.999
  assert all(np.median(found.std[lead]) == pytest.approx(0.3 / 78.740, rel=1e-3) for lead in LEADS[6:])
  assert all(np.median(found.std[lead]) < 0.29 / 78.740 for lead in LEADS[:6])  # the others tell of them, too


def test_a_lead_that_was_not_seen_is_absent_and_asks_for_a_review():
  found = digitizer.digitize(WHITE, reader=reader(hidden=(3,)), fs=FS)
  assert np.isnan(found.leads['II']).all() and np.isfinite(found.leads['V5']).all()
  assert found.status == 'review' and found.warnings == ('uncertain: quality 0.00 of II',) and found.quality['II'] == 0
  with pytest.raises(ValueError, match='no trace was seen'):
    digitizer.digitize(WHITE, reader=reader(hidden=(0, 1, 2, 3)), fs=FS)


def test_more_than_a_lead_shows_is_refused_in_the_words_that_were_asked():
  with pytest.raises(ValueError, match='lead I: 700 samples at 500 Hz asked for; layout 3x4.II at 50 mm/s shows 1.25 s'):
    digitizer.digitize(WHITE, reader=reader(), fs=500, counts=dict.fromkeys(LEADS, 700), speed_mm_s=50)


def test_programs_for_rates_that_people_make_up_are_kept_within_bounds():
  bound = digitizer._assembler.cache_info().maxsize
  for n in range(bound + 5):
    digitizer._assembler((), PAGE, None, 500.0 + n, ())
  assert digitizer._assembler.cache_info().currsize == bound == digitizer.PROGRAMS
  assert resample.kernel.cache_info().maxsize is not None


def test_what_is_left_of_a_torn_page_is_read():
  found = digitizer.digitize(WHITE, reader=reader(hidden=(0, 1, 3)), fs=FS)
  seen = [lead for lead in LEADS if found.quality[lead]]
  assert seen == ['III', 'aVF', 'V3', 'V6'] and found.status == 'review' and all(np.isfinite(found.leads[lead]).all() for lead in seen)


@pytest.mark.parametrize(('db', 'status'), [(20, 'ok'), (6, 'review'), (-3, 'fail')])
def test_a_page_is_ok_for_review_or_not_read_by_what_is_expected_of_its_errors(db, status):
  trace = reader().trace(WHITE, lattices.page_lattice())
  vague = trace._replace(std_px=trace.std_px * 0 + 10 ** (-db / 20) * np.sqrt(0.5) * 78.74)  # MV's chest leads are sines of 1 mV
  read = lambda: digitizer.digitize(WHITE, reader=reader()._replace(trace=lambda image, lattice: vague), fs=FS)
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
  trace = reader().trace(WHITE, lattices.page_lattice())
  rows_px = trace.rows_px.at[0, column].set(FRAME.rows_px(peak_mv)).at[1, 0].set(1.0)  # before the first lead nothing counts
  found = digitizer.digitize(WHITE, reader=reader()._replace(trace=lambda image, lattice: trace._replace(rows_px=rows_px)), fs=FS)
  assert found.warnings == warnings and found.status == ('review' if warnings else 'ok')


def page_of_pulses(monkeypatch, pulse_mv):
  found = find_page.find_page(WHITE)._replace(pulse_mv=pulse_mv)  # of the fixture above
  monkeypatch.setattr(find_page, 'find_page', lambda image: found)


@pytest.mark.parametrize(('pulse_mv', 'given', 'gain', 'warning'), [
  (1.01, None, 10, ''), (float('nan'), None, 10, ''), (0.5, None, 5, 'read with a gain of 5'), (1.97, None, 20, 'read with a gain of 20'),
  (0.75, None, 10, 'gain is not 10'), (0.5, 5.0, 5, ''), (1.0, 5.0, 5, 'gain is not 5'), (float('nan'), 20.0, 20, ''),
])  # fmt: skip
def test_the_gain_that_pulses_or_a_person_tell_scales_every_sample(monkeypatch, pulse_mv, given, gain, warning):
  plain = digitizer.digitize(WHITE, reader=reader(), fs=FS)
  page_of_pulses(monkeypatch, pulse_mv)
  found = digitizer.digitize(WHITE, reader=reader(), fs=FS, gain_mm_mv=given)
  assert found.gain_mm_mv == gain and bool(found.warnings) == bool(warning) and warning in ''.join(found.warnings)
  for lead in LEADS:
    np.testing.assert_allclose(found.leads[lead], plain.leads[lead] * 10 / gain, rtol=1e-12)
    np.testing.assert_allclose(found.std[lead], plain.std[lead] * 10 / gain, rtol=1e-12)


def test_at_50_mm_a_second_the_same_page_shows_half_the_seconds():
  slow = digitizer.digitize(WHITE, reader=reader(), fs=FS)
  fast = digitizer.digitize(WHITE, reader=reader(), fs=2 * FS, speed_mm_s=50.0)
  assert (slow.seconds, fast.seconds) == (10, 5) and fast.start_s['V1'] == 2.5
  for lead in LEADS:  # the same samples of the same columns, said to be half as long apart
    np.testing.assert_allclose(fast.leads[lead], slow.leads[lead][: len(fast.leads[lead])], atol=1e-9)
    assert abs(len(fast.leads[lead]) - len(slow.leads[lead])) <= 1


def test_the_table_holds_each_lead_where_it_was_printed_and_nothing_elsewhere():
  found = digitizer.digitize(WHITE, reader=reader(hidden=(3,)), fs=FS)  # the row of lead II
  table = found.table()
  assert table.shape == (10 * FS, 12) and np.isnan(table[:, LEADS.index('II')]).all()
  for column, lead in zip(table.T, LEADS, strict=True):
    if lead != 'II':
      first = int(PAGE.scored(lead).start_s * FS)
      np.testing.assert_array_equal(np.flatnonzero(~np.isnan(column)), first + np.arange(int(2.5 * FS)))
      np.testing.assert_allclose(column[first + 5 : first + 600], MV[LEADS.index(lead), first + 5 : first + 600], atol=0.01)
  frame = found.to_dataframe()
  assert list(frame.columns) == list(LEADS) and frame.index[1] == 1 / FS and frame['V6'].count() == 625


def test_a_recording_is_saved_by_its_suffix_and_says_what_it_can_be_saved_as(tmp_path, monkeypatch):
  found = digitizer.digitize(WHITE, reader=reader(), fs=FS)
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
  leads = {lead: mv[n, round(s.start_s * 500) : round(s.stop_s * 500)] for n, lead in enumerate(LEADS) for s in [PAGE.scored(lead)]}
  std = {lead: np.full(len(v), 0.01) for lead, v in leads.items()}
  shown = charts.overlay(page, leads, std, fs=500, layout=PAGE, lattice=lattices.page_lattice()).astype(int)
  drawn = (shown[..., 2] - shown[..., 0]) > 150
  ink = ndimage.binary_dilation(page.max(-1) < 120, iterations=2)
  assert drawn.sum() > 10_000 and (drawn & ink).sum() > 0.99 * drawn.sum()


def test_the_chart_holds_every_lead_of_the_layout(tmp_path):
  figure = digitizer.digitize(WHITE, reader=reader(), fs=FS).plot()
  assert [text.get_text() for text in figure.axes[0].texts][: len(PAGE.segments)] == [s.lead for s in PAGE.segments]
  lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 2]
  assert len(lines) == len(PAGE.segments) and all(np.isfinite(line.get_ydata()).all() for line in lines)


def test_a_page_that_is_not_found_is_not_read_and_one_that_is_hard_to_see_is_for_review(monkeypatch):
  lattice = lattices.page_lattice()
  outcome = lambda status, reason: find_page.Found(lattice, np.ones(lattice.shape[:2]), '3x4+II', 0.5, 1.0, status, reason)
  monkeypatch.setattr(find_page, 'find_page', lambda image: outcome('fail', 'no page was found'))
  with pytest.raises(ValueError, match='no page was found'):
    digitizer.digitize(WHITE, reader=reader())
  monkeypatch.setattr(find_page, 'find_page', lambda image: outcome('review', 'hard to see'))
  found = digitizer.digitize(WHITE, reader=reader())
  assert found.status == 'review' and found.warnings == ('hard to see',)


def test_our_png_is_what_pillow_reads():
  image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
  np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(images.png(image)))), image)
  with pytest.raises(ValueError, match=r'float64 \(5, 7, 3\); it must be uint8'):
    images.png(image.astype(float))


def test_an_overlay_draws_what_was_seen_and_nothing_else():
  rows = np.full((1, 20), 8.5)
  rows[0, 10:] = np.nan
  drawn = strip_overlay.overlay(np.ones((1, 32, 20, 3)), rows, np.full((1, 20), 0.1), step=1)
  blue = (drawn == strip_overlay.READ_RGB).all(-1)
  assert blue[8, :9].all() and not blue[:, 10:].any() and not blue[20:].any()


def test_calibration_states_the_error_that_was_measured_between_its_deviations_by_logarithm():
  table = {'std_mv': [0.015, 0.03, 0.06], 'off_mv': [0.0025, 0.01, 0.08]}
  got = digitizer.calibrated(np.array([0.01, 0.02, 0.04, 0.09]), table)
  share = np.log2(4 / 3)  # 2 lies there between 1.5 and 3, 4 between 3 and 6
  np.testing.assert_allclose(got, [0.0025, 0.0025 * 4**share, 0.01 * 8**share, 0.08])


def test_the_shipped_reader_states_measured_errors():
  table = digitizer.load_reader().meta['calibration']
  assert len(table['std_mv']) == len(table['off_mv']) > 5 and (np.diff(table['std_mv']) > 0).all() and (np.diff(table['off_mv']) >= 0).all()


def test_a_reader_with_a_calibration_reads_the_same_leads_and_states_its_errors():
  plain = reader()
  table = {'std_mv': [1e-4, 1.0], 'off_mv': [0.007, 0.007]}
  calibrated = digitizer.digitize(WHITE, reader=plain._replace(meta={'calibration': table}))
  for lead, mv in digitizer.digitize(WHITE, reader=plain).leads.items():
    np.testing.assert_array_equal(calibrated.leads[lead], mv)
    np.testing.assert_allclose(calibrated.std[lead], 0.007)


def test_the_package_offers_its_verb_and_nothing_that_it_has_not():
  import ecgjax

  assert ecgjax.digitize is digitizer.digitize and ecgjax.load_reader is digitizer.load_reader
  assert ecgjax.Recording.__module__ == 'ecgjax.extract.recording'
  with pytest.raises(AttributeError, match='digitise'):
    ecgjax.digitise  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_a_path_is_read_as_its_pixels_are(tmp_path):
  Image.fromarray(WHITE).save(tmp_path / 'page.png')
  by_path, by_pixels = (digitizer.digitize(image, reader=reader(), fs=FS) for image in (str(tmp_path / 'page.png'), WHITE))
  np.testing.assert_array_equal(by_path.leads['V5'], by_pixels.leads['V5'])
