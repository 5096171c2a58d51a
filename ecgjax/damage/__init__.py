"""What befalls a page between printer and file."""
