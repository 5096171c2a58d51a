"""Training tasks: network, examples, loss and evaluators, each built from a config in this module alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from ecgjax.ecg import packs
from ecgjax.ecg.errors import ECGError
from ecgjax.geometry import lattices, layouts
from ecgjax.jobs import console
from ecgjax.networks import backbones, page_net, unet
from ecgjax.simulate import variants
from ecgjax.training import canvas_views, evaluators, examples, losses, records
from ecgjax.training.schedule import Pace

HUGE = 10**9
LIMITS = {  # of what a config says, by its name, the evals' by theirs; of lists, each of their numbers
  'seed': (0, 2**31 - 1), 'total_steps': (1, HUGE), 'max_minutes': (0, HUGE), 'log_every': (1, HUGE), 'eval_every': (1, HUGE),
  'ckpt_every': (1, HUGE),
  'batch_size': (1, 2**16), 'accumulate': (1, 2**16), 'width_shards': (1, 2**16), 'ema_decay': (0, 1),
  'strip.rate_hz': (50, 2000), 'strip.height_px': (64, 2048), 'strip.window_px': (16, 2**16),
  'canvas.size_px': (64, 4096), 'canvas.views': (1, 64), 'model.widths': (1, 2**14), 'model.cell': (1, 64),
  'data.simulated_share': (0, 1), 'data.tall_share': (0, 1), 'data.slow_share': (0, 1),
  'data.rows_share': (0, 1), 'data.strength': (0, 10), 'data.together': (1, 2**16),
  'weights_at': (0, 1), 'loss.signal_from': (0, 1),
  'loss.sigma_px': (0.1, 100), 'loss.class_weight': (0, 1e3), 'loss.signal_weight': (0, 1e3), 'loss.on_weight': (0, 1e3),
  'loss.turn_weight': (0, 1e3),
  'optim.peak_lr': (0, 10), 'optim.warmup_steps': (0, HUGE), 'optim.decay_steps': (0, HUGE), 'optim.weight_decay': (0, 10),
  'optim.clip_norm': (1e-6, 1e9), 'optim.muon_rms': (1e-6, 1e3), 'pages': (1, 1000),
}  # fmt: skip
DTYPES = ('float32', 'bfloat16')
SCHEDULES = ('steps', 'time')  # what the learning rate goes by
OPTIONAL = ('weights_at',)  # lists that may be empty


class Task(NamedTuple):
  """All parts of a training task for `train`.

  Attributes:
    net: the network.
    stream: step -> host batch.
    one: (key, item of a batch) -> example, on the device.
    loss: (params, example, pace) -> (loss, name -> number to report).
    evals: name -> (params -> evaluators.Result).
    shape: config that the weights' header must hold, beside config.model, to use the network.
    columns: for each array of an example the axis of its columns, along which devices may split it; None if they cannot.
  """

  net: unet.Network
  stream: Callable[[int], Any]
  one: Callable
  loss: Callable
  evals: dict[str, Callable]
  shape: dict[str, Any]
  columns: Any = None


def make(c) -> Task:
  """Returns the task that `c.task` names.

  Raises:
    ECGError: for a config without a task.
  """
  check(c)
  tasks = {'trace': trace, 'page': page}
  if c.task not in tasks:
    raise ECGError(f'config.task={c.task!r} must be one of {", ".join(tasks)}')
  return tasks[c.task](c)


def check(c) -> None:
  """Validates a config before anything is compiled.

  Raises:
    ECGError: with the option and its limits, see LIMITS.
  """
  for name, value in _flat(c).items():
    limits = LIMITS.get(name.split('.')[-1] if name.startswith('evals.') else name)
    values = value if isinstance(value, tuple | list) else (value,)
    if limits and not (name in OPTIONAL or values) or limits and not all(limits[0] <= x <= limits[1] for x in values):
      raise ECGError(f'config.{name}={value} must be {limits[0]:g} to {limits[1]:g}')
  if c.schedule not in SCHEDULES:
    raise ECGError(f'config.schedule={c.schedule!r} must be one of {", ".join(SCHEDULES)}')
  if c.schedule == 'time' and not c.max_minutes:
    raise ECGError('config.schedule=time goes by the share of config.max_minutes that is over: give it some, or take steps')
  if list(c.weights_at) != sorted({*c.weights_at} - {0.0, 1.0}):
    raise ECGError(f'config.weights_at={c.weights_at} must be shares of the run above 0 and below 1, each larger than the one before')
  if c.model.dtype not in DTYPES:
    raise ECGError(f'config.model.dtype={c.model.dtype!r} must be one of {", ".join(DTYPES)}')
  if len(c.model.get('cell', (1, 1))) != 2:
    raise ECGError(f'config.model.cell={c.model.cell} must be two numbers, rows and columns')


def _flat(c) -> dict[str, Any]:
  inside = {name: _flat(value) for name, value in c.items() if hasattr(value, 'items')}
  below = {f'{name}.{key}': value for name, part in inside.items() for key, value in part.items()}
  return {name: value for name, value in c.items() if name not in inside} | below


def trace(c) -> Task:
  """Returns the task of reading rows from strips, of simulated or of built pages."""
  layout = layouts.make(c.strip.layout)
  frame = lattices.frame(layout, rate_hz=c.strip.rate_hz, height_px=c.strip.height_px)
  net = backbones.network(**c.model, remat=c.remat)
  cutting = {'layout': layout, 'frame': frame, 'window_px': c.strip.window_px}
  if c.data.source == 'records':
    built = records.read(c.data.dir, split='train')
    console.say(f'{len(built)} built pages from {c.data.dir}')
    stream = examples.recorded(built, batch_size=c.batch_size, seed=c.seed)
    one = lambda key, item: examples.recorded_example(key, item, strength=c.data.strength, **cutting)
  elif c.data.source == 'simulated':
    names = variants.parse(c.data.variants)
    stream, one = _simulated(c, lambda key, mv: examples.example(key, mv, names=names, rows_share=c.data.rows_share, **cutting))
  else:
    raise ECGError(f'config.data.source={c.data.source!r} must be simulated or records')

  options = {name: value for name, value in c.loss.items() if name != 'signal_from'}

  def loss(params, example: examples.Example, pace: Pace):
    return losses.trace_loss(
      net.apply(params, example.strips), example.rows_px, example.printed, example.inks, signal_on=pace.signal, **options
    )

  factories = {'trace_snr': lambda **options: evaluators.trace_snr(**options, apply=net.apply, layout=layout, frame=frame)}
  return Task(net, stream, one, loss, _evals(c, factories), {'strip': c.strip.to_dict()}, examples.COLUMNS)


def page(c) -> Task:
  """Returns the task of locating the page in a picture, of simulated pages; its columns cannot be split."""
  if c.width_shards != 1:
    raise ECGError(f'config.width_shards={c.width_shards}: only strips (config.task=trace) can be shared out by their columns')
  layout, names, net = layouts.make(c.data.layout), variants.parse(c.data.variants), page_net.network(**c.model)
  size_px = c.canvas.size_px
  stream, one = _simulated(
    c, lambda key, mv: canvas_views.example(key, mv, layout=layout, names=names, size_px=size_px, count=c.canvas.views)
  )

  def of_view(params, view: canvas_views.Views):
    out = net.apply(params, view.canvas)
    place = losses.place_xent(out, view.place, view.on_page & (view.turn == 0))
    return {'place': place, 'on': losses.on_page_xent(out, view.on_page), 'turn': losses.turn_xent(out, view.turn)}

  def loss(params, example: canvas_views.Views, pace: Pace):
    del pace  # its rate is the update's
    parts = jax.tree.map(lambda x: x.mean(), jax.vmap(of_view, (None, 0))(params, example))
    return parts['place'] + c.loss.on_weight * parts['on'] + c.loss.turn_weight * parts['turn'], parts

  factories = {'page_px': lambda **options: evaluators.page_px(**options, apply=net.apply, size_px=size_px)}
  return Task(net, stream, one, loss, _evals(c, factories), {'canvas': c.canvas.to_dict()})


def _simulated(c, draw: Callable):
  """Returns (stream, one) of pages drawn by `draw(key, mv)` from config.data.signals or simulated ones."""
  pack, share = None, 1.0
  if c.data.signals:
    pack, skipped = packs.load(c.data.signals)
    share = c.data.simulated_share
    console.say(f'{len(pack)} recordings from {c.data.signals}, {len(skipped)} left out')

  def one(key, item):
    at_source, at_page = jax.random.split(key)
    shares = {'simulated_share': share, 'tall_share': c.data.tall_share, 'slow_share': c.data.get('slow_share', 0.0)}
    mv = examples.record(at_source, item['pack'], **shares)
    return draw(at_page, mv)

  return examples.stream(pack, batch_size=c.batch_size, seed=c.seed), one


def _evals(c, factories: dict[str, Callable]) -> dict[str, Callable]:
  evals = {}
  for name, spec in c.evals.items():
    options = dict(spec)
    kind = options.pop('name')
    if kind not in factories:
      raise ECGError(f'config.evals.{name}.name={kind!r} must be one of {", ".join(factories)} where config.task={c.task!r}')
    evals[name] = factories[kind](**options)
  return evals
