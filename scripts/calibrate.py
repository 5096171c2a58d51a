"""Makes weights say how far off they are: python scripts/calibrate.py --weights NAME|FILE --signals PACK [--write] [--picture PNG]

On every third variant of every recording of sim:even, by turns, read along their true lattices, but for pages that a warning calls cut off:
which rms error samples had, by the deviation of the decoder. Many recordings with few pages each, since errors differ more between
recordings (by their own noise) than between pages of one. Prints for each range of deviations, as they are then stated, what the rms error
was, each recording stated by what the others (nine tenths of them) tell. --write enters the table of all in the weights' header, where
`digitizer.load_reader` finds it.
"""

import argparse

import numpy as np
from scipy.optimize import isotonic_regression

from ecgjax.extract import digitizer, retiming
from ecgjax.io import images
from ecgjax.jobs import options
from ecgjax.networks import shipped, weight_files
from ecgjax.simulate import validation_set, variants

EVERY, FOLDS = 3, 10
BINS = np.concatenate([np.linspace(0, 0.9, 13), [0.94, 0.97, 0.985, 0.993, 0.997, 0.999, 1.0]])  # quantiles of the deviation
EDGES_UV = np.array([0, 3, 4, 5, 7, 10, 14, 20, 30, 45, 70, 100, 150, 250])


def pages(count: int) -> list[tuple[int, str]]:
  """Returns (number of the recording, variant) of the pages that are read."""
  return [(n, name) for n in range(count) for i, name in enumerate(variants.VARIANTS) if (n + i) % EVERY == 0]


def samples(reader: digitizer.Reader, records) -> list[tuple[np.ndarray, np.ndarray]]:
  """Returns for each recording the stated standard deviation and the error, in mV, of every sample of its pages."""
  found: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in records]
  for number, name in pages(len(records)):
    case = validation_set.case(records[number], name, number, even=True)
    ink = retiming.exact(reader.layout, reader.frame)  # what instants are off is added afterwards
    read = digitizer.digitize(case.image, reader=reader, fs=validation_set.RATE_HZ, lattice=case.lattice, ink=ink)
    if any(digitizer.CUT_OFF in note for note in read.warnings):  # what is beyond the strip no deviation can tell: the warning does
      continue
    for lead, true in case.leads.items():
      there = np.isfinite(read.leads[lead])
      found[number].append((read.std[lead][there], (read.leads[lead] - true)[there]))
  return [joined(each) for each in found if each]


def joined(parts) -> tuple[np.ndarray, np.ndarray]:
  """Returns pairs of arrays as one pair."""
  std, off = (np.concatenate(each) for each in zip(*parts, strict=True))
  return std, off


def checked(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
  """Returns stated deviation and error of all samples, each recording's stated by a table of recordings of the other folds."""
  stated = []
  for number, (std, off) in enumerate(parts):
    others = [part for n, part in enumerate(parts) if n % FOLDS != number % FOLDS]
    stated.append((digitizer.calibrated(std, table(*joined(others))), off))
  return joined(stated)


def table(std_mv: np.ndarray, off_mv: np.ndarray) -> dict[str, list[float]]:
  """Returns what `digitizer.calibrated` reads: rms error by deviation, made monotonic."""
  edges = np.quantile(std_mv, BINS)
  member = np.clip(np.searchsorted(edges, std_mv, side='right') - 1, 0, len(edges) - 2)
  count = np.bincount(member, minlength=len(edges) - 1)
  mean = lambda a: np.bincount(member, a, minlength=len(count))[count > 0] / count[count > 0]
  rms = np.sqrt(isotonic_regression(mean(off_mv**2), weights=count[count > 0]).x)
  return {'std_mv': np.sqrt(mean(std_mv**2)).round(6).tolist(), 'off_mv': rms.round(6).tolist()}


def reliability(std_mv: np.ndarray, off_mv: np.ndarray) -> np.ndarray:
  """Returns (N, 3): rms stated deviation, rms error in uV, and samples, for each range of EDGES_UV that holds a hundred samples."""
  parts = [(1e3 * std_mv >= low) & (1e3 * std_mv < high) for low, high in zip(EDGES_UV, EDGES_UV[1:], strict=False)]
  rms = lambda a: 1e3 * np.sqrt(np.mean(a**2))
  return np.array([(rms(std_mv[part]), rms(off_mv[part]), part.sum()) for part in parts if part.sum() >= 100])


def draw(rows: np.ndarray) -> np.ndarray:
  """Returns (H, W, 3) uint8: error against stated deviation, both from 2 to 300 uV by logarithm; the band is 20 per cent."""
  size, low, high = 480, np.log(2.0), np.log(300.0)
  place = lambda uv: (np.log(uv) - low) / (high - low) * size
  x, y = np.meshgrid(np.arange(size) + 0.5, np.arange(size)[::-1] + 0.5)
  band = np.abs(x - y) < place(2.0 * 1.2)
  picture = np.where(band[..., None], (214, 232, 214), (255, 255, 255)).astype(np.uint8)
  for uv in (3, 10, 30, 100):
    picture[(np.abs(x - place(uv)) < 0.6) | (np.abs(y - place(uv)) < 0.6)] = (200, 200, 200)
  for stated, error, _ in rows:
    picture[(x - place(stated)) ** 2 + (y - place(error)) ** 2 < 36] = (180, 30, 30)
  return picture


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  options.add_weights(parser)
  parser.add_argument('--signals', required=True, help='recordings to print, none that were trained on: a pack or a folder of WFDB records')
  parser.add_argument('--records', type=int, default=validation_set.RECORDS, help='of them')
  parser.add_argument('--write', action='store_true', help='enter the table in the header of the weights')
  parser.add_argument('--picture', help='PNG file for the reliability diagram')
  args = parser.parse_args()
  if args.records < 2:
    parser.error('--records: at least 2, each is stated by what others tell')
  params, meta = weight_files.load_weights(args.weights)
  plain = {name: value for name, value in meta.items() if name != 'calibration'}
  parts = samples(digitizer.load_reader(args.weights)._replace(meta=plain), validation_set.recordings(args.signals, count=args.records))
  rows = reliability(*checked(parts))
  print(f'{"stated uV":>10}{"error uV":>10}{"ratio":>7}{"samples":>10}')
  for stated, error, count in rows:
    print(f'{stated:>10.1f}{error:>10.1f}{error / stated:>7.2f}{count:>10.0f}')
  if args.picture:
    with open(args.picture, 'wb') as file:
      file.write(images.png(draw(rows)))
  if args.write:
    weight_files.save_weights(shipped.located(args.weights), params, meta={**plain, 'calibration': table(*joined(parts))})


if __name__ == '__main__':
  main()
