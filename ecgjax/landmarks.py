"""What every page of a layout has, whoever's ECG it is: pulses, separators, lead names. They say where a flat page lies, and which it is.

A grid looks the same from square to square and from turn to turn; its landmarks do not.
"""

import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax import lockin

PATH = pathlib.Path(__file__).with_name('landmarks.npz')  # scripts/make_landmarks.py
REACH_PX = 120  # page px by which a page may have slipped


class Match(NamedTuple):
  """Where a layout's landmarks are found best.

  Attributes:
    shift_px: (2,) page x, y by which what is found lies right and below of where it belongs.
    score: () -1..1, their correlation with the page's ink there.
  """

  shift_px: jax.Array
  score: jax.Array


@functools.cache
def templates() -> dict[str, np.ndarray]:
  """Returns layout name -> (850, 1100) float32 coverage, half the page's size."""
  with np.load(PATH) as file:
    return {name: file[name].astype(np.float32) / 255 for name in file}


def match(flat: lockin.Flat, template: jax.Array) -> Match:
  """Looks for landmarks within REACH_PX of their places.

  Args:
    flat: a page laid flat, its scale nearly right.
    template: (850, 1100) coverage.

  Returns:
    The best place.
  """
  ys, xs = (jnp.asarray(a, jnp.float32) for a in lockin.centres_px())
  over = lambda a, sigma: lockin.gaussian(ys, ys, sigma) @ a @ lockin.gaussian(xs, xs, sigma).T
  sharp = lambda a: over(a, 2.5) - over(a, 40.0)
  seen, wanted = sharp(flat.ink), sharp(template)
  spectrum = jnp.fft.rfft2(seen) * jnp.conj(jnp.fft.rfft2(wanted))
  reach = REACH_PX // lockin.STEP_PX
  around = jnp.roll(jnp.fft.irfft2(spectrum, seen.shape), (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
  dy, dx = jnp.unravel_index(jnp.argmax(around), around.shape)
  # only ink near a landmark can be taken for it, so a page full of writing is not punished for it
  near = over((template > 0.1).astype(jnp.float32), 6.0) > 0.05
  there = jnp.roll(seen, jnp.stack([reach - dy, reach - dx]), (0, 1)) * near
  score = around[dy, dx] / jnp.sqrt((wanted**2).sum() * (there**2).sum() + 1e-6)
  return Match((jnp.stack([dx, dy]) - reach) * float(lockin.STEP_PX), score)
