"""Shows simulated pages of every variant, and compares their statistics with those of real ones where there are any.

python scripts/compare_looks.py --signals PACK --thumbnails variants.png --kit DIR --page ID-0001.png --out docs/looks [--beside DIR]

Real pages are measured and, with --beside, shown next to ours in a folder outside the repository; never copied into --out.
"""

import argparse
import io
import math
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from ecgjax.geometry import paper
from ecgjax.simulate import validation_set, variants

# Where the printed page lies in the competition's picture of thumbnails: left, top, right, bottom.
THUMBNAILS = {
  '0003': (32, 63, 422, 367), '0004': (463, 63, 854, 368), '0005': (934, 82, 1251, 332), '0006': (1414, 131, 1643, 308),
  '0009': (66, 513, 411, 782), '0010': (489, 519, 823, 779), '0011': (898, 494, 1290, 796), '0012': (1330, 496, 1723, 796),
}  # fmt: skip
MOST_BYTES = 280_000
GREY = np.array([0.299, 0.587, 0.114])


class Look(NamedTuple):
  """Statistics of a page; grey and colour are 0..255, noise too.

  Attributes:
    trace_px: full width at half depth of dark lines, in page px; nan where a page is too small to tell.
    contrast: blank paper around minus the darkest half percent.
    grid_percent: power at the pitch of the 5 mm grid, of all power.
    paper: median grey.
    rgb: median colour of the brighter half.
    noise: median absolute Laplacian.
  """

  trace_px: float
  contrast: float
  grid_percent: float
  paper: float
  rgb: tuple[float, float, float]
  noise: float


def flattened(grey: np.ndarray, *, cell_px: int) -> np.ndarray:
  """Returns how much darker each px is than the paper around it, 0..1; the paper is the 80 % quantile of cells, smoothed."""
  h, w = (n // cell_px for n in grey.shape)
  cells = grey[: h * cell_px, : w * cell_px].reshape(h, cell_px, w, cell_px)
  level = ndimage.gaussian_filter(np.quantile(cells, 0.8, axis=(1, 3)), 0.7)
  level = ndimage.zoom(level, (grey.shape[0] / h, grey.shape[1] / w), order=1, grid_mode=True, mode='nearest')
  return 1 - grey / np.clip(np.asarray(level, float)[: grey.shape[0], : grey.shape[1]], 1, None)


def trace_width(dark: np.ndarray) -> float:
  """Returns the mean full width at half depth, px, of the darkest lines that run across: measured down every column."""
  deep = np.quantile(dark, 0.998)
  peak = (dark[5:-5] >= 0.7 * deep) & (dark[5:-5] == ndimage.maximum_filter1d(dark, 11, axis=0)[5:-5])
  y, x = np.nonzero(peak)
  lines = dark[y[:, None] + np.arange(11), x[:, None]]  # 5 px above to 5 px below
  half = lines[:, 5] / 2
  lone = (lines[:, :2].max(1) < half) & (lines[:, -2:].max(1) < half)  # not along a steep line
  widths = (np.clip(lines - half[:, None], 0, None) > 0).sum(1)[lone].astype(float)
  if widths.size < 50:
    return math.nan
  # the mean of whole numbers of px is the width; the longest tenth are slopes
  return float(np.sort(widths)[: int(0.9 * widths.size)].mean())


def grid_share(dark: np.ndarray, *, pitch_px: float) -> float:
  """Returns the percentage of the spectrum's power at the pitch of the 5 mm grid, in any direction; median of patches."""
  side = round(14 * pitch_px)
  window = np.hanning(side)[:, None] * np.hanning(side)
  frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)) * pitch_px
  shares = []
  for top in range(0, dark.shape[0] - side + 1, side // 2):
    for left in range(0, dark.shape[1] - side + 1, side // 2):
      patch = dark[top : top + side, left : left + side]
      power = np.abs(np.fft.fft2((patch - patch.mean()) * window)) ** 2
      near = np.where(np.abs(frequency - 1) < 0.15, power, 0)
      shares.append(100 * near[near > 0.05 * near.max()].sum() / power.sum())
  return float(np.median(shares)) if shares else math.nan


def measure(image: np.ndarray) -> Look:
  """Returns the statistics of a picture of a page, (H, W, 3) uint8, cropped to the page."""
  scale = image.shape[1] / paper.WIDTH_PX
  grey = image @ GREY
  dark = flattened(grey, cell_px=max(4, round(60 * scale)))
  rgb = np.median(image[grey >= np.median(grey)], axis=0)
  laplacian = ndimage.laplace(grey)
  # the trace is dark in every colour that the paper shows, a coloured grid is not
  ink = [flattened(image[..., c].astype(float), cell_px=max(4, round(60 * scale))) for c in range(3) if rgb[c] > 80]
  return Look(
    trace_px=trace_width(np.min(ink, axis=0)) / scale if scale > 0.6 and ink else math.nan,
    contrast=float(np.quantile(dark, 0.995)) * 255,
    grid_percent=grid_share(dark, pitch_px=paper.MAJOR_PX * scale),
    paper=float(np.median(grey)),
    rgb=(float(rgb[0]), float(rgb[1]), float(rgb[2])),
    noise=float(np.median(np.abs(laplacian - np.median(laplacian)))),
  )


def crop(case: validation_set.Case, *, width_px: int = 0) -> np.ndarray:
  """Returns a simulated picture cropped to its page and, where asked, shrunk until the page is so wide."""
  size = np.array(case.image.shape[1::-1])
  corners = np.sort(case.lattice[[0, 0, -1, -1], [0, -1, 0, -1]], axis=0)
  box = np.clip([corners[:2].mean(0), corners[2:].mean(0)], 0, size)
  image = Image.fromarray(case.image).crop(tuple(box.round().astype(int).ravel().tolist()))
  if width_px:
    image = image.resize((width_px, round(image.height * width_px / image.width)), Image.Resampling.BOX)
  return np.asarray(image)


def levels(image: np.ndarray) -> np.ndarray:
  """Returns (257,) quantiles of a page's grey; the mean distance of two such is the earth mover's of the histograms."""
  return np.quantile(image @ GREY, np.linspace(0, 1, 257))


def reals(args) -> dict[str, list[np.ndarray]]:
  """Returns variant -> real pages, cropped."""
  read = lambda path: Image.open(path).convert('RGB')
  found: dict[str, list[np.ndarray]] = {}
  if args.thumbnails:
    found = {name: [np.asarray(read(args.thumbnails).crop(box))] for name, box in THUMBNAILS.items()}
  if args.page:
    found['0001'] = [np.asarray(read(args.page))]
  if args.kit:
    found['0015'] = [np.asarray(read(path)) for path in sorted(pathlib.Path(args.kit).rglob('*-0015.*'))[:10]]
  return found


def row(name: str, looks: list[Look], far: list[float]) -> str:
  """Returns one line of the table: medians over pages."""
  width, contrast, grid, level, rgb, noise = (np.median([look[i] for look in looks], axis=0) for i in range(6))
  cells = (name, len(looks), '' if np.isnan(width) else f'{width:.2f}', f'{contrast:.0f}', f'{grid:.1f}', f'{level:.0f}',
           ' '.join(f'{v:.0f}' for v in rgb), f'{noise:.1f}', f'{np.mean(far):.0f}' if far else '')  # fmt: skip
  return f'| {" | ".join(map(str, cells))} |'


def compare(name: str, cases: list[validation_set.Case], real: list[np.ndarray]) -> list[str]:
  """Returns the table's lines of a variant: ours, and the real pages at the same size."""
  ours = [crop(c, width_px=real[0].shape[1] if name in THUMBNAILS and real else 0) for c in cases]
  greys, others = [levels(x) for x in real], [levels(x) for x in ours]
  between = [float(np.abs(a - b).mean()) for i, a in enumerate(greys) for b in greys[:i]]
  lines = [row(name, [measure(x) for x in ours], [float(np.abs(a - b).mean()) for a in others for b in greys])]
  return lines + ([row(f'{name} real', [measure(x) for x in real], between)] if real else [])


def sheet(cases: list[validation_set.Case], *, tile: tuple[int, int] = (460, 354), label: str) -> Image.Image:
  """Returns a contact sheet: up to four pages, and below them two parts of the first two at full resolution."""
  canvas = Image.new('RGB', (4 * tile[0], 2 * tile[1] + 24), 'white')
  for i, case in enumerate(cases[:4]):
    page = Image.fromarray(case.image)
    page.thumbnail((tile[0] - 8, tile[1] - 8), Image.Resampling.LANCZOS)
    canvas.paste(page, (i * tile[0] + 4, 28))
  for i, case in enumerate(cases[:2]):
    low, high = np.array(tile) // (1, 2), np.array(case.image.shape[1::-1]) - np.array(tile) // (1, 2)
    x, y = np.clip(case.lattice[24, 18 + 6 * i], low, np.maximum(low, high)).astype(int).tolist()
    part = Image.fromarray(case.image).crop((x - tile[0] + 4, y - tile[1] // 2, x + tile[0] - 4, y + tile[1] // 2))
    canvas.paste(part, (2 * i * tile[0] + 4, 24 + tile[1]))
  ImageDraw.Draw(canvas).text((6, 4), label, fill='black', font_size=15)
  return canvas


def save(image: Image.Image, path: pathlib.Path):
  """Writes a JPEG of quality 80, or less where it would be larger than MOST_BYTES."""
  for quality in range(80, 8, -6):
    image.save(buffer := io.BytesIO(), 'JPEG', quality=quality)
    if buffer.tell() <= MOST_BYTES:
      break
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(buffer.getvalue())


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  for name in ('signals', 'thumbnails', 'kit', 'page', 'beside'):
    parser.add_argument(f'--{name}', default='')
  parser.add_argument('--out', required=True)
  parser.add_argument('--pages', type=int, default=4)
  parser.add_argument('--variants', default=','.join(variants.VARIANTS))
  args = parser.parse_args()
  real, records = reals(args), validation_set.recordings(args.signals, count=args.pages)
  print('| variant | pages | trace px | trace contrast | grid % | paper | paper RGB | noise | histogram distance |\n|' + '---|' * 9)
  for name in variants.parse(args.variants):
    cases = [validation_set.case(mv, name, i) for i, mv in enumerate(records)]
    print('\n'.join(compare(name, cases, real.get(name, []))), flush=True)
    picture = sheet(cases, label=f'{name}: {len(cases[:4])} simulated pages, and parts of two at full resolution')
    save(picture, pathlib.Path(args.out) / f'{name}.jpg')
    if args.beside and name in real:
      pages = [np.asarray(Image.fromarray(page).resize((520, 400))) for page in (real[name][0], *map(crop, cases[:2]))]
      save(Image.fromarray(np.concatenate(pages, axis=1)), pathlib.Path(args.beside) / f'{name}.jpg')


if __name__ == '__main__':
  main()
