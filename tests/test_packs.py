"""Packs and WFDB folders: what comes in is what was recorded, and bad files say why."""

import io
import lzma
import sys

import numpy as np
import pytest

from ecgjax.ecg import packs
from ecgjax.ecg.leads import LEADS

NAMES = ['avr', 'i', 'II', 'v1', 'V2', 'V3', 'V4', 'V5', 'V6']


def write_pack(path, array):
  with lzma.open(path, 'wb', preset=0) as file:
    np.save(file, array)
  return path


def waves(rate_hz, seconds=10.0):
  """(9, T) mV, a slow sine of its own in every lead of NAMES."""
  t = np.arange(round(rate_hz * seconds)) / rate_hz
  return np.stack([(0.3 + 0.1 * i) * np.sin(2 * np.pi * (1.0 + 0.5 * i) * t + i) for i in range(len(NAMES))])


def write_record(folder, name, *, rate_hz=500, seconds=10.0, leads=NAMES, unit='mV', per_mv=1.0, scale=1.0, gap=False):
  wfdb = pytest.importorskip('wfdb')
  mv = waves(rate_hz, seconds)[: len(leads)] * scale
  if gap:
    mv[3, 100:200] = np.nan
  folder.mkdir(parents=True, exist_ok=True)
  signal = np.ascontiguousarray(mv.T) * per_mv
  gain = [1000.0 / per_mv if scale == 1.0 else 10.0] * len(leads)
  wfdb.wrsamp(
    name,
    fs=rate_hz,
    units=[unit] * len(leads),
    sig_name=list(leads),
    p_signal=signal,
    fmt=['16'] * len(leads),
    adc_gain=gain,
    baseline=[0] * len(leads),
    write_dir=str(folder),
  )


def expected_units(rate_hz=500):
  return waves(rate_hz)[1:] / 0.005


def test_a_pack_is_the_running_sum_of_the_file(shared):
  path = shared / 'data/ecg/val.npy.xz'
  with lzma.open(path) as file:
    expected = np.cumsum(np.load(io.BytesIO(file.read())), axis=-1, dtype=np.int16)
  pack = packs.load_pack(path)
  assert pack.dtype == np.int16 and pack.shape == (273, 8, 5000)
  np.testing.assert_array_equal(pack, expected)


def test_a_step_in_the_file_lasts_to_the_end_of_its_own_record(tmp_path):
  steps = np.zeros((2, 8, 5000), np.int16)
  steps[0, 3, 10], steps[1, 7, 4999] = 200, -7
  pack = packs.load_pack(write_pack(tmp_path / 'a.npy.xz', steps))
  assert pack[0, 3, 9] == 0 and (pack[0, 3, 10:] == 200).all() and pack[1, 7, 4999] == -7
  assert np.count_nonzero(pack) == 4990 + 1


def test_packs_become_millivolts_in_the_order_of_the_leads():
  pack = np.arange(8, dtype=np.int16)[:, None] * np.full((8, 3), 200, np.int16)  # lead k is k mV
  mv = dict(zip(LEADS, packs.pack_to_mv(pack)[:, 0], strict=True))
  assert mv == pytest.approx(
    {'I': 0, 'II': 1, 'III': 1, 'aVR': -0.5, 'aVL': -0.5, 'aVF': 1, **{f'V{i}': i + 1 for i in range(1, 7)}}
  )


@pytest.mark.parametrize('unit, per_mv', [('mV', 1.0), ('uV', 1e3), ('V', 1e-3)])
def test_wfdb_records_come_back_within_one_unit(tmp_path, unit, per_mv):
  write_record(tmp_path / 'records500/00000', '00001_hr', unit=unit, per_mv=per_mv)
  pack, skipped = packs.load_wfdb_folder(tmp_path)
  assert skipped == [] and pack.shape == (1, 8, 5000) and pack.dtype == np.int16
  assert np.abs(pack[0] - expected_units()).max() <= 1


@pytest.mark.parametrize('rate_hz', [250, 360, 1000])
def test_other_rates_are_resampled(tmp_path, rate_hz):
  write_record(tmp_path, 'a', rate_hz=rate_hz, seconds=12.0)
  pack, _ = packs.load(tmp_path)
  inner = slice(50, -50)  # at the record's first samples the resampling filter has nothing before them
  assert np.abs(pack[0] - expected_units())[:, inner].max() <= 2


def test_the_fine_copy_is_preferred_and_a_lone_coarse_one_is_kept(tmp_path):
  write_record(tmp_path / 'records100', '00001_lr', rate_hz=100, seconds=11.0)
  write_record(tmp_path / 'records500', '00001_hr')
  write_record(tmp_path / 'records100', '00002_lr', rate_hz=100, seconds=11.0)
  pack, skipped = packs.load_wfdb_folder(tmp_path)
  assert len(pack) == 2 and skipped == []
  assert np.abs(pack[1] - expected_units()).max() <= 1  # sorted: 00002_lr, then 00001_hr


def test_unusable_records_are_listed_with_their_reasons(tmp_path):
  write_record(tmp_path, 'a_short', seconds=4.0)
  write_record(tmp_path, 'b_missing', leads=NAMES[:-2])
  write_record(tmp_path, 'c_gap', gap=True)
  write_record(tmp_path, 'd_unit', unit='mmHg')
  write_record(tmp_path, 'e_huge', scale=1000.0)
  write_record(tmp_path, 'f_no_dat')
  (tmp_path / 'f_no_dat.dat').unlink()
  write_record(tmp_path, 'g_good')
  pack, skipped = packs.load_wfdb_folder(tmp_path)
  assert len(pack) == 1 and len(skipped) == 6
  reasons = [
    '4 s long, 10 s are needed',
    'no lead V5, V6',
    'has gaps',
    'unit mmHg is not',
    'a pack cannot hold',
    'f_no_dat',
  ]
  for sentence, reason in zip(skipped, reasons, strict=True):
    assert reason in sentence


def test_errors_say_what_is_wrong(tmp_path, monkeypatch):
  with pytest.raises(ValueError, match='no pack .*missing'):
    packs.load_pack(tmp_path / 'missing.npy.xz')
  whole = write_pack(tmp_path / 'a.npy.xz', np.zeros((1, 8, 5000), np.int16)).read_bytes()
  (tmp_path / 'cut.npy.xz').write_bytes(whole[: len(whole) // 2])
  (tmp_path / 'text.npy.xz').write_bytes(b'not xz at all')
  for name in ('cut', 'text'):
    with pytest.raises(ValueError, match=f'{name}.npy.xz cannot be read.*cut short'):
      packs.load_pack(tmp_path / f'{name}.npy.xz')
  for array in (np.zeros((1, 8, 5000), np.float32), np.zeros((1, 12, 5000), np.int16), np.zeros(5, np.int16)):
    with pytest.raises(ValueError, match=r'a pack is int16 \(N, 8, 5000\)'):
      packs.load_pack(write_pack(tmp_path / 'b.npy.xz', array))
  with pytest.raises(ValueError, match='no folder'):
    packs.load_wfdb_folder(tmp_path / 'nowhere')
  with pytest.raises(ValueError, match='holds no WFDB header'):
    packs.load(tmp_path)
  with pytest.raises(ValueError, match='a file of another kind; recordings are'):
    packs.load(write_pack(tmp_path / 'c.xz', np.zeros(1)))
  with pytest.raises(ValueError, match='is not there; recordings are'):
    packs.load(tmp_path / 'x.csv')
  write_record(tmp_path / 'short', 'a', seconds=2.0)
  with pytest.raises(ValueError, match='none of the 1 records .* 2 s long'):
    packs.load(tmp_path / 'short')
  monkeypatch.setitem(sys.modules, 'wfdb', None)
  with pytest.raises(ImportError, match=r'ecgjax\[data\]'):
    packs.load(tmp_path / 'short')


def test_load_finds_out_what_it_was_given(tmp_path):
  pack, skipped = packs.load(write_pack(tmp_path / 'a.npy.xz', np.ones((2, 8, 5000), np.int16)))
  assert pack.shape == (2, 8, 5000) and skipped == []
