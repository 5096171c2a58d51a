"""Sets of simulated pictures."""
