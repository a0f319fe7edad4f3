"""Bulk work: one act on many jobs, as a named piece of background work that survives the process that runs it."""
