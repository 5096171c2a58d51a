"""python -m ecgjax: the same as the command `ecgjax`."""

import sys

from ecgjax import cli

sys.exit(cli.main())
