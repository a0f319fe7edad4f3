"""Schedules of the add-ons sidekiq-cron (1 and 2) and sidekiq-scheduler; Sidekiq itself has none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from redis.exceptions import ResponseError

from ...clock import EPOCH, instant
from ...model import QueueRef, Schedule
from ...sources.source import Argument, Command, Reply, Source, text
from ..base import MAX_SCHEDULES
from ..bounded_reads import NAMED_FIELDS, PAGE_BYTES, shared_script, short_fields, short_hashes
from ..lua_reads import Scripts
from ..payloads.decoding import DECODE_LIMIT_BYTES, finite, json_payload, loads_dict, printable, text_or_none
from ..unreadable_data import schedule_row
from . import keys
from .cron_expression import missed_run, next_run
from .cron_namespaces import CronSets
from .job_decoding import parse_time

CRON_FIELDS = (
    "namespace",
    "name",
    "klass",
    "cron",
    "queue",
    "queue_name_with_prefix",
    "status",
    "last_enqueue_time",
    "args",
)
STATES = "sidekiq-scheduler:states"
SCHEDULER = ("schedules", "sidekiq-scheduler:next_times", "sidekiq-scheduler:last_times", STATES)
# How many job records of sidekiq-cron are read, however many sets list them.
MOST_CRONS = 2 * MAX_SCHEDULES
CRON, SCHEDULER_KIND = "sidekiq-cron", "sidekiq-scheduler"


def list_schedules(
    source: Source,
    scripts: Scripts,
    cron_sets: CronSets,
    namespaces: Sequence[str],
    refs: Mapping[str, QueueRef],
) -> list[Schedule]:
    """The schedules of `namespaces`, soonest first; those without a known next run last.

    Cost: 2 round trips, 7 without scripts, and those of `CronSets.find_sets`.
    """
    sets, unseen = cron_sets.find_sets(source, namespaces)
    hashes = [f"{space}{key}" for space in namespaces for key in SCHEDULER]
    commands: list[Command] = []
    for _, name in sets:
        commands.append(("SSCAN", name, 0, "COUNT", MAX_SCHEDULES))
    tables, first = _read_tables(source, scripts, hashes, commands)
    width = len(SCHEDULER)
    found: list[Schedule] = []
    listed = [(space, key) for (space, _), reply in zip(sets, first, strict=True) for key in _scanned_members(reply)]
    crons = list(dict.fromkeys(listed))[:MOST_CRONS]
    for (space, name), reply in zip(sets, first, strict=True):
        if isinstance(reply, ResponseError) and "WRONGTYPE" in str(reply):
            found.append(_unreadable_row(source, space, name, CRON))
    for n, namespace in enumerate(namespaces):
        if isinstance(tables[n * width], ResponseError) and "WRONGTYPE" in str(tables[n * width]):
            found.append(_unreadable_row(source, namespace, f"{namespace}{SCHEDULER[0]}", SCHEDULER_KIND))
        found.extend(_scheduler_schedules(source, namespace, tables[n * width : (n + 1) * width], refs))
    wanted = [(space.encode("utf-8", "surrogateescape") + key, name) for space, key in crons for name in CRON_FIELDS]
    fields = iter(short_fields(source, wanted, DECODE_LIMIT_BYTES, scripts=scripts))
    now = instant(source.now_s()) or EPOCH
    for namespace, key in crons:
        record = [field if isinstance(field, bytes) else None for field in (next(fields) for _ in CRON_FIELDS)]
        decode = partial(_cron_schedule, source, namespace, key, record, refs, now)
        found.append(schedule_row(decode, _cron_id(namespace, key), source.name, "sidekiq", CRON))
    if crons and unseen:
        found.append(Schedule(id="cron_jobs:*", source=source.name, backend="sidekiq", kind=CRON, problem=unseen))
    latest = datetime.max.replace(tzinfo=UTC)
    return sorted(found, key=lambda entry: (entry.next_run_at or latest, entry.id))[:MAX_SCHEDULES]


def _unreadable_row(source: Source, namespace: str, key: str, kind: str) -> Schedule:
    """A row that stands for the schedules that cannot be read because a key has the wrong type."""
    why = "cannot be read: the key has the wrong type"
    return Schedule(
        id=key, source=source.name, backend="sidekiq", kind=kind, facts=_namespace_fields(namespace), problem=why
    )


def _read_tables(
    source: Source, scripts: Scripts, hashes: Sequence[str], also: Sequence[Command]
) -> tuple[list[Reply], list[Reply]]:
    """The hashes as `short_hashes` returns them, and the replies to `also`. Cost: 1 round trip, 5 without scripts."""
    call: list[Argument] = [MAX_SCHEDULES, DECODE_LIMIT_BYTES, PAGE_BYTES, NAMED_FIELDS, *hashes]
    answered = scripts.run(shared_script("hashes"), [call], also)
    if answered is not None and isinstance(answered[0][0], list):
        return list(answered[0][0]), answered[1]
    return short_hashes(source, hashes, MAX_SCHEDULES, DECODE_LIMIT_BYTES), source.run_batch(also)


def _cron_schedule(
    source: Source, namespace: str, key: bytes, record: Reply, refs: Mapping[str, QueueRef], now: datetime
) -> Schedule:
    if not isinstance(record, list) or not any(record):
        return Schedule(
            id=_cron_id(namespace, key),
            source=source.name,
            backend="sidekiq",
            kind=CRON,
            facts=_namespace_fields(namespace),
            problem="its record cannot be read",
        )
    fields = dict(zip(CRON_FIELDS, record, strict=True))
    queue = _printable_or_none(fields["queue"]) or _printable_or_none(fields["queue_name_with_prefix"])
    ref = refs.get(keys.NamespaceLocation(namespace, queue).key) if queue else None
    args, pattern, last = (
        fields["args"],
        _printable_or_none(fields["cron"]),
        parse_time(_printable_or_none(fields["last_enqueue_time"])),
    )
    paused = fields["status"] == b"disabled" if fields["status"] is not None else None
    following, zone = (None, None) if paused or not pattern else next_run(pattern, last, now)
    missed = None if paused or not pattern or last is None else missed_run(pattern, last, now)
    return Schedule(
        id=_cron_id(namespace, key),
        source=source.name,
        backend="sidekiq",
        kind=CRON,
        name=_printable_or_none(fields["klass"]) or _printable_or_none(fields["name"]),
        queue=ref.name if ref else queue,
        ref=ref,
        pattern=pattern,
        timezone=zone,
        next_run_at=following,
        missed_at=missed,
        last_run_at=last,
        paused=paused,
        payload=json_payload(args) if args else None,
        facts=(*_namespace_fields(namespace), *_cron_space(_printable_or_none(fields["namespace"]))),
    )


def _cron_id(namespace: str, key: bytes) -> str:
    return f"{namespace}{text(key).removeprefix(keys.CRON_JOB)}"


def _scheduler_schedules(
    source: Source, namespace: str, tables: Sequence[Reply], refs: Mapping[str, QueueRef]
) -> Iterable[Schedule]:
    configs, *others = (_pair_reply(table) for table in tables)
    for name, raw in configs.items():
        at = [other.get(name) for other in others]
        decode = partial(_scheduler_schedule, source, namespace, name, raw, at, refs)
        yield schedule_row(decode, f"{namespace}{text(name)}", source.name, "sidekiq", SCHEDULER_KIND)


def _scheduler_schedule(
    source: Source,
    namespace: str,
    name: bytes,
    raw: bytes,
    at: Sequence[bytes | None],
    refs: Mapping[str, QueueRef],
) -> Schedule:
    """One entry of sidekiq-scheduler. `at`: its next run, its last run and its state."""
    following, last, state = at
    config = loads_dict(raw)
    every = config.get("cron") or config.get("every") or config.get("in") or config.get("at")
    queue = text_or_none(config.get("queue"), 200)
    ref = refs.get(keys.NamespaceLocation(namespace, queue).key) if queue else None
    enabled = loads_dict(state).get("enabled")
    return Schedule(
        id=f"{namespace}{text(name)}",
        source=source.name,
        backend="sidekiq",
        kind=SCHEDULER_KIND,
        name=text_or_none(config.get("class"), 200) or text(name),
        queue=ref.name if ref else queue,
        ref=ref,
        pattern=_pattern_of(every),
        next_run_at=parse_time(_printable_or_none(following)),
        last_run_at=parse_time(_printable_or_none(last)),
        paused=not enabled if isinstance(enabled, bool) else None,
        payload=json_payload(raw),
        facts=_namespace_fields(namespace),
        problem=None if config else "its configuration is not a JSON object",
    )


def _namespace_fields(namespace: str) -> tuple[tuple[str, str], ...]:
    return ((keys.NAMESPACE, namespace),) if namespace else ()


def _cron_space(name: str | None) -> tuple[tuple[str, str], ...]:
    return (("sidekiq-cron namespace", name),) if name and name != "default" else ()


def _pattern_of(every: Any) -> str | None:
    if isinstance(every, list):
        every = every[0] if every else None
    seconds = finite(every)
    return text_or_none(every, 200) if seconds is None else f"every {seconds:.15g} s"


def _printable_or_none(raw: Any) -> str | None:
    return printable(raw, 300) if isinstance(raw, bytes) and raw else None


def _scanned_members(reply: Reply) -> list[bytes]:
    return list(reply[1]) if isinstance(reply, list) else []


def _pair_reply(reply: Reply) -> dict[bytes, bytes]:
    flat = reply if isinstance(reply, list) else []
    return dict(zip(flat[::2], flat[1::2], strict=True))
