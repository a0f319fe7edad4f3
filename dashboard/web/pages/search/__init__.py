"""The search page, and actions on the jobs that it found."""
