"""The namespaces of sidekiq-cron 2, which keeps its schedules in a set for each and no list of these sets.

Source: sidekiq-cron `lib/sidekiq/cron/namespace.rb` (all, which asks KEYS cron_jobs:*).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ...clock import monotonic_s
from ...errors import Forbidden
from ...sources.source import Source
from ..base import Budget
from ..payloads.decoding import text
from ..scan import scan_step

SETS = "cron_jobs"
# What is read without a search: the set of sidekiq-cron 1, and that of the default namespace of 2.
ALWAYS = (SETS, f"{SETS}:default")
# So much of the key space one look goes through: some 50,000 keys. The next one goes on there.
LOOK_CALLS, LOOK_SECONDS = 50, 0.25
# A whole search is repeated after so long; no more sets are remembered.
REPEAT_S = 300.0
MOST_SETS = 200
LOOKED_FOR = "namespaces of sidekiq-cron are still looked for: more schedules may follow, reload in some seconds"
NOT_PERMITTED = "more namespaces of sidekiq-cron cannot be looked for: the Redis user may not run SCAN"


class CronSets:
    """Remembers the sets that were found, and how far the present search has come. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cursor = 0
        self._found: set[str] = set()  # by earlier searches, until the present one ends
        self._seen: set[str] = set()  # by the present one
        self._complete_at: float | None = None

    def find_sets(self, source: Source, namespaces: Sequence[str]) -> tuple[list[tuple[str, str]], str | None]:
        """((namespace of Sidekiq, key of a set), ...) of `namespaces`, and why there may be more; None when not.

        Cost: no round trip for REPEAT_S after a search has ended, else one for each 1,000 keys, at most LOOK_CALLS.
        """
        with self._lock:
            unseen = self._go_on(source)
            known = sorted(self._found | self._seen)
        found = {(space, f"{space}{name}"): None for space in namespaces for name in ALWAYS}
        for key in known:
            space = next((space for space in namespaces if key.startswith(f"{space}{SETS}:")), None)
            if space is not None:
                found[(space, key)] = None
        return list(found), unseen

    def _go_on(self, source: Source) -> str | None:
        now = monotonic_s()
        if self._complete_at is None or self._cursor or now - self._complete_at >= REPEAT_S:
            budget = Budget(commands=LOOK_CALLS, seconds=LOOK_SECONDS)
            try:
                keys, self._cursor = scan_step(source, self._cursor, budget, match=f"*{SETS}:*", key_type="set")
            except Forbidden:
                return NOT_PERMITTED
            self._seen.update(text(key) for key in keys[: max(0, MOST_SETS - len(self._seen))])
            if self._cursor == 0:
                self._found, self._seen, self._complete_at = self._seen, set(), now
        return LOOKED_FOR if self._complete_at is None else None
