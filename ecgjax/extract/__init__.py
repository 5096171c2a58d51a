"""From a picture and its lattice to calibrated leads."""
