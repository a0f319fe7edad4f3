"""What a leader saw of the schedules, in the store, so that the next leader does not report runs that were skipped on
purpose."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..model import Value
from ..store.packing import pack, unpack
from ..store.redis_store import PREFIX, Store

SCHEDULES = f"{PREFIX}:schedules"  # string: packed SeenSchedules
MAX_SCHEDULES = 2000
# A schedule that runs less often than this is rare, and then reported once too often.
KEEP_MS = 40 * 86_400_000

# KEYS: schedules. ARGV: their packed value, its TTL in ms.
_SAVE = "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])"


class SeenSchedule(Value, frozen=True, kw_only=True, array_like=True, gc=False):
    """One schedule. `skipped_at`: when it was last seen paused, or with another pattern, in seconds since 1970 by the
    clock of its source; None if it was not."""

    source: str
    backend: str
    queue: str | None
    id: str
    pattern: str
    skipped_at: float | None = None


class SeenSchedules(Value, frozen=True, kw_only=True):
    """What is stored."""

    schedules: tuple[SeenSchedule, ...] = ()


class SeenScheduleStore:
    """Reads and writes them. Raises BackendUnavailable, Forbidden. Call it from one thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._saved: tuple[SeenSchedule, ...] | None = None

    def load(self) -> tuple[SeenSchedule, ...]:
        """The schedules as they were saved last; none if they cannot be decoded. Cost: 1 round trip."""
        self._saved = None  # another leader may have replaced them since
        (raw,) = self._store.read_keys(("GET", SCHEDULES))
        found = unpack(raw, SeenSchedules) if raw else None
        return tuple(each for each in found.schedules if math.isfinite(each.skipped_at or 0.0)) if found else ()

    def save(self, schedules: Iterable[SeenSchedule]) -> None:
        """Replace them; of more than MAX_SCHEDULES, those that skipped a run come first. Names that are no text are
        left out. Cost: 1 round trip if they changed."""
        storable = filter(_is_storable, schedules)
        kept = tuple(sorted(storable, key=lambda each: each.skipped_at is None)[:MAX_SCHEDULES])
        if kept != self._saved:
            self._store.run_script(_SAVE, (SCHEDULES,), pack(SeenSchedules(schedules=kept)), KEEP_MS)
            self._saved = kept


def _is_storable(seen: SeenSchedule) -> bool:
    """Whether all its texts can be encoded: JSON can spell half a surrogate pair."""
    try:
        for each in (seen.source, seen.backend, seen.queue or "", seen.id, seen.pattern):
            each.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
