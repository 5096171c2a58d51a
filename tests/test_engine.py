"""The network in other engines: the same scores, and nothing told to anybody."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax import checkpoint, cli, decode, engine, export, model, reading

SHAPE = (4, 640, 128)
RNG = np.random.default_rng(0)


@pytest.fixture(scope='module')
def shipped():
  return checkpoint.load_network(reading.WEIGHTS, model.network, part='strip')


@pytest.fixture(scope='module')
def strips():
  return RNG.random((*SHAPE, model.CHANNELS), np.float32)


@pytest.fixture(scope='module')
def wanted(shipped, strips):
  net, params, _ = shipped
  return jax.device_get(jax.jit(net.apply)(params, jnp.asarray(strips)))


def close(a, b):
  np.testing.assert_allclose(a, b, atol=2e-4, rtol=1e-5)


def test_the_onnx_graph_is_sound_and_says_what_the_network_says(shipped, strips, wanted):
  import onnx
  from onnx.reference import ReferenceEvaluator

  data = export.onnx_bytes(shipped[1], cell=(4, 8), shape=(4, 64, 64))
  onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
  small = strips[:, :64, :64]
  seen = dict(zip(['hidden', 'rows', 'classes'], ReferenceEvaluator(data).run(None, {'strips': small}), strict=True))
  net, params, _ = shipped
  told = net.apply(params, jnp.asarray(small))
  for name in seen:
    close(seen[name], getattr(told, name))


def test_openvino_says_what_jax_says_and_decodes_to_the_same_rows(strips, wanted):
  run, _ = engine.load(reading.WEIGHTS, engine='openvino')
  seen = run(jnp.asarray(strips))
  close(seen.rows, wanted.rows)
  close(seen.hidden, wanted.hidden)
  rows = [np.asarray(decode.soft_argmax(scores).rows_px) for scores in (seen, wanted)]
  np.testing.assert_allclose(*rows, atol=1e-2)


def test_the_jax_engine_is_the_network_itself(strips, wanted):
  run, meta = engine.load(reading.WEIGHTS, engine='jax')
  close(run(jnp.asarray(strips)).rows, wanted.rows)
  assert meta['strip']['layout'] == '3x4+II'


def test_stablehlo_is_read_back_and_says_the_same(shipped, strips):
  from jax import export as jax_export

  net, params, _ = shipped
  small = jnp.asarray(strips[:, :64, :64])
  back = jax_export.deserialize(bytearray(export.stablehlo_bytes(net, params, shape=(4, 64, 64))))
  assert back.platforms == ('cpu', 'cuda', 'tpu')
  close(back.call(small)['rows'], net.apply(params, small).rows)


def test_openvino_is_kept_from_telling_its_maker_of_every_import():
  code = (
    'import os, sys, multiprocessing.popen_fork as f\n'
    'f.Popen._launch = lambda *a: sys.exit("a process was started")\n'
    'from ecgjax import engine, reading\n'
    'engine.load(reading.WEIGHTS, engine="openvino")\n'
    'print("openvino" in sys.modules, bool(sys.modules.get("openvino_telemetry")))'
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
  assert done.stdout.split() == ['True', 'False'], done.stderr


def test_an_engine_that_is_not_there_is_refused_and_auto_goes_without_it(monkeypatch):
  with pytest.raises(ValueError, match='tensorrt'):
    engine.chosen('tensorrt')
  assert engine.chosen('auto') == ('openvino' if jax.default_backend() == 'cpu' else 'jax')
  find = engine.importlib.util.find_spec
  monkeypatch.setattr(engine.importlib.util, 'find_spec', lambda name: None if name == 'openvino' else find(name))
  assert engine.chosen('auto') == 'jax'
  with pytest.raises(ImportError, match=r"pip install 'ecgjax\[cpu\]'"):
    engine.chosen('openvino')


def test_the_command_writes_a_graph_of_whole_pages_and_overwrites_nothing_unasked(tmp_path):
  import onnx

  path = tmp_path / 'trace.onnx'
  assert cli.main(['export', '-o', str(path)]) == 0
  graph = onnx.load(path).graph
  sizes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.input, *graph.output)}
  assert sizes == {'strips': [4, 640, 5248, 5], 'rows': [4, 640, 5248], 'hidden': [4, 5248], 'classes': [4, 640, 5248, 4]}
  assert cli.main(['export', '-o', str(path)]) == 2


@pytest.mark.slow
def test_doctor_reads_a_drawn_page_with_every_engine():
  done = subprocess.run([sys.executable, '-m', 'ecgjax', 'doctor'], capture_output=True, text=True, timeout=600)
  assert done.returncode == 0, done.stdout + done.stderr
  assert all(f'engine {name}: a drawn page was read at ' in done.stdout for name in ('jax', 'openvino'))


@pytest.mark.slow
@pytest.mark.parametrize('variant', ['0001', '0005', '0012'])
def test_pages_are_read_alike_by_both_engines_within_a_fiftieth_of_a_db(variant):
  from ecgjax import metrics, simval

  case = simval.case(simval.recordings('', count=1)[0], variant, 0)

  def db(name):
    found = reading.digitize(case.image, reader=reading.reader(engine=name), fs=simval.RATE_HZ, lattice=case.lattice)
    return metrics.image_report(case.leads, reading.finite(found.leads), fs=simval.RATE_HZ).db_open

  assert db('openvino') == pytest.approx(db('jax'), abs=0.02)
