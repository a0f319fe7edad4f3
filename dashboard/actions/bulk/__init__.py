"""Bulk operations: one action on many jobs, run in the background and resumed when a process dies."""
