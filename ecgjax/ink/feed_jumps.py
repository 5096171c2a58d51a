"""Jumps of a scanner's feed, detected in the vertical grid lines of all rows together, for each scan line.

The lattice is smooth; between two of its nodes a feed may jump by some px and back (`scanner_feed`). The darkness of the grid along a page,
averaged over bands of rows, is a profile with the positions of the printed lines. The displacement of the scan lines is the path of shifts
that explains the profiles best, with a cost for each change; slow displacement, which is no jump, is left to the lattice.

The competition's originals have their grid lines on whole px, up to half a px off their nominal positions (`render._lines`): as much as
the lattice's error. A print keeps that, so a profile is compared with and without this snapping, and the better fit is used.
"""

from typing import Any, NamedTuple

import numpy as np

from ecgjax.geometry import lattices, paper

ROWS_PX, ROW_STEP_PX, BANDS = (330.0, 1650.0), 6, 6  # page rows of the profiles, and how many bands they make
COLUMNS_PX, COLUMN_STEP_PX = (40, 2150), 2
LINE_ROOM_PX = 1.7  # rows nearer to a line along x are in it
WIDE_PX, CREEP_PX = 41, 5  # of the paper around a line; of the ink's surroundings
INK, MOST = 60.0, 60.0  # grey levels: darker than its surroundings even in its lightest colour; the most that a px may count
PHASES, SOFT_PHASES = 160, 2.0  # of a 5 mm period, and how far a template is smoothed
SHIFTS_PX = np.arange(-3.5, 3.51, 0.25)
MOVE, REST = 6.0, 0.003  # cost of a px of change; of half a px off for a column
RASTER = 0.4  # rms of what px make of a line, of the template's own: what is not noise either
FREEDOM = 4.0  # of Student's t, in which a column errs
LEAP_PX, GAIN = 0.65, 10.0  # less is no leap; nor is one that explains the profiles by less, in nats
STRETCH_PX, WORTH = 24, 4.0  # of columns, and by how many nats a shift must explain them better before a path is sought
LEANS = np.linspace(-1.6, 1.6, 17)
LEAN_RMS = 0.6


class Leaps(NamedTuple):
  """Feed jumps, sampled along the page's middle band every COLUMN_STEP_PX.

  Attributes:
    heights_px: (B,) page y of the bands.
    columns_px: (B, N) page x, from the lattice, of each scan line in each band.
    shift_px: (N,) displacement of the print to the right of that, at the page's middle height.
    lean: (N,) relative increase of the shift at the lower edge, and decrease at the upper one.
  """

  heights_px: np.ndarray
  columns_px: np.ndarray
  shift_px: np.ndarray
  lean: np.ndarray


class _Profiles(NamedTuple):
  """(B, N) darkness of the grid and its weight, resampled on the scan lines of the middle band; (B, N) their page x; (B,) their y."""

  dark: np.ndarray
  trust: np.ndarray
  columns_px: np.ndarray
  heights_px: np.ndarray


def find(image: np.ndarray, lattice: np.ndarray) -> Leaps | None:
  """Detects jumps of the feed along x.

  Args:
    image: (H, W, 3) uint8.
    lattice: (45, 57, 2) image px of the page's nodes.

  Returns:
    The jumps, or None if there is none.
  """
  from scipy import ndimage

  profiles = _profiles(image, np.asarray(lattice, np.float64))
  snapped, even = (_template(profiles, place) for place in (_snapped, _even))
  place, template = (_snapped, snapped) if (snapped**2).mean() > (even**2).mean() else (_even, even)
  costs = _costs(profiles, template, place)
  if not _worth_a_path(costs):
    return None
  shift = _path(costs)
  shift[: WIDE_PX // COLUMN_STEP_PX], shift[-WIDE_PX // COLUMN_STEP_PX :] = 0.0, 0.0  # there the paper around a line is not seen
  labelled: Any = ndimage.label(ndimage.binary_dilation(np.abs(shift) > LEAP_PX, iterations=4))
  leaps, count = labelled
  if not count:
    return None
  lean, template = np.zeros_like(shift), _template(profiles, place, shift)
  for n in range(1, count + 1):
    here = leaps == n
    lean[here], gain = _lean(profiles, template, place, shift, here)
    if gain < GAIN:
      leaps[here] = 0
  return Leaps(profiles.heights_px, profiles.columns_px, np.where(leaps > 0, shift, 0.0), lean) if leaps.any() else None


def right_px(leaps: Leaps, x_px: np.ndarray, y_px: float) -> np.ndarray:
  """Returns (N,) the displacement to the right, in px, of the print at page x (N,), increasing, and y."""
  after = int(np.clip(np.searchsorted(leaps.heights_px, y_px), 1, len(leaps.heights_px) - 1))
  low, high = leaps.heights_px[after - 1 : after + 1]
  share = (y_px - low) / (high - low)
  columns = (1 - share) * leaps.columns_px[after - 1] + share * leaps.columns_px[after]
  return np.interp(x_px, columns, leaps.shift_px * (1 + leaps.lean * _down(y_px)))


def _down(y_px):
  return 2 * y_px / paper.HEIGHT_PX - 1


def _profiles(image: np.ndarray, lattice: np.ndarray) -> _Profiles:
  import cv2

  ys, xs = np.arange(*ROWS_PX, ROW_STEP_PX) + 0.5, np.arange(*COLUMNS_PX) + 0.5
  lines = (ys - paper.GRID_Y_PX) / paper.MINOR_PX
  ys = ys[np.abs(lines - np.round(lines)) * paper.MINOR_PX > LINE_ROOM_PX]
  nodes_y, nodes_x = lattices.nodes_px()
  down, across = lattices.spline_weights(nodes_y, ys), lattices.spline_weights(nodes_x, xs).T.astype(np.float32)
  x_px, y_px = ((down @ lattice[..., i]).astype(np.float32) @ across - np.float32(0.5) for i in (0, 1))
  colours = cv2.split(cv2.remap(image, x_px, y_px, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
  darkest, lightest = (step.reduce(colours).astype(np.float32) for step in (np.minimum, np.maximum))
  ink = cv2.blur(lightest, (2 * WIDE_PX - 1, 1)) - lightest > INK
  free = cv2.dilate(ink.astype(np.uint8), np.ones((1, CREEP_PX), np.uint8)) == 0
  dark = np.clip(cv2.blur(darkest, (WIDE_PX, 1)) - darkest, -MOST, MOST) * free
  edges = np.linspace(0, len(ys), BANDS + 1).astype(int)
  counts = np.add.reduceat(free.astype(np.float32), edges[:-1], axis=0)
  means = np.add.reduceat(dark, edges[:-1], axis=0) / np.maximum(counts, 1)
  means -= cv2.blur(means, (WIDE_PX, 1))
  middles = (edges[:-1] + edges[1:]) // 2
  along_px = x_px[middles]  # image x of the px in each band
  scan_lines = along_px[BANDS // 2, ::COLUMN_STEP_PX]
  columns = np.stack([np.interp(scan_lines, along, xs) for along in along_px])
  take = lambda values: np.stack([np.interp(at, xs, row) for at, row in zip(columns, values, strict=True)])
  return _Profiles(take(means), take(np.minimum(counts / 8, 1) * (counts > 3)), columns, ys[middles])


def _even(x_px: np.ndarray) -> np.ndarray:
  """Returns the phase 0..1 of page x in the 5 mm period."""
  return (x_px - paper.GRID_X_PX) / paper.MAJOR_PX % 1


def _snapped(x_px: np.ndarray) -> np.ndarray:
  """Returns the phase with each line snapped to the centre of its nearest px."""
  places = paper.GRID_X_PX + paper.MINOR_PX * np.arange(1 + int(paper.WIDTH_PX / paper.MINOR_PX))
  return _even(np.interp(x_px, np.round(places) + 0.5, places))


def _template(profiles: _Profiles, place, shift_px: np.ndarray | float = 0.0) -> np.ndarray:
  """Returns (PHASES,) the profile of a period, the mean over page and bands."""
  from scipy import ndimage

  at = (PHASES * place(profiles.columns_px + shift_px)).astype(int).ravel() % PHASES
  sums, weights = (np.bincount(at, values.ravel(), minlength=PHASES) for values in (profiles.dark * profiles.trust, profiles.trust))
  sums, weights = (ndimage.gaussian_filter1d(values, SOFT_PHASES, mode='wrap') for values in (sums, weights))
  return sums / np.maximum(weights, 1e-6)


def _misfit(profiles: _Profiles, template: np.ndarray, phases: np.ndarray, band: int, columns: Any = slice(None)) -> np.ndarray:
  """Returns the squared misfits (n, ...) of a band's columns to the template at phases (n, ...)."""
  knots, around = (np.arange(PHASES + 2) - 0.5) / PHASES, [template[-1], *template, template[0]]
  return (profiles.dark[band, columns].reshape(-1, *[1] * (phases.ndim - 1)) - np.interp(phases, knots, around)) ** 2


def _costs(profiles: _Profiles, template: np.ndarray, place) -> np.ndarray:
  """Returns (N, S) the negative log-likelihood, in nats, of each shift of each scan line over all bands."""
  total = np.zeros((profiles.dark.shape[1], len(SHIFTS_PX)))
  middle = len(SHIFTS_PX) // 2
  for band in range(BANDS):
    squares = _misfit(profiles, template, place(profiles.columns_px[band][:, None] + SHIFTS_PX), band)
    total += profiles.trust[band][:, None] * _nats(squares, squares[:, middle], template)
  return total


def _nats(squares: np.ndarray, at_rest: np.ndarray, template: np.ndarray) -> np.ndarray:
  """Returns the negative log-likelihood of squared misfits, scaled by those of an even feed."""
  scale = np.median(at_rest) / 0.455 + RASTER**2 * (template**2).mean() + 1e-3
  return COLUMN_STEP_PX * (FREEDOM + 1) / 2 * np.log1p(squares / (FREEDOM * scale))


def _worth_a_path(costs: np.ndarray) -> bool:
  """Returns whether some stretch of STRETCH_PX is explained better by a shift than without one."""
  from scipy import ndimage

  window = round(STRETCH_PX / COLUMN_STEP_PX)
  sums = ndimage.uniform_filter1d(costs, window, axis=0) * window
  return bool((sums[:, len(SHIFTS_PX) // 2] - sums.min(1)).max() > WORTH)


def _path(costs: np.ndarray) -> np.ndarray:
  """Returns (N,) the shift of each scan line, the mean over all shifts weighted by the score of the best path through each."""
  costs = costs + COLUMN_STEP_PX * REST * (SHIFTS_PX / 0.5) ** 2
  moves = MOVE * np.abs(SHIFTS_PX[:, None] - SHIFTS_PX)

  both = np.stack([costs, costs[::-1]], axis=1)  # along the columns, and back
  best = np.empty_like(both)
  best[0] = both[0]
  for n in range(1, len(both)):
    np.add(both[n], (best[n - 1][:, None] + moves).min(2), out=best[n])
  through = best[:, 0] + best[::-1, 1] - costs
  weights = np.exp(through.min(1, keepdims=True) - through)
  return weights @ SHIFTS_PX / weights.sum(1)


def _lean(profiles: _Profiles, template: np.ndarray, place, shift: np.ndarray, here: np.ndarray) -> tuple[float, float]:
  """Returns the lean of a jump, and its gain in nats over an even feed."""
  even, leaning = 0.0, np.zeros(len(LEANS))
  for band in range(BANDS):
    at_rest = _misfit(profiles, template, place(profiles.columns_px[band]), band)
    leaned = shift[here, None] * (1 + LEANS * _down(profiles.heights_px[band]))
    squares = _misfit(profiles, template, place(profiles.columns_px[band][here, None] + leaned), band, here)
    even += profiles.trust[band][here] @ _nats(at_rest[here], at_rest, template)
    leaning += profiles.trust[band][here] @ _nats(squares, at_rest, template)
  best = (leaning + 0.5 * (LEANS / LEAN_RMS) ** 2).argmin()
  return float(LEANS[best]), float(even - leaning[best])
