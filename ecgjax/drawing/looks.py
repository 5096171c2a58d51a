"""Styles of printed pages: colours, line widths, fonts. The competition's own, and those of other printers.

A look is a pure function (key) -> Style. All of them are the same pytree of numbers, so every look goes through one program.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ecgjax.drawing import glyphs
from ecgjax.geometry import paper

# What a header says, as (text, x px, baseline px): '#' is a random digit, '@' a random letter; the first is the competition's.
# Its places are measured to 0.1 px on originals, since marks on prints are compared with them (`marks`).
HEADERS = (
  (('ID: #####_hr', 9.9, 46.0), ('Age: ## yrs', 9.7, 86.0), ('Sex: Female', 9.5, 124.8), ('Name:', 599.8, 45.8),
   ('Height: 1## cm', 599.6, 86.0), ('Date: 19##-0#-1#, 1#:2#:3#', 1190.9, 45.8), ('Weight: ## kg', 1189.8, 85.8)),
  (('@@@@@@@, @@@@@', 80, 50), ('ID: ########', 560, 50), ('1#-JUN-201#  1#:2#:3#', 1080, 50), ('5#yr  Male', 80, 95),
   ('Vent. rate     7#  BPM', 80, 150), ('PR interval   1## ms', 80, 190), ('QRS duration  9# ms', 80, 230),
   ('QT/QTc   3##/4## ms', 80, 270), ('P-R-T axes  5#  1#  4#', 560, 150), ('Unconfirmed', 1080, 95)),
  (('ID ###### @@@@@@@ @@@@@  6#Y', 60, 60), ('HR 8#/min  P 1## ms  PR 1## ms', 60, 105), ('QRS 8# ms  QT 3## ms  QTc 4##', 800, 105),
   ('1#.03.202# 1#:3#', 1700, 60), ('Page 1/1', 1700, 105)),
  (('@@@@@@@@@ HOSPITAL', 760, 55), ('Name: @@@@@ @@@@@@@', 1420, 55), ('Patient no. #######', 1420, 95), ('Born 19##-0#-1#', 1420, 135),
   ('202#/07/1# 1#:0#:4#', 60, 55), ('Rate 6#  QRSd 9#  QT 3##  QTc 4##', 60, 100), ('BP 1##/7# mmHg', 60, 145)),
  (('Room ###', 1850, 50), ('1#:4#  2#-11-1#', 1600, 90), ('@@@@@@@', 100, 50)),
)  # fmt: skip
# What stands below the rows, filled with speed and gain; the first is the competition's.
FOOTERS = (
  (('{speed:g}mm/s', 392.8, 1661), ('{gain:g}mm/mV', 786.6, 1661)),
  (('{speed:g} mm/s  {gain:g} mm/mV  0.05-150 Hz  AC 50', 120, 1672),),
  (('Speed: {speed:g}mm/sec', 1100, 1664), ('Gain: {gain:g}mm/mV', 1500, 1664), ('##-####', 60, 1664)),
  (('ECG ### V1.##', 80, 1668), ('{speed:g}mm/s {gain:g}mm/mV 40Hz', 800, 1668), ('1#:5#', 1900, 1668)),
)


class Style(NamedTuple):
  """Look of a page; every leaf is a float or an RGB triple in 0..1, so a style can be drawn, mixed and vmapped."""

  paper_rgb: jax.Array
  major_rgb: jax.Array
  minor_rgb: jax.Array
  ink_rgb: jax.Array  # of traces, calibration pulses and separators
  text_rgb: jax.Array
  pen_rgb: jax.Array  # of what was written by hand; it darkens what lies below
  major_px: jax.Array  # width of a line of the 5 mm grid
  minor_px: jax.Array
  minor_mm: jax.Array  # pitch of the fine grid; at 5 there is none
  minor_dots: jax.Array  # 0: lines, 1: dots where they would cross
  major_on: jax.Array  # share of a 5 mm line that is printed: 1 is unbroken, less is dashed, a little is dotted
  dash_mm: jax.Array  # period of the dashes
  snap: jax.Array  # 0 or 1: grid lines stand on px centres
  trace_px: jax.Array
  trace_soft_px: jax.Array  # over which the edge of the trace fades, at least 1
  pulse_px: jax.Array  # width of a calibration pulse's line
  bar_px: jax.Array  # width of a separator between leads; at 0 there is none
  bar_mv: jax.Array  # its height without its caps, about the zero line
  pulse: jax.Array  # 0 or 1: calibration pulses
  font: jax.Array  # index into glyphs.FONTS
  em_px: jax.Array
  wide: jax.Array  # of a letter, over its width in the font
  name_up_px: jax.Array  # lead names stand so much higher than the competition's
  border: jax.Array  # 0 or 1: black edge of the picture
  header: jax.Array  # 0 or 1
  header_kind: jax.Array  # index into HEADERS
  footer_kind: jax.Array  # index into FOOTERS
  pen: jax.Array  # 0..1, how strongly the handwriting is seen
  pen_px: jax.Array  # its width


def competition() -> Style:
  """Returns the look of the competition's originals (variant 0001), measured on a real page."""
  rgb = lambda *v: jnp.array(v, jnp.float32)
  f = lambda v: jnp.float32(v)
  return Style(
    paper_rgb=rgb(1, 1, 1), major_rgb=rgb(1, 0, 0), minor_rgb=rgb(0.996, 0.875, 0.859), ink_rgb=rgb(0.09, 0.09, 0.09),
    text_rgb=rgb(0, 0, 0), pen_rgb=rgb(0.1, 0.15, 0.5), major_px=f(0.5 * paper.PX_PER_PT), minor_px=f(0.5 * paper.PX_PER_PT),
    minor_mm=f(1), minor_dots=f(0), major_on=f(1), dash_mm=f(1), snap=f(1), trace_px=f(0.75 * paper.PX_PER_PT), trace_soft_px=f(1),
    pulse_px=f(1.125 * paper.PX_PER_PT), bar_px=f(2.25 * paper.PX_PER_PT), bar_mv=f(0.625), pulse=f(1),
    font=f(0), em_px=f(11 * paper.PX_PER_PT), wide=f(1), name_up_px=f(0), border=f(1), header=f(1), header_kind=f(0),
    footer_kind=f(0), pen=f(0), pen_px=f(3),
  )  # fmt: skip


# Colours as (weight, r, g, b). Grids are given at full strength and then faded towards the paper.
_GRIDS = (
  (4, 1.0, 0.0, 0.0), (4, 0.93, 0.3, 0.42), (3, 0.95, 0.45, 0.12), (2, 0.95, 0.5, 0.4), (2, 0.1, 0.6, 0.3), (2, 0.15, 0.4, 0.85),
  (2, 0.4, 0.4, 0.4), (1, 0.05, 0.05, 0.05), (1, 0.5, 0.3, 0.6),
)  # fmt: skip
_INKS = (
  (8, 0.05, 0.05, 0.05), (3, 0.28, 0.28, 0.28), (2, 0.08, 0.1, 0.32), (1, 0.1, 0.2, 0.62), (1, 0.45, 0.07, 0.1), (1, 0.3, 0.2, 0.14),
  (0.5, 0.3, 0.14, 0.45),
)  # fmt: skip
_HEATED = ((3, 0.16, 0.15, 0.2), (2, 0.3, 0.22, 0.18), (2, 0.15, 0.17, 0.32), (1, 0.35, 0.33, 0.36))  # what heat makes of the paper
_THERMAL_GRIDS = ((4, 0.95, 0.5, 0.25), (2, 0.9, 0.35, 0.35), (2, 0.25, 0.65, 0.4))
_PENS = ((4, 0.1, 0.16, 0.5), (3, 0.1, 0.1, 0.12), (2, 0.75, 0.1, 0.12), (1, 0.1, 0.45, 0.2))


def _dice(key) -> Iterator[jax.Array]:
  """Uniform numbers in 0..1, all drawn at once: each call of jax.random costs as much time to compile as a whole look."""
  return iter(jax.random.uniform(key, (64,)))


def _between(dice, low, high):
  return low + (high - low) * next(dice)


def _triple(dice, low, high):
  return jnp.stack([_between(dice, low, high) for _ in range(3)])


def _often(dice, share):
  """1 with probability `share`, else 0."""
  return (next(dice) < share).astype(jnp.float32)


def _one_of(dice, *choices):
  """One of (weight, value, ...) rows: its value, or its values as an array."""
  table = np.array(choices, np.float32)
  until = np.cumsum(table[:, 0]) / table[:, 0].sum()
  row = jnp.asarray(table[:, 1:])[(next(dice) >= until[:-1]).sum()]
  return row[0] if row.shape == (1,) else row


def _colour(dice, table, *, spread):
  """A colour of the table, every channel moved by up to `spread`."""
  return jnp.clip(_one_of(dice, *table) + _triple(dice, -spread, spread), 0, 1)


def _grey(dice, low, high):
  return jnp.broadcast_to(_between(dice, low, high), (3,))


def _fade(paper_rgb, rgb, strength):
  """A transparent print: on the paper it takes away, at strength 1, all that `rgb` takes from white."""
  return paper_rgb * (1 - strength * (1 - rgb))


def _print(dice) -> Style:
  """What all printers vary, on the competition's colours: pitch and kind of grid, widths, letters, header, handwriting."""
  base, pt = competition(), paper.PX_PER_PT
  others = lambda table: [(1, float(i)) for i in range(1, len(table))]
  own = _often(dice, 0.25)  # the competition's text as often as any other, since its pages are scored
  dashed, dots = _often(dice, 0.08), _often(dice, 0.15)
  # 0.5 pt of a fine laser print to 1.5 pt of a worn thermal head
  trace_px = pt * jnp.exp(_between(dice, math.log(0.5), math.log(1.5)))
  return base._replace(
    pen_rgb=_colour(dice, _PENS, spread=0.08),
    minor_px=pt * _between(dice, 0.3, 0.6) * (1 + dots), major_px=pt * _between(dice, 0.4, 0.9),
    minor_mm=_one_of(dice, (85, 1.0), (3, 2.0), (4, 2.5), (8, 5.0)), minor_dots=dots,
    major_on=1 - dashed * _between(dice, 0.3, 0.7), dash_mm=_one_of(dice, (1, 1.0), (1, 0.5)), snap=_often(dice, 0.3),
    trace_px=trace_px, trace_soft_px=_between(dice, 1.0, 1.6), pulse_px=trace_px * _between(dice, 1.0, 1.5),
    bar_px=_often(dice, 0.75) * jnp.minimum(trace_px * _between(dice, 1.0, 3.0), 7.0),
    font=_one_of(dice, (4, 0.0), *others(glyphs.FONTS)), em_px=base.em_px * _between(dice, 0.75, 1.15),
    wide=_one_of(dice, (6, 1.0), (1, 0.9), (1, 0.8)), name_up_px=_one_of(dice, (6, 0.0), (2, 110.0), (1, 85.0)),
    border=_often(dice, 0.3), header=_often(dice, 0.6), header_kind=(1 - own) * _one_of(dice, *others(HEADERS)),
    footer_kind=(1 - own) * _one_of(dice, *others(FOOTERS)),
    pen=_often(dice, 0.25) * _between(dice, 0.6, 1.0), pen_px=_between(dice, 2.0, 4.5),
  )  # fmt: skip


def _darken_dots(style: Style) -> Style:
  """Gives dots the colour of the 5 mm lines, since they are too small to be paler."""
  return style._replace(minor_rgb=jnp.where(style.minor_dots > 0, style.major_rgb, style.minor_rgb))


def clinic(key: jax.Array) -> Style:
  """Returns a colour print on white or nearly white paper: grid of any usual hue, down to hardly visible, ink of any colour."""
  dice = _dice(key)
  white, hue, strong = 1 - _triple(dice, 0, 0.06), _colour(dice, _GRIDS, spread=0.1), _between(dice, 0.2, 1.0)
  ink = _colour(dice, _INKS, spread=0.05)
  return _darken_dots(_print(dice)._replace(
    paper_rgb=white, major_rgb=_fade(white, hue, strong), minor_rgb=_fade(white, hue, strong * _between(dice, 0.12, 0.7)),
    ink_rgb=ink, text_rgb=jnp.where(_often(dice, 0.7), ink, 0.1),
  ))  # fmt: skip


def thermal(key: jax.Array) -> Style:
  """Returns a print on heat-sensitive paper: cream to grey, its ink brown to blue-black and pale, over a thin pre-printed grid."""
  dice = _dice(key)
  cream = jnp.array([0.98, 0.95, 0.88]) * _between(dice, 0.86, 1.0) + _triple(dice, -0.03, 0.02)
  hue, strong = _colour(dice, _THERMAL_GRIDS, spread=0.08), _between(dice, 0.35, 0.9)
  ink = _fade(cream, _colour(dice, _HEATED, spread=0.05), _between(dice, 0.7, 1.0))
  style = _print(dice)
  wider = jnp.clip(1.25 * style.trace_px, 2.0, 4.2) / style.trace_px
  return _darken_dots(style._replace(
    paper_rgb=cream, major_rgb=_fade(cream, hue, strong), minor_rgb=_fade(cream, hue, 0.5 * strong), ink_rgb=ink, text_rgb=ink,
    minor_px=0.7 * style.minor_px, major_px=0.8 * style.major_px, trace_px=wider * style.trace_px,
    pulse_px=wider * style.pulse_px, bar_px=jnp.minimum(wider * style.bar_px, 7.0), trace_soft_px=style.trace_soft_px + 0.2,
    border=jnp.float32(0),
  ))  # fmt: skip


def black_and_white(key: jax.Array) -> Style:
  """Returns a copy without colour: majors from mid grey to as black as the trace, minors mid to light grey."""
  dice = _dice(key)
  ink = _grey(dice, 0, 0.2)
  return _darken_dots(_print(dice)._replace(
    paper_rgb=_grey(dice, 0.92, 1), major_rgb=_grey(dice, 0.02, 0.5), minor_rgb=_grey(dice, 0.5, 0.9), ink_rgb=ink, text_rgb=ink,
    pen_rgb=_grey(dice, 0, 0.35),
  ))  # fmt: skip


def tinted(key: jax.Array) -> Style:
  """Returns a page as ecg-image-kit draws it with random grid colours: white paper, a grid of any colour, no header."""
  dice = _dice(key)
  # its dark grids have minors somewhat lighter than majors; the light ones are paired like its standard colours
  dark, light, is_dark = _triple(dice, 0, 1) * jnp.array([0.8, 0.5, 0.5]), _triple(dice, 0.3, 0.95), _often(dice, 0.5)
  return competition()._replace(
    major_rgb=jnp.where(is_dark, dark, light),
    minor_rgb=jnp.where(is_dark, dark + _triple(dice, 0.05, 0.45) * (1 - dark), 1 - 0.4 * (1 - light)),
    ink_rgb=_grey(dice, 0, 0.2), header=jnp.float32(0),
  )  # fmt: skip


# The competition's own is among them, since its pages are scored; the shares of the others are a guess at what is met elsewhere.
LOOKS = ((0.15, lambda key: competition()), (0.35, clinic), (0.2, thermal), (0.15, black_and_white), (0.15, tinted))


def draw(key: jax.Array) -> Style:
  """Returns any print: one of LOOKS, by their shares."""
  chosen, seed = jax.random.split(key)
  kind = _one_of(_dice(chosen), *((share, float(i)) for i, (share, _) in enumerate(LOOKS))).astype(jnp.int32)
  return jax.tree.map(lambda *leaves: jnp.stack(leaves)[kind], *(look(seed) for _, look in LOOKS))
