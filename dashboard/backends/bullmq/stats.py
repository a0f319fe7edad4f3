"""Statistics of many queues in one round trip. Layout: see `keys`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from ...model import Counts, NativeCount, QueueRef, QueueStats, RateLimit, State
from ...sources.source import Command, Reply, Source
from ...units import format_duration
from ..lua_reads import Scripts
from ..unreadable_data import describe_error
from . import keys, without_lua
from .client_list import ConnectionCounts, count_connections

# One call of the script reads this many queues, so that other clients are served between two calls.
QUEUES_PER_CALL = 25
META = ("paused", "version", "concurrency", "max", "duration", "opts.maxLenEvents")
# The plain commands for each queue: command, last part of the key, arguments.
PLAN: tuple[tuple[str, ...], ...] = (
    *(("LLEN" if entry.kind == "list" else "ZCARD", entry.native) for entry in keys.LISTS),
    ("LINDEX", "wait", "-1"),
    ("ZRANGE", "delayed", "0", "0", "WITHSCORES"),
    ("PTTL", "limiter"),
    ("GET", "limiter"),
    ("EXISTS", "stalled-check"),
    ("EXISTS", "meta-paused"),
)
# Longer options are not read; the age of such a job is then unknown.
OPTS_LIMIT = 4096
NUMBER_LIMIT = 40  # no number is longer
NO_FIELD = "\0none"  # a field that no hash has
TOO_LONG = b"?"  # in place of a field of `meta` that is longer than OPTS_LIMIT
# The value that `Queue.rateLimit` writes to stop a queue, whatever its limit is.
FULLY_LIMITED = 2**53 - 1
# The number of fields per oldest job: timestamp, processedOn, atm, attemptsMade, opts.
JOB_FIELDS = 5
_DELAY = re.compile(rb'"delay":\s*(\d{1,15})')


# The number of values in a row of the script if the queue has no waiting, running or scheduled jobs.
AT_REST = len(keys.LISTS) + 3 + len(META)


class StatsReply(NamedTuple):
    """The raw statistics of one queue; any value can be an error."""

    sizes: Sequence[Reply]  # of `keys.LISTS`
    limit_ttl: Reply
    alive: Reply
    bull_paused: Reply
    meta: Sequence[Reply] | ResponseError  # of META
    tail: Reply = None
    due: Reply = None  # the score of the next delayed job
    limit: Reply = None
    oldest: Sequence[Reply] = ()  # JOB_FIELDS of each
    began: Reply = None
    lost: Reply = None
    short: Reply = None  # the ids of the jobs that were read, if all their fields are short


@dataclass(slots=True)
class RememberedStats:
    """What is cached of one queue until the next sample: its reply, and the QueueStats built from it.

    Every sample reads everything again. If the reply is the same, so are the statistics, except for ages.
    """

    ref: QueueRef
    reply: Any
    queue: QueueStats  # with its ages as of the sample that built it
    hint: bytes | str  # for the script: how to read the queue
    names: tuple[str, str] | None  # of its workers' connections
    seems_alive: bool
    since: float | None  # when the job that waits longest started to wait, the next delayed job is due, the oldest
    due: float | None  # active job started; None if the age in `queue` does not change
    began: float | None


def read_stats(
    source: Source, scripts: Scripts, refs: Sequence[QueueRef], seen: dict[str, RememberedStats] | None = None
) -> list[QueueStats]:
    """Return the statistics of `refs`, in order; `seen` = the cache of earlier samples, by key, updated by this one.

    Cost: 1 round trip if scripts are permitted, else 3: two for the age of the oldest jobs.
    """
    seen = {} if seen is None else seen
    chunks = scripts.split(refs, QUEUES_PER_CALL, keys.queue_key)
    calls = []
    for chunk in chunks:
        call: list[bytes | str] = []
        for ref in chunk:
            before = seen.get(ref.key)
            call += (ref.key, before.hint if before else "")
        calls.append(call)
    at = [chunk[0].key for chunk in chunks]
    answered = scripts.run(keys.load_script("stats"), calls, also=[("CLIENT", "LIST")], at=at)
    rows: list[Any]
    if answered is None:
        rows, clients = _read_without_lua(source, refs)
    else:
        replies, (clients,) = answered
        rows = [
            row
            for chunk, reply in zip(chunks, replies, strict=True)
            for row in (reply if not isinstance(reply, ResponseError) else [reply] * len(chunk))
        ]
    workers = count_connections(clients, source.database)
    now = source.now_s()
    found = []
    for ref, row in zip(refs, rows, strict=True):
        before = seen.get(ref.key)
        if before is None or before.reply != row or before.ref != ref:
            before = seen[ref.key] = _remember_reply(ref, row)
        found.append(_as_of(before, workers, now))
    return found


def _parse_reply(reply: Reply) -> StatsReply | ResponseError:
    if isinstance(reply, ResponseError | StatsReply):
        return reply
    lists, timers = len(keys.LISTS), len(keys.LISTS) + 3
    fields = reply[timers:AT_REST]
    wrong = fields[0] if isinstance(fields[0], ResponseError) else None
    rest = reply[AT_REST:] or (None, None, None, (), None, None, None)
    return StatsReply._make((reply[:lists], *reply[lists:timers], wrong or fields, *rest))


def _read_without_lua(source: Source, refs: Sequence[QueueRef]) -> tuple[list[StatsReply | ResponseError], Reply]:
    """Read the same rows with plain commands, for users without scripts."""
    commands: list[Command] = [
        (command, f"{ref.key}:{key}", *arguments) for ref in refs for command, key, *arguments in PLAN
    ]
    lengths: list[Command] = [("HSTRLEN", f"{ref.key}:meta", name) for ref in refs for name in META]
    *replies, clients = source.run_batch([*commands, *lengths, ("CLIENT", "LIST")])
    field_sizes, replies = replies[len(commands) :], replies[: len(commands)]
    rows = [replies[start : start + len(PLAN)] for start in range(0, len(replies), len(PLAN))]
    tails = {
        n: f"{ref.key}:".encode("utf-8", "surrogateescape") + tail
        for n, (ref, row) in enumerate(zip(refs, rows, strict=True))
        if isinstance(tail := row[PLAN.index(("LINDEX", "wait", "-1"))], bytes) and not tail.startswith(keys.MARKER)
    }
    limits = {**dict.fromkeys(("timestamp", "processedOn", "atm", "attemptsMade"), NUMBER_LIMIT), "opts": OPTS_LIMIT}
    sizes_of = [field_sizes[n : n + len(META)] for n in range(0, len(field_sizes), len(META))]
    values, metas = without_lua.read_fields(
        source, list(tails.values()), limits, [_meta_command(*one) for one in zip(refs, sizes_of, strict=True)]
    )
    oldest = {
        n: [None if isinstance(value, list) else value for value in reply]
        for n, reply in zip(tails, values, strict=True)
        if isinstance(reply, list) and not isinstance(reply[-1], list)
    }
    found: list[StatsReply | ResponseError] = []
    for n, row in enumerate(rows):
        sizes, (tail, head, *timers) = row[: len(keys.LISTS)], row[len(keys.LISTS) :]
        meta = metas[n] if not isinstance(sizes_of[n][0], ResponseError) else sizes_of[n][0]
        if isinstance(meta, list):
            long = [isinstance(size, int) and size > OPTS_LIMIT for size in sizes_of[n]]
            meta = [TOO_LONG if cut else value for cut, value in zip(long, meta, strict=True)]
        limit_ttl, limit, alive, bull_paused = timers
        found.append(
            StatsReply(
                sizes, limit_ttl, alive, bull_paused, meta, tail, _score_of(head), limit, oldest=oldest.get(n, [])
            )
        )
    return found, clients


def _meta_command(ref: QueueRef, sizes: Sequence[Reply]) -> Command:
    """Return the command that reads META without values that are too long."""
    fit = [isinstance(size, int) and size <= OPTS_LIMIT for size in sizes]
    return ("HMGET", f"{ref.key}:meta", *(name if short else NO_FIELD for name, short in zip(META, fit, strict=True)))


def _score_of(reply: Reply) -> Reply:
    """Return the score in a reply to ZRANGE 0 0 WITHSCORES; None if the set is empty."""
    return reply[1] if isinstance(reply, list) and len(reply) == 2 else None if isinstance(reply, list) else reply


def _remember_reply(ref: QueueRef, reply: Reply) -> RememberedStats:
    key, row = keys.key_of(ref), _parse_reply(reply)
    if isinstance(row, ResponseError) or key is None:
        error = describe_error(row) if isinstance(row, ResponseError) else "this is not the key of a queue"
        queue = QueueStats(source=ref.source, backend=ref.backend, name=ref.name, key=ref.key, error=error)
        return RememberedStats(
            ref, reply, queue, hint="", names=None, seems_alive=False, since=None, due=None, began=None
        )
    fields = {} if isinstance(row.meta, ResponseError) else dict(zip(META, row.meta, strict=True))
    bull = bool(fields) and not fields.get("version") and not fields.get("opts.maxLenEvents")
    queue = _queue_figures(ref, key.prefix, row, fields, bull=bull)
    active = queue.counts.active
    return RememberedStats(
        ref,
        reply,
        queue,
        hint=_hint_for_script(row, bull=bull),
        names=keys.worker_names(key),
        seems_alive=bool(active) or row.alive == 1,
        since=_waits_since(row.oldest) if queue.counts.waiting else None,
        due=keys.due_s(row.due) if isinstance(row.due, bytes) else None,
        began=keys.parse_seconds(row.began) if active and isinstance(row.began, bytes) else None,
    )


def _queue_figures(ref: QueueRef, prefix: str, row: StatsReply, fields: dict[str, Any], *, bull: bool) -> QueueStats:
    """The figures of one queue, with the ages that are 0.0; `fields` of its hash meta."""
    native = _native_counts(row.sizes, row.tail, bull=bull)
    waiting = _sum_counts(entry.count for entry in native if entry.state is State.WAITING)
    active = _sum_counts(entry.count for entry in native if entry.state is State.ACTIVE)
    limit = _read_rate_limit(fields, row.limit_ttl, row.limit)
    return QueueStats(
        source=ref.source,
        backend=ref.backend,
        name=ref.name,
        key=ref.key,
        prefix=prefix,
        library_version=keys.parse_version(fields.get("version")),
        paused=None if isinstance(row.meta, ResponseError) else bool(fields.get("paused")) or row.bull_paused == 1,
        counts=Counts(
            waiting=waiting,
            active=active,
            scheduled=_native_count(native, "delayed"),
            blocked=_native_count(native, "waiting-children"),
            dead=_native_count(native, "failed"),
            completed=_native_count(native, "completed"),
        ),
        native=native,
        depth=waiting,
        latency_s=0.0 if waiting == 0 else None,
        overdue_s=0.0 if row.due is None and _native_count(native, "delayed") is not None else None,
        active_age_s=0.0 if active == 0 else None,
        stalled=0 if active == 0 else row.lost if isinstance(row.lost, int) else None,
        rate_limit=limit,
        notes=tuple(_list_notes(fields, limit, bull=bull)),
        read_only=keys.read_only(fields.get("version")),
        error=next((describe_error(reply) for reply in (*row.sizes, *row) if isinstance(reply, ResponseError)), None),
    )


def _hint_for_script(row: StatsReply, *, bull: bool) -> bytes:
    """Return what the script gets about this sample in the next one; see stats.lua."""
    missing = [size == 0 for size in row.sizes]
    missing += [row.limit_ttl == -2, row.alive == 0, bull and row.bull_paused == 0]
    fields = [] if isinstance(row.meta, ResponseError) else [each for each in row.meta if isinstance(each, bytes)]
    short = all(each != TOO_LONG and len(each) < OPTS_LIMIT for each in fields)
    known = b"".join(b"1" if each else b"0" for each in (*missing, short))
    return known + (row.short if isinstance(row.short, bytes) else b"")


def _as_of(seen: RememberedStats, workers: ConnectionCounts | None, now: float) -> QueueStats:
    """Return the queue with its ages and workers as of now."""
    queue, count = seen.queue, _count_workers(seen, workers)
    latency_s = queue.latency_s if seen.since is None else max(0.0, now - seen.since)
    overdue_s = queue.overdue_s if seen.due is None else max(0.0, now - seen.due)
    active_age_s = queue.active_age_s if seen.began is None else max(0.0, now - seen.began)
    former = queue.latency_s, queue.overdue_s, queue.active_age_s, queue.workers
    if (latency_s, overdue_s, active_age_s, count) != former:
        queue = seen.queue = msgspec.structs.replace(
            queue, latency_s=latency_s, overdue_s=overdue_s, active_age_s=active_age_s, workers=count
        )
    return queue


def _native_counts(sizes: Sequence[Reply], tail: Reply, *, bull: bool) -> tuple[NativeCount, ...]:
    native = []
    for entry, size in zip(keys.LISTS, sizes, strict=True):
        if bull and entry.native in keys.NOT_IN_BULL:
            continue
        count = size if isinstance(size, int) else None
        if count and entry.native == "wait" and isinstance(tail, bytes) and tail.startswith(keys.MARKER):
            count -= 1
        native.append(NativeCount(native=entry.native, state=entry.state, count=count))
    return tuple(native)


def _native_count(native: Iterable[NativeCount], word: str) -> int | None:
    return next((entry.count for entry in native if entry.native == word), None)


def _sum_counts(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)


def _waits_since(oldest: Sequence[Any]) -> float | None:
    """Return since when the longest waiting of the `oldest` jobs waits, in seconds since 1970; None if unknown.

    `oldest` has timestamp, processedOn, atm, attemptsMade, opts of one job after the other.
    """
    jobs = (oldest[at : at + JOB_FIELDS] for at in range(0, len(oldest), JOB_FIELDS))
    return min((start for job in jobs if (start := _job_waits_since(job)) is not None), default=None)


def _job_waits_since(job: Sequence[Any]) -> float | None:
    if len(job) != JOB_FIELDS:
        return None
    added, tried, made, made_before_5, opts = job
    if keys.parse_number(made) or keys.parse_number(made_before_5):
        # Attempted before: it waits since that attempt failed, of which only the start is stored. A manual retry clears
        # even that, and the time when the job was first added could be days off.
        return keys.parse_seconds(tried)
    start = keys.parse_seconds(added)
    delay = _DELAY.search(opts) if isinstance(opts, bytes) else None
    return start + int(delay[1]) / 1000 if start is not None and delay else start


def _count_workers(seen: RememberedStats, workers: ConnectionCounts | None) -> int | None:
    if workers is None or seen.names is None:
        return None
    count = workers.count_workers(seen.names)
    # Proxies that refuse CLIENT SETNAME hide workers: if the queue shows activity, 0 means unknown.
    return count if count or not seen.seems_alive else None


def _read_rate_limit(fields: dict[str, Any], ttl: Reply, counter: Reply) -> RateLimit | None:
    most = keys.parse_integer(fields.get("max"))
    started = keys.parse_integer(counter if isinstance(counter, bytes) else None)
    if not isinstance(ttl, int) or ttl <= 0 or started is None:
        return None
    # A worker's limit is only in its code; the number of jobs it started is stored until the period is over.
    exhausted = started >= (most or FULLY_LIMITED)
    if most and not exhausted:
        return None
    return RateLimit(started=started, resets_in_s=max(1, round(ttl / 1000)), exhausted=exhausted)


def _list_notes(fields: dict[str, Any], limit: RateLimit | None, *, bull: bool) -> Iterable[str]:
    if bull:
        yield "Bull 4 or older"
    concurrency, most, span = (keys.parse_integer(fields.get(name)) for name in ("concurrency", "max", "duration"))
    if concurrency:
        yield f"global concurrency {concurrency}"
    if most and span:
        yield f"at most {most} jobs per {span / 1000:.15g} s"
    if limit is not None:
        left = format_duration(limit.resets_in_s)
        yield (
            f"rate limited for {left}"
            if limit.exhausted
            else f"a worker's rate limiter counts starts: {limit.started} so far, resets in {left}"
        )
