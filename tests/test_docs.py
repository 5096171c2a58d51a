"""What the documents say of files and commands is true, and the site holds every page."""

import importlib.util
import pathlib
import re
import runpy
import subprocess
import sys

import commands
import pytest
import yaml

from ecgjax.io import formats

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / 'docs').rglob('*.md'))
BESIDE = ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md', 'ecgjax/weights/README.md')
DOCUMENTS = [*PAGES, *(ROOT / name for name in BESIDE)]
BLOCK = re.compile(r'^( *)```.*?\n(.*?)^\1```', re.S | re.M)
# pip's, Slurm's, Docker's
FOREIGN = {'--require-hashes', '--no-deps', '--no-index', '--find-links', '--signal', '--ntasks-per-node', '--shm-size'}
MOST_BYTES = 250_000
MOST_CHARACTERS = 120
LINK_ALONE = re.compile(r'\s*(?:[-*] |\d+\. )?(?:!?\[[^\]]*\]\([^)]*\)|<?https?://\S+)[.,;:]?')
documents = pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


def code(text: str) -> list[str]:
  """Returns the pieces of code in a text: its blocks, and what stands between single backticks."""
  blocks = [body for _, body in BLOCK.findall(text)]
  return blocks + [' '.join(span.split()) for span in re.findall(r'`([^`]+)`', BLOCK.sub('', text))]


@documents
def test_links_and_pictures_of_a_document_are_there(path):
  text = BLOCK.sub('', path.read_text())
  targets = re.findall(r'\]\(([^)\s]+)\)', re.sub(r'`[^`]+`', '', text))
  missing = [t for t in targets if ':' not in t and t[0] != '#' and not (path.parent / t.split('#')[0]).exists()]
  outside = [t for t in targets if ':' not in t and ROOT not in (path.parent / t).resolve().parents and t[0] != '#']
  assert not missing + outside


@documents
def test_lines_of_a_document_are_short_but_for_tables_code_and_a_link_alone(path):
  long, fenced = [], False
  for number, line in enumerate(path.read_text().splitlines(), start=1):
    fenced ^= line.lstrip().startswith('```')
    text = not fenced and not line.lstrip().startswith('|') and not LINK_ALONE.fullmatch(line)
    long += [f'line {number}: {len(line)} characters'] if text and len(line) > MOST_CHARACTERS else []
  assert not long, f'{path.relative_to(ROOT)}: wrap at {MOST_CHARACTERS}'


@documents
def test_commands_and_options_in_a_document_exist(path):
  pieces = code(path.read_text())
  known = commands.every_option() | FOREIGN | commands.ANY
  alone = [option for piece in pieces if piece.startswith('--') for option in commands.OPTION.findall(piece)]
  strange = [o for o in alone if o not in known and not (o.startswith('--config.') and commands.in_config(o, []))]
  assert not strange + [sentence for piece in pieces for sentence in commands.wrong(piece)]


def test_a_wrong_option_of_each_kind_of_command_is_noticed():
  assert not commands.wrong('ecgjax digitize a.png -o out --overlay')
  assert not commands.wrong('python -m ecgjax.train --config configs/page.py --config.canvas.views=2')
  for line in (
    'ecgjax digitize a.png --outt x', 'ecgjax digitise a.png', 'python -m ecgjax.evaluate --dir x', 'python -m ecgjax.nothing',
    'python scripts/average.py a --output x', 'python -m ecgjax.train --config configs/unet.py --config.canvas.views=2',
    'cd x && python -m data_builders.ecg_pages \\\n  --data x --seed 1',
  ):  # fmt: skip
    assert len(commands.wrong(line)) == 1, line


def nav(entries) -> list[str]:
  return [p for entry in entries for value in entry.values() for p in ([value] if isinstance(value, str) else nav(value))]


def test_the_site_lists_every_page_once():
  config = yaml.safe_load((ROOT / 'mkdocs.yml').read_text())
  brought = runpy.run_path(str(ROOT / 'scripts' / 'site_pages.py'))['PAGES']
  assert sorted(nav(config['nav'])) == sorted([*(p.relative_to(ROOT / 'docs').as_posix() for p in PAGES), *brought])
  assert all((ROOT / source).is_file() for source in brought.values())


@pytest.mark.parametrize(('source', 'page', 'link', 'wanted'), [
  ('docs/benchmarks.md', 'benchmarks.md', '../ecgjax/weights/README.md', 'model_card.md'),
  ('docs/looks/README.md', 'looks/README.md', '../../ecgjax/weights/README.md', '../model_card.md'),
  ('docs/looks/README.md', 'looks/README.md', '0001.jpg', '0001.jpg'),
  ('ecgjax/weights/README.md', 'model_card.md', '../../docs/pictures/crossing.png', 'pictures/crossing.png'),
  ('docs/index.md', 'index.md', 'https://example.org/docs/', 'https://example.org/docs/'),
  ('docs/index.md', 'index.md', '../LICENSE', '../LICENSE'),
  ('docs/index.md', 'index.md', '../CONTRIBUTING.md#set-up', 'contributing.md#set-up'),
])  # fmt: skip
def test_links_between_repository_and_site_are_turned(source, page, link, wanted):
  turned = runpy.run_path(str(ROOT / 'scripts' / 'site_pages.py'))['turned']
  assert turned(f'see [x]({link}) and ![y]({link}).', source=source, page=page) == f'see [x]({wanted}) and ![y]({wanted}).'


def test_a_list_right_below_a_text_is_a_list_on_the_site_too():
  spaced = runpy.run_path(str(ROOT / 'scripts' / 'site_pages.py'))['spaced']
  assert spaced('text\n- a\n  more\n- b\n1. c') == 'text\n\n- a\n  more\n- b\n1. c'
  same = '# title\n\n- a\n- b\n\n```sh\ntext\n- c\n```\n'
  assert spaced(same) == same


def test_pictures_of_the_steps_are_small():
  paths = sorted((ROOT / 'docs' / 'pictures').glob('step_*'))
  assert len(paths) == 6
  assert [path.name for path in paths if path.stat().st_size > MOST_BYTES] == []


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_other_hosts(tmp_path):
  if importlib.util.find_spec('mkdocs') is None or importlib.util.find_spec('material') is None:
    pytest.skip("mkdocs is not installed: pip install 'ecgjax[docs]'")
  words = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(tmp_path / 'site')]
  result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
  assert result.returncode == 0, result.stderr
  built = sorted((tmp_path / 'site').rglob('*.html'))
  assert len(built) >= len(PAGES)
  for page in built:
    loaded = re.findall(r'<(?:script|img|iframe)[^>]*\ssrc="?([^"\s>]+)', page.read_text())
    loaded += re.findall(r'<link[^>]*rel="?(?:stylesheet|preconnect|icon)"?[^>]*href="?([^"\s>]+)', page.read_text())
    assert loaded
    assert not [url for url in loaded if re.match(r'(https?:)?//', url)], page.name


def test_every_test_that_a_document_names_exists():
  named = [found for path in DOCUMENTS for found in re.findall(r'`(tests/\w+\.py)::(\w+)`', path.read_text())]
  assert len(named) > 15
  for file, name in named:
    assert f'\ndef {name}(' in (ROOT / file).read_text(), f'{file} has no {name}'


def test_every_format_of_output_has_a_row_and_stands_where_formats_are_listed():
  (table,) = re.findall(r'^\| format \|.*\n(?:\|.*\n)+', (ROOT / 'docs/formats.md').read_text(), flags=re.M)
  rows = re.findall(r'^\| `(\w+)`', table, flags=re.M)
  assert rows == list(formats.FORMATS)
  for document in ('README.md', 'docs/index.md'):
    assert f'`--format {",".join(formats.FORMATS)}`' in (ROOT / document).read_text()
