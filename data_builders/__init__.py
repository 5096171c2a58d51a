"""Builders of training data on disk."""
