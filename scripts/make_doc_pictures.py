"""Draws the pictures of docs/how_it_works.md: python scripts/make_doc_pictures.py [--out docs/pictures] [--variant 0005] [--number 0]

One simulated page of sim:val, printed from simulated signals, is read as `ecgjax digitize` reads it; each step is drawn as it came out.
Needs the extra `files` (matplotlib). The same numbers give the same pictures.
"""

import argparse
import pathlib

import numpy as np
from PIL import Image, ImageDraw

from ecgjax.extract import digitizer, strip_cutting
from ecgjax.geometry import lattices
from ecgjax.networks import inference, shipped
from ecgjax.simulate import validation_set, variants

WIDE_PX = 1100  # of every picture: what a page of the documentation shows without shrinking
MOST_BYTES = 250_000
LATTICE_RGB = (0, 120, 60)
SECONDS = 3.6  # of the strips that are shown
ROW, CLOSE_S, RANGE_MV = 2, (1.7, 3.6), (-1.0, 1.8)  # what is shown close by: where one lead ends and another begins


def save(path: pathlib.Path, picture: np.ndarray) -> None:
  """Writes a picture at most WIDE_PX wide, JPEG as fine as MOST_BYTES allow.

  Args:
    path: of a .jpg file.
    picture: (H, W, 3) uint8.

  Raises:
    ValueError: if even a coarse JPEG is larger.
  """
  image = Image.fromarray(picture)
  if image.width > WIDE_PX:
    image = image.resize((WIDE_PX, round(image.height * WIDE_PX / image.width)), Image.Resampling.LANCZOS)
  for quality in (92, 88, 84, 80, 75, 70, 60):
    image.save(path, quality=quality, optimize=True)
    if path.stat().st_size < MOST_BYTES:
      print(f'{path}: {image.width} x {image.height} px, {path.stat().st_size:,} bytes, quality {quality}')
      return
  raise ValueError(f'{path} has {path.stat().st_size:,} bytes; at most {MOST_BYTES:,} are allowed; draw less')


def with_lattice(image: np.ndarray, lattice: np.ndarray) -> np.ndarray:
  """Returns (H, W, 3) uint8, the picture in pale colours with a line along every row and column of the lattice's nodes.

  Args:
    image: (H, W, 3) uint8.
    lattice: (45, 57, 2) image x, y.
  """
  picture = Image.blend(Image.fromarray(image), Image.new('RGB', image.shape[1::-1], 'white'), 0.35)
  pen, width = ImageDraw.Draw(picture), max(1, image.shape[1] // 1400)
  for lines in (lattice, lattice.transpose(1, 0, 2)):
    for line in lines:
      pen.line([tuple(map(float, node)) for node in line], fill=LATTICE_RGB, width=width)
  return np.asarray(picture)


def stacked(panels: np.ndarray, *, gap_px: int = 8) -> np.ndarray:
  """Returns (R * (H + gap_px) - gap_px, W, 3) uint8, (R, H, W, 3) panels in 0..1 one below the other with white between."""
  lined = np.pad(np.clip(np.asarray(panels, np.float32), 0, 1), ((0, 0), (0, gap_px), (0, 0), (0, 0)), constant_values=1.0)
  return np.round(255 * np.concatenate(list(lined))[:-gap_px]).astype(np.uint8)


def close_by(strip: np.ndarray, scores: np.ndarray, found: digitizer.Recording, *, frame: lattices.Frame, row: int) -> np.ndarray:
  """Draws a part of one row: what the network sees and the trace as read, how probable it holds each px, and what errors are stated.

  Args:
    strip: (H, W, 3) colours in 0..1.
    scores: (H, W) unnormalised log-probabilities that the row's trace passes there.
    found: of the page.
    frame: of the strip.
    row: of the page.

  Returns:
    (H, WIDE_PX, 3) uint8.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  made = Figure(figsize=(WIDE_PX / 100, 7), dpi=100, layout='constrained')
  strip_axes, score_axes, stated = made.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.4))
  half = 0.5 / frame.rate_hz
  times = frame.times_s()
  extent = (times[0] - half, times[-1] + half, frame.millivolts(frame.height_px), frame.millivolts(0))
  p = np.exp(scores - scores.max(axis=0))
  strip_axes.imshow(np.clip(strip, 0, 1), extent=extent, aspect='auto')
  score_axes.imshow(np.sqrt(p / p.sum(axis=0)), extent=extent, aspect='auto', cmap='magma_r', vmin=0)
  for lead in (s.lead for s in found.page.segments if s.row == row and found.page.scored(s.lead).row == row):
    at = found.start_s[lead] + np.arange(len(found.leads[lead])) / found.fs
    strip_axes.plot(at, found.leads[lead], color='#0050e6', linewidth=1.2)
    strip_axes.text(found.start_s[lead] + 0.04, 1.55, lead, color='#0050e6', clip_on=True)
    stated.fill_between(at, 1000 * found.std[lead], step='mid', color='#0050e6')
  strip_axes.set(ylim=RANGE_MV, ylabel='as read, mV')
  score_axes.set(ylim=RANGE_MV, ylabel='as believed, mV')
  stated.set(xlim=CLOSE_S, ylim=(0, None), ylabel='stated error, uV', xlabel='s')
  canvas = FigureCanvasAgg(made)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--out', type=pathlib.Path, default=pathlib.Path('docs/pictures'), help='folder to write')
  parser.add_argument('--variant', default='0005', choices=sorted(variants.VARIANTS))
  parser.add_argument('--number', type=int, default=0, help='of the page in sim:val')
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)
  mv = validation_set.recordings('', count=args.number + 1)[args.number]
  image = validation_set.case(mv, args.variant, args.number).image
  reader = digitizer.load_reader(engine='jax')
  found = digitizer.digitize(image, reader=reader)
  print(f'{args.variant}-{args.number:03d}: {found.status} {"; ".join(found.warnings)}')
  save(args.out / 'step_1_picture.jpg', image)
  save(args.out / 'step_2_page.jpg', with_lattice(image, found.lattice))

  frame = reader.frame
  strips = strip_cutting.make_cut(layout=reader.layout, frame=frame)(image, found.lattice)
  columns = slice(0, round(SECONDS * frame.rate_hz), 2)
  save(args.out / 'step_3_strips.jpg', stacked(np.asarray(strips)[:, ::2, columns, :3]))

  scores = inference.load(shipped.DEFAULT, engine='jax')[0].scores(strips)
  near = close_by(np.asarray(strips)[ROW, ..., :3], np.asarray(scores.rows)[ROW], found, frame=frame, row=ROW)
  save(args.out / 'step_4_reading.jpg', near)
  found.plot().savefig(args.out / 'step_5_leads.png')
  save(args.out / 'step_6_overlay.jpg', found.overlay(image))


if __name__ == '__main__':
  main()
