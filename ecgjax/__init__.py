"""Paper ECGs to calibrated 12-lead signals, in JAX."""
