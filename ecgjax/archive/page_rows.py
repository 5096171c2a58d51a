"""The work of a child process on a page of an archive: bytes to px, px to a row. Errors are returned as reasons, not raised."""

import time
from typing import Any, NamedTuple

from ecgjax.jobs import page_job


class Opened(NamedTuple):
  """A decoded page: (H, W, 3) uint8, or None and the reason; and the number of pages of its file."""

  pages: int
  image: Any
  reason: str = ''


def opened(data: bytes, number: int) -> Opened:
  """Decodes page `number`, from 0, of a file's bytes."""
  pages = 1
  try:
    from ecgjax.io import images

    source = images.open_bytes(data)
    pages = source.pages
    return Opened(pages, source.read(number))
  except Exception as error:  # a page must not end the archive
    return Opened(pages, None, page_job.reason(error))


def read(image, options: page_job.Options) -> dict[str, Any]:
  """Reads a decoded page.

  Args:
    image: (H, W, 3) uint8.
    options: options of reading.

  Returns:
    Columns of `schema.SCHEMA`, without those of the page's place.
  """
  start, made = time.perf_counter(), {}
  from ecgjax.archive import schema

  try:
    from ecgjax.extract import digitizer

    made = page_job.made_by(options)
    arguments = {'fs': options.fs, 'speed_mm_s': options.speed_mm_s, 'gain_mm_mv': options.gain_mm_mv}
    found = digitizer.digitize(image, reader=page_job.reader(options), **arguments)
    capped = {lead: std.clip(max=schema.MAX_STD_MV) for lead, std in found.std.items()}
    return made | {
      'status': found.status, 'reasons': list(found.warnings), 'quality': found.quality,
      'leads_uv': schema.samples(found.leads), 'std_uv': schema.samples(capped),
      'fs_hz': found.fs, 'seconds': found.seconds, 'start_s': found.start_s,
      'layout': found.layout, 'speed_mm_s': found.speed_mm_s, 'gain_mm_mv': found.gain_mm_mv, 'read_s': time.perf_counter() - start,
    }  # fmt: skip
  except Exception as error:
    return made | {'status': 'fail', 'reasons': [schema.printable(page_job.reason(error))], 'read_s': time.perf_counter() - start}


def page(data: bytes, number: int, options: page_job.Options) -> tuple[int, dict[str, Any]]:
  """Returns the number of pages in a file's bytes, and the result of `read` for page `number`, from 0."""
  decoded = opened(data, number)
  if decoded.image is None:
    from ecgjax.archive import schema

    return decoded.pages, schema.failed(decoded.reason)
  return decoded.pages, read(decoded.image, options)
