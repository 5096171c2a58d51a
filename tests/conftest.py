"""Fixtures that more than one test file uses."""

import os
import pathlib

import pytest


@pytest.fixture(scope='session')
def shared() -> pathlib.Path:
  """The folder of shared data outside the repository; tests that need it are skipped where it is absent."""
  beside = pathlib.Path(__file__).resolve().parents[2] / 'shared'
  folder = pathlib.Path(os.environ.get('ECGJAX_SHARED', beside))
  if not (folder / 'bench' / 'kit').is_dir():
    pytest.skip(f'no shared data at {folder}; set ECGJAX_SHARED to the folder that holds bench/ and data/')
  return folder
