"""The trace network, on from weights that read already: to the columns' loss comes the signal's own, noise over signal as the score has it.

python -m ecgjax.train --config configs/finetune.py --config.data.signals=PACK       settings as configs/unet.py: full, small or debug

Begins with `config.init_from`: for `small` the shipped weights, for `full` weights of configs/unet.py:full, which must be given.
Scores stand in ecgjax/weights/README.md and docs/ablations.md.
"""

import pathlib
import runpy

HERE = pathlib.Path(__file__).resolve().parent
unet = runpy.run_path(str(HERE / 'unet.py'))['get_config']


def get_config(variant: str = ''):
  c = unet(variant)
  full, small = c.name == 'unet-full', c.name == 'unet-small'
  c.name = c.name.replace('unet', 'finetune')
  c.total_steps = 20_000 if full else 3_000 if small else c.total_steps
  c.max_minutes = 0.0
  c.data.variants = 'mixed' if full or small else c.data.variants
  c.data.simulated_share = 0.15  # read in their full variety, recordings teach more
  c.data.tall_share = 0.25  # where strokes of two rows cross, most is left to learn
  c.loss.signal_weight, c.loss.class_weight = 0.3, 0.0  # the classes have taught what they can, and cost a third of the time
  c.optim.peak_lr = 3e-4 if full else 1e-3
  c.init_from = str(HERE.parent / 'ecgjax' / 'weights' / 'trace.safetensors') if small else ''
  return c
