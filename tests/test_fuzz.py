"""Bytes that somebody damaged, or made up: every reader gives what it promises or says why not, and nothing else is raised.

ECGJAX_FUZZ=10000 pytest tests/test_fuzz.py looks for so many examples of each kind, other ones each time.
"""

import io
import json
import lzma
import os
import urllib.parse

import httpx
import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from test_pictures import BAD, FILES

from ecgjax import checkpoint, folder, model, packs, submit
from ecgjax.io import pictures
from ecgjax.layout import LEADS

LONG = int(os.environ.get('ECGJAX_FUZZ', '0'))
some = settings(
  max_examples=LONG or 40, derandomize=not LONG, database=None, deadline=None,
  suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
BYTES = (b'', b'\0', b'\xff' * 4, b'\x7f\xff\xff\xff', b'\0' * 64)
WORDS = (*BYTES, b'\n', b',', b'-', b'nan', b'1e999', b'99999999999', b'"', b'\xc3', b'[[', b'{}')
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 64), st.sampled_from(WORDS) | st.binary(max_size=8)), min_size=1, max_size=6)


def damaged(data: bytes, changes) -> bytes:
  """`data` with pieces replaced: at a share of its length, so many bytes by others."""
  for share, length, by in changes:
    at = round(share * len(data))
    data = data[:at] + by + data[at + length :]
  return data


MAKE = FILES | {kind: make for kind, (make, _) in BAD.items() if 'bomb' not in kind and 'long' not in kind}
SEEDS = {kind: make() for kind, make in MAKE.items()}


@pytest.mark.parametrize('kind', SEEDS)
@some
@given(changes=edits)
def test_a_picture_is_read_or_refused(kind, changes):
  try:
    image = pictures.open_bytes(damaged(SEEDS[kind], changes)).read(0)
  except pictures.Unreadable as error:
    assert str(error)
  else:
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and 0 not in image.shape


@some
@given(data=st.binary(max_size=400))
def test_bytes_are_no_picture_or_one(data):
  with pytest.raises(pictures.Unreadable):
    pictures.open_bytes(data).read(0)


def refused_or(read, path, data):
  """What `read` makes of a file, or None where it refuses it with a sentence that names it."""
  path.write_bytes(data)
  try:
    return read(path)
  except ValueError as error:
    assert str(error) and 'Traceback' not in str(error)
    return None


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  path, config = tmp_path_factory.mktemp('weights') / 'w.safetensors', {'widths': (8, 8), 'cell': (4, 8), 'dtype': 'float32'}
  shapes = jax.eval_shape(model.network(**config).init, jax.random.key(0))
  checkpoint.save_weights(path, jax.tree.map(lambda a: np.zeros(a.shape, np.float32), shapes), meta={'model': config, 'strip': {}})
  return path.read_bytes()


@some
@given(changes=edits, inside=st.booleans())
def test_weights_are_loaded_or_refused(weights, tmp_path, changes, inside):
  head = 8 + int.from_bytes(weights[:8], 'little')  # its JSON says what the numbers are: damage there tells more
  data = weights[:8] + damaged(weights[8:head], changes) + weights[head:] if inside else damaged(weights, changes)
  if inside:
    data = (len(data) - 8 - len(weights[head:])).to_bytes(8, 'little') + data[8:]
  found = refused_or(lambda path: checkpoint.load_network(path, model.network, part='strip'), tmp_path / 'w.safetensors', data)
  assert found is None or set(found[2]) >= {'model', 'strip'}


@some
@given(changes=edits)
def test_what_weights_say_of_themselves_is_understood_or_refused(tmp_path, changes):
  said = json.dumps({'model': {'widths': [8, 8], 'cell': [4, 8], 'dtype': 'float32'}, 'strip': {}})
  data = save({'w': np.zeros(3, np.float32)}, {'meta': damaged(said.encode(), changes).decode(errors='replace')})
  assert refused_or(lambda path: checkpoint.load_network(path, model.network, part='strip'), tmp_path / 'w', data) is None


def packed(records) -> bytes:
  buffer = io.BytesIO()
  np.save(buffer, np.zeros((records, 8, packs.SAMPLES), np.int16))
  return buffer.getvalue()


@some
@given(changes=edits, inside=st.booleans())
def test_a_pack_is_loaded_or_refused(tmp_path, changes, inside):
  raw = packed(1)
  data = lzma.compress(damaged(raw, changes)) if inside else damaged(lzma.compress(raw), changes)
  pack = refused_or(packs.load_pack, tmp_path / 'p.npy.xz', data)
  assert pack is None or (pack.dtype == np.int16 and pack.shape[1:] == (8, packs.SAMPLES))


TRAIN = b'id,fs,sig_len\n1,500,5000\n2,250,2500\n'
RECORD = (','.join(LEADS) + '\n' + '\n'.join(','.join(['0.1'] * 12) for _ in range(20)) + '\n').encode()
TEST = b'id,lead,fs,number_of_rows\n' + b''.join(b'7,%s,500,%d\n' % (lead.encode(), 5000 if lead == 'II' else 1250) for lead in LEADS)


@some
@given(changes=edits)
def test_a_list_of_records_is_read_or_refused(tmp_path, changes):
  found = refused_or(folder.read_train_csv, tmp_path / 'train.csv', damaged(TRAIN, changes))
  assert found is None or all(fs > 0 and n > 0 for fs, n in found.values())


@some
@given(changes=edits)
def test_a_record_is_read_or_refused(tmp_path, changes):
  found = refused_or(lambda path: folder.read_record_csv(path, fs=2), tmp_path / 'r.csv', damaged(RECORD, changes))
  assert found is None or all(np.isfinite(mv).all() for mv in found.values())


@some
@given(changes=edits)
def test_what_a_submission_wants_is_read_or_refused(tmp_path, changes):
  found = refused_or(submit.read_test_csv, tmp_path / 'test.csv', damaged(TEST, changes))
  assert found is None or all(fs > 0 and rows > 0 for wanted in found for fs, rows in wanted.leads.values())


numbers = st.floats() | st.integers(-(10**9), 10**9) | st.sampled_from([0.0, 1.0, 500.0, -1.0, 1e300])
plain = st.none() | st.booleans() | numbers | st.text(max_size=8)
inside = lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
anything = st.recursive(plain, inside, max_leaves=12)
lead = st.sampled_from(LEADS) | st.text(max_size=4)
bodies = st.fixed_dictionaries({}, optional={
  'leads_mv': st.dictionaries(lead, st.lists(st.none() | numbers, max_size=6), max_size=3) | anything,
  'start_s': st.dictionaries(lead, numbers, max_size=3) | anything,
  'seconds': st.just(1.0) | anything, 'fs_hz': st.just(500.0) | anything,
})  # fmt: skip
saves = st.fixed_dictionaries({
  'format': st.sampled_from(['csv', 'wfdb', 'edf', 'parquet', 'dicom']) | st.text(max_size=5), 'name': st.text(max_size=200),
})  # fmt: skip
TOLD = (
  '', 'abc', '[1', '[[1, 2], [3, 4], [5, 6], [7, 8]]', '[[1, 2], [3]]', 'null', 'NaN', '[NaN]', '{"a": 1}', '-1', '0', '1e999', '[' * 9999,
)  # fmt: skip
words = st.sampled_from(TOLD) | anything.map(json.dumps) | st.text(max_size=12)
fields = st.sampled_from(['corners', 'lattice', 'page', 'fs', 'layout', 'speed', 'gain'])
forms = st.tuples(fields, words).map(lambda pair: dict([pair]))  # of several, the first that is wrong would hide the others
names = st.sampled_from(['authorization', 'host', 'cookie', 'origin', 'accept-encoding', 'range'])


@pytest.fixture(scope='module')
def served(site):
  return site.url, site.token


def sent(served, method, path, *, headers=(), **options):
  """Asks the server, and sees that it did not fall over: it says 500 then."""
  headers = {'authorization': f'Bearer {served[1]}', **dict(headers)}
  answer = httpx.request(method, f'{served[0]}{path}', headers=headers, timeout=60, **options)
  assert 200 <= answer.status_code < 500, answer.text
  return answer


@some
@given(body=bodies, params=saves, changes=edits, cut=st.booleans())
def test_whatever_is_to_be_saved_is_saved_or_refused(served, body, params, changes, cut):
  content = damaged(json.dumps(body).encode(), changes) if cut else json.dumps(body).encode()
  answer = sent(served, 'POST', '/api/save', params=params, content=content, headers={'content-type': 'application/json'})
  assert answer.status_code == 200 or answer.json()['detail']


@some
@given(form=forms, changes=edits, whole=st.booleans())
def test_whatever_is_asked_of_a_picture_is_answered_or_refused(served, form, changes, whole):
  data = SEEDS['png'] if whole else damaged(SEEDS['png'], changes)
  answer = sent(served, 'POST', '/api/digitize', data=form, files={'file': ('page.png', data)})
  assert answer.status_code == 200 or answer.json()['detail']


@some
@given(path=st.text(max_size=30), headers=st.dictionaries(names, st.text('ab:/ 1', max_size=12)))
def test_whatever_way_it_is_asked_the_server_answers(served, path, headers):
  sent(served, 'GET', f'/{urllib.parse.quote(path)}', headers={k: v.strip() for k, v in headers.items()})
