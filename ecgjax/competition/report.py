"""Scores of pages, and tables of them."""

from typing import NamedTuple

import numpy as np

from ecgjax.competition import scoring
from ecgjax.networks.unet import CLASSES

HEAD = f'{"":<8}{"n":>5}{"score dB":>10}{"median dB":>11}{"worst dB":>10}{"r":>8}{"rmse uV":>9}'


class Page(NamedTuple):
  """One page's outcome."""

  id: str
  variant: str
  report: scoring.ImageReport
  true_lattice: scoring.ImageReport | None  # of the page read along its true lattice, where that is known
  off_px: tuple[float, float] | None  # rms and 95th percentile of the lattice's error in page px, where the truth is known
  status: str  # ok, review or fail
  reason: str
  quality: dict[str, float]  # lead name -> 0..1, see `quality`; empty of a page that could not be read
  seconds: float
  overlaps: np.ndarray | None = None  # (4, 2) px of intersection and union of each class, see `pixel_classes`
  columns_px: tuple[float, float] | None = None  # rms by which columns are off their instants: by the lattice alone, and along the ink


def summary(reports: list[scoring.ImageReport]) -> dict[str, float]:
  """Returns the table's numbers of a group of pages: the competition's score (mean of linear ratios), median, worst, r, rmse."""
  db = [r.db_open for r in reports]

  def over_leads(values) -> float:
    finite = [x for v in values for x in v.values() if np.isfinite(x)]
    return float(np.median(finite)) if finite else float('nan')

  return {
    'n': len(reports),
    'score_db': scoring.reference_score([r.ratio for r in reports]),
    'score_open_db': scoring.reference_score([r.ratio_open for r in reports]),
    'median_db': float(np.median(db)),
    'worst_db': float(np.min(db)),
    'r': over_leads([r.lead_r for r in reports]),
    'rmse_uv': over_leads([r.lead_rmse_uv for r in reports]),
  }


def line(name: str, n: dict[str, float]) -> str:
  """Returns one line of the table under HEAD."""
  return (f'{name:<8}{n["n"]:>5}{n["score_db"]:>10.2f}{n["median_db"]:>11.2f}{n["worst_db"]:>10.2f}'
          f'{n["r"]:>8.4f}{n["rmse_uv"]:>9.1f}')  # fmt: skip


def table(pages: list[Page]) -> str:
  """Returns the per-variant table.

  px and p95 px, of the lattices, and ink px, of the columns along the ink, are medians over the pages that were found; lost dB is the gain
  of the score along the true lattices.
  """
  lines = [f'{HEAD}{"px":>7}{"p95 px":>8}{"ink px":>8}{"lost dB":>9}{"ok":>5}{"review":>8}{"fail":>6}{"s/page":>8}']
  groups = {v: [p for p in pages if p.variant == v] for v in sorted({p.variant for p in pages})}
  if len(groups) > 1:
    groups['all'] = pages
  for name, group in groups.items():
    n = summary([p.report for p in group])
    ok, review, fail = (sum(p.status == status for p in group) for status in ('ok', 'review', 'fail'))
    # the median: the first page also pays for compiling
    seconds = np.median([p.seconds for p in group])
    offs = [p.off_px for p in group if p.off_px]
    off = '{:>7.2f}{:>8.2f}'.format(*np.median(offs, axis=0)) if offs else f'{"":>15}'
    columns = [p.columns_px[1] for p in group if p.columns_px]
    off += f'{np.median(columns):>8.2f}' if columns else f'{"":>8}'
    truths = [p.true_lattice for p in group if p.true_lattice]
    lost = summary(truths)['score_db'] - n['score_db'] if len(truths) == len(group) else None
    off += f'{lost:>9.2f}' if lost is not None else f'{"":>9}'
    lines.append(f'{line(name, n)}{off}{ok:>5}{review:>8}{fail:>6}{seconds:>8.2f}')
  return '\n'.join(lines)


def mask_table(pages: list[Page]) -> str:
  """Returns the per-variant table of the classes: intersection over union, pooled over the px of the pages that were read."""
  lines = [f'{"IoU":<8}' + ''.join(f'{name:>12}' for name in CLASSES)]
  for name in [*sorted({p.variant for p in pages}), 'all']:
    group = [p.overlaps for p in pages if p.overlaps is not None and name in (p.variant, 'all')]
    if group:
      both, either = np.sum(group, axis=0).T
      lines.append(f'{name:<8}' + ''.join(f'{share:>12.3f}' for share in both / np.maximum(either, 1)))
  return '\n'.join(lines)
