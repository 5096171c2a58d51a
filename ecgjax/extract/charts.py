"""Pictures of recordings: a standard ECG chart, and the traces drawn back on the picture they were read from."""

import itertools
from collections.abc import Mapping

import numpy as np

from ecgjax.ecg.leads import LEADS
from ecgjax.geometry import lattices, paper
from ecgjax.geometry.layouts import Layout
from ecgjax.io.waveform_files import stretches

SURE_RGB, UNSURE_RGB = (0, 80, 230), (225, 70, 0)
UNSURE_MV = 0.1  # samples of a larger standard deviation are drawn in UNSURE_RGB
HEADROOM_MV = 1.5  # of a chart above its first and below its last zero line, at least: a tall wave is not cut off
LONG_PX = 2200  # of an overlay: larger pictures are made smaller
PALE, BAND = 0.35, 0.24  # share of white in its picture, and of blue in the bands of two standard deviations
FRACTION_BITS = 4  # of the coordinates of what is drawn
Leads = Mapping[str, np.ndarray]


def figure(leads: Leads, std: Leads, *, fs: float, layout: Layout):
  """Draws a standard ECG chart in the arrangement of its layout, over pale bands of two standard deviations.

  Args:
    leads: lead name -> (n,) mV, nan where absent.
    std: lead name -> (n,) mV.
    fs: Hz.
    layout: of the page, with speed and gain.

  Returns:
    A matplotlib Figure at the paper's own size.
  """
  from matplotlib.figure import Figure

  reach_mv = [(s, s.sign * np.array([-HEADROOM_MV, HEADROOM_MV, *(leads[s.lead] - 0.3), *(leads[s.lead] + 0.3)])) for s in layout.segments]
  top = min(layout.zeros_px[s.row] - np.nanmax(mv) * layout.px_per_mv for s, mv in reach_mv)
  bottom = max(layout.zeros_px[s.row] - np.nanmin(mv) * layout.px_per_mv for s, mv in reach_mv)
  made = Figure(figsize=(paper.WIDTH_PX / paper.DPI, (bottom - top) / paper.DPI), dpi=100)
  axes = made.add_axes((0, 0, 1, 1), xlim=(0, paper.WIDTH_PX), ylim=(bottom, top))
  rows, cols = lattices.nodes_px()
  for lines, draw in ((rows, axes.axhline), (cols, axes.axvline)):
    for at in lines:
      draw(at, color='#e8a8a8', linewidth=0.5)
  for segment in layout.segments:
    source = layout.scored(segment.lead)
    first, stop = (round((s - source.start_s) * fs) for s in (segment.start_s, segment.stop_s))
    mv, off = (segment.sign * values[segment.lead][max(first, 0) : max(stop, 0)] for values in (leads, std))
    x = paper.START_X_PX + (segment.start_s + np.arange(len(mv)) / fs) * layout.px_per_s
    zero = layout.zeros_px[segment.row]
    low, high = (zero - (mv + k * off) * layout.px_per_mv for k in (-2, 2))
    axes.fill_between(x, low, high, color='#0050e6', alpha=0.2, linewidth=0)
    axes.plot(x, zero - mv * layout.px_per_mv, color='black', linewidth=0.8)
    axes.text(paper.START_X_PX + segment.start_s * layout.px_per_s + 8, zero - 70, segment.label, fontsize=9)
  axes.text(paper.START_X_PX, bottom - 12, f'{layout.speed_mm_s:g} mm/s  {layout.gain_mm_mv:g} mm/mV', fontsize=8)
  axes.set_axis_off()
  return made


def overlay(image: np.ndarray, leads: Leads, std: Leads, *, fs: float, layout: Layout, lattice: np.ndarray) -> np.ndarray:
  """Draws the leads back on their picture, in blue, orange where unsure, over bands of two standard deviations.

  Args:
    image: (H, W, 3) uint8.
    leads: lead name -> (n,) mV, nan where absent.
    std: lead name -> (n,) mV.
    fs: Hz.
    layout: layout, speed and gain.
    lattice: (45, 57, 2) image px of the page's nodes.

  Returns:
    (h, w, 3) uint8, the picture, reduced where its longer side is over LONG_PX, in pale colours with the leads on it.
  """
  import cv2

  shrink = min(1.0, LONG_PX / max(image.shape[:2]))
  size = round(image.shape[1] * shrink), round(image.shape[0] * shrink)
  picture = image if shrink == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
  picture = cv2.addWeighted(picture, 1 - PALE, np.full_like(picture, 255), PALE, 0)
  banded, paths = picture.copy(), {}
  for lead in LEADS:
    low, path, high, unsure = _paths(lead, leads, std, fs=fs, layout=layout, lattice=np.asarray(lattice) * shrink)
    paths[lead] = path, unsure
    for start, stop in stretches(np.isfinite(low).all(-1)):
      cv2.fillPoly(banded, [_fixed_point(np.concatenate([high[start:stop], low[start:stop][::-1]]))], SURE_RGB, cv2.LINE_8, FRACTION_BITS)
  picture = cv2.addWeighted(picture, 1 - BAND, banded, BAND, 0)
  for path, unsure in paths.values():
    for start, stop in stretches(np.isfinite(path).all(-1)):
      turns = np.flatnonzero(np.diff(unsure[start:stop])) + start + 1  # where the colour changes
      for first, last in itertools.pairwise([start, *turns, stop]):
        points = _fixed_point(path[first : min(last + 1, stop)])
        cv2.polylines(picture, [points], False, UNSURE_RGB if unsure[first] else SURE_RGB, 1, cv2.LINE_AA, FRACTION_BITS)
  return picture


def _fixed_point(points_px: np.ndarray) -> np.ndarray:
  """Returns (n, 2) continuous px as OpenCV draws them: whole numbers of 2^-FRACTION_BITS px from the middle of the first px."""
  return np.round((points_px - 0.5) * 2**FRACTION_BITS).astype(np.int32)


def _paths(lead: str, leads: Leads, std: Leads, *, fs: float, layout: Layout, lattice: np.ndarray):
  """Returns (n, 2) picture px of a lead minus two deviations, itself, plus two, and (n,) whether its deviation is over UNSURE_MV."""
  segment, mv, off = layout.scored(lead), np.asarray(leads[lead]), np.asarray(std[lead])
  x = paper.START_X_PX + (segment.start_s + np.arange(len(mv)) / fs) * layout.px_per_s
  paths = []
  for values in (mv - 2 * off, mv, mv + 2 * off):
    y = np.clip(layout.zeros_px[segment.row] - values * layout.px_per_mv, 0, paper.HEIGHT_PX)
    paths.append(np.asarray(lattices.image_px(lattice, np.stack([x, y], -1))))
  return *paths, off > UNSURE_MV
