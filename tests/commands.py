"""Which options the project's commands have, read from their sources, and which commands a text shows."""

import argparse
import ast
import pathlib
import re
import runpy
from collections.abc import Iterator

from ecgjax.cli import command_line
from ecgjax.jobs import options as shared_options

ROOT = pathlib.Path(__file__).resolve().parents[1]
PASSED = {name: f'ecgjax.{module}' for name, (module, _) in command_line.PASSED.items()}
ELSEWHERE = {
  **PASSED, **{f'ecgjax.{name}': module for name, module in PASSED.items()}, 'data_builders.ecg_pages': 'data_builders.ecg_pages.__main__',
  'ecgjax': 'ecgjax.cli.command_line',
}  # fmt: skip
ENTRY_POINTS = ('ecgjax.evaluate', 'ecgjax.predict', 'data_builders.ecg_pages', 'ecgjax.train')
ANY = {'--config.x', '--config.a.b'}  # documents write so of all options of a config
OPTION = re.compile(r'(?<![\w-])(--[A-Za-z][\w.-]*|-[a-z](?![\w-]))')
WORD, MODULE = r'(?<!from )\becgjax +(?P<word>[a-z]+)\b', r'\bpython\S* +-m +(?P<module>(?:ecgjax|data_builders)[\w.]*)'
HEAD = re.compile(rf'{WORD}|{MODULE}|(?P<script>\bscripts/\w+\.py)')


def subcommands() -> dict[str, argparse.ArgumentParser]:
  """Returns the parser of each word that may follow `ecgjax`."""
  actions = [a for a in command_line.parser()._actions if isinstance(a, argparse._SubParsersAction)]
  return dict(actions[0].choices)


def _added_by(add) -> set[str]:
  parser = argparse.ArgumentParser()
  add(parser)
  return set(parser._option_string_actions)


SHARED = {add.__name__: _added_by(add) for add in (shared_options.add_weights, shared_options.add_engine)}


def declared(source: str) -> set[str]:
  """Returns the options that a source's calls of add_argument declare, also in a loop over their names; --help too."""
  tree = ast.parse(source)
  calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func).endswith('.add_argument')]
  names = {a.value for call in calls for a in call.args if isinstance(a, ast.Constant) and str(a.value).startswith('-')}
  for loop in (n for n in ast.walk(tree) if isinstance(n, ast.For) and isinstance(n.iter, ast.Tuple)):
    if f"f'--{{{ast.unparse(loop.target)}}}'" in ast.unparse(loop):
      names |= {f'--{name.value}' for name in loop.iter.elts if isinstance(name, ast.Constant)}
  shared = {n.func.attr for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)} & set(SHARED)
  return names.union({'-h', '--help'}, *(SHARED[name] for name in shared))


def options(name: str) -> set[str]:
  """Returns the options of a command.

  Args:
    name: a word that may follow `ecgjax`, a module that `python -m` runs, or a script as scripts/name.py.

  Raises:
    ValueError: if there is no such command.
  """
  if name in subcommands() and name not in PASSED:
    return set(subcommands()[name]._option_string_actions)
  path = ROOT / (name if name.endswith('.py') else f'{ELSEWHERE.get(name, name).replace(".", "/")}.py')
  if not path.is_file():
    raise ValueError(f'there is no command {name}')
  if name in ('train', 'ecgjax.train'):
    return {f'--{flag}' for flag in re.findall(r"DEFINE_\w+\('(\w+)'", path.read_text())} | {'--help'}
  return declared(path.read_text())


def every_option() -> set[str]:
  """Returns the options of all commands together."""
  scripts = (path.relative_to(ROOT).as_posix() for path in (ROOT / 'scripts').glob('*.py'))
  return set().union(*map(options, (*subcommands(), *ENTRY_POINTS, *scripts))) | set(command_line.parser()._option_string_actions)


def in_config(option: str, files: list[str]) -> bool:
  """Whether --config.a.b of one of configs/ `files` (all of them where none is given) exists."""
  for file in files or [path.as_posix() for path in (ROOT / 'configs').glob('*.py')]:
    at = runpy.run_path(str(ROOT / file))['get_config']('debug')
    try:
      for part in option.removeprefix('--config.').split('.'):
        at = at[part]
      return True
    except (KeyError, TypeError):
      continue
  return False


def shown(text: str) -> Iterator[tuple[str, list[str], str]]:
  """Yields (command, options after it, where it stands) for each of the project's commands that a piece of code shows."""
  whole = re.sub(r'\$\([^)]*\)', '', re.sub(r'\\\n\s*', ' ', text))
  for line in whole.splitlines():
    for part in re.split(r'&&|\|\||[;|](?=\s)|(?<!\S)#(?=\s)', line):
      if match := HEAD.search(part):
        name = match['word'] or match['module'] or match['script']
        yield name, OPTION.findall(part[match.end() :]), part.strip()


def wrong(text: str) -> list[str]:
  """Returns a sentence for each command or option in a piece of code that does not exist."""
  errors = []
  for name, found, where in shown(text):
    try:
      known = options(name)
    except ValueError as error:
      errors.append(f'{where!r}: {error}')
      continue
    configs = re.findall(r'configs/\w+\.py', where)
    for option in found:
      if option.startswith('--config.') and name in ('train', 'ecgjax.train'):
        if option not in ANY and not in_config(option, configs):
          errors.append(f'{where!r}: no {option} in {configs or "configs/"}')
      elif option not in known:
        errors.append(f'{where!r}: {name} has no {option}')
  return errors
