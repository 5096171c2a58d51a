"""Evaluators: closures made once, then `run(params) -> Result`, on the same pages every time."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax import assemble, digitize, geometry, metrics, plot, simval, truth
from ecgjax.layout import LEADS, Layout

HEAD = f'{"":<8}{"n":>5}{"score dB":>10}{"median dB":>11}{"worst dB":>10}{"r":>8}{"rmse uV":>9}'


class Result(NamedTuple):
  """Numbers for the journal, pictures for the eye, a table for the person who waits."""

  numbers: dict[str, float]
  pictures: dict[str, np.ndarray]
  table: str


def summary(reports: list[metrics.ImageReport]) -> dict[str, float]:
  """Returns the table's numbers of a group of pages: the competition's score (mean of linear ratios), median, worst, r, rmse."""
  db = [r.db_open for r in reports]

  def over_leads(values) -> float:
    finite = [x for v in values for x in v.values() if np.isfinite(x)]
    return float(np.median(finite)) if finite else float('nan')

  return {
    'n': len(reports),
    'score_db': metrics.reference_score([r.ratio for r in reports]),
    'score_open_db': metrics.reference_score([r.ratio_open for r in reports]),
    'median_db': float(np.median(db)),
    'worst_db': float(np.min(db)),
    'r': over_leads([r.lead_r for r in reports]),
    'rmse_uv': over_leads([r.lead_rmse_uv for r in reports]),
  }


def line(name: str, n: dict[str, float]) -> str:
  """Returns one line of the table under HEAD."""
  return (f'{name:<8}{n["n"]:>5}{n["score_db"]:>10.2f}{n["median_db"]:>11.2f}{n["worst_db"]:>10.2f}'
          f'{n["r"]:>8.4f}{n["rmse_uv"]:>9.1f}')  # fmt: skip


def trace_snr(
  *, signals: str, pages: int, variants: tuple[str, ...], apply, page: Layout, frame: geometry.Frame
) -> Callable[[dict], Result]:
  """Scores pages of the fixed simulated validation set (`simval`), read from their true lattice.

  Args:
    signals: pack or WFDB folder to print; simulated where empty.
    pages: of each variant, the first of the set.
    variants: keys of `variants.VARIANTS`.
    apply: (params, strips) -> Scores.
    page: layout.
    frame: of the strips.

  Returns:
    params -> Result, the score of all pages together as its numbers, a line for each variant in its table.
  """
  records, fs = simval.recordings(signals, count=pages), simval.RATE_HZ
  trace, cut = digitize.make_trace(apply, page=page, frame=frame), digitize.make_cut(page=page, frame=frame)
  segments = [page.scored(lead) for lead in LEADS]

  @jax.jit
  def leads(found):
    return [assemble.lead(found, s, layout=page, frame=frame, fs=fs, count=s.count(fs))[0] for s in segments]

  def run(params) -> Result:
    reports, pictures = {name: [] for name in variants}, {}
    for case in (simval.case(mv, name, number) for name in variants for number, mv in enumerate(records)):
      found = trace(params, case.image, case.lattice)
      pred = {s.lead: np.asarray(v, np.float64) for s, v in zip(segments, leads(found), strict=True)}
      reports[case.variant].append(metrics.image_report(case.leads, pred, fs=fs))
      if case.number == 0:
        wanted, printed = truth.at(jnp.asarray(case.mv), frame.times_s(), layout=page, rate_hz=fs)
        true_px = np.where(np.asarray(printed), frame.rows_px(np.asarray(wanted)), np.nan)
        strips, std = np.asarray(cut(case.image, case.lattice)), np.asarray(found.std_px)
        pictures[f'overlay_{case.variant}'] = plot.overlay(strips, digitize.seen_rows(found), std, true_px=true_px)
    every = summary([r for group in reports.values() for r in group])
    lines = [line(name, summary(group)) for name, group in reports.items()]
    if len(reports) > 1:
      lines.append(line('all', every))
    return Result(every, pictures, '\n'.join([HEAD, *lines]))

  return run


EVALUATORS = {'trace_snr': trace_snr}


def make(name: str, *, apply, page: Layout, frame: geometry.Frame, **options) -> Callable[[dict], Result]:
  """Returns the evaluator of a config entry.

  Raises:
    ValueError: for a name that is not in EVALUATORS.
  """
  if name not in EVALUATORS:
    raise ValueError(f'no evaluator {name!r}; config.evals.*.name must be one of {sorted(EVALUATORS)}')
  return EVALUATORS[name](**options, apply=apply, page=page, frame=frame)
