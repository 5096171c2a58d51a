"""Where arrays live: one data axis over all devices of all hosts."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def data_mesh(*, batch_size: int) -> Mesh:
  """Returns a one-axis mesh ('data',) over every device.

  Raises:
    ValueError: if the devices cannot share the batch evenly.
  """
  devices = jax.device_count()
  if batch_size % devices:
    raise ValueError(f'config.batch_size={batch_size} must be a multiple of the {devices} devices')
  # Auto, said aloud: from jax 0.11 on the default is Explicit, and a plain jitted step raises ShardingTypeError
  return jax.make_mesh((devices,), ('data',), axis_types=(AxisType.Auto,))


def split(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of a batch: its first axis over the devices."""
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
