"""Pages of jobs and one job: messages from the broker, what ended from the result records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from redis.exceptions import NoPermissionError, ResponseError

from dashboard.backends.acting import Pick
from dashboard.backends.base import SIFT_BYTES, SIFT_ROWS
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
from dashboard.sources import Argument, Reply, Source

# How many unacknowledged messages are looked into for a page of one kind of them.
LOOK_INTO = 500
# How far from the end that is served next the lists of a queue are looked through for one job, and how long. A script
# looks at so many at once that the server is busy for some ms. Without scripts they must travel: LOOK_AT_PLAIN then.
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
        total, reply = self._own.batch([("ZCARD", key), ("ZREVRANGE", key, query.offset, last, "WITHSCORES")])
        if isinstance(total, ResponseError) or isinstance(reply, ResponseError):
            return _page(query, (), None), []
        ids, scores = reply[::2], reply[1::2]
        records = self._results.batch([("GETRANGE", keys.record_key(member), 0, DECODE_LIMIT_BYTES) for member in ids])
        raws = [raw if isinstance(raw, bytes) and raw else None for raw in records]
        rows = [
            record_row(ref, text(keys.member_id(member)), query.state, raw)
            for member, raw in zip(ids, raws, strict=True)
        ]
        # A record that does not tell when it was written goes by the place in the index, as with `picks`.
        jobs = tuple(
            job if job.stamp is not None else msgspec.structs.replace(job, stamp=repr(float(score)))
            for job, score in zip(rows, scores, strict=True)
        )
        return _page(query, jobs, total), [raw or b"" for raw in raws]

    def job(self, ref: QueueRef, wanted: str) -> Job:
        """One job, wherever it stands: a message before a record. Raises NotFound.

        Cost: at most 4 round trips; one more per further SIFT_BYTES of messages that are looked at.
        """
        place = keys.place(ref)
        look = _Look(self._broker, self._scripts, place, wanted)
        job = self._listed(ref, look) or self._held(ref, place, wanted) or self._recorded(ref, wanted)
        started = monotonic_s()
        while job is None and look.more and monotonic_s() - started < LOOK_SECONDS:
            job = self._listed(ref, look)
        if job is not None:
            return job
        far = f" Only the {look.reached:,} messages that are served next were looked through." if look.more else ""
        raise NotFound(
            f"There is no job {wanted[:200]!r} in {'any queue' if ref.shared else repr(ref.name)}.",
            hint="Celery keeps running jobs in no list unless acks_late is set, and results only for result_expires."
            + far,
        )

    def _listed(self, ref: QueueRef, look: _Look) -> Job | None:
        """The job, when it is among the next messages of its look."""
        for raw, position in look.step():
            message = decode(raw)
            if job_id(raw, headers_of(message)) == look.wanted:
                return _message(ref, ref.name, State.WAITING, raw, message, position)
        return None

    def sift(self, ref: QueueRef, word: str, offset: int) -> tuple[list[tuple[Job, bytes]], int, bool] | None:
        """(waiting jobs in whose messages `word` may stand, with those, where to go on, whether there is more); None
        without scripts. Cost: 2 round trips.
        """
        lists = keys.place(ref).lists()
        sizes = self._broker.batch([("LLEN", key) for key in lists])
        _check(self._broker, ref, sizes)
        before = 0
        for key, size in zip(lists, sizes, strict=True):
            if offset < before + size:
                call = (key, offset - before, SIFT_ROWS, SIFT_BYTES, "1", word.lower())
                answered = self._scripts.run(keys.script("find"), [call])
                if answered is None:
                    return None
                reply: Any = answered[0][0]
                if not isinstance(reply, list):
                    break
                rows = [(row(ref, ref.name, State.WAITING, raw, decode(raw)), raw) for raw, _ in reply[2:]]
                # What workers took meanwhile must not make the look stand still.
                reached = max(before + reply[1], offset + 1)
                return rows, reached, reached < sum(sizes)
            before += size
        return [], sum(sizes), False

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


class _Look:
    """A look for one waiting job through the lists of its queue, in steps that keep the server busy for some ms."""

    def __init__(self, broker: Source, scripts: Scripts, place: keys.Place, wanted: str) -> None:
        self._broker, self._scripts = broker, scripts
        self._lists = place.lists() if place.queue is not None else []
        self._after = [0] * len(self._lists)
        self._sizes = [1] * len(self._lists)  # until they are known
        self.wanted = wanted
        # As the id stands in the message's JSON: a cheap look before a message is decoded.
        self._written = {
            json.dumps(wanted)[1:-1].encode(),
            json.dumps(wanted, ensure_ascii=False)[1:-1].encode("utf-8", "replace"),
        }
        self._nameless = wanted.startswith("raw")  # a digest stands nowhere in the message

    @property
    def more(self) -> bool:
        """Whether there are messages that can be looked at and were not."""
        return bool(self._open)

    @property
    def reached(self) -> int:
        """How many messages of the longest list were looked at."""
        return max(self._after, default=0)

    @property
    def _open(self) -> list[int]:
        return [n for n, size in enumerate(self._sizes) if self._after[n] < min(size, LOOK_AT_MOST)]

    def step(self) -> list[tuple[bytes, int]]:
        """The next messages that may be the job, each with how many are served before it. Cost: 1 round trip."""
        todo = self._open
        if not todo:
            return []
        calls: list[Sequence[Argument]] = [
            (self._lists[n], self._after[n], SIFT_ROWS, SIFT_BYTES // len(todo), "0", *sorted(self._written))
            for n in todo
        ]
        answered = None if self._nameless else self._scripts.run(keys.script("find"), calls)
        if answered is None:
            return self._plain()
        found: list[tuple[int, bytes, int]] = []
        for n, reply in zip(todo, answered[0], strict=True):
            answer: list[Any] = reply if isinstance(reply, list) else [0, 0]
            size, reached, *messages = answer
            self._sizes[n], self._after[n] = size, max(reached, self._after[n] + 1)
            found += [(n, raw, place) for raw, place in messages]
        return [(raw, sum(self._sizes[:n]) + place) for n, raw, place in found]

    def _plain(self) -> list[tuple[bytes, int]]:
        """As `step`, once and for all: what can be had without scripts."""
        found: list[tuple[bytes, int]] = []
        before = 0
        for n, reply in enumerate(self._broker.batch([("LRANGE", key, -LOOK_AT_PLAIN, -1) for key in self._lists])):
            messages = list(reversed(reply)) if isinstance(reply, list) else []
            found += [
                (raw, before + place)
                for place, raw in enumerate(messages)
                if any(form in raw for form in self._written) or (self._nameless and self.wanted == digest(raw))
            ]
            before += len(messages)
            self._sizes[n] = self._after[n] = len(messages)
        return found


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
