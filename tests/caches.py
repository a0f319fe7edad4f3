"""Caches in tests in which no time passes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from dashboard.store.cache import SingleFlightCache


def expire_values(cache: SingleFlightCache[Any]) -> None:
    """Let the values of `cache` expire, as if time had passed."""
    for key, entry in cache._entries.items():
        cache._entries[key] = replace(entry, loaded_at=-math.inf)
