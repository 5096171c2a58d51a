"""Draws the glyph atlas of ecgjax/drawing/glyphs.npz: python scripts/make_glyphs.py FOLDER_OF_TTF_FILES

The folder must hold a .ttf file for each of glyphs.FONTS. Needs Pillow. The atlas in the repository was drawn from the DejaVu
fonts 2.37 (dejavu-fonts.github.io), which Matplotlib brings along in mpl-data/fonts/ttf. Their licence is free: Bitstream Vera's
(copyright Bitstream, Inc.) with DejaVu's changes in the public domain; drawing, embedding and passing on are allowed.
"""

import argparse
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ecgjax.drawing import glyphs


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('folder', type=pathlib.Path, help='where the .ttf files are')
  folder = parser.parse_args().folder
  cells, advances = [], []
  for name in glyphs.FONTS:
    font = ImageFont.truetype(folder / f'{name}.ttf', round(glyphs.ATLAS_EM_PX), layout_engine=ImageFont.Layout.BASIC)
    for code in range(glyphs.FIRST, glyphs.LAST + 1):
      cell = Image.new('L', (glyphs.CELL_PX, glyphs.CELL_PX))
      ImageDraw.Draw(cell).text((glyphs.PAD_PX, glyphs.BASELINE_PX), chr(code), fill=255, font=font, anchor='ls')
      cells.append(np.asarray(cell))
      advances.append(font.getlength(chr(code)) / glyphs.ATLAS_EM_PX)
  shape = (len(glyphs.FONTS), glyphs.LAST - glyphs.FIRST + 1)
  pixels = np.stack(cells).reshape(*shape, glyphs.CELL_PX, glyphs.CELL_PX)
  np.savez_compressed(glyphs.PATH, cells=pixels, advances=np.array(advances, np.float32).reshape(shape))
  print(f'wrote {len(cells)} glyphs of {len(glyphs.FONTS)} fonts, {glyphs.PATH.stat().st_size} bytes, to {glyphs.PATH}')


if __name__ == '__main__':
  main()
