"""Pitch and direction of a grid from a picture's local spectra: the pose of a page up to a quarter turn and a shift.

A grid consists of two families of parallel lines. In the spectrum of a part of the picture each family gives peaks at the multiples of
one frequency; writing, desks and screens do not give two such combs at right angles. No weights, any rotation; the pitch is mostly
within 1 per cent.
"""

from typing import NamedTuple

import numpy as np

from ecgjax.geometry import homography, paper
from ecgjax.locate import filters

CANVAS_PX = 1024  # side of the square that pictures are made small to (`canvases.canvas`)
WINDOW_PX, WINDOWS = 256, 7  # of the parts, and how many along each side
TURNS, PITCHES = 180, 200  # directions within half a turn, and pitches in even ratios between
PITCH_PX = (50.0, 2.4)  # the widest and the narrowest on the canvas
RATIO = float(np.log(PITCH_PX[0] / PITCH_PX[1]) / (PITCHES - 1))  # log of the pitch from one to the next
HARMONICS = 12
CLEAR, MOST = 4.0, 6.0  # power against the median of all directions that counts, and log of the excess beyond which more is no clearer
ASKEW = (25, 0.35)  # how far the two combs may be from a right angle, in steps of direction, and from one pitch, in logs
APART = (10, 0.1)  # how far hypotheses differ
GUESSES = 2
FINE_LINES = 5  # lines of the 1 mm grid per line of the 5 mm grid, which may be the fainter


class Guess(NamedTuple):
  """N guesses of the grid's pitch and direction, the likeliest first.

  Attributes:
    squares: (N, 2, 2) canvas px -> 5 mm squares to the right and down, within an eighth of a turn of the canvas's own axes.
    middle: (N, 2) canvas x, y of the grid's centre.
    sure: (N,) strength of both combs.
  """

  squares: np.ndarray
  middle: np.ndarray
  sure: np.ndarray


def find(canvas: np.ndarray, corner_px: np.ndarray, size_px: np.ndarray) -> Guess:
  """Finds the pitch and direction of a grid.

  Args:
    canvas: (CANVAS_PX, CANVAS_PX, 3) uint8.
    corner_px: (2,) x, y of the picture's upper left corner on the canvas.
    size_px: (2,) its width and height there.

  Returns:
    2 * GUESSES guesses: each with its pitch interpreted as 5 mm, and as 1 mm.
  """
  grey = canvas.astype(np.float32).mean(-1) / 255
  clear, middles = _windows(grey, corner_px, size_px)
  comb = _comb(_soft(clear.mean(0)))
  partner = np.roll(comb, -TURNS // 2, axis=0)  # [t, p]: the comb at right angles
  both, found = comb + _highest(partner, ASKEW[0], round(ASKEW[1] / RATIO)), []
  for _ in range(GUESSES):
    first = _top(both)
    second = _top(np.where(_near((first[0] + TURNS // 2, first[1]), ASKEW), comb, -np.inf))
    waves = np.stack([_peak(comb, *first), _peak(comb, *second)])
    weight = clear[:, first[0], first[1]] + clear[:, second[0], second[1]] + 1e-6
    middle = (weight[:, None] * middles).sum(0) / weight.sum()
    found += [(waves / n, middle, both[first]) for n in (1, FINE_LINES)]
    both = np.where(_near(first, APART) | _near((first[0] + TURNS // 2, first[1]), APART), -np.inf, both)
  waves, middle, sure = (np.stack(a) for a in zip(*found, strict=True))
  return Guess(np.stack([_upright(pair) for pair in waves]), middle, sure)


def planes(guess: Guess) -> np.ndarray:
  """Returns (N, 3, 3): page px -> canvas px of guesses, with the page's middle at the grid's centre."""
  planes = np.broadcast_to(np.eye(3), (len(guess.sure), 3, 3)).copy()
  planes[:, :2, :2] = np.linalg.pinv(np.asarray(guess.squares, np.float64)) / paper.MAJOR_PX
  planes[:, :2, 2] = np.asarray(guess.middle) - planes[:, :2, :2] @ homography.MIDDLE
  return planes


def _top(a: np.ndarray) -> tuple[int, int]:
  """Returns the place (row, column) of the highest value."""
  row, column = np.unravel_index(np.argmax(a), a.shape)
  return int(row), int(column)


def _windows(grey: np.ndarray, corner_px: np.ndarray, size_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns (N, TURNS, PITCHES) log power of each direction and pitch in parts of the picture, and (N, 2) their centres, canvas x, y."""
  import cv2

  across = np.linspace(0.0, 1.0, WINDOWS)
  starts = np.stack(np.meshgrid(across, across), -1).reshape(-1, 2)
  starts = np.round(corner_px + starts * np.maximum(size_px - WINDOW_PX, 0)).astype(int)
  starts = np.clip(starts, 0, CANVAS_PX - WINDOW_PX)
  taper = np.outer(*[np.hanning(WINDOW_PX)] * 2).astype(np.float32)
  angles = np.arange(TURNS)[:, None] * (np.pi / TURNS)
  radii = WINDOW_PX / PITCH_PX[0] * np.exp(RATIO * np.arange(PITCHES))
  # of a real picture half the spectrum says all; it is put so that frequency 0 stands in the middle of its first column
  half = np.sign(np.cos(angles) + 1e-9)
  columns, rows = ((radii * half * a + first).astype(np.float32) for a, first in ((np.cos(angles), 0), (np.sin(angles), WINDOW_PX // 2)))
  clear = np.empty((len(starts), TURNS, PITCHES), np.float32)
  for n, (left, top) in enumerate(starts):
    xs, ys = left + np.arange(WINDOW_PX), top + np.arange(WINDOW_PX)
    inside = [(at >= low) & (at < low + size) for at, low, size in zip((xs, ys), corner_px, size_px, strict=True)]
    weight = taper * (inside[1][:, None] & inside[0])
    part = grey[top : top + WINDOW_PX, left : left + WINDOW_PX]
    mean = (weight * part).sum() / (weight.sum() + 1e-6)
    power = np.abs(np.fft.fftshift(np.fft.rfft2(weight * (part - mean) / (mean + 0.03)), axes=0)) ** 2
    power = cv2.remap(power, columns, rows, cv2.INTER_LINEAR)
    clear[n] = np.clip(np.log(np.maximum(power / (filters.quantile(power.ravel(), 0.5) + 1e-6), 1e-3) / CLEAR), 0, MOST)
  return clear, starts + WINDOW_PX / 2


def _soft(a):
  """Returns `a` slightly blurred, so that a peak between two steps counts for both; directions wrap around."""
  a = np.concatenate([a[-1:], a, a[:1]])
  a = a[:-2] / 4 + a[1:-1] / 2 + a[2:] / 4
  a = np.pad(a, ((0, 0), (1, 1)), mode='edge')
  return a[:, :-2] / 4 + a[:, 1:-1] / 2 + a[:, 2:] / 4


def _comb(clear):
  """Returns (TURNS, PITCHES): power at a pitch's harmonics less power halfway between them, which only a wider pitch has."""
  low, k = np.arange(PITCHES), np.arange(1, HARMONICS + 1)
  steps = lambda n: low[:, None] + np.log(n) / RATIO
  seen = steps(k) <= PITCHES - 1
  look = lambda at: clear[:, np.clip(np.round(at), 0, PITCHES - 1).astype(int)]
  return ((look(steps(k)) - look(steps(k - 0.5))) * seen).sum(-1) / np.sqrt(seen.sum(-1))


def _highest(comb, turns: int, pitches: int):
  """The highest within so many steps of direction, which wraps around, and of pitch."""
  from scipy import ndimage

  comb = ndimage.maximum_filter1d(comb, 2 * turns + 1, axis=0, mode='wrap')
  return ndimage.maximum_filter1d(comb, 2 * pitches + 1, axis=1, mode='nearest')


def _near(place, reach):
  turns = np.abs((np.arange(TURNS)[:, None] - place[0] + TURNS // 2) % TURNS - TURNS // 2)
  return (turns <= reach[0]) & (np.abs(np.arange(PITCHES) - place[1]) <= round(reach[1] / RATIO))


def _peak(comb, turn, pitch):
  """Returns (2,): the wave's cycles per canvas px along x and y, interpolated by a parabola."""

  def top(low, middle, high):
    bend = low - 2 * middle + high
    return 0.5 * (low - high) / bend if bend < -1e-6 else 0.0

  nearby = np.clip(pitch + np.arange(-1, 2), 0, PITCHES - 1)
  turn = turn + top(*comb[(turn + np.arange(-1, 2)) % TURNS, pitch])
  pitch = pitch + top(*comb[int(turn) % TURNS, nearby])
  angle = turn * (np.pi / TURNS)
  return np.exp(RATIO * pitch) / PITCH_PX[0] * np.stack([np.cos(angle), np.sin(angle)])


def _upright(waves):
  """Returns the two waves (2, 2), ordered and signed so that the first points to the right and the second down."""
  waves = np.where(np.abs(waves[0, 0]) >= np.abs(waves[1, 0]), waves, waves[::-1])
  return waves * np.where(np.stack([waves[0, 0], waves[1, 1]]) < 0, -1.0, 1.0)[:, None]
