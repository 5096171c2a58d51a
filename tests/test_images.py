"""Files of every kind to pixels, and bytes that are not to be trusted."""

import io
import pathlib
import struct
import tempfile

import numpy as np
import pypdfium2
import pytest
from PIL import Image, ImageOps

from ecgjax.io import images
from ecgjax.io.dicom import write_dicom

# smooth, and unlike itself in any turn: what survives JPEG and drawing at another size
X, Y = np.meshgrid(np.linspace(0, 1, 66), np.linspace(0, 1, 44))
RGB = np.round(255 * np.stack([0.2 + 0.7 * X, 0.9 - 0.6 * Y, 0.3 + 0.5 * X * Y], -1)).astype(np.uint8)
GREY = RGB[..., 0]


def saved(picture, kind, **more):
  buffer = io.BytesIO()
  picture.save(buffer, kind, **more)
  return buffer.getvalue()


def heic():
  import pillow_heif

  buffer = io.BytesIO()
  pillow_heif.from_pillow(Image.fromarray(RGB)).save(buffer, quality=95)
  return buffer.getvalue()


def dicom(values, *, bits=8, interpretation='RGB', **more):
  import pydicom
  from pydicom.uid import ExplicitVRLittleEndian, generate_uid

  file = pydicom.Dataset()
  file.file_meta = pydicom.FileMetaDataset()
  file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
  file.SOPClassUID, file.SOPInstanceUID = '1.2.840.10008.5.1.4.1.1.7', generate_uid()
  file.Rows, file.Columns = values.shape[:2]
  file.SamplesPerPixel, file.PhotometricInterpretation = 3 if values.ndim == 3 else 1, interpretation
  file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16 if bits > 8 else 8, bits, bits - 1, 0
  if values.ndim == 3:
    file.PlanarConfiguration = 0
  file.add_new('PixelData', 'OW' if bits > 8 else 'OB', values.tobytes())
  for name, value in more.items():
    setattr(file, name, value)
  buffer = io.BytesIO()
  file.save_as(buffer, enforce_file_format=True)
  return buffer.getvalue()


def as_pdf():
  return saved(Image.fromarray(RGB), 'PDF', quality=95)


def encapsulated():
  data = as_pdf()
  return dicom(GREY, interpretation='MONOCHROME2', EncapsulatedDocument=data + b'\0' * (len(data) % 2))


WIDE = (GREY.astype(np.uint16) * 257).astype(np.uint16)
FILES = {
  'png': lambda: saved(Image.fromarray(RGB), 'PNG'),
  'jpeg': lambda: saved(Image.fromarray(RGB), 'JPEG', quality=95),
  'cmyk jpeg': lambda: saved(Image.fromarray(RGB).convert('CMYK'), 'JPEG', quality=95),
  'palette': lambda: saved(Image.fromarray(RGB).quantize(256), 'PNG'),
  'tiff': lambda: saved(Image.fromarray(RGB), 'TIFF', compression='tiff_lzw'),
  'bmp': lambda: saved(Image.fromarray(RGB), 'BMP'),
  'webp': lambda: saved(Image.fromarray(RGB), 'WEBP', lossless=True),
  'jpeg 2000': lambda: saved(Image.fromarray(RGB), 'JPEG2000'),
  'heic': heic,
  'dicom': lambda: dicom(RGB),
  'pdf': as_pdf,
  'dicom with a pdf': encapsulated,
  'grey': lambda: saved(Image.fromarray(GREY), 'PNG'),
  'grey of 16 bits': lambda: saved(Image.fromarray(WIDE), 'PNG'),
  'grey tiff of 16 bits': lambda: saved(Image.fromarray(WIDE), 'TIFF'),
  'dicom of 12 bits': lambda: dicom((WIDE >> 4), bits=12, interpretation='MONOCHROME2'),
  'dicom, black on high': lambda: dicom(0xFFF - (WIDE >> 4), bits=12, interpretation='MONOCHROME1'),
}


def test_a_picture_that_needs_too_much_memory_is_not_called_damaged_alone():
  def work(value):
    raise MemoryError

  with pytest.raises(images.Unreadable, match='needs more memory than there is, or is damaged'):
    images._plainly(work, b'')


@pytest.mark.parametrize('kind', FILES)
def test_every_kind_of_file_gives_the_colours_that_were_put_in(kind):
  source = images.open_bytes(FILES[kind]())
  seen = source.read(0)
  assert source.pages == 1 and seen.dtype == np.uint8 and seen.shape[2] == 3
  small = np.asarray(Image.fromarray(seen).resize((66, 44), Image.Resampling.BOX)).astype(int)
  wanted = np.broadcast_to(GREY[..., None], RGB.shape) if 'grey' in kind or 'high' in kind or '12' in kind else RGB
  if '12' in kind or 'high' in kind:  # of a window of its own, its ends become black and white
    wanted = (wanted.astype(int) - wanted.min()) * 255 / np.ptp(wanted)
  assert np.abs(small - wanted).mean() < 4


def test_alpha_is_laid_on_white_and_exif_turns(tmp_path):
  picture = Image.new('RGBA', (4, 2), (255, 0, 0, 0))
  exif = Image.Exif()
  exif[274] = 6  # turn by 90 degrees
  picture.save(tmp_path / 'turned.png', exif=exif)
  np.testing.assert_array_equal(images.read(tmp_path / 'turned.png'), np.full((4, 2, 3), 255))


def test_a_file_of_several_pages_gives_each_in_its_order():
  pages = [Image.fromarray(np.full((20, 30, 3), shade, np.uint8)) for shade in (10, 120, 240)]
  for kind in ('TIFF', 'PDF'):
    source = images.open_bytes(saved(pages[0], kind, save_all=True, append_images=pages[1:]))
    assert source.pages == 3
    assert [int(source.read(n).mean() / 10 + 0.5) for n in (2, 0, 1)] == [24, 1, 12]


def test_a_fax_in_coarse_mode_is_stretched_to_square_px():
  data = saved(Image.new('1', (204, 98), 1), 'TIFF', dpi=(204, 98), compression='group4')
  assert images.open_bytes(data).read(0).shape == (204, 204, 3)
  assert images.open_bytes(saved(Image.new('1', (204, 98), 1), 'TIFF', dpi=(204, 196 * 204 / 200))).read(0).shape == (98, 204, 3)
  turned = Image.Exif()
  turned[274] = 6
  data = saved(Image.new('1', (204, 98), 1), 'TIFF', dpi=(204, 98), exif=turned)
  assert images.open_bytes(data).read(0).shape == (204, 204, 3)


def protected_pdf():
  """A PDF that says it is encrypted, with a check of the password that no password passes."""
  secret = b'<' + b'41' * 32 + b'>'
  objects = [
    b'<< /Type /Catalog /Pages 2 0 R >>', b'<< /Type /Pages /Kids [3 0 R] /Count 1 >>',
    b'<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>',
    b'<< /Filter /Standard /V 1 /R 2 /P -4 /O ' + secret + b' /U ' + secret + b' >>',
  ]  # fmt: skip
  data, places = b'%PDF-1.4\n', []
  for n, body in enumerate(objects, start=1):
    places.append(len(data))
    data += b'%d 0 obj\n' % n + body + b'\nendobj\n'
  table = b''.join(b'%010d 00000 n \n' % place for place in places)
  tail = b'trailer << /Size 5 /Root 1 0 R /Encrypt 4 0 R /ID [<00> <00>] >>\nstartxref\n%d\n%%%%EOF' % len(data)
  return data + b'xref\n0 5\n0000000000 65535 f \n' + table + tail


def long_pdf():
  document, buffer = pypdfium2.PdfDocument.new(), io.BytesIO()
  for _ in range(images.MAX_PAGES + 1):
    document.new_page(10, 10)
  document.save(buffer)
  return buffer.getvalue()


def waveform():
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'a.dcm'
    write_dicom(path, np.zeros((500, 12)), fs=500)
    return path.read_bytes()


BAD = {
  'empty': (lambda: b'', 'empty'),
  'a text': (lambda: b'a text file, by whatever name', 'no picture of a known kind'),
  'cut jpeg': (lambda: FILES['jpeg']()[:400], 'damaged'),
  'cut png': (lambda: FILES['png']()[:-200], 'damaged'),
  'cut pdf': (lambda: as_pdf()[:90], 'cannot be opened'),
  'cut heic': (lambda: heic()[:200], 'damaged'),
  'cut dicom': (lambda: dicom(RGB)[:-500], 'damaged'),
  'protected pdf': (protected_pdf, 'password'),
  'long pdf': (long_pdf, '501 pages'),
  'bomb': (lambda: saved(Image.new('1', (11_000, 10_000)), 'PNG'), '11000 x 10000 px; at most 100 million'),
  'dicom bomb': (lambda: dicom(GREY, interpretation='MONOCHROME2', Rows=60_000, Columns=60_000), '60000 x 60000 px'),
  'dicom without a picture': (waveform, 'no picture, but the signals themselves'),
  'larger bomb': (lambda: saved(Image.new('1', (20_000, 10_000)), 'PNG'), 'at most 100 million'),
  'floating point': (lambda: saved(Image.fromarray(np.zeros((9, 9), np.float32)), 'TIFF'), 'mode F'),
}


@pytest.mark.parametrize('kind', BAD)
def test_bad_bytes_are_refused_with_a_reason(kind):
  data, reason = BAD[kind][0](), BAD[kind][1]
  with pytest.raises(images.Unreadable, match=reason):
    images.open_bytes(data).read(0)


def test_whatever_a_decoder_raises_becomes_a_reason_that_names_the_file(tmp_path, monkeypatch):
  (tmp_path / 'page.png').write_bytes(FILES['png']())

  def broken(_):
    raise struct.error('unpack requires a buffer of 4 bytes')  # as from an EXIF block that is cut short

  monkeypatch.setattr(ImageOps, 'exif_transpose', broken)
  with pytest.raises(images.Unreadable, match='page.png cannot be read as a picture: .*unpack requires'):
    images.read(tmp_path / 'page.png')


def test_a_missing_library_is_named_with_the_way_to_get_it(monkeypatch):
  monkeypatch.setitem(__import__('sys').modules, 'pypdfium2', None)
  with pytest.raises(images.Unreadable, match=r"pypdfium2.*pip install 'ecgjax\[files\]'"):
    images.open_bytes(b'%PDF-1.4')
