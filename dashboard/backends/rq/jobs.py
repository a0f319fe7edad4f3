"""One page of a queue's jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from redis.exceptions import NoPermissionError, ResponseError

from ...clock import instant
from ...errors import NotFound, Unsupported, WrongType
from ...model import JobPage, JobQuery, QueueRef, State
from ...sources.source import Command, Reply, Source, text
from ..unreadable_data import decode_or
from . import keys
from .job_decoding import DEAD_LIST, LIST, job_of, without_data
from .job_hashes import JobHashReader
from .keys import LISTS, QueueKeys, job_id_of

# Lists whose entries expire: newest first if all jobs of the queue have the same time to live.
_EXPIRING = (State.COMPLETED, State.DEAD)
_ORDERS = {
    State.WAITING: "next first",
    State.ACTIVE: "longest without a heartbeat first",
    State.SCHEDULED: "soonest first",
    State.BLOCKED: "oldest first",
    State.DEAD: "newest first",
    State.COMPLETED: "newest first",
    State.CANCELED: "newest first",
}


@dataclass(frozen=True, slots=True)
class _RegistryPage:
    """The members of one page with their scores, and the length of the list."""

    rows: Sequence[tuple[str, float | None]]
    total: int


def read_page(
    source: Source,
    reader: JobHashReader,
    ref: QueueRef,
    queue: QueueKeys,
    query: JobQuery,
    *,
    awaited: bool,
    stacks: bool = False,
) -> JobPage:
    """Return one page of a list; `awaited` = the queue may not exist yet, `stacks` = errors include stack traces.

    Raises NotFound, Unsupported, BackendUnavailable. Cost: 2 round trips; 3 if scripts are not permitted, and for pages
    of failed jobs that never expire while others have expired but are not yet removed.
    """
    word, _ = LISTS.get(query.state, (None, None))
    if word is None or query.native not in (None, word):
        raise Unsupported(f"RQ has no list of {query.native or query.state.value} jobs")
    members = _read_members(source, queue, query, awaited=awaited)
    ids = [job_id_of(member, query.state) for member, _ in members.rows]
    shape = DEAD_LIST if query.state is State.DEAD else LIST
    records, _ = reader.read_hashes([(queue, job_id) for job_id in ids], shape) if ids else ([], [])
    jobs = [
        decode_or(
            partial(job_of, ref, job_id, record, state=query.state, due=_due_time(query.state, score), stacks=stacks),
            partial(without_data, ref, job_id, query.state),
        )
        for job_id, record, (_, score) in zip(ids, records, members.rows, strict=True)
    ]
    return JobPage(
        jobs=tuple(jobs),
        page=query.page,
        per_page=query.per_page,
        total=members.total,
        order=_ORDERS[query.state],
    )


def _due_time(state: State, score: float | None) -> datetime | None:
    return instant(score) if state is State.SCHEDULED else None


def _read_members(source: Source, queue: QueueKeys, query: JobQuery, *, awaited: bool) -> _RegistryPage:
    key, second = queue.list_of(query.state), int(source.now_s())
    start, stop = query.offset, query.offset + query.per_page - 1
    there: list[Command] = [
        ("SISMEMBER", keys.directory_key(queue.prefix), queue.queue),
        ("EXISTS", *(queue.list_of(state) for state in LISTS)),
    ]
    if query.state is State.WAITING:
        listing: list[Command] = [("LLEN", key), ("LRANGE", key, start, stop)]
    elif query.state in _EXPIRING:
        listing = [("ZCARD", key), ("ZREVRANGE", key, start, stop, "WITHSCORES")]
        listing += [("ZCOUNT", key, 0, second), ("ZCOUNT", key, "-inf", "(0")]
    elif query.state is State.CANCELED:
        listing = [("ZCARD", key), ("ZREVRANGE", key, start, stop, "WITHSCORES")]
    else:
        listing = [("ZCARD", key), ("ZRANGE", key, start, stop, "WITHSCORES")]
    listed, exists, total, page, *expiring = _checked_replies(source, [*there, *listing], key)
    if not listed and not exists and not awaited:
        raise NotFound(f"There is no queue {queue.shown_name!r} here, or it no longer exists.")
    rows = [(text(member), None) for member in page] if query.state is State.WAITING else _pair_scores(page)
    if expiring and expiring[0]:
        return _without_expired(source, key, query, _RegistryPage(rows, total), *expiring)
    return _RegistryPage(rows, total)


def _without_expired(
    source: Source, key: str, query: JobQuery, members: _RegistryPage, expired: int, never: int
) -> _RegistryPage:
    """Return `members` without the expired ones, which rank between the live ones and those that never expire."""
    total = max(0, members.total - expired)
    live = total - never
    rows = list(members.rows[: max(0, live - query.offset)])
    missing = min(query.per_page, total - query.offset) - len(rows)
    if never and missing > 0:
        start = max(query.offset, live) + expired
        reply = _checked_replies(source, [("ZREVRANGE", key, start, start + missing - 1, "WITHSCORES")], key)
        rows += _pair_scores(reply[0])
    return _RegistryPage(rows, total)


def _pair_scores(reply: Sequence[bytes]) -> list[tuple[str, float | None]]:
    return [(text(member), float(score)) for member, score in zip(reply[::2], reply[1::2], strict=True)]


def _checked_replies(source: Source, commands: Sequence[Command], key: str) -> list[Reply]:
    """Return the replies. Raises Forbidden or BackendUnavailable, with a readable message, if a command failed."""
    replies = source.run_batch(commands)
    for reply in replies:
        if isinstance(reply, NoPermissionError):
            raise source.forbidden_error(reply) from reply
        if isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE"):
            raise WrongType(f"{key} has the wrong type", source=source.name)
        if isinstance(reply, ResponseError):
            raise source.refusal_error(reply)
    return replies
