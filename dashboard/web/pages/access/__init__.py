"""Pages about who and what has access."""
