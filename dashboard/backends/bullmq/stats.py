"""The figures of many queues in one round trip. Layout: see `keys`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from dashboard.backends.bullmq import keys, plain
from dashboard.backends.bullmq.clients import Counted, counted
from dashboard.backends.payload import printable
from dashboard.backends.script import Scripts
from dashboard.model import Counts, NativeCount, QueueRef, QueueStats, State
from dashboard.sources import Command, Reply, Source

# One call of the script reads this many queues: other clients get their turn between two calls.
QUEUES_PER_CALL = 40
META = ("paused", "version", "concurrency", "max", "duration", "opts.maxLenEvents")
# What is asked of each queue by plain commands: command, last part of the key, arguments.
PLAN: tuple[tuple[str, ...], ...] = (
    *(("LLEN" if entry.kind == "list" else "ZCARD", entry.native) for entry in keys.LISTS),
    ("HMGET", "meta", *META),
    ("LINDEX", "wait", "-1"),
    ("ZRANGE", "delayed", "0", "0", "WITHSCORES"),
    ("PTTL", "limiter"),
    ("GET", "limiter"),
    ("EXISTS", "stalled-check"),
    ("EXISTS", "meta-paused"),
)
# Longer options are left unread; the age of such a job is then unknown.
OPTS_LIMIT = 4096
NUMBER_LIMIT = 40  # no number is longer
# What `Queue.rateLimit` writes to stop a queue whatever its limit is.
FULLY_LIMITED = 2**53 - 1
# What is known of one of the oldest jobs: timestamp, processedOn, atm, attemptsMade, opts.
JOB_FIELDS = 5
_DELAY = re.compile(rb'"delay":\s*(\d{1,15})')


class Row(NamedTuple):
    """What one queue answers; any value may be an error."""

    sizes: Sequence[Reply]  # of `keys.LISTS`
    meta: Sequence[Reply] | ResponseError  # of META
    tail: Reply
    due: Reply  # the score of the next delayed job
    limit_ttl: Reply
    limit: Reply
    alive: Reply
    bull_paused: Reply
    oldest: Sequence[Reply]  # JOB_FIELDS of each
    began: Reply
    lost: Reply


def read(source: Source, scripts: Scripts, refs: Sequence[QueueRef]) -> list[QueueStats]:
    """The stats of `refs`, in their order.

    Cost: 1 round trip where scripts are permitted, else 3: two for the age of the oldest jobs.
    """
    chunks = [refs[start : start + QUEUES_PER_CALL] for start in range(0, len(refs), QUEUES_PER_CALL)]
    answered = scripts.run(_script(), [tuple(ref.key for ref in chunk) for chunk in chunks], also=[("CLIENT", "LIST")])
    if answered is None:
        rows, clients = _plain(source, refs)
    else:
        replies, (clients,) = answered
        rows = [
            _row(row)
            for chunk, reply in zip(chunks, replies, strict=True)
            for row in (reply if not isinstance(reply, ResponseError) else [reply] * len(chunk))
        ]
    workers = counted(clients, source.database)
    now = source.now_s()
    return [_queue(ref, row, workers, now) for ref, row in zip(refs, rows, strict=True)]


@cache
def _script() -> str:
    return keys.script("stats")


def _row(reply: Reply) -> Row | ResponseError:
    if isinstance(reply, ResponseError):
        return reply
    lists, meta = len(keys.LISTS), len(META)
    fields, rest = reply[lists : lists + meta], reply[lists + meta :]
    wrong = fields[0] if isinstance(fields[0], ResponseError) else None
    return Row(reply[:lists], wrong or fields, *rest)


def _plain(source: Source, refs: Sequence[QueueRef]) -> tuple[list[Row | ResponseError], Reply]:
    """The same rows by plain commands, for a user without scripts."""
    commands: list[Command] = [
        (command, f"{ref.key}:{key}", *arguments) for ref in refs for command, key, *arguments in PLAN
    ]
    *replies, clients = source.batch([*commands, ("CLIENT", "LIST")])
    rows = [replies[start : start + len(PLAN)] for start in range(0, len(replies), len(PLAN))]
    tails = {
        n: f"{ref.key}:".encode("utf-8", "surrogateescape") + tail
        for n, (ref, row) in enumerate(zip(refs, rows, strict=True))
        if isinstance(tail := row[PLAN.index(("LINDEX", "wait", "-1"))], bytes) and not tail.startswith(keys.MARKER)
    }
    limits = {**dict.fromkeys(("timestamp", "processedOn", "atm", "attemptsMade"), NUMBER_LIMIT), "opts": OPTS_LIMIT}
    values, _ = plain.fields(source, list(tails.values()), limits)
    oldest = {
        n: [None if isinstance(value, list) else value for value in reply]
        for n, reply in zip(tails, values, strict=True)
        if isinstance(reply, list) and not isinstance(reply[-1], list)
    }
    found: list[Row | ResponseError] = []
    for n, row in enumerate(rows):
        sizes, (meta, tail, head, *timers) = row[: len(keys.LISTS)], row[len(keys.LISTS) :]
        limit_ttl, limit, alive, bull_paused = timers
        due = _score(head)
        found.append(
            Row(sizes, meta, tail, due, limit_ttl, limit, alive, bull_paused, oldest.get(n, []), began=None, lost=None)
        )
    return found, clients


def _score(reply: Reply) -> Reply:
    """The score in a reply to ZRANGE 0 0 WITHSCORES; None when there was nobody."""
    return reply[1] if isinstance(reply, list) and len(reply) == 2 else None if isinstance(reply, list) else reply


def _queue(ref: QueueRef, row: Row | ResponseError, workers: Counted | None, now: float) -> QueueStats:
    key = keys.of(ref)
    if isinstance(row, ResponseError) or key is None:
        wrong = row if isinstance(row, ResponseError) else None
        return QueueStats(source=ref.source, backend=ref.backend, name=ref.name, key=ref.key, error=_line(wrong))
    meta = row.meta
    fields = {} if isinstance(meta, ResponseError) else dict(zip(META, meta, strict=True))
    bull = not fields.get("version") and not fields.get("opts.maxLenEvents")
    native = _native(row.sizes, row.tail, bull=bull)
    waiting = _sum(entry.count for entry in native if entry.state is State.WAITING)
    active = _sum(entry.count for entry in native if entry.state is State.ACTIVE)
    return QueueStats(
        source=ref.source,
        backend=ref.backend,
        name=ref.name,
        key=ref.key,
        prefix=key.prefix,
        library_version=keys.version(fields.get("version")),
        paused=None if isinstance(meta, ResponseError) else bool(fields.get("paused")) or row.bull_paused == 1,
        counts=Counts(
            waiting=waiting,
            active=active,
            scheduled=_of(native, "delayed"),
            blocked=_of(native, "waiting-children"),
            dead=_of(native, "failed"),
            completed=_of(native, "completed"),
        ),
        native=native,
        depth=waiting,
        latency_s=latency_s(waiting, row.oldest, now),
        overdue_s=_overdue_s(row.due, now),
        active_age_s=_active_age_s(active, row.began, now),
        stalled=0 if active == 0 else row.lost if isinstance(row.lost, int) else None,
        workers=_workers(key, workers, seems_alive=bool(active) or row.alive == 1),
        notes=tuple(_notes(fields, row.limit_ttl, row.limit, bull=bull)),
        read_only=keys.read_only(fields.get("version")),
        error=next((_line(reply) for reply in (*row.sizes, *row) if isinstance(reply, ResponseError)), None),
    )


def _native(sizes: Sequence[Reply], tail: Reply, *, bull: bool) -> tuple[NativeCount, ...]:
    native = []
    for entry, size in zip(keys.LISTS, sizes, strict=True):
        if bull and entry.native in keys.NOT_IN_BULL:
            continue
        count = size if isinstance(size, int) else None
        if count and entry.native == "wait" and isinstance(tail, bytes) and tail.startswith(keys.MARKER):
            count -= 1
        native.append(NativeCount(native=entry.native, state=entry.state, count=count))
    return tuple(native)


def _of(native: Iterable[NativeCount], word: str) -> int | None:
    return next((entry.count for entry in native if entry.native == word), None)


def _sum(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)


def latency_s(waiting: int | None, oldest: Sequence[Any], now: float) -> float | None:
    """How long the longest waiting of the `oldest` jobs waits; 0.0 when none waits, None when none tells.

    Of each: timestamp, processedOn, atm, attemptsMade, opts; one job after the other.
    """
    if waiting == 0:
        return 0.0
    jobs = (oldest[at : at + JOB_FIELDS] for at in range(0, len(oldest), JOB_FIELDS))
    starts = [start for job in jobs if (start := _waits_since(job)) is not None]
    return max(0.0, now - min(starts)) if waiting and starts else None


def _waits_since(job: Sequence[Any]) -> float | None:
    if len(job) != JOB_FIELDS:
        return None
    added, tried, made, made_before_5, opts = job
    if keys.number(made) or keys.number(made_before_5):
        # Tried before: it waits since that try failed, of which only the start is kept. A person's retry wipes even
        # that, and the time when the job was first added would be days off.
        return keys.seconds(tried)
    start = keys.seconds(added)
    delay = _DELAY.search(opts) if isinstance(opts, bytes) else None
    return start + int(delay[1]) / 1000 if start is not None and delay else start


def _overdue_s(score: Reply, now: float) -> float | None:
    if score is None:
        return 0.0
    due = keys.due_s(score) if isinstance(score, bytes) else None
    return None if due is None else max(0.0, now - due)


def _active_age_s(active: int | None, began: Reply, now: float) -> float | None:
    """How long the oldest active job has been running; 0.0 when none is, None where a job does not tell."""
    if active == 0:
        return 0.0
    start = keys.seconds(began) if active and isinstance(began, bytes) else None
    return None if start is None else max(0.0, now - start)


def _workers(key: keys.QueueKey, workers: Counted | None, *, seems_alive: bool) -> int | None:
    if workers is None:
        return None
    count = workers.workers(key)
    # Proxies that refuse CLIENT SETNAME hide workers: with signs of life, none seen is not none there.
    return count if count or not seems_alive else None


def _notes(fields: dict[str, Any], limit_ttl: Reply, limit: Reply, *, bull: bool) -> Iterable[str]:
    if bull:
        yield "Bull 4 or older"
    concurrency, most, span = (keys.whole(fields.get(name)) for name in ("concurrency", "max", "duration"))
    if concurrency:
        yield f"global concurrency {concurrency}"
    if most and span:
        yield f"at most {most} jobs per {span / 1000:g} s"
    started = keys.whole(limit if isinstance(limit, bytes) else None)
    if not isinstance(limit_ttl, int) or limit_ttl <= 0 or started is None:
        return
    left_s = max(1, round(limit_ttl / 1000))
    if started >= (most or FULLY_LIMITED):
        yield f"rate limited for {left_s} s"
    elif not most:
        # The limit of a worker stands in its code alone; how many it started stands here until its time is over.
        yield f"a worker's rate limit is counting: {started} started, ends in {left_s} s"


def _line(reply: Reply) -> str:
    if "WRONGTYPE" in str(reply):
        return "a key of this queue has the wrong type"
    return printable(str(reply), 200) if isinstance(reply, ResponseError) else "the key names no queue"
