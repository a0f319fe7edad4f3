"""Who paused which queue in Queuedeck, and when: the libraries record neither."""

from __future__ import annotations

from collections.abc import Iterable

from redis.exceptions import ResponseError

from ..errors import QueuedeckError
from ..model import QueueStats, Value
from ..redact import masked_logger
from ..store.packing import pack, unpack
from ..store.redis_store import PREFIX, Store

PAUSES = f"{PREFIX}:pauses"  # hash of queue -> PauseRecord, at most MAX_PAUSES; removed when the queue is resumed
MAX_PAUSES = 1000
MAX_WHO = 200
# A sample can be older than the pause, and workers report it late: only then does an unpaused queue end a record.
SETTLED_S = 60.0

# KEYS pauses. ARGV maximum, queue, record. Returns 1; 0 when there are too many.
_RECORD = """
if redis.call('HEXISTS', KEYS[1], ARGV[2]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return 1
"""
# KEYS pauses. ARGV queue and, for each, its record, or "" for any. Removes those that have not changed since.
_FORGET = """
for i = 1, #ARGV, 2 do
  if ARGV[i + 1] == '' or redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return 1
"""

log = masked_logger(__name__)


class PauseRecord(Value, frozen=True, kw_only=True):
    """One pause: the user, and seconds since 1970 by the store's clock."""

    who: str
    at: float


class RecordedPauses:
    """The recorded pauses, as of one read."""

    def __init__(self, records: dict[str, PauseRecord]) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def find_pause(self, queue: QueueStats) -> PauseRecord | None:
        """The pause that lasts; None when the queue is not paused, or was paused outside Queuedeck."""
        if not queue.paused:
            return None
        found = self._records.get(_queue_key(queue))
        return found if found is not None else self._records.get(_library_key(queue))

    def list_begun(self, start_s: float, end_s: float) -> list[tuple[str, str, str, PauseRecord]]:
        """The recorded pauses that began between two times, oldest first: source, library, queue ("" for all queues of
        the library) and the pause."""
        found = []
        for key, record in self._records.items():
            parts = key.split("\0", 3)
            if len(parts) >= 3 and start_s <= record.at <= end_s:
                found.append((parts[0], parts[1], parts[2], record))
        return sorted(found, key=lambda each: each[3].at)

    def find_ended(self, queues: Iterable[QueueStats], now: float) -> dict[str, PauseRecord]:
        """The records whose queue, at `now`, is no longer paused: it was resumed outside Queuedeck."""
        running = [queue for queue in queues if queue.paused is False]
        keys = {_queue_key(queue) for queue in running} | {_library_key(queue) for queue in running}
        return {key: each for key, each in self._records.items() if key in keys and each.at < now - SETTLED_S}


class PauseLog:
    """Records and reads pauses. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.changes = 0  # by this process; what was read before a change is out of date

    def record_pause(self, queue: QueueStats, who: str, *, whole_library: bool) -> None:
        """Record that `who` paused the queue, or with `whole_library` all queues of its library on its source.

        Never raises: the pause itself has succeeded. Cost: 1 round trip.
        """
        key = _library_key(queue) if whole_library else _queue_key(queue)
        record = PauseRecord(who=who[:MAX_WHO], at=self._store.now_s())
        self._run(_RECORD, MAX_PAUSES, key, pack(record))

    def forget_pause(self, queue: QueueStats) -> None:
        """Remove what is recorded for a queue that was resumed or deleted. Never raises. Cost: 1 round trip."""
        self._run(_FORGET, _queue_key(queue), "", _library_key(queue), "")

    def list_pauses(self) -> RecordedPauses:
        """All recorded pauses. Raises BackendUnavailable, Forbidden. Cost: 1 round trip."""
        (flat,) = self._store.read_keys(("HGETALL", PAUSES))
        pairs = zip(flat[::2], flat[1::2], strict=False) if isinstance(flat, list) else ()
        found: dict[str, PauseRecord] = {}
        for key, raw in pairs:
            record = unpack(raw, PauseRecord)
            if record is not None:
                found[key.decode("utf-8", "surrogateescape")] = record
        return RecordedPauses(found)

    def forget_ended(self, queues: Iterable[QueueStats], now: float) -> None:
        """Remove the records of queues that were resumed outside Queuedeck, so that the next pause is not attributed
        to the wrong person. Raises BackendUnavailable, Forbidden. Cost: 1 round trip, 1 more when there are any."""
        ended = self.list_pauses().find_ended(queues, now)
        if ended:
            self._run(_FORGET, *(part for key, record in ended.items() for part in (key, pack(record))))

    def _run(self, script: str, *arguments: str | int | bytes) -> None:
        self.changes += 1
        try:
            self._store.run_script(script, (PAUSES,), *arguments)
        except (QueuedeckError, ResponseError) as exc:
            log.warning("who paused a queue could not be recorded: %s", exc)


def describe_pause(record: PauseRecord | None) -> str:
    """Who paused a queue that is paused; `record` None: it was not paused in Queuedeck."""
    return f"paused by {record.who}" if record else "paused outside Queuedeck"


def _queue_key(queue: QueueStats) -> str:
    return f"{queue.source}\0{queue.backend}\0{queue.name}"


def _library_key(queue: QueueStats) -> str:
    """The key of a pause of all queues of a library: no queue has an empty name before a NUL."""
    return f"{queue.source}\0{queue.backend}\0\0{queue.prefix or ''}"
