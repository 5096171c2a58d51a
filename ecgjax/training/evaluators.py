"""Evaluators: closures `run(params) -> Result`, made once, on the same pages every time."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.competition import scoring
from ecgjax.competition.report import HEAD, line, summary
from ecgjax.drawing import ground_truth
from ecgjax.ecg.leads import LEADS
from ecgjax.extract import digitizer, einthoven, resample, strip_cutting, strip_overlay
from ecgjax.geometry import lattices
from ecgjax.geometry.layouts import Layout
from ecgjax.locate import canvases, homography_fit
from ecgjax.simulate import validation_set
from ecgjax.training import canvas_views


def _recordings(signals: str, *, count: int) -> Callable[[], list[jax.Array]]:
  """Returns `validation_set.recordings` as a function: files are read at once, so that a wrong path is seen before the first step, but
  simulated signals only when the first score is due, since compiling the simulator takes seconds."""
  if not signals:
    return functools.cache(lambda: validation_set.recordings('', count=count))
  records = validation_set.recordings(signals, count=count)
  return lambda: records


class Result(NamedTuple):
  """Numbers for metrics.jsonl, pictures, and a table for stdout."""

  numbers: dict[str, float]
  pictures: dict[str, np.ndarray]
  table: str


def trace_snr(
  *, signals: str, pages: int, variants: tuple[str, ...], apply, layout: Layout, frame: lattices.Frame
) -> Callable[[dict], Result]:
  """Scores pages of the fixed simulated validation set (`validation_set`), read from their true lattice.

  Args:
    signals: pack or WFDB folder to print; simulated where empty.
    pages: of each variant, the first of the set.
    variants: keys of `variants.VARIANTS`.
    apply: (params, strips) -> Scores.
    layout: of the pages.
    frame: of the strips.

  Returns:
    params -> Result, the score of all pages together as its numbers, a line for each variant in its table.
  """
  records, fs = _recordings(signals, count=pages), validation_set.RATE_HZ
  trace, cut = strip_cutting.make_trace(apply, layout=layout, frame=frame), strip_cutting.make_cut(layout=layout, frame=frame)
  segments = [layout.scored(lead) for lead in LEADS]

  @jax.jit
  def leads(found):
    found = einthoven.fuse(found, layout=layout, frame=frame)
    return [resample.lead(found, s, layout=layout, frame=frame, fs=fs, count=s.count(fs))[0] for s in segments]

  def run(params) -> Result:
    reports, pictures = {name: [] for name in variants}, {}
    for case in (validation_set.case(mv, name, number, even=True) for name in variants for number, mv in enumerate(records())):
      found = trace(params, case.image, case.lattice)
      pred = {s.lead: np.asarray(v, np.float64) for s, v in zip(segments, leads(found), strict=True)}
      reports[case.variant].append(scoring.image_report(case.leads, pred, fs=fs))
      if case.number == 0:
        wanted, printed = ground_truth.at(jnp.asarray(case.mv), frame.times_s(), layout=layout, rate_hz=fs)
        true_px = np.where(np.asarray(printed), frame.rows_px(np.asarray(wanted)), np.nan)
        strips, std = np.asarray(cut(case.image, case.lattice)), np.asarray(found.std_px)
        pictures[f'overlay_{case.variant}'] = strip_overlay.overlay(strips, digitizer.seen_rows(found), std, true_px=true_px)
    every = summary([r for group in reports.values() for r in group])
    lines = [line(name, summary(group)) for name, group in reports.items()]
    if len(reports) > 1:
      lines.append(line('all', every))
    return Result(every, pictures, '\n'.join([HEAD, *lines]))

  return run


def page_px(*, signals: str, pages: int, variants: tuple[str, ...], apply, size_px: int) -> Callable[[dict], Result]:
  """Scores the page network on the fixed simulated validation set, each page in all four quarter turns.

  Args:
    signals: pack or WFDB folder to print; simulated where empty.
    pages: of each variant, the first of the set.
    variants: keys of `variants.VARIANTS`.
    apply: (params, canvas) -> PageNetOutput.
    size_px: side of the canvas.

  Returns:
    params -> Result: per variant the share of right turns, and the error of the fitted plane map at the page's nodes, in page px.
  """
  records = _recordings(signals, count=pages)
  predict = jax.jit(lambda params, canvas: (lambda out: (out, *homography_fit.fit(out)))(apply(params, canvas)))

  def run(params) -> Result:
    lines = [f'{"":<8}{"n":>5}{"turns %":>9}{"median px":>11}{"p95 px":>8}{"worst px":>10}']
    turns, offs = {name: [] for name in variants}, {name: [] for name in variants}
    for case in (validation_set.case(mv, name, number, even=True) for name in variants for number, mv in enumerate(records())):
      for turn in range(4):
        canvas = jnp.asarray(canvases.canvas(np.ascontiguousarray(np.rot90(case.image, -turn)), size_px=size_px) / np.float32(255))
        out, matrix, _ = predict(params, canvas)
        turns[case.variant].append(int(np.argmax(out.turn)) == turn)
        if turn == 0:
          offs[case.variant].append(_miss_px(np.asarray(matrix), case, size_px=size_px))
    for name in variants:
      off = np.array(offs[name])
      far = f'{np.median(off):>11.1f}{np.quantile(off, 0.95):>8.1f}{off.max():>10.1f}'
      lines.append(f'{name:<8}{len(off):>5}{100 * np.mean(turns[name]):>9.1f}{far}')
    every, right = np.concatenate(list(offs.values())), np.concatenate(list(turns.values()))
    numbers = {'turns': float(np.mean(right)), 'median_px': float(np.median(every)), 'worst_px': float(every.max())}
    return Result(numbers, {}, '\n'.join(lines))

  return run


def _miss_px(matrix: np.ndarray, case: validation_set.Case, *, size_px: int) -> float:
  """Returns the rms error of a plane map at the true lattice's nodes, in page px."""
  back = np.linalg.inv(canvases.canvas_matrix(case.image.shape, size_px=size_px))
  at = np.concatenate([case.lattice, np.ones_like(case.lattice[..., :1])], axis=-1) @ (matrix @ back).T
  found = canvas_views.to_page_px(at[..., :2] / at[..., 2:])
  return float(np.sqrt(((found - lattices.page_lattice()) ** 2).sum(-1).mean()))
