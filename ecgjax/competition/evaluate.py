"""Scores weights: python -m ecgjax.evaluate --data DIR|sim:val|sim:even [--weights NAME|PATH] [--json FILE]

DIR is a competition folder; sim:val is the fixed simulated validation set, printed from --signals, and sim:even the same without
scanner feed jumps and printer misregistration. Prints one line per variant.
A picture that cannot be read counts with an all-zero prediction, and is listed on stderr. Research software, not a medical device.
"""

import argparse
import functools
import json
import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ecgjax.competition import data_folder, scoring
from ecgjax.competition.report import Page, mask_table, table
from ecgjax.ecg.errors import ECGError
from ecgjax.extract import digitizer, pixel_classes, retiming, strip_cutting, strip_overlay
from ecgjax.extract.recording import Recording
from ecgjax.geometry import lattices, paper
from ecgjax.io import atomic, images
from ecgjax.jobs import console, options, page_job
from ecgjax.networks import shipped
from ecgjax.simulate import validation_set, variants


class Job(NamedTuple):
  """A page to be read.

  `truth` returns lead -> (n,) mV at fs Hz; `picture` (H, W, 3) uint8 and its true lattice, if known; `mask`, for a rendered page, its
  true classes (see `pixel_classes`); `ink_off_px`, likewise, the true offset of its ink (see `validation_set.ink_off_px`).
  """

  id: str
  variant: str
  fs: int
  truth: Callable[[], dict[str, np.ndarray]]
  picture: Callable[[], tuple[np.ndarray, np.ndarray | None]]
  mask: Callable[[], np.ndarray] | None = None
  ink_off_px: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None


def folder_jobs(data_dir: str, *, wanted: list[str] | None) -> list[Job]:
  """Lists the pages of a competition folder.

  Args:
    data_dir: with train.csv and train/.
    wanted: variants, or None for all.

  Returns:
    The jobs, record by record.
  """

  def picture(path: pathlib.Path):
    beside = path.with_suffix('.lattice.npy')
    return images.read(path), np.load(beside) if beside.is_file() else None

  return [
    Job(r.id, v, r.fs, functools.partial(data_folder.read_record_csv, r.csv, fs=r.fs), functools.partial(picture, r.images[v]))
    for r in data_folder.list_train(data_dir) for v in sorted(r.images) if not wanted or v in wanted
  ]  # fmt: skip


def simulated_jobs(signals: str, *, wanted: list[str] | None, count: int, even: bool = False) -> list[Job]:
  """Lists the first `count` pages of each variant of the simulated set, with their true lattices; `even` as in `validation_set.case`."""
  records = validation_set.recordings(signals, count=count)

  drawn = functools.lru_cache(1)(lambda name, number: validation_set.case(records[number], name, number, even=even))

  def picture(name: str, number: int):
    return drawn(name, number).image, drawn(name, number).lattice

  def job(name: str, number: int) -> Job:
    mv, key, kind = records[number], validation_set.case_key(name, number), validation_set.kind_of(name, even=even)
    return Job(
      f'{number:03d}', name, validation_set.RATE_HZ, functools.partial(validation_set.printed_leads, np.asarray(mv)),
      functools.partial(picture, name, number), lambda: pixel_classes.true(validation_set.inks(key, mv, kind)),
      lambda lattice, at_px: validation_set.ink_off_px(drawn(name, number), lattice, at_px),
    )

  return [job(name, number) for name in wanted or variants.VARIANTS for number in range(len(records))]


def evaluate_page(
  job: Job, *, reader: digitizer.Reader, true_lattice: bool = False, overlays: pathlib.Path | None = None, masked: bool = False
) -> Page:
  """Reads one page and compares it with its truth.

  Args:
    job: the page.
    reader: loaded weights.
    true_lattice: read the page along its true lattice instead of locating it.
    overlays: folder for an overlay picture, or None.
    masked: whether the classes of the px are compared, too, where the truth is known.

  Returns:
    The outcome; a picture that cannot be read has status 'fail' and is scored as all zeros.

  Raises:
    ECGError: if the truth is faulty.
  """
  true = job.truth()
  counts = {lead: len(v) for lead, v in true.items()}
  report = lambda leads: scoring.image_report(true, leads, fs=job.fs)
  seconds, off_px, along_truth, quality, overlaps, columns_px = 0.0, None, None, {}, None, None
  try:
    image, lattice = job.picture()
    if true_lattice and lattice is None:
      raise ECGError(f'no lattice of {job.id}-{job.variant} is known; leave out --true-lattice')
    read = functools.partial(digitizer.digitize, image, reader=reader, fs=job.fs, counts=counts)
    if lattice is not None and not true_lattice:
      along_truth = report(digitizer.finite(read(lattice=lattice).leads))
    tic = time.perf_counter()
    found = read(lattice=lattice if true_lattice else None)
    seconds = time.perf_counter() - tic
    if lattice is not None:
      off = lattices.off_px(found.lattice, lattice)
      off_px = float(np.sqrt((off**2).mean())), float(np.quantile(off, 0.95))
    leads, status, reason, quality = digitizer.finite(found.leads), found.status, '; '.join(found.warnings), found.quality
    if overlays:
      strips = strip_cutting.make_cut(layout=reader.layout, frame=reader.frame)(image, found.lattice)
      overlay = strip_overlay.overlay(np.asarray(strips), digitizer.seen_rows(found.trace), np.asarray(found.trace.std_px))
      (overlays / f'{job.id}-{job.variant}.png').write_bytes(images.png(overlay))
  except Exception as error:  # one odd picture must not end the batch; it is listed with whatever it raised
    leads, status, reason = {lead: np.zeros(n) for lead, n in counts.items()}, 'fail', page_job.reason(error)
  else:
    if masked and job.mask:
      overlaps = pixel_classes.overlaps(digitizer.mask(image, found.lattice, reader=reader), job.mask())
    if job.ink_off_px:
      columns_px = _columns_px(job.ink_off_px, image, found, reader)
  return Page(job.id, job.variant, report(leads), along_truth, off_px, status, reason, quality, seconds, overlaps, columns_px)


def _columns_px(ink_off_px: Callable, image: np.ndarray, found: Recording, reader: digitizer.Reader) -> tuple[float, float]:
  """Returns the rms timing error of the decoded columns in page px: along the lattice alone, and along the ink."""
  layout, frame = reader.layout, reader.frame
  ink = retiming.ink_offsets(image, found.lattice, layout=layout, frame=frame, printer=reader.printer)
  rows_px = digitizer.seen_rows(found.trace)
  y_px = np.array(layout.zeros_px)[:, None] - frame.millivolts(rows_px) * layout.px_per_mv
  at_px = np.stack(np.broadcast_arrays(paper.START_X_PX + frame.times_s() * layout.px_per_s, y_px), axis=-1)
  visible = ~np.isnan(rows_px)
  off_px = ink_off_px(found.lattice, at_px[visible])[:, 0]
  return float(np.sqrt((off_px**2).mean())), float(np.sqrt(((off_px - ink.right_px[visible]) ** 2).mean()))


def run(args: argparse.Namespace) -> int:
  """Runs the parsed command; returns the exit code."""
  if args.json and not pathlib.Path(args.json).resolve().parent.is_dir():
    raise ECGError(f'no folder {pathlib.Path(args.json).parent} for --json; make it or choose another')
  if args.data in (validation_set.NAME, validation_set.EVEN):
    if not args.signals:
      console.say('no --signals PACK_OR_WFDB_FOLDER: the pages show simulated signals, easier and less varied than real ones')
    jobs = simulated_jobs(args.signals, wanted=args.variant, count=args.pages, even=args.data == validation_set.EVEN)
  else:
    jobs = folder_jobs(args.data, wanted=args.variant)
  if not jobs:
    raise ECGError(f'{args.data} holds no picture of the variants asked for')
  reader = digitizer.load_reader(args.weights, engine=args.engine, precision=args.precision, registration=args.registration)
  overlays = pathlib.Path(args.pictures) if args.pictures else None
  if overlays:
    overlays.mkdir(parents=True, exist_ok=True)
  pages, unscored = [], []
  for i, job in enumerate(jobs, start=1):
    try:
      page = evaluate_page(job, reader=reader, true_lattice=args.true_lattice, overlays=overlays, masked=args.masks)
    except (ECGError, OSError) as error:  # of the truth: there is nothing to compare with
      unscored.append(f'{job.id}-{job.variant} is not scored: {error}')
      console.say(f'{i}/{len(jobs)} {unscored[-1]}')
      continue
    pages.append(page)
    console.say(f'{i}/{len(jobs)} {page.id}-{page.variant} {page.report.db_open:.2f} dB {page.status} {page.reason}')
  if not pages:
    raise ECGError(f'none of {len(jobs)} pages could be scored; the first: {unscored[0]}')
  print(table(pages))
  if args.masks:
    print(mask_table(pages))
  for text in unscored:
    console.say(text)
  if args.json:
    plain = lambda report: report and report._asdict()
    px = lambda overlaps: None if overlaps is None else overlaps.tolist()
    own = lambda p: {'report': plain(p.report), 'true_lattice': plain(p.true_lattice), 'overlaps': px(p.overlaps)}
    rows = [{**p._asdict(), **own(p)} for p in pages]
    made_by = {'weights': shipped.label(args.weights), 'engine': reader.engine, 'precision': reader.precision}
    _write_json(pathlib.Path(args.json), {**made_by, 'meta': reader.meta, 'pages': rows})
  failed = sum(p.status == 'fail' for p in pages)
  return 3 if failed == len(pages) else int(bool(unscored) or any(p.status != 'ok' for p in pages))


def _write_json(path: pathlib.Path, value) -> None:
  """Writes JSON atomically; nan (the correlation of a flat lead) becomes null."""
  plain = lambda x: {k: plain(v) for k, v in x.items()} if isinstance(x, dict) else (
    [plain(v) for v in x] if isinstance(x, list | tuple) else None if isinstance(x, float) and not np.isfinite(x) else x
  )  # fmt: skip
  atomic.whole(path, lambda part: part.write_text(json.dumps(plain(value), indent=1, allow_nan=False)))


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  parser = argparse.ArgumentParser(prog='python -m ecgjax.evaluate', description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--data', required=True, help='folder with train.csv and train/<id>/, sim:val or sim:even')
  parser.add_argument('--signals', default='', help='for sim:val: recordings to print, a pack or a folder of WFDB records')
  parser.add_argument('--pages', type=int, default=validation_set.RECORDS, help='for sim:val: number of pages of each variant')
  parser.add_argument('--true-lattice', action='store_true', help='read along the true lattice only (in DIR: <id>-<variant>.lattice.npy)')
  options.add_weights(parser)
  options.add_engine(parser)
  options.add_registration(parser)
  parser.add_argument('--variant', nargs='*', help='only these variants, e.g. 0001')
  parser.add_argument('--pictures', help='folder for overlays of the traces as read')
  parser.add_argument('--masks', action='store_true', help='for sim:val: also compare the class of every px with the rendered one')
  parser.add_argument('--json', help='file for every number of every page')
  console.add_debug(parser)
  args = parser.parse_args(argv)
  if args.masks and args.data not in (validation_set.NAME, validation_set.EVEN):
    parser.error('--masks: what is drawn on a page is known of sim:val and sim:even alone')
  try:
    return run(args)
  except (ECGError, OSError) as error:
    console.refused(error, debug=args.debug)
    return 2
