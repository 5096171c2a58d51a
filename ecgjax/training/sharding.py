"""Sharding of arrays: pages over all devices of all hosts and, if asked for, the columns of a page."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ecgjax.ecg.errors import ECGError


def data_mesh(*, batch_size: int, accumulate: int = 1, width_shards: int = 1) -> Mesh:
  """Arranges every device in rows of `width_shards`, which share pages; each row has its own pages.

  Args:
    batch_size: pages of an update.
    accumulate: number of sequential parts.
    width_shards: devices that share a page's columns: neighbours, of one host.

  Returns:
    A mesh of two axes, ('data', 'width').

  Raises:
    ECGError: if the devices cannot share the batch evenly.
  """
  devices, here = jax.device_count(), jax.local_device_count()
  if width_shards < 1 or here % width_shards:
    raise ECGError(f'config.width_shards={width_shards} must divide the {here} devices of a host')
  rows = devices // width_shards
  if accumulate < 1 or batch_size % (rows * accumulate):
    divisor = f'the {rows} devices' if width_shards == 1 else f'the {rows} rows of {width_shards} devices'
    divisor += f' times config.accumulate={accumulate}' if accumulate != 1 else ''
    raise ECGError(f'config.batch_size={batch_size} must be a multiple of {divisor}')
  # Auto, said aloud: from jax 0.11 on the default is Explicit, and a plain jitted step raises ShardingTypeError
  return jax.make_mesh((rows, width_shards), ('data', 'width'), axis_types=(AxisType.Auto,) * 2)


def spread(examples, mesh: Mesh, *, columns):
  """Splits the columns of a batch of examples over the mesh's axis 'width'; XLA exchanges the halo of convolutions.

  Args:
    examples: arrays of which the first axis is the batch, inside jit.
    mesh: as from `data_mesh`.
    columns: of the same structure: the column axis of one example.

  Returns:
    The same examples.
  """
  where = lambda axis: NamedSharding(mesh, P('data', *[None] * axis, 'width'))
  return jax.tree.map(lambda x, axis: jax.lax.with_sharding_constraint(x, where(axis)), examples, columns)


def split(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of a batch: its first axis over the rows of devices."""
  return NamedSharding(mesh, P('data'))


def copy(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of the state: the whole of it on every device."""
  return NamedSharding(mesh, P())


def put(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """Places a global host batch on the mesh; every host passes the same batch and keeps its own rows.

  Args:
    batch: arrays whose first axis is the global batch.
    mesh: as from `data_mesh`.

  Returns:
    The same names, sharded along the first axis.
  """
  count, rank = jax.process_count(), jax.process_index()
  own = {k: v[rank * len(v) // count : (rank + 1) * len(v) // count] for k, v in batch.items()}
  return {k: jax.make_array_from_process_local_data(split(mesh), v) for k, v in own.items()}
