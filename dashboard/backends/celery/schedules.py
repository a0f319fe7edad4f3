"""Schedules of RedBeat 2: read, trigger, pause, resume, remove. Plain beat stores none in Redis.

Layout: redbeat `schedulers.py`: hash `redbeat:<name>` with `definition` and `meta` as JSON, sorted set
`redbeat::schedule` of these keys by when they are next due, string `redbeat::lock` as long as a beat runs. The app's
`redbeat_key_prefix` replaces `redbeat:`; it is found from the names of the sorted sets.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from redis.exceptions import ResponseError

from ...clock import instant
from ...model import Payload, QueueRef, Schedule
from ...sources.source import Source, text
from ..actions import Action, ActionResult, JobBackup, Outcome, refused_result
from ..base import MAX_SCHEDULES
from ..bounded_reads import short_fields
from ..lua_reads import Scripts
from ..payloads.decoding import DECODE_LIMIT_BYTES, count_or_none, finite, loads_dict, text_or_none
from ..payloads.masking import mask_payload
from ..unreadable_data import schedule_row
from . import keys, protocol
from .actions.destination_queues import DestinationQueues
from .actions.result_retry import result_of_copy, unguarded_call
from .actions.schedule_removal import backup_entry
from .actions.scripts import WRITES

PREFIX, KIND = "redbeat:", "RedBeat"
DUE, LOCK = ":schedule", ":lock"
# How many apps' schedules are looked for on one server.
MAX_PREFIXES = 50
# A second click within this time counts as the same request.
TRIGGER_AGAIN_MS = 5_000


def find_prefixes(source: Source, keys_found: Sequence[bytes]) -> list[str]:
    """Return the key prefixes of those sorted sets that are RedBeat schedules. Cost: at most 2 round trips."""
    bases = {key: key.removesuffix(DUE.encode()) for key in keys_found[: 10 * MAX_PREFIXES]}
    firsts = source.run_batch([("ZRANGE", key, 0, 0) for key in bases])
    entries = {
        base: reply[0]
        for base, reply in zip(bases.values(), firsts, strict=True)
        if isinstance(reply, list) and reply and base and reply[0].startswith(base)
    }
    fits = source.run_batch([("HEXISTS", entry, "definition") for entry in entries.values()])
    return [text(base) for base, fit in zip(entries, fits, strict=True) if fit == 1]


def list_schedules(
    source: Source, scripts: Scripts, refs: Sequence[QueueRef], prefixes: Collection[str]
) -> list[Schedule]:
    """Return the entries of the apps with these key prefixes, soonest first. Cost: 2 round trips, 3 without scripts."""
    replies = source.run_batch(
        [("ZRANGE", f"{prefix}{DUE}", 0, MAX_SCHEDULES - 1, "WITHSCORES") for prefix in sorted(prefixes)]
    )
    pairs = [pair for reply in replies if isinstance(reply, list) for pair in zip(reply[::2], reply[1::2], strict=True)]
    pairs = sorted(pairs, key=lambda pair: float(pair[1]))[:MAX_SCHEDULES]
    if not pairs:
        return []
    names, scores = [name for name, _ in pairs], [score for _, score in pairs]
    wanted = [(name, field) for name in names for field in ("definition", "meta")]
    fields = short_fields(source, wanted, DECODE_LIMIT_BYTES, scripts=scripts)
    records = [
        [raw if isinstance(raw, bytes) else None for raw in pair]
        for pair in zip(fields[::2], fields[1::2], strict=True)
    ]
    known = {keys.location_of(ref).queue: ref for ref in reversed(refs)}
    entries = [
        schedule_row(partial(_build_schedule, source, *entry, known), text(entry[0]), source.name, "celery", KIND)
        for entry in zip(names, scores, records, strict=True)
    ]
    latest = datetime.max.replace(tzinfo=UTC)
    return sorted(entries, key=lambda entry: (entry.next_run_at or latest, entry.id))


def _build_schedule(
    source: Source, key: bytes, score: bytes, record: Any, refs: Mapping[str | None, QueueRef]
) -> Schedule:
    common: dict[str, Any] = {"id": text(key), "source": source.name, "backend": "celery", "kind": KIND}
    definition = loads_dict(record[0]) if isinstance(record, list) else {}
    if not definition:
        return Schedule(**common, problem="its entry cannot be read")
    meta = loads_dict(record[1])
    queue = queue_of(definition)
    runs, enabled = meta.get("total_run_count"), definition.get("enabled")
    shown, cut = mask_payload({"args": definition.get("args"), "kwargs": definition.get("kwargs")})
    due = float(score)
    return Schedule(
        **common,
        name=text_or_none(definition.get("task"), 300),
        queue=text_or_none(queue, 200),
        ref=refs.get(queue) if queue else None,
        pattern=_pattern_of(definition.get("schedule")),
        next_run_at=instant(due) if due >= 0 and enabled is not False else None,
        last_run_at=_parse_time(meta.get("last_run_at")),
        paused=enabled is False,
        runs=count_or_none(runs),
        payload=Payload(kind="json", value=shown, text=json.dumps(shown, ensure_ascii=False, indent=2), truncated=cut),
    )


def queue_of(definition: Mapping[str, Any]) -> str | None:
    """Return the queue that an entry names explicitly; None if the app's routes decide."""
    options = definition.get("options")
    queue = options.get("queue") if isinstance(options, dict) else None
    return queue if isinstance(queue, str) and queue else None


def _pattern_of(schedule: Any) -> str | None:
    if not isinstance(schedule, dict):
        return None
    if schedule.get("__type__") == "interval":
        every = finite(schedule.get("every"))
        return None if every is None else f"every {every:.15g} s"
    if schedule.get("__type__") == "crontab":
        parts = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
        return text_or_none(" ".join(str(schedule.get(part, "*"))[:60] for part in parts), 300)
    return text_or_none(schedule.get("__type__"), 60)


def _parse_time(value: Any) -> datetime | None:
    if not isinstance(value, dict):
        return None
    names = ("year", "month", "day", "hour", "minute", "second", "microsecond")
    try:
        zone = value.get("timezone", "UTC")
        tz = ZoneInfo(zone) if isinstance(zone, str) else timezone(timedelta(seconds=zone))
        return datetime(**{name: value.get(name, 0) for name in names}, tzinfo=tz).astimezone(UTC)
    except (TypeError, ValueError, OverflowError, OSError, LookupError):
        return None


class ScheduleActions:
    """Acts on the entries of one source: `store` holds the schedules, under `prefixes`."""

    def __init__(self, store: Source, broker: Source, own: Source | None, name: str, prefixes: Collection[str]) -> None:
        self._store = store
        self._prefixes = prefixes
        self._broker = broker
        self._own = own
        self._name = name

    def act_on_schedule(self, schedule: Schedule, action: Action) -> ActionResult:
        """TRIGGER, PAUSE_SCHEDULE, RESUME_SCHEDULE or REMOVE_SCHEDULE. Cost: 4 to 6 round trips."""
        key = schedule.id.encode("utf-8", "surrogateescape")
        prefix = self._prefix_of(schedule.id)
        if prefix is None:
            return refused_result(schedule.id, "it is not a RedBeat entry")
        listed, running = self._store.run_batch([("ZSCORE", f"{prefix}{DUE}", key), ("EXISTS", f"{prefix}{LOCK}")])
        (raw,) = short_fields(self._store, [(key, "definition")], DECODE_LIMIT_BYTES)
        if isinstance(raw, ResponseError):
            return WRITES.result_from_reply(schedule.id, raw)
        definition = loads_dict(raw)
        if listed is None or isinstance(listed, ResponseError):
            return ActionResult(id=schedule.id, outcome=Outcome.GONE)
        if action is Action.REMOVE_SCHEDULE:
            return self._remove_entry(schedule, key, prefix)
        if not definition:
            return refused_result(schedule.id, "its entry cannot be read")
        if action is Action.TRIGGER:
            return self._trigger_entry(schedule, key, definition, prefix, beating=running == 1)
        changed = json.dumps({**definition, "enabled": action is Action.RESUME_SCHEDULE})
        reply = WRITES.run_script(self._store, "swap_field", [key], ["definition", raw, changed])
        return WRITES.result_from_reply(schedule.id, reply)

    def backup_schedule(self, schedule: Schedule) -> JobBackup | ActionResult:
        """See `Backend.backup_schedule`. Cost: 2 round trips."""
        prefix = self._prefix_of(schedule.id)
        if prefix is None:
            return refused_result(schedule.id, "it is not a RedBeat entry")
        return backup_entry(self._store, schedule, f"{prefix}{DUE}")

    def _prefix_of(self, name: str) -> str | None:
        """Return the key prefix of the app of an entry; the longest if several match."""
        fitting = [prefix for prefix in self._prefixes if name.startswith(prefix)]
        return max(fitting, key=len) if fitting else None

    def _remove_entry(self, schedule: Schedule, key: bytes, prefix: str) -> ActionResult:
        reply = WRITES.run_script(self._store, "unschedule", [f"{prefix}{DUE}", key], [])
        return WRITES.result_from_reply(schedule.id, reply)

    def _trigger_entry(
        self, schedule: Schedule, key: bytes, definition: Mapping[str, Any], prefix: str, *, beating: bool
    ) -> ActionResult:
        """Send the task to the queue that the entry names; if it names none, let the running beat send it."""
        task, args, kwargs = (definition.get(part) for part in ("task", "args", "kwargs"))
        queue = queue_of(definition)
        if not isinstance(task, str) or not isinstance(args or [], list) or not isinstance(kwargs or {}, dict):
            return refused_result(schedule.id, "its entry does not name a task that can be called")
        if queue is None:
            return (
                self._ask_beat(schedule, key, prefix)
                if beating
                else refused_result(schedule.id, "it names no queue, and no beat is running")
            )
        place = keys.location_of(schedule.ref) if schedule.ref else keys.QueueLocation("", None)
        targets = DestinationQueues(self._broker, self._own, self._name, place)
        targets.look_up((queue,))
        if not targets.exists(queue):
            return refused_result(schedule.id, "the queue it names does not exist")
        new_id = protocol.new_id()
        message = protocol.call(task, new_id, queue, json.dumps(args or []).encode(), json.dumps(kwargs or {}).encode())
        mark = keys.mark_key(self._name, "trigger", schedule.id, None)
        call = unguarded_call(targets.list_key(queue), mark, message, new_id, TRIGGER_AGAIN_MS)
        (reply,) = WRITES.run_for_each(self._broker, "resend", [call])
        return result_of_copy(schedule.id, reply, new_id)

    def _ask_beat(self, schedule: Schedule, key: bytes, prefix: str) -> ActionResult:
        """Mark the entry as never run: the beat then sends it immediately, by the app's own routes."""
        (meta,) = short_fields(self._store, [(key, "meta")], DECODE_LIMIT_BYTES)
        if not isinstance(meta, bytes):
            return ActionResult(id=schedule.id, outcome=Outcome.GONE)
        changed = json.dumps({**loads_dict(meta), "last_run_at": None})
        reply = WRITES.run_script(self._store, "swap_field", [key], ["meta", meta, changed])
        answer = WRITES.result_from_reply(schedule.id, reply)
        if answer.outcome is Outcome.DONE:
            self._store.run_batch([("ZADD", f"{prefix}{DUE}", "XX", 0, key)])
        return answer
