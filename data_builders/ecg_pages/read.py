"""Opens a dataset that `python -m data_builders.ecg_pages` has built."""

import io
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


class Pages:
  """Random access to the examples of a split, for `grain.MapDataset.source` or a plain loop.

  `pages[i]` is a dict: 'image' (H, W, 3) uint8, 'mask' (H, W) uint8 numbers of model.CLASSES, 'rows_px' (4, 5248)
  float32, 'mv' (12, T) float32, 'lattice' (45, 57, 2) float32, 'fs' () int32, 'id' and 'variant' numpy strings.
  """

  def __init__(self, source: Sequence[dict[str, Any]]):
    self._source = source

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> dict[str, Any]:
    page = dict(self._source[index])
    page |= {name: _pixels(page[name]) for name in ('image', 'mask')}
    return page | {name: np.str_(page[name].decode()) for name in ('id', 'variant')}


def read(out_dir: str | os.PathLike, split: str) -> Pages:
  """Opens a split.

  Args:
    out_dir: the --out of the build.
    split: 'train', 'val' or a part of one as TFDS writes it, 'train[:10%]'.

  Raises:
    FileNotFoundError: if there is no finished dataset.
    ValueError: if it has no such split.
  """
  versions = sorted(pathlib.Path(out_dir).glob('ecg_pages/*.*.*/dataset_info.json'))
  finished = [path.parent for path in versions if '.incomplete' not in path.parent.name]
  if not finished:
    raise FileNotFoundError(
      f'no finished dataset in {out_dir}; build one with python -m data_builders.ecg_pages --data DIR --out {out_dir}'
    )
  builder = tfds.builder_from_directory(os.fspath(finished[-1]))
  if split.split('[')[0] not in builder.info.splits:
    raise ValueError(f'split={split!r} is not in {out_dir}; it has {", ".join(builder.info.splits)}')
  # decoded here: TFDS would take cv2 where that is installed
  skip = tfds.decode.SkipDecoding()
  return Pages(builder.as_data_source(split=split, decoders={'image': skip, 'mask': skip}))


def _pixels(png: bytes) -> np.ndarray:
  with Image.open(io.BytesIO(png), formats=('PNG',)) as file:
    return np.asarray(file)
