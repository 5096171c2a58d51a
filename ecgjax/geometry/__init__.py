"""Paper, layouts, and coordinate frames."""
