"""What a run leaves behind: one JSON line per report, pictures, TensorBoard files where tensorboardX is installed."""

import importlib.util
import json
import pathlib
import struct
import sys
import time
import zlib

import jax
import numpy as np


def say(text: str) -> None:
  """Prints a line on stderr, from the first host only."""
  if jax.process_index() == 0:
    print(text, file=sys.stderr, flush=True)


def png(image: np.ndarray) -> bytes:
  """Encodes a picture; here because the training path has no image library to rely on.

  Args:
    image: (H, W, 3) uint8.

  Returns:
    A PNG file's bytes.

  Raises:
    ValueError: for another shape or dtype.
  """
  if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
    raise ValueError(f'picture is {image.dtype} {image.shape}; it must be uint8 (H, W, 3)')
  height, width, _ = image.shape
  raw = b''.join(b'\0' + row.tobytes() for row in image)

  def chunk(tag: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + tag + data + struct.pack('>I', zlib.crc32(tag + data))

  header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
  return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(raw, 3)) + chunk(b'IEND', b'')


class Log:
  """Writes scalars and pictures of a run into its workdir; does nothing on hosts other than the first."""

  def __init__(self, workdir):
    self.workdir = pathlib.Path(workdir)
    self.first, self.board, self.start = jax.process_index() == 0, None, time.time()
    if not self.first:
      return
    (self.workdir / 'pictures').mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec('tensorboardX'):
      from tensorboardX import SummaryWriter

      self.board = SummaryWriter(str(self.workdir / 'tensorboard'))

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Appends one line to metrics.jsonl."""
    if not self.first:
      return
    line = {'step': step, 'seconds': round(time.time() - self.start, 3), **{k: float(v) for k, v in values.items()}}
    with open(self.workdir / 'metrics.jsonl', 'a') as file:
      file.write(json.dumps(line) + '\n')
    if self.board:
      for name, value in values.items():
        self.board.add_scalar(name, float(value), step)

  def picture(self, step: int, name: str, image: np.ndarray) -> pathlib.Path:
    """Writes pictures/<name>_<step>.png and returns its path."""
    path = self.workdir / 'pictures' / f'{name}_{step:08d}.png'
    if self.first:
      path.write_bytes(png(image))
      if self.board:
        self.board.add_image(name, image, step, dataformats='HWC')
    return path

  def close(self) -> None:
    """Flushes everything to disk."""
    if self.board:
      self.board.close()
