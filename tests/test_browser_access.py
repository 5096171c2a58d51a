"""The page of `ecgjax serve` for everybody: by keys alone, on a phone and on a wall, and to whom its address was given."""

import browsing
import numpy as np
import pytest
from browsing import mode

pytestmark = browsing.needed


def test_points_are_reached_by_the_keys_in_a_picture_that_is_zoomed_in(desk):
  mode(desk, 'lattice')
  for _ in range(8):
    desk.click('#closer')
  desk.get_by_label('Lattice row 0, column 0').focus()
  seen = []
  for _ in range(25):
    desk.wait_for_timeout(50)
    box, frame = desk.locator('.handle:focus').bounding_box(), desk.locator('#frame').bounding_box()
    assert frame['x'] <= box['x'] and box['x'] + box['width'] <= frame['x'] + frame['width']
    assert frame['y'] <= box['y'] and box['y'] + box['height'] <= frame['y'] + frame['height']
    seen.append(desk.evaluate('document.activeElement.ariaLabel'))
    desk.keyboard.press('PageDown')
  assert len(set(seen)) == 25 and desk.locator('.handle[tabindex="0"]').count() == 1


def test_a_new_address_in_the_same_tab_brings_its_token(tab, site):
  tab.evaluate("sessionStorage.setItem('token', 'of a server that is gone')")
  with tab.expect_navigation(url=f'{site.url}/'):  # the one with the token comes first, and the page takes it away
    tab.evaluate(f"location.hash = '{site.token}'")
  assert tab.evaluate("sessionStorage.getItem('token')") == site.token


def test_everything_is_reached_by_the_tab_key(desk):
  reached, seen = set(), 'e => e.id || (e.type === "radio" ? e.value : e.name || e.value)'
  for _ in range(40):
    desk.keyboard.press('Tab')
    reached.add(desk.evaluate(f'({seen})(document.activeElement)'))
  assert {'file', 'theme', 'look', 'closer', 'fit', 'view', 'layout', 'speed', 'gain', 'fs', 'csv', 'wfdb', 'json', 'chart'} <= reached
  names = desk.evaluate("""[...document.querySelectorAll('button, input, select, canvas')].filter((e) => e.checkVisibility())
    .filter((e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML)""")
  assert not names, 'without a name for a screen reader'


@pytest.mark.parametrize(('width', 'height'), [(375, 700), (1366, 900), (3840, 2160)])
@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_the_page_fits_and_is_legible_on_a_phone_and_on_a_wall(desk, width, height, scheme):
  desk.emulate_media(color_scheme=scheme)
  desk.set_viewport_size({'width': width, 'height': height})
  assert desk.evaluate('document.documentElement.scrollWidth') <= width
  heights = desk.evaluate("""[...document.querySelectorAll('button, select, #modes label')].filter((e) => e.checkVisibility())
    .map((e) => e.offsetHeight)""")
  assert min(heights) >= 24  # WCAG 2.2, 2.5.8
  colours = desk.evaluate("""['body', '#drop small', '.like-link', '#status', '#hint', '#word', '#modes :has(:checked)'].map((where) => {
    const style = (e) => getComputedStyle(e), clear = 'rgba(0, 0, 0, 0)';
    const own = document.querySelector(where);
    let back = own;
    while (style(back).backgroundColor === clear) back = back.parentElement;
    const numbers = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
    return [where, numbers(style(own).color), numbers(style(back).backgroundColor)];
  })""")

  def light(rgb):
    x = np.array(rgb) / 255
    return float(np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])

  for where, ink, back in colours:  # WCAG 2.2, 1.4.3
    high, low = sorted([light(ink), light(back)], reverse=True)
    assert (high + 0.05) / (low + 0.05) >= 4.5, where
