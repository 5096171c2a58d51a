"""Fixtures that more than one test file uses."""

import concurrent.futures
import io
import os
import pathlib
import shutil
import socket
import tempfile
import threading
from typing import NamedTuple

# half of the suite's time is compiling, which takes a third less so and changes no result that is tested; before JAX is imported
os.environ['XLA_FLAGS'] = (
  f'{os.environ.get("XLA_FLAGS", "")} --xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false '
  '--xla_cpu_parallel_codegen_split_count=1 --xla_cpu_multi_thread_eigen=false'  # the cores have their workers
)
os.environ.setdefault('GLIBC_TUNABLES', 'glibc.malloc.hugetlb=1')  # for the worker processes of this one, as in `process_pool.Children`
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')  # likewise
# the suite's processes, and what they start, share what they compiled
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', f'{tempfile.gettempdir()}/ecgjax-programs-{os.getpid()}')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')

import browsing
import jax
import jax.numpy as jnp
import known
import numpy as np
import pytest
from archives import a_table, png, tar
from PIL import Image

from ecgjax.ecg.leads import LEADS, LIMBS
from ecgjax.extract import retiming
from ecgjax.locate import find_page
from ecgjax.simulate import competition_folder, validation_set, variants

LONGEST = ('test_train', 'test_ecg_pages', 'test_register_to_original', 'test_find_page', 'test_subpixel')


def pytest_collection_modifyitems(items):
  """Begins with the longest files: what begins late has one core work while the others wait."""
  items.sort(key=lambda item: item.path.stem not in LONGEST)


def pytest_unconfigure():
  """Takes away what was compiled, in the process that named the folder."""
  if (folder := os.environ['JAX_COMPILATION_CACHE_DIR']).endswith(f'/ecgjax-programs-{os.getpid()}'):
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope='session')
def shared() -> pathlib.Path:
  """The folder of shared data outside the repository; tests that need it are skipped where it is absent."""
  beside = pathlib.Path(__file__).resolve().parents[2] / 'shared'
  folder = pathlib.Path(os.environ.get('ECGJAX_SHARED', beside))
  if not (folder / 'bench' / 'kit').is_dir():
    pytest.skip(f'no shared data at {folder}; set ECGJAX_SHARED to the folder that holds bench/ and data/')
  return folder


@pytest.fixture(scope='session')
def compiled(tmp_path_factory) -> pathlib.Path:
  """Folder in which training processes keep what XLA compiled, so that the second one is quick."""
  return tmp_path_factory.mktemp('compiled')


@pytest.fixture(scope='session')
def beats_mv() -> np.ndarray:
  """(12, 5000) mV at 500 Hz: a beat every 0.8 s, of another height in every lead; limb leads obey Einthoven."""
  beat = lambda high: np.interp(np.arange(5000) % 400, [0, 20, 40, 60, 120, 180, 400], [0, 0, high, -0.2, 0.2, 0, 0])
  limbs = [one * beat(1.0) + two * beat(0.7) for one, two in LIMBS.values()]
  return np.stack([*limbs, *(beat(0.9 - 0.1 * n) for n in range(6))]).astype(np.float32)


@pytest.fixture(scope='session')
def printed():
  """(seed of the header, (12, 5000) mV) -> (1700, 2200, 3) uint8, the page as the competition prints it."""
  style = variants.draw_look(jax.random.key(1), 0)
  draw = validation_set.draw(500)
  return lambda seed, mv: np.asarray(jnp.round(255 * draw(jax.random.key(seed), jnp.asarray(mv), style))).astype(np.uint8)


@pytest.fixture(scope='session')
def page(printed, beats_mv) -> np.ndarray:
  """(1700, 2200, 3) uint8, a page as the competition prints it."""
  return printed(0, beats_mv)


@pytest.fixture(scope='session')
def sample(tmp_path_factory):
  """Three training records at one rate, the only one that is compiled here (the real page has it, too)."""
  out = tmp_path_factory.mktemp('sample') / 'data'
  competition_folder.write_folder(out, records=3, tests=1, seed=1, rates_hz=(250,))
  return out


@pytest.fixture
def home(tmp_path):
  """An archive of all kinds: 3 pictures, 3 in a tar, 3 in a Parquet file, and what is none of them."""
  folder = tmp_path / 'in'
  (folder / 'ward' / '.trash').mkdir(parents=True)
  for n, name in enumerate(('a.png', 'ward/b.JPG', 'ward/c.png')):
    (folder / name).write_bytes(png(n))
  for name in ('notes.txt', '.hidden.png', 'ward/.trash/d.png'):
    (folder / name).write_bytes(png())
  tar(folder / 'x-00000.tar', [('1.png', png(3)), ('1.json', b'{}'), ('2.png', png(4)), ('.3.png', b''), ('2.png', png(5))])
  images = [{'bytes': png(6), 'path': 'p'}, {'bytes': None, 'path': 'q'}, {'bytes': png(7), 'path': 'r'}]
  a_table(folder / 'y.parquet', images)
  return folder


@pytest.fixture
def a_page_is_found(monkeypatch):
  """White pages have neither grid nor landmarks; that they are found, and their ink, is taken for granted here (test_find_page)."""
  monkeypatch.setattr(find_page, 'find_page', lambda image: known.FOUND)
  monkeypatch.setattr(find_page, 'along', lambda image, lattice: known.FOUND._replace(lattice=lattice))
  monkeypatch.setattr(retiming, 'ink_offsets', lambda image, lattice, *, layout, frame, printer: retiming.exact(layout, frame))


@pytest.fixture
def runs():
  """Lead -> its printed run."""
  segments = {s.lead: s for s in (known.PAGE.scored(lead) for lead in LEADS)}
  cut = {lead: slice(round(s.start_s * known.FS), round(s.stop_s * known.FS)) for lead, s in segments.items()}
  return {lead: known.MV[i, cut[lead]] for i, lead in enumerate(LEADS)}


class Site(NamedTuple):
  """A server of the page whose network is a table: `asked` collects the corners that it was given, `png` is a page that it reads."""

  url: str
  token: str
  image: np.ndarray
  png: bytes
  asked: list
  max_bytes: int


@pytest.fixture(scope='module')
def site(page, beats_mv):
  """`ecgjax serve` in this process: everything is real but the finding of the page and the network, which know what was printed."""
  import uvicorn

  from ecgjax.extract import digitizer, path_decoder
  from ecgjax.serve import api, app, handlers

  printed, frame, found = known.PAGE, known.FRAME, known.FOUND
  rows = np.full((4, frame.width_px), frame.rows_px(0.0), np.float32)
  for segment in printed.segments:
    first, stop = round(500 * segment.start_s), round(500 * segment.stop_s)
    mv = beats_mv[LEADS.index(segment.lead), first:stop]
    rows[segment.row, first + frame.margin_px : stop + frame.margin_px] = frame.rows_px(mv)
  trace = path_decoder.Trace(jnp.asarray(rows), jnp.full_like(rows, 0.3), jnp.ones_like(rows))
  asked = []

  def within(image, corners):
    asked.append(corners)
    return found

  def anywhere(image):
    return found if image.mean() > 20 else found._replace(status='fail', reason='no page was found')

  class Threads:
    def schedule(self, function, *, args, kwargs, timeout):
      return threads.submit(function, *args, **kwargs)

  png, token, max_bytes = io.BytesIO(), 'a-token', 8 << 20
  Image.fromarray(page).save(png, 'PNG')
  with pytest.MonkeyPatch.context() as patch, concurrent.futures.ThreadPoolExecutor(2) as threads:
    patch.setattr(find_page, 'find_page', anywhere)
    patch.setattr(find_page, 'within', within)
    patch.setattr(find_page, 'along', lambda image, lattice: found._replace(lattice=lattice))
    patch.setattr(digitizer, 'cached', lambda *_, **__: digitizer.Reader(lambda image, lattice: trace, printed, frame, {'name': 'a table'}))
    made = api.make(Threads(), limit_s=60.0, defaults=handlers.DigitizeRequest())
    made = app.guarded(app.limited(made, max_bytes=lambda _: max_bytes, most=16), token=token, hosts=app.LOOPBACK)
    config = uvicorn.Config(made, port=0, log_level='warning', ws='none')
    server = uvicorn.Server(config)
    with socket.create_server(('127.0.0.1', 0)) as listener:
      running = threading.Thread(target=server.run, kwargs={'sockets': [listener]})
      running.start()
      yield Site(f'http://127.0.0.1:{listener.getsockname()[1]}', token, page, png.getvalue(), asked, max_bytes)
      server.should_exit = True
      running.join()


@pytest.fixture(scope='module')
def browser():
  from playwright.sync_api import sync_playwright

  with sync_playwright() as play:
    flags = ['--no-sandbox', '--disable-gpu', '--disable-background-networking']
    browser = play.chromium.launch(executable_path=browsing.CHROMIUM, args=flags)
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
  browsing.drop(tab, 'page.png', site.png)
  tab.wait_for_selector('#word.ok')
  tab.locator('#frame').scroll_into_view_if_needed()
  return tab
