"""One job in detail. Layout: bullmq `src/classes/job.ts`, `src/commands/getState-8.lua`, without their writes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from redis.exceptions import NoPermissionError, ResponseError

from ...clock import instant
from ...model import Job, JobLink, Payload, QueueRef, State, TimelineEvent
from ...sources.source import Command, Reply, Source, text
from ...units import format_count, format_duration
from ..bounded_reads import read_plainly
from ..job_facts import position_fact
from ..lua_reads import Scripts
from ..payloads.decoding import DECODE_LIMIT_BYTES, finite, json_payload, loads_dict, printable
from . import keys
from .job_decoding import MESSAGE_LIMIT, JobFields, find_problem, max_attempts, parse_error, parse_stacks

SMALL = (
    *("name", "timestamp", "processedOn", "finishedOn", "delay", "priority", "atm", "attemptsMade", "ats", "stc"),
    *("failedReason", "progress", "pb", "rjk", "deid", "parentKey", "parent", "defa", "opts"),
)
SMALL_LIMIT_BYTES = 64 * 1024
BIG = ("data", "returnvalue", "stacktrace")
# Redis has no GETRANGE for fields: values up to this length are read and cut, of longer ones only the length is known.
TOUCH_LIMIT_BYTES = 4 * 1024 * 1024
# Source: bullmq `src/utils/index.ts` (optsDecodeMap), `src/classes/job.ts` (optsFromJSON).
OPTION_NAMES = {
    "kl": "keepLogs",
    "de": "deduplication",
    "fpof": "failParentOnFailure",
    "cpof": "continueParentOnFailure",
    "idof": "ignoreDependencyOnFailure",
    "rdof": "removeDependencyOnFailure",
    "tm": "telemetry.metadata",
    "omc": "telemetry.omitContext",
}
OPTION_UNITS = {
    **dict.fromkeys(("delay", "timeout", "backoff", "backoff.delay", "de.ttl", "repeat.every", "repeat.offset"), "ms"),
    **dict.fromkeys(("timestamp", "prevMillis", "repeat.startDate", "repeat.endDate"), "epoch_ms"),
    **dict.fromkeys(("removeOnComplete.age", "removeOnFail.age"), "s"),
}
LOG_ROWS, LOG_ROW_LIMIT = 200, 4096
LINKS = 100
JOB_LISTS = ("active", "wait", "paused")
SETS = ("completed", "failed", "delayed", "prioritized", "waiting-children")
# The sets of a parent's children, and the state of a child that is in one.
LINK_STATES = {
    "dependencies": None,
    "processed": State.COMPLETED,
    "failed": State.DEAD,
    "unsuccessful": State.DEAD,
}


class JobData(NamedTuple):
    """The raw data of one job."""

    small: list[Reply]
    big: list[Reply]  # [part, length] or None for each of BIG
    scores: list[Reply]  # for each of SETS
    locked: int
    place: list[Reply] | None  # [list, number of jobs served before it]
    logs: tuple[list[bytes], int | None]  # the total is None if the key has the wrong type, as in links
    links: list[tuple[bytes, int | None, list[bytes]]]


def read_job(source: Source, scripts: Scripts, ref: QueueRef, job_id: str) -> Job | None:
    """Return the job, or None if it does not exist. Cost: 1 round trip if scripts are permitted, else 3."""
    found = _read_job_data(source, scripts, ref, job_id)
    if isinstance(found, NoPermissionError):
        raise source.forbidden_error(found)
    if isinstance(found, ResponseError):
        wrong = find_problem(found)
        # Keys of the queue itself (`wait`, `meta`) look like keys of jobs.
        if job_id in keys.RESERVED:
            return None
        return Job(id=job_id, source=ref.source, backend=ref.backend, queue=ref.name, problem=wrong)
    listed = found.place is not None or any(score is not None for score in found.scores)
    if job_id in keys.RESERVED or (find_problem(found.small) and not listed):
        return None
    return _build_job(ref, job_id, found)


def _read_job_data(source: Source, scripts: Scripts, ref: QueueRef, job_id: str) -> JobData | ResponseError:
    answered = scripts.run(
        keys.load_script("job"),
        [
            (
                *(ref.key, job_id, json.dumps(SMALL), SMALL_LIMIT_BYTES),
                *(json.dumps(BIG), DECODE_LIMIT_BYTES, TOUCH_LIMIT_BYTES, LOG_ROWS, LINKS),
            )
        ],
        at=[ref.key],
    )
    if answered is None:
        return _read_without_lua(source, ref, job_id)
    reply = answered[0][0]
    return reply if isinstance(reply, ResponseError) else JobData(*reply)


def _read_without_lua(source: Source, ref: QueueRef, job_id: str) -> JobData | ResponseError:
    """Read the same with plain commands, for users without scripts; without values that are too long, as only scripts
    can cut them on the server."""
    key = f"{ref.key}:{job_id}"
    replies = iter(source.run_batch(_commands_for_sizes(ref.key, job_id)))
    sizes = [next(replies) for _ in (*SMALL, *BIG)]
    if isinstance(sizes[0], ResponseError):
        return sizes[0]
    scores = [_without_error(next(replies)) for _ in SETS]
    locked = next(replies)
    positions = [_without_error(next(replies)) for _ in JOB_LISTS]
    lengths = [_without_error(next(replies)) for _ in JOB_LISTS]
    rank = _without_error(next(replies))
    log_total, *link_totals = (_without_error(reply) for reply in replies)
    values, members = _read_values(source, key, sizes)
    logs = (
        [member.raw for member in read_plainly(source, f"{key}:logs", "list", 0, LOG_ROWS)][::-1] if log_total else []
    )
    place = _find_place(positions, lengths)
    if place is None and rank is not None and scores[SETS.index("prioritized")] is not None:
        # A job with a priority runs after all jobs without one, and after those with a lower number.
        place = [b"prioritized", rank + sum(length or 0 for length in lengths[1:])]
    return JobData(
        small=[values.get(name, [size] if size else None) for name, size in zip(SMALL, sizes, strict=False)],
        big=[[values.get(name), size] if size else None for name, size in zip(BIG, sizes[len(SMALL) :], strict=True)],
        scores=scores,
        locked=locked if isinstance(locked, int) else 0,
        place=place,
        logs=(logs, log_total),
        links=[
            (kind.encode(), total, found) for kind, total, found in zip(LINK_STATES, link_totals, members, strict=True)
        ],
    )


def _commands_for_sizes(queue_key: str, job_id: str) -> list[Command]:
    """The commands for the lengths of the fields, logs and links of a job, and for its places in the lists."""
    key = f"{queue_key}:{job_id}"
    return [
        *(("HSTRLEN", key, name) for name in (*SMALL, *BIG)),
        *(("ZSCORE", f"{queue_key}:{name}", job_id) for name in SETS),
        ("EXISTS", f"{key}:lock"),
        *(("LPOS", f"{queue_key}:{name}", job_id, "RANK", -1, "MAXLEN", 200_000) for name in JOB_LISTS),
        *(("LLEN", f"{queue_key}:{name}") for name in JOB_LISTS),
        ("ZRANK", f"{queue_key}:prioritized", job_id),
        ("LLEN", f"{key}:logs"),
        *(("SCARD", f"{key}:dependencies"), ("HLEN", f"{key}:processed")),
        *(("HLEN", f"{key}:failed"), ("ZCARD", f"{key}:unsuccessful")),
    ]


def _read_values(source: Source, key: str, sizes: Sequence[int]) -> tuple[dict[str, Reply], list[list[bytes]]]:
    """Return the fields of a job that are not too long, and the ids in each of LINK_STATES. Cost: 1 round trip."""
    names = [
        name
        for name, size in zip((*SMALL, *BIG), sizes, strict=True)
        if 0 < size <= (SMALL_LIMIT_BYTES if name in SMALL else DECODE_LIMIT_BYTES)
    ]
    replies = source.run_batch(
        [
            *(("HGET", key, name) for name in names),
            ("SSCAN", f"{key}:dependencies", 0, "COUNT", LINKS),
            ("ZRANGE", f"{key}:unsuccessful", 0, LINKS - 1),
        ]
    )
    pending, unsuccessful = replies[len(names) :]
    # Completed children are in a hash with their return values, which can be huge: only their number is read.
    members: list[list[bytes]] = [
        pending[1][:LINKS] if isinstance(pending, list) else [],
        [],
        [],
        unsuccessful if isinstance(unsuccessful, list) else [],
    ]
    return dict(zip(names, replies, strict=False)), members


def _find_place(positions: Sequence[int | None], lengths: Sequence[int | None]) -> list[Reply] | None:
    """Return [the list of JOB_LISTS that contains the job, how many jobs are served before it]."""
    for name, position, length in zip(JOB_LISTS, positions, lengths, strict=True):
        if position is not None and length is not None:
            return [name.encode(), length - 1 - position if name != "active" else position]
    return None


def _without_error(reply: Reply) -> Reply:
    return None if isinstance(reply, ResponseError) else reply


def _build_job(ref: QueueRef, job_id: str, found: JobData) -> Job:
    fields = JobFields(dict(zip(SMALL, found.small, strict=True)))
    native, state, score = _find_list(found)
    payload, result, stack = (_long_payload(value) for value in found.big)
    traces = parse_stacks(_bytes_or_none(found.big[2]))
    last_stack = traces[-1] if traces else stack.text if stack else None
    options = fields.options()
    raw_options = fields.bytes_of("opts")
    children, children_total = _child_links(ref, found.links)
    return Job(
        id=job_id,
        source=ref.source,
        backend=ref.backend,
        queue=ref.name,
        version=text(score) if isinstance(score, bytes) else None,
        name=fields.text("name", 500),
        state=state,
        native_state=native,
        enqueued_at=fields.instant("timestamp"),
        scheduled_for=instant(keys.due_s(score)) if native == "delayed" else None,
        started_at=fields.instant("processedOn"),
        finished_at=fields.instant("finishedOn"),
        attempts=fields.attempts,
        max_attempts=max_attempts(options),
        priority=fields.integer("priority") or None,
        progress=fields.progress,
        worker=fields.text("pb", 200),
        error=parse_error(fields.text("failedReason", MESSAGE_LIMIT * 5), last_stack),
        payload=payload or Payload(kind="missing", text=""),
        options=json_payload(raw_options) if raw_options else None,
        result=result,
        timeline=_build_timeline(fields, options, native, score),
        parent=_parent_link(ref, fields),
        children=children,
        children_total=children_total,
        logs=tuple(printable(row, LOG_ROW_LIMIT, cut=len(row) >= LOG_ROW_LIMIT) for row in found.logs[0]),
        logs_total=found.logs[1],
        jobs_ahead=_count_jobs_ahead(found),
        facts=tuple(_list_facts(fields, found, len(traces))),
        problem="; ".join(dict.fromkeys((*_find_problems(found, state), *fields.troubles))) or None,
        abandoned=not found.locked and (state is None or state is State.ACTIVE),
    )


def _find_list(found: JobData) -> tuple[str | None, State | None, bytes | None]:
    """Return the list that contains the job, its state, and its score there; None for each if no list does."""
    for name, score in zip(SETS, found.scores, strict=True):
        if score is not None:
            return name, keys.BY_NATIVE[name].state, score
    native = found.place[0].decode() if found.place is not None else "active" if found.locked else None
    return native, keys.BY_NATIVE[native].state if native else None, None


def _bytes_or_none(value: Reply) -> bytes | None:
    return value[0] if isinstance(value, list) and isinstance(value[0], bytes) else None


def _long_payload(value: Reply) -> Payload | None:
    """Return the part of a long value that was read; None if the job does not have it."""
    if not isinstance(value, list):
        return None
    part, size = value
    if isinstance(part, bytes):
        return json_payload(part, size)
    return Payload(kind="text", text="", size_bytes=size, truncated=True, note="too long to show")


def _find_problems(found: JobData, state: State | None) -> Iterable[str]:
    gone = find_problem(found.small)
    if gone:
        yield gone
    elif state is None:
        yield "not in any list of the queue: between two states, or orphaned"
    if found.logs[1] is None:
        yield "the key of its logs has the wrong type"
    if any(total is None for _, total, _ in found.links):
        yield "a key of its children has the wrong type"
    if state is State.ACTIVE and not found.locked and found.place is not None:
        yield "no worker holds its lock: the worker died or is not responding"


def _build_timeline(
    fields: JobFields, options: Mapping[str, Any] | None, native: str | None, score: bytes | None
) -> tuple[TimelineEvent, ...]:
    """Return the events that the hash and the lists record, oldest first; of the attempts only the last one."""
    events: list[TimelineEvent] = []

    def note(at: datetime | None, event: str, detail: str | None = None) -> None:
        if at is not None:
            events.append(TimelineEvent(at=at, event=event, detail=detail))

    added, started, finished = (fields.instant(name) for name in ("timestamp", "processedOn", "finishedOn"))
    delay = finite((options or {}).get("delay")) or 0.0
    note(added, "added", f"with a delay of {format_duration(delay / 1000)}" if delay > 0 else None)
    if added and native != "delayed" and 0 < delay < 1e14:
        note(added + timedelta(milliseconds=delay), "due")
    # Since 5.0 attempts are counted when they start; older versions and Bull each count something else.
    tries = fields.integer("ats")
    ended = native in ("completed", "failed")
    note(started, "started", f"attempt {tries}" if tries else None)
    reason = fields.text("failedReason", 200)
    if ended:
        note(finished, "failed" if native == "failed" else "completed", reason if native == "failed" else None)
    if native == "delayed":
        note(instant(keys.due_s(score)), "due", "next attempt" if fields.attempts else None)
    if native == "waiting-children":
        note(instant(keys.parse_seconds(score)), "waiting for its children")
    return tuple(sorted(events, key=lambda entry: entry.at))


def _parent_link(ref: QueueRef, fields: JobFields) -> JobLink | None:
    raw = fields.bytes_of("parentKey")
    if not raw:
        return None
    own = loads_dict(fields.bytes_of("parent"))
    key, job_id = own.get("queueKey"), own.get("id")
    # A key could be split at any of its colons; the `parent` field of the child is exact.
    if isinstance(key, str) and isinstance(job_id, str) and f"{key}:{job_id}" == text(raw):
        queue = keys.split_key(key)
        if queue is not None:
            return _link_to(ref, queue, job_id, None, None)
    return _build_link(ref, raw, None, None)


def _child_links(
    ref: QueueRef, links: Sequence[tuple[bytes, int | None, list[bytes]]]
) -> tuple[tuple[JobLink, ...], int | None]:
    """Return (the listed children, at most LINKS of each kind; the total number)."""
    children: dict[bytes, JobLink] = {}
    for kind, _, members in links:
        word = kind.decode()
        for member in members:
            native = "pending" if word == "dependencies" else word
            children[member] = _build_link(ref, member, LINK_STATES[word], native)
    if any(total is None for _, total, _ in links):
        return tuple(sorted(children.values(), key=lambda child: (child.queue, child.id))), None
    total = max(sum(total or 0 for _, total, _ in links), len(children))
    # A failed child can be in two of the sets: the sum then counts it twice; the number of listed children is closer.
    whole = all(len(members) == total for _, total, members in links)
    return tuple(sorted(children.values(), key=lambda child: (child.queue, child.id))), (
        len(children) if whole else total
    ) or None


def _build_link(ref: QueueRef, key: bytes, state: State | None, native: str | None) -> JobLink:
    target = keys.split_job(text(key))
    if target is None:
        return JobLink(id=text(key), queue="?", state=state, native_state=native)
    return _link_to(ref, *target, state, native)


def _link_to(ref: QueueRef, queue: keys.QueueKey, job_id: str, state: State | None, native: str | None) -> JobLink:
    return JobLink(
        id=job_id,
        queue=queue.queue,
        ref=QueueRef(source=ref.source, backend=ref.backend, name=queue.queue, key=queue.key),
        state=state,
        native_state=native,
    )


def _count_jobs_ahead(found: JobData) -> int | None:
    return found.place[1] if found.place is not None and found.place[0] != b"active" else None


def _list_facts(fields: JobFields, found: JobData, tries_kept: int) -> Iterable[tuple[str, str]]:
    if (ahead := _count_jobs_ahead(found)) is not None:
        yield position_fact(ahead)
    if (stalled := fields.integer("stc")) is not None and stalled:
        yield "Stalled", format_count(stalled, "time")
    if scheduler := fields.text("rjk", 300):
        yield "Scheduler", scheduler
    if dedup := fields.text("deid", 300):
        yield "Deduplication id", dedup
    if deferred := fields.text("defa", 500):
        yield "Will fail with", deferred
    if tries_kept > 1:
        yield "Stack traces", f"{tries_kept} stored, showing the last"
