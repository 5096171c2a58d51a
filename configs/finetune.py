"""The trace network, on from weights that read already: to the columns' loss comes the signal's own, noise over signal as the score has it.

python -m ecgjax.train --config configs/finetune.py --config.data.signals=PACK       settings as configs/unet.py: base, small or debug

Begins with the shipped weights of its setting, or with `--config.init_from`. `base` goes by time, as configs/unet.py:base.
Scores stand in ecgjax/weights/README.md and docs/ablations.md.
"""

import pathlib
import runpy

HERE = pathlib.Path(__file__).resolve().parent
unet = runpy.run_path(str(HERE / 'unet.py'))['get_config']


def get_config(variant: str = ''):
  c = unet(variant)
  base, small = c.name == 'unet-base', c.name == 'unet-small'
  c.name = c.name.replace('unet', 'finetune')
  c.total_steps = 3_000 if small else c.total_steps
  c.max_minutes = c.max_minutes if base else 0.0
  c.data.variants = 'mixed' if base or small else c.data.variants
  c.data.simulated_share = 0.15  # read in their full variety, recordings teach more
  c.data.tall_share = 0.25  # where strokes of two rows cross, most is left to learn
  c.loss.signal_weight, c.loss.signal_from = 0.3, 0.0
  c.loss.class_weight = 0.0  # the classes have taught what they can, and cost a third of the time
  c.optim.peak_lr = 5e-4 if base else 1e-3
  c.init_from = 'base' if base else 'small' if small else ''
  return c
