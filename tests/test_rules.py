"""Rules of the house that a machine can check (STYLE, example 19)."""

import ast
import itertools
import json
import pathlib
import subprocess
import sys

import pytest

from ecgjax import layout

PACKAGE = pathlib.Path(layout.__file__).parent
# Each module may import those to its left only.
ORDER = [
  'shipped', 'options', 'paper', 'layout', 'io.pictures', 'io.signals', 'io.dicom', 'glyphs', 'strokes', 'rhythm', 'waves', 'noise',
  'signals', 'packs', 'truth', 'looks', 'sampling', 'fields', 'geometry', 'printers', 'registration', 'render', 'transport', 'bend',
  'wear', 'folds', 'capture', 'codec', 'degrade', 'plane', 'surface', 'smoothing', 'flatten', 'lockin', 'landmarks', 'refine', 'settle',
  'upright', 'spectrum', 'variants', 'model', 'export', 'pagenet', 'views', 'pose', 'decode', 'cutting', 'losses', 'masks', 'metrics',
  'assemble', 'fuse', 'records', 'data', 'hosts', 'pace', 'update', 'mesh', 'checkpoint', 'engine', 'log', 'plot', 'simval', 'starts',
  'rectify', 'marks', 'scanlines', 'retiming', 'register', 'chart', 'recording', 'quality', 'reading', 'evaluators', 'report', 'tasks',
  'train', 'submit', 'folder', 'samples', 'evaluate', 'predict', 'cli', 'machine', 'pool', 'worker', 'progress', 'batch', 'doctor',
  'serve.desk', 'serve.api', 'serve.app', 'archive.sources', 'archive.members', 'archive.rows', 'archive.store', 'archive.plan',
  'archive.work', 'archive.hands', 'archive.cluster', 'archive.alone', 'archive.estimate', 'archive.command',
]  # fmt: skip
# a default that may be given without its name
POSITIONAL_DEFAULTS = {'layout.make': {'name'}, 'reading.reader': {'weights'}, 'samples.main': {'argv'}, 'cli.main': {'argv'}}
LINES, FUNCTION_LINES = 240, 70
modules = pytest.mark.parametrize('name', ORDER)


def where(name):
  return PACKAGE / f'{name.replace(".", "/")}.py'


def tree(name):
  return ast.parse(where(name).read_text())


def is_command(node):
  """Whether it is the block that `python -m` runs: it may call a command that stands above its module."""
  return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def public_functions(name):
  """Yields (where, ast node) of module functions, and of methods of public classes, that have no leading underscore."""
  for node in tree(name).body:
    inside = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith('_') else [node]
    for function in inside:
      if isinstance(function, ast.FunctionDef) and not function.name.startswith('_'):
        yield f'{name}.{node.name}' + (f'.{function.name}' if function is not node else ''), function


def returns_a_value(function):
  """Whether it gives something back; nested functions do not count."""
  if isinstance(function.returns, ast.Constant) and function.returns.value is None:
    return False
  nested = {n for f in ast.walk(function) if f is not function and isinstance(f, ast.FunctionDef | ast.Lambda) for n in ast.walk(f)}
  return any(isinstance(n, ast.Return) and n.value is not None and n not in nested for n in ast.walk(function))


def test_the_order_names_every_module_once():
  found = ('.'.join(p.relative_to(PACKAGE).with_suffix('').parts) for p in PACKAGE.rglob('*.py'))
  assert sorted(ORDER) == sorted(name for name in found if name.split('.')[-1] not in ('__init__', '__main__'))


@modules
def test_imports_go_downwards(name):
  imported = set()
  for node in itertools.chain.from_iterable(ast.walk(part) for part in tree(name).body if not is_command(part)):
    if isinstance(node, ast.ImportFrom) and node.module == 'ecgjax':
      imported |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module in ('ecgjax.io', 'ecgjax.serve', 'ecgjax.archive'):
      imported |= {f'{node.module.removeprefix("ecgjax.")}.{alias.name}' for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and (node.module or '').startswith('ecgjax.'):
      imported.add((node.module or '').removeprefix('ecgjax.'))
    elif isinstance(node, ast.Import):
      imported |= {alias.name.split('.')[1] for alias in node.names if alias.name.startswith('ecgjax.')}
    assert not (isinstance(node, ast.ImportFrom) and node.level), f'{name} line {node.lineno}: relative import'
  upwards = [other for other in sorted(imported) if other in ORDER and ORDER.index(other) >= ORDER.index(name)]
  assert not upwards, f'{name} imports {upwards}, which stand after it'


@modules
def test_public_functions_say_what_they_return(name):
  for where, function in public_functions(name):
    text = ast.get_docstring(function)
    accessor = '.' in where.removeprefix(f'{name}.')  # a method whose class explains it
    assert text or (accessor and len(function.body) == 1) or function.name == 'main', f'{where} has no docstring'
    if text and '\n' in text and returns_a_value(function):
      # a reader without arguments to explain may say it in its first line
      reads = text.startswith(('Reads ', 'Lists ')) and 'Args:' not in text
      assert reads or 'Returns' in text or 'returns' in text, f'{where}: the docstring does not say what it returns'


@modules
def test_modules_say_what_they_are_for(name):
  assert ast.get_docstring(tree(name)), f'{name} has no docstring'


@modules
def test_options_are_keyword_only(name):
  for where, function in public_functions(name):
    positional = [*function.args.posonlyargs, *function.args.args]
    with_default = positional[len(positional) - len(function.args.defaults) :]
    wrong = [a.arg for a in with_default if name != 'paper' and a.arg not in POSITIONAL_DEFAULTS.get(where, ())]
    assert not wrong, f'{where}: {wrong} have a default and must be keyword-only'


@modules
def test_a_random_key_comes_first_and_is_called_key(name):
  for where, function in public_functions(name):
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs) if a.arg not in ('self', 'cls')]
    assert not {'rng', 'prng', 'prng_key', 'random_key'} & set(names), f'{where}: a random key is called key'
    assert 'key' not in names or names[0] == 'key', f'{where}: key must come first'
    draws = [n for n in ast.walk(function) if isinstance(n, ast.Call) and ast.unparse(n.func).startswith('jax.random.')]
    makes = [n for n in draws if ast.unparse(n.func) == 'jax.random.key']
    inner = [a.arg for f in ast.walk(function) if isinstance(f, ast.FunctionDef | ast.Lambda) for a in f.args.args]
    assert not draws or makes or 'key' in inner, f'{where} draws random numbers without a key'


@modules
def test_a_module_is_a_few_pages_at_most(name):
  count = len(where(name).read_text().splitlines())
  assert count <= LINES, f'{name}.py has {count} lines; find its second subject'


@modules
def test_a_function_is_a_page_at_most(name):
  for node in ast.walk(tree(name)):
    if isinstance(node, ast.FunctionDef):
      count = (node.end_lineno or node.lineno) - node.lineno + 1
      assert count <= FUNCTION_LINES, f'{name}.{node.name} has {count} lines'


@modules
def test_no_banners_no_todo_and_no_code_behind_a_comment(name):
  for i, line in enumerate(where(name).read_text().splitlines(), start=1):
    comment = line.strip().removeprefix('#').strip() if line.strip().startswith('#') else ''
    assert not any(3 * mark in comment for mark in '-=#*'), f'{name}.py:{i}: a banner'
    assert not any(word in comment for word in ('TODO', 'FIXME', 'XXX')), f'{name}.py:{i}: a promise'


TRAINING = {'jax', 'flax', 'optax', 'numpy', 'ml_collections', 'absl', 'ecgjax'}


@pytest.mark.parametrize('name', ORDER[: ORDER.index('train') + 1])
def test_the_training_path_needs_little(name):
  needed = set()
  for node in tree(name).body:  # imports inside a function are paid for by those who call it
    if isinstance(node, ast.Import):
      needed |= {alias.name.split('.')[0] for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      needed.add((node.module or '').split('.')[0])
  assert needed <= TRAINING | sys.stdlib_module_names, f'{name} imports {needed - TRAINING - sys.stdlib_module_names} at its top'


def test_importing_the_trainer_loads_no_library_it_can_do_without():
  code = 'import ecgjax.train, sys, json; print(json.dumps(sorted({m.split(".")[0] for m in sys.modules})))'
  result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=120)
  loaded = set(json.loads(result.stdout.splitlines()[-1]))
  assert 'jax' in loaded
  unwanted = {'PIL', 'cv2', 'pandas', 'tensorflow', 'tensorflow_datasets', 'matplotlib', 'wfdb', 'torch', 'safetensors', 'tensorboardX'}
  assert not loaded & unwanted


def test_importing_computes_nothing():
  """Hosts join before the first computation, which chooses the devices (`hosts.join`)."""
  names = ', '.join(f'ecgjax.{name}' for name in ORDER if not name.startswith(('archive', 'serve', 'io')))
  code = f'import {names}; from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())'
  result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=120)
  assert result.stdout.splitlines()[-1] == 'False'


def test_no_module_is_called_utils():
  assert not {'utils', 'util', 'helpers', 'common', 'misc'} & {p.stem for p in PACKAGE.rglob('*.py')}


def test_no_two_modules_have_a_class_of_the_same_name():
  classes = [n.name for m in ORDER for n in tree(m).body if isinstance(n, ast.ClassDef) and not n.name.startswith('_')]
  twice = [a for a, b in itertools.pairwise(sorted(classes)) if a == b]
  assert set(twice) <= {'Page'}  # the drawn one of `render`, the scored one of `evaluate`
