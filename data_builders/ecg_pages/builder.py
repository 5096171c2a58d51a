"""One page of a competition folder as a training example, and the TFDS builder that stores such examples.

An example: 'image' (PNG) as it was taken, 'lattice' (45, 57, 2) where the page's ink lies in it, 'grid_lattice' where its grid does, 'mask'
(PNG) of the page itself, 'rows_px' (4, 5248), 'mv' (12, T), 'fs', 'id', 'variant'.
TFDS works without TensorFlow only if pictures are handed to it as PNG bytes and DatasetInfo is given explicitly.
"""

import functools
import hashlib
import io
import os
import struct
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from scipy import ndimage

from ecgjax.competition import data_folder, submission
from ecgjax.drawing import ground_truth, looks, render
from ecgjax.ecg.errors import ECGError
from ecgjax.ecg.leads import LEADS
from ecgjax.geometry import lattices, layouts, paper
from ecgjax.locate import register_to_original
from ecgjax.networks import unet

LAYOUT = layouts.make('3x4+II')
FRAME = lattices.frame(LAYOUT, rate_hz=500, height_px=640)
ORIGINAL = '0001'  # the variant that is the page itself
UNPRINTED = (ORIGINAL, '0006')  # and the screens: no printer set their black off their colours
MAX_PX = 100_000_000  # of a picture; phones of the competition take 12 million
DARK, WHITE = 110, 245  # ink: every channel is below DARK; bare paper: every channel is at least WHITE
GUARD_PX = 2  # ink so near the trace is its soft edge, not text
INK_WITHIN_PX, INK_SHARE = 2, 0.95  # where a printed lead must have ink for csv and picture to belong together


class EcgPages(tfds.core.GeneratorBasedBuilder):
  """Writes <data_dir>/ecg_pages/<version> of `pages`: split -> what `example` returns. No split may be empty."""

  VERSION = tfds.core.Version('1.2.0')
  code_path = None  # TFDS looks for it with importlib_resources, which it does not require, to find download checksums

  def __init__(self, *, data_dir: str | os.PathLike, pages: Mapping[str, Iterable[Mapping]]):
    self._pages = pages
    super().__init__(data_dir=os.fspath(data_dir), file_format='array_record')

  def _info(self) -> tfds.core.DatasetInfo:
    png = lambda channels: tfds.features.Image(shape=(None, None, channels), encoding_format='png')
    floats = lambda *shape: tfds.features.Tensor(shape=shape, dtype=np.float32)
    features = {
      'image': png(3), 'mask': png(1), 'rows_px': floats(len(LAYOUT.zeros_px), FRAME.width_px),
      'mv': floats(len(LEADS), None), 'lattice': floats(*lattices.page_lattice().shape),
      'grid_lattice': floats(*lattices.page_lattice().shape), 'fs': np.int32,
      'id': tfds.features.Text(), 'variant': tfds.features.Text(),
    }  # fmt: skip
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

  def _split_generators(self, dl_manager):
    return {split: self._generate_examples(pages) for split, pages in self._pages.items()}

  def _generate_examples(self, pages: Iterable[Mapping]):
    return ((f'{page["id"]}-{page["variant"]}', page) for page in pages)


def split_of(record: str, *, val_share: float) -> str:
  """Returns 'val' or 'train' by a hash of the record's id: the same everywhere, whatever the other records are."""
  place = int.from_bytes(hashlib.sha256(record.encode()).digest()[:8], 'big') / 2**64
  return 'val' if place < val_share else 'train'


def example(record: data_folder.TrainRecord, *, variant: str) -> dict:
  """Makes the example of one page.

  Args:
    record: as `data_folder.list_train` gives it.
    variant: '0001' is the page itself; any other picture is registered to it.

  Returns:
    What EcgPages stores: 'image' (H, W, 3) as PNG bytes; 'mask' (1700, 2200), numbers of unet.CLASSES of the page's px, as PNG bytes;
    'rows_px' (R, W) float32, row of each strip's trace in FRAME, NaN where nothing is printed; 'mv' (12, 10 * fs) float32, NaN outside
    the printed part; 'lattice' (45, 57, 2) float32 image px, by the ink, and 'grid_lattice' by the grid; 'fs' in Hz; 'id'; 'variant'.

  Raises:
    ECGError: for a faulty csv, a picture that cannot be read, an original that is missing, has another size or shows another
      signal than the csv, or a picture that does not fit its original.
  """
  if ORIGINAL not in record.images:
    raise ECGError(f'no picture {record.id}-{ORIGINAL}.png, the original')
  mv = read_mv(record)
  page = read_page(record.images[ORIGINAL])
  printed, rate_hz = as_printed(mv, fs=record.fs)
  rows_px = truth_rows(printed, rate_hz=rate_hz)
  check_ink(page, rows_px)
  image, ink_lattice, lattice = page, lattices.page_lattice(), lattices.page_lattice()
  if variant != ORIGINAL:
    image = read_picture(record.images[variant])
    lattice, ink_lattice, _ = register_to_original.register(image, page)
  return {
    'image': _png(image), 'mask': _png(class_mask(page, printed, rate_hz=rate_hz)), 'rows_px': rows_px, 'mv': mv,
    'lattice': ink_lattice, 'grid_lattice': lattice, 'fs': np.int32(record.fs), 'id': record.id, 'variant': variant,
  }  # fmt: skip


def read_mv(record: data_folder.TrainRecord) -> np.ndarray:
  """Returns (12, 10 * fs) float32 mV in leads.LEADS order, NaN where not printed; ECGError for any other layout."""
  runs = data_folder.read_record_csv(record.csv, fs=record.fs)
  rows = submission.read_rows(record.csv, columns=LEADS)
  mv = np.full((len(LEADS), len(rows)), np.nan, np.float32)
  for lead, run in runs.items():
    first = next(i for i, row in enumerate(rows) if row[lead].strip().lower() not in ('', 'nan'))
    segment = LAYOUT.scored(lead)
    start, count = segment.start_s * record.fs, (segment.stop_s - segment.start_s) * record.fs
    if abs(first - start) >= 1 or abs(len(run) - count) >= 1:  # fs may be odd: half a sample either way is fine
      raise ECGError(
        f'{record.csv}: lead {lead} has {len(run)} samples from row {first}; {LAYOUT.name} prints {count:g} from row '
        f'{start:g} at fs={record.fs} Hz of train.csv'
      )
    mv[LEADS.index(lead), first : first + len(run)] = run
  return mv


def read_page(path: str | os.PathLike) -> np.ndarray:
  """Returns (1700, 2200, 3) uint8, a transparent picture on white; ECGError if unreadable or of another size."""
  return read_picture(path, size=(paper.WIDTH_PX, paper.HEIGHT_PX))


def read_picture(path: str | os.PathLike, *, size: tuple[int, int] | None = None) -> np.ndarray:
  """Reads a picture of the competition, as its pixels lie in the file.

  Args:
    path: PNG or JPEG.
    size: width and height in px that it must have; None: any up to MAX_PX.

  Returns:
    (H, W, 3) uint8, a transparent picture on white.

  Raises:
    ECGError: if it cannot be read or has another size.
  """
  try:
    with Image.open(path, formats=('PNG', 'JPEG')) as file:
      if size is not None and file.size != size:  # before a px is decoded
        raise ECGError(f'the picture is {file.width} x {file.height} px; a {ORIGINAL} page is {size[0]} x {size[1]}')
      if file.width * file.height > MAX_PX:
        raise ECGError(f'the picture is {file.width} x {file.height} px, more than {MAX_PX // 1_000_000} million')
      page = Image.new('RGBA', file.size, 'white')
      page.alpha_composite(file.convert('RGBA'))
  except ECGError:
    raise
  except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
    raise ECGError(f'the picture cannot be read: {error}') from error
  return np.asarray(page.convert('RGB'))


def as_printed(mv: np.ndarray, *, fs: int) -> tuple[np.ndarray, int]:
  """The record on the page's own time, at a rate at which every column begins on a sample.

  The competition prints a lead's first sample where its column begins: at an odd fs between two samples of the record,
  which is therefore doubled by the mid points of its lines.

  Args:
    mv: (12, T) as from `read_mv`.
    fs: its rate in Hz.

  Returns:
    (12, T * k) mV, NaN where not printed, and its rate k * fs; k is 1 or 2.
  """
  k = 1 + fs % 2
  printed = np.full((len(LEADS), mv.shape[-1] * k), np.nan, np.float32)
  for lead, row, out in zip(LEADS, mv, printed, strict=True):
    run = row[~np.isnan(row)]
    first = round(LAYOUT.scored(lead).start_s * fs * k)
    count = (len(run) - 1) * k + 1
    out[first : first + count] = np.interp(np.arange(count) / k, np.arange(len(run)), run)
  return printed, fs * k


def truth_rows(printed: np.ndarray, *, rate_hz: int) -> np.ndarray:
  """Returns (R, W) float32 strip rows in px of FRAME, NaN where nothing is printed, of mV as from `as_printed`."""
  mv, visible = ground_truth.at(jnp.asarray(printed), FRAME.times_s(), layout=LAYOUT, rate_hz=rate_hz)
  return np.where(visible, FRAME.rows_px(np.asarray(mv)), np.nan).astype(np.float32)


def check_ink(image: np.ndarray, rows_px: np.ndarray) -> None:
  """Raises ECGError if a segment has no ink in `image` (1700, 2200, 3) where `rows_px` (R, W) says it is printed."""
  dark = (image < DARK).all(-1)
  ink = ndimage.maximum_filter(dark, size=(2 * INK_WITHIN_PX + 1, 1))
  time_s = FRAME.times_s()
  for segment in LAYOUT.segments:
    mv = FRAME.millivolts(rows_px[segment.row])
    y = LAYOUT.zeros_px[segment.row] - mv * LAYOUT.px_per_mv
    # a trace may leave the page, and NaN compares false
    there = (time_s >= segment.start_s) & (time_s < segment.stop_s) & (y >= 0) & (y < paper.HEIGHT_PX)
    x = paper.START_X_PX + time_s[there] * LAYOUT.px_per_s
    hit = ink[y[there].astype(int), x.astype(int)]
    if hit.size and hit.mean() < INK_SHARE:
      raise ECGError(
        f'csv and picture disagree: lead {segment.lead}, row {segment.row + 1}, has ink within {INK_WITHIN_PX} px in '
        f'{hit.mean():.0%} of its columns; need {INK_SHARE:.0%}'
      )


def class_mask(image: np.ndarray, printed: np.ndarray, *, rate_hz: int) -> np.ndarray:
  """Returns (1700, 2200) uint8 numbers of unet.CLASSES for `image` (1700, 2200, 3) and mV as from `as_printed`."""
  held = np.maximum.accumulate(np.where(np.isnan(printed), 0, np.arange(printed.shape[-1])), axis=-1)
  drawn = np.nan_to_num(np.take_along_axis(printed, held, axis=-1))  # a lead that ends early must not drop to zero
  trace = np.asarray(_trace(rate_hz)(drawn))
  dark = (image < DARK).all(-1)
  near = np.asarray(ndimage.maximum_filter(trace, size=2 * GUARD_PX + 1), bool)
  mask = np.full(trace.shape, unet.CLASSES.index('background'), np.uint8)
  # later ones lie on top
  for name, px in (('grid', (image < WHITE).any(-1)), ('text', dark), ('trace', trace | (dark & near))):
    mask[px] = unet.CLASSES.index(name)
  return mask


@functools.cache
def _trace(rate_hz: int):
  """Returns the compiled (12, T) mV -> (1700, 2200) bool, where the competition's trace covers most of a px."""

  draw = functools.partial(render.page, layout=LAYOUT, style=looks.competition(), rate_hz=rate_hz)
  return jax.jit(lambda mv: draw(jax.random.key(0), mv).inks[..., 2] > 0.5)


def _png(pixels: np.ndarray) -> bytes:
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'PNG', compress_level=1)  # 4.5 times faster than level 6, 7 % larger
  return file.getvalue()
