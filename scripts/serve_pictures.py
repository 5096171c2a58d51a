"""Pictures of the page of `ecgjax serve` for its documentation: python scripts/serve_pictures.py PICTURE --out DIR

It starts the server, opens it in Chromium (`apt install chromium`; `pip install playwright`), reads the picture and takes screenshots:
on a desk, on a phone in the dark, and the lattice with its points.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys

from PIL import Image

COLOURS = 128  # of a PNG: a screenshot has few


def shoot(url: str, picture: str, out: pathlib.Path) -> None:
  """Reads a picture by the page at `url` and writes serve.png, serve_lattice.png and serve_phone.png to `out`."""
  from playwright.sync_api import sync_playwright

  with sync_playwright() as play:
    chromium = shutil.which('chromium')
    browser = play.chromium.launch(executable_path=chromium, args=['--no-sandbox', '--disable-gpu', '--disable-background-networking'])
    page = browser.new_page(viewport={'width': 1280, 'height': 860})
    page.goto(url)
    page.set_input_files('#file', picture)
    page.wait_for_selector('#word.ok, #word.review', timeout=300_000)

    def take(name: str, *, whole: bool) -> None:
      page.wait_for_timeout(500)
      page.screenshot(path=out / name, full_page=whole)
      Image.open(out / name).convert('RGB').quantize(COLOURS).save(out / name, optimize=True)

    take('serve.png', whole=True)
    page.check('[name=mode][value=lattice]', force=True)
    take('serve_lattice.png', whole=False)
    page.check('[name=mode][value=look]', force=True)
    page.emulate_media(color_scheme='dark')
    page.set_viewport_size({'width': 375, 'height': 800})
    take('serve_phone.png', whole=False)
    browser.close()


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('picture', help='page to be read')
  parser.add_argument('--out', type=pathlib.Path, required=True, help='folder')
  args = parser.parse_args()
  command = [sys.executable, '-m', 'ecgjax', 'serve', '--port', '0']
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
    try:
      assert server.stdout
      shoot(server.stdout.readline().strip(), args.picture, args.out)
    finally:
      server.terminate()


if __name__ == '__main__':
  main()
