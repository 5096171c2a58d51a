"""The page network on simulated pictures: which part of the page each cell of a small copy of the picture shows, and the quarter turn.

python -m ecgjax.train --config configs/page.py            the same as small
python -m ecgjax.train --config configs/page.py:small      0.7 M parameters: at most 40 minutes of training on two cores
python -m ecgjax.train --config configs/page.py:debug      2 steps

Scores stand in ecgjax/weights/README.md, each with its command, commit and machine.
"""

from ml_collections import ConfigDict

VARIANTS = ('', 'small', 'debug')


def get_config(variant: str = '') -> ConfigDict:
  if variant not in VARIANTS:
    raise ValueError(f'configs/page.py:{variant} does not exist; choose one of {", ".join(VARIANTS[1:])} or none')
  chosen = variant or 'small'
  debug = chosen == 'debug'
  c = ConfigDict()
  c.name, c.task = f'page-{chosen}', 'page'
  c.note = f'Setting: {chosen}.'
  c.seed = 0
  c.total_steps = 2 if debug else 2_000
  c.max_minutes = 0.0 if debug else 40.0  # of training, after the first step; 0: no limit
  c.schedule = 'steps'  # what the learning rate goes by
  c.batch_size = 2  # pages, over all devices
  c.accumulate = 1  # parts of a batch that are learned from one after the other, for as much less memory
  c.width_shards = 1  # a picture's columns cannot be shared out

  c.canvas = dict(size_px=128 if debug else 768, views=1 if debug else 4)
  c.model = dict(
    widths=(8, 8, 8) if debug else (16, 24, 32, 48, 64, 96),
    dtype='float32',
  )
  c.data = dict(
    layout='3x4+II',
    signals='',  # a pack or a folder of WFDB records to print; none: simulated signals only
    simulated_share=0.3,  # of the pages, where there are signals to print
    tall_share=0.0,  # of the pages, whose waves are made 2.5 to 6.5 mV tall
    variants='0001' if debug else 'mixed',  # names of ecgjax/simulate/variants.py with commas between, or mixed
    together=1,  # examples a device draws at once
  )
  c.loss = dict(on_weight=1.0, turn_weight=0.5)
  c.ema_decay = 0.998
  c.optim = dict(
    peak_lr=2e-3,
    warmup_steps=1 if debug else 50,
    decay_steps=c.get_ref('total_steps'),
    weight_decay=1e-4,
    clip_norm=1.0,
    muon_rms=0.2,  # how long a kernel's step is, in learning rates
  )
  c.weights_at = ()  # shares of the run after which weights are written, beside those at its end
  c.init_from = ''  # a .safetensors file to start from
  c.log_every = 1 if debug else 50
  c.eval_every = 5_000  # and after the last step
  c.ckpt_every = 2 if debug else 100
  # signals: recordings that were not trained on, or '' for simulated ones
  seen = ('0001',) if debug else ('0001', '0003', '0004', '0005', '0006', '0009', '0010', '0011', '0012', '0015')
  c.evals = dict(val=dict(name='page_px', signals='', pages=1 if debug else 4, variants=seen))
  return c
