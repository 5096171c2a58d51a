"""Draws what every page of a layout has, whoever's ECG it is: pulses, separators, lead names. Writes locate/landmarks.npz, ink/marks.npz.

python scripts/make_landmarks.py
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.drawing import glyphs, looks, render
from ecgjax.ecg.leads import LEADS
from ecgjax.geometry import layouts, paper
from ecgjax.ink import marks
from ecgjax.locate import template_match


def draw(name: str) -> np.ndarray:
  """Returns (850, 1100) uint8 coverage of a layout's landmarks, at half the page's size."""
  style = looks.competition()._replace(header=0.0)
  blank = jnp.full((len(LEADS), 5000), jnp.nan)
  page = render.page(jax.random.key(0), blank, layout=layouts.make(name), style=style, rate_hz=500)
  ink = np.array(page.inks[..., 1])
  ink[[0, -1]], ink[:, [0, -1]] = 0, 0  # the border, which scans and photos hardly show
  height, width = ink.shape
  return np.round(255 * ink.reshape(height // 2, 2, width // 2, 2).mean((1, 3))).astype(np.uint8)


def draw_marks() -> dict[str, Any]:
  """Returns what `marks.competition_marks` reads: cover (1700, 2200) of the page, boxes (N, 4) of its marks and their kinds (N,)."""
  page, style = layouts.make(), looks.competition()._replace(header=jnp.float32(0), border=jnp.float32(0))
  blank = jnp.full((len(LEADS), 5000), jnp.nan)
  ink = np.array(render.page(jax.random.key(0), blank, layout=page, style=style, rate_hz=500).inks[..., 1])
  words = [(text.split(':')[0] + ':', x, y) for text, x, y in looks.HEADERS[0]]  # what follows differs from page to page
  ink = np.maximum(ink, _words(words, style))
  left = lambda segment: round(paper.START_X_PX + segment.start_s * page.px_per_s)
  boxes = [('pulse', 60, zero - 95, 130, zero + 8) for zero in page.zeros_px]
  for segment in page.segments:
    x, zero = left(segment), page.zeros_px[segment.row]
    boxes += [('separator', x - 6, zero - 34, x + 6, zero + 34)] if segment.start_s else []
    boxes += [('name', x - 2 * (segment.start_s == 0), zero + 30, x + 110, zero + 72)]
  boxes += [('header', x - 2, y - 34, x + 28 * len(text), y + 12) for text, x, y in words]
  boxes += [('footer', x - 2, y - 34, x + 220, y + 14) for _, x, y in looks.FOOTERS[0]]
  kinds = np.array([marks.KINDS.index(kind) for kind, *_ in boxes])
  return {'cover': np.round(255 * ink).astype(np.uint8), 'boxes': np.array([_tight(ink, *box) for _, *box in boxes]), 'kinds': kinds}


def _words(lines, style) -> np.ndarray:
  """Returns (1700, 2200) coverage of lines of (text, x, baseline)."""
  first = np.cumsum([0] + [len(text) for text, *_ in lines])
  letters = np.array([(code, n, x, y) for (text, x, y), n in zip(lines, first, strict=False) for code in glyphs.encode(text)])
  codes, first, x, y = letters.T
  placed = glyphs.lines(
    jnp.asarray(codes, jnp.int32), first.astype(int), jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32),
    em_px=style.em_px, wide=style.wide, font=style.font,
  )  # fmt: skip
  return np.asarray(glyphs.coverage(placed, height_px=paper.HEIGHT_PX, width_px=paper.WIDTH_PX))


def _tight(ink: np.ndarray, x0: float, y0: float, x1: float, y1: float) -> tuple[int, int, int, int]:
  """Returns the box of the ink within a box."""
  x0, y0 = max(int(x0), 0), max(int(y0), 0)
  ys, xs = np.nonzero(ink[y0 : int(y1), x0 : int(x1)] > 0.1)
  return x0 + xs.min(), y0 + ys.min(), x0 + xs.max() + 1, y0 + ys.max() + 1


if __name__ == '__main__':
  drawn: dict[str, Any] = {name: draw(name) for name in layouts.ROWS}
  np.savez_compressed(template_match.PATH, **drawn)
  print(f'{pathlib.Path(template_match.PATH).name}: {len(layouts.ROWS)} layouts')
  of_page: dict[str, Any] = draw_marks()
  np.savez_compressed(marks.PATH, **of_page)
