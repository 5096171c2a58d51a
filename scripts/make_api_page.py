"""Writes docs/api.md, what `import ecgjax` offers, from the docstrings: python scripts/make_api_page.py"""

import inspect
import pathlib
import re
import textwrap

import ecgjax
from ecgjax.competition import scoring
from ecgjax.jobs import many
from ecgjax.locate import find_page
from ecgjax.simulate import pages

PATH = pathlib.Path(__file__).resolve().parents[1] / 'docs' / 'api.md'
HEAD = """# Python

The names that `import ecgjax` offers. They are stable; names of modules below the package may change. Heavy libraries
are imported at first use.
"""


def signature(name: str, value) -> str:
  """Returns how a function or class is called, one argument a line where it is long."""
  arguments = str(inspect.signature(value)).replace('ecgjax.', '')
  for long, short in (('numpy.ndarray', 'np.ndarray'), ('jax.jaxlib._jax.Array', 'jax.Array'), ('typing.', ''), ('collections.abc.', '')):
    arguments = arguments.replace(long, short)
  own = lambda m: m[0] if m[0] in ('np.', 'jax.', 'os.') else ''  # classes by their own names
  arguments = re.sub(r'(?:\w+\.)+(?=[A-Z])', own, arguments)
  return '\n'.join(textwrap.wrap(f'{name}{arguments}', 116, subsequent_indent='  ', break_long_words=False))


def methods(kind: type) -> list[str]:
  """Returns the public methods of a class: how each is called, and the first line of what it says."""
  own = ((name, value) for name, value in vars(kind).items() if inspect.isfunction(value) and name[0] != '_')
  first = lambda value: (inspect.getdoc(value) or '').split('\n')[0]
  return [f'{signature("." + name, value)}\n  {first(value)}' for name, value in own if value.__doc__]


def entry(name: str, value=None) -> str:
  """Returns the part of the page about one name."""
  value = getattr(ecgjax, name) if value is None else value
  if isinstance(value, tuple):
    return f'## `{name}`\n\n`{value}`\n'
  parts, plain = [inspect.cleandoc(value.__doc__ or '')], isinstance(value, type)
  if not plain:
    parts.insert(0, signature(name, value))
  elif not issubclass(value, Exception):
    parts += methods(value)
  return f'## `{name}`\n\n```text\n' + '\n\n'.join(parts) + '\n```\n'


def page() -> str:
  """Returns the whole page."""
  order = sorted(ecgjax.__all__, key=lambda name: (name[0].isupper(), name.lower()))
  results = (find_page.Found, many.PageResult, pages.Photograph, scoring.ImageReport)  # what those functions return
  return '\n'.join([HEAD, *map(entry, order), *(entry(kind.__name__, kind) for kind in results)])


if __name__ == '__main__':
  PATH.write_text(page())
