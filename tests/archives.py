"""What tests of archives put into them, and how they run the command."""

import io
import subprocess
import sys
import tarfile

import numpy as np
import pyarrow
import pypdfium2
from PIL import Image
from pyarrow import parquet

from ecgjax.archive import parquet_store, partition
from ecgjax.jobs import page_job

NONE = parquet_store.CompletedPages(np.zeros(0, 'S16'), {})
SETTINGS = partition.ReadSettings(page_job.Options(weights='small', engine='jax'), 60.0, '')


def png(value=0, size=(2, 2)):
  out = io.BytesIO()
  Image.fromarray(np.full((*size, 3), value, np.uint8)).save(out, 'PNG')
  return out.getvalue()


def two_pages():
  document, out = pypdfium2.PdfDocument.new(), io.BytesIO()
  for _ in range(2):
    document.new_page(400, 2)  # too flat to be read
  document.save(out)
  return out.getvalue()


def tar(path, files, mode='w'):
  with tarfile.open(path, mode) as archive:
    for name, data in files:
      info = tarfile.TarInfo(name)
      info.size = len(data)
      archive.addfile(info, io.BytesIO(data))
  return path


def a_table(path, values, *, name='image', group=2):
  parquet.write_table(pyarrow.table({name: values, 'label': list(range(len(values)))}), path, row_group_size=group)
  return path


def started(*words, rows_each=100):
  """Starts the command, with files of `rows_each` rows."""
  imports = 'import sys; from ecgjax.cli import command_line; from ecgjax.archive import parquet_store'
  code = f'{imports}; parquet_store.ROWS = {rows_each}; sys.exit(command_line.main())'
  words = [sys.executable, '-c', code, 'archive', *map(str, words)]
  return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def counted(out):
  return sum(parquet.read_metadata(path).num_rows for path in out.glob('pages-*.parquet'))
