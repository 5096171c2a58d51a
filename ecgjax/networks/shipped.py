"""Trace weights that install with the package, by name; every option for weights takes a name or a path."""

import pathlib

from ecgjax.ecg.errors import ECGError

FOLDER = pathlib.Path(__file__).parents[1] / 'weights'
NAMES = ('base', 'small')  # trained on an accelerator; on two cores, for a third of the work
DEFAULT = 'base'
ENGINES = ('auto', 'jax', 'openvino')  # what may run them
PRECISIONS = ('auto', 'bfloat16', 'float32')  # of its convolutions


def label(weights: str) -> str:
  """Returns the name of weights in results: one of NAMES, else the file name, with ./ before a file named like one of NAMES."""
  name = pathlib.Path(weights).name
  return weights if weights in NAMES else f'./{name}' if name in NAMES else name


def located(weights) -> pathlib.Path:
  """Returns the path of weights.

  Args:
    weights: one of NAMES, or the path of a `.safetensors` file (./base is the file of that name).

  Raises:
    ECGError: if there is no such file.
  """
  path = FOLDER / f'{weights}.safetensors' if isinstance(weights, str) and weights in NAMES else pathlib.Path(weights)
  if not path.is_file():
    names = ' or '.join(NAMES)
    raise ECGError(f'no weights file {path}; give --weights, or config.init_from of a training, {names}, or the path of a file')
  return path
