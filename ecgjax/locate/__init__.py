"""The lattice of a page from its picture."""
