"""Table of the output formats of signals, read by all writers. Imports nothing heavy."""

import importlib
import pathlib
from collections.abc import Callable
from typing import NamedTuple

DICOM_RATES_HZ = (200, 1000)  # of a 12-lead ECG object (PS3.3, A.34.3.4)


class Format(NamedTuple):
  """A format of files.

  Attributes:
    title: for people.
    suffix: of its files.
    writer: module of `ecgjax.io` and function (path, mv (T, 12), *, fs) -> None.
    library: that it needs, '' where none.
    refuses: from a rate in Hz to the reason why the format cannot have it, '' where it can.
  """

  title: str
  suffix: str
  writer: str
  library: str = ''
  refuses: Callable[[float], str] = lambda fs: ''


def _edf(fs: float) -> str:
  return '' if fs == round(fs) else 'EDF holds whole seconds, so its rate must be a whole number'


def _dicom(fs: float) -> str:
  low, high = DICOM_RATES_HZ
  return '' if low <= fs <= high else f'a DICOM ECG has {low} to {high} samples a second'


FORMATS = {
  'csv': Format('CSV', '.csv', 'waveform_files.write_csv'),
  'wfdb': Format('WFDB', '.hea', 'waveform_files.write_wfdb', 'wfdb'),
  'edf': Format('EDF', '.edf', 'waveform_files.write_edf', 'edfio', _edf),
  'parquet': Format('Parquet', '.parquet', 'waveform_files.write_parquet', 'pyarrow'),
  'dicom': Format('DICOM', '.dcm', 'dicom.write_dicom', 'pydicom', _dicom),
}


def write(name: str, path: pathlib.Path, mv, *, fs: float) -> None:
  """Writes a table (T, 12) of mV at `fs` Hz in the format of that name; raises as its writer, ImportError without its library."""
  module, _, function = FORMATS[name].writer.partition('.')
  getattr(importlib.import_module(f'ecgjax.io.{module}'), function)(path, mv, fs=fs)
