"""The trace U-Net (Flax NNX): for every column of every strip of a page, where this row's trace passes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ecgjax.ecg.errors import ECGError

CLASSES = ('background', 'grid', 'text', 'trace')
CHANNELS = 5  # red, green, blue, row coordinate, column coordinate


class Scores(NamedTuple):
  """Output of the network for one page, all float32.

  Attributes:
    classes: (R, H, W, 4) unnormalised log-probability of each of CLASSES.
    rows: (R, H, W) unnormalised log-probability that this row's trace passes px row h in column w.
    hidden: (R, W) the same for "no trace to be seen in this column"; it competes with the H scores of `rows`.
  """

  classes: jax.Array
  rows: jax.Array
  hidden: jax.Array


class Block(nnx.Module):
  """Two 3 x 3 convolutions with GroupNorm, and a shortcut."""

  def __init__(self, n_in: int, n_out: int, *, dtype, rngs: nnx.Rngs):
    conv = lambda a, b, k: nnx.Conv(a, b, (k, k), use_bias=False, dtype=dtype, rngs=rngs)
    norm = lambda: nnx.GroupNorm(n_out, num_groups=groups(n_out), dtype=dtype, rngs=rngs)
    self.conv1, self.norm1 = conv(n_in, n_out, 3), norm()
    self.conv2, self.norm2 = conv(n_out, n_out, 3), norm()
    self.short = conv(n_in, n_out, 1) if n_in != n_out else None

  def __call__(self, x):
    y = jax.nn.silu(self.norm1(self.conv1(x)))
    y = self.norm2(self.conv2(y))
    return jax.nn.silu(y + (x if self.short is None else self.short(x)))


class Exchange(nnx.Module):
  """Adds to every row the context of the page's other rows at the same time: height is pooled away, columns stay."""

  def __init__(self, width: int, *, dtype, rngs: nnx.Rngs):
    self.ask = nnx.Linear(2 * width, width, dtype=dtype, rngs=rngs)
    self.tell = nnx.Linear(2 * width, width, dtype=dtype, rngs=rngs)

  def __call__(self, x):
    own = jax.nn.silu(self.ask(jnp.concatenate([x.mean(1), x.max(1)], -1)))
    others = (own.sum(0, keepdims=True) - own) / max(1, x.shape[0] - 1)
    return x + self.tell(jnp.concatenate([own, others], -1))[:, None]


class UNet(nnx.Module):
  """Encoder-decoder over the strips of one page; `vmap` it for a batch.

  A space-to-depth stem and a pixel-shuffle head make full-resolution columns cheap: the convolutions run on cells of
  `cell` px.

  Args:
    widths: channels per level; each level halves the resolution.
    cell: (rows, columns) px that one cell of the first level holds.
    dtype: of the computation; parameters and scores are float32.
    remat: keep nothing of a block's inside for the gradient but compute it anew: less memory, a third more work.
    rngs: for the initial parameters.
  """

  def __init__(self, *, widths: tuple[int, ...], cell: tuple[int, int], dtype: str, remat: bool, rngs: nnx.Rngs):
    self.cell, self.dtype, self.levels, self.remat = tuple(cell), jnp.dtype(dtype), len(widths), remat
    kw = {'dtype': self.dtype, 'rngs': rngs}
    area = cell[0] * cell[1]
    self.stem = nnx.Conv(CHANNELS * area, widths[0], (3, 3), **kw)
    self.down = nnx.List(Block(a, b, **kw) for a, b in zip((widths[0], *widths), widths, strict=False))
    self.exchange = Exchange(widths[-1], **kw)
    self.up = nnx.List(Block(below + own, own, **kw) for own, below in zip(widths[:-1], widths[1:], strict=True))
    self.head = nnx.Conv(widths[0], area * (len(CLASSES) + 1), (1, 1), **kw)
    self.hide = nnx.Linear(2 * widths[0], cell[1], **kw)

  @property
  def stride(self) -> tuple[int, int]:
    """Height and width of the input must be multiples of this."""
    return self.cell[0] << (self.levels - 1), self.cell[1] << (self.levels - 1)

  def __call__(self, strips: jax.Array) -> Scores:
    """Reads the strips of one page.

    Args:
      strips: (R, H, W, 5) colours 0..1 and coordinates, as `lattices.with_coordinates` makes them.

    Returns:
      Scores at every px.

    Raises:
      ECGError: if H or W is no multiple of the stride.
    """
    height, width = strips.shape[1:3]
    if height % self.stride[0] or width % self.stride[1] or strips.shape[-1] != CHANNELS:
      raise ECGError(
        f'UNet: strips are {strips.shape[1:]}; {self.levels} levels of {self.cell} px cells need multiples of '
        f'{self.stride} and {CHANNELS} channels (config.strip.*, config.model.*)'
      )
    x, _ = down_and_up(self, self.stem(to_depth(strips.astype(self.dtype), self.cell)), remat=self.remat)
    full = _to_space(self.head(x).astype(jnp.float32), self.cell)
    hidden = self.hide(jnp.concatenate([x.mean(1), x.max(1)], -1)).astype(jnp.float32)
    return Scores(full[..., :-1], full[..., -1], hidden.reshape(hidden.shape[0], width))


class Network(NamedTuple):
  """A network as pure functions of its parameters, a nested dict of float32 arrays.

  Attributes:
    init: key -> params.
    apply: (params, strips (R, H, W, 5)) -> Scores; of `page_net`, (params, canvas (S, S, 3)) -> PageNetOutput.
    stride: height and width of what it looks at must be multiples of this.
  """

  init: Callable[[jax.Array], dict]
  apply: Callable[[dict, jax.Array], Any]
  stride: tuple[int, int]


def network(*, widths, cell, dtype: str, remat: bool = False) -> Network:
  """Returns the trace network of these arguments; see UNet for their meaning."""
  return pure(lambda key: UNet(widths=tuple(widths), cell=tuple(cell), dtype=dtype, remat=remat, rngs=nnx.Rngs(params=key)))


def pure(build: Callable[[jax.Array], Any]) -> Network:
  """Returns the network that `build(key)` makes, as pure functions."""
  shape = nnx.eval_shape(lambda: build(jax.random.key(0)))
  graph, abstract = nnx.split(shape)

  def apply(params: dict, x: jax.Array):
    state = jax.tree.map(lambda x: x, abstract)
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state)(x)

  return Network(lambda key: nnx.to_pure_dict(nnx.state(build(key))), apply, shape.stride)


def down_and_up(net, x, *, remat: bool = False):
  """Returns the finest and the deepest level's features of an encoder-decoder with `down`, `exchange` and `up`; `remat` as in UNet."""
  run = (lambda block, x: jax.checkpoint(lambda x: block(x))(x)) if remat else (lambda block, x: block(x))
  skips = []
  for level, block in enumerate(net.down):
    x = run(block, _halve(x) if level else x)
    skips.append(x)
  deep = x = net.exchange(skips.pop())
  for block, skip in zip(reversed(net.up), reversed(skips), strict=True):
    x = run(block, jnp.concatenate([_double(x), skip], -1))
  return x, deep


def groups(width: int) -> int:
  """Returns how many groups GroupNorm makes of so many channels."""
  return next(n for n in (8, 4, 2, 1) if width % n == 0)


def to_depth(x, cell):
  """Returns (N, H / a, W / b, a * b * C): cells of (a, b) px become channels."""
  rows, height, width, depth = x.shape
  x = x.reshape(rows, height // cell[0], cell[0], width // cell[1], cell[1], depth)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(rows, height // cell[0], width // cell[1], -1)


def _to_space(x, cell):
  rows, height, width, _ = x.shape
  x = x.reshape(rows, height, width, cell[0], cell[1], -1).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(rows, height * cell[0], width * cell[1], -1)


def _halve(x):
  return to_depth(x, (2, 2)).reshape(x.shape[0], x.shape[1] // 2, x.shape[2] // 2, 4, -1).mean(3)


def _double(x):
  return x.repeat(2, axis=1).repeat(2, axis=2)
