"""The page of `ecgjax serve` in a real Chromium: dropped, looked at, corrected, saved and read back."""

import io
import json
import zipfile

import browsing
import numpy as np
import wfdb
from browsing import PAGE, at, drag, drop, mode, place, saved
from PIL import Image

from ecgjax.ecg.leads import LEADS
from ecgjax.geometry import lattices, paper
from ecgjax.locate import find_page

pytestmark = browsing.needed
BENT = (lattices.page_lattice() + 6 * np.sin(lattices.page_lattice()[..., ::-1] / 300)).astype(np.float64)  # px


def read_back(tab, folder):
  """(5000, 12) mV of the WFDB record that the page gives."""
  name, data = saved(tab, 'wfdb')
  assert name == 'page.zip'
  zipfile.ZipFile(io.BytesIO(data)).extractall(folder)
  record = wfdb.rdrecord(str(folder / 'page'))
  assert record.sig_name == list(LEADS) and record.fs == 500
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
      x, y = at(desk, *place(lead, second, beats_mv[LEADS.index(lead), round(500 * second)]))
      row, column = round(y - box['y']), round(x - box['x'])
      assert blue[row - 4 : row + 5, column - 2 : column + 3].any(), f'{lead} at {second:.2f} s'


def test_the_browser_maps_the_page_as_the_reader_does(tab):
  rows, columns = (nodes.tolist() for nodes in lattices.nodes_px())
  points = np.random.default_rng(0).uniform([-40, -40], [2240, 1740], (200, 2))
  script = """async ([lattice, rows, columns, points]) => {
    const map = (await import('/static/lattice.js')).mapped(lattice, rows, columns);
    return points.map(([x, y]) => [map.toPicture(x, y), map.toPage(...map.toPicture(x, y))]);
  }"""
  found = np.array(tab.evaluate(script, [BENT.tolist(), rows, columns, points.tolist()]))
  across, down = (lattices.spline_weights(knots, at) for knots, at in zip(lattices.nodes_px()[::-1], points.T, strict=True))  # float64
  np.testing.assert_allclose(found[:, 0], np.einsum('nr,rcd,nc->nd', down, BENT, across), atol=1e-6)
  np.testing.assert_allclose(found[:, 1], points, atol=1e-6)


def test_a_stretch_drawn_anew_and_one_hidden_come_back_from_the_saved_record(desk, tmp_path):
  before = read_back(desk, tmp_path)
  desk.check('#leads [value=V5]')
  mode(desk, 'draw')
  drag(desk, at(desk, *place('V5', 8.0, 0.2)), at(desk, *place('V5', 8.4, 1.0)), at(desk, *place('V5', 8.8, 0.2)))
  mode(desk, 'hide')
  drag(desk, at(desk, *place('V5', 9.1, 0.0)), at(desk, *place('V5', 9.3, 0.0)))
  after, v5 = read_back(desk, tmp_path), LEADS.index('V5')
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
  moved = np.array(json.loads(saved(desk, 'json')[1])['lattice_px']) - lattices.page_lattice()
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


def test_the_gain_that_the_pulses_gave_holds_along_a_lattice_that_was_dragged(tab, site, monkeypatch):
  half_high = find_page.find_page(site.image)._replace(pulse_mv=0.5)
  monkeypatch.setattr(find_page, 'find_page', lambda image: half_high)
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
