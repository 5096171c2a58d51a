"""`ecgjax serve`: a local page where a person looks at what was read, corrects it and keeps it; and the same for programs."""
