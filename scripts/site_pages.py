"""A hook of mkdocs.yml: brings documents that stand outside docs/ into the site, so that each fact keeps its one place.

In the repository a page of docs/ links to ../ecgjax/weights/README.md, and so the link works where the files are browsed. In the site that
file is the page model_card.md; links to it, and the relative links within it, are turned to fit.
"""

import pathlib
import posixpath
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = {  # of the site: file of the repository
  'model_card.md': 'ecgjax/weights/README.md',
  'contributing.md': 'CONTRIBUTING.md',
  'changelog.md': 'CHANGELOG.md',
}
ITEM = re.compile(r'(?:[-*]|\d+\.) ')
LINK = re.compile(r'(\]\()([^)\s#]+)')


def turned(text: str, *, source: str, page: str) -> str:
  """Turns the relative links of a document so that they fit the site.

  Args:
    text: Markdown.
    source: where the document stands, from the root of the repository.
    page: where it stands in the site, from its root.

  Returns:
    The Markdown; links to what the site does not hold stay as they are, and `mkdocs build --strict` refuses them.
  """
  places = {file: name for name, file in PAGES.items()}

  def link(match: re.Match) -> str:
    target = match[2]
    if ':' in target:
      return match[0]
    file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    place = places.get(file, file.removeprefix('docs/') if file.startswith('docs/') else '')
    return f'{match[1]}{posixpath.relpath(place, posixpath.dirname(page) or ".")}' if place else match[0]

  return LINK.sub(link, text)


def spaced(text: str) -> str:
  """Sets a blank line before each list that follows a line of text: without one, unlike elsewhere, MkDocs takes it for more of the text.

  Args:
    text: Markdown.

  Returns:
    The Markdown; blocks of code stay as they are.
  """
  lines, fenced, before = [], False, ''
  for line in text.split('\n'):
    if ITEM.match(line) and not fenced and before and not ITEM.match(before) and not before.startswith(' '):
      lines.append('')
    fenced ^= line.lstrip().startswith('```')
    lines.append(line)
    before = line
  return '\n'.join(lines)


def on_files(files, config):
  """Adds PAGES to the site's files."""
  from mkdocs.structure.files import File  # pyright: ignore[reportMissingImports]  # in the extra docs only

  for page, source in PAGES.items():
    text = (ROOT / source).read_text(encoding='utf-8')
    files.append(File.generated(config, page, content=spaced(turned(text, source=source, page=page))))
  return files


def on_page_markdown(markdown: str, page, **_) -> str:
  """Makes a page of docs/ fit the site."""
  path = page.file.src_uri
  return markdown if path in PAGES else spaced(turned(markdown, source=f'docs/{path}', page=path))
