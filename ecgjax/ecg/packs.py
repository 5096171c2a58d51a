"""Recordings from disk as packs: int16 arrays (N, 8, T) of leads I, II, V1..V6 at 5 uV a unit."""

import fractions
import lzma
import math
import pathlib
from typing import Any

import numpy as np

from ecgjax.ecg import leads
from ecgjax.ecg.errors import ECGError, MissingLibrary

PACK_LEADS = ('I', 'II', 'V1', 'V2', 'V3', 'V4', 'V5', 'V6')
MV_PER_UNIT = 0.005
RATE_HZ = 500
SAMPLES = 5000
MV_PER = {'mV': 1.0, 'uV': 1e-3, '\N{MICRO SIGN}V': 1e-3, 'V': 1e3}


def load_pack(path) -> np.ndarray:
  """Reads a pack of ten-second records, stored as first differences along time.

  Write one with `np.save` of np.diff(x, axis=-1, prepend=0) into an lzma file, x being int16 at 5 uV a unit.

  Args:
    path: a `.npy.xz` file of int16 (N, 8, 5000).

  Returns:
    (N, 8, 5000) int16, leads I, II, V1..V6 at 500 Hz, 5 uV a unit. No second copy is made on the way.

  Raises:
    ECGError: where the file is missing, cut short, or holds another kind of array.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise ECGError(f'no pack {path}; need a .npy.xz file as packs.load_pack describes it')
  try:
    with lzma.open(path) as file:
      pack = np.lib.format.read_array(file, allow_pickle=False)
  except Exception as error:  # besides lzma's own, what NumPy's parser of a damaged header may raise: SyntaxError, TokenError, MemoryError
    raise ECGError(f'{path} cannot be read as an xz-compressed .npy, it may be cut short: {error}') from error
  if pack.dtype != np.int16 or pack.ndim != 3 or pack.shape[1:] != (len(PACK_LEADS), SAMPLES):
    raise ECGError(f'{path} holds {pack.dtype} {pack.shape}; a pack is int16 (N, {len(PACK_LEADS)}, {SAMPLES})')
  for record in pack:
    np.cumsum(record, axis=-1, out=record)
  return pack


def pack_to_mv(pack):
  """Converts pack units to the twelve leads in mV.

  Args:
    pack: (..., 8, T) int16 leads I, II, V1..V6 at 5 uV a unit, numpy or JAX.

  Returns:
    (..., 12, T) float32 mV in the order of leads.LEADS, the same kind of array as `pack`.
  """
  xp = pack.__array_namespace__()
  return leads.twelve(pack.astype(xp.float32) * xp.float32(MV_PER_UNIT))


def load_wfdb_folder(path, *, rate_hz: int = RATE_HZ, seconds: float = 10.0) -> tuple[np.ndarray, list[str]]:
  """Reads every usable WFDB record below a folder, PTB-XL as downloaded among them.

  A record `x_lr` is passed over where an `x_hr` of the same name is present. Of a longer record the first `seconds` are
  kept; another rate is resampled.

  Args:
    path: folder, searched recursively for `.hea` files.
    rate_hz: samples a second of the result.
    seconds: length of the result.

  Returns:
    (N, 8, T) int16, leads I, II, V1..V6, 5 uV a unit, T = round(rate_hz * seconds), in the order of the sorted paths;
    and one sentence for every record left out, saying why.

  Raises:
    ECGError: where there is no such folder, no header in it, or no record that can be used.
    MissingLibrary: where wfdb is not installed.
  """
  path = pathlib.Path(path)
  if not path.is_dir():
    raise ECGError(f'no folder {path}; it must hold WFDB records (.hea and .dat)')
  found = sorted(path.rglob('*.hea'))
  fine = {h.stem for h in found if h.stem.endswith('_hr')}
  headers = [h for h in found if not (h.stem.endswith('_lr') and h.stem[:-3] + '_hr' in fine)]
  if not headers:
    raise ECGError(f'{path} holds no WFDB header (.hea)')
  _wfdb()  # fails here rather than once a record
  pack = np.empty((len(headers), len(PACK_LEADS), round(rate_hz * seconds)), np.int16)
  kept, skipped = 0, []
  for header in headers:
    try:
      pack[kept] = _read_record(header, rate_hz=rate_hz, seconds=seconds)
      kept += 1
    except Exception as error:  # wfdb raises all kinds on damaged files, and one bad record must not stop the rest
      skipped.append(f'{header.relative_to(path)}: {error}')
  if not kept:
    raise ECGError(f'none of the {len(headers)} records in {path} can be used; the first: {skipped[0]}')
  return pack[:kept], skipped


def load(path) -> tuple[np.ndarray, list[str]]:
  """Reads recordings from a pack or from a folder of WFDB records, whichever `path` is.

  Args:
    path: a `.npy.xz` file or a folder.

  Returns:
    (N, 8, 5000) int16 as from load_pack, and one sentence for every record left out (none for a pack).

  Raises:
    ECGError: for anything else, and as load_pack and load_wfdb_folder do.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    return load_wfdb_folder(path)
  if path.name.endswith('.npy.xz'):
    return load_pack(path), []
  problem = 'a file of another kind' if path.exists() else 'not there'
  raise ECGError(f'{path} is {problem}; recordings are a .npy.xz pack or a folder of WFDB records')


def _wfdb() -> Any:
  try:
    import wfdb
  except ImportError as error:
    raise MissingLibrary("reading WFDB records needs wfdb: pip install 'ecgjax[data]'") from error
  return wfdb


def _read_record(header: pathlib.Path, *, rate_hz: int, seconds: float) -> np.ndarray:
  """Returns (8, T) int16 of one record, or raises ValueError with the reason why it cannot be used."""
  wfdb = _wfdb()
  name = str(header.with_suffix(''))
  head = wfdb.rdheader(name)
  columns = {lead.strip().lower(): i for i, lead in enumerate(head.sig_name or [])}
  missing = [lead for lead in PACK_LEADS if lead.lower() not in columns]
  if missing:
    raise ECGError(f'no lead {", ".join(missing)}')
  if head.sig_len < round(head.fs * seconds):
    raise ECGError(f'{head.sig_len / head.fs:g} s long, {seconds:g} s are needed')
  # One second more than needed, so that the resampling filter meets the record's end outside the result.
  stop = min(head.sig_len, math.ceil(head.fs * (seconds + 1)))
  record = wfdb.rdrecord(name, sampto=stop, channels=[columns[lead.lower()] for lead in PACK_LEADS])
  unknown = sorted(set(record.units) - set(MV_PER))
  if unknown:
    raise ECGError(f'unit {", ".join(unknown)} is not one of {", ".join(MV_PER)}')
  mv = record.p_signal.T * np.array([[MV_PER[unit]] for unit in record.units])
  if not np.isfinite(mv).all():
    raise ECGError('has gaps (NaN)')
  units = np.rint(_resample(mv, head.fs, rate_hz)[:, : round(rate_hz * seconds)] / MV_PER_UNIT)
  if np.abs(units).max() > np.iinfo(np.int16).max:
    raise ECGError(f'reaches {np.abs(mv).max():.0f} mV, which a pack cannot hold')
  return units.astype(np.int16)


def _resample(mv: np.ndarray, from_hz: float, to_hz: float) -> np.ndarray:
  if from_hz == to_hz:
    return mv
  from scipy import signal  # a dependency of jax, slow to import

  ratio = fractions.Fraction(to_hz / from_hz).limit_denominator(1000)
  return signal.resample_poly(mv, ratio.numerator, ratio.denominator, axis=-1, padtype='line')
