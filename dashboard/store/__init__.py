"""Queuedeck's own data in Redis."""
