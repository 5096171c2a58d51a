"""Where the ink of a page stands by its lattice: jumps of the feed, black off the colours."""
