"""How late each schedule is, for alerts: read in a thread while there is a rule about it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from ..backends.base import Backend
from ..backends.monitored_sources import MonitoredSources
from ..background_reads import BackgroundReads
from ..clock import monotonic_s
from ..errors import BackendUnavailable, Forbidden
from ..model import Capability, QueueRef, QueueStats, Schedule, Snapshot
from ..redact import masked_logger
from ..sampling.live_lists import LiveRows, read_live_rows
from ..store.redis_store import Store
from ..units import shorten_text
from .lateness import due_at, late_s
from .seen_schedules import SeenSchedule, SeenScheduleStore

log = masked_logger(__name__)

READ_EVERY_S = 20.0
# What was read longer ago counts as unknown: this process did not lead since, or a reading takes very long.
MAX_AGE_S = 300.0
MAX_TITLE = 100
MAX_ID = 200

ScheduleKey = tuple[str, str, str | None, str]  # source, library, queue, id


@dataclass(frozen=True, slots=True)
class WatchedSchedule:
    """One schedule as of a reading. `id`: its own, or a digest of one that cannot be stored; `title`: the name of its
    job; `late_s`: see `lateness.late_s`; `detail`: when a run was due, its pattern, and what is wrong with it;
    `pattern`: with its time zone."""

    source: str
    backend: str
    queue: str | None
    id: str
    title: str
    late_s: float | None
    is_paused: bool
    detail: str
    pattern: str = ""

    @property
    def key(self) -> ScheduleKey:
        """What identifies it."""
        return self.source, self.backend, self.queue, self.id


@dataclass(frozen=True, slots=True)
class WatchedSchedules:
    """The schedules of one reading, at most MAX_SCHEDULES per source and library. `unread`: the (source, library) whose
    schedules could not be read."""

    schedules: tuple[WatchedSchedule, ...]
    unread: frozenset[tuple[str, str]] = field(default_factory=frozenset)


def watched_schedules(
    live_rows: LiveRows[Schedule], now_of: Callable[[str], float], skipped_at: Mapping[ScheduleKey, float] | None = None
) -> WatchedSchedules:
    """The schedules of one reading. Pure.

    `now_of`: seconds since 1970 by the clock of a source. `skipped_at`: when each schedule was last seen paused, or
    with another pattern: the runs that it skipped on purpose, or did not have then, are not missed.
    """
    found = {}
    for row in live_rows.rows:
        each = _watched_schedule(row, now_of(row.source))
        skipped = (skipped_at or {}).get(each.key)
        if skipped is not None and row.missed_at is not None and row.missed_at.timestamp() <= skipped:
            each = _watched_schedule(replace(row, missed_at=None), now_of(row.source))
        found[each.key] = each
    return WatchedSchedules(
        tuple(found.values()), frozenset((source, backend) for source, backend, _ in live_rows.problems)
    )


def _watched_schedule(row: Schedule, now: float) -> WatchedSchedule:
    due = due_at(row)
    when = None if due is None else f"due {due:%Y-%m-%d %H:%M:%S} UTC"
    pattern = shorten_text(" ".join(filter(None, (row.pattern, row.timezone))), MAX_TITLE)
    return WatchedSchedule(
        source=row.source,
        backend=row.backend,
        queue=row.queue,
        id=row.id if row.id.isprintable() and len(row.id) <= MAX_ID else _digest(row.id),
        title=shorten_text(row.name or row.id, MAX_TITLE),
        late_s=late_s(row, now),
        is_paused=bool(row.paused),
        detail=", ".join(filter(None, (when, pattern, row.problem)))[:250],
        pattern=pattern,
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _unread_entries(known: Mapping[ScheduleKey, str], unread: Collection[tuple[str, str]]) -> dict[ScheduleKey, str]:
    """Those of `known` that a reading could not find again."""
    return {key: pattern for key, pattern in known.items() if key[:2] in unread}


def list_schedules(backend: Backend, refs: Sequence[QueueRef]) -> Sequence[Schedule]:
    """The schedules of one library: what `read_live_rows` asks."""
    return backend.list_schedules(refs)


class ScheduleWatch:
    """Reads the schedules for the caller of `look`, who never waits. Call `look` from one thread only."""

    def __init__(self, sources: MonitoredSources, store: Store | None = None) -> None:
        """`store` None: what was seen is not kept for the next leader."""
        self._sources = sources
        self._store = SeenScheduleStore(store) if store is not None else None
        self._read: tuple[WatchedSchedules, float] | None = None  # as of when, monotonic
        self._skipped_at: dict[ScheduleKey, float] = {}
        self._patterns: dict[ScheduleKey, str] = {}  # of the reading before
        self._queues: Sequence[QueueStats] = ()
        self._reads = BackgroundReads("queuedeck-schedules", self._read_or_log)
        self._looked_at = float("-inf")  # monotonic

    def look(self, snapshot: Snapshot) -> WatchedSchedules | None:
        """The schedules as they were read last, about READ_EVERY_S ago; None before the first reading, and if that was
        more than MAX_AGE_S ago.

        Cost: none for the caller; every READ_EVERY_S, a reading in the thread: see `read_live_rows`, and 1 round trip
        for what changed.
        """
        if monotonic_s() - self._looked_at >= READ_EVERY_S:
            self._looked_at, self._queues = monotonic_s(), snapshot.queues
            self._reads.request()
        read = self._read
        return read[0] if read is not None and monotonic_s() - read[1] <= MAX_AGE_S else None

    def stop(self) -> None:
        """Stop the thread; one that is reading does not block the exit."""
        self._reads.stop()

    def _read_or_log(self) -> None:
        began = monotonic_s()
        try:
            self._read = self._read_schedules(), began
        except Exception:
            log.exception("the schedules could not be read; rules on them are not evaluated")
            self._read = None

    def _read_schedules(self) -> WatchedSchedules:
        if self._read is None or monotonic_s() - self._read[1] > MAX_AGE_S:
            self._load_seen()
        rows = read_live_rows(self._sources, Capability.SCHEDULES, list_schedules, self._queues)
        found = watched_schedules(rows, self._sources.now_s, self._skipped_at)
        before = self._patterns
        self._patterns = _unread_entries(before, found.unread) | {each.key: each.pattern for each in found.schedules}
        changed = [each for each in found.schedules if before.get(each.key, each.pattern) != each.pattern]
        kept = {key: at for key, at in self._skipped_at.items() if key in self._patterns}
        skipping = (each for each in found.schedules if each.is_paused)
        self._skipped_at = kept | {each.key: self._sources.now_s(each.source) for each in (*skipping, *changed)}
        self._save_seen()
        return watched_schedules(rows, self._sources.now_s, self._skipped_at) if changed else found

    def _load_seen(self) -> None:
        """Continue from what the last leader saw."""
        for each in self._store.load() if self._store is not None else ():
            key = each.source, each.backend, each.queue, each.id
            self._patterns[key] = each.pattern
            if each.skipped_at is not None:
                self._skipped_at[key] = min(each.skipped_at, self._sources.now_s(each.source))

    def _save_seen(self) -> None:
        if self._store is None:
            return
        try:
            self._store.save(
                SeenSchedule(
                    source=key[0],
                    backend=key[1],
                    queue=key[2],
                    id=key[3],
                    pattern=pattern,
                    skipped_at=self._skipped_at.get(key),
                )
                for key, pattern in self._patterns.items()
            )
        except (BackendUnavailable, Forbidden) as exc:
            log.warning("what was seen of the schedules is not stored: %s", exc.message)
