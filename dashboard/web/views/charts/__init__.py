"""Charts of the stored history."""
