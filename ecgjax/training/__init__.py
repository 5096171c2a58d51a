"""Learning: examples, losses, updates, checkpoints."""
