"""What child processes do with a page of an archive: bytes to px, px to what its row holds. Nothing is raised: a reason is an answer."""

import time
from typing import Any, NamedTuple

from ecgjax import worker


class Opened(NamedTuple):
  """A page decoded: (H, W, 3) uint8, or None and the reason; of how many pages its file has."""

  pages: int
  image: Any
  reason: str = ''


def opened(data: bytes, number: int) -> Opened:
  """Decodes page `number`, from 0, of a file's bytes."""
  pages = 1
  try:
    from ecgjax.io import pictures

    source = pictures.open_bytes(data)
    pages = source.pages
    return Opened(pages, source.read(number))
  except Exception as error:  # a page must not end the archive
    return Opened(pages, None, worker.told(error))


def read(image, wanted: worker.Options) -> dict[str, Any]:
  """Reads a decoded page.

  Args:
    image: (H, W, 3) uint8.
    wanted: how.

  Returns:
    Columns of `rows.SCHEMA`: all but where the page is.
  """
  start, made = time.perf_counter(), {}
  from ecgjax.archive import rows

  try:
    from ecgjax import reading

    made = worker.made_by(wanted)
    found = reading.digitize(image, reader=worker.reader(wanted), fs=wanted.fs, speed_mm_s=wanted.speed_mm_s, gain_mm_mv=wanted.gain_mm_mv)
    capped = {lead: std.clip(max=rows.MAX_STD_MV) for lead, std in found.std.items()}
    return made | {
      'status': found.status, 'reasons': list(found.warnings), 'quality': found.quality,
      'leads_uv': rows.samples(found.leads), 'std_uv': rows.samples(capped),
      'fs_hz': found.fs, 'seconds': found.seconds, 'start_s': found.start_s,
      'layout': found.layout, 'speed_mm_s': found.speed_mm_s, 'gain_mm_mv': found.gain_mm_mv, 'read_s': time.perf_counter() - start,
    }  # fmt: skip
  except Exception as error:
    return made | {'status': 'fail', 'reasons': [rows.shown(worker.told(error))], 'read_s': time.perf_counter() - start}


def page(data: bytes, number: int, wanted: worker.Options) -> tuple[int, dict[str, Any]]:
  """Returns how many pages a file's bytes hold, and of page `number`, from 0, what `read` says."""
  decoded = opened(data, number)
  if decoded.image is None:
    from ecgjax.archive import rows

    return decoded.pages, rows.failed(decoded.reason)
  return decoded.pages, read(decoded.image, wanted)
