"""The statistics of all queues in one round trip."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import NoPermissionError, ResponseError

from ...model import Counts, NativeCount, QueueRef, QueueStats, State
from ...sources.source import Argument, Command, Reply, Source, text
from ..bounded_reads import short_fields
from ..lua_reads import Scripts
from ..payloads.decoding import printable
from . import keys
from .consumers import ConsumerFigures, ConsumerIndex, workers_call, workers_of
from .keys import LISTS, QueueKeys
from .serialization import parse_time

# A script blocks the server while it runs: this many queues take about 1 ms.
QUEUES_PER_SCRIPT = 25
# How many of a queue's scheduled jobs, soonest first, are checked for an earlier failure.
SCHEDULED_LOOKED_AT = 50
# Without scripts, only these positions of a queue are checked for its oldest job.
PLAIN_PLACES = (0, 1, 4, -1)
LONGEST_TIME = 40
_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


@dataclass(frozen=True, slots=True)
class _PrefixReplies:
    """What was read of one prefix besides its queues."""

    suspended: bool
    crew: ConsumerIndex | None  # None if workers could not be read one by one


class QueueReply(NamedTuple):
    """The replies for one queue; any value can be an error."""

    waiting: Reply
    active: Reply
    lost: Reply
    scheduled: Reply
    due: Reply  # the score of the next scheduled job
    blocked: Reply
    failed: Reply
    expired: Reply
    finished: Reply
    canceled: Reply
    registered: Reply
    taken: Reply
    head: Reply = None  # enqueued_at of the oldest waiting job among those checked
    retrying: Reply = None  # how many of the checked scheduled jobs failed before
    looked_at: Reply = None  # how many scheduled jobs were checked


class RememberedReply(NamedTuple):
    """What is cached of one queue until the next sample: the replies about it, and the statistics built from them.

    Every sample reads everything again. If the replies are the same, so are the statistics, except for the ages.
    """

    reported: tuple[Any, ...]
    missing: str  # argument of the script: the keys that did not exist
    queue: QueueStats  # its ages are those of the sample that built it
    since: float | None  # when its oldest waiting job was enqueued
    due: float | None  # when the next scheduled job is


def read_stats(
    source: Source,
    scripts: Scripts,
    refs: Sequence[tuple[QueueRef, QueueKeys]],
    seen: dict[str, RememberedReply] | None = None,
) -> list[QueueStats]:
    """Return the statistics of `refs`, in order; `seen` = the cache of earlier samples, by key, which is updated.

    Counts exclude what RQ itself removes before it counts: finished and failed jobs past their expiry.
    Cost: 1 round trip; 3 if scripts are not permitted, and then killed workers count until RQ removes them.
    """
    if not refs:
        return []
    seen = {} if seen is None else seen
    now = source.now_s()
    prefixes = sorted({queue.prefix for _, queue in refs})
    suspended: list[Command] = [("EXISTS", keys.suspended_key(prefix)) for prefix in prefixes]
    chunks = _queue_chunks(prefixes, refs)
    calls = [*map(workers_call, prefixes)]
    for prefix, queues in chunks:
        call: list[Argument] = ["figures", prefix, int(now), SCHEDULED_LOOKED_AT]
        for queue in queues:
            before = seen.get(queue.queue)
            call += (queue.name, before.missing if before else "")
        calls.append(call)
    workers: list[Reply] = [None] * len(prefixes)
    rows: dict[str, Reply] = {}
    answered = scripts.run(keys.load_script("queues"), calls, suspended)
    if answered is None:
        there, rows = _read_without_lua(source, refs, suspended, now)
    else:
        scripted, there = answered
        workers, found = _split_replies(scripted, len(prefixes))
        for (_, queues), reply in zip(chunks, found, strict=True):
            values = reply if isinstance(reply, list) else [[reply] * len(QueueReply._fields)] * len(queues)
            rows.update(zip((queue.queue for queue in queues), values, strict=True))
    groups = {
        prefix: _PrefixReplies(one == 1, None if (live := workers_of(reply)) is None else ConsumerIndex(live))
        for prefix, one, reply in zip(prefixes, there, workers, strict=True)
    }
    return [_stats_of_queue(ref, queue, rows[queue.queue], groups[queue.prefix], now, seen) for ref, queue in refs]


def _read_without_lua(
    source: Source, refs: Sequence[tuple[QueueRef, QueueKeys]], suspended: Sequence[Command], now: float
) -> tuple[list[Reply], dict[str, Reply]]:
    """Return (the replies to `suspended`, the rows by queue), read with plain commands."""
    commands = [command for _, queue in refs for command in _count_commands(queue, now)]
    firsts: list[Command] = [("LINDEX", queue.queue, place) for _, queue in refs for place in PLAIN_PLACES]
    replies, rest = _split_replies(source.run_batch([*commands, *suspended, *firsts]), len(commands))
    there, first_ids = _split_replies(rest, len(suspended))
    heads = _heads_plainly(source, refs, first_ids)
    width = len(replies) // len(refs)
    rows: dict[str, Reply] = {}
    for n, (_, queue) in enumerate(refs):
        row = replies[n * width : (n + 1) * width]
        due = row[4]
        row[4] = due if not isinstance(due, list) else due[1] if due else None
        rows[queue.queue] = [*row, heads.get(queue.queue)]
    return there, rows


def _split_replies(replies: list[Reply], count: int) -> tuple[list[Reply], list[Reply]]:
    return replies[:count], replies[count:]


def _count_commands(queue: QueueKeys, now: float) -> list[Command]:
    # RQ's expiry times are whole seconds, and its cleanup removes entries that are not after the current second.
    second = int(now)
    failed, finished, scheduled = (
        queue.list_of(State.DEAD),
        queue.list_of(State.COMPLETED),
        queue.list_of(State.SCHEDULED),
    )
    return [
        ("LLEN", queue.queue),
        ("ZCARD", queue.list_of(State.ACTIVE)),
        ("ZCOUNT", queue.list_of(State.ACTIVE), 0, second),
        ("ZCARD", scheduled),
        ("ZRANGE", scheduled, 0, 0, "WITHSCORES"),
        ("ZCARD", queue.list_of(State.BLOCKED)),
        ("ZCARD", failed),
        ("ZCOUNT", failed, 0, second),
        ("ZCOUNT", finished, f"({second}", "+inf"),
        ("ZCARD", queue.list_of(State.CANCELED)),
        ("SCARD", queue.workers),
        ("LLEN", queue.intermediate),
    ]


def _queue_chunks(
    prefixes: Sequence[str], refs: Sequence[tuple[QueueRef, QueueKeys]]
) -> list[tuple[str, list[QueueKeys]]]:
    chunks = []
    for prefix in prefixes:
        queues = [queue for _, queue in refs if queue.prefix == prefix]
        chunks += [(prefix, queues[at : at + QUEUES_PER_SCRIPT]) for at in range(0, len(queues), QUEUES_PER_SCRIPT)]
    return chunks


def _heads_plainly(
    source: Source, refs: Sequence[tuple[QueueRef, QueueKeys]], ids: Sequence[Reply]
) -> dict[str, Reply]:
    """Like the script, from the ids at PLAIN_PLACES. Cost: 2 round trips, none if no job is waiting."""
    queues = [queue for _, queue in refs for _ in PLAIN_PLACES]
    found = dict.fromkeys((queue, text(id_)) for queue, id_ in zip(queues, ids, strict=True) if isinstance(id_, bytes))
    replies = short_fields(source, [(queue.job(job_id), "enqueued_at") for queue, job_id in found], LONGEST_TIME)
    oldest: dict[str, Reply] = {}
    for (queue, _), reply in zip(found, replies, strict=True):
        # RQ's times sort as text.
        if isinstance(reply, bytes) and _TIME.match(reply) and reply < oldest.get(queue.queue, b"x"):
            oldest[queue.queue] = reply
    return oldest


def _stats_of_queue(
    ref: QueueRef, queue: QueueKeys, reply: Reply, group: _PrefixReplies, now: float, seen: dict[str, RememberedReply]
) -> QueueStats:
    """Return the statistics of one queue: rebuilt if the replies changed, else the cached ones with current ages."""
    crew = None if group.crew is None else group.crew.figures_of(queue.name)
    reported = (ref, reply, group.suspended, crew)
    before = seen.get(queue.queue)
    if before is None or before.reported != reported:
        before = seen[queue.queue] = _remember_reply(queue, reported)
    if before.since is None and before.due is None:
        return before.queue
    return msgspec.structs.replace(
        before.queue,
        latency_s=before.queue.latency_s if before.since is None else max(0.0, now - before.since),
        overdue_s=before.queue.overdue_s if before.due is None else max(0.0, min(now - before.due, now)),
    )


# (RQ's own word, the state, the getter of its count) of each list.
_NATIVE = tuple((word, state, attrgetter(state.value)) for state, (word, _) in LISTS.items())


def _remember_reply(queue: QueueKeys, reported: tuple[Any, ...]) -> RememberedReply:
    ref, reply, suspended, crew = reported
    row = QueueReply(*reply)
    figures = _queue_figures(ref, queue, row, crew, suspended=suspended)
    at = parse_time(text(row.head)) if isinstance(row.head, bytes) and figures.counts.waiting != 0 else None
    due = float(row.due) if isinstance(row.due, bytes) else None
    return RememberedReply(
        reported,
        _missing_flags(row),
        figures,
        since=None if at is None else at.timestamp(),
        due=None if due is None or due != due else due,
    )


def _queue_figures(
    ref: QueueRef, queue: QueueKeys, row: QueueReply, crew: ConsumerFigures | None, *, suspended: bool
) -> QueueStats:
    """The figures of one queue, with the ages that are 0.0."""
    counts = Counts(
        waiting=_count_or_none(row.waiting),
        active=_count_or_none(row.active),
        scheduled=_count_or_none(row.scheduled),
        blocked=_count_or_none(row.blocked),
        dead=_subtract_expired(row.failed, row.expired),
        completed=_count_or_none(row.finished),
        canceled=_count_or_none(row.canceled),
    )
    return QueueStats(
        source=ref.source,
        backend=ref.backend,
        name=ref.name,
        key=ref.key,
        prefix=queue.prefix,
        library_version=crew.versions if crew else None,
        paused=suspended,
        counts=counts,
        native=tuple([NativeCount(native=word, state=state, count=count(counts)) for word, state, count in _NATIVE]),
        depth=counts.waiting,
        latency_s=0.0 if counts.waiting == 0 else None,
        overdue_s=0.0 if row.due is None else None,
        active_age_s=0.0 if counts.active == 0 else None,
        stalled=_count_or_none(row.lost),
        workers=_count_or_none(row.registered) if crew is None else crew.workers,
        notes=(
            *_list_notes(_count_or_none(row.lost) or 0, _count_or_none(row.taken) or 0, suspended=suspended),
            *_retry_notes(row),
        ),
        error=_find_error(queue, row),
    )


def _missing_flags(row: QueueReply) -> str:
    """Return which keys do not exist, in the form that the script `queues` expects."""
    sizes = (row.active, row.scheduled, row.blocked, row.failed, row.canceled, row.registered, row.waiting, row.taken)
    return "".join(["1" if size == 0 else "0" for size in sizes])


def _count_or_none(reply: Reply) -> int | None:
    return reply if isinstance(reply, int) else None


def _subtract_expired(all_of_them: Reply, expired: Reply) -> int | None:
    """Return `all_of_them` minus `expired`; the two were counted a moment apart."""
    if not isinstance(all_of_them, int) or not isinstance(expired, int):
        return None
    return max(0, all_of_them - expired)


def _list_notes(lost: int, taken: int, *, suspended: bool) -> list[str]:
    notes = []
    if suspended:
        notes.append("all workers are suspended")
    if lost:
        notes.append(f"{lost} running {'job' if lost == 1 else 'jobs'} lost {'its' if lost == 1 else 'their'} worker")
    if taken:
        notes.append(f"{taken} {'job' if taken == 1 else 'jobs'} picked up by a worker but not started yet")
    return notes


def _retry_notes(row: QueueReply) -> list[str]:
    """Return a note about how many of the scheduled jobs failed before; [] if none is known to."""
    count, scheduled = row.retrying, _count_or_none(row.scheduled)
    if not isinstance(count, int) or not count:
        return []
    least = "" if scheduled is not None and row.looked_at >= scheduled else "at least "
    return [f"{least}{count} of the scheduled jobs failed and {'is' if count == 1 else 'are'} waiting for a retry"]


_READ = frozenset({int, bytes, list, type(None)})  # the types of replies that are not errors


def _find_error(queue: QueueKeys, replies: Sequence[Reply]) -> str | None:
    """Return what is wrong with this queue's keys, in one line; None if nothing is."""
    if _READ.issuperset(map(type, replies)):
        return None
    for command, reply in zip(_count_commands(queue, 0), replies, strict=False):
        if isinstance(reply, NoPermissionError) or (isinstance(reply, ResponseError) and "permission" in str(reply)):
            return f"the Redis user does not have permission to read {command[1]!s}"
        if isinstance(reply, ResponseError):
            wrong = f"returns an error: {printable(str(reply), 200)}"
            if str(reply).startswith("WRONGTYPE"):
                wrong = "has the wrong type"
            return f"{command[1]!s} {wrong}"
    return None
