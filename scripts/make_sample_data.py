"""Makes a small competition folder from simulated signals: python scripts/make_sample_data.py --out DIR

Clean pages (variant 0001), a quarter as many in test/; `ecgjax simulate` makes every other variant.
"""

import argparse
import sys

from ecgjax.cli import command_line


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--out', required=True, help='folder to write')
  parser.add_argument('--records', type=int, default=12, help='training records')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--overwrite', action='store_true', help='replace an older sample')
  args = parser.parse_args(argv)
  numbers = ['--n', str(args.records), '--tests', str(max(1, args.records // 4)), '--seed', str(args.seed)]
  return command_line.main(['simulate', '--variant', '0001', '--out', args.out, *numbers, *(['--overwrite'] if args.overwrite else [])])


if __name__ == '__main__':
  sys.exit(main())
