"""Draws the glyph atlas of ecgjax/glyphs.npz from a TrueType font: python scripts/make_glyphs.py DejaVuSans.ttf

Needs Pillow. The atlas in the repository was drawn from DejaVu Sans 2.37 (free licence, derived from Bitstream Vera).
"""

import argparse

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ecgjax import glyphs


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('font', help='path of a .ttf file')
  args = parser.parse_args()
  font = ImageFont.truetype(args.font, round(glyphs.ATLAS_EM_PX), layout_engine=ImageFont.Layout.BASIC)
  cells, advances = [], []
  for code in range(glyphs.FIRST, glyphs.LAST + 1):
    cell = Image.new('L', (glyphs.CELL_PX, glyphs.CELL_PX))
    ImageDraw.Draw(cell).text((glyphs.PAD_PX, glyphs.BASELINE_PX), chr(code), fill=255, font=font, anchor='ls')
    cells.append(np.asarray(cell))
    advances.append(font.getlength(chr(code)) / glyphs.ATLAS_EM_PX)
  np.savez_compressed(glyphs.PATH, cells=np.stack(cells), advances=np.array(advances, np.float32))
  print(f'wrote {len(cells)} glyphs to {glyphs.PATH}')


if __name__ == '__main__':
  main()
