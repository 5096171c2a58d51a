"""`ecgjax doctor` and `ecgjax export`: checks of an installation, and the network for other programs."""

import argparse
import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import time

from ecgjax.ecg.errors import ECGError
from ecgjax.io import atomic
from ecgjax.jobs import hardware

EXTRAS = {
  'cpu': ('openvino', 'onnx'), 'files': ('pypdfium2', 'pillow-heif', 'pydicom', 'wfdb', 'edfio', 'pyarrow', 'pandas', 'matplotlib'),
  'serve': ('fastapi', 'uvicorn', 'python-multipart'),
}  # fmt: skip
SOUND_DB = 20.0  # of the drawn page of the self-test, which reads at 25 to 30


def run(args: argparse.Namespace) -> int:
  """Prints versions, devices, engines, checksums of the weights and a self-test; returns 0 if the self-test passes, else 1."""
  hardware.keep_programs()
  import jax

  import ecgjax
  from ecgjax.locate import initial_guesses
  from ecgjax.networks import inference, shipped, weight_files

  print(f'ecgjax {ecgjax.__version__}, Python {platform.python_version()}, {platform.platform()}')
  for name in ('jax', 'flax', 'numpy', 'pillow'):
    print(f'  {name} {importlib.metadata.version(name)}')
  for extra, names in EXTRAS.items():
    missing = [name for name in names if not _installed(name)]
    print(f'  [{extra}] ' + (f"lacks {', '.join(missing)}: pip install 'ecgjax[{extra}]'" if missing else 'installed'))
  print(f'devices: {", ".join(str(device) for device in jax.devices())}; {os.cpu_count()} cores')
  for path in (*map(shipped.located, shipped.NAMES), initial_guesses.WEIGHTS):
    print(f'weights: {path} sha256 {weight_files.sha256(path)}')
  sound = True
  for name in ('jax', 'openvino'):
    try:
      sound &= _tested(*inference.chosen(name))
    except ImportError as error:
      print(f'engine {name}: {error}')
    except Exception as error:  # whatever is broken here is what this command is to tell
      print(f'engine {name}: NOT AS IT SHOULD BE: {type(error).__name__}: {error}')
      sound = False
  return 0 if sound else 1


def _installed(name: str) -> bool:
  try:
    return bool(importlib.metadata.version(name))
  except importlib.metadata.PackageNotFoundError:
    return False


def _tested(engine: str, precision: str) -> bool:
  """Draws a page, reads it and prints its score; returns whether status and score are as expected."""
  import jax

  from ecgjax.competition import scoring
  from ecgjax.extract import digitizer
  from ecgjax.simulate import validation_set, variants

  mv = validation_set.simulator(validation_set.RATE_HZ)(jax.random.key(0))
  image, *_ = validation_set.take(jax.random.key(1), mv, variants.get('0001'), rate_hz=validation_set.RATE_HZ)
  true, image = validation_set.printed_leads(jax.device_get(mv)), jax.device_get(image)
  reader, seconds = digitizer.load_reader(engine=engine, precision=precision), []
  for _ in range(2):
    start = time.perf_counter()
    found = digitizer.digitize(image, reader=reader)
    seconds.append(time.perf_counter() - start)
  db = scoring.image_report(true, digitizer.finite(found.leads), fs=validation_set.RATE_HZ).db_open
  sound = found.status == 'ok' and db >= SOUND_DB
  print(
    f'engine {engine}, {precision}: a drawn page was read at {db:.1f} dB, status {found.status}, '
    f'in {seconds[0]:.1f} s, then {seconds[1]:.1f} s' + ('' if sound else f'; NOT AS IT SHOULD BE (ok, at least {SOUND_DB:g} dB)')
  )
  return sound


def export(args: argparse.Namespace) -> int:
  """Writes the trace network as ONNX or StableHLO; returns 0."""
  from ecgjax.geometry import layouts
  from ecgjax.networks import backbones, inference, onnx_export, weight_files

  path = pathlib.Path(args.out)
  if path.exists() and not args.overwrite:
    raise ECGError(f'{path} is there; choose another --out or add --overwrite')
  net, params, meta = weight_files.load_network(args.weights, backbones.network, part='strip')
  layout, frame = layouts.make(meta['strip']['layout']), inference.frame(meta)
  shape = len(layout.zeros_px), frame.height_px, frame.width_px
  if args.format == 'onnx':
    data = backbones.onnx_writer(meta['model'], params)(shape=shape)
  else:
    data = onnx_export.stablehlo_bytes(net, params, shape=shape)
  atomic.whole(path, lambda part: part.write_bytes(data))
  print(f'{path}: {len(data):,} bytes, strips {shape} + 5 channels to rows, hidden, classes')
  return 0
