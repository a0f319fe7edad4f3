"""Looking for keys in small steps: never KEYS, never longer than the budget of the step allows."""

from __future__ import annotations

import time

from dashboard.backends.base import Budget
from dashboard.sources import Source

# Redis looks at about this many keys per call: 1000 keeps one call under 1 ms without and 2 ms with a TYPE filter.
KEYS_PER_CALL = 1000


def scan_step(
    source: Source, cursor: int, budget: Budget, *, match: str, key_type: str | None = None
) -> tuple[list[bytes], int]:
    """Keys that fit `match` from the next stretch of the key space, and where to go on; 0 = all has been seen.

    A key may come twice. The order is Redis's own. Cost: as many round trips as `budget` allows, at least one.
    """
    found: list[bytes] = []
    filters = ("TYPE", key_type) if key_type else ()
    while True:
        started = time.perf_counter()
        following, keys = source.execute("SCAN", cursor, "MATCH", match, "COUNT", KEYS_PER_CALL, *filters)
        found.extend(keys)
        cursor = int(following)
        if not budget.spend(time.perf_counter() - started) or cursor == 0:
            return found, cursor
