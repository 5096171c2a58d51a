"""The network in other engines: the same scores, and nothing told to anybody."""

import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import known
import numpy as np
import pytest

from ecgjax.cli import command_line
from ecgjax.extract import digitizer, path_decoder
from ecgjax.geometry import lattices
from ecgjax.networks import inference, onnx_export, unet, weight_files
from ecgjax.networks import shipped as shipped_weights

SHAPE, CELL = (4, 640, 256), (4, 8)  # OpenVINO 2026.4.1 ends the process over the half of it, in float32
RNG = np.random.default_rng(0)


@pytest.fixture(scope='module')
def shipped():
  return weight_files.load_network('small', unet.network, part='strip')


@pytest.fixture(scope='module')
def colours():
  return jnp.asarray(RNG.random((*SHAPE, 3), np.float32))


@pytest.fixture(scope='module')
def strips(shipped, colours):
  return np.asarray(lattices.with_coordinates(colours, frame=inference.frame(shipped[2])))


@pytest.fixture(scope='module')
def wanted(shipped, strips):
  net, params, _ = shipped
  return jax.device_get(jax.jit(net.apply)(params, jnp.asarray(strips)))


def close(a, b):
  np.testing.assert_allclose(a, b, atol=2e-4, rtol=1e-5)


def test_the_onnx_graph_is_sound_and_says_what_the_network_says(shipped, strips, wanted):
  import onnx
  from onnx.reference import ReferenceEvaluator

  data = onnx_export.onnx_bytes(shipped[1], cell=CELL, shape=(4, 64, 64))
  onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
  small = strips[:, :64, :64]
  seen = dict(zip(['hidden', 'rows', 'classes'], ReferenceEvaluator(data).run(None, {'strips': small}), strict=True))
  net, params, _ = shipped
  expected = net.apply(params, jnp.asarray(small))
  for name in seen:
    close(seen[name], getattr(expected, name))


def test_openvino_in_float32_says_of_colours_what_jax_says_of_strips_and_decodes_to_the_same_rows(colours, wanted):
  run, _ = inference.load('small', engine='openvino', precision='float32')
  cells = unet.to_depth(colours, run.cell)
  seen = run.scores(cells)
  close(seen.rows, wanted.rows)
  close(seen.hidden, wanted.hidden)
  close(run.classes(cells), wanted.classes)
  rows = [np.asarray(path_decoder.soft_argmax(scores).rows_px) for scores in (seen, wanted)]
  np.testing.assert_allclose(*rows, atol=1e-2)


def test_bfloat16_moves_the_rows_of_a_page_by_a_fiftieth_of_a_px(shipped, page):
  if inference.chosen('openvino') != ('openvino', 'bfloat16'):
    pytest.skip('this CPU has no bfloat16')
  frame = inference.frame(shipped[2])
  cut = lattices.cut(page, lattices.page_lattice(), layout=known.PAGE, frame=frame, window=(1000, 512), cell=CELL)
  exact, quick = (inference.load('small', engine='openvino', precision=p)[0].scores(cut) for p in ('float32', 'bfloat16'))
  exact, quick = (path_decoder.soft_argmax(scores) for scores in (exact, quick))
  off_px = np.asarray(exact.rows_px - quick.rows_px)[np.asarray(exact.visible) > 0.5]
  assert len(off_px) > 1000 and 0 < np.sqrt((off_px**2).mean()) < 0.02


def test_the_jax_engine_is_the_network_itself(strips, wanted):
  run, meta = inference.load('small', engine='jax')
  assert (run.name, run.precision, run.cell) == ('jax', 'float32', None)
  close(run.scores(jnp.asarray(strips)).rows, wanted.rows)
  close(run.classes(jnp.asarray(strips)), wanted.classes)
  assert meta['strip']['layout'] == '3x4+II'


def test_stablehlo_is_read_back_and_says_the_same(shipped, strips):
  from jax import export as jax_export

  net, params, _ = shipped
  small = jnp.asarray(strips[:, :64, :64])
  back = jax_export.deserialize(bytearray(onnx_export.stablehlo_bytes(net, params, shape=(4, 64, 64))))
  assert back.platforms == ('cpu', 'cuda', 'tpu')
  close(back.call(small)['rows'], net.apply(params, small).rows)


def test_openvino_is_kept_from_telling_its_maker_of_every_import():
  code = (
    'import os, sys, multiprocessing.popen_fork as f\n'
    'f.Popen._launch = lambda *a: sys.exit("a process was started")\n'
    'from ecgjax.networks import inference\n'
    'inference.load("small", engine="openvino")\n'
    'print("openvino" in sys.modules, bool(sys.modules.get("openvino_telemetry")))'
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
  assert done.stdout.split() == ['True', 'False'], done.stderr


def test_an_engine_that_is_not_there_is_refused_and_auto_goes_without_it(monkeypatch):
  with pytest.raises(ValueError, match='tensorrt'):
    inference.chosen('tensorrt')
  with pytest.raises(ValueError, match='int8'):
    inference.chosen('auto', precision='int8')
  assert inference.chosen('auto')[0] == ('openvino' if jax.default_backend() == 'cpu' else 'jax')
  find = inference.importlib.util.find_spec
  monkeypatch.setattr(inference.importlib.util, 'find_spec', lambda name: None if name == 'openvino' else find(name))
  assert inference.chosen('auto') == ('jax', 'float32')
  assert inference.chosen('auto', precision='bfloat16') == ('jax', 'bfloat16')
  with pytest.raises(ImportError, match=r"pip install 'ecgjax\[cpu\]'"):
    inference.chosen('openvino')


def test_a_cpu_without_bfloat16_computes_in_float32_and_says_so_where_bfloat16_is_asked_for(monkeypatch):
  class Plain:
    def get_property(self, device, name):
      return ['FP32', 'INT8']

  monkeypatch.setattr(inference, '_openvino', Plain)
  assert inference.chosen('openvino') == inference.chosen('openvino', precision='float32') == ('openvino', 'float32')
  with pytest.raises(ValueError, match='this CPU has no bfloat16 arithmetic .*; take auto or float32'):
    inference.chosen('openvino', precision='bfloat16')


def test_weights_are_chosen_by_name_or_by_path_and_an_unknown_one_names_those_that_ship(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name in shipped_weights.NAMES:
    (tmp_path / name).write_bytes(b'')
    assert shipped_weights.located(name).parent == shipped_weights.FOLDER  # whatever lies here
    assert shipped_weights.located(f'./{name}') == pathlib.Path(name)
  with pytest.raises(ValueError, match='no weights file large; give --weights, .* base or small, or the path of a file'):
    shipped_weights.located('large')


def test_the_command_writes_a_graph_of_whole_pages_and_overwrites_nothing_unasked(tmp_path):
  import onnx

  path = tmp_path / 'trace.onnx'
  assert command_line.main(['export', '-o', str(path), '--weights', 'small']) == 0
  graph = onnx.load(path).graph
  sizes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.input, *graph.output)}
  assert sizes == {'strips': [4, 640, 5248, 5], 'rows': [4, 640, 5248], 'hidden': [4, 5248], 'classes': [4, 640, 5248, 4]}
  assert command_line.main(['export', '-o', str(path)]) == 2


@pytest.mark.slow
def test_doctor_reads_a_drawn_page_with_every_engine():
  done = subprocess.run([sys.executable, '-m', 'ecgjax', 'doctor'], capture_output=True, text=True, timeout=600)
  assert done.returncode == 0, done.stdout + done.stderr
  assert all(re.search(f'engine {name}, \\w+: a drawn page was read at ', done.stdout) for name in ('jax', 'openvino'))


@pytest.mark.slow
@pytest.mark.parametrize('variant', ['0001', '0005', '0012'])
def test_pages_are_read_alike_by_both_engines_within_a_fiftieth_of_a_db(variant):
  from ecgjax.competition import scoring
  from ecgjax.simulate import validation_set

  case = validation_set.case(validation_set.recordings('', count=1)[0], variant, 0)

  def db(name):
    reader = digitizer.load_reader('small', engine=name, precision='float32')
    found = digitizer.digitize(case.image, reader=reader, fs=validation_set.RATE_HZ, lattice=case.lattice)
    return scoring.image_report(case.leads, digitizer.finite(found.leads), fs=validation_set.RATE_HZ).db_open

  assert db('openvino') == pytest.approx(db('jax'), abs=0.02)
