"""Files to pixels: pictures from scanners, phones and archives, page by page.

Bytes are not trusted: the file type is detected from the first bytes, not from the name; sizes are checked before decoding, and every
exception of a decoder becomes one `Unreadable` with a reason for the user. Libraries beside Pillow are imported when a file needs them.
"""

import io
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ecgjax.ecg.errors import ECGError, Unreadable

MAX_MPX = 100
MAX_PAGES = 500
PDF_LONG_PX = 3300  # of a drawn PDF page: 300 dpi on 11 inches
PILLOW = ('PNG', 'JPEG', 'TIFF', 'BMP', 'GIF', 'WEBP', 'JPEG2000', 'PPM')  # none that runs another program, as EPS does
READABLE = 'PNG, JPEG, TIFF, BMP, GIF, WebP, JPEG 2000, PDF, HEIC, DICOM'
OBLONG = 1.1  # a TIFF whose px are longer than wide by more, as a fax's in its coarse mode, is stretched


class Source(NamedTuple):
  """A file opened but not decoded.

  Attributes:
    pages: how many pictures it holds.
    read: number of a page, from 0 -> (H, W, 3) uint8, upright as the file says, transparency on white.
  """

  pages: int
  read: Callable[[int], np.ndarray]


def open_bytes(data: bytes) -> Source:
  """Opens a file's bytes.

  Args:
    data: of a PNG, JPEG, TIFF (several pages), BMP, GIF, WebP, JPEG 2000, PDF, HEIC or DICOM file (an image or an encapsulated PDF).

  Returns:
    Its pages. Reading one raises Unreadable, too, if it is damaged.

  Raises:
    Unreadable: if it is none of these, protected, has more than MAX_PAGES pages, or its pictures more than MAX_MPX million px.
  """
  if not data:
    raise Unreadable('the file is empty')
  opener = next((opener for is_it, opener in OPENERS if is_it(data)), _pillow)
  source = _plainly(opener, data)
  if not 1 <= source.pages <= MAX_PAGES:
    raise Unreadable(f'it has {source.pages:,} pages; 1 to {MAX_PAGES} are read: split it')
  return Source(source.pages, lambda number: _plainly(source.read, number))


def read(path) -> np.ndarray:
  """Reads the first page of a file.

  Args:
    path: of the file.

  Returns:
    (H, W, 3) uint8.

  Raises:
    Unreadable: as `open_bytes`, with the path.
    OSError: if there is no such file.
  """
  with open(path, 'rb') as file:
    data = file.read()
  try:
    return open_bytes(data).read(0)
  except Unreadable as error:
    raise Unreadable(f'{path} cannot be read as a picture: {error}') from error


def _plainly(work: Callable, value) -> Any:
  """Calls a decoder; a damaged file makes them raise nearly anything: struct.error, IndexError, SyntaxError, MemoryError."""
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # of what a damaged file may mean; MAX_MPX is our own, stricter word on its size
      return work(value)
  except Unreadable:
    raise
  except ImportError as error:
    raise Unreadable(f"it needs a library that is not installed ({error.name}): pip install 'ecgjax[files]'") from error
  except MemoryError as error:  # the limit of a child process, or a size that a damaged file invents
    raise Unreadable('it needs more memory than there is, or is damaged: make the picture smaller, or read fewer at once') from error
  except Exception as error:
    raise Unreadable(f'it is damaged or no picture ({type(error).__name__}: {error})') from error


def _fits(width: int, height: int) -> None:
  if width * height > MAX_MPX * 1e6:
    raise Unreadable(f'{width} x {height} px; at most {MAX_MPX} million px are read')
  if width < 1 or height < 1:
    raise Unreadable(f'{width} x {height} px')


def _pillow(data: bytes) -> Source:
  from PIL import Image, ImageOps, UnidentifiedImageError

  Image.init()
  try:
    file = Image.open(io.BytesIO(data), formats=PILLOW)
  except Image.DecompressionBombError as error:
    raise Unreadable(f'{error}; at most {MAX_MPX} million px are read') from error
  except UnidentifiedImageError:
    raise Unreadable(f'it is no picture of a known kind ({READABLE})') from None

  def read(number: int) -> np.ndarray:
    file.seek(number)
    _fits(*file.size)
    return pixels(ImageOps.exif_transpose(_square(file) if file.format == 'TIFF' else file))

  return Source(getattr(file, 'n_frames', 1) if file.format == 'TIFF' else 1, read)


def pixels(picture) -> np.ndarray:
  """Takes a decoded picture's pixels.

  Args:
    picture: Pillow image of any mode: 1, L, P, RGB, CMYK, 16-bit grey, with alpha.

  Returns:
    (H, W, 3) uint8 on white.

  Raises:
    Unreadable: for floating-point px or integers beyond 16 bits, whose white is not known.
  """
  from PIL import Image

  if picture.mode.startswith(('I', 'F')):
    values = np.asarray(picture)
    if picture.mode == 'F' or values.min() < 0 or values.max() > 65535:
      raise Unreadable(f'its px are of mode {picture.mode}, of which it is not known what is white; 8 or 16 bits are read')
    picture = Image.fromarray((values / 257 + 0.5).astype(np.uint8))
  if picture.has_transparency_data:
    picture = picture.convert('RGBA')
    picture = Image.alpha_composite(Image.new('RGBA', picture.size, 'white'), picture)
  return np.array(picture.convert('RGB'))


def _square(picture):
  from PIL import Image

  across, down = (float(x) for x in picture.info.get('dpi', (1, 1)))
  if picture.tag_v2.get(274, 1) >= 5:  # Pillow turns a TIFF when it loads it, but not its densities
    across, down = down, across
  if not (across > 0 and down > 0 and OBLONG < max(across / down, down / across) <= 4):
    return picture
  size = round(picture.width * max(1, down / across)), round(picture.height * max(1, across / down))
  _fits(*size)
  return picture.convert('L' if picture.mode == '1' else picture.mode).resize(size, Image.Resampling.BICUBIC)


def _pdf(data: bytes) -> Source:
  import pypdfium2

  try:
    document = pypdfium2.PdfDocument(data)
  except pypdfium2.PdfiumError as error:
    if 'password' in str(error).lower():
      raise Unreadable('the PDF is protected by a password: save it without one') from error
    raise Unreadable(f'the PDF cannot be opened ({error})') from error

  def read(number: int) -> np.ndarray:
    page = document[number]
    width, height = page.get_size()
    if not (math.isfinite(width) and math.isfinite(height) and min(width, height) > 0):
      raise Unreadable(f'the PDF page measures {width} x {height} points')
    return pixels(page.render(scale=PDF_LONG_PX / max(width, height)).to_pil())

  return Source(len(document), read)


def _heif(data: bytes) -> Source:
  import pillow_heif

  file = pillow_heif.open_heif(io.BytesIO(data))  # turned upright by libheif
  _fits(*file.size)
  return Source(1, lambda number: pixels(file.to_pillow()))


def _dicom(data: bytes) -> Source:
  import pydicom
  from pydicom.pixels import processing, utils

  file = pydicom.dcmread(io.BytesIO(data))
  if 'EncapsulatedDocument' in file:
    return _pdf(file.EncapsulatedDocument)
  if 'PixelData' not in file:
    raise Unreadable('the DICOM file holds no picture' + (', but the signals themselves' if 'WaveformSequence' in file else ''))
  _fits(int(file.Columns), int(file.Rows))

  def read(number: int) -> np.ndarray:
    values = utils.pixel_array(file, index=number)
    if file.PhotometricInterpretation == 'PALETTE COLOR':
      values = processing.apply_color_lut(values, file)
    elif values.ndim == 2:
      values = processing.apply_voi_lut(processing.apply_modality_lut(values, file), file)
    values = np.asarray(values, np.float32)
    if file.BitsStored > 8 or values.min() < 0 or values.max() > 255:  # a window of its own: ink and paper are its ends
      values = (values - values.min()) * (255 / max(float(np.ptp(values)), 1e-6))
    values = 255 - values if file.PhotometricInterpretation == 'MONOCHROME1' else values
    return np.array(np.broadcast_to(values[..., None] if values.ndim == 2 else values, (*values.shape[:2], 3)) + 0.5, np.uint8)

  return Source(int(file.get('NumberOfFrames', 1) or 1), read)


OPENERS = (
  (lambda data: data[128:132] == b'DICM', _dicom),  # before PDF: it may hold one
  (lambda data: b'%PDF-' in data[:1024], _pdf),
  (lambda data: data[4:8] == b'ftyp' and data[8:12] in (b'heic', b'heix', b'hevc', b'heim', b'heis', b'mif1', b'msf1'), _heif),
)


def png(image: np.ndarray) -> bytes:
  """Encodes a picture.

  Args:
    image: (H, W, 3) uint8.

  Returns:
    A PNG file's bytes.

  Raises:
    ECGError: for another shape or dtype.
  """
  import cv2

  if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
    raise ECGError(f'picture is {image.dtype} {image.shape}; it must be uint8 (H, W, 3)')
  return cv2.imencode('.png', image[..., ::-1], (cv2.IMWRITE_PNG_COMPRESSION, 3))[1].tobytes()
