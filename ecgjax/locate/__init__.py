"""From a picture to the lattice of its page."""
