"""Trace networks by kind, as `config.model.kind` and the header of a weights file name it: a new backbone is one file and one row here."""

from collections.abc import Callable
from typing import NamedTuple

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


def onnx_bytes(kind: str) -> Callable[..., bytes]:
  """Returns the function that writes a kind of network as ONNX.

  Args:
    kind: key of BACKBONES.

  Raises:
    ECGError: if there is no such kind or no such function.
  """
  write = _backbone(kind).onnx_bytes
  if write is None:
    raise ECGError(f'a network of kind {kind} cannot be written as ONNX: read with --engine jax, export with --format stablehlo')
  return write


def _backbone(kind: str) -> Backbone:
  if kind not in BACKBONES:
    raise ECGError(f'there is no network of kind {kind!r}: config.model.kind must be one of {", ".join(BACKBONES)}')
  return BACKBONES[kind]
