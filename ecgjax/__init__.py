"""Paper ECGs to calibrated 12-lead signals, in JAX.

`ecgjax.digitize(path_or_pixels)` reads a page and returns an `ecgjax.Recording`; nothing heavy is imported before it is used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from ecgjax.extract.digitizer import digitize, reader
  from ecgjax.extract.recording import Recording

__version__ = '0.1.0'
__all__ = ['Recording', 'digitize', 'reader']
_HOMES = {'Recording': 'extract.recording', 'digitize': 'extract.digitizer', 'reader': 'extract.digitizer'}


def __getattr__(name: str):
  if name in _HOMES:
    return getattr(importlib.import_module(f'ecgjax.{_HOMES[name]}'), name)
  raise AttributeError(f'module ecgjax has no attribute {name!r}')
