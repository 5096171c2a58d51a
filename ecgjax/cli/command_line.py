"""The command `ecgjax`: parsers of all commands. Imports nothing heavy, so that --help is fast; other modules do the work."""

import argparse
import errno
import importlib
import os
import sys
from concurrent.futures import BrokenExecutor

import ecgjax
from ecgjax.ecg.errors import ECGError
from ecgjax.io.formats import FORMATS
from ecgjax.jobs import console, options
from ecgjax.jobs.notice import NOTICE

EXITS = (
  'Exit codes: 0 all pages ok, 1 some failed or need a review, 2 wrong usage, 3 none could be read, 4 the machine failed, 130 interrupted.'
)
# transient resource errors: the request was valid and may be repeated
TRANSIENT = {
  errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ESTALE, errno.ENETDOWN,
  errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENOTCONN, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.ETIMEDOUT,
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
  """Returns the parser of the whole command line."""
  whole = argparse.ArgumentParser(prog='ecgjax', description=f'Pictures of paper ECGs to calibrated 12-lead signals in mV. {NOTICE}')
  whole.add_argument('--version', action='version', version=f'ecgjax {ecgjax.__version__}')
  console.add_debug(whole)
  commands = whole.add_subparsers(dest='command', required=True, metavar='COMMAND')
  _digitize(commands.add_parser(
    'digitize', help='read pictures and write signals', description=f'Reads every page of every file and writes its signals. {NOTICE}',
    epilog=EXITS,
  ))  # fmt: skip
  _serve(commands.add_parser('serve', help='a local web page to check, correct and save signals', description=(
    f'Serves a page on this machine, and the same as a JSON API (/api/openapi.json). {NOTICE}')))
  _archive(commands.add_parser('archive', help='an archive of any size to Parquet, one row per page', description=(
    'Reads every page of an archive, on one machine or a cluster of Ray, and writes one row per page. Run again, it reads the pages '
    f'without a row. {NOTICE}'), epilog='Exit codes: 0 every page has '
    'its row (see its status), 2 wrong usage, 3 none of the sample of --estimate could be read, 4 the machine '
    'failed, and the same command goes on, 130 interrupted.'))  # fmt: skip
  _simulate(commands.add_parser('simulate', help='a competition folder of simulated pages', description=(
    'Draws pages and damages them, and writes folders, pictures and csv files as the competition has them: six sampling rates, 3 decimals '
    'of a mV. Beside each picture, <id>-<variant>.lattice.npy holds its true (45, 57, 2) lattice.')))
  for name, (_, text) in PASSED.items():
    commands.add_parser(name, help=text, add_help=False)
  commands.add_parser('doctor', help='check this installation', description='Prints versions, devices, engines, checksums and a self-test.')
  _export(commands.add_parser('export', help='write the trace network for other programs'))
  for name in COMMANDS:
    console.add_debug(commands.choices[name], default=argparse.SUPPRESS)
  return whole


def _simulate(p: argparse.ArgumentParser) -> None:
  p.add_argument('--variant', nargs='+', required=True, metavar='NAME', help='kinds of picture: 0001, 0003 ... fax, small, thermal')
  p.add_argument('--n', type=int, default=8, help='records (default: 8)')
  p.add_argument('--out', required=True, metavar='DIR', help='folder to write')
  p.add_argument('--tests', type=int, default=0, metavar='N', help='further records, for test/ (default: 0)')
  p.add_argument('--signals', default='', metavar='PACK|FOLDER', help='recordings to print: a pack or a folder of WFDB records '
                 '(default: simulated)')  # fmt: skip
  p.add_argument('--seed', type=int, default=0)
  p.add_argument('--overwrite', action='store_true', help='replace an older sample')


def _export(p: argparse.ArgumentParser) -> None:
  p.add_argument('-o', '--out', required=True, metavar='FILE', help='file to write')
  p.add_argument('--format', choices=('onnx', 'stablehlo'), default='onnx')
  options.add_weights(p)
  p.add_argument('--overwrite', action='store_true', help='replace an existing file')


def _serve(p: argparse.ArgumentParser) -> None:
  p.add_argument('--host', default='127.0.0.1', help='address to listen on (default: 127.0.0.1, this machine alone)')
  p.add_argument('--port', type=int, default=8765, help='port to listen on; 0 selects a free one (default: 8765)')
  p.add_argument('--token', metavar='TEXT', help='token that requests must carry (default: a new one at each start)')
  _children(p)


def _archive(p: argparse.ArgumentParser) -> None:
  p.add_argument('inputs', nargs='+', metavar='INPUT', help='folders, pictures, tars (WebDataset), Parquet files of bytes; '
                 'paths or URLs (s3://, gs://)')  # fmt: skip
  p.add_argument('output', metavar='OUTPUT', help='folder of pages-*.parquet, a path or URL; created if missing')
  p.add_argument('--shard', metavar='I/N', help='read the I-th of N parts (from 0) in this process, without Ray: for job arrays')
  p.add_argument('--estimate', action='store_true', help='read a sample of 100 files, print time and size of the whole, write nothing')
  p.add_argument('--price', type=float, metavar='X', help='price of a core-hour, for --estimate')
  p.add_argument('--retry', choices=('fail', 'review'), help='delete the rows of this status and read their pages again')
  p.add_argument('--column', default='', metavar='NAME', help='column of bytes in Parquet files (default: the only one)')
  _how(p)
  _children(p, jobs=None)


def _how(p: argparse.ArgumentParser) -> None:
  p.add_argument('--fs', type=float, default=500.0, metavar='HZ', help='output sampling rate (default: 500)')
  p.add_argument('--speed', type=float, default=25.0, metavar='MM/S', help='paper speed (default: 25; cannot be read from a picture)')
  p.add_argument('--gain', type=float, metavar='MM/MV', help='gain: 5, 10 or 20 (default: from the calibration pulses, else 10)')


def _digitize(p: argparse.ArgumentParser) -> None:
  p.add_argument('inputs', nargs='+', metavar='FILE|FOLDER', help='pictures: PNG, JPEG, TIFF, PDF, HEIC, DICOM ...; - is stdin')
  p.add_argument('-o', '--out', required=True, metavar='DIR', help='folder for <name>.csv and <name>.json; created if missing')
  p.add_argument('--format', default='csv', metavar='LIST', help=f'one or more of {",".join(FORMATS)}, comma-separated (default: csv)')
  p.add_argument('--overlay', action='store_true', help='also write <name>.overlay.jpg: the traces drawn back on the picture')
  p.add_argument('--masks', action='store_true', help='also write <name>.mask.png: background, grid, text and trace, in the page frame')
  p.add_argument('--layout', default='auto', help="the page's layout; the shipped weights read 3x4+II (default: auto)")
  _how(p)
  p.add_argument('--corners', metavar='X,Y,X,Y,X,Y,X,Y', help="--corners=...: the page's corners in picture px: upper left, upper right, "
                 'lower right, lower left')  # fmt: skip
  p.add_argument('--recursive', action='store_true', help='search subfolders, too')
  p.add_argument('--skip-existing', action='store_true', help='skip pages whose .json exists')
  p.add_argument('--overwrite', action='store_true', help='replace existing files')
  p.add_argument('--strict', action='store_true', help='write nothing for pages that need a review, and count them as failed')
  p.add_argument('--json', action='store_true', help='print one line of JSON per page on stdout instead of the summary')
  _children(p)
  options.add_registration(p)


def _children(p: argparse.ArgumentParser, *, jobs: int | None = 1) -> None:
  options.add_weights(p)
  p.add_argument('--jobs', type=int, default=jobs, metavar='N', help='pages read at once, each with its share of the cores '
                 f'(default: {jobs or "one for each device, or core where there is none"})')  # fmt: skip
  p.add_argument('--timeout', type=float, default=300.0, metavar='S', help='time limit of a page in seconds (default: 300)')
  options.add_engine(p)


PASSED = {  # commands with a command line of their own: module, help
  'train': ('training.command', 'train a network, as python -m ecgjax.train'),
  'evaluate': ('competition.evaluate', 'score weights on pages whose signals are known, as python -m ecgjax.evaluate'),
  'predict': ('competition.predict', 'read a competition folder into a submission, as python -m ecgjax.predict'),
}
COMMANDS = {  # module and function
  'digitize': ('cli.digitize', 'run'), 'archive': ('archive', 'start'), 'serve': ('serve.app', 'run'),
  'simulate': ('cli.simulate', 'run'), 'doctor': ('cli.doctor', 'run'), 'export': ('cli.doctor', 'export'),
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
  """Runs the command line.

  Args:
    argv: the arguments after the command's name; None for those of sys.argv.

  Returns:
    The exit code.
  """
  words = sys.argv[1:] if argv is None else argv
  if words[:1] == ['--debug'] and words[1:2] and words[1] in PASSED:
    words = [*words[1:], '--debug']
  if words[:1] and words[0] in PASSED:
    return importlib.import_module(f'ecgjax.{PASSED[words[0]][0]}').main(words[1:])
  args = parser().parse_args(words)
  try:
    module, function = COMMANDS[args.command]
    return getattr(importlib.import_module(f'ecgjax.{module}'), function)(args)
  except (ECGError, OSError, BrokenExecutor) as error:
    console.refused(error, debug=args.debug)
    lost = isinstance(error, BrokenExecutor | ConnectionError | TimeoutError) and not isinstance(error, BrokenPipeError)
    return 4 if lost or (isinstance(error, OSError) and error.errno in TRANSIENT) else 2
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    sys.stderr.flush()
    os._exit(130)  # what still runs are daemons of no interest: waiting for them is what the interrupt was about
