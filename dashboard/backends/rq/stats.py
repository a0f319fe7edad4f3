"""The figures of all queues in one round trip."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redis.exceptions import NoPermissionError, ResponseError

from dashboard.backends.members import short_fields
from dashboard.backends.payload import printable, text
from dashboard.backends.rq import keys
from dashboard.backends.rq.decode import moment
from dashboard.backends.rq.keys import LISTS, QueueKeys
from dashboard.backends.rq.workers import Crew, workers_call, workers_of
from dashboard.backends.script import Scripts
from dashboard.model import Counts, NativeCount, QueueRef, QueueStats, State
from dashboard.sources import Command, Reply, Source

# One script holds up the server as long as it runs: this many queues take about a millisecond.
QUEUES_PER_SCRIPT = 50
# So many of a queue's scheduled jobs, the soonest ones, are asked whether they failed before.
SCHEDULED_LOOKED_AT = 50
# Without scripts only these places of a line are looked at for its oldest job.
PLAIN_PLACES = (0, 1, 4, -1)
LONGEST_TIME = 40
_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


@dataclass(frozen=True, slots=True)
class _Group:
    """What was read of one prefix beside its queues."""

    suspended: bool
    crew: Crew | None  # None when workers could not be looked at one by one
    heads: Mapping[str, Reply]  # list -> enqueued_at of its oldest job, as far as was looked
    retrying: Mapping[str, Reply]  # list -> [failed ones among the scheduled jobs that were looked at, how many were]


def read_stats(source: Source, scripts: Scripts, refs: Sequence[tuple[QueueRef, QueueKeys]]) -> list[QueueStats]:
    """The figures of `refs`, in order.

    Counts leave out what RQ itself drops before it counts: finished and failed jobs past their expiry.
    Cost: 1 round trip; 3 where scripts may not run, and then workers that were killed count until RQ forgets them.
    """
    if not refs:
        return []
    now = source.now_s()
    prefixes = sorted({queue.prefix for _, queue in refs})
    commands = [command for _, queue in refs for command in _commands(queue, now)]
    commands += [("EXISTS", keys.suspended(prefix)) for prefix in prefixes]
    chunks = _chunks(prefixes, refs)
    calls = [*map(workers_call, prefixes)]
    calls += [("heads", f"{prefix}:job:", *(queue.queue for queue in queues)) for prefix, queues in chunks]
    calls += [
        ("retrying", f"{prefix}:job:", str(SCHEDULED_LOOKED_AT), *(queue.of(State.SCHEDULED) for queue in queues))
        for prefix, queues in chunks
    ]
    workers: list[Reply] = [None] * len(prefixes)
    heads: dict[str, Reply] = {}
    retrying: dict[str, Reply] = {}
    answered = scripts.run(keys.script("queues"), calls, commands)
    if answered is None:
        firsts: list[Command] = [("LINDEX", queue.queue, place) for _, queue in refs for place in PLAIN_PLACES]
        replies, first_ids = _split(source.batch([*commands, *firsts]), len(commands))
        heads = _heads_plainly(source, refs, first_ids)
    else:
        scripted, replies = answered
        workers, found = _split(scripted, len(prefixes))
        first, again = _split(found, len(chunks))
        for into, replies_of in ((heads, first), (retrying, again)):
            for (_, queues), reply in zip(chunks, replies_of, strict=True):
                values = reply if isinstance(reply, list) else ()
                into.update(zip((queue.queue for queue in queues), values, strict=False))
    rows, suspended = _split(replies, len(replies) - len(prefixes))
    width = len(rows) // len(refs)
    groups = {
        prefix: _Group(there == 1, None if (live := workers_of(reply)) is None else Crew(live), heads, retrying)
        for prefix, there, reply in zip(prefixes, suspended, workers, strict=True)
    }
    return [
        _queue(ref, queue, rows[index * width : (index + 1) * width], groups[queue.prefix], now)
        for index, (ref, queue) in enumerate(refs)
    ]


def _split(replies: list[Reply], count: int) -> tuple[list[Reply], list[Reply]]:
    return replies[:count], replies[count:]


def _commands(queue: QueueKeys, now: float) -> list[Command]:
    # RQ's own times of expiry are whole seconds, and its cleanup drops what is not after the present one.
    second = int(now)
    failed, finished, scheduled = queue.of(State.DEAD), queue.of(State.COMPLETED), queue.of(State.SCHEDULED)
    return [
        ("LLEN", queue.queue),
        ("ZCARD", queue.of(State.ACTIVE)),
        ("ZCOUNT", queue.of(State.ACTIVE), 0, second),
        ("ZCARD", scheduled),
        ("ZRANGE", scheduled, 0, 0, "WITHSCORES"),
        ("ZCARD", queue.of(State.BLOCKED)),
        ("ZCARD", failed),
        ("ZCOUNT", failed, 0, second),
        ("ZCOUNT", finished, f"({second}", "+inf"),
        ("ZCARD", queue.of(State.CANCELED)),
        ("SCARD", queue.workers),
        ("LLEN", queue.intermediate),
    ]


def _chunks(prefixes: Sequence[str], refs: Sequence[tuple[QueueRef, QueueKeys]]) -> list[tuple[str, list[QueueKeys]]]:
    chunks = []
    for prefix in prefixes:
        queues = [queue for _, queue in refs if queue.prefix == prefix]
        chunks += [(prefix, queues[at : at + QUEUES_PER_SCRIPT]) for at in range(0, len(queues), QUEUES_PER_SCRIPT)]
    return chunks


def _heads_plainly(
    source: Source, refs: Sequence[tuple[QueueRef, QueueKeys]], ids: Sequence[Reply]
) -> dict[str, Reply]:
    """As the script, from the ids at PLAIN_PLACES; 2 round trips, none when no job waits."""
    queues = [queue for _, queue in refs for _ in PLAIN_PLACES]
    found = dict.fromkeys((queue, text(id_)) for queue, id_ in zip(queues, ids, strict=True) if isinstance(id_, bytes))
    replies = short_fields(source, [(queue.job(job_id), "enqueued_at") for queue, job_id in found], LONGEST_TIME)
    oldest: dict[str, Reply] = {}
    for (queue, _), reply in zip(found, replies, strict=True):
        # The text of RQ's times sorts as they do.
        if isinstance(reply, bytes) and _TIME.match(reply) and reply < oldest.get(queue.queue, b"x"):
            oldest[queue.queue] = reply
    return oldest


def _queue(ref: QueueRef, queue: QueueKeys, replies: Sequence[Reply], group: _Group, now: float) -> QueueStats:
    waiting, active, lost, scheduled, first, blocked, failed, expired, finished, canceled, registered, taken = replies
    crew = None if group.crew is None else group.crew.of(queue.name)
    counts = Counts(
        waiting=_count(waiting),
        active=_count(active),
        scheduled=_count(scheduled),
        blocked=_count(blocked),
        dead=_without(failed, expired),
        completed=_count(finished),
        canceled=_count(canceled),
    )
    versions = sorted({worker.version for worker in crew or () if worker.version})
    return QueueStats(
        source=ref.source,
        backend=ref.backend,
        name=ref.name,
        key=ref.key,
        prefix=queue.prefix,
        library_version=", ".join(versions) or None,
        paused=group.suspended,
        counts=counts,
        native=tuple(
            NativeCount(native=word, state=state, count=counts.of(state)) for state, (word, _) in LISTS.items()
        ),
        depth=counts.waiting,
        latency_s=_latency(counts.waiting, queue, group, now),
        overdue_s=_overdue(first, now),
        active_age_s=0.0 if counts.active == 0 else None,
        stalled=_count(lost),
        workers=_count(registered) if crew is None else len(crew),
        notes=(
            *_notes(group, _count(lost) or 0, _count(taken) or 0),
            *_retries(group.retrying.get(queue.queue), _count(scheduled)),
        ),
        error=_error(queue, replies),
    )


def _count(reply: Reply) -> int | None:
    return reply if isinstance(reply, int) else None


def _without(all_of_them: Reply, expired: Reply) -> int | None:
    """`all_of_them` less `expired`; the two were counted a moment apart."""
    if not isinstance(all_of_them, int) or not isinstance(expired, int):
        return None
    return max(0, all_of_them - expired)


def _latency(waiting: int | None, queue: QueueKeys, group: _Group, now: float) -> float | None:
    if waiting == 0:
        return 0.0
    raw = group.heads.get(queue.queue)
    at = moment(text(raw)) if isinstance(raw, bytes) else None
    return None if at is None else max(0.0, now - at.timestamp())


def _overdue(first: Reply, now: float) -> float | None:
    """How late the earliest scheduled job is; None where that cannot be told."""
    if not isinstance(first, list):
        return None
    if not first:
        return 0.0
    due = float(first[1])
    return None if due != due else max(0.0, min(now - due, now))


def _notes(group: _Group, lost: int, taken: int) -> list[str]:
    notes = []
    if group.suspended:
        notes.append("all workers are suspended")
    if lost:
        notes.append(f"{lost} running {'job has' if lost == 1 else 'jobs have'} lost the worker")
    if taken:
        notes.append(f"{taken} {'job was' if taken == 1 else 'jobs were'} taken by a worker and not started yet")
    return notes


def _retries(found: Reply, scheduled: int | None) -> list[str]:
    """How many of the scheduled jobs failed before; [] where none was seen to."""
    if not isinstance(found, list) or not found[0]:
        return []
    count, looked = found
    least = "" if scheduled is not None and looked >= scheduled else "at least "
    return [f"{least}{count} of the scheduled jobs failed and {'is' if count == 1 else 'are'} tried again"]


def _error(queue: QueueKeys, replies: Sequence[Reply]) -> str | None:
    """What is wrong with this queue's keys, in one line; None when nothing is."""
    if not any(isinstance(reply, ResponseError) for reply in replies):
        return None
    for command, reply in zip(_commands(queue, 0), replies, strict=True):
        if isinstance(reply, NoPermissionError):
            return f"the Redis user may not read {command[1]!s}"
        if isinstance(reply, ResponseError):
            wrong = f"answers {printable(str(reply), 200)}"
            if str(reply).startswith("WRONGTYPE"):
                wrong = "holds another type of data"
            return f"{command[1]!s} {wrong}"
    return None
