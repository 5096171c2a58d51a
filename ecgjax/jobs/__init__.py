"""Child processes that read pages, and code shared by the commands."""
