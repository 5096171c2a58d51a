"""Training: examples, losses, updates, checkpoints."""
