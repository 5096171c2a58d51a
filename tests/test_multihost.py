"""Several hosts against one: processes of this machine, each with devices and a disk of its own."""

import contextlib
import json
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from test_train import ROOT, environment, losses, sentence, states
from test_train import run as run_alone

from ecgjax.training import multihost

TRAIN = """
import pathlib, runpy, sys
from ml_collections import ConfigDict
from ecgjax.training import loop, multihost
multihost.join(sys.argv[2])
multihost.AGREE_EVERY = 1
c = runpy.run_path('configs/unet.py')['get_config']('debug')
c.batch_size, c.evals, c.total_steps = 8, ConfigDict(), 5
loop.train(c, pathlib.Path(sys.argv[1]))
"""


def address():
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    return f'127.0.0.1:{free.getsockname()[1]}'


def start(workdir, spec, *, devices, cache):
  return subprocess.Popen(
    [sys.executable, '-c', TRAIN, str(workdir), spec], cwd=ROOT, env=environment(devices=devices, cache=cache), stderr=subprocess.PIPE,
    text=True,
  )  # fmt: skip


def together(folders, *, cache, stop_after=None):
  """Trains on as many hosts as folders, each with 4 devices; one but the first may be told to stop once the first has done a step."""
  at, said = address(), []
  with contextlib.ExitStack() as stack:
    started = [start(folder, f'{at},{len(folders)},{rank}', devices=4, cache=cache) for rank, folder in enumerate(folders)]
    processes = [stack.enter_context(process) for process in started]
    for line in processes[0].stderr:
      said.append(line)
      if stop_after and line.startswith(f'step {stop_after}/'):
        processes[-1].send_signal(signal.SIGTERM)
    errors = [process.communicate(timeout=300)[1] for process in processes[1:]]
  assert [process.returncode for process in processes] == [0] * len(folders), (said, errors)
  return ''.join(said)


@pytest.mark.slow
def test_two_hosts_stop_together_resume_from_the_first_ones_disk_and_end_with_the_losses_of_one(tmp_path, compiled):
  alone, first, second = (tmp_path / name for name in ('alone', 'first', 'second'))
  with start(alone, '', devices=8, cache=compiled) as process:
    said = process.communicate(timeout=600)[1]
  assert process.returncode == 0, said
  said = together([first, second], cache=compiled, stop_after=1)
  assert ' 8 x cpu' in said and max(states(first)) < 5
  assert not second.exists()  # one writer
  assert 'resumed after step' in together([first, second], cache=compiled)
  assert max(states(first)) == 5 and not second.exists()
  # the sum over the batch is taken in another order
  np.testing.assert_allclose([losses(first)[n] for n in range(1, 6)], [losses(alone)[n] for n in range(1, 6)], rtol=1e-5)


@pytest.mark.slow
def test_what_keeps_the_first_host_from_beginning_ends_all(tmp_path, compiled):
  folder = tmp_path / 'checkpoints' / 'step_00000002'
  folder.mkdir(parents=True)
  at = address()
  processes = [start(tmp_path if rank == 0 else tmp_path / 'other', f'{at},2,{rank}', devices=1, cache=compiled) for rank in (0, 1)]
  errors = [process.communicate(timeout=300)[1] for process in processes]
  assert all(process.returncode for process in processes)
  assert 'none of the 1 checkpoints' in errors[0] and 'the first host could not begin' in errors[1]


@pytest.mark.parametrize('spec', ['maybe', '10.0.0.1,2,0', '10.0.0.1:80,2', '10.0.0.1:80,two,0', '10.0.0.1:80,2,2', '10.0.0.1:80,2,-1'])
def test_hosts_that_cannot_be_end_with_a_sentence_before_any_waiting(spec):
  with pytest.raises(ValueError, match=spec):
    multihost.join(spec)


def test_the_command_says_what_hosts_it_cannot_make_out(tmp_path):
  assert 'error: --hosts: maybe: give auto, or HOST:PORT,COUNT,RANK' in sentence(run_alone(tmp_path, '--hosts=maybe'))


def test_one_host_asks_itself():
  assert multihost.any_host(True) and not multihost.any_host(False)
  assert multihost.of_first(lambda: None, like=3) is None
  assert json.dumps(multihost.of_first(lambda: [1, 2], like=[0, 0])) == '[1, 2]'
