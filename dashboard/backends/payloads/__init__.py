"""Readable job payloads: decoded within bounds, never executed, secrets masked."""
