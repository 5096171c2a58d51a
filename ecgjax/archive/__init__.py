"""`ecgjax archive`: archives of any size to Parquet, one row per page."""

from ecgjax.ecg.errors import MissingLibrary


def start(args) -> int:
  """Runs `ecgjax archive`; returns the exit code.

  Raises:
    MissingLibrary: if the extra `scale` is not installed.
  """
  try:
    from ecgjax.archive import command
  except ModuleNotFoundError as error:
    raise MissingLibrary(f"archive needs {error.name}: pip install 'ecgjax[scale]'") from error
  return command.run(args)
