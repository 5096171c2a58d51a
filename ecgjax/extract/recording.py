"""A recording, the result of reading one page, and its output as tables, files and pictures."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ecgjax.ecg.errors import ECGError, MissingLibrary
from ecgjax.ecg.leads import LEADS
from ecgjax.extract import charts
from ecgjax.extract.path_decoder import Trace
from ecgjax.geometry import layouts as layouts
from ecgjax.io import atomic, formats
from ecgjax.io.formats import FORMATS

NOTICE = 'Research software, not a medical device.'


class Recording(NamedTuple):
  """Result of reading one page.

  Attributes:
    leads: lead name -> (n,) mV; nan for an absent lead.
    std: lead name -> (n,) standard deviation in mV.
    fs: samples per second.
    start_s: lead name -> time of its first sample in s from the start of the page.
    seconds: duration of the page.
    quality: lead name -> 0..1, the expected share of signal in the lead as read, see `quality`.
    layout: name of the page's layout.
    speed_mm_s: paper speed used for the times.
    gain_mm_mv: gain used for the amplitudes.
    status: 'ok' or 'review'.
    warnings: sentences, empty for status 'ok'.
    lattice: (45, 57, 2) image x, y of the page's nodes.
    trace: the rows as read, before the limb leads are fused, for pictures.
    mask: (1700, 2200) uint8, class of every px of the page (see `pixel_classes`), if requested.
  """

  leads: dict[str, np.ndarray]
  std: dict[str, np.ndarray]
  fs: float
  start_s: dict[str, float]
  seconds: float
  quality: dict[str, float]
  layout: str
  speed_mm_s: float
  gain_mm_mv: float
  status: str
  warnings: tuple[str, ...]
  lattice: np.ndarray
  trace: Trace
  mask: np.ndarray | None = None

  def table(self) -> np.ndarray:
    """Returns (T, 12) mV in the order of leads.LEADS over the page's whole duration, nan where a lead was not printed or is absent."""
    return table(self.leads, self.start_s, seconds=self.seconds, fs=self.fs)

  def to_dataframe(self):
    """Returns a pandas DataFrame of `table`, its index the time in s, its columns the leads."""
    import pandas

    mv = self.table()
    return pandas.DataFrame(mv, columns=list(LEADS), index=pandas.Index(np.arange(len(mv)) / self.fs, name='time_s'))

  def save(self, path, *, format: str = '') -> pathlib.Path:
    """Writes the leads to a file, see `write`; returns the path."""
    return write(path, self.table(), fs=self.fs, format=format)

  def to_wfdb(self, path) -> pathlib.Path:
    """Writes a WFDB record to `path` (.hea) and a .dat beside it; returns the path."""
    return self.save(path, format='wfdb')

  def facts(self) -> dict[str, Any]:
    """Returns all fields but the samples in JSON form: nan is null, mV have 4 decimals, px 2."""
    return {
      'status': self.status, 'warnings': list(self.warnings), 'quality': {k: round(v, 3) for k, v in self.quality.items()},
      'fs_hz': self.fs, 'seconds': self.seconds, 'layout': self.layout, 'speed_mm_s': self.speed_mm_s, 'gain_mm_mv': self.gain_mm_mv,
      'start_s': self.start_s, 'samples': {k: len(v) for k, v in self.leads.items()},
      'std_mv': {k: plain(v) for k, v in self.std.items()},
      'lattice_px': np.round(np.asarray(self.lattice, np.float64), 2).tolist(), 'notice': NOTICE,
    }  # fmt: skip

  @property
  def page(self) -> layouts.Layout:
    return layouts.make(self.layout, speed_mm_s=self.speed_mm_s, gain_mm_mv=self.gain_mm_mv)

  def plot(self):
    """Returns a matplotlib Figure: the leads at the page's own speed and gain, over pale bands of two standard deviations."""
    return charts.figure(self.leads, self.std, fs=self.fs, layout=self.page)

  def overlay(self, image: np.ndarray) -> np.ndarray:
    """Returns (h, w, 3) uint8, the (H, W, 3) picture of the page with the leads drawn back on it, see `charts.overlay`."""
    return charts.overlay(image, self.leads, self.std, fs=self.fs, layout=self.page, lattice=self.lattice)


def plain(values: np.ndarray) -> list[float | None]:
  """Returns the values in JSON form: 4 decimals, None where they are not finite."""
  return [round(float(x), 4) if np.isfinite(x) else None for x in values]


def table(leads: Mapping[str, np.ndarray], start_s: Mapping[str, float], *, seconds: float, fs: float) -> np.ndarray:
  """Arranges leads in the columns of a table.

  Args:
    leads: lead name -> (n,) mV, nan where absent; a missing key is an absent lead.
    start_s: lead name -> time of its first sample in s.
    seconds: duration of the page.
    fs: Hz.

  Returns:
    (T, 12) mV in the order of leads.LEADS, nan where a lead is absent; samples after `seconds` are left out.

  Raises:
    ECGError: for an unknown lead, one that does not start within the page's duration, or infinite values.
  """
  for lead in leads:
    if lead not in LEADS or not 0 <= start_s.get(lead, -1.0) < seconds:
      raise ECGError(f'lead {lead} with start_s {start_s.get(lead)}: one of {", ".join(LEADS)} and 0 to {seconds:g} s are needed')
    if np.isinf(leads[lead]).any():
      raise ECGError(f'lead {lead} has infinite values; nan is what is absent')
  mv = np.full((round(seconds * fs), len(LEADS)), np.nan)
  for column, lead in zip(mv.T, LEADS, strict=True):
    if lead in leads:
      first = int(start_s[lead] * fs + 1e-6)  # as the competition's csv files cut them: down to a whole sample
      column[first : first + len(leads[lead])] = leads[lead][: max(len(column) - first, 0)]
  return mv


def write(path, mv: np.ndarray, *, fs: float, format: str = '') -> pathlib.Path:
  """Writes a table to a file.

  Args:
    path: of the file; its suffix is that of the format.
    mv: (T, 12) mV, nan where absent.
    fs: Hz.
    format: key of FORMATS; '' for that of the suffix.

  Returns:
    The path.

  Raises:
    ECGError: for an unknown format or suffix, or values that the format cannot hold.
    MissingLibrary: if the format needs a library that is not installed (`pip install 'ecgjax[files]'`).
  """
  path = pathlib.Path(path)
  by_suffix = {one.suffix: name for name, one in FORMATS.items()}
  name = format or by_suffix.get(path.suffix.lower(), '')
  if name not in FORMATS or path.suffix.lower() != FORMATS[name].suffix:
    raise ECGError(f'{path.name} as {format or "?"}: choose a suffix of {", ".join(f"{s} ({n})" for s, n in by_suffix.items())}')
  try:
    formats.write(name, path, mv, fs=fs)
  except ModuleNotFoundError as error:
    raise MissingLibrary(f"{name} needs {error.name}: pip install 'ecgjax[files]'") from error
  return path


def write_json(path, facts: dict[str, Any]) -> None:
  """Writes facts as JSON, whole or not at all.

  Args:
    path: to write.
    facts: as of `Recording.facts`, possibly with further fields.
  """
  lines = (f' {json.dumps(name)}: {json.dumps(value, allow_nan=False)}' for name, value in facts.items())  # a line each: to be looked at
  atomic.whole(path, lambda part: part.write_text('{\n' + ',\n'.join(lines) + '\n}\n'))
