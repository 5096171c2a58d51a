"""The pitch and direction of a grid, from a picture's local spectra: where a page lies, but for its turn and its place.

A grid is two combs of lines. In the spectrum of a part of the picture each is a row of peaks at the multiples of one frequency, and
no writing, desk or screen makes two such rows at right angles. No weights, and any turn; the pitch mostly comes out within 1 per cent.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
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
  """Where the grid's lines may be; of N guesses, the likeliest first.

  Attributes:
    squares: (N, 2, 2) canvas px -> 5 mm squares to the right and down, within an eighth of a turn of the canvas's own axes.
    middle: (N, 2) canvas x, y around which the grid is seen.
    sure: (N,) how clearly both combs are seen.
  """

  squares: jax.Array
  middle: jax.Array
  sure: jax.Array


def find(canvas: jax.Array, corner_px: jax.Array, size_px: jax.Array) -> Guess:
  """Looks for a grid.

  Args:
    canvas: (CANVAS_PX, CANVAS_PX, 3) colours in 0..1.
    corner_px: (2,) x, y where the picture begins on the canvas.
    size_px: (2,) its width and height there.

  Returns:
    2 * GUESSES guesses: each with its pitch taken for 5 mm, and for 1 mm.
  """
  clear, middles = _windows(canvas.mean(-1), corner_px, size_px)
  comb = _comb(_soft(clear.mean(0)))
  partner = jnp.roll(comb, -TURNS // 2, axis=0)  # [t, p]: the comb at right angles
  both, found = comb + _highest(partner, ASKEW[0], round(ASKEW[1] / RATIO)), []
  for _ in range(GUESSES):
    first = jnp.unravel_index(jnp.argmax(both), both.shape)
    second = jnp.unravel_index(jnp.argmax(jnp.where(_near((first[0] + TURNS // 2, first[1]), ASKEW), comb, -jnp.inf)), comb.shape)
    waves = jnp.stack([_peak(comb, *first), _peak(comb, *second)])
    weight = clear[:, first[0], first[1]] + clear[:, second[0], second[1]] + 1e-6
    middle = (weight[:, None] * middles).sum(0) / weight.sum()
    found += [(waves / n, middle, both[first]) for n in (1, FINE_LINES)]
    both = jnp.where(_near(first, APART) | _near((first[0] + TURNS // 2, first[1]), APART), -jnp.inf, both)
  waves, middle, sure = (jnp.stack(a) for a in zip(*found, strict=True))
  return Guess(jax.vmap(_upright)(waves), middle, sure)


def planes(guess: Guess) -> np.ndarray:
  """Returns (N, 3, 3): page px -> canvas px of guesses, the page's middle put where the grid is seen."""
  planes = np.broadcast_to(np.eye(3), (len(guess.sure), 3, 3)).copy()
  planes[:, :2, :2] = np.linalg.pinv(np.asarray(guess.squares, np.float64)) / paper.MAJOR_PX
  planes[:, :2, 2] = np.asarray(guess.middle) - planes[:, :2, :2] @ homography.MIDDLE
  return planes


def _windows(grey, corner_px, size_px):
  """(N, TURNS, PITCHES) how clear a wave of each direction and pitch is in parts of the picture, and (N, 2) their middles, canvas x, y."""
  across = jnp.linspace(0.0, 1.0, WINDOWS)
  starts = jnp.stack(jnp.meshgrid(across, across), -1).reshape(-1, 2)
  starts = jnp.round(corner_px + starts * jnp.maximum(size_px - WINDOW_PX, 0)).astype(jnp.int32)
  starts = jnp.clip(starts, 0, CANVAS_PX - WINDOW_PX)
  taper = jnp.asarray(np.outer(*[np.hanning(WINDOW_PX)] * 2), jnp.float32)
  angles = np.arange(TURNS)[:, None] * (np.pi / TURNS)
  radii = WINDOW_PX / PITCH_PX[0] * np.exp(RATIO * np.arange(PITCHES))
  spots = np.stack([radii * np.sin(angles), radii * np.cos(angles)])

  def clear(start):
    part = jax.lax.dynamic_slice(grey, (start[1], start[0]), (WINDOW_PX, WINDOW_PX))
    at = start + jnp.stack(jnp.meshgrid(jnp.arange(WINDOW_PX), jnp.arange(WINDOW_PX)), -1)
    weight = taper * ((at >= corner_px) & (at < corner_px + size_px)).all(-1)
    mean = (weight * part).sum() / (weight.sum() + 1e-6)
    power = jnp.abs(jnp.fft.fft2(weight * (part - mean) / (mean + 0.03))) ** 2
    power = jax.scipy.ndimage.map_coordinates(power, list(spots), order=1, mode='wrap')
    over = power / (filters.quantile(power, jnp.ones_like(power, bool), 0.5) + 1e-6)
    return jnp.clip(jnp.log(jnp.maximum(over, 1e-3) / CLEAR), 0, MOST)

  return jax.lax.map(clear, starts), starts + WINDOW_PX / 2


def _soft(a):
  """A little blur, so that a peak between two steps counts for both; directions wrap around."""
  a = jnp.concatenate([a[-1:], a, a[:1]])
  a = a[:-2] / 4 + a[1:-1] / 2 + a[2:] / 4
  a = jnp.pad(a, ((0, 0), (1, 1)), mode='edge')
  return a[:, :-2] / 4 + a[:, 1:-1] / 2 + a[:, 2:] / 4


def _comb(clear):
  """(TURNS, PITCHES): what is seen at a pitch's harmonics less what is seen halfway between them, which only a wider pitch has."""
  low, k = np.arange(PITCHES), np.arange(1, HARMONICS + 1)
  steps = lambda n: low[:, None] + np.log(n) / RATIO
  within = steps(k) <= PITCHES - 1
  level = lambda at: clear[:, np.clip(np.round(at), 0, PITCHES - 1).astype(int)]
  return ((level(steps(k)) - level(steps(k - 0.5))) * within).sum(-1) / np.sqrt(within.sum(-1))


def _highest(comb, turns: int, pitches: int):
  """The highest within so many steps of direction, which wraps around, and then of pitch: at once it would be 20 times the work."""
  comb = jnp.concatenate([comb[-turns:], comb, comb[:turns]])
  for reach, pad in (((2 * turns + 1, 1), (0, 0)), ((1, 2 * pitches + 1), (pitches, pitches))):
    comb = jax.lax.reduce_window(comb, -jnp.inf, jax.lax.max, reach, (1, 1), [(0, 0), pad])
  return comb


def _near(place, reach):
  turns = jnp.abs((jnp.arange(TURNS)[:, None] - place[0] + TURNS // 2) % TURNS - TURNS // 2)
  return (turns <= reach[0]) & (jnp.abs(jnp.arange(PITCHES) - place[1]) <= round(reach[1] / RATIO))


def _peak(comb, turn, pitch):
  """(2,): the wave's cycles per canvas px along x and y, at the top of a parabola."""

  def top(low, middle, high):
    bend = low - 2 * middle + high
    return jnp.where(bend < -1e-6, 0.5 * (low - high) / jnp.minimum(bend, -1e-6), 0.0)

  nearby = jnp.clip(pitch + jnp.arange(-1, 2), 0, PITCHES - 1)
  turn = turn + top(*comb[(turn + jnp.arange(-1, 2)) % TURNS, pitch])
  pitch = pitch + top(*comb[turn.astype(int) % TURNS, nearby])
  angle = turn * (np.pi / TURNS)
  return jnp.exp(RATIO * pitch) / PITCH_PX[0] * jnp.stack([jnp.cos(angle), jnp.sin(angle)])


def _upright(waves):
  """The two waves (2, 2), ordered and signed so that the first runs to the right and the second down."""
  waves = jnp.where(jnp.abs(waves[0, 0]) >= jnp.abs(waves[1, 0]), waves, waves[::-1])
  return waves * jnp.where(jnp.stack([waves[0, 0], waves[1, 1]]) < 0, -1.0, 1.0)[:, None]
