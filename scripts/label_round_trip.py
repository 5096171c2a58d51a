"""The ceiling that labels set: signal -> polyline on paper -> column target -> decoder -> signal -> score, without a network.

python scripts/label_round_trip.py --signals PACK_OR_WFDB_FOLDER [--rate_hz 500] [--records 9]
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.competition import scoring
from ecgjax.drawing import ground_truth
from ecgjax.ecg import packs
from ecgjax.ecg.leads import LEADS
from ecgjax.extract import path_decoder
from ecgjax.geometry import lattices, layouts
from ecgjax.networks import unet
from ecgjax.training import losses

FS_HZ = (250, 256, 500, 512, 1000, 1025)  # all rates of the competition
SIGMA_PX = 1.5


def main():
  from scipy.signal import resample

  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--signals', required=True)
  parser.add_argument('--rate_hz', type=int, default=500, help='columns per second of the strips')
  parser.add_argument('--records', type=int, default=9, help='spread evenly over the recordings')
  args = parser.parse_args()
  page = layouts.make()
  frame = lattices.frame(page, rate_hz=args.rate_hz, height_px=640)
  pack, _ = packs.load(args.signals)

  @jax.jit
  def read(rows_px, printed):
    target = losses.column_target(rows_px, printed, height_px=frame.height_px, sigma_px=SIGMA_PX)
    logp = jnp.log(target + 1e-12)
    return path_decoder.soft_argmax(unet.Scores(jnp.zeros((*logp[:, :-1].shape, 4)), logp[:, :-1], logp[:, -1]))

  print(f'{args.rate_hz} columns/s\n   fs  score dB  median dB  worst dB   (cap 60 dB)')
  for fs in FS_HZ:
    ratios = []
    for i in np.linspace(0, len(pack) - 1, args.records).astype(int):
      mv = np.asarray(resample(packs.pack_to_mv(pack[i]).astype(np.float64), 10 * fs, axis=-1))
      wanted, printed = ground_truth.at(jnp.asarray(mv), frame.times_s(), layout=page, rate_hz=fs)
      trace = read(frame.rows_px(wanted), jnp.asarray(printed))
      true, pred = {}, {}
      for lead in LEADS:
        segment = page.scored(lead)
        first, count = int(np.ceil(segment.start_s * fs - 1e-6)), segment.count(fs)
        true[lead] = mv[LEADS.index(lead), first : first + count]
        found, _ = resample.lead(trace, segment, layout=page, frame=frame, fs=fs, count=count)
        pred[lead] = np.asarray(found, np.float64)
      ratios.append(scoring.reference_ratio(true, pred, fs=fs, cap=scoring.CAP_OPEN))
    db = 10 * np.log10(ratios)
    print(f'{fs:>5}{scoring.reference_score(ratios):>10.2f}{np.median(db):>11.2f}{db.min():>10.2f}', flush=True)


if __name__ == '__main__':
  main()
