"""Bytes that somebody damaged, or made up: every reader gives what it promises or says why not, and nothing else is raised.

ECGJAX_FUZZ=10000 pytest tests/test_fuzz.py looks for so many examples of each kind, other ones each time; `fuzz.py` goes by coverage.
"""

import functools
import io
import json
import lzma
import os
import pathlib
import runpy
import tarfile
import tempfile
import urllib.parse

import fuzz
import httpx
import jax
import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from test_images import BAD, FILES

from ecgjax.ecg import packs
from ecgjax.ecg.leads import LEADS
from ecgjax.io import images
from ecgjax.networks import backbones, page_net, unet, weight_files
from ecgjax.training import sharding, tasks, train_step

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
OPTIONS = (
  '-o', 'out', '--fs', '--jobs', '--gain', '--format', 'csv', 'edf,', '--shard', '1/2', '--corners=1,2', '--timeout', '--',
  '0', '1e9', 'nan',
)  # fmt: skip


@pytest.mark.parametrize('kind', SEEDS)
@some
@given(changes=edits)
def test_a_picture_is_read_or_refused(kind, changes):
  fuzz.picture(damaged(SEEDS[kind], changes))


@some
@given(data=st.binary(max_size=400))
def test_bytes_are_no_picture_or_one(data):
  with pytest.raises(images.Unreadable):
    images.open_bytes(data).read(0)


@functools.cache
def small_weights() -> bytes:
  config = {'widths': (8, 8), 'cell': (4, 8), 'dtype': 'float32'}
  shapes = jax.eval_shape(unet.network(**config).init, jax.random.key(0))
  with tempfile.TemporaryDirectory() as out:
    path = pathlib.Path(out) / 'w.safetensors'
    weight_files.save_weights(path, jax.tree.map(lambda a: np.zeros(a.shape, np.float32), shapes), meta={'model': config, 'strip': {}})
    return path.read_bytes()


@some
@given(changes=edits, inside=st.booleans())
def test_weights_are_loaded_or_refused(changes, inside):
  weights = small_weights()
  head = 8 + int.from_bytes(weights[:8], 'little')  # its JSON says what the numbers are: damage there tells more
  data = weights[:8] + damaged(weights[8:head], changes) + weights[head:] if inside else damaged(weights, changes)
  if inside:
    data = (len(data) - 8 - len(weights[head:])).to_bytes(8, 'little') + data[8:]
  fuzz.weights(data)


SAID = json.dumps({'model': {'widths': [8, 8], 'cell': [4, 8], 'dtype': 'float32'}, 'strip': {}}).encode()


@some
@given(changes=edits)
def test_what_weights_say_of_themselves_is_understood_or_refused(changes):
  fuzz.said_of_weights(damaged(SAID, changes))


def packed(records) -> bytes:
  buffer = io.BytesIO()
  np.save(buffer, np.zeros((records, 8, packs.SAMPLES), np.int16))
  return buffer.getvalue()


@some
@given(changes=edits, inside=st.booleans())
def test_a_pack_is_loaded_or_refused(changes, inside):
  raw = packed(1)
  fuzz.unpacked(damaged(raw, changes)) if inside else fuzz.pack(damaged(lzma.compress(raw), changes))


TRAIN = b'id,fs,sig_len\n1,500,5000\n2,250,2500\n'
RECORD = (','.join(LEADS) + '\n' + '\n'.join(','.join(['0.1'] * 12) for _ in range(20)) + '\n').encode()
TEST = b'id,lead,fs,number_of_rows\n' + b''.join(b'7,%s,500,%d\n' % (lead.encode(), 5000 if lead == 'II' else 1250) for lead in LEADS)


@some
@given(changes=edits)
def test_a_list_of_records_is_read_or_refused(changes):
  fuzz.train_csv(damaged(TRAIN, changes))


@some
@given(changes=edits)
def test_a_record_is_read_or_refused(changes):
  fuzz.record_csv(damaged(RECORD, changes))


@some
@given(changes=edits)
def test_what_a_submission_wants_is_read_or_refused(changes):
  fuzz.test_csv(damaged(TEST, changes))


def tarred(mode: str) -> bytes:
  out = io.BytesIO()
  with tarfile.open(fileobj=out, mode=mode) as tar:
    for name in ('1.png', '1.json', 'a/2.png'):
      info = tarfile.TarInfo(name)
      info.size = 40
      tar.addfile(info, io.BytesIO(bytes(40)))
  return out.getvalue()


def tabled() -> bytes:
  out = io.BytesIO()
  parquet.write_table(pyarrow.table({'image': [b'one', b'two', None], 'label': [1, 2, 3]}), out, row_group_size=2)
  return out.getvalue()


TARS, PARQUET = {mode: tarred(mode) for mode in ('w', 'w:gz', 'w:xz')}, tabled()


@pytest.mark.parametrize('mode', TARS)
@some
@given(changes=edits)
def test_the_members_of_a_tar_are_read_or_it_is_said_why_not(mode, changes):
  fuzz.tar(damaged(TARS[mode], changes))


@some
@given(changes=edits)
def test_the_rows_of_a_parquet_file_are_read_or_it_is_said_why_not(changes):
  fuzz.parquet(damaged(PARQUET, changes))


@some
@given(first=st.sampled_from(['digitize', 'archive']), rest=st.lists(st.sampled_from(OPTIONS) | st.text(max_size=8), max_size=6))
def test_a_command_line_is_understood_or_refused(first, rest):
  fuzz.words('\0'.join([first, *rest]).encode(errors='replace'))


def configs(variant):
  root = pathlib.Path(__file__).resolve().parents[1] / 'configs'
  return {name: runpy.run_path(str(root / f'{name}.py'))['get_config'](variant) for name in ('unet', 'page', 'finetune')}


SOUND = configs('debug')
ARE_NUMBERS = lambda value: type(value) in (int, float) or (type(value) is tuple and value and type(value[0]) is int)
NUMBERS = {name: [key for key, value in tasks._flat(c).items() if ARE_NUMBERS(value)] for name, c in SOUND.items()}
whole = st.sampled_from([0, -1, 1, 2, 3, 7, 64, 10**9, 10**20, -(10**20)])
real = st.floats() | st.sampled_from([0.0, 1.0, 0.5, 2.0, 1e-30])


def test_every_number_of_every_config_has_its_limits_and_is_within():
  for name, c in SOUND.items():
    tasks.check(c)
    assert {key.split('.')[-1] if key.startswith('evals.') else key for key in NUMBERS[name]} <= set(tasks.LIMITS), name


@settings(some, max_examples=LONG or 200)
@given(name=st.sampled_from(sorted(SOUND)), data=st.data())
def test_a_config_trains_or_is_refused_by_the_name_of_its_option(name, data):
  c = SOUND[name].copy_and_resolve_references()
  option = data.draw(st.sampled_from(NUMBERS[name]))
  old = tasks._flat(c)[option]
  drawn = whole if isinstance(old, int) else real if isinstance(old, float) else st.lists(whole, max_size=4).map(tuple)
  c.update_from_flattened_dict({option: data.draw(drawn)})
  try:
    tasks.check(c)
    sharding.data_mesh(batch_size=c.batch_size, accumulate=c.accumulate, width_shards=c.width_shards)
    train_step.make_draw(lambda key, item: item, together=c.data.together, accumulate=c.accumulate)
    tx, shapes = train_step.optimiser(**c.optim), _shapes(c.task, c.model.to_json(), c.get('remat', False))
    if option.startswith(('model', 'optim')):
      jax.eval_shape(tx.init, shapes)
  except ValueError as error:
    assert str(error).startswith('config.') or 'config.' in str(error), error


@functools.cache
def _shapes(task, config, remat):
  settings = json.loads(config)
  net = backbones.network(**settings, remat=remat) if task == 'trace' else page_net.network(**settings)
  return jax.eval_shape(net.init, jax.random.key(0))


@pytest.mark.parametrize('path', sorted(fuzz.CORPUS.glob('*/*')), ids=lambda path: f'{path.parent.name}/{path.name}')
def test_what_once_broke_a_reader_is_read_or_refused(path):
  fuzz.READERS[path.parent.name](path.read_bytes())


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
SAVED = {'leads_mv': {'I': [0.1, None]}, 'start_s': {'I': 0.0}, 'seconds': 1.0, 'fs_hz': 500.0}
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
