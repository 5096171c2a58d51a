"""Fixtures that more than one test file uses."""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax import samples, simval, variants


@pytest.fixture(scope='session')
def shared() -> pathlib.Path:
  """The folder of shared data outside the repository; tests that need it are skipped where it is absent."""
  beside = pathlib.Path(__file__).resolve().parents[2] / 'shared'
  folder = pathlib.Path(os.environ.get('ECGJAX_SHARED', beside))
  if not (folder / 'bench' / 'kit').is_dir():
    pytest.skip(f'no shared data at {folder}; set ECGJAX_SHARED to the folder that holds bench/ and data/')
  return folder


@pytest.fixture(scope='session')
def beats_mv() -> np.ndarray:
  """(12, 5000) mV at 500 Hz: a beat every 0.8 s, of another height in every lead."""
  beat = lambda n: np.interp(np.arange(5000) % 400, [0, 20, 40, 60, 120, 180, 400], [0, 0, 1.1 - 0.1 * n, -0.2, 0.2, 0, 0])
  return np.stack([beat(n) for n in range(12)]).astype(np.float32)


@pytest.fixture(scope='session')
def printed():
  """(seed of the header, (12, 5000) mV) -> (1700, 2200, 3) uint8, the page as the competition prints it."""
  style = variants.draw_look(jax.random.key(1), 0)
  return lambda seed, mv: np.asarray(jnp.round(255 * simval.draw(500)(jax.random.key(seed), jnp.asarray(mv), style))).astype(np.uint8)


@pytest.fixture(scope='session')
def page(printed, beats_mv) -> np.ndarray:
  """(1700, 2200, 3) uint8, a page as the competition prints it."""
  return printed(0, beats_mv)


@pytest.fixture(scope='session')
def sample(tmp_path_factory):
  """Three training records at one rate, the only one that is compiled here (the real page has it, too)."""
  out = tmp_path_factory.mktemp('sample') / 'data'
  samples.write_folder(out, records=3, tests=1, seed=1, rates_hz=(250,))
  return out
