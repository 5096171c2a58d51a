"""Recordings to files and back, by libraries that others read them with."""

import concurrent.futures
import csv
import sys
import threading
import time

import edfio
import numpy as np
import pydicom
import pytest
import wfdb
from pyarrow import parquet

from ecgjax.ecg.leads import LEADS
from ecgjax.io import atomic, dicom, formats, waveform_files
from ecgjax.serve import api

FS = 500
RNG = np.random.default_rng(0)
MV = np.round(np.cumsum(RNG.normal(0, 0.02, (10 * FS, 12)), axis=0), 5)
MV[0, 0], MV[1, 0] = 7.1234, -7.1234
for column in range(2, 12):  # leads of a quarter of the page each, one with nothing at all
  quarter = column // 3
  MV[: quarter * 1250, column], MV[(quarter + 1) * 1250 :, column] = np.nan, np.nan
MV[:, 11] = np.nan


def from_csv(path):
  header, *rows = csv.reader(path.read_text().splitlines())
  assert tuple(header) == LEADS
  return np.array([[float(x) if x else np.nan for x in row] for row in rows])


def from_parquet(path):
  table = parquet.read_table(path)
  assert table.schema.metadata[b'fs'] == b'500' and table.column_names == ['time_s', *LEADS]
  np.testing.assert_allclose(table['time_s'].to_numpy(), np.arange(len(MV)) / FS)
  assert table['V6'].null_count == len(MV)  # null, not a nan that a sum would spread
  return np.stack([table[lead].to_numpy(zero_copy_only=False) for lead in LEADS], -1)


def from_wfdb(path):
  record = wfdb.rdrecord(str(path.with_suffix('')))
  assert record.fs == FS and tuple(record.sig_name) == LEADS and set(record.units) == {'mV'}
  return record.p_signal


def from_edf(path):
  file = edfio.read_edf(path)
  assert [s.label for s in file.signals] == [f'ECG {lead}' for lead in LEADS] and {s.sampling_frequency for s in file.signals} == {FS}
  assert {s.physical_dimension for s in file.signals} == {'mV'}
  mv = np.stack([s.data for s in file.signals], -1)
  absent = np.zeros(mv.shape, bool)
  for note in file.annotations:
    lead = LEADS.index(note.text.removeprefix('absent: '))
    absent[round(note.onset * FS) : round((note.onset + note.duration) * FS), lead] = True
  np.testing.assert_array_equal(absent, mv < -32.7)  # the annotations and the samples say the same
  return np.where(absent, np.nan, mv)


def from_dicom(path):
  file = pydicom.dcmread(path)
  assert file.SOPClassUID.name == '12-lead ECG Waveform Storage'
  wave = file.WaveformSequence[0]
  assert wave.SamplingFrequency == FS
  assert [c.ChannelSourceSequence[0].CodeValue for c in wave.ChannelDefinitionSequence][:4] == ['2:1', '2:2', '2:61', '2:62']
  padding = np.frombuffer(wave.WaveformPaddingValue, '<i2')[0]
  uv = file.waveform_array(0)
  return np.where(uv == padding, np.nan, uv / 1000)


FORMATS = {
  '.csv': (waveform_files.write_csv, from_csv), '.parquet': (waveform_files.write_parquet, from_parquet),
  '.hea': (waveform_files.write_wfdb, from_wfdb),
  '.edf': (waveform_files.write_edf, from_edf), '.dcm': (dicom.write_dicom, from_dicom),
}  # fmt: skip


@pytest.mark.parametrize('name', formats.FORMATS)
def test_every_format_of_the_table_is_written_under_its_suffix_and_offered_by_the_local_page(tmp_path, name):
  one = formats.FORMATS[name]
  path = tmp_path / f'a{one.suffix}'
  formats.write(name, path, np.zeros((1000, 12)), fs=500)
  assert path.stat().st_size > 0 and one.refuses(500.0) == ''
  assert f'<button type="button" value="{name}">{one.title}</button>' in api._index()


def test_every_format_of_the_table_is_read_back_here():
  assert {one.suffix for one in formats.FORMATS.values()} == set(FORMATS)


@pytest.mark.parametrize('suffix', FORMATS)
def test_what_is_written_is_read_back_within_a_microvolt_and_absent_samples_stay_absent(tmp_path, suffix):
  write, read = FORMATS[suffix]
  write(tmp_path / f'page{suffix}', MV, fs=FS)
  back = read(tmp_path / f'page{suffix}')
  np.testing.assert_array_equal(np.isnan(back), np.isnan(MV))
  assert np.nanmax(np.abs(back - MV)) <= 0.00051  # half a step
  assert not [p for p in tmp_path.iterdir() if p.name[0] == '.'], 'something was left beside'


@pytest.mark.parametrize('suffix', ['.hea', '.edf', '.dcm'])
def test_what_16_bits_cannot_hold_is_refused_and_leaves_nothing(tmp_path, suffix):
  with pytest.raises(ValueError, match='40.0 mV is beyond'):
    FORMATS[suffix][0](tmp_path / f'page{suffix}', np.full((FS, 12), 40.0), fs=FS)
  assert not list(tmp_path.iterdir())


def test_edf_refuses_what_its_records_cannot_hold(tmp_path):
  with pytest.raises(ValueError, match='whole seconds'):
    waveform_files.write_edf(tmp_path / 'page.edf', MV[:700], fs=FS)


def test_a_name_that_wfdb_does_not_allow_is_refused_with_one_that_it_does(tmp_path):
  with pytest.raises(ValueError, match='try a_page_1.hea'):
    waveform_files.write_wfdb(tmp_path / 'a page.1.hea', MV, fs=FS)


def test_a_rate_beyond_what_a_dicom_ecg_may_have_is_refused_and_an_odd_one_is_written_short_enough(tmp_path):
  with pytest.raises(ValueError, match='200 to 1000 Hz'):
    dicom.write_dicom(tmp_path / 'page.dcm', MV[:2050], fs=1025)
  dicom.write_dicom(tmp_path / 'page.dcm', MV, fs=1000 / 3)
  assert float(pydicom.dcmread(tmp_path / 'page.dcm').WaveformSequence[0].SamplingFrequency) == pytest.approx(1000 / 3, abs=1e-6)


def test_a_writer_that_fails_leaves_the_old_file_whole(tmp_path):
  path = tmp_path / 'page.csv'
  path.write_text('old')

  def broken(part):
    part.write_text('half')
    raise OSError('disk full')

  with pytest.raises(OSError, match='disk full'):
    atomic.whole(path, broken)
  assert path.read_text() == 'old' and len(list(tmp_path.iterdir())) == 1


def test_a_thread_writes_dicom_while_another_is_still_importing_its_library(tmp_path, monkeypatch):
  inside = threading.Event()

  class Slowly:
    def find_spec(self, name, *_):
      if name == 'pydicom.filewriter':  # which the package imports after pydicom.dataset, and save_as needs
        inside.set()
        time.sleep(0.5)

  for name in [name for name in sys.modules if name.split('.')[0] == 'pydicom']:
    monkeypatch.delitem(sys.modules, name)
  monkeypatch.setattr(sys, 'meta_path', [Slowly(), *sys.meta_path])
  with concurrent.futures.ThreadPoolExecutor() as threads:
    first = threads.submit(dicom.write_dicom, tmp_path / 'a.dcm', MV, fs=FS)
    assert inside.wait(timeout=30)
    dicom.write_dicom(tmp_path / 'b.dcm', MV, fs=FS)
    first.result()
  assert {path.name for path in tmp_path.iterdir()} == {'a.dcm', 'b.dcm'}
