"""Quality of each lead: the expected share of signal in the lead as read.

The error variance is estimated from three sources: the network's own standard deviations, the confidence of the lattice, and the
contradictions between the limb leads (Einthoven). docs/quality.md measures how well the quality separates good pages from bad ones.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ecgjax.ecg.leads import LEADS
from ecgjax.extract import einthoven, resample
from ecgjax.extract.path_decoder import Trace
from ecgjax.geometry.lattices import Frame, trace_area
from ecgjax.geometry.layouts import Layout, Segment

# Chosen on 9 recordings x 13 variants of sim:even, as the shares that tell the errors best: 0, 0.1, 0.3, 1 and 0, 0.25, 0.5, 1 were tried.
MISPLACED = 0.1  # of the page's expected error: most of it moves a whole lead, which neither its shape nor the score minds
CONTRADICTED = 0.5  # of the limb rows' contradiction: agreeing on two leads out of four rows halves their noise
LEAST_MV = 0.05  # rms of a lead's waves; a flatter lead, a pause or an asystole, is judged as if it were so tall
EDGE_MV = 0.3  # nearer than that to a strip's edge a trace may go on beyond it, and the gap is bridged as if nothing had been there
CUT_OFF = 0.5  # the best that is said of a lead whose waves reach its strip's edge: what lies beyond is not known


class Doubt(NamedTuple):
  """Estimates of a page's errors beside the leads' own standard deviations.

  Attributes:
    visible: lead name -> share of its columns in which a trace is visible.
    contradiction_mv2: limb lead name -> variance of its rows, in mV^2, from the contradictions of the limb rows; 0 without any.
    page_px: expected rms error of the lattice in page px.
    cut_off: leads that reach their strip's edge.
  """

  visible: Mapping[str, float]
  contradiction_mv2: Mapping[str, float]
  page_px: float
  cut_off: tuple[str, ...]


def lead(mv: np.ndarray, std_mv: np.ndarray, name: str, doubt: Doubt, *, fs: float, layout: Layout) -> float:
  """Computes the quality of one lead.

  Args:
    mv: (n,) as read.
    std_mv: (n,) calibrated standard deviation.
    name: of the lead.
    doubt: of its page.
    fs: Hz.
    layout: its layout, speed and gain.

  Returns:
    0..1: visible share times signal variance over the sum of signal and expected error variance, 0.91 is 10 dB; 0 for an absent lead.
  """
  visible = doubt.visible[name]
  if not visible:
    return 0.0
  slope = np.gradient(mv) * fs if len(mv) > 1 else np.zeros(1)
  misplaced = MISPLACED * doubt.page_px**2 * (layout.px_per_mv**-2 + np.mean(slope**2) * layout.px_per_s**-2)
  error = np.mean(std_mv**2) + misplaced + CONTRADICTED * doubt.contradiction_mv2[name]
  signal = max(np.var(mv), LEAST_MV**2)
  share = visible * signal / (signal + error)
  return float(min(share, CUT_OFF) if name in doubt.cut_off else share)


def doubt(trace: Trace, page_px: float, *, layout: Layout, frame: Frame, scale: float) -> Doubt:
  """Estimates a page's errors.

  Args:
    trace: the rows as read, before `fuse`.
    page_px: expected rms error of the lattice, page px.
    layout, frame: of the strips.
    scale: from the strips' mV to those of the page, by its gain.

  Returns:
    The doubt about each lead.
  """
  columns = {lead: _columns(trace, layout.scored(lead), frame) for lead in LEADS}
  reach_mv = frame.millivolts(0) - EDGE_MV
  cut_off = tuple(lead for lead, (rows_px, visible) in columns.items() if (visible & (np.abs(frame.millivolts(rows_px)) > reach_mv)).any())
  shares = {lead: float(visible.mean()) for lead, (_, visible) in columns.items()}
  contradictions = {lead: scale**2 * x for lead, x in contradictions_mv2(trace, layout, frame).items()}
  return Doubt(shares, contradictions, page_px, cut_off)


def _columns(trace: Trace, segment: Segment, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
  """Returns (n,) rows px of a lead's own columns and whether the trace is visible in each."""
  first, stop = (round(frame.columns_px(second)) for second in (segment.start_s, segment.stop_s))
  rows_px, visible = (np.asarray(a)[segment.row, first:stop] for a in (trace.rows_px, trace.visible))
  return rows_px, visible >= resample.VISIBLE


def contradictions_mv2(trace: Trace, layout: Layout, frame: Frame) -> dict[str, float]:
  """Estimates the errors of simultaneous limb rows from their contradictions.

  Args:
    trace: the rows as read, before `fuse`, which makes them consistent.
    layout: layout with the segments of each row.
    frame: of the strips.

  Returns:
    Lead name -> mV^2 at the gain of the weights' own page, the mean over the columns of its segment in which all limb rows are visible;
    0 without such columns.
  """
  rows_px, visible = (np.asarray(a) for a in (trace.rows_px, trace.visible))
  squares = np.full(rows_px.shape, np.nan)
  for first, stop, design in einthoven.intervals(layout, frame):
    limb = design.any(1)
    if limb.sum() > 2:
      mv = frame.millivolts(rows_px[limb, first:stop])
      off = mv - design[limb] @ np.linalg.pinv(design[limb]) @ mv
      all_visible = (visible[limb, first:stop] >= resample.VISIBLE).all(0)
      squares[limb, first:stop] = np.where(all_visible, (off**2).sum(0) / (limb.sum() - 2), np.nan)
  found = {}
  for name in LEADS:
    segment = layout.scored(name)
    own = squares[segment.row, slice(*(round(frame.columns_px(s)) for s in (segment.start_s, segment.stop_s)))]
    found[name] = float(np.nanmean(own)) if np.isfinite(own).any() else 0.0
  return found


def page_px(confidence: np.ndarray) -> float:
  """Returns the expected rms error in the trace area, in page px, from a lattice's (45, 57) confidence (see `find_page.Found`)."""
  sure = np.maximum(np.asarray(confidence, np.float64)[trace_area()], 1e-3)
  return float(np.sqrt(np.mean(1 / sure - 1)))
