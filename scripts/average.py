"""Averages weights that began from the same ones: python scripts/average.py A.safetensors B.safetensors ... --out FILE

Runs from one start, on other data, end in one valley, and its middle is better than its sides (Wortsman et al., 2022, model soups). The
header is that of the first, and lists the others' sha256.
"""

import argparse
import pathlib

import jax
import numpy as np

from ecgjax.networks import shipped, weight_files


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('weights', nargs='+', help='.safetensors files of one network')
  parser.add_argument('--out', required=True, help='the file to write')
  args = parser.parse_args()
  if pathlib.Path(args.out).exists():
    parser.error(f'{args.out} exists; choose another --out')
  loaded = [weight_files.load_weights(path) for path in args.weights]
  first, meta = loaded[0]
  for path, (params, _) in zip(args.weights, loaded, strict=True):
    weight_files.compare(params, first, path)
  mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *(params for params, _ in loaded))
  digests = [weight_files.sha256(shipped.located(path)) for path in args.weights]
  weight_files.save_weights(args.out, mean, meta={**meta, 'mean_of_sha256': digests})


if __name__ == '__main__':
  main()
