"""The pages of job classes."""
