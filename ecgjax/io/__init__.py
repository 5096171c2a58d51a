"""Input and output files: pictures of every format to pixels, recordings to every format."""


def record_name(text: str) -> str:
  """Returns the text as a WFDB record's name: letters, digits, - and _, others replaced by _."""
  return ''.join(c if c.isascii() and (c.isalnum() or c in '-_') else '_' for c in text)
