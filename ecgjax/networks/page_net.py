"""The page network (Flax NNX): page coordinates of every cell of a small copy of the picture."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ecgjax.ecg.errors import ECGError
from ecgjax.networks import unet

STRIDE = 4  # px of the canvas that one cell holds


class PageNetOutput(NamedTuple):
  """Output of the page network for one canvas, all float32; a cell is STRIDE x STRIDE px.

  Attributes:
    place: (h, w, 2) page x, y at the cell's centre, in units of `paper.WIDTH_PX` from the page's middle; valid if the page is upright.
    spread: (h, w) log of the expected error of `place`, in the same units.
    on_page: (h, w) log-odds that the cell shows the page.
    turn: (4,) unnormalised log-probability that the canvas must be turned by 0, 90, 180, 270 degrees counter-clockwise to be upright.
  """

  place: jax.Array
  spread: jax.Array
  on_page: jax.Array
  turn: jax.Array


class GlobalContext(nnx.Module):
  """Adds global context to every cell."""

  def __init__(self, width: int, *, dtype, rngs: nnx.Rngs):
    self.ask = nnx.Linear(2 * width, width, dtype=dtype, rngs=rngs)
    self.tell = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

  def __call__(self, x):
    pooled = jnp.concatenate([x.mean((1, 2)), x.max((1, 2))], -1)
    return x + self.tell(jax.nn.silu(self.ask(pooled)))[:, None, None]


class PageNet(nnx.Module):
  """Encoder-decoder over a canvas: the picture, reduced and centred on a black square.

  Args:
    widths: channels per level; each level halves the resolution, the first one works on cells of STRIDE px.
    dtype: of the computation; parameters and results are float32.
    rngs: for the initial parameters.
  """

  def __init__(self, *, widths: tuple[int, ...], dtype: str, rngs: nnx.Rngs):
    self.dtype, self.levels = jnp.dtype(dtype), len(widths)
    kw = {'dtype': self.dtype, 'rngs': rngs}
    self.stem = nnx.Conv(unet.CHANNELS * STRIDE**2, widths[0], (3, 3), **kw)
    self.down = nnx.List(unet.Block(a, b, **kw) for a, b in zip((widths[0], *widths), widths, strict=False))
    self.exchange = GlobalContext(widths[-1], **kw)
    self.up = nnx.List(unet.Block(below + own, own, **kw) for own, below in zip(widths[:-1], widths[1:], strict=True))
    self.head = nnx.Conv(widths[0], 4, (1, 1), **kw)
    self.turn = nnx.Linear(2 * widths[-1], 4, **kw)

  @property
  def stride(self) -> tuple[int, int]:
    """The canvas's sides must be multiples of this."""
    multiple = STRIDE << (self.levels - 1)
    return multiple, multiple

  def __call__(self, canvas: jax.Array) -> PageNetOutput:
    """Evaluates one canvas.

    Args:
      canvas: (S, S, 3) colours in 0..1.

    Returns:
      The output of the network.

    Raises:
      ECGError: if S is no multiple of the coarsest level's cell.
    """
    size = canvas.shape[0]
    if canvas.shape != (size, size, 3) or size % self.stride[0]:
      raise ECGError(f'PageNet: the canvas is {canvas.shape}; need (S, S, 3), S a multiple of {self.stride[0]} (config.canvas.size_px)')
    x = jnp.concatenate([canvas, _places(size)], -1)[None].astype(self.dtype)
    x, deep = unet.down_and_up(self, self.stem(unet.to_depth(x, (STRIDE, STRIDE))))
    out = self.head(x)[0].astype(jnp.float32)
    turn = self.turn(jnp.concatenate([deep.mean((1, 2)), deep.max((1, 2))], -1))[0].astype(jnp.float32)
    # a page that fills the canvas, and what is different: so it need not be learned that x grows to the right
    return PageNetOutput(_places(size // STRIDE) + out[..., :2], out[..., 2], out[..., 3], turn)


def network(*, widths, dtype: str) -> unet.Network:
  """Returns the page network of these arguments; see PageNet for their meaning."""
  return unet.pure(lambda key: PageNet(widths=tuple(widths), dtype=dtype, rngs=nnx.Rngs(params=key)))


def _places(n: int):
  """Returns (n, n, 2): x, y of the centres of n x n cells of a square of side 1, from its middle."""
  at = (jnp.arange(n) + 0.5) / n - 0.5
  return jnp.stack(jnp.meshgrid(at, at), axis=-1)
