"""Draws our page from a record's truth beside the competition's own 0001 page, and measures how far the traces are apart.

python scripts/side_by_side.py --page ID-0001.png --truth ID.csv --fs 250 --out docs/pictures/side_by_side.png
"""

import argparse
import csv

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from ecgjax.drawing import ground_truth, looks, render
from ecgjax.ecg.leads import LEADS
from ecgjax.geometry import layouts
from ecgjax.io import images

PART = (560, 560, 1260, 800)  # left, top, right, bottom in page px: two bars, names and sharp peaks


def read_truth(path: str) -> np.ndarray:
  """Returns (12, T) mV, 0 where a lead is not printed."""
  with open(path, newline='') as file:
    rows = list(csv.DictReader(file))
  return np.array([[float(row[lead] or 0) for row in rows] for lead in LEADS])


def centres(image: np.ndarray, rows: np.ndarray, columns: np.ndarray, *, reach: int = 3) -> np.ndarray:
  """Centre of mass of dark, colourless ink within `reach` px of the given row in each column, in continuous px."""
  darkness = np.clip((200.0 - image.max(-1)) / 200, 0, 1)  # a red or pink grid line has a bright channel
  y = np.floor(rows).astype(int)[:, None] + np.arange(-reach, reach + 1)
  weights = darkness[y, columns[:, None]]
  with np.errstate(invalid='ignore'):
    return (weights * (y + 0.5)).sum(1) / weights.sum(1)


def flat_parts(mv: np.ndarray, page: layouts.Layout, fs: float) -> tuple[np.ndarray, np.ndarray]:
  """Returns page rows and columns (n,) of px whose trace rises less than 1 px a column, away from bars and the next trace."""
  xs = np.arange(140, 2075)
  times = (xs + 0.5 - 118.110) / page.px_per_s
  wanted, printed = ground_truth.at(jnp.asarray(mv), times, layout=page, rate_hz=fs)
  y = np.array(page.zeros_px)[:, None] - np.asarray(wanted) * page.px_per_mv
  steep = np.abs(np.gradient(y, axis=1)) >= 1
  steep = np.stack([np.convolve(s, np.ones(9), 'same') > 0 for s in steep])
  near_bar = np.abs((times + 1.25) % 2.5 - 1.25) < 0.2  # bars and, below them, the names
  lone = np.stack([np.min(np.abs(np.delete(y, r, 0) - y[r]), axis=0) > 15 for r in range(len(y))])
  keep = printed & ~steep & ~near_bar & lone
  return y[keep], np.broadcast_to(xs, y.shape)[keep]


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--page', required=True)
  parser.add_argument('--truth', required=True)
  parser.add_argument('--fs', type=int, required=True)
  parser.add_argument('--out', required=True)
  args = parser.parse_args()
  page, mv, real = layouts.make(), read_truth(args.truth), images.read(args.page)
  drawn = render.page(jax.random.key(0), jnp.asarray(mv), layout=page, style=looks.competition(), rate_hz=args.fs).image
  ours = np.asarray(jnp.round(255 * jnp.clip(drawn, 0, 1))).astype(np.uint8)
  rows, columns = flat_parts(mv, page, args.fs)
  for name, other in (('our page', centres(ours, rows, columns)), ('the truth', rows)):
    dy = centres(real, rows, columns) - other
    dy = dy[np.isfinite(dy)]
    print(f'real page against {name}: mean dy {dy.mean():+.3f} px, rms {np.sqrt((dy**2).mean()):.3f} px, {dy.size} columns')
  crops = [Image.fromarray(x).crop(PART).resize((1400, 480), Image.Resampling.LANCZOS) for x in (real, ours)]
  Image.fromarray(np.concatenate([np.asarray(c) for c in crops])).save(args.out, optimize=True)
  print(f'wrote {args.out}: the real page above, ours below')


if __name__ == '__main__':
  main()
