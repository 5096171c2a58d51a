"""Errors caused by a user's files, pages or arguments: each is an ECGError whose text is one sentence for the user.

Any other exception is a fault of the program, and commands show its traceback.
"""


class ECGError(ValueError):
  """A request, a file or a page that cannot be processed; the text states the given value, the needed value and where to change it."""


class Unreadable(ECGError):
  """The bytes cannot be decoded to a picture; the text states the reason and a remedy."""


class PageNotFound(ECGError):
  """No page was found in a picture, or not the requested one."""


class LowQuality(ECGError):
  """A page was found, but too little of it can be read."""


class UnsupportedLayout(ECGError):
  """A layout, speed or gain that is unknown, or that the weights do not read."""


class MissingLibrary(ECGError, ImportError):
  """A library of an extra that is not installed."""
