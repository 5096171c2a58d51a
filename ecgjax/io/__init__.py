"""Files in, files out: pictures of every format to pixels, recordings to every format."""
