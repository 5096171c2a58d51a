"""The trace network on simulated pages: which row of px the trace passes in every column.

python -m ecgjax.train --config configs/unet.py            chooses: full with an accelerator, small without
python -m ecgjax.train --config configs/unet.py:small      500 columns/s, 0.60 M parameters: at most 5.5 minutes of training
python -m ecgjax.train --config configs/unet.py:full       500 columns/s, 9.3 M parameters: not yet trained, needs an accelerator
python -m ecgjax.train --config configs/unet.py:debug      4 steps, seconds

Scores stand in ecgjax/weights/README.md, each with its command, commit and machine.
"""

import jax
from ml_collections import ConfigDict

VARIANTS = ('', 'full', 'small', 'debug')


def get_config(variant: str = '') -> ConfigDict:
  if variant not in VARIANTS:
    raise ValueError(f'configs/unet.py:{variant} does not exist; choose one of {", ".join(VARIANTS[1:])} or none')
  chosen = variant or ('small' if jax.default_backend() == 'cpu' else 'full')
  debug, full = chosen == 'debug', chosen == 'full'
  c = ConfigDict()
  c.name, c.task = f'unet-{chosen}', 'trace'
  c.note = f'Setting: {chosen}' + (', since no accelerator was found.' if chosen == 'small' and not variant else '.')
  c.seed = 0
  c.total_steps = 4 if debug else 100_000 if full else 350
  c.max_minutes = 0.0 if full or debug else 5.5  # 0: no limit
  c.batch_size = 2 if debug else 32 if full else 2  # pages, over all devices
  c.accumulate = 1  # parts of a batch that are learned from one after the other, for as much less memory
  c.width_shards = 1  # devices that share a page's columns, for strips that are too large for one
  c.remat = False  # compute a block's inside anew for its gradient: less memory, a third more work

  c.strip = dict(layout='3x4+II', rate_hz=500, height_px=640, window_px=1024 if full else 64 if debug else 512)
  c.model = dict(
    widths=(64, 128, 256, 512) if full else (8, 8, 8, 8) if debug else (32, 48, 64, 96),
    cell=(2, 4) if full else (4, 8),  # rows, columns of px in one cell of the first level
    dtype='bfloat16' if full else 'float32',
  )
  c.data = dict(
    source='simulated',  # or records, as built by data_builders/ecg_pages
    dir='',  # of the records
    signals='',  # a pack or a folder of WFDB records to print; none: simulated signals only
    simulated_share=0.3,  # of the pages, where there are signals to print
    tall_share=0.0,  # of the pages, whose waves are made 2.5 to 6.5 mV tall
    variants='mixed' if full else '0001',  # of simulated pages: names of ecgjax/variants.py with commas between, or mixed
    strength=1.0,  # of the varied light, focus and noise on built pages
    together=8 if full else 1,  # examples a device draws at once
  )
  c.loss = dict(sigma_px=1.5, class_weight=0.5, signal_weight=0.0)  # the last: see configs/finetune.py
  c.ema_decay = 0.998
  c.optim = dict(
    peak_lr=1e-3 if full else 3e-3,
    warmup_steps=2 if debug else 1_000 if full else 40,
    decay_steps=c.get_ref('total_steps'),
    weight_decay=1e-4,
    clip_norm=1.0,
    muon_rms=0.2,  # how long a kernel's step is, in learning rates
  )
  c.init_from = ''  # a .safetensors file to start from
  c.log_every = 1 if debug else 50
  c.eval_every = 5_000  # and after the last step
  c.ckpt_every = 2 if debug else 1_000 if full else 100
  # signals: recordings that were not trained on, or '' for simulated ones
  seen = ('0001', '0003', '0005', '0012', '0015') if full else ('0001',)
  c.evals = dict(val=dict(name='trace_snr', signals='', pages=1 if debug else 12 if full else 6, variants=seen))
  return c
