"""Where the dB are lost: pages of sim:even read as they are, then with one step after the other replaced by the truth.

python scripts/error_budget.py --signals PACK_OR_WFDB_FOLDER [--pages 4] [--variants A,B] [--weights PATH] [--effects]

found     the picture alone is given
lattice   the page lies where it truly does
mode      in each column the decoder looks around the true row, so it follows no other trace
visible   which columns show a trace is true, too: nothing is interpolated, nothing taken for a trace
original  the digital original is read instead of the picture, so neither damage nor camera are left: what remains is the network's own
labels    the network is replaced by its own target, so only decoding and resampling are left

Prints for each variant the median over pages of dB (cap 60 dB), and last what each step alone adds to it. With --effects it prints instead
what the pages, read along their true lattices, gain without each single effect of their damage.
"""

import argparse
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.competition import scoring
from ecgjax.drawing import ground_truth
from ecgjax.ecg.leads import LEADS
from ecgjax.extract import digitizer, path_decoder, resample, strip_cutting
from ecgjax.extract.path_decoder import Trace
from ecgjax.geometry import lattices
from ecgjax.locate import find_page
from ecgjax.networks import inference, shipped, unet
from ecgjax.networks.unet import Scores
from ecgjax.simulate import validation_set, variants
from ecgjax.training import losses

STEPS = ('found', 'lattice', 'mode', 'visible', 'original', 'labels')


def readings(reader: digitizer.Reader, network: inference.Engine) -> Callable[[validation_set.Case, np.ndarray], dict[str, Trace]]:
  """Returns (page, its original (1700, 2200, 3) uint8) -> what is read at each of STEPS."""
  cut = strip_cutting.make_cut(layout=reader.layout, frame=reader.frame, cell=network.cell)
  plain, begins = jax.jit(path_decoder.soft_argmax), lattices.begins(reader.layout, reader.frame)
  sigma_px = reader.meta['config']['loss']['sigma_px']

  @jax.jit
  def around(scores: Scores, rows_px: jax.Array) -> Trace:
    heights = jnp.arange(scores.rows.shape[-2])[:, None] + 0.5
    near = jnp.where(jnp.abs(heights - rows_px[:, None]) <= path_decoder.WINDOW_PX, scores.rows, -1e9)
    visible = path_decoder.soft_argmax(scores, path=False).visible
    return path_decoder.soft_argmax(scores._replace(rows=near), path=False)._replace(visible=visible)

  @jax.jit
  def labelled(rows_px: jax.Array, printed: jax.Array) -> Trace:
    target = losses.column_target(rows_px, printed, height_px=reader.frame.height_px, sigma_px=sigma_px)
    logp = jnp.log(target + 1e-12)
    return path_decoder.soft_argmax(Scores(jnp.zeros((*logp[:, :-1].shape, len(unet.CLASSES))), logp[:, :-1], logp[:, -1]))

  def read(case: validation_set.Case, original: np.ndarray) -> dict[str, Trace]:
    mv, printed = ground_truth.at(jnp.asarray(case.mv), reader.frame.times_s(), layout=reader.layout, rate_hz=validation_set.RATE_HZ)
    rows_px, visible = reader.frame.rows_px(mv), jnp.asarray(printed, jnp.float32)
    found = find_page.find_page(case.image)
    scores, clean = (network.scores(cut(image, at)) for image, at in ((case.image, case.lattice), (original, lattices.page_lattice())))
    near = around(scores, rows_px)
    return {
      'found': reader.trace(case.image, found.lattice),
      'lattice': plain(scores, begins=begins),
      'mode': near,
      'visible': near._replace(visible=visible),
      'original': around(clean, rows_px)._replace(visible=visible),
      'labels': labelled(rows_px, jnp.asarray(printed)),
    }

  return read


def without(variant: variants.Variant) -> dict[str, variants.Variant]:
  """Returns the variant without each of its effects; how large the page is and what lies behind it stay."""
  damage = variant.damage
  there = [name for name in damage._fields if getattr(damage, name) and name not in ('zoom', 'fill', 'ground')]
  return {name: variant._replace(damage=damage._replace(**{name: 0.0})) for name in there}


def effects(name: str, records, score: Callable[[validation_set.Case], float]) -> list[tuple[str, float]]:
  """Returns (effect, dB gained without it), the greatest first: the median over pages of a variant."""
  cases = [validation_set.case(mv, name, number, even=True) for number, mv in enumerate(records)]
  before = np.array([score(case) for case in cases])

  def spared(case: validation_set.Case, variant: variants.Variant) -> validation_set.Case:
    key = validation_set.case_key(name, case.number)
    image, lattice, _ = validation_set.take(key, jnp.asarray(case.mv), variant, rate_hz=validation_set.RATE_HZ)
    return case._replace(image=np.asarray(image), lattice=np.asarray(lattice))

  gains = {e: np.median([score(spared(case, v)) for case in cases] - before) for e, v in without(variants.get(name)).items()}
  return sorted(gains.items(), key=lambda gain: -gain[1])


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--signals', required=True, help='pack or WFDB folder to print')
  parser.add_argument('--pages', type=int, default=4, help='of each variant')
  parser.add_argument('--variants', default=','.join(variants.VARIANTS), help='names with commas between')
  parser.add_argument('--effects', action='store_true', help='what each effect of the damage costs')
  parser.add_argument('--weights', default=shipped.DEFAULT, help='base, small or a .safetensors file')
  args = parser.parse_args()
  reader = digitizer.load_reader(args.weights)
  read = readings(reader, inference.load(args.weights, engine=reader.engine, precision=reader.precision)[0])
  segments = [reader.layout.scored(lead) for lead in LEADS]

  @jax.jit
  def leads(trace: Trace):
    fs = validation_set.RATE_HZ
    return [resample.lead(trace, s, layout=reader.layout, frame=reader.frame, fs=fs, count=s.count(fs))[0] for s in segments]

  def db(case: validation_set.Case, trace: Trace) -> float:
    pred = {s.lead: np.asarray(v, np.float64) for s, v in zip(segments, leads(trace), strict=True)}
    return scoring.image_report(case.leads, pred, fs=validation_set.RATE_HZ).db_open

  records = validation_set.recordings(args.signals, count=args.pages)
  if args.effects:
    for name in args.variants.split(','):
      found = effects(name, records, lambda case: db(case, reader.trace(case.image, case.lattice)))
      print(f'{name:<8}' + '  '.join(f'{effect} {gain:+.2f}' for effect, gain in found), flush=True)
    return
  print(f'{"":<8}' + ''.join(f'{step:>10}' for step in STEPS), flush=True)
  every = []
  for name in args.variants.split(','):
    rows = []
    for number, mv in enumerate(records):
      case = validation_set.case(mv, name, number, even=True)
      traces = read(case, validation_set.original(validation_set.case_key(name, number), mv))
      rows.append([db(case, traces[step]) for step in STEPS])
    every += rows
    print(line(name, np.median(rows, axis=0)), flush=True)
  median = np.median(every, axis=0)
  print(line('all', median), line('adds', np.diff(median, prepend=median[0])), sep='\n')


def line(name: str, values: np.ndarray) -> str:
  return f'{name:<8}' + ''.join(f'{v:>10.2f}' for v in values)


if __name__ == '__main__':
  main()
