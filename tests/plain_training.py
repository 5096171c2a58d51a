"""`python -m ecgjax.train` on strips that are quick to draw and to compile, for tests of all that does not depend on what is drawn."""

import jax
import jax.numpy as jnp

from ecgjax.geometry import lattices
from ecgjax.training import command, examples


def example(key, mv, *, layout, frame, window_px, names, rows_share=0.0) -> examples.Example:
  """Draws a wave of random phase and frequency in every row, a dark line on white; arguments as of `examples.example`."""
  at_window, at_wave = jax.random.split(key)
  first = jax.random.randint(at_window, (), 0, frame.width_px - window_px + 1)
  phase, hz = jax.random.uniform(at_wave, (2, len(layout.zeros_px), 1), minval=1.0, maxval=6.0)
  times_s = jnp.asarray(frame.times_s(), jnp.float32)[first + jnp.arange(window_px)]
  rows_px = frame.rows_px(0.5 * jnp.sin(phase + 2 * jnp.pi * hz * times_s) + mv.mean())
  ink = jnp.exp(-(((jnp.arange(frame.height_px) + 0.5)[:, None] - rows_px[:, None]) ** 2) / 8)
  strips = jnp.repeat(1 - ink[..., None], 3, -1)
  inks = jnp.stack([jnp.zeros_like(ink), jnp.zeros_like(ink), ink], -1)
  return examples.Example(lattices.with_coordinates(strips, frame=frame, first=first), rows_px, jnp.ones(rows_px.shape, bool), inks)


def patch() -> None:
  """Puts the waves in place of drawn pages, and no record behind them."""
  examples.example, examples.record = example, lambda key, pack, **shares: jnp.zeros((12, pack.shape[-1]))


if __name__ == '__main__':
  patch()
  command.main()
