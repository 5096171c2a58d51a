"""`ecgjax serve`: a local web page to check, correct and save signals, and a JSON API for programs."""
