"""The page of `ecgjax serve` in a real Chromium: dropped, looked at, corrected, saved and read back."""

import io
import json
import pathlib
import shutil
import zipfile

import numpy as np
import pytest
import wfdb
from PIL import Image

from ecgjax import geometry, layout, paper, rectify

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason='no Chromium here; on Debian: apt install chromium')
PAGE = layout.make()
BENT = (geometry.page_lattice() + 6 * np.sin(geometry.page_lattice()[..., ::-1] / 300)).astype(np.float64)  # px
DROP = """async ([name, data]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name));
  const event = (kind) => new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true });
  for (const kind of ['dragover', 'drop']) document.querySelector('#drop').dispatchEvent(event(kind));
}"""


@pytest.fixture(scope='module')
def browser():
  from playwright.sync_api import sync_playwright

  with sync_playwright() as play:
    flags = ['--no-sandbox', '--disable-gpu', '--disable-background-networking']
    browser = play.chromium.launch(executable_path=CHROMIUM, args=flags)
    yield browser
    browser.close()


@pytest.fixture
def tab(site, browser):
  """The page, opened by its address; at the end nothing may have gone wrong in it, nor been asked of any other host."""
  context = browser.new_context(viewport={'width': 1366, 'height': 900}, accept_downloads=True)
  tab, wrong, asked = context.new_page(), [], []
  tab.on('pageerror', lambda error: wrong.append(str(error)))
  tab.on('console', lambda message: wrong.append(message.text) if message.type == 'error' and '422' not in message.text else None)
  tab.on('request', lambda request: asked.append(request.url))
  tab.goto(f'{site.url}/#{site.token}')
  yield tab
  context.close()
  assert not wrong and all(url.startswith((site.url, 'blob:')) for url in asked)


@pytest.fixture
def desk(tab, site):
  """The page with a picture read."""
  drop(tab, 'page.png', site.png)
  tab.wait_for_selector('#word.ok')
  tab.locator('#frame').scroll_into_view_if_needed()
  return tab


def drop(tab, name, data):
  import base64

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


def read_back(tab, folder):
  """(5000, 12) mV of the WFDB record that the page gives."""
  name, data = saved(tab, 'wfdb')
  assert name == 'page.zip'
  zipfile.ZipFile(io.BytesIO(data)).extractall(folder)
  record = wfdb.rdrecord(str(folder / 'page'))
  assert record.sig_name == list(layout.LEADS) and record.fs == 500
  return record.p_signal


def test_a_dropped_picture_is_read_and_its_traces_lie_on_the_ink(desk, site, beats_mv):
  assert desk.inner_text('#word') == 'ok' and desk.inner_text('#status') == 'page.png: ok'
  assert desk.locator('#leads meter').count() == 12 and desk.locator('#chart .trace').count() == len(PAGE.segments)
  assert desk.evaluate('location.hash') == ''  # the token does not stay in the address
  desk.click('#fit')
  shot = np.asarray(Image.open(io.BytesIO(desk.locator('#view').screenshot())).convert('RGB')).astype(int)
  box = desk.locator('#view').bounding_box()
  blue = (shot[..., 2] - shot[..., 0] > 90) & (shot[..., 2] > 150)
  for lead in ('V1', 'V5', 'V6'):
    segment = PAGE.scored(lead)
    for second in np.arange(segment.start_s + 0.3, segment.stop_s - 0.1, 0.37):
      x, y = at(desk, *place(lead, second, beats_mv[layout.LEADS.index(lead), round(500 * second)]))
      row, column = round(y - box['y']), round(x - box['x'])
      assert blue[row - 4 : row + 5, column - 2 : column + 3].any(), f'{lead} at {second:.2f} s'


def test_the_browser_maps_the_page_as_the_reader_does(tab):
  rows, columns = (nodes.tolist() for nodes in geometry.nodes_px())
  points = np.random.default_rng(0).uniform([-40, -40], [2240, 1740], (200, 2))
  script = """async ([lattice, rows, columns, points]) => {
    const map = (await import('/static/lattice.js')).mapped(lattice, rows, columns);
    return points.map(([x, y]) => [map.toPicture(x, y), map.toPage(...map.toPicture(x, y))]);
  }"""
  found = np.array(tab.evaluate(script, [BENT.tolist(), rows, columns, points.tolist()]))
  across, down = (geometry.spline_weights(knots, at) for knots, at in zip(geometry.nodes_px()[::-1], points.T, strict=True))  # float64
  np.testing.assert_allclose(found[:, 0], np.einsum('nr,rcd,nc->nd', down, BENT, across), atol=1e-6)
  np.testing.assert_allclose(found[:, 1], points, atol=1e-6)


def test_a_stretch_drawn_anew_and_one_hidden_come_back_from_the_saved_record(desk, tmp_path):
  before = read_back(desk, tmp_path)
  desk.check('#leads [value=V5]')
  mode(desk, 'draw')
  drag(desk, at(desk, *place('V5', 8.0, 0.2)), at(desk, *place('V5', 8.4, 1.0)), at(desk, *place('V5', 8.8, 0.2)))
  mode(desk, 'hide')
  drag(desk, at(desk, *place('V5', 9.1, 0.0)), at(desk, *place('V5', 9.3, 0.0)))
  after, v5 = read_back(desk, tmp_path), layout.LEADS.index('V5')
  others = [i for i in range(12) if i != v5]
  np.testing.assert_array_equal(after[:, others], before[:, others])
  drawn, wanted = after[4005:4396, v5], np.interp(np.arange(4005, 4396) / 500, [8.0, 8.4, 8.8], [0.2, 1.0, 0.2])
  px_mv = paper.WIDTH_PX / PAGE.px_per_mv / (at(desk, paper.WIDTH_PX, 0)[0] - at(desk, 0, 0)[0])  # of a px of the screen
  assert np.abs(drawn - wanted).max() < 1.5 * px_mv
  hidden = np.isnan(after[:, v5]) & ~np.isnan(before[:, v5])
  assert abs(np.flatnonzero(hidden) / 500 - 9.2).max() < 0.11 and 90 <= hidden.sum() <= 110
  same = np.r_[3750:3990, 4410:4540, 4660:5000]
  np.testing.assert_array_equal(after[same, v5], before[same, v5])
  facts = json.loads(saved(desk, 'json')[1])
  assert [edit['how'] for edit in facts['edits']['V5']] == ['drawn', 'hidden']
  assert facts['std_mv']['V5'][400] == 0.05 and facts['std_mv']['V5'][850] is None


def test_undo_and_redo_go_back_and_forth(desk, tmp_path):
  before = read_back(desk, tmp_path)
  assert desk.is_disabled('#undo') and desk.is_disabled('#redo')
  mode(desk, 'hide')
  drag(desk, at(desk, *place('II', 2.0, 0.0)), at(desk, *place('II', 3.0, 0.0)))
  hidden = read_back(desk, tmp_path)
  assert np.isnan(hidden[1100:1400, 1]).all()
  desk.keyboard.press('Control+z')
  np.testing.assert_array_equal(read_back(desk, tmp_path), before)
  desk.click('#redo')
  np.testing.assert_array_equal(read_back(desk, tmp_path), hidden)


def test_a_lead_is_corrected_by_the_keys_alone(desk, tmp_path):
  before = read_back(desk, tmp_path)
  mode(desk, 'draw')
  desk.focus('#view')
  desk.keyboard.press('Space')  # the pen stands in the middle of the rhythm strip
  for _ in range(3):
    desk.keyboard.press('Shift+ArrowRight')
    desk.keyboard.press('Shift+ArrowUp')
  desk.keyboard.press('Space')
  risen = read_back(desk, tmp_path)[:, 1]
  np.testing.assert_allclose(risen[[2500, 2530]], before[2500, 1] + np.array([0, 0.3]), atol=0.002)
  np.testing.assert_array_equal(risen[2531:], before[2531:, 1])


def test_a_dragged_corner_comes_to_the_reader(desk, site):
  mode(desk, 'corners')
  handle = desk.get_by_label('Lower right corner').bounding_box()
  middle = handle['x'] + handle['width'] / 2, handle['y'] + handle['height'] / 2
  np.testing.assert_allclose(middle, at(desk, 2200, 1700), atol=1)
  drag(desk, middle, at(desk, 2100, 1600))
  count = len(site.asked)
  desk.click('#reread')
  desk.wait_for_selector('#reread', state='hidden')
  assert len(site.asked) == count + 1
  np.testing.assert_allclose(site.asked[-1], [[0, 0], [2200, 0], [2100, 1600], [0, 1700]], atol=3)


def test_a_dragged_node_carries_its_neighbours_and_the_page_is_read_along_them(desk):
  mode(desk, 'lattice')
  node = desk.get_by_label('Lattice row 22, column 28')
  node.focus()
  for key in ('Shift+ArrowRight', 'ArrowDown'):
    desk.keyboard.press(key)
  desk.click('#reread')
  desk.wait_for_selector('#reread', state='hidden')
  moved = np.array(json.loads(saved(desk, 'json')[1])['lattice_px']) - geometry.page_lattice()
  np.testing.assert_allclose(moved[22, 28], [20, 2], atol=0.01)
  np.testing.assert_allclose(moved[22, 21], [10, 1], atol=0.01)  # half way to the next handle
  assert np.abs(moved[22, 14]).max() < 0.01 and np.abs(moved[0]).max() < 0.01


def test_where_no_page_is_found_a_person_points_to_its_corners(tab, site):
  out = io.BytesIO()
  Image.new('RGB', (1200, 900)).save(out, 'PNG')
  drop(tab, 'dark.png', out.getvalue())
  tab.wait_for_selector('#word.fail')
  assert 'no page was found' in tab.inner_text('#status') and tab.locator('.handle').count() == 4
  tab.click('#reread')
  tab.wait_for_selector('#word.ok')
  assert site.asked[-1].shape == (4, 2)


def test_a_file_of_several_pages_shows_the_one_that_is_asked_for(tab, site):
  out = io.BytesIO()
  Image.new('RGB', (1200, 900)).save(out, 'TIFF', compression='tiff_lzw', save_all=True, append_images=[Image.fromarray(site.image)])
  drop(tab, 'two.tif', out.getvalue())
  tab.wait_for_selector('#word.fail')
  tab.fill('#options [name=page]', '2')
  tab.press('#options [name=page]', 'Tab')
  tab.wait_for_selector('#word.ok')
  assert saved(tab, 'csv')[0] == 'two-p002.csv'


def test_enter_in_the_field_of_the_page_opens_that_page_and_reads_it_on_its_own_picture(tab, site):
  out, asked = io.BytesIO(), []
  Image.new('RGB', (1200, 900)).save(out, 'TIFF', compression='tiff_lzw', save_all=True, append_images=[Image.fromarray(site.image)])
  tab.on('request', lambda request: asked.append(request.url.rsplit('/')[-1]) if request.method == 'POST' else None)
  drop(tab, 'two.tif', out.getvalue())
  tab.wait_for_selector('#word.fail')
  tab.fill('#options [name=page]', '2')
  tab.press('#options [name=page]', 'Enter')
  tab.wait_for_selector('#word.ok')
  assert asked == ['picture', 'digitize', 'picture', 'digitize']
  assert json.loads(saved(tab, 'json')[1])['picture'] == {'width_px': 2200, 'height_px': 1700, 'page': 2, 'pages': 2}


def test_a_click_is_no_correction(desk, tmp_path):
  before = read_back(desk, tmp_path)
  for name in ('hide', 'draw'):
    mode(desk, name)
    desk.mouse.click(*at(desk, *place('II', 2.0, 0.3)))
    desk.mouse.click(*at(desk, 60, 300))  # beside the lead
    drag(desk, at(desk, 2150, 300), at(desk, 2190, 300))
  assert desk.is_disabled('#undo')
  np.testing.assert_array_equal(read_back(desk, tmp_path), before)
  desk.focus('#view')
  desk.keyboard.press('Space')  # the pen is still there for the keys
  desk.keyboard.press('Shift+ArrowRight')
  desk.keyboard.press('Space')
  assert desk.is_enabled('#undo')


def test_nothing_can_be_corrected_while_the_page_is_read_again(desk):
  desk.evaluate("""() => {
    const real = fetch;
    window.fetch = (...asked) => new Promise((done) => { window.go = () => done(real(...asked)); });
  }""")
  desk.click('#options button')
  assert desk.evaluate("document.querySelector('#frame').inert") and desk.is_visible('#cancel')
  mode(desk, 'hide')
  drag(desk, at(desk, *place('II', 2.0, 0.0)), at(desk, *place('II', 3.0, 0.0)))
  assert desk.is_disabled('#undo')
  desk.evaluate('window.go()')
  desk.wait_for_selector('#cancel', state='hidden')
  assert not desk.evaluate("document.querySelector('#frame').inert") and desk.inner_text('#word') == 'ok'


def test_the_gain_that_the_pulses_told_holds_along_a_lattice_that_was_dragged(tab, site, monkeypatch):
  told = rectify.rectify(site.image)._replace(pulse_mv=0.5)
  monkeypatch.setattr(rectify, 'rectify', lambda image: told)
  drop(tab, 'page.png', site.png)
  tab.wait_for_selector('#word.review')
  mode(tab, 'lattice')
  tab.get_by_label('Lattice row 22, column 28').focus()
  tab.keyboard.press('ArrowDown')
  tab.click('#reread')
  tab.wait_for_selector('#reread', state='hidden')
  facts = json.loads(saved(tab, 'json')[1])
  assert facts['gain_mm_mv'] == 5 and facts['status'] == 'review' and 'lattice that was given' in facts['warnings'][-1]


def test_a_picture_that_cannot_be_opened_takes_the_last_one_from_the_desk(desk):
  drop(desk, 'text.png', b'no picture')
  desk.wait_for_selector('#status.fail')
  assert desk.is_hidden('#desk') and 'known kind' in desk.inner_text('#status')


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
