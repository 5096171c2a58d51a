"""One picture to calibrated leads: the single way that evaluate, predict, digitize and serve read a page."""

import functools
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from ecgjax import assemble, decode, fuse, geometry, layout, paper, quality, rectify
from ecgjax import engine as engines
from ecgjax.decode import Trace
from ecgjax.io import pictures
from ecgjax.recording import Recording

WEIGHTS = pathlib.Path(__file__).with_name('weights') / 'trace.safetensors'
EDGE_MV = 0.3  # nearer than that to a strip's edge a trace may go on beyond it, and the gap is bridged as if nothing had been there
CUT_OFF = 'may be cut off'
PULSE_OFF = 0.05  # share by which a pulse may be off its gain's height: by a flat page's grid it is 0.01
REVIEW, FAIL = 0.9, 0.5  # quality of the worst lead, below it a page needs a person's eye; of the median lead seen, below it none is read


class Reader(NamedTuple):
  """Trained weights, ready to read: `trace` goes from (image, lattice) to rows."""

  trace: Callable[[np.ndarray, np.ndarray], Trace]
  page: layout.Layout
  frame: geometry.Frame
  meta: dict
  engine: str = 'jax'


def reader(path=WEIGHTS, *, engine: str = 'auto') -> Reader:
  """Loads weights and compiles nothing yet.

  Args:
    path: of a `.safetensors` file.
    engine: of the network: 'jax', 'openvino' or 'auto', see `engine.chosen`.

  Returns:
    A Reader.

  Raises:
    ValueError: as `checkpoint.load_network`.
    ImportError: if the engine is not installed.
  """
  engine = engines.chosen(engine)
  scores, meta = engines.load(path, engine=engine)
  page = layout.make(meta['strip']['layout'])
  frame = geometry.frame(page, rate_hz=meta['strip']['rate_hz'], height_px=meta['strip']['height_px'])
  cut, decoded = make_cut(page=page, frame=frame), jax.jit(decode.soft_argmax)
  return Reader(lambda image, lattice: decoded(scores(cut(image, lattice))), page, frame, meta, engine)


cached = functools.cache(reader)  # the command line's and `digitize`'s own: loading and compiling once is enough


LINES = 40  # of strips that are cut at a time, at most
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

  lines = math.gcd(LINES, frame.height_px)

  @functools.partial(jax.jit, static_argnames='scale')
  def cut(image, lattice, *, scale):
    return geometry.with_coordinates(geometry.cut(image, lattice, layout=page, frame=frame, image_scale=scale, lines=lines), frame=frame)

  def nearest(image, lattice):
    found = geometry.image_scale(np.asarray(lattice))
    image = geometry.padded(image) if isinstance(image, np.ndarray) else image
    return cut(image, lattice, scale=min(SCALES, key=lambda s: abs(np.log(s / found))))

  return nearest


def digitize(
  image, *, reader: Reader | None = None, fs: float = 500.0, counts: Mapping[str, int] | None = None, lattice: np.ndarray | None = None,
  corners: np.ndarray | None = None, speed_mm_s: float = paper.SPEED_MM_S, gain_mm_mv: float | None = None,
) -> Recording:  # fmt: skip
  """Reads one page.

  Args:
    image: (H, W, 3) uint8, or the path of a file, whose first page is read.
    reader: loaded weights; those that install with the package where it is None.
    fs: samples per second wanted.
    counts: samples wanted of each lead; as many as are printed where it is None.
    lattice: (45, 57, 2) image px of the page's nodes, where they are known; found where it is None.
    corners: (4, 2) image x, y of the page's upper left, upper right, lower right and lower left corner, roughly, where the page is to be
      looked for; the whole picture is searched where it is None.
    speed_mm_s: paper speed, which a picture does not tell.
    gain_mm_mv: of the print; where it is None the calibration pulses tell it, and it is 10 where they cannot.

  Returns:
    The recording.

  Raises:
    ValueError: for an unknown speed or gain; if the page cannot be found in the picture (see `rectify.Found.reason`), no trace is seen
      on it, or more is wanted than it shows.
  """
  reader = cached(WEIGHTS) if reader is None else reader
  image = image if isinstance(image, np.ndarray) else pictures.read(image)
  layout.make(reader.page.name, speed_mm_s=speed_mm_s, gain_mm_mv=paper.GAIN_MM_MV if gain_mm_mv is None else gain_mm_mv)  # or refuse
  notes, pulse_mv, off_px = [], float('nan'), 0.0
  if lattice is None:
    found = rectify.rectify(image) if corners is None else rectify.within(image, corners)
    lattice, pulse_mv, off_px = found.lattice, found.pulse_mv, quality.page_px(found.confidence)
    if found.status == 'fail':
      raise ValueError(found.reason)
    notes += [found.reason] if found.reason else []
  gain, note = _gain(pulse_mv, gain_mm_mv)
  notes += [note] if note else []
  trace = reader.trace(image, lattice)
  shown = jax.device_get(trace)
  doubt = _doubt(shown, reader, off_px, scale=reader.page.gain_mm_mv / gain)
  if not any(doubt.seen.values()):
    raise ValueError('no trace was seen on the page')
  printed = layout.make(reader.page.name, speed_mm_s=speed_mm_s, gain_mm_mv=gain)
  counts = counts or {lead: printed.scored(lead).count(fs) for lead in layout.LEADS}
  leads, std = _leads(trace, reader, fs=float(fs * reader.page.speed_mm_s / speed_mm_s), counts=counts)
  for lead in layout.LEADS:  # what was not seen is absent, not 0 mV
    scale = reader.page.gain_mm_mv / gain if doubt.seen[lead] else np.nan
    leads[lead], std[lead] = scale * leads[lead], scale * std[lead]
  believed = {lead: quality.lead(leads[lead], std[lead], lead, doubt, fs=float(fs), page=printed) for lead in layout.LEADS}
  if np.median([value for lead, value in believed.items() if doubt.seen[lead]]) < FAIL:
    raise ValueError(f'the page was found, but too little of it can be read: the quality of its leads is {_told(believed)}')
  poor = {lead: value for lead, value in believed.items() if value < REVIEW and lead not in doubt.cut_off}
  notes += [f'uncertain: quality {_told(poor)}'] if poor else []
  tall = doubt.cut_off
  top_mv = reader.frame.millivolts(0) * reader.page.gain_mm_mv / gain
  notes += [f'{", ".join(tall)} {CUT_OFF}: beyond {top_mv:.1f} mV nothing is read'] if tall else []
  starts_s = {lead: printed.scored(lead).start_s for lead in layout.LEADS}
  return Recording(
    leads, std, float(fs), starts_s, printed.seconds, believed, printed.name, speed_mm_s, gain, 'review' if notes else 'ok', tuple(notes),
    lattice, shown,
  )  # fmt: skip


def _leads(trace: Trace, reader: Reader, *, fs: float, counts: Mapping[str, int]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Returns lead -> mV and lead -> standard deviation, in the weights' own speed and gain."""
  segments = tuple(reader.page.scored(lead) for lead in layout.LEADS)
  better = _fused(trace, reader.page, reader.frame)
  read = _assemble(better, segments, reader.page, reader.frame, fs, tuple(counts[lead] for lead in layout.LEADS))
  table = reader.meta.get('calibration')
  mv, std_mv = ({lead: np.asarray(pair[i], np.float64) for lead, pair in zip(layout.LEADS, read, strict=True)} for i in (0, 1))
  return mv, {lead: calibrated(value, table) for lead, value in std_mv.items()}


def _gain(pulse_mv: float, given: float | None) -> tuple[float, str]:
  """Returns the gain in mm/mV and what is to be said of it: `pulse_mv` is the pulses' height if it were 10."""
  told = next((g for g in layout.GAINS_MM_MV if abs(pulse_mv * paper.GAIN_MM_MV / g - paper.PULSE_MV) <= PULSE_OFF), None)
  height = f'the calibration pulses are {pulse_mv * paper.GAIN_MM_MV:.1f} mm high by the grid'
  if given is not None:
    return given, '' if np.isnan(pulse_mv) or told == given else f'{height}: the gain is not {given:g} mm/mV'
  if told in (None, paper.GAIN_MM_MV):
    return paper.GAIN_MM_MV, '' if np.isnan(pulse_mv) or told else f'{height}: the gain is not {paper.GAIN_MM_MV:g} mm/mV'
  return told, f'{height}: read with a gain of {told:g} mm/mV'


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


def _doubt(trace: Trace, reader: Reader, page_px: float, *, scale: float) -> quality.Doubt:
  page, frame = reader.page, reader.frame
  columns = {lead: _columns(trace, page.scored(lead), frame) for lead in layout.LEADS}
  reach_mv = frame.millivolts(0) - EDGE_MV
  cut_off = tuple(lead for lead, (rows_px, seen) in columns.items() if (seen & (np.abs(frame.millivolts(rows_px)) > reach_mv)).any())
  shares = {lead: float(seen.mean()) for lead, (_, seen) in columns.items()}
  contradictions_mv2 = {lead: scale**2 * x for lead, x in quality.contradictions_mv2(trace, page, frame).items()}
  return quality.Doubt(shares, contradictions_mv2, page_px, cut_off)


def _told(values: Mapping[str, float]) -> str:
  return ', '.join(f'{value:.2f} of {lead}' for lead, value in values.items())
