"""Displacement of a page's ink from its lattice: scanner feed jumps, offset of black from the colours."""
