"""How well quality tells good pages from bad ones: python scripts/risk_coverage.py EVALUATED.json ... [--picture FILE.png]

Takes what `python -m ecgjax.evaluate --json FILE` wrote. A page's quality is that of its worst lead. For each threshold the table says
which share of the pages is at or above it (coverage), and which share of those is below 10 and below 15 dB (risk); the picture draws the
risk over the coverage. `digitizer.REVIEW` is chosen by it.
"""

import argparse
import json
import pathlib
from typing import NamedTuple

import numpy as np

RISKY_DB = (10.0, 15.0)
THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97)


class Pages(NamedTuple):
  """(N,) each: quality of the worst lead, -1 of a page that could not be read; dB; whether it was called ok."""

  quality: np.ndarray
  db: np.ndarray
  ok: np.ndarray


def pages(paths: list[str]) -> Pages:
  """Reads what `evaluate` wrote."""
  every = [page for path in paths for page in json.loads(pathlib.Path(path).read_text())['pages']]
  quality = [min(page['quality'].values(), default=-1.0) for page in every]
  return Pages(np.array(quality), np.array([page['report']['db_open'] for page in every]), np.array([p['status'] == 'ok' for p in every]))


def table(found: Pages) -> str:
  """Returns the table, a line for each of THRESHOLDS and one for the pages called ok."""
  lines = [f'{len(found.db)} pages', '| worst lead at least | coverage | below 10 dB | below 15 dB | worst dB |', '|---|---|---|---|---|']
  for name, taken in [*((f'{least:.2f}', found.quality >= least) for least in THRESHOLDS), ('status ok', found.ok)]:
    taken = found.db[taken]
    if len(taken):
      risks = ' | '.join(f'{100 * (taken < risky).mean():.1f} % ({(taken < risky).sum()})' for risky in RISKY_DB)
      lines.append(f'| {name} | {100 * len(taken) / len(found.db):.1f} % | {risks} | {taken.min():.1f} |')
  return '\n'.join(lines)


def draw(found: Pages, path: str) -> None:
  """Draws risk over coverage, beside what no quality and a perfect one would give."""
  from matplotlib.figure import Figure

  db, made = found.db, Figure(figsize=(7, 3.4), layout='constrained')
  share = 100 * np.arange(1, len(db) + 1) / len(db)
  for axes, risky in zip(made.subplots(1, 2, sharey=False), RISKY_DB, strict=True):
    for order, label, style in ((np.argsort(-found.quality, kind='stable'), 'by quality', '-'), (np.argsort(-db), 'by the truth', ':')):
      axes.plot(share, 100 * np.cumsum(db[order] < risky) / np.arange(1, len(db) + 1), style, color='#0047cc', label=label)
    axes.axhline(100 * (db < risky).mean(), color='#888', linewidth=1, linestyle='--', label='at random')
    axes.set(xlabel='coverage, % of pages', ylabel=f'below {risky:g} dB, % of them', xlim=(0, 100))
    axes.legend(frameon=False)
  made.savefig(path, dpi=110)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('evaluated', nargs='+', help='JSON files of python -m ecgjax.evaluate')
  parser.add_argument('--picture', help='PNG file to write')
  args = parser.parse_args()
  found = pages(args.evaluated)
  print(table(found))
  if args.picture:
    draw(found, args.picture)


if __name__ == '__main__':
  main()
