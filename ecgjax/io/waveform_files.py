"""Recordings to files: tables of mV in the formats of ECG programs. Samples that were not printed are absent in each.

Every writer takes (path, mv) with mv (T, 12) in the order of leads.LEADS, nan where nothing was printed, and `fs` in Hz; it writes
beside the path and renames, so that a file is whole or not there. Steps are 1 uV, in text and Parquet 0.1 uV.
"""

import os
import pathlib
import uuid

import numpy as np

from ecgjax.ecg.errors import ECGError
from ecgjax.ecg.leads import LEADS
from ecgjax.io import atomic, record_name

ABSENT = -32768  # of 16 bits, for formats that know no other "absent"
MAX_MV = 32.767


def write_csv(path, mv: np.ndarray, *, fs: float) -> None:
  """Writes a header of the 12 lead names and one row a sample in mV, blank where absent. The rate is not in the file.

  Args:
    path: to write.
    mv: (T, 12) mV.
    fs: Hz.
  """
  rows = (','.join('' if np.isnan(x) else f'{x + 0.0:.4f}' for x in row) for row in np.round(mv, 4))
  atomic.whole(path, lambda part: part.write_text('\n'.join([','.join(LEADS), *rows]) + '\n'))


def write_parquet(path, mv: np.ndarray, *, fs: float) -> None:
  """Writes columns `time_s` and the 12 leads in mV (float32, null where absent); `fs` is in the schema's metadata.

  Args:
    path: to write.
    mv: (T, 12) mV.
    fs: Hz.
  """
  import pyarrow
  from pyarrow import parquet

  columns = {'time_s': pyarrow.array(np.arange(len(mv)) / fs)}
  columns |= {lead: pyarrow.array(np.round(x, 4).astype(np.float32), mask=np.isnan(x)) for lead, x in zip(LEADS, mv.T, strict=True)}
  table = pyarrow.table(columns).replace_schema_metadata({'fs': f'{fs:g}', 'units': 'mV'})
  atomic.whole(path, lambda part: parquet.write_table(table, part, compression='zstd', use_dictionary=False))


def write_wfdb(path, mv: np.ndarray, *, fs: float) -> None:
  """Writes a WFDB record, `<stem>.hea` and `<stem>.dat`: 16 bits, 1,000 steps a mV, absent samples invalid as WFDB has it.

  Args:
    path: ends in .hea.
    mv: (T, 12) mV.
    fs: Hz.

  Raises:
    ECGError: if a value is beyond MAX_MV, or the name is not allowed (see `record_name`).
  """
  import wfdb

  path = pathlib.Path(path)
  name = path.stem
  if name != record_name(name):
    raise ECGError(f'{path.name}: WFDB allows letters, digits, - and _ in a name; try {record_name(name)}{path.suffix}')
  steps = microvolts(mv)
  folder = path.parent / f'.{uuid.uuid4().hex}.part'
  folder.mkdir()
  try:
    wfdb.wrsamp(
      'record', fs=fs, units=['mV'] * 12, sig_name=list(LEADS), d_signal=steps, fmt=['16'] * 12, adc_gain=[1000.0] * 12,
      baseline=[0] * 12, write_dir=str(folder),
    )  # fmt: skip
    header = (folder / 'record.hea').read_text().replace('record.dat', f'{name}.dat').replace('record ', f'{name} ', 1)
    (folder / 'record.hea').write_text(header)
    os.replace(folder / 'record.dat', path.with_name(f'{name}.dat'))
    os.replace(folder / 'record.hea', path.with_name(f'{name}.hea'))  # last: what it names is there
  finally:
    for left in folder.iterdir():
      left.unlink()
    folder.rmdir()


def write_edf(path, mv: np.ndarray, *, fs: float) -> None:
  """Writes EDF+: 1 uV steps. EDF knows no absent samples: they hold the lowest value, -32.768 mV, which no ECG reaches, and an annotation
  `absent: <lead>` spans each such stretch.

  Args:
    path: to write.
    mv: (T, 12) mV.
    fs: Hz.

  Raises:
    ECGError: if a value is beyond MAX_MV, or the samples do not fill whole seconds (EDF's records do).
  """
  import edfio

  if len(mv) % round(fs) or fs != round(fs):
    raise ECGError(f'EDF holds whole seconds at a whole rate; got {len(mv)} samples at {fs:g} Hz (choose another --fs or format)')
  limits = {'physical_range': (ABSENT / 1000, MAX_MV), 'digital_range': (ABSENT, -ABSENT - 1)}
  steps = microvolts(mv)
  channels = [
    edfio.EdfSignal.from_digital(column.copy(), fs, label=f'ECG {lead}', physical_dimension='mV', **limits)
    for lead, column in zip(LEADS, steps.T, strict=True)
  ]
  notes = [
    edfio.EdfAnnotation(first / fs, (stop - first) / fs, f'absent: {lead}')
    for lead, column in zip(LEADS, steps.T, strict=True)
    for first, stop in stretches(column == ABSENT)
  ]
  atomic.whole(path, edfio.Edf(channels, annotations=notes).write)


def stretches(there: np.ndarray) -> np.ndarray:
  """Returns (N, 2) first and one past the last index of each run of true values of an (n,) bool array."""
  return np.flatnonzero(np.diff(np.concatenate([[0], there.astype(np.int8), [0]]))).reshape(-1, 2)


def microvolts(mv: np.ndarray) -> np.ndarray:
  """Counts steps of 1 uV.

  Args:
    mv: (T, 12) mV, nan where there is no sample.

  Returns:
    (T, 12) int16, ABSENT where there is no sample.

  Raises:
    ECGError: if a value is beyond MAX_MV.
  """
  if (beyond := np.nanmax(np.abs(mv), initial=0.0)) > MAX_MV:
    raise ECGError(f'a sample of {beyond:.1f} mV is beyond the {MAX_MV} mV that 16 bits hold; write csv or parquet')
  return np.where(np.isnan(mv), ABSENT, np.round(1000 * np.nan_to_num(mv))).astype(np.int16)
