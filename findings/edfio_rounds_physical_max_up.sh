#!/usr/bin/env bash
# edfio 0.4.18 (numpy 2.4.6, Python 3.11): a physical range that the EDF header could hold exactly is not kept.
#
# An ECG in steps of 1 uV fills 16 bits as -32.768 to 32.767 mV. Both numbers fit into the 8 characters that EDF has for them. edfio keeps
# the minimum, but writes the maximum as 32.76701: the binary float nearest to 32.767 has more digits than fit, and a maximum is rounded
# up, so that no sample lies beyond it. A step is then 1.00000015 uV, and samples that were whole uV come back off by up to 0.01 uV; a
# reader that compares them with the source finds no equal value but at the lower end. A maximum that binary holds exactly (32.75) is kept.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q edfio==0.4.18 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import edfio
import numpy as np

mv = np.arange(-32768, 32768) / 1000


def written(top, values):
  signal = edfio.EdfSignal(values, 512, label='II', physical_dimension='mV', physical_range=(-32.768, top), digital_range=(-32768, 32767))
  file = edfio.Edf([signal]).to_bytes()
  return file[256 + 16 + 80 + 8 + 8 :][:8].decode().strip(), edfio.read_edf(file).signals[0].data


field, back = written(32.767, mv)
print('maximum in the header:', field, '; largest difference of a sample:', f'{1000 * np.abs(back - mv).max():.3f} uV')
assert field == '32.76701'
assert 0.005 < 1000 * np.abs(back - mv).max() < 0.02
exact, _ = written(32.75, np.minimum(mv, 32.75))
print('a maximum that binary holds:', exact)
assert exact == '32.75'
PY
