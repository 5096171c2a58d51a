"""Trace networks by kind, as `config.model.kind` and the header of a weights file name it: a new backbone is one file and one row here."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ecgjax.ecg.errors import ECGError
from ecgjax.networks import onnx_export, unet


class Backbone(NamedTuple):
  """How a kind of network is made and written.

  Attributes:
    build: arguments of `meta['model']` but its kind -> `unet.Network`.
    onnx_bytes: as `onnx_export.onnx_bytes`, or None: then it runs in JAX alone.
  """

  build: Callable[..., unet.Network]
  onnx_bytes: Callable[..., bytes] | None


BACKBONES = {'unet': Backbone(unet.network, onnx_export.onnx_bytes)}
FIRST = 'unet'  # the kind of weights whose header names none: there was one


def network(*, kind: str = FIRST, **options) -> unet.Network:
  """Returns the trace network of a kind.

  Args:
    kind: key of BACKBONES.
    **options: arguments of the network.

  Raises:
    ECGError: if there is no such kind.
  """
  return _backbone(kind).build(**options)


def onnx_writer(model: Mapping[str, Any], params: dict) -> Callable[..., bytes]:
  """Returns the function that writes a network as ONNX, of what `onnx_export.onnx_bytes` takes beside `params` and `cell`.

  Args:
    model: `meta['model']` of its weights.
    params: of the network, nested dict of float32 arrays.

  Raises:
    ECGError: if there is no such kind of network, or no ONNX of it.
  """
  kind = model.get('kind', FIRST)
  write = _backbone(kind).onnx_bytes
  if write is None:
    raise ECGError(f'a network of kind {kind} cannot be written as ONNX: read with --engine jax, export with --format stablehlo')
  return functools.partial(write, params, cell=tuple(model['cell']))


def _backbone(kind: str) -> Backbone:
  if kind not in BACKBONES:
    raise ECGError(f'there is no network of kind {kind!r}: config.model.kind must be one of {", ".join(BACKBONES)}')
  return BACKBONES[kind]
