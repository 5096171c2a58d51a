"""Reading of the records built by `python -m data_builders.ecg_pages` (TFDS, array_record, no TensorFlow)."""

import io
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ecgjax.ecg.errors import ECGError, MissingLibrary

RATE_HZ, HEIGHT_PX = 500, 640  # frame of the stored rows: lattices.frame(layouts.make('3x4+II'), ...)


class Pages(Sequence):
  """Random access to the examples of a split.

  `pages[i]` is a dict: 'image' (H, W, 3) uint8, 'mask' (1700, 2200) uint8 numbers of unet.CLASSES of the page,
  'rows_px' (4, 5248) float32, 'mv' (12, T) float32, 'lattice' (45, 57, 2) float32, 'fs' () int32, 'id' and 'variant' str.
  """

  def __init__(self, source: Sequence[dict[str, Any]]):
    self._source = source

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index):
    if not -len(self) <= index < len(self):
      raise IndexError(index)  # the source below raises ValueError, at which a plain `for` does not end
    page = dict(self._source[index])
    page |= {name: _pixels(page[name]) for name in ('image', 'mask')}
    return page | {name: page[name].decode() for name in ('id', 'variant')}


def read(folder: str | os.PathLike, *, split: str) -> Pages:
  """Opens a split.

  Args:
    folder: the --out of the build.
    split: 'train', 'val' or a part of one in TFDS notation, 'train[:10%]'.

  Returns:
    Its pages.

  Raises:
    ECGError: if TFDS is not installed, there is no finished dataset, or it has no such split.
  """
  try:
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise MissingLibrary("reading records needs tensorflow-datasets: pip install -e '.[data]'") from error
  versions = sorted(pathlib.Path(folder).glob('ecg_pages/*.*.*/dataset_info.json'))
  finished = [path.parent for path in versions if '.incomplete' not in path.parent.name]
  if not finished:
    raise ECGError(f'no finished records in {folder!s}; build some with python -m data_builders.ecg_pages and name their folder')
  skip = tfds.decode.SkipDecoding()  # decoded here: TFDS would take cv2 where that is installed
  try:
    builder: Any = tfds.builder_from_directory(os.fspath(finished[-1]))
    if split.split('[')[0] not in builder.info.splits:
      raise ECGError(f'split={split!r} is not in {folder}; it has {", ".join(builder.info.splits)}')
    return Pages(builder.as_data_source(split=split, decoders={'image': skip, 'mask': skip}))
  except ECGError:
    raise
  except ImportError as error:
    raise MissingLibrary(f"reading records needs {error.name}: pip install -e '.[data]'") from error
  except ValueError as error:  # of TFDS: a damaged description, or a part of a split that is none
    raise ECGError(f'the records in {folder} cannot be opened: {error}') from error


def _pixels(png: bytes) -> np.ndarray:
  from PIL import Image

  with Image.open(io.BytesIO(png), formats=('PNG',)) as file:
    return np.asarray(file)
