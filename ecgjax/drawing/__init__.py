"""Clean pages, drawn on the device with their exact truth."""
