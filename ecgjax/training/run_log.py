"""Metrics and pictures of a run: one JSON line per report, pictures, TensorBoard files where tensorboardX is installed."""

import importlib.util
import json
import pathlib
import time

import jax
import numpy as np

from ecgjax.io.images import png


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
