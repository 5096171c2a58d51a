"""The trace network at the size that big accelerators allow: as configs/unet.py:full, every level half as wide again.

python -m ecgjax.train --config configs/unet_large.py          21 M parameters, 500 columns/s: not yet trained
python -m ecgjax.train --config configs/unet_large.py:debug    4 steps, seconds: the debug setting of configs/unet.py

Then `configs/finetune.py:full`, with the same `--config.model.widths` and these weights as `--config.init_from`.
"""

import pathlib
import runpy

unet = runpy.run_path(str(pathlib.Path(__file__).resolve().parent / 'unet.py'))['get_config']


def get_config(variant: str = ''):
  if variant not in ('', 'debug'):
    raise ValueError(f'configs/unet_large.py:{variant} does not exist; choose debug or none')
  c = unet(variant or 'full')
  c.name = f'unet-large{"-debug" if variant else ""}'
  if not variant:
    c.model.widths = (96, 192, 384, 768)
    c.total_steps = 200_000
    c.optim.peak_lr = 7e-4  # wider, so shorter steps
  return c
