"""`ecgjax serve` over HTTP: who may ask, how much, what is answered, and what happens when a page cannot be read."""

import asyncio
import concurrent.futures
import contextlib
import gc
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile

import fastapi
import httpx
import numpy as np
import pytest
import wfdb
from PIL import Image

from ecgjax.ecg.leads import LEADS
from ecgjax.extract import digitizer
from ecgjax.geometry import lattices
from ecgjax.io import formats
from ecgjax.jobs import process_pool
from ecgjax.serve import api, app, handlers


@pytest.fixture(scope='module')
def client(site):
  with httpx.Client(base_url=site.url, headers={'authorization': f'Bearer {site.token}'}, timeout=60) as client:
    yield client


@pytest.fixture(scope='module')
def answer(site, client):
  return client.post('/api/digitize', files={'file': ('page.png', site.png)}).raise_for_status().json()


def test_the_api_wants_the_token_and_the_page_holds_nothing_to_guard(site):
  for headers in ({}, {'authorization': 'Bearer wrong'}, {'authorization': f'Basic {site.token}'}):
    for path in ('/api/layouts', '/api/openapi.json', '/api/nothing'):
      refused = httpx.get(site.url + path, headers=headers)
      assert refused.status_code == 401 and 'token' in refused.json()['detail']
  assert httpx.get(site.url + '/').status_code == 200
  assert httpx.get(site.url + '/api/layouts', headers={'authorization': f'Bearer {site.token}'}).json() == ['3x4+II']


def test_a_foreign_name_that_points_at_this_machine_is_refused(site):
  assert httpx.get(site.url + '/', headers={'host': 'rebound.example:80'}).status_code == 421
  for host in ('localhost:80', 'localhost', '[::1]', '[::1]:80'):
    assert httpx.get(site.url + '/', headers={'host': host}).status_code == 200


def test_every_answer_forbids_foreign_code_frames_and_caches(site, client):
  for path in ('/', '/static/main.js', '/api/layouts', '/nowhere'):
    headers = client.get(path).headers
    assert "default-src 'none'" in headers['content-security-policy'] and 'unsafe' not in headers['content-security-policy']
    assert headers['x-content-type-options'] == 'nosniff' and headers['cache-control'] == 'no-store'


def test_the_page_needs_nothing_from_outside():
  text = {p.name: p.read_text() for p in api.STATIC.iterdir()}
  for name, content in text.items():
    assert not set(re.findall(r'https?://[^\s"\']+', content)) - {'http://www.w3.org/2000/svg'}, name
    for other in re.findall(r'(?:src|href)="static/([^"]+)"|from \'\./([^\']+)\'', content):
      assert ''.join(other) in text, f'{name} wants {other}'
  assert 'style=' not in text['index.html'] and '<script>' not in text['index.html']  # the policy would block them


@pytest.mark.parametrize('streamed', [False, True])
def test_a_request_that_is_too_large_is_cut_off_and_the_next_is_served(site, client, streamed):
  boundary = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
  parts = [boundary, *[bytes(1 << 20)] * (site.max_bytes >> 20), bytes(1 << 16), b'\r\n--x--\r\n']
  content = iter(parts) if streamed else b''.join(parts)
  refused = client.post('/api/picture', content=content, headers={'content-type': 'multipart/form-data; boundary=x'})
  assert refused.status_code == 413 and 'larger than' in refused.json()['detail']
  assert client.get('/api/layouts').status_code == 200


def test_an_answer_is_what_the_library_reads(site, client, answer):
  found = digitizer.digitize(site.image)
  assert answer['status'] == 'ok' and answer['warnings'] == [] and answer['quality'] == pytest.approx(found.quality, abs=6e-4)
  for lead in LEADS:
    np.testing.assert_allclose(np.array(answer['leads_mv'][lead], float), found.leads[lead], atol=6e-5)
  assert np.array(answer['lattice_px']).shape == (45, 57, 2)
  slower = client.post('/api/digitize', files={'file': site.png}, data={'fs': 250, 'speed': 50, 'gain': 5}).json()
  assert (slower['fs_hz'], slower['speed_mm_s'], slower['seconds'], len(slower['leads_mv']['II'])) == (250, 50, 5, 1250)


def test_corners_and_lattice_come_to_the_reader_as_they_were_given(site, client):
  corners = [[10, 12], [2190, 9], [2185, 1690], [8, 1695]]
  client.post('/api/digitize', files={'file': site.png}, data={'corners': json.dumps(corners)}).raise_for_status()
  np.testing.assert_allclose(site.asked[-1], corners)
  lattice = lattices.page_lattice() + np.float32([3, -2])
  found = client.post('/api/digitize', files={'file': site.png}, data={'lattice': json.dumps(lattice.tolist()), 'gain': 5}).json()
  assert (found['status'], found['gain_mm_mv']) == ('review', 5)  # a person's lattice is not measured
  np.testing.assert_allclose(found['lattice_px'], lattice, atol=0.006)


@pytest.mark.parametrize(('fields', 'reason'), [
  ({'page': 2}, 'page 2 was asked for; the file has 1'), ({'page': 0}, 'greater than or equal to 1'),
  ({'fs': 1}, 'greater than or equal to 50'),
  ({'speed': 30}, '30.0 is not one of 25.0, 50.0'), ({'gain': 7}, 'not one of 5.0'), ({'layout': '6x2'}, 'they read 3x4'),
  ({'corners': '[[1,'}, 'corners is no JSON'), ({'corners': '[[1,2],[3,4]]'}, r'\(4, 2\)'),
  ({'lattice': '"a"', 'gain': 10}, 'points must be'),
  ({'lattice': '[[[1,2]]]', 'gain': 10}, r'\(45, 57, 2\)'), ({'lattice': '[]'}, r'\(45, 57, 2\)'),
  ({'corners': '[[1,2],[3,4],[5,6],[7,NaN]]'}, 'all finite'),
])  # fmt: skip
def test_what_cannot_be_is_refused_with_the_reason(site, client, fields, reason):
  refused = client.post('/api/digitize', files={'file': site.png}, data=fields)
  assert refused.status_code == 422 and re.search(reason, json.dumps(refused.json()['detail']))


@pytest.mark.parametrize('data', [b'', b'no picture at all', b'%PDF-1.4 broken', b'\x89PNG\r\n\x1a\n' + bytes(50)])
def test_what_is_no_picture_is_refused_with_the_reason(client, data):
  for path in ('/api/picture', '/api/digitize'):
    refused = client.post(path, files={'file': ('page.png', data)})
    assert refused.status_code == 422 and refused.json()['detail']


def test_a_picture_is_shown_upright_and_small_enough_with_its_own_size(client):
  out = io.BytesIO()
  wide = Image.fromarray(np.tile(np.arange(5000, dtype=np.uint8)[None, :, None] // 20, (2000, 1, 3)))
  exif = Image.Exif()
  exif[0x0112] = 6  # turned by a quarter
  wide.save(out, 'JPEG', exif=exif)
  shown = client.post('/api/picture', files={'file': out.getvalue()})
  assert Image.open(io.BytesIO(shown.content)).size == (1600, 4000)
  assert (shown.headers['x-width'], shown.headers['x-height'], shown.headers['x-pages']) == ('2000', '5000', '1')


@pytest.mark.parametrize('format', formats.FORMATS)
def test_corrected_leads_are_saved_in_every_format(client, answer, format, tmp_path):
  body = {key: answer[key] for key in ('leads_mv', 'start_s', 'seconds', 'fs_hz')}
  body['leads_mv'] = body['leads_mv'] | {'V2': [None] * 100 + body['leads_mv']['V2'][100:]}
  saved = client.post('/api/save', params={'format': format, 'name': 'Ä b/../c'}, json=body)
  name = re.search('filename="(.+)"', saved.headers['content-disposition'])
  assert saved.status_code == 200 and name and name[1].startswith('__b____c.')
  if format == 'wfdb':
    zipfile.ZipFile(io.BytesIO(saved.content)).extractall(tmp_path)
    record = wfdb.rdrecord(str(tmp_path / '__b____c'))
    v2 = record.p_signal[2500:3750, LEADS.index('V2')]
    assert np.isnan(v2[:100]).all() and np.isnan(record.p_signal[:2500, LEADS.index('V2')]).all()
    np.testing.assert_allclose(v2[100:], np.array(body['leads_mv']['V2'][100:], float), atol=1e-3)


@pytest.mark.parametrize(('change', 'reason'), [
  ({'start_s': {}}, 'start_s'), ({'start_s': {'II': -1.0}}, 'start_s'),
  ({'start_s': {'II': 1.0}}, 'start_s'), ({'leads_mv': {'II': [1e3]}, 'format': 'wfdb'}, 'beyond'),
  ({'format': 'xls'}, 'xls is not one of csv'), ({'seconds': 1e9}, 'less than or equal to 60'), ({'leads_mv': {'X': [1.0]}}, 'X'),
])  # fmt: skip
def test_leads_that_cannot_be_saved_are_refused_with_the_reason(client, change, reason):
  body = {'leads_mv': {'II': [0.0] * 500}, 'start_s': {'II': 0.0, 'X': 0.0}, 'seconds': 1.0, 'fs_hz': 500.0} | change
  refused = client.post('/api/save', params={'format': body.pop('format', 'csv')}, json=body)
  assert refused.status_code == 422 and reason in json.dumps(refused.json()['detail'])


def test_the_api_describes_itself(client):
  described = client.get('/api/openapi.json').json()
  assert set(described['paths']) == {'/api/picture', '/api/digitize', '/api/layouts', '/api/save'}
  assert 'HTTPBearer' in described['components']['securitySchemes']
  fields = described['components']['schemas']['Body_digitize_api_digitize_post']['properties']
  assert {'file', 'page', 'fs', 'layout', 'speed', 'gain', 'corners', 'lattice'} == set(fields)


class Asking:
  """A request whose sender goes away after a while."""

  def __init__(self, *, patience_s: float = 60.0):
    self.until = time.monotonic() + patience_s

  async def is_disconnected(self) -> bool:
    return time.monotonic() > self.until


def test_a_child_that_hangs_dies_or_is_no_longer_wanted_costs_its_own_request_alone(caplog):
  with process_pool.Children(1) as children:

    def status(function, *args, limit_s=60.0, patience_s=60.0):
      done = api._runner(children, limit_s=limit_s)
      with pytest.raises(fastapi.HTTPException) as raised:
        asyncio.run(done(Asking(patience_s=patience_s), function, *args))
      return raised.value.status_code, raised.value.detail

    assert asyncio.run(api._runner(children, limit_s=60)(Asking(), os.getpid)) != os.getpid()
    assert status(time.sleep, 30, limit_s=1) == (504, 'given up after 1 s')
    assert status(os._exit, 7)[0] == 500
    tic = time.monotonic()
    assert status(time.sleep, 30, patience_s=0.6)[0] == 499 and time.monotonic() - tic < 10
    assert status(handlers.digitize, b'', handlers.DigitizeRequest()) == (422, 'the file is empty')
    assert not caplog.records
    assert status(int, [])[1].startswith('an error of the program') and len(caplog.records) == 1
  gc.collect()
  assert len(caplog.records) == 1  # of asyncio, which tells of futures that nobody asked


def test_a_request_too_many_is_refused_and_nothing_of_what_it_sent_is_kept():
  release, bodies = asyncio.Event(), []

  async def slow(scope, receive, send):
    bodies.append((await receive())['body'])
    await release.wait()
    await app._refuse(send, 200, 'done')

  async def all_of_them():
    limited = app.limited(slow, max_bytes=lambda path: 10, most=2)
    transport = httpx.ASGITransport(limited)
    async with httpx.AsyncClient(transport=transport, base_url='http://here') as client:
      first = [asyncio.create_task(client.post('/api/a', content=b'%d' % n)) for n in range(2)]
      await asyncio.sleep(0.05)
      third, other = await client.post('/api/a', content=b'third'), asyncio.create_task(client.get('/'))
      await asyncio.sleep(0.05)
      release.set()
      answers = [third, *[await one for one in (*first, other)], await client.post('/api/a', content=b'later')]
      return [answer.status_code for answer in answers], third.json()['detail']

  assert asyncio.run(all_of_them()) == ([503, 200, 200, 200, 200], 'too many requests are waiting; try again')
  assert bodies == [b'0', b'1', b'', b'later']


def test_a_request_whose_body_stalls_gives_its_place_back(monkeypatch):
  monkeypatch.setattr(app, 'STALLED_S', 0.1)

  async def reading(scope, receive, send):
    while (message := await receive())['type'] == 'http.request' and message['more_body']:
      pass
    if message['type'] == 'http.disconnect':
      raise ValueError('half a body')
    await app._refuse(send, 200, 'done')

  async def stalling():
    yield b'1'
    await asyncio.sleep(1)
    yield b'2'

  async def both():
    transport = httpx.ASGITransport(app.limited(reading, max_bytes=lambda path: 10, most=1))
    async with httpx.AsyncClient(transport=transport, base_url='http://here') as client:
      return [(await client.post('/api/a', content=content)).status_code for content in (stalling(), b'3')]

  assert asyncio.run(both()) == [408, 200]


def test_signals_that_come_back_have_a_smaller_limit_than_pictures():
  assert 1 << 24 <= api.max_bytes('/api/save') < api.max_bytes('/api/digitize')  # JSON takes ten times as much memory when it is parsed


def test_a_server_that_cannot_read_says_so_and_ends(tmp_path):
  with started('--weights', str(tmp_path / 'none')) as server:
    _, errors = server.communicate(timeout=120)
  assert server.returncode == 2 and str(tmp_path / 'none') in errors


@contextlib.contextmanager
def started(*words):
  """`ecgjax serve` as a process."""
  command = [sys.executable, '-m', 'ecgjax', 'serve', '--port', '0', *words]
  with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
    try:
      yield server
    finally:
      server.kill()


@pytest.mark.slow
def test_the_command_serves_a_real_reading_until_it_is_interrupted(site):
  with started('--engine', 'jax', '--weights', 'small') as server:
    address, _, token = server.stdout.readline().strip().partition('/#')
    found = httpx.post(f'{address}/api/digitize', files={'file': site.png}, headers={'authorization': f'Bearer {token}'}, timeout=300)
    server.send_signal(signal.SIGINT)
    _, errors = server.communicate(timeout=60)
  np.testing.assert_allclose(found.json()['lattice_px'], lattices.page_lattice(), atol=0.5)
  assert server.returncode == 0 and 'Traceback' not in errors and token not in errors


def test_requests_are_answered_at_once(site, client, answer):
  with concurrent.futures.ThreadPoolExecutor(4) as threads:
    found = list(threads.map(lambda _: client.post('/api/digitize', files={'file': site.png}).json(), range(4)))
  assert all(f['leads_mv'] == answer['leads_mv'] for f in found)
