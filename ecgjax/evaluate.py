"""python -m ecgjax.evaluate: scores weights on pages whose signals are known; the same as `ecgjax evaluate`."""

import sys

from ecgjax.competition import evaluate

if __name__ == '__main__':
  sys.exit(evaluate.main())
