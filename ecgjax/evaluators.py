"""Evaluators: closures made once, then `run(params) -> Result`, on the same pages every time."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax import assemble, data, digitize, geometry, looks, metrics, packs, plot, render, signals, truth
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


def trace_snr(*, signals: str, pages: int, seed: int, apply, page: Layout, frame: geometry.Frame) -> Callable[[dict], Result]:
  """Scores clean simulated pages, read from their true lattice.

  Args:
    signals: pack or WFDB folder to print, the first `pages` of a seeded order; simulated where empty.
    pages: how many.
    seed: of the choice.
    apply: (params, strips) -> Scores.
    page: layout.
    frame: of the strips.

  Returns:
    params -> Result.
  """
  recordings = _records(signals, pages=pages, seed=seed)
  fs = data.PACK_RATE_HZ
  draw = jax.jit(lambda key, mv: render.page(key, mv, layout=page, style=looks.competition(), rate_hz=fs).image)
  trace = digitize.make_trace(apply, page=page, frame=frame)
  lattice = geometry.page_lattice()
  cut = jax.jit(lambda image: geometry.cut(image, lattice, layout=page, frame=frame))
  segments = [page.scored(lead) for lead in LEADS]
  counts = [int((s.stop_s - s.start_s) * fs + 1e-6) for s in segments]

  @jax.jit
  def leads(found):
    return [assemble.lead(found, s, layout=page, frame=frame, fs=fs, count=n)[0] for s, n in zip(segments, counts, strict=True)]

  def run(params) -> Result:
    reports, pictures = [], {}
    for i, mv in enumerate(recordings):
      image = draw(jax.random.key(i), mv)
      found = trace(params, image, lattice)
      first = [round(s.start_s * fs) for s in segments]
      true = {s.lead: np.asarray(mv[LEADS.index(s.lead), a : a + n], np.float64) for s, a, n in zip(segments, first, counts, strict=True)}
      pred = {s.lead: np.asarray(v, np.float64) for s, v in zip(segments, leads(found), strict=True)}
      reports.append(metrics.image_report(true, pred, fs=fs))
      if i == 0:
        wanted, printed = truth.at(mv, frame.times_s(), layout=page, rate_hz=fs)
        true_px = np.where(printed, frame.rows_px(np.asarray(wanted)), np.nan)
        pictures['overlay'] = plot.overlay(
          np.asarray(cut(image)), digitize.seen_rows(found), np.asarray(found.std_px), true_px=true_px
        )
    numbers = summary(reports)
    return Result(numbers, pictures, f'{HEAD}\n{line("0001", numbers)}')

  return run


def _records(source: str, *, pages: int, seed: int) -> list[jax.Array]:
  """Returns (12, 5000) mV records at data.PACK_RATE_HZ."""
  if not source:
    simulate = jax.jit(lambda key: signals.simulate(key, rate_hz=data.PACK_RATE_HZ))
    return [simulate(key) for key in jax.random.split(jax.random.key(seed), pages)]
  pack, _ = packs.load(source)
  chosen = np.random.default_rng(seed).permutation(len(pack))[:pages]
  return [jnp.asarray(packs.pack_to_mv(pack[i])) for i in chosen]


EVALUATORS = {'trace_snr': trace_snr}


def make(name: str, *, apply, page: Layout, frame: geometry.Frame, **options) -> Callable[[dict], Result]:
  """Returns the evaluator of a config entry.

  Raises:
    ValueError: for a name that is not in EVALUATORS.
  """
  if name not in EVALUATORS:
    raise ValueError(f'no evaluator {name!r}; config.evals.*.name must be one of {sorted(EVALUATORS)}')
  return EVALUATORS[name](**options, apply=apply, page=page, frame=frame)
