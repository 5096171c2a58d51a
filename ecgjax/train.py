"""python -m ecgjax.train: trains a network; the same as `ecgjax train`."""

import sys

from ecgjax.training import loop

if __name__ == '__main__':
  sys.exit(loop.main())
