"""The text that replaces a secret."""

from __future__ import annotations

MASK = "••••••"
