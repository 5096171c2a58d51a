"""How well `register` finds simulated pages by their originals.

python scripts/try_register.py [--signals PACK] [--pages 40] [--variants A,B] [--even]

Page n of a variant is the one of sim:val, or of sim:even, turned n quarter turns. For each variant: pages tried, accepted, true rms error
of the lattice at the nodes inside the trace area (median, 95th percentile, worst) and of the ink lattice at the ink along x (median, 95th
percentile, of the feed's leaps, too), the residual that is told (median, worst), page px each, and the median of seconds a page.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.geometry import homography, lattices, paper
from ecgjax.locate import register_to_original
from ecgjax.simulate import validation_set

DARK, SPARSE = 90, 10  # grey levels of ink; every tenth px of it is looked at
VARIANTS = '0003,0004,0005,0006,0009,0010,0011,0012'


def trial(mv: jax.Array, name: str, number: int, *, even: bool) -> tuple[list[float], str]:
  """Returns true rms errors of lattice and ink and the residual, page px or NaN where refused, and seconds; and what `register` says."""
  case, clean = validation_set.case(mv, name, number, even=even), validation_set.original(validation_set.case_key(name, number), mv)
  image = np.ascontiguousarray(np.rot90(case.image, number % 4))
  begin = time.monotonic()
  try:
    found = register_to_original.register(image, clean)
  except ValueError as error:
    return [float('nan')] * 3 + [time.monotonic() - begin], str(error)
  spent = time.monotonic() - begin
  upright = [homography.turned(lattice, case.image.shape, number) for lattice in (found.lattice, found.ink_lattice)]
  ink_px = np.argwhere((clean.max(-1) < DARK) & in_trace_area())[::SPARSE, ::-1] + 0.5
  off_px = validation_set.ink_off_px(case, upright[1], ink_px)[:, 0]
  rms = lambda values: float(np.sqrt((values**2).mean()))
  residual_px = found.residual_px
  return [rms(lattices.off_px(upright[0], case.lattice)), rms(off_px), residual_px, spent], f'residual {residual_px:.2f} px'


def in_trace_area() -> np.ndarray:
  """(1700, 2200) bool: the px between the first and the last node of the trace area."""
  inside = np.zeros((paper.HEIGHT_PX, paper.WIDTH_PX), bool)
  rows, cols = (nodes[lattices.trace_area().any(1 - axis)] for axis, nodes in enumerate(lattices.nodes_px()))
  inside[int(rows[0]) : int(rows[-1]), int(cols[0]) : int(cols[-1])] = True
  return inside


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--signals', default='', help='pack or WFDB folder to print; none: simulated')
  parser.add_argument('--pages', type=int, default=40, help='of each variant')
  parser.add_argument('--variants', default=VARIANTS, help='names with commas between')
  parser.add_argument('--even', action='store_true', help='as if scanners were even and printers exact')
  args = parser.parse_args()
  records = validation_set.recordings(args.signals, count=args.pages)
  heads = ['n', 'accepted', 'median', 'p95', 'worst', 'ink', 'p95', 'residual', 'worst', 's/page']
  print(f'{"":<8}' + ''.join(f'{head:>9}' for head in heads))
  for name in args.variants.split(','):
    tried = []
    for number, mv in enumerate(jnp.asarray(r) for r in records):
      numbers, summary = trial(mv, name, number, even=args.even)
      tried.append(numbers)
      if not numbers[0] <= register_to_original.ACCEPTED_PX:
        print(f'  {name}-{number:03d}: {numbers[0]:.2f} px, {summary}', flush=True)
    off, ink, left, spent = np.array(tried).T
    good = np.isfinite(off)
    px = [np.nanmedian(off), np.nanquantile(off, 0.95), np.nanmax(off), np.nanmedian(ink), np.nanquantile(ink, 0.95), np.nanmedian(left),
          np.nanmax(left)]  # fmt: skip
    print(f'{name:<8}{len(off):>9}{good.sum():>9}' + ''.join(f'{value:>9.2f}' for value in px) + f'{np.median(spent):>9.1f}', flush=True)


if __name__ == '__main__':
  main()
