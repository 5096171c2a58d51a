"""Finds where the wrinkled pages (0015) of a benchmark folder lie, from their clean twins (0001), so that reading can be scored alone.

python scripts/kit_lattices.py --data DIR --out DIR2
The renderer that made them turns, crops and resizes a page: one affine map, fitted here by matching patches of trace and names.
DIR2 becomes a competition folder of links to DIR's files with `<id>-0015.lattice.npy` beside them, for
python -m ecgjax.evaluate --data DIR2 --variant 0015 --true-lattice
"""

import argparse
import pathlib

import numpy as np
from scipy import ndimage, signal

from ecgjax.competition import data_folder
from ecgjax.geometry import lattices, paper
from ecgjax.io import images

HEADER_PX = 150  # the wrinkled pages have none
COARSE, ANGLES_DEG = 8, np.arange(-6, 6.01, 0.5)
ROUNDS = ((4.0, 24, 160), (2.0, 8, 120), (1.0, 5, 100), (1.0, 5, 100))  # sigma of the blur, reach, half size of a patch in px
PATCHES = 150


def ink(image: np.ndarray) -> np.ndarray:
  """(H, W): darkness against the neighbourhood in units of its own spread, so that shading and colour drop out."""
  bright = image.astype(np.float32).max(-1)
  dark = ndimage.gaussian_filter(bright, 10) - bright
  return np.clip(dark / (np.sqrt(ndimage.gaussian_filter(dark**2, 25)) + 3), -1, 4)


def template(clean: np.ndarray) -> np.ndarray:
  """(1700, 2200): trace, pulses, bars and names of the clean page: what is dark in all three colours."""
  dark = np.clip((150 - clean.astype(np.float32).max(-1)) / 150, 0, 1)
  dark[:HEADER_PX] = 0
  dark[:, :4] = dark[:, -4:] = dark[-4:] = 0
  return dark


def coarse(image_ink: np.ndarray, clean_ink: np.ndarray) -> np.ndarray:
  """Returns (2, 3), page to image: the best turn and shift at an eighth of the size."""
  small = [ndimage.zoom(ndimage.gaussian_filter(a, COARSE / 2), 1 / COARSE, order=1) for a in (image_ink, clean_ink)]
  middle = np.array([paper.WIDTH_PX, paper.HEIGHT_PX]) / 2
  best = -np.inf, np.eye(2, 3)
  for degrees in ANGLES_DEG:
    turned = ndimage.rotate(small[1], -degrees, reshape=False, order=1)
    match = signal.fftconvolve(small[0], (turned - turned.mean())[::-1, ::-1], mode='same')
    y, x = np.unravel_index(match.argmax(), match.shape)
    if match[y, x] > best[0]:
      c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
      linear = np.array([[c, -s], [s, c]])
      shift = COARSE * (np.array([x, y]) - (np.array(match.shape[::-1]) - 1) // 2)
      best = match[y, x], np.column_stack([linear, middle - linear @ middle + shift])
  return best[1]


def patch_offsets(image_ink: np.ndarray, clean_ink: np.ndarray, affine: np.ndarray, *, reach: int, half: int):
  """Where the richest patches of the page are found in the image: (N, 2) page centres, (N, 2) offsets in page px, (N,) weights."""
  energy = ndimage.uniform_filter(clean_ink**2, 2 * half)[half:-half:half, half:-half:half]
  order = np.argsort(energy.ravel())[::-1][:PATCHES]
  centres = half + half * np.stack(np.unravel_index(order, energy.shape), axis=-1)[:, ::-1]
  offsets, weights = [], []
  for x, y in centres:
    around = np.arange(-half - reach, half + reach)
    px = np.stack(np.meshgrid(x + around + 0.5, y + around + 0.5), axis=-1) @ affine[:, :2].T + affine[:, 2]
    found = ndimage.map_coordinates(image_ink, [px[..., 1] - 0.5, px[..., 0] - 0.5], order=1)
    wanted = clean_ink[y - half : y + half, x - half : x + half]
    match = signal.fftconvolve(found, (wanted - wanted.mean())[::-1, ::-1], mode='valid')
    j, i = (int(np.clip(k, 1, 2 * reach - 1)) for k in np.unravel_index(match.argmax(), match.shape))
    bend = [2 * match[j, i] - match[j, i - 1] - match[j, i + 1], 2 * match[j, i] - match[j - 1, i] - match[j + 1, i]]
    slope = [(match[j, i + 1] - match[j, i - 1]) / 2, (match[j + 1, i] - match[j - 1, i]) / 2]
    offsets.append([i - reach + slope[0] / max(bend[0], 1e-6), j - reach + slope[1] / max(bend[1], 1e-6)])
    weights.append(max(match[j, i], 0) / (np.sqrt((wanted**2).sum()) + 1e-6))
  return centres, np.clip(offsets, -reach, reach), np.array(weights)


def fit(image: np.ndarray, clean: np.ndarray) -> tuple[np.ndarray, float]:
  """Fits the affine map of a picture.

  Args:
    image: (H, W, 3) uint8.
    clean: (1700, 2200, 3) uint8, the same page.

  Returns:
    (2, 3) page px -> image px, and the median distance in px by which the patches miss it.
  """
  image_ink, clean_ink = ink(image), template(clean)
  affine, miss = coarse(image_ink, clean_ink), np.inf
  for sigma, reach, half in ROUNDS:
    blurred = [ndimage.gaussian_filter(a, sigma) for a in (image_ink, clean_ink)]
    centres, offsets, weights = patch_offsets(blurred[0], blurred[1], affine, reach=reach, half=half)
    goal = (centres + offsets) @ affine[:, :2].T + affine[:, 2]
    design = np.column_stack([centres, np.ones(len(centres))])
    root = np.sqrt(weights)
    for _ in range(8):  # patches that lie far off lose their say
      solved = np.linalg.lstsq(design * root[:, None], goal * root[:, None], rcond=None)[0]
      off = np.linalg.norm(design @ solved - goal, axis=1)
      miss = float(np.median(off))
      root = np.sqrt(weights) / (1 + (off / (2 * miss + 0.1)) ** 2)
    affine = solved.T
  return affine, miss


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--data', required=True)
  parser.add_argument('--out', required=True)
  args = parser.parse_args()
  data, out = pathlib.Path(args.data).resolve(), pathlib.Path(args.out)
  for record in data_folder.list_train(data):
    here = out / 'train' / record.id
    here.mkdir(parents=True, exist_ok=True)
    for path in (record.csv, *record.images.values()):
      if not (here / path.name).exists():
        (here / path.name).symlink_to(path)
    affine, miss = fit(*(images.read(record.images[v]) for v in ('0015', '0001')))
    lattice = lattices.page_lattice() @ affine[:, :2].T + affine[:, 2]
    np.save(here / f'{record.id}-0015.lattice.npy', lattice.astype(np.float32))
    print(f'{record.id}  median miss of {PATCHES} patches {miss:.2f} px', flush=True)
  if not (out / 'train.csv').exists():
    (out / 'train.csv').symlink_to(data / 'train.csv')


if __name__ == '__main__':
  main()
