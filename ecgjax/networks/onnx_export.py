"""Export of the trace network: as an ONNX graph, written from the parameters by hand, and as StableHLO.

`jax2onnx` makes slower graphs of fixed shapes; a U-Net of seven kinds of layers needs no compiler.
"""

import itertools

import jax
import numpy as np

from ecgjax.networks import unet

OPSET = 21  # the first whose GroupNormalization scales each channel, as flax does
EPSILON = 1e-6  # of flax.nnx.GroupNorm
COLOURS = 3  # the first of unet.CHANNELS


class Graph:
  """Nodes and constants of an ONNX graph under construction; names are numbered."""

  def __init__(self):
    self.nodes, self.constants, self.count = [], [], itertools.count()

  def add(self, kind: str, *inputs: str, **attributes) -> str:
    """Adds a node and returns the name of its output."""
    from onnx import helper

    name = f'{kind}_{next(self.count)}'
    self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
    return name

  def constant(self, value) -> str:
    """Adds a constant and returns its name."""
    from onnx import numpy_helper

    name = f'c{next(self.count)}'
    self.constants.append(numpy_helper.from_array(np.asarray(value), name))
    return name

  def shaped(self, x: str, shape, *, order=None, then=None) -> str:
    """Reshapes, and if wanted transposes and reshapes again."""
    x = self.add('Reshape', x, self.constant(np.array(shape, np.int64)))
    x = self.add('Transpose', x, perm=list(order)) if order is not None else x
    return self.add('Reshape', x, self.constant(np.array(then, np.int64))) if then is not None else x

  def conv(self, x: str, layer: dict) -> str:
    """A convolution of a layer's HWIO kernel, padded so that the size stays."""
    kernel = np.ascontiguousarray(layer['kernel'].transpose(3, 2, 0, 1))
    rest = [self.constant(layer['bias'])] if 'bias' in layer else []
    pads = [n // 2 for n in kernel.shape[2:]] * 2
    return self.add('Conv', x, self.constant(kernel), *rest, kernel_shape=list(kernel.shape[2:]), pads=pads)

  def linear(self, x: str, layer: dict) -> str:
    """(..., W, C) times a layer's kernel, plus its bias."""
    return self.add('Add', self.add('MatMul', x, self.constant(layer['kernel'])), self.constant(layer['bias']))

  def norm(self, x: str, layer: dict) -> str:
    """GroupNorm."""
    scale, bias = self.constant(layer['scale']), self.constant(layer['bias'])
    return self.add('GroupNormalization', x, scale, bias, epsilon=EPSILON, num_groups=unet.groups(len(layer['bias'])))

  def silu(self, x: str) -> str:
    """x * sigmoid(x)."""
    return self.add('Mul', x, self.add('Sigmoid', x))

  def block(self, x: str, layer: dict) -> str:
    """`unet.Block`."""
    y = self.silu(self.norm(self.conv(x, layer['conv1']), layer['norm1']))
    y = self.norm(self.conv(y, layer['conv2']), layer['norm2'])
    return self.silu(self.add('Add', y, self.conv(x, layer['short']) if 'short' in layer else x))

  def pooled(self, x: str) -> str:
    """(R, C, H, W) -> (R, W, 2 C): mean and maximum over the height."""
    axes = self.constant(np.array([2], np.int64))
    both = [self.add(kind, x, axes, keepdims=0) for kind in ('ReduceMean', 'ReduceMax')]
    return self.add('Transpose', self.add('Concat', *both, axis=1), perm=[0, 2, 1])

  def exchange(self, x: str, layer: dict, *, rows: int) -> str:
    """`unet.Exchange`."""
    own = self.silu(self.linear(self.pooled(x), layer['ask']))
    every = self.add('ReduceSum', own, self.constant(np.array([0], np.int64)), keepdims=1)
    others = self.add('Mul', self.add('Sub', every, own), self.constant(np.float32(1 / max(1, rows - 1))))
    message = self.linear(self.add('Concat', own, others, axis=2), layer['tell'])
    message = self.add('Transpose', message, perm=[0, 2, 1])
    return self.add('Add', x, self.add('Unsqueeze', message, self.constant(np.array([2], np.int64))))


def onnx_bytes(
  params: dict, *, cell: tuple[int, int], shape: tuple[int, int, int], classes: bool = True, coordinates: np.ndarray | None = None
) -> bytes:
  """Writes the trace network as an ONNX model.

  Args:
    params: of `unet.UNet`, nested dict of float32 arrays.
    cell: rows and columns (a, b) of px in a cell, as in config.model.
    shape: (R, H, W) of the strips, fixed.
    classes: whether the scores of the px's classes are computed, too; reading does not need them.
    coordinates: (H, W, 2) of every px, from `lattices.coordinates`, for a model whose input is colours alone.

  Returns:
    The file's bytes: input `strips` (R, H, W, 5) float32, or `cells` (R, H / a, W / b, a b 3), as `unet.to_depth` makes them of colours,
    where `coordinates` are given; outputs `rows` (R, H, W), `hidden` (R, W) and `classes` (R, H, W, 4).
  """
  from onnx import TensorProto, helper

  (r, h, w), (a, b) = shape, cell
  g, levels, c = Graph(), len(params['down']), unet.CHANNELS
  if coordinates is None:
    name, size = 'strips', (r, h, w, c)
    x = g.shaped(name, (r, h // a, a, w // b, b, c), order=(0, 2, 4, 5, 1, 3), then=(r, a * b * c, h // a, w // b))
    x = g.conv(x, params['stem'])
  else:
    name, size = 'cells', (r, h // a, w // b, a * b * COLOURS)
    colours, same = stem_parts(params['stem'], coordinates, cell=cell)
    x = g.conv(g.add('Transpose', name, perm=[0, 3, 1, 2]), colours)
    x = g.add('Add', x, g.constant(same.transpose(2, 0, 1)[None]))
  skips = []
  for level in range(levels):
    x = g.add('AveragePool', x, kernel_shape=[2, 2], strides=[2, 2]) if level else x
    x = g.block(x, params['down'][level])
    skips.append(x)
  x = g.exchange(skips.pop(), params['exchange'], rows=r)
  scales = g.constant(np.array([1, 1, 2, 2], np.float32))
  for level in reversed(range(levels - 1)):
    double = g.add('Resize', x, '', scales, mode='nearest', coordinate_transformation_mode='asymmetric', nearest_mode='floor')
    x = g.block(g.add('Concat', double, skips.pop(), axis=1), params['up'][level])
  g.shaped(g.linear(g.pooled(x), params['hide']), (r, w))
  g.nodes[-1].output[0] = 'hidden'
  wanted, outputs = {'rows': [len(unet.CLASSES)]}, {'hidden': (r, w), 'rows': (r, h, w)}
  if classes:
    wanted['classes'], outputs['classes'] = list(range(len(unet.CLASSES))), (r, h, w, len(unet.CLASSES))
  for output, channels in wanted.items():
    y = g.conv(x, {key: _picked(value, channels) for key, value in params['head'].items()})
    g.shaped(y, (r, a, b, len(channels), h // a, w // b), order=(0, 4, 1, 5, 2, 3), then=outputs[output])
    g.nodes[-1].output[0] = output
  info = lambda name, size: helper.make_tensor_value_info(name, TensorProto.FLOAT, list(size))
  graph = helper.make_graph(g.nodes, 'ecgjax', [info(name, size)], [info(*item) for item in outputs.items()], g.constants)
  made = helper.make_model(graph, opset_imports=[helper.make_opsetid('', OPSET)], ir_version=10, producer_name='ecgjax')
  return made.SerializeToString()


def stem_parts(stem: dict, coordinates: np.ndarray, *, cell: tuple[int, int]) -> tuple[dict, np.ndarray]:
  """Splits the first layer: coordinates are the same in every strip, so their contribution is a constant.

  Args:
    stem: `kernel` (3, 3, a b 5, C) and `bias` (C,).
    coordinates: (H, W, 2).
    cell: (a, b).

  Returns:
    The layer of the colours alone, `kernel` (3, 3, a b 3, C); and (H / a, W / b, C) float32, the constant to be added to its output.
  """
  kernel = stem['kernel'].reshape(3, 3, -1, unet.CHANNELS, stem['kernel'].shape[-1])
  of_colours, of_places = (part.reshape(3, 3, -1, kernel.shape[-1]) for part in np.split(kernel, [COLOURS], axis=3))
  places = jax.numpy.asarray(unet.to_depth(np.asarray(coordinates, np.float32)[None], cell))
  same = jax.lax.conv_general_dilated(
    places, jax.numpy.asarray(of_places), (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'), precision='highest'
  )
  return {'kernel': of_colours}, np.asarray(same[0] + stem['bias'])


def _picked(value: np.ndarray, channels: list[int]) -> np.ndarray:
  """Returns the head's parameters (..., area * scores) for these scores only."""
  return value.reshape(*value.shape[:-1], -1, len(unet.CLASSES) + 1)[..., channels].reshape(*value.shape[:-1], -1)


def stablehlo_bytes(net: unet.Network, params: dict, *, shape: tuple[int, int, int]) -> bytes:
  """Writes the network as serialized StableHLO for CPU, CUDA and TPU (`jax.export.deserialize` reads it).

  Args:
    net: the network.
    params: its parameters, which become constants.
    shape: (R, H, W) of the strips.

  Returns:
    The file's bytes; the function gives a dict of `rows`, `hidden` and `classes`.
  """
  from jax import export

  strips = jax.ShapeDtypeStruct((*shape, unet.CHANNELS), np.float32)
  return bytes(export.export(jax.jit(lambda x: net.apply(params, x)._asdict()), platforms=('cpu', 'cuda', 'tpu'))(strips).serialize())
