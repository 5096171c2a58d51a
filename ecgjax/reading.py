"""One picture to calibrated leads: the single way that evaluate, predict and every later tool reads a page."""

import functools
import pathlib
import warnings as python_warnings
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from ecgjax import assemble, checkpoint, decode, fuse, geometry, layout, model, rectify
from ecgjax.decode import Trace

WEIGHTS = pathlib.Path(__file__).with_name('weights') / 'trace.safetensors'
MAX_MPX = 100
EDGE_MV = 0.3  # nearer than that to a strip's edge a trace may go on beyond it, and the gap is bridged as if nothing had been there
POOR_STD_MV = 0.05  # a lead whose median standard deviation is above this needs a person's eye


class Recording(NamedTuple):
  """What was read of one picture.

  Attributes:
    leads: lead name -> (n,) mV; nan where nothing of the lead was seen.
    std: lead name -> (n,) standard deviation in mV.
    fs: samples per second.
    quality: lead name -> 0..1, share of the lead's columns in which its own trace was seen.
    layout: name of the page's layout.
    status: 'ok' or 'review'.
    warnings: sentences, empty where all is well.
    lattice: (45, 57, 2) image x, y of the page's nodes.
    trace: the rows as read, each for itself, for pictures.
  """

  leads: dict[str, np.ndarray]
  std: dict[str, np.ndarray]
  fs: float
  quality: dict[str, float]
  layout: str
  status: str
  warnings: tuple[str, ...]
  lattice: np.ndarray
  trace: Trace


class Reader(NamedTuple):
  """Trained weights, ready to read: `trace` goes from (image, lattice) to rows."""

  trace: Callable[[np.ndarray, np.ndarray], Trace]
  page: layout.Layout
  frame: geometry.Frame
  meta: dict


def reader(path=WEIGHTS) -> Reader:
  """Loads weights and compiles nothing yet.

  Args:
    path: of a `.safetensors` file.

  Returns:
    A Reader.

  Raises:
    ValueError: as `checkpoint.load_network`.
  """
  net, params, meta = checkpoint.load_network(path, model.network, part='strip')
  page = layout.make(meta['strip']['layout'])
  frame = geometry.frame(page, rate_hz=meta['strip']['rate_hz'], height_px=meta['strip']['height_px'])
  read = make_trace(net.apply, page=page, frame=frame)
  return Reader(functools.partial(read, jax.device_put(params)), page, frame, meta)


SCALES = (1.0, 1.25, 1.6, 2.0, 3.0)  # image px per page px for which strips are cut: each is a program of its own


def make_trace(apply, *, page: layout.Layout, frame: geometry.Frame):
  """Returns the way (params, image, lattice) -> Trace; differentiable in all three.

  Cutting, network and decoder are compiled one by one: in a single program XLA's CPU compiler samples the image anew for
  every convolution tap (26 s a page instead of 3).
  """
  cut = make_cut(page=page, frame=frame)
  scores, decoded = jax.jit(apply), jax.jit(decode.soft_argmax)
  return lambda params, image, lattice: decoded(scores(params, cut(image, lattice)))


@functools.cache
def make_cut(*, page: layout.Layout, frame: geometry.Frame) -> Callable[[np.ndarray, np.ndarray], jax.Array]:
  """Returns the way (image, lattice) -> (R, H, W, 5) strips as the network wants them, smoothed as the image's size demands.

  One for each page and frame, so that reading and its pictures share what is compiled.
  """

  @functools.partial(jax.jit, static_argnames='scale')
  def cut(image, lattice, *, scale):
    return geometry.with_coordinates(geometry.cut(image, lattice, layout=page, frame=frame, image_scale=scale), frame=frame)

  def nearest(image, lattice):
    found = geometry.image_scale(np.asarray(lattice))
    image = geometry.padded(image) if isinstance(image, np.ndarray) else image
    return cut(image, lattice, scale=min(SCALES, key=lambda s: abs(np.log(s / found))))

  return nearest


def read_image(path) -> np.ndarray:
  """Decodes a picture.

  Args:
    path: of a PNG, JPEG or whatever else Pillow reads.

  Returns:
    (H, W, 3) uint8, turned as its EXIF says, transparency laid on white.

  Raises:
    ValueError: if it cannot be read, or is larger than MAX_MPX million px.
  """
  from PIL import Image, ImageOps

  try:
    with python_warnings.catch_warnings():
      python_warnings.simplefilter('ignore', Image.DecompressionBombWarning)  # MAX_MPX is our own, stricter word
      with Image.open(path) as file:
        if file.width * file.height > MAX_MPX * 1e6:
          raise ValueError(f'{file.width} x {file.height} px; at most {MAX_MPX} million px are read')
        picture = ImageOps.exif_transpose(file).convert('RGBA')
  except Exception as error:  # a damaged file makes Pillow raise nearly anything: struct.error, IndexError, SyntaxError
    raise ValueError(f'{path} cannot be read as a picture: {error}') from error
  white = Image.new('RGBA', picture.size, 'white')
  return np.asarray(Image.alpha_composite(white, picture).convert('RGB'))


def digitize(
  image: np.ndarray, *, reader: Reader, fs: float = 500.0, counts: Mapping[str, int] | None = None, lattice: np.ndarray | None = None
) -> Recording:
  """Reads one page.

  Args:
    image: (H, W, 3) uint8.
    reader: loaded weights.
    fs: samples per second wanted.
    counts: samples wanted of each lead; as many as are printed where it is None.
    lattice: (45, 57, 2) image px of the page's nodes, where they are known; found where it is None.

  Returns:
    The recording.

  Raises:
    ValueError: if the page cannot be found in the picture (see `rectify.Found.reason`), no trace is seen on it, or more is wanted
      than it shows.
  """
  notes = []
  if lattice is None:
    found = rectify.rectify(image)
    lattice = found.lattice
    if found.status == 'fail':
      raise ValueError(found.reason)
    notes += [found.reason] if found.reason else []
  trace = reader.trace(image, lattice)
  segments = [reader.page.scored(lead) for lead in layout.LEADS]
  counts = counts or {s.lead: s.count(fs) for s in segments}
  better = _fused(trace, reader.page, reader.frame)
  read = _assemble(better, tuple(segments), reader.page, reader.frame, float(fs), tuple(counts[s.lead] for s in segments))
  leads, std = ({s.lead: np.asarray(v[i], np.float64) for s, v in zip(segments, read, strict=True)} for i in (0, 1))
  std = {lead: calibrated(value, reader.meta.get('calibration')) for lead, value in std.items()}
  shown = jax.device_get(trace)
  quality = {s.lead: _quality(shown, s, reader.frame) for s in segments}
  if not any(quality.values()):
    raise ValueError('no trace was seen on the page')
  for lead in layout.LEADS:
    if not quality[lead]:  # nothing was seen of it: absent, not 0 mV
      leads[lead], std[lead] = np.full_like(leads[lead], np.nan), np.full_like(std[lead], np.nan)
  poor = [lead for lead in layout.LEADS if not (quality[lead] >= 0.9 and np.median(std[lead]) <= POOR_STD_MV)]
  notes += [f'uncertain in {", ".join(poor)}'] if poor else []
  tall = [s.lead for s in segments if _at_edge(shown, s, reader.frame)]
  notes += [f'{", ".join(tall)} may be cut off: beyond {reader.frame.millivolts(0):.1f} mV nothing is read'] if tall else []
  status = 'review' if notes else 'ok'
  return Recording(leads, std, float(fs), quality, reader.page.name, status, tuple(notes), lattice, shown)


def calibrated(std_mv: np.ndarray, table: Mapping[str, list[float]] | None) -> np.ndarray:
  """Replaces standard deviations, which hold the width of the network's target too, by the errors that were measured.

  Args:
    std_mv: (n,) as the decoder, `fuse` and `assemble` have it.
    table: 'std_mv' and 'off_mv', the rms error of samples of such deviations, as `scripts/calibrate.py` puts them in the header of
      weights; constant beyond its ends. None leaves all as it is.

  Returns:
    (n,) rms error to be expected, mV.
  """
  return std_mv if table is None else np.exp(np.interp(np.log(std_mv), np.log(table['std_mv']), np.log(table['off_mv'])))


def seen_rows(trace: Trace) -> np.ndarray:
  """Returns (R, W) rows px as read, nan where no trace was seen: what a picture may show."""
  return np.where(np.asarray(trace.visible) >= assemble.SEEN, np.asarray(trace.rows_px), np.nan)


def finite(leads: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the leads with 0 mV for absent samples: what the competition's format and score demand."""
  return {lead: np.nan_to_num(mv, nan=0.0) for lead, mv in leads.items()}


_fused = jax.jit(lambda trace, page, frame: fuse.fuse(trace, layout=page, frame=frame), static_argnums=(1, 2))


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4, 5))
def _assemble(trace: Trace, segments, page, frame, fs: float, counts):
  return [
    assemble.lead(trace, segment, layout=page, frame=frame, fs=fs, count=count)
    for segment, count in zip(segments, counts, strict=True)
  ]


def _columns(trace: Trace, segment: layout.Segment, frame: geometry.Frame) -> tuple[np.ndarray, np.ndarray]:
  """Returns (n,) rows px of a lead's own columns and whether each was seen."""
  first, stop = (round(frame.columns_px(second)) for second in (segment.start_s, segment.stop_s))
  rows_px, visible = (np.asarray(a)[segment.row, first:stop] for a in (trace.rows_px, trace.visible))
  return rows_px, visible >= assemble.SEEN


def _quality(trace: Trace, segment: layout.Segment, frame: geometry.Frame) -> float:
  return float(_columns(trace, segment, frame)[1].mean())


def _at_edge(trace: Trace, segment: layout.Segment, frame: geometry.Frame) -> bool:
  rows_px, seen = _columns(trace, segment, frame)
  return bool((seen & (np.abs(frame.millivolts(rows_px)) > frame.millivolts(0) - EDGE_MV)).any())
