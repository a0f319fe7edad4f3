"""The list of job classes."""
