"""Writes docs/api.md, what `import ecgjax` offers, from the docstrings: python scripts/make_api_page.py"""

import inspect
import pathlib
import re
import textwrap

import ecgjax

PATH = pathlib.Path(__file__).resolve().parents[1] / 'docs' / 'api.md'
HEAD = """# Python

What `import ecgjax` offers; the names here stay, modules below may change theirs. Nothing heavy is imported before it is used.
"""


def signature(name: str, value) -> str:
  """Returns how a function or class is called, one argument a line where it is long."""
  arguments = str(inspect.signature(value)).replace('ecgjax.', '')
  for long, short in (('numpy.ndarray', 'np.ndarray'), ('jax.jaxlib._jax.Array', 'jax.Array'), ('typing.', ''), ('collections.abc.', '')):
    arguments = arguments.replace(long, short)
  own = lambda m: m[0] if m[0] in ('np.', 'jax.', 'os.') else ''  # classes by their own names
  arguments = re.sub(r'(?:\w+\.)+(?=[A-Z])', own, arguments)
  return '\n'.join(textwrap.wrap(f'{name}{arguments}', 116, subsequent_indent='  ', break_long_words=False))


def entry(name: str) -> str:
  """Returns the part of the page about one name."""
  value = getattr(ecgjax, name)
  if isinstance(value, tuple):
    return f'## `{name}`\n\n`{value}`\n'
  told = inspect.cleandoc(value.__doc__ or '')
  called = '' if isinstance(value, type) and issubclass(value, Exception) else f'{signature(name, value)}\n\n'
  return f'## `{name}`\n\n```text\n{called}{told}\n```\n'


def page() -> str:
  """Returns the whole page."""
  order = sorted(ecgjax.__all__, key=lambda name: (name[0].isupper(), name.lower()))
  return '\n'.join([HEAD, *map(entry, order)])


if __name__ == '__main__':
  PATH.write_text(page())
