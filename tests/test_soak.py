"""`ecgjax serve` under a thousand requests of several clients, good, bad and rude: each is answered as it should be, and memory stays."""

import collections
import concurrent.futures
import io
import os
import pathlib
import random
import re
import socket
import subprocess
import sys
import time

import httpx
import numpy as np
import pytest
from PIL import Image
from test_images import BAD

REQUESTS, CLIENTS, PAGES = 1000, 6, 72  # a child holds ever more until it has read some nine pages, which a third of them must see
SIGNALS = {'leads_mv': {'I': [0.1, None, 0.3] * 200, 'V1': [0.0] * 600}, 'start_s': {'I': 0.0, 'V1': 0.0}, 'seconds': 2.0, 'fs_hz': 500.0}


def resident_mib(pid):
  status = pathlib.Path(f'/proc/{pid}/status').read_text()
  return int(re.search(r'VmRSS:\s+(\d+)', status).group(1)) / 1024


def memory_mib(pid):
  """Returns what a process holds, and what all that it started hold."""
  below = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(pid)], capture_output=True, text=True).stdout.split()
  held = []
  for child in below:
    try:
      held.append(resident_mib(child))
    except (OSError, AttributeError):  # it ended meanwhile, or has none yet
      continue
  return resident_mib(pid), sum(held)


@pytest.fixture
def serving(tmp_path):
  command = [sys.executable, '-m', 'ecgjax', 'serve', '--port', '0', '--jobs', '2', '--timeout', '120']
  command += ['--weights', 'small']
  with (tmp_path / 'errors').open('w') as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
    url, token = re.match(r'(http://\S+)/#(\S+)', process.stdout.readline()).groups()
    yield process, url, token
    process.terminate()
    assert process.wait(timeout=30) == 0
  assert 'Traceback' not in (tmp_path / 'errors').read_text()


def asker(client, url, token, page, bad):
  """Returns name of a kind of request -> (how to send it, the statuses that may answer it)."""
  whole = io.BytesIO()
  Image.fromarray(np.full((300, 400, 3), 200, np.uint8)).save(whole, 'PNG')
  some = random.Random(len(token))

  def withdrawn():
    host, port = re.match(r'http://(.*):(\d+)', url).groups()
    with socket.create_connection((host, int(port)), timeout=30) as raw:  # says it will send a picture, and goes
      head = f'POST /api/picture HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\ncontent-length: 9999999\r\n\r\n'
      raw.sendall(head.encode() + bytes(5000))
    return httpx.Response(200)

  save = lambda format: client.post('/api/save', params={'format': format}, json=SIGNALS)
  return {
    'layouts': (lambda: client.get('/api/layouts'), {200}),
    'start': (lambda: client.get('/'), {200}),
    'picture': (lambda: client.post('/api/picture', files={'file': whole.getvalue()}), {200}),
    'page': (lambda: client.post('/api/digitize', files={'file': page}), {200}),
    'small': (lambda: client.post('/api/digitize', files={'file': whole.getvalue()}), {422}),
    'bad': (lambda: client.post('/api/digitize', files={'file': some.choice(bad)}), {422}),
    'save': (lambda: save(some.choice(['csv', 'wfdb', 'edf', 'parquet', 'dicom'])), {200}),
    'unknown': (lambda: save('docx'), {422}),
    'broken': (lambda: client.post('/api/save', params={'format': 'csv'}, content=b'{"leads_mv": [[['), {422}),
    'stranger': (lambda: client.get('/api/layouts', headers={'authorization': 'Bearer guess'}), {401}),
    'rebound': (lambda: client.get('/', headers={'host': 'rebound.example'}), {421}),
    'nowhere': (lambda: client.get('/../../etc/passwd'), {404}),
    'withdrawn': (withdrawn, {200}),
  }


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists('/proc/self/status'), reason='memory is read from /proc')
def test_a_thousand_mixed_requests_of_six_clients_are_answered_and_memory_stays(serving, page):
  process, url, token = serving
  picture = io.BytesIO()
  Image.fromarray(page).save(picture, 'PNG')
  kinds = ['page'] * PAGES + random.Random(1).choices(
    ['layouts', 'start', 'picture', 'small', 'bad', 'save', 'unknown', 'broken', 'stranger', 'rebound', 'nowhere', 'withdrawn'],
    k=REQUESTS - PAGES,
  )  # fmt: skip
  random.Random(2).shuffle(kinds)
  bad = [make() for make, _ in BAD.values()]
  waiting, answers, wrong, memory = collections.deque(kinds), collections.Counter(), [], []

  def client():
    with httpx.Client(base_url=url, headers={'authorization': f'Bearer {token}'}, timeout=200) as session:
      ask = asker(session, url, token, picture.getvalue(), bad)
      while waiting:
        kind = waiting.popleft()
        send, allowed = ask[kind]
        while (answer := send()).status_code == 503:  # it says that too many wait
          time.sleep(0.2)
        answers[kind, answer.status_code] += 1
        if answer.status_code not in allowed:
          wrong.append((kind, answer.status_code, answer.text[:200]))

  with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
    working = [clients.submit(client) for _ in range(CLIENTS)]
    while not all(work.done() for work in working):
      memory.append((REQUESTS - len(waiting), *memory_mib(process.pid)))
      time.sleep(1)
    for work in working:
      work.result()
  own, children = np.array([m[1:] for m in memory]).T
  third = len(memory) // 3
  print(dict(answers), [tuple(map(round, m)) for m in memory[:: max(1, len(memory) // 12)]])
  assert not wrong and sum(answers.values()) == REQUESTS and process.poll() is None
  assert own[-third:].max() < own[third:-third].max() + 20 < 400  # of the server itself, MiB
  # a page takes 1 to 2 GiB for a moment, and whether two do at once is chance: the median tells what stays
  assert np.median(children[-third:]) < np.median(children[third:-third]) + 300
