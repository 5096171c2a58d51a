"""python -m ecgjax.train: trains a network; the same as `ecgjax train`."""

import sys
from typing import Any

from ecgjax.training import command, loop

if __name__ == '__main__':
  sys.exit(command.main())
else:  # whoever imports this module by its name gets what `ecgjax.train` is: the function
  modules: dict[str, Any] = sys.modules
  modules[__name__] = loop.train
