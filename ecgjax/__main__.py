"""python -m ecgjax: the same as the command `ecgjax`."""

import sys

from ecgjax.cli import command_line

sys.exit(command_line.main())
