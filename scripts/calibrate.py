"""Makes weights say how far off they are: python scripts/calibrate.py --weights FILE --signals PACK [--pages 4] [--write] [--picture PNG]

On the first pages of each variant of sim:val, read along their true lattices: which rms error columns had, by the decoder's deviation.
On as many further pages: prints for each range of deviations that the finished leads state what their rms error was. --write enters the
table in the weights' header, where `digitize.reader` finds it.
"""

import argparse
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from scipy.optimize import isotonic_regression

from ecgjax import assemble, checkpoint, decode, digitize, log, model, simval, truth, variants

BINS = np.concatenate([np.linspace(0, 0.9, 13), [0.94, 0.97, 0.985, 0.993, 0.997, 0.999, 1.0]])  # quantiles of the deviation
EDGES_UV = np.array([0, 3, 4, 5, 7, 10, 14, 20, 30, 45, 70, 100, 150, 250])


def cases(records, numbers: range) -> Iterator[simval.Case]:
  """Yields these pages of every variant."""
  for name in variants.VARIANTS:
    for number in numbers:
      yield simval.case(records[number], name, number)


def table(reader: digitize.Reader, pages: Iterator[simval.Case]) -> dict[str, list[float]]:
  """Returns the calibration of a reader that has none."""
  std, off = [], []
  for case in pages:
    mv, printed = truth.at(jnp.asarray(case.mv), reader.frame.times_s(), layout=reader.page, rate_hz=simval.RATE_HZ)
    trace = reader.trace(case.image, case.lattice)
    seen = np.asarray(printed & (trace.visible >= assemble.SEEN))
    std.append(np.asarray(trace.std_px)[seen])
    off.append(np.asarray(trace.rows_px - reader.frame.rows_px(mv))[seen])
  std, square = np.concatenate(std), np.concatenate(off) ** 2
  edges = np.quantile(std, BINS)
  member = np.clip(np.searchsorted(edges, std, side='right') - 1, 0, len(edges) - 2)
  count = np.bincount(member, minlength=len(edges) - 1)
  mean = lambda a: np.bincount(member, a, minlength=len(count))[count > 0] / count[count > 0]
  rms = np.sqrt(isotonic_regression(mean(square), weights=count[count > 0]).x)
  return {'std_px': np.sqrt(mean(std**2)).round(4).tolist(), 'off_px': rms.round(4).tolist()}


def samples(reader: digitize.Reader, pages: Iterator[simval.Case]) -> tuple[np.ndarray, np.ndarray]:
  """Returns stated standard deviation and error of every sample, in uV."""
  std, off = [], []
  for case in pages:
    found = digitize.digitize(case.image, reader=reader, fs=simval.RATE_HZ, lattice=case.lattice)
    for lead, true in case.leads.items():
      there = np.isfinite(found.leads[lead])
      std.append(1e3 * found.std[lead][there])
      off.append(1e3 * (found.leads[lead] - true)[there])
  return np.concatenate(std), np.concatenate(off)


def reliability(std: np.ndarray, off: np.ndarray) -> np.ndarray:
  """Returns (N, 3): rms stated deviation, rms error, samples, for each range of EDGES_UV that holds a hundred samples."""
  parts = [(std >= low) & (std < high) for low, high in zip(EDGES_UV, EDGES_UV[1:], strict=False)]
  rms = lambda a: np.sqrt(np.mean(a**2))
  return np.array([(rms(std[part]), rms(off[part]), part.sum()) for part in parts if part.sum() >= 100])


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
  parser.add_argument('--weights', required=True, help='a .safetensors file')
  parser.add_argument('--signals', required=True, help='recordings to print, none that were trained on: a pack or a folder of WFDB records')
  parser.add_argument('--pages', type=int, default=4, help='of each variant to choose from, and as many more to check with')
  parser.add_argument('--write', action='store_true', help='enter the table in the header of the weights')
  parser.add_argument('--picture', help='PNG file for the reliability diagram')
  args = parser.parse_args()
  params, meta = checkpoint.load_weights(args.weights)
  plain = digitize.reader(args.weights)
  records = simval.recordings(args.signals, count=2 * args.pages)
  net = model.network(**meta['model'])
  raw = digitize.make_trace(net.apply, page=plain.page, frame=plain.frame)
  found = table(plain._replace(trace=lambda *page: raw(params, *page)), cases(records, range(args.pages)))
  told = lambda *page: decode.calibrated(raw(params, *page), **found)
  rows = reliability(*samples(plain._replace(trace=told), cases(records, range(args.pages, 2 * args.pages))))
  print(f'{"stated uV":>10}{"error uV":>10}{"ratio":>7}{"samples":>10}')
  for stated, error, count in rows:
    print(f'{stated:>10.1f}{error:>10.1f}{error / stated:>7.2f}{count:>10.0f}')
  if args.picture:
    with open(args.picture, 'wb') as file:
      file.write(log.png(draw(rows)))
  if args.write:
    checkpoint.save_weights(args.weights, params, meta={**meta, 'calibration': found})


if __name__ == '__main__':
  main()
