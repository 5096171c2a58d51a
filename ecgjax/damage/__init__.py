"""Damage of a page between printer and file."""
