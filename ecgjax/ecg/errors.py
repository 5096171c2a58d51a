"""What is refused, and why: every error that a person's files, pages or words cause is an ECGError, its text one sentence for them.

Any other exception is a fault of the program, and commands show it as such.
"""


class ECGError(ValueError):
  """A request, a file or a page that cannot be served; the text says what was given, what is needed and where to change it."""


class Unreadable(ECGError):
  """The bytes give no picture; the text says why, and what would."""


class PageNotFound(ECGError):
  """No page was found in a picture, or not the one that was asked for."""


class LowQuality(ECGError):
  """A page was found, but too little of it can be read."""


class UnsupportedLayout(ECGError):
  """A layout, speed or gain that is not known, or that these weights do not read."""


class MissingLibrary(ECGError, ImportError):
  """A library that an extra installs is not there."""
