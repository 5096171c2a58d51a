"""Twelve-lead signals: names, recordings, synthesis."""
