#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93 (numpy 2.4.6, Python 3.11): `cv2.remap` samples one plane of floats more finely than two planes at once.
#
# With INTER_LINEAR a float32 picture of one channel is sampled at the very places that the maps name: a ramp of one grey level a px gives
# the coordinate back within 1e-6. The same ramp as both channels of a two-channel picture is sampled at the nearest 32nd of a px, so its
# values are off by up to 0.016. INTER_CUBIC and INTER_LANCZOS4 take 32nds of a single channel, too, and the cubic (a = -0.75) does not
# reproduce a straight line at all: 0.3 px beyond a px it reads 0.342. Whoever measures displacements of hundredths of a px by sampling
# colours, or several planes at once to save time, reads them with another ruler than whoever samples plane by plane.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q opencv-python-headless==5.0.0.93 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import cv2
import numpy as np

ramp = np.tile(np.arange(64, dtype=np.float32), (64, 1))
shift = np.linspace(0, 1, 201, dtype=np.float32)
x = np.broadcast_to(30 + shift, (4, len(shift))).astype(np.float32)
y = np.full_like(x, 20)


def off(picture, how):
  read = cv2.remap(picture, x, y, how)
  return (read[0] if read.ndim == 2 else read[0, :, 0]) - x[0]


one, two, cubic = off(ramp, cv2.INTER_LINEAR), off(np.dstack([ramp, ramp]), cv2.INTER_LINEAR), off(ramp, cv2.INTER_CUBIC)
print(f'largest error, px: linear, one channel {np.abs(one).max():.6f}; two channels {np.abs(two).max():.4f}; cubic {np.abs(cubic).max():.4f}')
assert np.abs(one).max() < 1e-4
assert 0.014 < np.abs(two).max() < 0.017 and np.allclose((two + x[0]) * 32 % 1, 0)
assert 0.03 < np.abs(cubic).max() < 0.06
PY
