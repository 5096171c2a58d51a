"""Paper, layouts, and the frames in which places are counted."""
