"""Doubles the columns per second of a trace network: python scripts/finer_columns.py --weights FILE --out FILE

Cells keep their time and hold twice the columns of px. In the stem each half of a column gets half its weights, and the heads say the same
of both halves: what was read before is read at first, each column twice. Further training (`configs/finetune.py`, with the options that are
printed) tells the halves apart. The trunk costs what it did.
"""

import argparse
import pathlib

import numpy as np

from ecgjax.networks import weight_files
from ecgjax.networks.unet import CHANNELS, CLASSES


def finer(params: dict, cell: tuple[int, int]) -> dict:
  """Returns the parameters of the network whose cells hold (rows, 2 * columns) px; `cell` is what they held."""
  rows, cols = cell
  both = lambda a, axis: np.repeat(a, 2, axis=axis)
  stem, head, bias = params['stem']['kernel'], params['head']['kernel'], params['head']['bias']
  stem = both(stem.reshape(*stem.shape[:2], rows, cols, CHANNELS, -1) / 2, 3).reshape(*stem.shape[:2], 2 * stem.shape[2], -1)
  of_px = (rows, cols, len(CLASSES) + 1)
  head = both(head.reshape(*head.shape[:3], *of_px), 4).reshape(*head.shape[:3], -1)
  hide = {name: both(a, -1) for name, a in params['hide'].items()}
  return {
    **params, 'stem': {**params['stem'], 'kernel': stem}, 'hide': hide,
    'head': {'kernel': head, 'bias': both(bias.reshape(of_px), 1).reshape(-1)},
  }  # fmt: skip


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--weights', required=True, help='a .safetensors file of a trace network')
  parser.add_argument('--out', required=True, help='the file to write')
  args = parser.parse_args()
  if pathlib.Path(args.out).exists():
    parser.error(f'{args.out} exists; choose another --out')
  params, meta = weight_files.load_weights(args.weights)
  rows, cols = cell = tuple(meta['model']['cell'])
  strip = {**meta['strip'], 'rate_hz': 2 * meta['strip']['rate_hz'], 'window_px': 2 * meta['strip']['window_px']}
  meta = {name: value for name, value in meta.items() if name != 'calibration'}
  meta |= {'model': {**meta['model'], 'cell': [rows, 2 * cols]}, 'strip': strip}
  meta['config'] = {**meta['config'], 'model': meta['model'], 'strip': strip}
  weight_files.save_weights(args.out, finer(params, cell), meta=meta)
  options = {'strip.rate_hz': strip['rate_hz'], 'strip.window_px': strip['window_px'], 'model.cell': f"'({rows},{2 * cols})'"}
  print(f'--config.init_from={args.out}', *(f'--config.{name}={value}' for name, value in options.items()))


if __name__ == '__main__':
  main()
