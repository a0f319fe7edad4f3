"""Queues and Redis servers as of a moment, from the stored history."""
