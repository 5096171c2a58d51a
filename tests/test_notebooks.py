"""The notebooks are clean, use commands that exist, and run."""

import ast
import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import commands
import pytest

from ecgjax.competition import data_folder, submission

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / 'notebooks').glob('*.ipynb'))
notebooks = pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
FOREIGN = {'--no-index', '--find-links', '--quiet', '--python-version', '--only-binary', '--no-deps', '-w', '-d', '-e'}  # pip's


def cells(path: pathlib.Path, kind: str = 'code') -> list[dict[str, Any]]:
  return [cell for cell in json.loads(path.read_text())['cells'] if cell['cell_type'] == kind]


def source(cell: dict[str, Any]) -> str:
  return ''.join(cell['source'])


def words(node: ast.AST) -> list[str]:
  """Returns the texts in a piece of Python, in their order; of a formatted one the part before its first value."""
  if isinstance(node, ast.JoinedStr):
    return words(node.values[0]) if isinstance(node.values[0], ast.Constant) else []
  if isinstance(node, ast.Constant):
    return [node.value] if isinstance(node.value, str) else []
  return [word for child in ast.iter_child_nodes(node) for word in words(child)]


def called(text: str) -> list[str]:
  """Returns the commands in a cell as lines of a shell: each list or call that holds '-m' and a module of ours."""
  lines = []
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Call | ast.List) and '-m' in (found := words(node)):
      module, rest = found[found.index('-m') + 1], found[found.index('-m') + 2 :]
      if module.split('.')[0] in ('ecgjax', 'data_builders'):
        configs = ['configs/unet.py' if word == 'configs/' else word for word in rest]  # a parameter says which of them
        lines.append(' '.join(['python -m', module, *configs]))
  return lines


def test_there_are_notebooks():
  assert [path.name for path in NOTEBOOKS] == ['colab.ipynb', 'kaggle.ipynb']


@notebooks
def test_a_notebook_is_committed_without_outputs_and_compiles(path):
  assert all(cell['outputs'] == [] and cell['execution_count'] is None for cell in cells(path))
  for cell in cells(path):
    compile(source(cell), path.name, 'exec')  # so no %magic and no !command either


@notebooks
def test_a_notebook_has_a_valid_format(path):
  nbformat = pytest.importorskip('nbformat')
  nbformat.validate(json.loads(path.read_text()))


@notebooks
def test_what_may_be_set_stands_in_one_cell_of_plain_values(path):
  tagged = [cell for cell in cells(path) if 'parameters' in cell['metadata'].get('tags', [])]
  assert len(tagged) == 1
  assert cells(path)[0] == tagged[0], 'it must come before all that uses it'
  lines = source(tagged[0]).splitlines()
  for line in lines:
    statement = ast.parse(line).body[0]
    assert isinstance(statement, ast.Assign)
    ast.literal_eval(statement.value)
    assert '  # ' in line, f'{line}: says not what it is for'


@notebooks
def test_commands_and_options_in_a_notebook_exist(path):
  lines = [line for cell in cells(path) for line in called(source(cell))]
  assert lines
  assert not [sentence for line in lines for sentence in commands.wrong(line)]
  known = commands.every_option() | FOREIGN
  given = {option for cell in cells(path) for word in words(ast.parse(source(cell))) for option in commands.OPTION.findall(word)}
  assert not {o for o in given if o not in known and not (o.startswith('--config.') and commands.in_config(o, []))} - {'-c', '-m'}


def test_a_wrong_option_in_a_notebook_is_noticed():
  cell = "run('-m', 'ecgjax.train', f'--config', f'configs/{X}', f'--config.nothing={Y}')\njudge = ['-m', 'ecgjax.evaluate', '--dir', D]"
  assert [len(commands.wrong(line)) for line in called(cell)] == [1, 1]


def executed(path: pathlib.Path, parameters: dict[str, Any], work: pathlib.Path, env: dict[str, str]) -> list[dict[str, Any]]:
  """Runs a notebook in a process of its own, with other parameters, and returns its code cells with their outputs."""
  pytest.importorskip('nbclient')
  pytest.importorskip('ipykernel')
  book = json.loads(path.read_text())
  at = next(i for i, cell in enumerate(book['cells']) if 'parameters' in cell['metadata'].get('tags', []))
  unknown = [name for name in parameters if f'{name} = ' not in source(book['cells'][at])]
  assert not unknown, f'{path.name} has no parameters {unknown}'
  lines = '\n'.join(f'{name} = {value!r}' for name, value in parameters.items())
  cell = {'cell_type': 'code', 'id': 'injected', 'metadata': {}, 'source': lines, 'outputs': [], 'execution_count': None}
  book['cells'].insert(at + 1, cell)
  copy = work / path.name
  copy.write_text(json.dumps(book))
  call = [sys.executable, '-c', 'from nbclient.cli import main; main()', str(copy), '--inplace', '--timeout=900', '--kernel_name=python3']
  result = subprocess.run(call, cwd=work, env={**os.environ, **env}, capture_output=True, text=True, timeout=1200, check=False)
  assert result.returncode == 0, result.stderr[-4000:]
  done = cells(copy)
  assert all(cell['execution_count'] for cell in done if source(cell).strip())
  return done


def printed(done: list[dict[str, Any]]) -> str:
  return ''.join(''.join(output.get('text', '')) for cell in done for output in cell['outputs'])


def pictures(done: list[dict[str, Any]]) -> int:
  return sum('image/png' in output.get('data', {}) for cell in done for output in cell['outputs'])


@pytest.fixture(scope='module')
def wheels(tmp_path_factory) -> pathlib.Path:
  """A folder with the wheel of this package, built without internet from a copy of its sources."""
  import importlib.metadata

  if int(importlib.metadata.version('setuptools').split('.')[0]) < 77:
    pytest.skip("no wheel can be built: pip install 'setuptools>=77'")
  copy = tmp_path_factory.mktemp('source')
  for name in ('pyproject.toml', 'README.md', 'LICENSE'):
    shutil.copy(ROOT / name, copy)
  shutil.copytree(ROOT / 'ecgjax', copy / 'ecgjax', ignore=shutil.ignore_patterns('__pycache__'))
  out = tmp_path_factory.mktemp('input') / 'ecgjax-wheels'
  words = [sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-index', '--no-build-isolation', '--wheel-dir', str(out), str(copy)]
  subprocess.run(words, check=True, capture_output=True, timeout=300)
  return out


@pytest.mark.slow
def test_the_kaggle_notebook_writes_a_submission_with_the_attached_wheel_alone(wheels, tmp_path):
  inputs = wheels.parent
  script = [sys.executable, 'scripts/make_sample_data.py', '--records', '1', '--out', str(inputs / 'competition')]
  subprocess.run(script, cwd=ROOT, check=True, capture_output=True, timeout=600)
  site = tmp_path / 'site'  # in place of the environment's own packages
  env = {'PIP_QUIET': '0', 'PIP_TARGET': str(site), 'PIP_NO_DEPS': '1', 'PYTHONPATH': str(site), 'JAX_PLATFORMS': 'cpu'}
  done = executed(ROOT / 'notebooks' / 'kaggle.ipynb', {'INPUT': str(inputs), 'WORK': str(tmp_path), 'SHOW': 1}, tmp_path, env)
  assert 'Successfully installed ecgjax' in printed(done)
  assert (site / 'ecgjax' / 'weights' / 'base.safetensors').is_file()
  wanted = [record.wanted for record in data_folder.list_test(inputs / 'competition')]
  assert submission.check(tmp_path / 'submission.csv', wanted) > 0
  assert '1 of 1 records read' in printed(done)
  assert pictures(done) == 1


@pytest.mark.slow
def test_the_colab_notebook_trains_scores_and_shows(tmp_path, page):
  from PIL import Image

  Image.fromarray(page).save(tmp_path / 'page.png')
  parameters = {
    'CLONE': str(ROOT), 'INSTALL': False, 'WORKDIR': str(tmp_path / 'run'), 'CONFIG': 'unet.py:debug', 'STEPS': 2, 'MINUTES': 0.0,
    'SEEN': ['0001'], 'PAGES': 1, 'PICTURE': str(tmp_path / 'page.png'),
  }  # fmt: skip
  env = {'JAX_PLATFORMS': 'cpu', 'JAX_COMPILATION_CACHE_DIR': str(tmp_path / 'programs')}  # both scores use the same programs
  done = executed(ROOT / 'notebooks' / 'colab.ipynb', parameters, tmp_path, env)
  assert printed(done).count('score dB') == 3  # of the training, of its weights, of those that ship
  assert 'ok' in printed(done[-1:])
  assert 'just trained has read nothing' in printed(done)  # after two steps
  assert pictures(done) == 3  # losses, a page by the shipped weights, the page of one's own
