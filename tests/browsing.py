"""What a hand does to the page of `ecgjax serve` in a real Chromium."""

import base64
import pathlib
import shutil

import pytest

from ecgjax.geometry import layouts, paper

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
needed = pytest.mark.skipif(CHROMIUM is None, reason='no Chromium here; on Debian: apt install chromium')
PAGE = layouts.make()
DROP = """async ([name, data]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name));
  const event = (kind) => new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true });
  for (const kind of ['dragover', 'drop']) document.querySelector('#drop').dispatchEvent(event(kind));
}"""


def drop(tab, name, data):
  tab.evaluate(DROP, [name, base64.b64encode(data).decode()])


def mode(tab, name):
  tab.check(f'[name=mode][value={name}]', force=True)


def at(tab, page_x, page_y):
  """Screen place of a point of the page, which fills the picture; the picture fits the canvas but for a margin of 14 px."""
  box = tab.locator('#view').bounding_box()
  scale = min((box['width'] - 28) / paper.WIDTH_PX, (box['height'] - 28) / paper.HEIGHT_PX)
  x, y = ((box[side] - scale * size) / 2 for side, size in (('width', paper.WIDTH_PX), ('height', paper.HEIGHT_PX)))
  return box['x'] + x + scale * page_x, box['y'] + y + scale * page_y


def place(lead, second, mv):
  """Page px of a lead's value at a second of the page's time."""
  return paper.START_X_PX + second * PAGE.px_per_s, PAGE.zeros_px[PAGE.scored(lead).row] - mv * PAGE.px_per_mv


def drag(tab, *points):
  tab.mouse.move(*points[0])
  tab.mouse.down()
  for point in points[1:]:
    tab.mouse.move(*point, steps=8)
  tab.mouse.up()


def saved(tab, format):
  with tab.expect_download() as download:
    tab.click(f'#save button[value={format}]')
  return download.value.suggested_filename, pathlib.Path(download.value.path()).read_bytes()
