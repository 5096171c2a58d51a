#!/usr/bin/env bash
# openvino 2026.4.1 and jax 0.10.2 (Linux, Python 3.11): `import openvino` forks the process it is imported into.
#
# The import starts a thread, and the thread a child process by multiprocessing, whose method on Linux is fork up to Python 3.13; nothing
# of OpenVINO has been used by then. Where a JAX backend is up, threads run, and JAX's hook warns that the fork will likely deadlock. Since
# the fork happens beside the import, the warning names popen_fork.py of the standard library, and with -W error it becomes an
# "Exception ignored" on stderr while the import succeeds. With the environment variable CI set no child is begun.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q openvino==2026.4.1 jax==0.10.2 jaxlib==0.10.2
cat > "$work/import.py" <<'PY'
import multiprocessing.popen_fork
import threading
import time

import jax

jax.numpy.zeros(2).block_until_ready()
begun, launch = [], multiprocessing.popen_fork.Popen._launch


def counted(self, process):
  begun.append(threading.current_thread() is threading.main_thread())
  return launch(self, process)


multiprocessing.popen_fork.Popen._launch = counted
import openvino  # noqa: E402, F401

time.sleep(3)
print(len(begun), sum(begun))
PY
beside="$(cd "$work" && env -u CI "$work/venv/bin/python" import.py 2> "$work/stderr")"
warned="$(grep -c 'JAX is multithreaded' "$work/stderr" || true)"
echo "children begun, of these by the main thread: $beside; warnings on stderr: $warned"
[[ "$beside" == '1 0' && "$warned" == 1 ]]
strict="$(cd "$work" && env -u CI "$work/venv/bin/python" -W error import.py 2>&1 > /dev/null | grep -c 'Exception ignored' || true)"
echo "with -W error: $strict ignored"
[[ "$strict" == 1 ]]
quiet="$(cd "$work" && CI=true "$work/venv/bin/python" import.py 2> /dev/null)"
echo "with CI=true: $quiet"
[[ "$quiet" == '0 0' ]]
