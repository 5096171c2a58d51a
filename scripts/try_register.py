"""How well `register` finds simulated pages by their originals.

python scripts/try_register.py [--signals PACK] [--pages 40] [--variants A,B]

Page n of a variant is the one of sim:even, turned n quarter turns. For each variant: pages tried, accepted, true rms error at the nodes
inside the trace area (median, 95th percentile, worst) in page px, and the median of seconds a page.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax import bend, geometry, register, simval

VARIANTS = '0003,0004,0005,0006,0009,0010,0011,0012'


def trial(mv: jax.Array, name: str, number: int) -> tuple[float, float, str]:
  """Returns (true rms error in page px or NaN where refused, seconds, what `register` says) of one page."""
  case, clean = simval.case(mv, name, number, even=True), simval.original(simval.case_key(name, number), mv)
  image = np.ascontiguousarray(np.rot90(case.image, number % 4))
  begin = time.monotonic()
  try:
    found = register.register(image, clean)
  except ValueError as error:
    return float('nan'), time.monotonic() - begin, str(error)
  spent = time.monotonic() - begin
  lattice = bend.turned(case.lattice, image.shape, -number)
  return float(np.sqrt((geometry.off_px(found.lattice, lattice) ** 2).mean())), spent, f'residual {found.residual_px:.2f} px'


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--signals', default='', help='pack or WFDB folder to print; none: simulated')
  parser.add_argument('--pages', type=int, default=40, help='of each variant')
  parser.add_argument('--variants', default=VARIANTS, help='names with commas between')
  args = parser.parse_args()
  records = simval.recordings(args.signals, count=args.pages)
  print(f'{"":<8}{"n":>5}{"accepted":>10}{"median px":>11}{"p95 px":>8}{"worst px":>10}{"s/page":>8}')
  for name in args.variants.split(','):
    off_px, spent = [], []
    for number, mv in enumerate(jnp.asarray(r) for r in records):
      rms, seconds, said = trial(mv, name, number)
      off_px.append(rms)
      spent.append(seconds)
      if not rms <= register.ACCEPTED_PX:
        print(f'  {name}-{number:03d}: {rms:.2f} px, {said}', flush=True)
    good = np.array([x for x in off_px if np.isfinite(x)] or [np.nan])
    print(f'{name:<8}{len(off_px):>5}{np.isfinite(off_px).sum():>10}{np.median(good):>11.2f}{np.quantile(good, 0.95):>8.2f}'
          f'{good.max():>10.2f}{np.median(spent):>8.1f}', flush=True)  # fmt: skip


if __name__ == '__main__':
  main()
