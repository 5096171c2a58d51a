"""Rules of the house that a machine can check."""

import ast
import itertools
import json
import pathlib
import re
import subprocess
import sys

import pytest

from ecgjax.geometry import layouts

PACKAGE = pathlib.Path(layouts.__file__).parents[1]
DESIGN = pathlib.Path(__file__).resolve().parents[1] / 'docs' / 'design.md'
# Each package may import those before it only; what stands beside them may import all (docs/design.md has the picture).
PACKAGES = [
  'ecg', 'geometry', 'io', 'drawing', 'damage', 'simulate', 'networks', 'locate', 'ink', 'extract', 'jobs', 'competition', 'training',
  'serve', 'archive', 'cli',
]  # fmt: skip
MODULES = sorted(
  '.'.join(p.relative_to(PACKAGE).with_suffix('').parts) for p in PACKAGE.rglob('*.py') if p.stem not in ('__init__', '__main__')
)
SIMULATOR = ('drawing', 'damage', 'simulate')
# a default that may be given without its name
POSITIONAL_DEFAULTS = {
  'geometry.layouts.make': {'name'}, 'extract.digitizer.load_reader': {'weights'}, 'cli.command_line.main': {'argv'},
  'competition.evaluate.main': {'argv'}, 'competition.predict.main': {'argv'}, 'training.command.main': {'argv'},
}  # fmt: skip
LINES, FUNCTION_LINES, IN_A_PACKAGE = 240, 70, 14
modules = pytest.mark.parametrize('name', MODULES)


def where(name):
  return PACKAGE / f'{name.replace(".", "/")}.py'


def tree(name):
  return ast.parse(where(name).read_text())


def imports(name):
  """Returns the modules of the package that a module imports, at its top or within a function."""
  found = set()
  for node in ast.walk(tree(name)):
    if isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] == 'ecgjax':
      inside = (node.module or '').removeprefix('ecgjax').lstrip('.')
      found |= {f'{inside}.{alias.name}'.lstrip('.') for alias in node.names} | {inside}
    elif isinstance(node, ast.Import):
      found |= {alias.name.removeprefix('ecgjax.') for alias in node.names}
    assert not (isinstance(node, ast.ImportFrom) and node.level), f'{name} line {node.lineno}: relative import'
  return found & set(MODULES)


def closure(name):
  """Returns the modules that importing a module may need, itself among them."""
  found, left = set(), {name}
  while left:
    found |= left
    left = set().union(*map(imports, left)) - found
  return found


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


def test_the_order_names_every_package_once_and_none_is_full():
  inside = [name.split('.')[0] for name in MODULES if '.' in name]
  assert sorted(PACKAGES) == sorted(set(inside)) and len(set(PACKAGES)) == len(PACKAGES)
  full = {package: inside.count(package) for package in PACKAGES if inside.count(package) > IN_A_PACKAGE}
  assert not full, f'{full}: more than {IN_A_PACKAGE} modules'


@modules
def test_imports_go_downwards(name):
  own = name.split('.')[0]
  if own not in PACKAGES:
    return  # a command that `python -m` runs
  upwards = [other for other in sorted(imports(name)) if other.split('.')[0] not in PACKAGES[: PACKAGES.index(own) + 1]]
  assert not upwards, f'{name} imports {upwards}, which stand after {own}'


@modules
def test_no_module_needs_itself(name):
  around = {other for other in imports(name) if name in closure(other)}
  assert not around, f'{name} and {sorted(around)} import each other'


@pytest.mark.parametrize('package', PACKAGES)
def test_the_table_of_packages_says_what_each_holds_and_imports(package):
  rows = [line.split(' | ') for line in DESIGN.read_text().splitlines() if line.startswith(f'| `{package}` | ')]
  (_, holds, needs), own = rows[0], [name for name in MODULES if name.split('.')[0] == package]
  needed = {other.split('.')[0] for name in own for other in imports(name)} - {package}
  assert set(needs.removesuffix(' |').split(', ')) - {'none'} == needed
  assert {name.split('.')[1] for name in own} <= set(re.findall(r'`(\w+)`', holds))


@pytest.mark.parametrize('name', [name for name in MODULES if name.startswith(('locate.', 'ink.', 'extract.'))])
def test_what_reads_pages_needs_nothing_of_what_draws_them(name):
  drawing = sorted(other for other in closure(name) if other.split('.')[0] in SIMULATOR)
  assert not drawing, f'{name} needs {drawing}'


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
    wrong = [a.arg for a in with_default if name != 'geometry.paper' and a.arg not in POSITIONAL_DEFAULTS.get(where, ())]
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


@pytest.mark.parametrize('name', sorted(closure('training.loop')))
def test_the_training_path_needs_little(name):
  needed = set()
  for node in tree(name).body:  # imports inside a function are paid for by those who call it
    if isinstance(node, ast.Import):
      needed |= {alias.name.split('.')[0] for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      needed.add((node.module or '').split('.')[0])
  assert needed <= TRAINING | sys.stdlib_module_names, f'{name} imports {needed - TRAINING - sys.stdlib_module_names} at its top'


def test_importing_the_trainer_loads_no_library_it_can_do_without():
  code = 'import ecgjax.training.loop, sys, json; print(json.dumps(sorted({m.split(".")[0] for m in sys.modules})))'
  result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=120)
  loaded = set(json.loads(result.stdout.splitlines()[-1]))
  assert 'jax' in loaded
  unwanted = {'PIL', 'cv2', 'pandas', 'tensorflow', 'tensorflow_datasets', 'matplotlib', 'wfdb', 'torch', 'safetensors', 'tensorboardX'}
  assert not loaded & unwanted


def test_importing_computes_nothing():
  """Hosts join before the first computation, which chooses the devices (`multihost.join`)."""
  names = ', '.join(f'ecgjax.{name}' for name in MODULES if not name.startswith(('archive', 'serve', 'io')))
  code = f'import {names}; from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())'
  result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=120)
  assert result.stdout.splitlines()[-1] == 'False'


def test_no_module_is_called_utils():
  assert not {'utils', 'util', 'helpers', 'common', 'misc'} & {p.stem for p in PACKAGE.rglob('*.py')}


def test_no_two_modules_have_a_class_of_the_same_name():
  classes = [n.name for m in MODULES for n in tree(m).body if isinstance(n, ast.ClassDef) and not n.name.startswith('_')]
  twice = [a for a, b in itertools.pairwise(sorted(classes)) if a == b]
  assert set(twice) <= {'Page'}  # the drawn one of `render`, the scored one of `report`
