"""Draws what every page of a layout has, whoever's ECG it is: pulses, separators, lead names. Writes ecgjax/landmarks.npz.

python scripts/make_landmarks.py
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax import landmarks, layout, looks, render


def draw(name: str) -> np.ndarray:
  """Returns (850, 1100) uint8 coverage of a layout's landmarks, at half the page's size."""
  style = looks.competition()._replace(header=0.0)
  blank = jnp.full((len(layout.LEADS), 5000), jnp.nan)
  page = render.page(jax.random.key(0), blank, layout=layout.make(name), style=style, rate_hz=500)
  ink = np.array(page.inks[..., 1])
  ink[[0, -1]], ink[:, [0, -1]] = 0, 0  # the border, which scans and photos hardly show
  height, width = ink.shape
  return np.round(255 * ink.reshape(height // 2, 2, width // 2, 2).mean((1, 3))).astype(np.uint8)


if __name__ == '__main__':
  drawn: dict[str, Any] = {name: draw(name) for name in layout.ROWS}
  np.savez_compressed(landmarks.PATH, **drawn)
  print(f'{pathlib.Path(landmarks.PATH).name}: {len(layout.ROWS)} layouts')
