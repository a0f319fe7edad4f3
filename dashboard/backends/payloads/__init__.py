"""Payloads of jobs made readable: decoded within bounds, never executed, secrets masked."""
