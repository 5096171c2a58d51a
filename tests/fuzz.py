"""What may be done with bytes that somebody damaged, or made up: read them, or refuse them with a sentence. Nothing else is raised.

python tests/fuzz.py picture --seconds 600 looks for bytes that break this, guided by coverage (needs atheris, Linux). What it finds it
writes down; mend it, and put the bytes to tests/corpus/<reader>/, where tests/test_fuzz.py keeps them.
"""

import argparse
import asyncio
import contextlib
import functools
import io
import json
import lzma
import pathlib
import sys
import tempfile
import urllib.parse
from collections.abc import Callable

CORPUS = pathlib.Path(__file__).with_name('corpus')


@functools.cache
def scratch():
  return tempfile.TemporaryDirectory(prefix='ecgjax-fuzz-')


def errors():
  from ecgjax.ecg import errors  # when it is asked: a fuzzer instruments the package first

  return errors


def refused_or(read: Callable, data: bytes):
  """What `read` makes of a file of these bytes, or None where it refuses them with a sentence."""
  path = pathlib.Path(scratch().name) / 'file'
  path.write_bytes(data)
  try:
    return read(path)
  except errors().ECGError as error:
    assert str(error) and 'Traceback' not in str(error)
    return None


def picture(data: bytes) -> None:
  import numpy as np

  from ecgjax.io import images

  try:
    image = images.open_bytes(data).read(0)
  except images.Unreadable as error:
    assert str(error)
  else:
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and 0 not in image.shape


def weights(data: bytes) -> None:
  from ecgjax.networks import unet, weight_files

  found = refused_or(lambda path: weight_files.load_network(path, unet.network, part='strip'), data)
  assert found is None or set(found[2]) >= {'model', 'strip'}


def said_of_weights(data: bytes) -> None:
  """The bytes are what a weights file says of itself."""
  import numpy as np
  from safetensors.numpy import save

  weights(save({'w': np.zeros(3, np.float32)}, {'meta': data.decode(errors='replace')}))


def pack(data: bytes) -> None:
  import numpy as np

  from ecgjax.ecg import packs

  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'p.npy.xz'
    path.write_bytes(data)
    found = refused_or(lambda _: packs.load_pack(path), b'')
  assert found is None or (found.dtype == np.int16 and found.shape[1:] == (8, packs.SAMPLES))


def unpacked(data: bytes) -> None:
  """The bytes are what is compressed in a pack."""
  pack(lzma.compress(data, preset=0))


def train_csv(data: bytes) -> None:
  from ecgjax.competition import data_folder

  found = refused_or(data_folder.read_train_csv, data)
  assert found is None or all(fs > 0 and n > 0 for fs, n in found.values())


def record_csv(data: bytes) -> None:
  import numpy as np

  from ecgjax.competition import data_folder

  found = refused_or(lambda path: data_folder.read_record_csv(path, fs=2), data)
  assert found is None or all(np.isfinite(mv).all() for mv in found.values())


def test_csv(data: bytes) -> None:
  from ecgjax.competition import submission

  found = refused_or(submission.read_test_csv, data)
  assert found is None or all(fs > 0 and rows > 0 for wanted in found for fs, rows in wanted.leads.values())


def _members(data: bytes, kind: str) -> None:
  from ecgjax.archive import containers, listing

  path = pathlib.Path(scratch().name) / f'a.{kind}'
  path.write_bytes(data)
  names = [member.name for member in containers.members(listing.Origin(str(path), len(data), kind), wanted=lambda _: True)]
  assert len(names) == len(set(names))  # or two rows would have one place


def tar(data: bytes) -> None:
  _members(data, 'tar')


def parquet(data: bytes) -> None:
  _members(data, 'parquet')


def words(data: bytes) -> None:
  """The bytes are words of a command line, parted by zeros."""
  from ecgjax.archive import command
  from ecgjax.cli import command_line, digitize
  from ecgjax.ecg.errors import ECGError

  with contextlib.suppress(SystemExit, ECGError), contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
    args = command_line.parser().parse_args(data.decode(errors='replace').split('\0'))
    digitize.options(args) if args.command == 'digitize' else command.shard(getattr(args, 'shard', None) or '')


class _Now:
  """Does at once what a child would."""

  def schedule(self, function, *, args, kwargs, timeout):
    import concurrent.futures

    future = concurrent.futures.Future()
    try:
      future.set_result(function(*args, **kwargs))
    except Exception as error:
      future.set_exception(error)
    return future


@functools.cache
def _transport():
  import httpx

  from ecgjax.serve import api, handlers

  return httpx.ASGITransport(api.make(_Now(), limit_s=60, defaults=handlers.DigitizeRequest()))


def request(data: bytes) -> None:
  """The bytes are a path, a zero, and a body of JSON."""
  import httpx

  path, _, body = data.partition(b'\0')
  where = 'http://localhost/api/' + urllib.parse.quote(path, safe='/?&=')

  async def sent():
    async with httpx.AsyncClient(transport=_transport()) as client:
      return await client.post(where, content=body, headers={'content-type': 'application/json'})

  answer = asyncio.run(sent())
  assert answer.status_code < 500, answer.text


def seeds(reader: str) -> list[bytes]:
  """Returns sound bytes of a reader, from which to begin."""
  import test_fuzz

  table = {
    'picture': list(test_fuzz.SEEDS.values()), 'said_of_weights': [test_fuzz.SAID], 'pack': [lzma.compress(test_fuzz.packed(1))],
    'unpacked': [test_fuzz.packed(1)], 'train_csv': [test_fuzz.TRAIN], 'record_csv': [test_fuzz.RECORD], 'test_csv': [test_fuzz.TEST],
    'tar': list(test_fuzz.TARS.values()), 'parquet': [test_fuzz.PARQUET], 'weights': [test_fuzz.small_weights()],
    'words': [b'digitize\0a.png\0-o\0out\0--corners=1,2,3,4,5,6,7,8', b'archive\0a\0b\0--shard\x001/8'],
    'request': [b'save?format=csv\0' + json.dumps(test_fuzz.SAVED).encode()],
  }  # fmt: skip
  return table[reader]


READERS = {
  f.__name__: f
  for f in (picture, weights, said_of_weights, pack, unpacked, train_csv, record_csv, test_csv, tar, parquet, words, request)
}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('reader', choices=READERS)
  parser.add_argument('--seconds', type=int, default=600)
  parser.add_argument('--out', default='runs/fuzz', help='folder for what is found')
  args = parser.parse_args()
  import atheris

  out = pathlib.Path(args.out) / args.reader
  (out / 'seen').mkdir(parents=True, exist_ok=True)
  for n, data in enumerate(seeds(args.reader)):
    (out / 'seen' / f'seed-{n}').write_bytes(data)
  known = [str(CORPUS / args.reader)] if (CORPUS / args.reader).is_dir() else []
  for name in [name for name in sys.modules if name.split('.')[0] in ('ecgjax', 'PIL', 'tarfile', 'fsspec', 'pydicom')]:
    del sys.modules[name]  # the seeds have brought them in: now with counters
  with atheris.instrument_imports(include=['ecgjax', 'PIL', 'tarfile', 'fsspec', 'pydicom', 'pypdfium2', 'fastapi', 'starlette']):
    READERS[args.reader](b'')  # each imports what it needs
    READERS[args.reader](seeds(args.reader)[0])
  options = [f'-max_total_time={args.seconds}', f'-artifact_prefix={out}/', '-timeout=60', '-rss_limit_mb=8000']
  atheris.Setup([sys.argv[0], *options, str(out / 'seen'), *known], READERS[args.reader])
  atheris.Fuzz()


if __name__ == '__main__':
  main()
