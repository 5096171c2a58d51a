"""The command `ecgjax`."""
