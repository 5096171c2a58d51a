"""Suffixes of the files that may be pages."""

import pathlib

SUFFIXES = {'.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp', '.gif', '.webp', '.jp2', '.pdf', '.heic', '.heif', '.dcm', '.dicom'}
OWN = ('.overlay.jpg', '.mask.png')  # of a folder's files those that an earlier run left


def is_page(name: str) -> bool:
  """Returns whether a file of a folder may be a page by its name: a picture that no earlier run left."""
  return pathlib.PurePath(name).suffix.lower() in SUFFIXES and not name.endswith(OWN)
