"""Networks, their weights and inference engines."""
