"""Reading of one picture into calibrated leads: the single function behind evaluate, predict, digitize and serve."""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from ecgjax.ecg.errors import ECGError, LowQuality, PageNotFound
from ecgjax.ecg.leads import LEADS
from ecgjax.extract import einthoven, path_decoder, pixel_classes, quality, resample, retiming, strip_cutting
from ecgjax.extract.path_decoder import Trace
from ecgjax.extract.recording import Recording
from ecgjax.geometry import lattices, layouts, paper
from ecgjax.ink import printers
from ecgjax.io import images
from ecgjax.locate import find_page
from ecgjax.networks import inference as engines
from ecgjax.networks import shipped

CUT_OFF = 'may be cut off'
PROGRAMS = 32  # compiled for rates and counts of samples, at most
PULSE_OFF = 0.05  # share by which a pulse may be off its gain's height: by a flat page's grid it is 0.01
REVIEW, FAIL = 0.9, 0.5  # quality of the worst lead, below it a page needs a person's eye; of the median lead seen, below it none is read


class Reader(NamedTuple):
  """Loaded weights: `trace` maps (image, lattice) to rows, `classes` to the scores (R, H, W, 4) of each px's class.

  `printer` is the printer's mean offset field, where it is known.
  """

  trace: Callable[[np.ndarray, np.ndarray], Trace]
  layout: layouts.Layout
  frame: lattices.Frame
  meta: dict
  engine: str = 'jax'
  precision: str = 'float32'
  classes: Callable[[np.ndarray, np.ndarray], jax.Array] | None = None
  printer: printers.Printer | None = None


def load_reader(weights=shipped.DEFAULT, *, engine: str = 'auto', precision: str = 'auto', registration: str = '') -> Reader:
  """Loads weights; programs are compiled at first use.

  Args:
    weights: a name of `shipped.NAMES`, or the path of a `.safetensors` file.
    engine: of the network: 'jax', 'openvino' or 'auto', see `inference.chosen`.
    precision: of its convolutions: 'bfloat16', 'float32' or 'auto', see `inference.chosen`.
    registration: path of the table of the pages' printer, see `printers.load`; '' where the printer is not known.

  Returns:
    A Reader.

  Raises:
    ECGError: as `weight_files.load_network` and `printers.load`, or for an unavailable engine or precision.
    MissingLibrary: if the engine is not installed.
  """
  printer = printers.load(registration) if registration else None
  network, meta = engines.load(weights, engine=engine, precision=precision)
  layout, frame = layouts.make(meta['strip']['layout']), engines.frame(meta)
  cut, decoded = strip_cutting.make_cut(layout=layout, frame=frame, cell=network.cell), jax.jit(path_decoder.soft_argmax)
  begins = lattices.begins(layout, frame)
  trace = lambda image, lattice: decoded(network.scores(cut(image, lattice)), begins=begins)
  classes = lambda image, lattice: network.classes(cut(image, lattice))
  return Reader(trace, layout, frame, meta, network.name, network.precision, classes, printer)


cached = functools.cache(load_reader)  # the command line's and `digitize`'s own: loading and compiling once is enough


def digitize(
  image, *, reader: Reader | None = None, fs: float = 500.0, counts: Mapping[str, int] | None = None, lattice: np.ndarray | None = None,
  corners: np.ndarray | None = None, ink: retiming.InkOffsets | None = None, speed_mm_s: float = paper.SPEED_MM_S,
  gain_mm_mv: float | None = None, masked: bool = False,
) -> Recording:  # fmt: skip
  """Reads one page.

  Args:
    image: (H, W, 3) uint8, or the path of a file, whose first page is read.
    reader: loaded weights; None loads the default weights of the package.
    fs: output sampling rate in Hz.
    counts: number of output samples of each lead; None for all that are printed.
    lattice: (45, 57, 2) image px of the page's nodes, if known: the picture's grid is compared with it; None locates the page.
    corners: (4, 2) approximate image x, y of the page's upper left, upper right, lower right and lower left corner; None searches the
      whole picture.
    ink: displacement of the ink from the lattice; None measures it.
    speed_mm_s: paper speed, which cannot be read from a picture.
    gain_mm_mv: of the print; None measures it on the calibration pulses, and takes 10 if they give no known gain.
    masked: whether `Recording.mask` is computed, too, by a second run of the network.

  Returns:
    The recording.

  Raises:
    Unreadable: if the file holds no picture.
    PageNotFound: if the page cannot be found in it (see `find_page.Found.reason`).
    LowQuality: if no trace is visible, or the quality is too low.
    UnsupportedLayout: for an unknown speed or gain.
    ECGError: if more samples are requested than the page shows.
  """
  reader = cached() if reader is None else reader
  image = image if isinstance(image, np.ndarray) else images.read(image)
  _check(layouts.make(reader.layout.name, speed_mm_s=speed_mm_s, gain_mm_mv=gain_mm_mv or paper.GAIN_MM_MV), counts or {}, fs)
  found = find_page.along(image, lattice) if lattice is not None else _found(image, corners)
  lattice, off_px = found.lattice, quality.page_px(found.confidence)
  gain, note = _gain(found.pulse_mv, gain_mm_mv)
  notes = [each for each in (found.reason, note) if each]
  trace = jax.device_get(reader.trace(image, lattice))
  doubt = quality.doubt(trace, off_px, layout=reader.layout, frame=reader.frame, scale=reader.layout.gain_mm_mv / gain)
  if not any(doubt.visible.values()):
    raise LowQuality('no trace was seen on the page')
  printed = layouts.make(reader.layout.name, speed_mm_s=speed_mm_s, gain_mm_mv=gain)
  counts = counts or {lead: printed.scored(lead).count(fs) for lead in LEADS}
  ink = retiming.ink_offsets(image, lattice, layout=reader.layout, frame=reader.frame, printer=reader.printer) if ink is None else ink
  leads, std = _leads(trace, ink, reader, fs=float(fs * reader.layout.speed_mm_s / speed_mm_s), counts=counts)
  for lead in LEADS:  # what was not seen is absent, not 0 mV
    scale = reader.layout.gain_mm_mv / gain if doubt.visible[lead] else np.nan
    leads[lead], std[lead] = scale * leads[lead], scale * std[lead]
  lead_quality = {lead: quality.lead(leads[lead], std[lead], lead, doubt, fs=float(fs), layout=printed) for lead in LEADS}
  if np.median([value for lead, value in lead_quality.items() if doubt.visible[lead]]) < FAIL:
    raise LowQuality(f'the page was found, but too little of it can be read: the quality of its leads is {_listed(lead_quality)}')
  poor = {lead: value for lead, value in lead_quality.items() if value < REVIEW and lead not in doubt.cut_off}
  notes += [f'uncertain: quality {_listed(poor)}'] if poor else []
  tall = doubt.cut_off
  top_mv = reader.frame.millivolts(0) * reader.layout.gain_mm_mv / gain
  notes += [f'{", ".join(tall)} {CUT_OFF}: beyond {top_mv:.1f} mV nothing is read'] if tall else []
  starts_s = {lead: printed.scored(lead).start_s for lead in LEADS}
  return Recording(
    leads, std, float(fs), starts_s, printed.seconds, lead_quality, printed.name, speed_mm_s, gain, 'review' if notes else 'ok',
    tuple(notes), lattice, trace, mask(image, lattice, reader=reader) if masked else None,
  )  # fmt: skip


def _found(image: np.ndarray, corners: np.ndarray | None) -> find_page.Found:
  """Locates the page, within corners if there are any; raises PageNotFound if it cannot be found."""
  found = find_page.find_page(image) if corners is None else find_page.within(image, corners)
  if found.status == 'fail':
    raise PageNotFound(found.reason)
  return found


def _check(layout: layouts.Layout, counts: Mapping[str, int], fs: float) -> None:
  """Raises ECGError if more samples of a lead are requested than the page shows."""
  for lead, count in counts.items():
    segment = layout.scored(lead)
    if not 1 <= count <= (segment.stop_s - segment.start_s) * fs + 1 - 1e-9:
      printed_s = segment.stop_s - segment.start_s
      where = f'layout {layout.name} at {layout.speed_mm_s:g} mm/s'
      raise ECGError(f'lead {lead}: {count} samples at {fs:g} Hz asked for; {where} shows {printed_s:g} s')


def mask(image: np.ndarray, lattice: np.ndarray, *, reader: Reader) -> np.ndarray:
  """Classifies every px of a page.

  Args:
    image: (H, W, 3) uint8.
    lattice: (45, 57, 2) image px of the page's nodes.
    reader: loaded weights.

  Returns:
    (1700, 2200) uint8 in the page frame, see `pixel_classes.page_mask`.

  Raises:
    ECGError: if the reader has no classes.
  """
  if reader.classes is None:
    raise ECGError('this reader tells no classes of px; take one of digitizer.load_reader')
  return pixel_classes.page_mask(np.asarray(reader.classes(image, lattice)), layout=reader.layout, frame=reader.frame)


def _leads(
  trace: Trace, ink: retiming.InkOffsets, reader: Reader, *, fs: float, counts: Mapping[str, int]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Returns lead -> mV and lead -> standard deviation, in the weights' own speed and gain."""
  segments = tuple(reader.layout.scored(lead) for lead in LEADS)
  better = _fused(retiming.retimed(trace, ink, layout=reader.layout, frame=reader.frame), reader.layout, reader.frame)
  assembled = _assembler(segments, reader.layout, reader.frame, fs, tuple(counts[lead] for lead in LEADS))
  read = assembled(better)
  table = reader.meta.get('calibration')
  mv, std_mv = ({lead: np.asarray(pair[i], np.float64) for lead, pair in zip(LEADS, read, strict=True)} for i in (0, 1))
  std = {}
  for lead, segment in zip(LEADS, segments, strict=True):
    late_mv = retiming.std_mv(mv[lead], ink, row=segment.row, start_s=segment.start_s, fs=fs, layout=reader.layout, frame=reader.frame)
    std[lead] = np.hypot(calibrated(std_mv[lead], table), late_mv)
  return mv, std


def _gain(pulse_mv: float, given: float | None) -> tuple[float, str]:
  """Returns the gain in mm/mV and a warning or '': `pulse_mv` is the pulses' height at a gain of 10."""
  measured = next((g for g in layouts.GAINS_MM_MV if abs(pulse_mv * paper.GAIN_MM_MV / g - paper.PULSE_MV) <= PULSE_OFF), None)
  height = f'the calibration pulses are {pulse_mv * paper.GAIN_MM_MV:.1f} mm high by the grid'
  if given is not None:
    return given, '' if np.isnan(pulse_mv) or measured == given else f'{height}: the gain is not {given:g} mm/mV'
  if measured in (None, paper.GAIN_MM_MV):
    return paper.GAIN_MM_MV, '' if np.isnan(pulse_mv) or measured else f'{height}: the gain is not {paper.GAIN_MM_MV:g} mm/mV'
  return measured, f'{height}: read with a gain of {measured:g} mm/mV'


def calibrated(std_mv: np.ndarray, table: Mapping[str, list[float]] | None) -> np.ndarray:
  """Replaces standard deviations, which include the width of the network's target, by measured errors.

  Args:
    std_mv: (n,) from the decoder, `fuse` and `resample`.
    table: 'std_mv' and 'off_mv', the rms error of samples of such deviations, stored by `scripts/calibrate.py` in the header of
      weights; constant beyond its ends. None leaves `std_mv` unchanged.

  Returns:
    (n,) expected rms error, mV.
  """
  return std_mv if table is None else np.exp(np.interp(np.log(std_mv), np.log(table['std_mv']), np.log(table['off_mv'])))


def seen_rows(trace: Trace) -> np.ndarray:
  """Returns (R, W) rows px as read, nan where no trace is visible, for pictures."""
  return np.where(np.asarray(trace.visible) >= resample.VISIBLE, np.asarray(trace.rows_px), np.nan)


def finite(leads: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns the leads with 0 mV for absent samples, as required by the competition's format and score."""
  return {lead: np.nan_to_num(mv, nan=0.0) for lead, mv in leads.items()}


_fused = jax.jit(lambda trace, layout, frame: einthoven.fuse(trace, layout=layout, frame=frame), static_argnums=(1, 2))


@functools.lru_cache(PROGRAMS)  # a rate may be any number, and a process may live long
def _assembler(segments, layout, frame, fs: float, counts):
  """Returns the compiled function from rows to the requested samples of every lead."""
  of = list(zip(segments, counts, strict=True))
  return jax.jit(lambda trace: [resample.lead(trace, one, layout=layout, frame=frame, fs=fs, count=count) for one, count in of])


def _listed(values: Mapping[str, float]) -> str:
  return ', '.join(f'{value:.2f} of {lead}' for lead, value in values.items())
