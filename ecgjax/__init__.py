"""Paper ECGs to calibrated 12-lead signals, in JAX.

`ecgjax.digitize(path_or_pixels)` reads a page and returns an `ecgjax.Recording`; heavy libraries are imported at first use. The names
in `__all__` are the stable interface; modules below the package may be renamed.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from ecgjax.competition.scoring import image_report as score
  from ecgjax.ecg.errors import ECGError, LowQuality, MissingLibrary, PageNotFound, Unreadable, UnsupportedLayout
  from ecgjax.ecg.leads import LEADS
  from ecgjax.ecg.synthesis import simulate as simulate_ecg
  from ecgjax.extract.digitizer import digitize, load_reader
  from ecgjax.extract.recording import Recording
  from ecgjax.geometry.layouts import LAYOUTS, Layout
  from ecgjax.jobs.many import digitize_many
  from ecgjax.locate.find_page import find_page
  from ecgjax.simulate.pages import draw_page, photograph
  from ecgjax.training.loop import train

__version__ = '0.1.0'
__all__ = [
  'LAYOUTS', 'LEADS', 'ECGError', 'Layout', 'LowQuality', 'MissingLibrary', 'PageNotFound', 'Recording', 'Unreadable', 'UnsupportedLayout',
  'digitize', 'digitize_many', 'draw_page', 'find_page', 'load_reader', 'photograph', 'score', 'simulate_ecg', 'train',
]  # fmt: skip
_HOMES = {  # where each stands
  'LAYOUTS': 'geometry.layouts.LAYOUTS', 'LEADS': 'ecg.leads.LEADS', 'ECGError': 'ecg.errors.ECGError', 'Layout': 'geometry.layouts.Layout',
  'LowQuality': 'ecg.errors.LowQuality', 'MissingLibrary': 'ecg.errors.MissingLibrary', 'PageNotFound': 'ecg.errors.PageNotFound',
  'Recording': 'extract.recording.Recording', 'Unreadable': 'ecg.errors.Unreadable', 'UnsupportedLayout': 'ecg.errors.UnsupportedLayout',
  'digitize': 'extract.digitizer.digitize', 'digitize_many': 'jobs.many.digitize_many', 'draw_page': 'simulate.pages.draw_page',
  'find_page': 'locate.find_page.find_page', 'load_reader': 'extract.digitizer.load_reader', 'photograph': 'simulate.pages.photograph',
  'score': 'competition.scoring.image_report', 'simulate_ecg': 'ecg.synthesis.simulate', 'train': 'training.loop.train',
}  # fmt: skip


def __getattr__(name: str):
  if name in _HOMES:
    module, _, attribute = _HOMES[name].rpartition('.')
    return getattr(importlib.import_module(f'ecgjax.{module}'), attribute)
  raise AttributeError(f'module ecgjax has no attribute {name!r}')


def __dir__() -> list[str]:
  return [*__all__, '__version__']
