"""Pages of jobs and one job: messages from the broker, what ended from the result records."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from redis.exceptions import NoPermissionError, ResponseError

from dashboard.backends.acting import Pick
from dashboard.backends.celery import keys
from dashboard.backends.celery.index import index_key
from dashboard.backends.celery.message import (
    STATES,
    decode,
    digest,
    headers_of,
    in_full,
    job_id,
    record_in_full,
    record_row,
    row,
    state_of,
    taken,
)
from dashboard.backends.payload import DECODE_LIMIT_BYTES, loads_dict, text
from dashboard.backends.script import Scripts
from dashboard.clock import monotonic_s
from dashboard.errors import BackendUnavailable, NotFound, Unsupported
from dashboard.model import Job, JobPage, JobQuery, QueueRef, State
from dashboard.sources import Reply, Source

# How many unacknowledged messages are looked into for a page of one kind of them.
LOOK_INTO = 500
# How many messages of each list are looked through at once for one job, from the end that is served next, which keeps
# the server busy for some 10 ms; how many and how long in all. Without scripts they must travel: LOOK_AT_PLAIN then.
LOOK_AT = 10_000
LOOK_AT_MOST = 500_000
LOOK_SECONDS = 1.0
LOOK_AT_PLAIN = 5000


class Pages:
    """Reads jobs of one source: `broker` has the messages, `results` the records, `own` the index of them."""

    def __init__(
        self, broker: Source, results: Source, own: Source | None, scripts: Scripts, names: keys.Unacked
    ) -> None:
        self._broker = broker
        self._scripts = scripts
        self._results = results
        self._own = own
        self._names = names

    def read(self, ref: QueueRef, query: JobQuery) -> tuple[JobPage, list[bytes]]:
        """A page, and the payloads of its rows. Cost: 2 round trips; 1 more when a queue has priorities."""
        place = keys.place(ref)
        self._check_state(place, query)
        if query.state is State.WAITING:
            return self._waiting(ref, place, query)
        if query.state in keys.TAKEN:
            return self._taken(ref, place, query)
        return self._ended(ref, place, query)

    def _check_state(self, place: keys.Place, query: JobQuery) -> None:
        if query.state not in keys.NATIVE:
            raise Unsupported(f"Celery has no {query.state.value} jobs.")
        if (query.state is State.WAITING) == (place.queue is None):
            raise Unsupported(
                f"Celery keeps {query.state.value} jobs "
                + ("in each queue." if place.queue is None else "of all queues together."),
                hint=None if place.queue is None else "Look at the entry of all queues.",
            )
        if query.native is not None and query.native != keys.NATIVE[query.state]:
            raise Unsupported(f"Celery has no list {query.native!r} of {query.state.value} jobs.")

    def picks(self, ref: QueueRef, query: JobQuery) -> list[Pick]:
        """The jobs of a page by id and stamp. Cost: 2 round trips, 1 for what ended."""
        if query.state not in keys.ENDED or self._own is None:
            return [Pick(id=job.id, stamp=job.stamp) for job in self.read(ref, query)[0].jobs]
        place = keys.place(ref)
        self._check_state(place, query)
        key, last = index_key(ref.source, query.state, place.prefix), query.offset + query.per_page - 1
        reply = self._own.batch([("ZREVRANGE", key, query.offset, last, "WITHSCORES")])[0]
        if isinstance(reply, ResponseError):
            return []
        pairs = zip(reply[::2], reply[1::2], strict=True)
        return [Pick(id=text(keys.member_id(member)), stamp=repr(float(score))) for member, score in pairs]

    def _waiting(self, ref: QueueRef, place: keys.Place, query: JobQuery) -> tuple[JobPage, list[bytes]]:
        lists = place.lists()
        sizes = self._broker.batch([("LLEN", key) for key in lists])
        _check(self._broker, ref, sizes)
        if not any(sizes) and not self._exists(place):
            raise NotFound(f"There is no queue {ref.name!r}.", hint="No exchange leads to it any more.")
        commands = []
        offset, rows = query.offset, query.per_page
        for key, size in zip(lists, sizes, strict=True):
            if offset < size and rows > 0:
                last = min(size, offset + rows) - 1
                commands.append(("LRANGE", key, -last - 1, -offset - 1))
                rows -= last - offset + 1
                offset = 0
            else:
                offset = max(0, offset - size)
        found = [raw for reply in self._broker.batch(commands) for raw in reversed(reply)]
        jobs = tuple(row(ref, ref.name, State.WAITING, raw, decode(raw)) for raw in found)
        return _page(query, _unique(jobs), sum(sizes)), found

    def _exists(self, place: keys.Place) -> bool:
        bound = keys.BINDING.encode()
        name = (place.queue or "").encode("utf-8", "surrogateescape")
        key = place.prefix.encode("utf-8", "surrogateescape") + bound + name
        return bool(self._broker.batch([("EXISTS", key)])[0] == 1)

    def _taken(self, ref: QueueRef, place: keys.Place, query: JobQuery) -> tuple[JobPage, list[bytes]]:
        found, total = self._unacked(place)
        rows = []
        for raw in found:
            message, queue = taken(raw)
            state = state_of(headers_of(message))
            if state is query.state:
                rows.append((row(ref, queue or ref.name, state, raw, message), raw))
        shown = rows[query.offset : query.offset + query.per_page]
        whole = total <= LOOK_INTO
        page = _page(query, _unique(tuple(job for job, _ in shown)), len(rows) if whole else None)
        page = msgspec.structs.replace(page, scanned=len(found), truncated=not whole)
        return page, [raw for _, raw in shown]

    def _unacked(self, place: keys.Place) -> tuple[list[bytes], int]:
        """(the newest unacknowledged messages, how many there are)."""
        hash_, index = self._names.keys(place.prefix)
        tags, total = self._broker.batch([("ZREVRANGE", index, 0, LOOK_INTO - 1), ("HLEN", hash_)])
        if isinstance(tags, ResponseError) or isinstance(total, ResponseError) or not tags:
            return [], 0 if not isinstance(total, int) else total
        values = self._broker.batch([("HMGET", hash_, *tags)])[0]
        return [raw for raw in values if raw is not None] if isinstance(values, list) else [], total

    def _ended(self, ref: QueueRef, place: keys.Place, query: JobQuery) -> tuple[JobPage, list[bytes]]:
        if self._own is None:
            return _page(query, (), None), []
        key = index_key(ref.source, query.state, place.prefix)
        last = query.offset + query.per_page - 1
        total, ids = self._own.batch([("ZCARD", key), ("ZREVRANGE", key, query.offset, last)])
        if isinstance(total, ResponseError) or isinstance(ids, ResponseError):
            return _page(query, (), None), []
        records = self._results.batch([("GETRANGE", keys.record_key(member), 0, DECODE_LIMIT_BYTES) for member in ids])
        raws = [raw if isinstance(raw, bytes) and raw else None for raw in records]
        jobs = tuple(
            record_row(ref, text(keys.member_id(member)), query.state, raw)
            for member, raw in zip(ids, raws, strict=True)
        )
        return _page(query, jobs, total), [raw or b"" for raw in raws]

    def job(self, ref: QueueRef, wanted: str) -> Job:
        """One job, wherever it stands: a message before a record. Raises NotFound.

        Cost: at most 4 round trips; one more per further LOOK_AT messages that are looked at.
        """
        place = keys.place(ref)
        job = self._listed(ref, place, wanted, 0)[0] or self._held(ref, place, wanted) or self._recorded(ref, wanted)
        started, after, more = monotonic_s(), LOOK_AT, job is None
        while more and after < LOOK_AT_MOST and monotonic_s() - started < LOOK_SECONDS:
            job, more = self._listed(ref, place, wanted, after)
            after += LOOK_AT
        if job is not None:
            return job
        far = f" Only the {after:,} messages that are served next were looked through." if more else ""
        raise NotFound(
            f"There is no job {wanted[:200]!r} in {ref.name!r}.",
            hint="Celery keeps running jobs in no list unless acks_late is set, and results only for result_expires."
            + far,
        )

    def _listed(self, ref: QueueRef, place: keys.Place, wanted: str, after: int) -> tuple[Job | None, bool]:
        """(the job, when it is among LOOK_AT messages past `after`, else None; whether more could be looked at)."""
        if place.queue is None:
            return None, False
        before = 0
        sizes, found = self._candidates(place, wanted, after)
        for size, messages in zip(sizes, found, strict=True):
            for raw, position in messages:
                if job_id(raw, headers_of(decode(raw))) == wanted:
                    message = decode(raw)
                    return _message(ref, ref.name, State.WAITING, raw, message, before + position), False
            before += size
        return None, any(size > after + LOOK_AT for size in sizes)

    def _candidates(
        self, place: keys.Place, wanted: str, after: int
    ) -> tuple[list[int], list[list[tuple[bytes, int]]]]:
        """(the size of each list of the queue, the messages of each that may be the job, with their places)."""
        # As the id stands in the message's JSON: a cheap look before a message is decoded.
        written = {
            json.dumps(wanted)[1:-1].encode(),
            json.dumps(wanted, ensure_ascii=False)[1:-1].encode("utf-8", "replace"),
        }
        nameless = wanted.startswith("raw")  # a digest stands nowhere in the message
        lists = place.lists()
        answered = (
            None
            if nameless
            else self._scripts.run(keys.script("find"), [(key, LOOK_AT, after, *sorted(written)) for key in lists])
        )
        if answered is not None:
            replies: list[list[Any]] = [reply if isinstance(reply, list) else [0] for reply in answered[0]]
            return [reply[0] for reply in replies], [[(raw, place_) for raw, place_ in reply[1:]] for reply in replies]
        sizes: list[int] = []
        found: list[list[tuple[bytes, int]]] = []
        for reply in self._broker.batch([("LRANGE", key, -LOOK_AT_PLAIN, -1) for key in lists] if after == 0 else []):
            messages = list(reversed(reply)) if isinstance(reply, list) else []
            sizes.append(min(len(messages), LOOK_AT_PLAIN))
            found.append(
                [
                    (raw, n)
                    for n, raw in enumerate(messages)
                    if any(form in raw for form in written) or (nameless and wanted == digest(raw))
                ]
            )
        return sizes, found

    def _held(self, ref: QueueRef, place: keys.Place, wanted: str) -> Job | None:
        """The job among the messages that workers took."""
        for raw in self._unacked(place)[0]:
            message, queue = taken(raw)
            if job_id(raw, headers_of(message)) == wanted and place.queue in (None, queue):
                return _message(ref, queue or ref.name, state_of(headers_of(message)), raw, message, None)
        return None

    def _recorded(self, ref: QueueRef, wanted: str) -> Job | None:
        """The job by its record of a result."""
        place = keys.place(ref)
        for record in self._results.batch(
            [("GETRANGE", key, 0, DECODE_LIMIT_BYTES) for key in keys.record_keys(place.prefix, wanted)]
        ):
            if isinstance(record, bytes) and record:
                named = loads_dict(record).get("queue")
                if place.queue is None or named == place.queue:
                    return _record(ref, wanted, record)
        return None


def _message(
    ref: QueueRef, queue: str, state: State, raw: bytes, message: dict[str, Any] | None, position: int | None
) -> Job:
    job = row(ref, queue, state, raw, message)
    if message is None:
        return job
    more = in_full(job, message)
    if position is not None:
        more["facts"] = (("Place in line", f"{position} before it" if position else "next"), *more["facts"])
    return msgspec.structs.replace(job, **more, summary=None)


def _record(ref: QueueRef, wanted: str, raw: bytes) -> Job:
    status = loads_dict(raw).get("status")
    state = STATES.get(status) if isinstance(status, str) else None
    job = record_row(ref, wanted, state or State.COMPLETED, raw)
    return msgspec.structs.replace(job, state=state, **({} if job.problem else record_in_full(job, raw)))


def _check(source: Source, ref: QueueRef, sizes: list[Reply]) -> None:
    for size in sizes:
        if isinstance(size, NoPermissionError):
            raise source.forbidden(size)
        if isinstance(size, ResponseError):
            raise BackendUnavailable(
                f"The list of {ref.name!r} cannot be read: its key has the wrong type.",
                source=source.name,
                reason="protocol",
                hint="Something other than the library wrote to it. Look at it with TYPE in redis-cli.",
            )


def _page(query: JobQuery, jobs: tuple[Job, ...], total: int | None) -> JobPage:
    return JobPage(jobs=jobs, page=query.page, per_page=query.per_page, total=total, order=keys.ORDERS[query.state])


def _unique(jobs: tuple[Job, ...]) -> tuple[Job, ...]:
    """`jobs`, those that repeat an id marked: the same task may be sent twice."""
    seen: set[str] = set()
    marked = []
    for job in jobs:
        if job.id in seen and job.problem is None:
            job = msgspec.structs.replace(job, problem="the same job stands here more than once")
        seen.add(job.id)
        marked.append(job)
    return tuple(marked)
