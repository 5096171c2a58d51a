"""Lock-in: from about where the page lies to where its grid lines lie, in closed form, as a lock-in amplifier finds a known frequency.

The picture is laid flat in the page frame along what is known so far. Multiplied by the grid's own wave and smoothed, its darkness becomes
a slow complex number whose angle says how far the lines are displaced there. Angles between neighbours, which hold however far
the whole has slipped, come first; then the angles themselves, of the coarse lines and of the fine ones. Each time a smooth surface is fitted.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax import bend, fields, geometry, paper

STEP_PX = 2  # page px per px of the flat picture
SIZE = (paper.HEIGHT_PX // STEP_PX, paper.WIDTH_PX // STEP_PX)
SNAP_PX = -0.5  # lines are drawn half a px before their place (FACTS; the competition's renderer snaps them to px centres)
WINDOW, LAG = 0.75, 3  # sigma of the smoothing and distance of compared neighbours, in pitches; 4 sigmas share no noise
INK_SHARE, INK_LEVEL = 1.3, 0.5  # per cent of the page that is as dark as traces; beyond half of that a px counts as ink, not grid


class Flat(NamedTuple):
  """A picture laid flat: h x w px of STEP_PX page px each.

  Attributes:
    lines: (h, w) darkness against the neighbourhood, in units of its own spread there; 0 outside the picture.
    ink: (h, w) 0..1, how dark against the neighbourhood even the lightest colour is: traces, text, bars, black grids.
    use: (h, w) 0 or 1, whether the px may say something about the grid: it lies in the picture and holds no ink.
  """

  lines: jax.Array
  ink: jax.Array
  use: jax.Array


class Waves(NamedTuple):
  """What the grid of one pitch says of its displacement along y and x: (2, h, w) complex numbers and (2, h, w) how sure they are, 0..1."""

  z: jax.Array
  sure: jax.Array
  ys: jax.Array
  xs: jax.Array


def centres_px() -> tuple[np.ndarray, np.ndarray]:
  """Returns page y (h,) and x (w,) of the flat picture's px."""
  return tuple((np.arange(n) + 0.5) * STEP_PX for n in SIZE)


def lattice(plane: jax.Array, moved: jax.Array) -> jax.Array:
  """Returns (45, 57, 2) image px of the nodes: a plane map (3, 3) of nodes that lie `moved` (45, 57, 2) page px from their places."""
  return bend.apply_plane(plane, geometry.page_lattice() + moved)


def gaussian(at, points, sigma_px: float) -> jax.Array:
  """(A, P): what the value at each of `points` adds to the smooth value at each of `at`, both in px; rows sum to 1 far from the ends."""
  step = points[1] - points[0]
  near = (at[:, None] - points) / sigma_px
  return jnp.where(jnp.abs(near) < 3.5, jnp.exp(-0.5 * near**2), 0.0) * (step / sigma_px / math.sqrt(2 * math.pi))


def lay_flat(image: jax.Array, found: jax.Array, size_px: jax.Array, *, scale: float) -> jax.Array:
  """Samples a picture in the page frame.

  Args:
    image: (H, W, 3) uint8 or float; may be padded.
    found: (45, 57, 2) image px of the nodes.
    size_px: (2,) width and height of the picture without its padding.
    scale: image px per page px, for the anti-aliasing.

  Returns:
    (h, w, 4): colours, and whether the px lies in the picture.
  """
  rows, cols = geometry.nodes_px()
  ys, xs = centres_px()
  down, across = (jnp.asarray(geometry.spline_weights(k, a), jnp.float32) for k, a in ((rows, ys), (cols, xs)))
  at = jnp.einsum('hr,rcd,wc->hwd', down, found, across, precision='highest')
  inside = ((at > 1) & (at < size_px - 1)).all(-1)
  shrink = max(1.0, scale * STEP_PX / 1.25)  # a little alias is cheaper than twice the taps, and the grid is far from it
  return jnp.concatenate([geometry.sample(image, at, shrink=(shrink, shrink)), inside[..., None]], axis=-1)


def prepare(flat: jax.Array) -> Flat:
  """Takes paper, light and ink out of a flat picture, so that the grid remains.

  Args:
    flat: (h, w, 4) as `lay_flat` gives it.

  Returns:
    What is left.
  """
  inside = flat[..., 3]
  ys, xs = (jnp.asarray(a, jnp.float32) for a in centres_px())
  smooth = lambda a, sigma: gaussian(ys, ys, sigma) @ a @ gaussian(xs, xs, sigma).T

  def darkness(brightness):
    paper_like = smooth(brightness * inside, 16.0) / (smooth(inside, 16.0) + 1e-3)
    return (paper_like - brightness) / (paper_like + 0.03) * inside

  dark = darkness(flat[..., :3].mean(-1))
  spread = jnp.sqrt(smooth(dark**2, 32.0) / (smooth(inside, 32.0) + 1e-3)) + 0.01
  ink = darkness(smooth(flat[..., :3].max(-1), 1.2))
  some, there = ink[::4, ::4].ravel(), inside[::4, ::4].ravel()
  level = jnp.nanquantile(jnp.where(there > 0, some, jnp.nan), 1 - INK_SHARE / 100)
  is_ink = jax.lax.reduce_window((ink > INK_LEVEL * level).astype(jnp.float32), 0.0, jax.lax.max, (5, 5), (1, 1), 'SAME')
  return Flat(jnp.clip(dark / spread, -2.0, 2.5), jnp.clip(ink / (level + 1e-6), 0, 1), inside * (1 - is_ink))


def demodulate(flat: Flat, *, pitch_px: float) -> Waves:
  """Multiplies by the grid's wave and smooths: matrix products only.

  Args:
    flat: as prepared.
    pitch_px: distance of the lines in page px.

  Returns:
    The waves, on a mesh of one pitch.
  """
  points = [jnp.asarray(a, jnp.float32) for a in centres_px()]
  at = [jnp.arange(pitch_px / 2, limit, pitch_px) for limit in (paper.HEIGHT_PX, paper.WIDTH_PX)]
  plain = [gaussian(a, p, WINDOW * pitch_px) for a, p in zip(at, points, strict=True)]
  over = lambda a: plain[0] @ a @ plain[1].T
  s, waves = flat.lines * flat.use, []
  for axis, first in enumerate((paper.GRID_Y_PX, paper.GRID_X_PX)):
    angle = (points[axis] - first - SNAP_PX) * (2 * math.pi / pitch_px)
    tuned = plain[axis] * jnp.exp(-1j * angle)
    waves.append(tuned @ s @ plain[1].T if axis == 0 else plain[0] @ s @ tuned.T)
  weight = over(flat.use)
  z = jnp.stack(waves)
  sure = jnp.abs(z) ** 2 / ((weight + 0.05) * (over(s * s) + 0.02))
  return Waves(z, jnp.clip(sure, 0, 1), at[0], at[1])


class Surface(NamedTuple):
  """A smooth displacement, as coefficients (2, ny, nx) of a cubic B-spline on knots `step_px` apart."""

  coefficients: jax.Array
  step_px: float


def basis(at, *, step_px: float, size_px: int, order: int = 0) -> jax.Array:
  """(N, count) cubic B-spline weights of points of the page, or their derivatives per px."""
  return fields.basis(jnp.asarray(at, jnp.float32), low=0.0, step=step_px, count=math.ceil(size_px / step_px) + 3, order=order)


def fit(waves: list[Waves], *, pitches_px: tuple[float, ...], step_px: float, slopes: bool, stiff: float) -> Surface:
  """Fits a smooth displacement to what grids of several pitches say, robustly.

  Args:
    waves: one for each pitch.
    pitches_px: of the grids.
    step_px: distance of the surface's knots.
    slopes: compare neighbours, and fit the surface's slope, its mean being 0; else fit the angles themselves.
    stiff: how much bending costs.

  Returns:
    The surface: content at page point p belongs at p + surface(p).
  """
  spans = [{'step_px': step_px, 'size_px': size} for size in (paper.HEIGHT_PX, paper.WIDTH_PX)]
  parts = [part for wave, pitch in zip(waves, pitches_px, strict=True) for part in (_slopes if slopes else _angles)(wave, pitch, spans)]
  solved = jnp.zeros((2, *(math.ceil(span['size_px'] / step_px) + 3 for span in spans)))
  for turn in range(3):
    weights = [part.weight if turn == 0 else part.weight / (1 + (part.off(solved) / part.width(solved)) ** 2) ** 2 for part in parts]
    solved = jnp.stack([_solve([(p.down, p.across, p.goal[axis], w[axis]) for p, w in zip(parts, weights, strict=True)], stiff)
                        for axis in (0, 1)])  # fmt: skip
  return Surface(solved, step_px)


class _Part(NamedTuple):
  """One kind of measurement: down @ coefficients @ across.T should be `goal` (2, h, w), weights likewise."""

  down: jax.Array
  across: jax.Array
  goal: jax.Array
  weight: jax.Array

  def off(self, coefficients):
    return self.goal - jnp.einsum('ha,cab,wb->chw', self.down, coefficients, self.across, precision='highest')

  def width(self, coefficients):
    """Rms of what is off, of each axis."""
    square = (self.weight * self.off(coefficients) ** 2).sum((1, 2)) / (self.weight.sum((1, 2)) + 1e-9)
    return jnp.sqrt(square)[:, None, None] + 1e-4


def _angles(wave: Waves, pitch: float, spans) -> list[_Part]:
  whole = wave.z.sum((1, 2), keepdims=True)
  around = jnp.exp(-1j * jnp.angle(whole))
  goal = (jnp.angle(wave.z * around) + jnp.angle(whole)) * (pitch / 2 / math.pi)
  return [_Part(basis(wave.ys, **spans[0]), basis(wave.xs, **spans[1]), goal, (wave.sure / pitch) ** 2)]


def _slopes(wave: Waves, pitch: float, spans) -> list[_Part]:
  parts = []
  for axis in (0, 1):
    z, sure = (jnp.moveaxis(a, 1 + axis, 0) for a in (wave.z, wave.sure))
    turned, both = (jnp.moveaxis(a, 0, 1 + axis) for a in (z[LAG:] * jnp.conj(z[:-LAG]), jnp.sqrt(sure[LAG:] * sure[:-LAG])))
    ys, xs = wave.ys, wave.xs
    middle = lambda a: (a[LAG:] + a[:-LAG]) / 2
    ys, xs = (middle(ys), xs) if axis == 0 else (ys, middle(xs))
    near = [gaussian(a, a, 3 * pitch) for a in (ys, xs)]
    over = lambda a, near=near: jnp.einsum('gh,chw,vw->cgv', near[0], a, near[1])
    unit = turned / (jnp.abs(turned) + 1e-12) * both
    mean = over(unit)
    agree = jnp.abs(mean) / (over(both) + 1e-3)
    orders = (1, 0) if axis == 0 else (0, 1)
    down, across = (basis(a, **span, order=order) for a, span, order in zip((ys, xs), spans, orders, strict=True))
    parts.append(_Part(down, across, jnp.angle(mean) / (2 * math.pi * LAG), (agree**2 * over(both) / pitch) ** 2))
  return parts


def _solve(parts, stiff: float) -> jax.Array:
  """Least squares for B-spline coefficients (ny, nx), bending made dear in proportion to what is known."""
  ny, nx = parts[0][0].shape[1], parts[0][1].shape[1]
  normal, right = jnp.zeros((ny, nx, ny, nx)), jnp.zeros((ny, nx))
  for down, across, goal, weight in parts:
    left = jnp.einsum('ha,hw,hb->abw', down, weight, down, optimize='optimal')
    normal += jnp.einsum('abw,wc,wd->acbd', left, across, across, optimize='optimal')
    right += down.T @ (weight * goal) @ across
  normal = normal.reshape(ny * nx, ny * nx)
  known = jnp.trace(normal) / len(normal)
  bends = [np.diff(np.eye(n), 2, axis=0) for n in (ny, nx)]
  twist = [np.diff(np.eye(n), axis=0) for n in (ny, nx)]
  cost = np.kron(bends[0].T @ bends[0], np.eye(nx)) + np.kron(np.eye(ny), bends[1].T @ bends[1])
  cost += 2 * np.kron(twist[0].T @ twist[0], twist[1].T @ twist[1])
  normal = normal + known * (stiff * jnp.asarray(cost, jnp.float32) + 1e-6 * jnp.eye(ny * nx))
  return jax.scipy.linalg.solve(normal, right.ravel(), assume_a='pos').reshape(ny, nx)


def displace(moved: jax.Array, surface: Surface) -> jax.Array:
  """Returns (45, 57, 2): where the nodes lie once what was found at p is put to p + surface(p)."""
  rows, cols = geometry.nodes_px()
  down, across = (basis(a, step_px=surface.step_px, size_px=n) for a, n in ((rows, paper.HEIGHT_PX), (cols, paper.WIDTH_PX)))
  shift = jnp.einsum('ha,cab,wb->hwc', down, surface.coefficients, across, precision='highest')[..., ::-1]
  return geometry.image_px(moved, geometry.page_lattice() - shift) - shift
