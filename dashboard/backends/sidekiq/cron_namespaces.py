"""The namespaces of sidekiq-cron 2, which stores the schedules of each in a set but has no list of these sets.

Source: sidekiq-cron `lib/sidekiq/cron/namespace.rb` (all, which asks KEYS cron_jobs:*).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ...clock import monotonic_s
from ...errors import Forbidden
from ...sources.source import Source, text
from ..base import Budget
from ..scan import scan_step

SETS = "cron_jobs"
# The sets that are read without a search: that of sidekiq-cron 1, and that of the default namespace of 2.
ALWAYS = (SETS, f"{SETS}:default")
# How much of the key space one call scans: about 50,000 keys. The next call continues there.
LOOK_CALLS, LOOK_SECONDS = 50, 0.25
# How long until a complete search is repeated, and how many sets are remembered.
REPEAT_S = 300.0
MOST_SETS = 200
LOOKED_FOR = "still searching for sidekiq-cron namespaces; reload in a few seconds to see more schedules"
NOT_PERMITTED = "cannot search for more sidekiq-cron namespaces: the Redis user is not allowed to run SCAN"


class CronSets:
    """The sets found so far, and the progress of the current search. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cursor = 0
        self._found: set[str] = set()  # by earlier searches, until the current one ends
        self._seen: set[str] = set()  # by the current one
        self._complete_at: float | None = None

    def find_sets(self, source: Source, namespaces: Sequence[str]) -> tuple[list[tuple[str, str]], str | None]:
        """((namespace of Sidekiq, key of a set), ...) of `namespaces`, and why there may be more, else None.

        Cost: no round trip for REPEAT_S after a search has finished, else 1 for each 1,000 keys, at most LOOK_CALLS.
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
