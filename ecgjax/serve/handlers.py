"""The work of a child process for the local page: file bytes to a picture for the browser and to leads, leads to file bytes."""

import io
import pathlib
import zipfile
from typing import NamedTuple

from ecgjax.ecg.errors import ECGError, Unreadable
from ecgjax.io import record_name
from ecgjax.networks import shipped

SHOWN_PX = 4000  # longer side of a picture that is sent to be looked at
NAME = 60  # letters of a file's name that are kept


class DigitizeRequest(NamedTuple):
  """Options of reading a page; see `digitizer.digitize`. `corners` and `lattice` are nested lists of x, y."""

  number: int = 0
  fs: float = 500.0
  layout: str = 'auto'
  speed_mm_s: float = 25.0
  gain_mm_mv: float | None = None
  corners: list | None = None
  lattice: list | None = None
  weights: str = shipped.DEFAULT
  engine: str = 'auto'
  precision: str = 'auto'


class Picture(NamedTuple):
  """A page for the browser: a JPEG, the size of the original in px, and the number of pages of its file."""

  jpeg: bytes
  width_px: int
  height_px: int
  pages: int


def picture(data: bytes, number: int) -> Picture:
  """Renders a page of a file for the browser.

  Args:
    data: bytes of the file.
    number: of the page, from 0.

  Returns:
    The picture, reduced where its longer side is over SHOWN_PX.

  Raises:
    Unreadable: if there is no such page, or it cannot be decoded.
  """
  from PIL import Image

  image, pages = _page(data, number)
  height, width = image.shape[:2]
  small, out = Image.fromarray(image), io.BytesIO()
  small.thumbnail((SHOWN_PX, SHOWN_PX))
  small.save(out, 'JPEG', quality=90)
  return Picture(out.getvalue(), width, height, pages)


def digitize(data: bytes, request: DigitizeRequest) -> dict:
  """Reads a page.

  Args:
    data: bytes of the file.
    request: options of reading.

  Returns:
    The answer of `serve.app`: `Recording.facts` and the leads in mV (None where absent), the size of the picture and the
    geometry of the page.

  Raises:
    ECGError: as `digitizer.digitize`; Unreadable, which is one, as `picture`.
  """
  from ecgjax.extract import digitizer, recording
  from ecgjax.geometry import lattices, paper

  image, pages = _page(data, request.number)
  reader = _reader(request)
  if request.layout not in ('auto', reader.layout.name):
    raise ECGError(f'layout {request.layout} is not read by these weights; they read {reader.layout.name}')
  points = lambda values, shape: None if values is None else _points(values, shape)
  found = digitizer.digitize(
    image, reader=reader, fs=request.fs, speed_mm_s=request.speed_mm_s, gain_mm_mv=request.gain_mm_mv,
    corners=points(request.corners, (4, 2)), lattice=points(request.lattice, lattices.page_lattice().shape),
  )  # fmt: skip
  if request.lattice is not None:
    found = found._replace(status='review', warnings=(*found.warnings, 'read along a lattice that was given, not found'))
  page = found.page
  rows, cols = lattices.nodes_px()
  return found.facts() | {
    'leads_mv': {lead: recording.plain(mv) for lead, mv in found.leads.items()},
    'picture': {'width_px': image.shape[1], 'height_px': image.shape[0], 'page': request.number + 1, 'pages': pages},
    'page': {
      'width_px': paper.WIDTH_PX, 'height_px': paper.HEIGHT_PX, 'start_x_px': paper.START_X_PX, 'mm_px': paper.PX_PER_MM,
      'px_per_s': page.px_per_s, 'px_per_mv': page.px_per_mv, 'zeros_px': list(page.zeros_px),
      'segments': [segment._asdict() for segment in page.segments],
      'read': {lead: page.segments.index(page.scored(lead)) for lead in found.leads},
      'node_rows_px': rows.tolist(), 'node_columns_px': cols.tolist(),
    },
  }  # fmt: skip


def layouts(request: DigitizeRequest) -> list[str]:
  """Lists the layouts that the weights read."""
  return [_reader(request).layout.name]


def _reader(request: DigitizeRequest):
  from ecgjax.extract import digitizer

  return digitizer.cached(request.weights, engine=request.engine, precision=request.precision)


def save(
  leads_mv: dict[str, list], start_s: dict[str, float], name: str, format: str, folder: str, *, seconds: float, fs: float
) -> tuple[str, bytes]:
  """Writes leads, possibly corrected by hand, in a format of `recording.FORMATS`.

  Args:
    leads_mv: lead name -> mV, None where absent; a missing key is an absent lead.
    start_s: lead name -> time of its first sample in s.
    name: of the file, without suffix; characters that a WFDB name cannot hold become _.
    format: key of FORMATS.
    folder: an empty folder to write in; the caller deletes it.
    seconds: duration of the page.
    fs: Hz.

  Returns:
    The file's name and bytes; of WFDB, whose records are two files, a zip of both.

  Raises:
    ECGError: for an unknown format or values that it cannot hold.
    MissingLibrary: if its library is not installed.
  """
  import numpy as np

  from ecgjax.extract import recording

  if format not in recording.FORMATS:
    raise ECGError(f'format {format} is not one of {", ".join(recording.FORMATS)}')
  leads = {lead: np.array([np.nan if x is None else x for x in mv], float) for lead, mv in leads_mv.items()}
  table = recording.table(leads, start_s, seconds=seconds, fs=fs)
  name = record_name(name)[-NAME:] or 'ecg'  # its end tells pages of a file apart
  path = recording.write(pathlib.Path(folder) / (name + recording.FORMATS[format].suffix), table, fs=fs)
  files = sorted(path.parent.iterdir())
  if len(files) == 1:
    return path.name, path.read_bytes()
  packed = io.BytesIO()
  with zipfile.ZipFile(packed, 'w', zipfile.ZIP_DEFLATED) as bundle:
    for file in files:
      bundle.write(file, file.name)
  return f'{name}.zip', packed.getvalue()


def _page(data: bytes, number: int):
  from ecgjax.io import images

  source = images.open_bytes(data)
  if not 0 <= number < source.pages:
    raise Unreadable(f'page {number + 1} was asked for; the file has {source.pages}')
  return source.read(number), source.pages


def _points(values, shape: tuple[int, ...]):
  import numpy as np

  try:
    points = np.asarray(values, np.float32)
  except (TypeError, ValueError) as error:
    raise ECGError(f'points must be numbers of shape {shape}: {error}') from error
  if points.shape != shape or not np.isfinite(points).all():
    raise ECGError(f'points of shape {points.shape} were given; {shape}, all finite, are needed')
  return points
