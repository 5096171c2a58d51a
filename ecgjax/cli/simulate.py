"""`ecgjax simulate`: a competition folder of any size from simulated pages."""

import argparse

from ecgjax.jobs import console
from ecgjax.simulate import competition_folder


def run(args: argparse.Namespace) -> int:
  """Runs `ecgjax simulate`; returns the exit code."""
  competition_folder.write_folder(
    args.out, records=args.n, seed=args.seed, names=args.variant, tests=args.tests, source=args.signals, overwrite=args.overwrite,
    say=console.say,
  )  # fmt: skip
  print(f'wrote {args.n} training records to {args.out}')
  return 0
