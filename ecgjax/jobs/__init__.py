"""Child processes that read pages, and what commands share."""
