"""What a printed page looks like: colours, line widths, letters. The competition's own look, and others near it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ecgjax import paper


class Style(NamedTuple):
  """Look of a page; every leaf is a float or an RGB triple in 0..1, so a style can be drawn, mixed and vmapped."""

  paper_rgb: jax.Array
  major_rgb: jax.Array
  minor_rgb: jax.Array
  ink_rgb: jax.Array
  text_rgb: jax.Array
  grid_px: jax.Array  # width of a grid line
  trace_px: jax.Array
  em_px: jax.Array
  border: jax.Array  # 0 or 1: black edge of the picture
  header: jax.Array  # 0 or 1


def competition() -> Style:
  """Returns the look of the competition's originals (variant 0001), measured on a real page."""
  rgb = lambda *v: jnp.array(v, jnp.float32)
  f = lambda v: jnp.float32(v)
  return Style(
    paper_rgb=rgb(1, 1, 1), major_rgb=rgb(1, 0, 0), minor_rgb=rgb(0.996, 0.875, 0.859), ink_rgb=rgb(0.09, 0.09, 0.09),
    text_rgb=rgb(0, 0, 0), grid_px=f(0.5 * paper.PX_PER_PT), trace_px=f(0.75 * paper.PX_PER_PT),
    em_px=f(11 * paper.PX_PER_PT), border=f(1), header=f(1),
  )  # fmt: skip


def draw(key: jax.Array) -> Style:
  """Draws a look near the competition's: ink 0..0.25, the colours, widths and letter sizes of other prints, half without header."""
  ks = jax.random.split(key, 9)
  base = competition()
  uniform = lambda k, low, high, shape=(): jax.random.uniform(k, shape, minval=low, maxval=high)
  hue = jnp.clip(base.major_rgb + uniform(ks[0], -0.35, 0.35, (3,)), 0, 1)
  major = jnp.where(jax.random.bernoulli(ks[1], 0.5), base.major_rgb, hue)
  fade = uniform(ks[2], 0.08, 0.45)
  return Style(
    paper_rgb=1 - uniform(ks[3], 0, 0.08, (3,)), major_rgb=major, minor_rgb=1 - fade * (1 - major) - 0.02,
    ink_rgb=uniform(ks[4], 0, 0.25) + jnp.zeros(3), text_rgb=uniform(ks[4], 0, 0.25) + jnp.zeros(3),
    grid_px=base.grid_px * uniform(ks[5], 0.7, 1.5), trace_px=base.trace_px * uniform(ks[6], 0.8, 1.4),
    em_px=base.em_px * uniform(ks[7], 0.85, 1.15), border=base.border,
    header=jax.random.bernoulli(ks[8], 0.5).astype(jnp.float32),
  )  # fmt: skip
