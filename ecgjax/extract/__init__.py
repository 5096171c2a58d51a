"""Calibrated leads from a picture and its lattice."""
