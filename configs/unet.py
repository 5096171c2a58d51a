"""The trace network on simulated pages: which row of px the trace passes in every column.

python -m ecgjax.train --config configs/unet.py            chooses: base with an accelerator, small without
python -m ecgjax.train --config configs/unet.py:base       2.6 M parameters: the recipe of the shipped `base`, 5.2 + 8.3 minutes of one H200
python -m ecgjax.train --config configs/unet.py:small      0.60 M parameters: at most 5.5 minutes of training on two cores
python -m ecgjax.train --config configs/unet.py:debug      4 steps, seconds

`base` goes by time: the learning rate follows the share of config.max_minutes that is over, compiling not counted. Give it the signals
that `base` had by --config.data.signals=PACK, and more time than 5.2 minutes by --config.max_minutes=60. Its second part began from the
outcome of the first, see ecgjax/weights/README.md.
Scores stand in ecgjax/weights/README.md, each with its command, commit and machine.
"""

import jax
from ml_collections import ConfigDict

VARIANTS = ('', 'base', 'small', 'debug')


def get_config(variant: str = '') -> ConfigDict:
  if variant not in VARIANTS:
    raise ValueError(f'configs/unet.py:{variant} does not exist; choose one of {", ".join(VARIANTS[1:])} or none')
  chosen = variant or ('small' if jax.default_backend() == 'cpu' else 'base')
  debug, base = chosen == 'debug', chosen == 'base'
  c = ConfigDict()
  c.name, c.task = f'unet-{chosen}', 'trace'
  c.note = f'Setting: {chosen}' + (', since no accelerator was found.' if chosen == 'small' and not variant else '.')
  c.seed = 0
  c.total_steps = 4 if debug else 1_000_000 if base else 350
  c.max_minutes = 0.0 if debug else 5.2 if base else 5.5  # of training, after the first step; 0: no limit
  c.schedule = 'time' if base else 'steps'  # what the learning rate goes by: the share of max_minutes that is over, or of total_steps
  c.batch_size = 64 if base else 2  # pages, over all devices
  c.accumulate = 1  # parts of a batch that are learned from one after the other, for as much less memory
  c.width_shards = 1  # devices that share a page's columns, for strips that are too large for one
  c.remat = False  # compute a block's inside anew for its gradient: less memory, a third more work

  c.strip = dict(layout='3x4+II', rate_hz=500, height_px=640, window_px=1024 if base else 64 if debug else 512)
  c.model = dict(
    kind='unet',  # of ecgjax/networks/backbones.py
    widths=(48, 64, 96, 144, 192) if base else (8, 8, 8, 8) if debug else (32, 48, 64, 96),
    cell=(4, 4) if base else (4, 8),  # rows, columns of px in one cell of the first level
    dtype='bfloat16' if base else 'float32',
  )
  c.data = dict(
    source='simulated',  # or records, as built by data_builders/ecg_pages
    dir='',  # of the records
    signals='',  # a pack or a folder of WFDB records to print; none: simulated signals only
    simulated_share=0.2 if base else 0.3,  # of the pages, where there are signals to print
    tall_share=0.25 if base else 0.0,  # of the pages, whose waves are made 2.5 to 6.5 mV tall
    slow_share=0.1 if base else 0.0,  # of the pages, whose signal lasts twice as long, as at 50 mm/s
    rows_share=0.25 if base else 0.0,  # of the pages, whose rows stand at other heights, 12 to 38 mm apart
    variants='mixed' if base else '0001',  # of simulated pages: names of ecgjax/simulate/variants.py with commas between, or mixed
    strength=1.0,  # of the varied light, focus and noise on built pages
    together=32 if base else 1,  # examples a device draws at once
  )
  c.loss = dict(
    sigma_px=1.5,
    class_weight=0.2 if base else 0.5,
    signal_weight=0.3 if base else 0.0,  # of noise over signal, as the score has it
    signal_from=0.2 if base else 0.0,  # share of the run before it counts
    signal_path=not base,  # read along the best path, a loop over all columns; else around each column's plain mode
  )
  c.ema_decay = 0.999 if base else 0.998
  c.optim = dict(
    peak_lr=2e-3 if base else 3e-3,
    warmup_steps=2 if debug else 40,  # these two where the schedule goes by steps
    decay_steps=c.get_ref('total_steps'),
    weight_decay=1e-4,
    clip_norm=1.0,
    muon_rms=0.2,  # how long a kernel's step is, in learning rates
  )
  c.init_from = ''  # weights to start from: base, small or a .safetensors file
  c.log_every = 1 if debug else 25 if base else 50
  c.eval_every = 1_000_000 if base else 5_000  # and after the last step
  c.ckpt_every = 2 if debug else 500 if base else 100
  c.weights_at = (0.25, 0.5, 0.75) if base else ()  # shares of the run after which weights are written, beside those at its end
  # signals: recordings that were not trained on, or '' for simulated ones
  seen = ('0001', '0003', '0005', '0012', '0015') if base else ('0001',)
  c.evals = dict(val=dict(name='trace_snr', signals='', pages=1 if debug else 12 if base else 6, variants=seen))
  return c
