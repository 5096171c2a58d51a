"""Measures what this machine does: python scripts/bench.py render|train|digitize|serve|archive [options]

render    pages a second of every variant at 2200 x 1700 px
train     a training step and its parts; how near learning comes to what the device could do; --scaling 1,2,8: over (simulated) devices
digitize  a page by its stages; how near the network comes to what the device could do; --against: another program side by side
serve     the local page under requests of several clients
archive   pages a second by readers, alone and with Ray

Each time is the median of the repeats after one run that compiles. Wall times are this machine's own; core-ms say how much work there was.
--json writes all numbers with the machine they were taken on; --keep makes them the baseline (scripts/baseline.json), to which later
runs on such a machine print ratios; --profile DIR writes a trace for TensorBoard or Perfetto.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile

from ecgjax.jobs import options

REPEATS = 5


def parser() -> argparse.ArgumentParser:
  """Returns the parser of the command line."""
  whole = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  commands = whole.add_subparsers(dest='command', required=True)
  add = lambda name, help: commands.add_parser(name, help=help)
  render, train, digitize = add('render', 'the simulator'), add('train', 'a training step'), add('digitize', 'reading a page')
  serve, archive = add('serve', 'the local page'), add('archive', 'an archive')
  for sub in (render, digitize):
    sub.add_argument('--variant', nargs='*', help='of pages (default: all; of digitize 0001 0003 0010)')
  render.add_argument('--batch', type=int, default=8, help='pages at once on an accelerator')
  train.add_argument('--batch', type=int, default=0, help="windows of a step (default: the setting's own)")
  train.add_argument('--setting', default='small', choices=('small', 'base', 'debug'), help='of configs/unet.py')
  train.add_argument('--scaling', default='', metavar='LIST', help='numbers of simulated CPU devices, as 1,2,8')
  options.add_weights(digitize)
  options.add_engine(digitize)
  digitize.add_argument('--pages', type=int, default=4, help='of each variant')
  digitize.add_argument('--against', default='', metavar='COMMAND', help='of another reader, with {image} and {out}')
  serve.add_argument('--clients', type=int, default=4)
  serve.add_argument('--requests', type=int, default=24, help='of each kind')
  serve.add_argument('--jobs', type=int, default=2, help='child processes of the server')
  archive.add_argument('--pages', type=int, default=24)
  archive.add_argument('--readers', default='1,2', metavar='LIST', help='how many at once')
  archive.add_argument('--ray', action='store_true', help='with Ray, too')
  for sub in (train, digitize):
    sub.add_argument('--profile', default='', metavar='DIR', help='folder for a trace')
  for sub in commands.choices.values():
    sub.add_argument('--repeats', type=int, default=REPEATS)
    sub.add_argument('--json', help='file for the numbers')
    sub.add_argument('--keep', action='store_true', help='make the numbers the baseline of this command')
  return whole


def numbers(args: argparse.Namespace) -> dict:
  """Runs a benchmark; returns its numbers by name."""
  if args.command in ('render', 'train'):
    import bench_learning

    from ecgjax.simulate import variants

    if args.command == 'render':
      return bench_learning.render_pages(args.variant or list(variants.VARIANTS), repeats=args.repeats, batch=args.batch)
    return bench_learning.train_steps(args.setting, batch=args.batch, repeats=args.repeats, profile=args.profile)
  import bench_reading

  if args.command == 'digitize':
    names = args.variant or ['0001', '0003', '0010']
    how = {'weights': args.weights, 'engine': args.engine, 'precision': args.precision}
    return bench_reading.digitize_pages(names, **how, pages=args.pages, against=args.against, repeats=args.repeats, profile=args.profile)
  if args.command == 'serve':
    return bench_reading.serve_requests(clients=args.clients, requests=args.requests, jobs=args.jobs)
  return bench_reading.archive_pages(pages=args.pages, jobs=[int(n) for n in args.readers.split(',')], with_ray=args.ray)


def scaling(args: argparse.Namespace) -> dict[str, float]:
  """Runs the same training on each of several numbers of simulated devices: all share this CPU, so what is lost is what sharing costs."""
  counts, found = [int(n) for n in args.scaling.split(',')], {}
  batch = args.batch or max(counts)
  for count in counts:
    env = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': f'--xla_force_host_platform_device_count={count}'}
    command = [sys.executable, __file__, 'train', '--setting', args.setting, '--batch', str(batch), '--repeats', str(args.repeats)]
    with tempfile.NamedTemporaryFile() as file:
      subprocess.run([*command, '--json', file.name], env=env, check=True, stdout=subprocess.DEVNULL)
      found[f'{count} devices windows/s'] = json.load(file)['numbers']['windows/s']
    found[f'{count} devices efficiency'] = found[f'{count} devices windows/s'] / found[f'{counts[0]} devices windows/s']
  return found


def main() -> None:
  args = parser().parse_args()
  found = scaling(args) if getattr(args, 'scaling', '') else numbers(args)
  import measure

  about = measure.machine()
  found['peak GiB'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  name = args.command + (f' {args.setting}' if args.command == 'train' else '') + (' scaling' if getattr(args, 'scaling', '') else '')
  print(', '.join(f'{k} {v}' for k, v in about.items()))
  measure.show(name, found, about)
  if args.json:
    with open(args.json, 'w') as file:
      json.dump({'command': name, 'machine': about, 'numbers': found}, file, indent=1)
  if args.keep:
    measure.keep(name, found, about)


if __name__ == '__main__':
  main()
