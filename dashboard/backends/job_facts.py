"""Facts about jobs that every library words the same way."""

from __future__ import annotations

POSITION = "Position"


def position_fact(ahead: int) -> tuple[str, str]:
    """The position of a waiting job that starts after `ahead` others."""
    return POSITION, f"{ahead:,} ahead" if ahead else "next"
