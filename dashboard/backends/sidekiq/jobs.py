"""Pages of jobs, single jobs, and matches for a search."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from redis.exceptions import NoPermissionError, ResponseError

from ...clock import monotonic_s
from ...errors import NotFound, Unsupported, WrongType
from ...model import Job, JobPage, JobQuery, QueueRef, State
from ...sources.source import Reply, Source, text
from ...units import format_size
from ..actions import JobRef
from ..base import SCAN_BYTES, SCAN_ROWS
from ..bounded_reads import CALL_BYTES, PAGE_READ_BYTES, read_stretch, stamp_of, unread_rows
from ..job_facts import position_fact
from ..lua_reads import Scripts
from ..unreadable_data import decode_or
from . import job_ties, keys, without_lua, workers
from .job_decoding import (
    build_timeline,
    decode_payload,
    job_id,
    job_row,
    list_facts,
    parse_error,
    parse_time,
    payload_of,
    without_data,
)

# How far a list (from the end that workers fetch from) or a set (from its newest end) is scanned for one job: entries
# per step, which blocks the server for a few ms, and entries and seconds in total.
LOOK_AT = 2000
LOOK_AT_MOST = 500_000
LOOK_SECONDS = 1.0
# Short calls: the server runs all commands that it reads at a time, about 16 KiB, before it serves other clients.
REFS_PER_CALL = 100
SCORED = re.compile(r"(-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|inf))-(.+)\Z", re.DOTALL)


def list_jobs(source: Source, scripts: Scripts, ref: QueueRef, query: JobQuery) -> tuple[JobPage, list[bytes]]:
    """A page of jobs, and the payloads of its rows.

    Cost: 1 round trip, 1 more for each further CALL_BYTES, 1 more for an empty queue. Without scripts: that of
    `read_plainly`.
    """
    place = keys.location_of(ref)
    _check_query(place, query)
    if query.state is State.ACTIVE:
        return _list_active_jobs(source, scripts, ref, query)
    key, kind, backwards = _list_of(place, query)
    first, stop = query.offset, query.offset + query.per_page

    def ask(at: int) -> Reply:
        answered = scripts.run(
            keys.load_script("page"), [(key, kind, at, stop - at, "1" if backwards else "0", CALL_BYTES)]
        )
        return (
            without_lua.read_page_reply(source, key, kind, at, stop, backwards=backwards)
            if answered is None
            else answered[0][0]
        )

    size, entries, reached = read_stretch(ask, first, stop, 4)
    _check_size(source, ref, size)
    if size == 0 and place.queue is not None and not _queue_exists(source, place):
        raise NotFound(f"There is no queue {ref.name!r}.", hint="It may have just been deleted.")
    native = keys.NATIVE[query.state]
    total = size if isinstance(size, int) else 0
    rows = _mark_repeats(tuple(_row_of(ref, query.state, native, *entry) for entry in entries))
    unread = unread_rows(ref, query.state, native, reached, min(stop, total))
    page = JobPage(
        jobs=(*rows, *unread),
        page=query.page,
        per_page=query.per_page,
        total=total,
        order=keys.ORDERS[query.state],
        truncated=bool(unread),
    )
    payloads = [raw if isinstance(raw, bytes) else b"" for raw, *_ in entries]
    return page, [*payloads, *(b"" for _ in unread)]


def scan_matches(
    source: Source, scripts: Scripts, ref: QueueRef, state: State, word: str, offset: int
) -> tuple[list[tuple[Job, bytes]], int, bool] | None:
    """(jobs whose payload or id may contain `word`, each with its payload; the next offset; whether more rows follow).

    None without scripts. Cost: 1 round trip.
    """
    place, query = keys.location_of(ref), JobQuery(state=state)
    _check_query(place, query)
    key, kind, backwards = _list_of(place, query)
    arguments = (key, kind, "1" if backwards else "0", offset, SCAN_ROWS, SCAN_BYTES, word.lower())
    answered = scripts.run(keys.load_script("scan_matches"), [arguments])
    if answered is None:
        return None
    reply: Any = answered[0][0]
    size, reached, found, _ = reply if isinstance(reply, list) else (reply, 0, [], 0)
    _check_size(source, ref, size)
    entries = zip(*[iter(found)] * 4, strict=True)
    rows = [(_row_of(ref, state, keys.NATIVE[state], *each), each[0] or b"") for each in entries]
    # The scan must advance even if workers have emptied the list in the meantime.
    reached = max(reached, offset + 1)
    return rows, reached, reached < size


def list_job_refs(source: Source, scripts: Scripts, ref: QueueRef, query: JobQuery) -> list[JobRef]:
    """The jobs of a page by id and stamp, in the order of `list_jobs`, without those that were too much to read.

    Cost: 1 round trip, 1 more for each further CALL_BYTES in one of the calls for REFS_PER_CALL entries; without
    scripts as `list_jobs`.
    """
    place = keys.location_of(ref)
    _check_query(place, query)
    if query.state is State.ACTIVE:
        return [
            JobRef(id=job.id, version=job.version) for job in _list_active_jobs(source, scripts, ref, query)[0].jobs
        ]
    key, kind, backwards = _list_of(place, query)
    stop = query.offset + query.per_page
    left = [(at, min(stop, at + REFS_PER_CALL)) for at in range(query.offset, stop, REFS_PER_CALL)]
    read_bytes = 0
    found: dict[int, JobRef] = {}
    while left and read_bytes < PAGE_READ_BYTES:
        calls = [(key, kind, at, end - at, "1" if backwards else "0", CALL_BYTES) for at, end in left]
        answered = scripts.run(keys.load_script("job_refs"), calls)
        if answered is None:
            jobs = list_jobs(source, scripts, ref, query)[0].jobs
            return [JobRef(id=job.id, version=job.version) for job in jobs if job.version is not None]
        further = []
        for (at, end), reply in zip(left, answered[0], strict=True):
            size, entries, reached, some = reply if isinstance(reply, list) else (reply, [], end, 0)
            _check_size(source, ref, size)
            read_bytes += some
            if at < reached < min(end, size):
                further.append((reached, end))
            for n, (jid, version, score, raw) in enumerate(zip(*[iter(entries)] * 4, strict=True)):
                payload = {"jid": text(jid)} if jid else decode_payload(raw)
                found[at + n] = JobRef(id=job_id(payload, text(version), score), version=text(version))
        left = further
    # A job that moved between two calls may be there twice.
    return list({(job_ref.id, job_ref.version): job_ref for _, job_ref in sorted(found.items())}.values())


def _list_of(place: keys.NamespaceLocation, query: JobQuery) -> tuple[str, str, bool]:
    """The key that holds a state, its type, and whether it is read from its end."""
    if place.queue is not None:
        return f"{place.namespace}{keys.QUEUE}{place.queue}", "list", False
    return f"{place.namespace}{keys.SETS[query.state]}", "zset", query.state is State.DEAD


def _check_query(place: keys.NamespaceLocation, query: JobQuery) -> None:
    if query.state not in keys.NATIVE:
        raise Unsupported(f"Sidekiq has no {query.state.value} jobs.")
    if (query.state in keys.OF_A_QUEUE) == (place.queue is None):
        raise Unsupported(
            f"Sidekiq stores {query.state.value} jobs "
            + ("per queue." if place.queue is None else "for all queues together."),
            hint=None if place.queue is None else "See the entry for all queues.",
        )
    if query.native is not None and query.native != keys.NATIVE[query.state]:
        raise Unsupported(f"Sidekiq has no {query.native!r} list of {query.state.value} jobs.")


def _queue_exists(source: Source, place: keys.NamespaceLocation) -> bool:
    """Whether Sidekiq still lists an empty queue, or there are processes that may fetch from it."""
    assert place.queue is not None
    named, processes = source.run_batch(
        [("SISMEMBER", f"{place.namespace}queues", place.queue), ("EXISTS", f"{place.namespace}processes")]
    )
    return bool(named == 1 or processes == 1)


def _check_size(source: Source, ref: QueueRef, size: Reply) -> None:
    if isinstance(size, NoPermissionError):
        raise source.forbidden_error(size)
    if isinstance(size, ResponseError):
        raise WrongType(f"The jobs of {ref.name!r} cannot be read: a key has the wrong type.", source=source.name)


def _row_of(
    ref: QueueRef, state: State, native: str, raw: Reply, length: int, score: bytes | None, version: bytes | None
) -> Job:
    entry = raw if isinstance(raw, bytes) else b""
    job = decode_or(
        lambda: job_row(ref, state, native, entry, length, score, version),
        lambda why: without_data(ref, state, native, entry, score, version, why),
    )
    if isinstance(raw, bytes) and len(raw) < length and job.problem is None:
        return msgspec.structs.replace(job, summary=f"{format_size(length)}; see the job's page for the arguments")
    return job


def _mark_repeats(rows: tuple[Job, ...]) -> tuple[Job, ...]:
    """`rows`, with a problem on each row that repeats an id: a client can push one payload twice."""
    seen: set[str] = set()
    marked = []
    for job in rows:
        if job.id in seen:
            job = msgspec.structs.replace(job, problem="this job is in the list more than once")
        seen.add(job.id)
        marked.append(job)
    return tuple(marked)


def _list_active_jobs(source: Source, scripts: Scripts, ref: QueueRef, query: JobQuery) -> tuple[JobPage, list[bytes]]:
    place = keys.location_of(ref)
    (processes,) = workers.read_processes(source, scripts, [place.namespace])
    if processes.why:
        raise WrongType(f"The running jobs of {ref.name!r} cannot be read: {processes.why}.", source=source.name)
    unread = sum(isinstance(fields, ResponseError) or work is None for _, fields, work in processes.rows)
    problems = tuple(_unread_processes(unread, whole=processes.whole))
    jobs = [job for job in workers.list_running(processes.rows) if job.queue == place.queue]
    shown = jobs[query.offset : query.offset + query.per_page]
    native = keys.NATIVE[State.ACTIVE]
    page = JobPage(
        jobs=tuple(
            msgspec.structs.replace(
                job_row(ref, State.ACTIVE, native, job.payload, len(job.payload), None),
                started_at=parse_time(job.run_at),
                worker=job.process,
            )
            for job in shown
        ),
        page=query.page,
        per_page=query.per_page,
        total=len(jobs),
        order=keys.ORDERS[State.ACTIVE],
        at_least=bool(problems),
        problems=problems,
    )
    return page, [job.payload for job in shown]


def _unread_processes(unread: int, *, whole: bool) -> Iterator[str]:
    if unread:
        processes = "1 process" if unread == 1 else f"{unread:,} processes"
        yield f"The jobs of {processes} cannot be read: a key has the wrong type or is too large."
    if not whole:
        yield "There are more processes than could be read."


def read_job(source: Source, scripts: Scripts, ref: QueueRef, wanted: str) -> Job:
    """One job, in whichever list, set or process it is. Raises NotFound.

    Cost: 2 round trips with scripts, else 3; 1 more for its batch and lock, 2 for an iterable job; 1 more if no job is
    at its score; 1 more for each further LOOK_AT entries scanned, or CALL_BYTES of them.
    """
    match = SCORED.match(wanted)
    whole = _ListLookup(source, scripts, ref, wanted, wanted, "")
    # A jid chosen by an app can begin with a number too, like a UUID; most of those are in the lists of queues.
    job = _ListLookup(source, scripts, ref, wanted, match[2], match[1]).search_next() if match else None
    job = job or whole.search_next() or _find_running_job(source, scripts, ref, wanted)
    started = monotonic_s()
    while job is None and whole.has_more and not (match and ref.shared) and monotonic_s() - started < LOOK_SECONDS:
        job = whole.search_next()
    if job is not None:
        return job
    far = f" Only the first {whole.after:,} of {whole.size:,} were searched." if whole.size > whole.after else ""
    raise NotFound(
        f"There is no job {wanted[:200]!r} in {'any queue' if ref.shared else repr(ref.name)}.",
        hint=f"Sidekiq does not keep jobs that succeed.{far}",
    )


class _ListLookup:
    """A search, in steps, for the job with the id `wanted`: by its jid or stamp `name`, and its `score` or "" for any.

    `after`: how many entries were scanned. `size`: the size of the largest list or set.
    """

    def __init__(self, source: Source, scripts: Scripts, ref: QueueRef, wanted: str, name: str, score: str) -> None:
        self._source, self._ref, self._wanted, self._name, self._score = source, ref, wanted, name, score
        self._search = _JobLookup(source, scripts, keys.location_of(ref), name, score)
        self.after = 0

    @property
    def size(self) -> int:
        """The size of the largest list or set seen so far."""
        return self._search.size

    @property
    def has_more(self) -> bool:
        """Whether there are entries left to scan."""
        return bool(self._name) and not self._score and self.after < min(self.size, LOOK_AT_MOST)

    def search_next(self) -> Job | None:
        """The job, if it is among the next entries. Cost: 1 round trip, 2 for the job."""
        found = None
        for where, raw, length, at, position, cut in self._search.search_next(self.after):
            if found is not None or not isinstance(raw, bytes):
                continue
            payload = decode_payload(raw)
            version = text(cut) if cut else stamp_of(raw)
            own = job_id(payload, version, at if self._score else None)
            if own == self._wanted or (at and job_id(payload, version, None) == self._name):
                found = _build_job(self._source, self._ref, text(where), raw, length, at, position, self._wanted, cut)
        self.after = self._search.reached
        return found


class _JobLookup:
    """A search for one job in a list and the sets, in steps.

    `size`: the size of the largest of them. `reached`: after how many entries the next step begins.
    """

    def __init__(
        self, source: Source, scripts: Scripts, place: keys.NamespaceLocation, needle: str, score: str
    ) -> None:
        self._source, self._scripts = source, scripts
        self._place, self._needle, self._score = place, needle, score
        self.size = 0
        self.reached = 0

    def search_next(self, after: int) -> list[Any]:
        """(where, payload, its length, score, position) of the possible matches among LOOK_AT entries after `after`."""
        # After the first step the entry for all queues searches the sets, and a queue only its list.
        sets = after == 0 or self._place.queue is None
        queue = self._place.queue or ""
        where = (self._place.namespace, queue, self._needle, self._score)
        arguments = (*where, LOOK_AT, after, "1" if sets else "0", CALL_BYTES)
        answered = self._scripts.run(keys.load_script("find"), [arguments])
        reply: Any = (
            answered[0][0]
            if answered is not None
            else without_lua.find_reply(self._source, *where, LOOK_AT, after, sets=sets)
        )
        self.reached = after + LOOK_AT
        if not isinstance(reply, list):
            return []
        found, self.size, reached, _ = reply
        self.reached = max(after + 1, reached)
        return list(found)


def _find_running_job(source: Source, scripts: Scripts, ref: QueueRef, wanted: str) -> Job | None:
    place = keys.location_of(ref)
    (processes,) = workers.read_processes(source, scripts, [place.namespace])
    for running in workers.list_running(processes.rows):
        payload = decode_payload(running.payload)
        if payload and payload.get("jid") == wanted and place.queue in (None, running.queue):
            found_job = _build_job(source, ref, "", running.payload, len(running.payload), None, None, wanted)
            return msgspec.structs.replace(
                found_job,
                state=State.ACTIVE,
                native_state=keys.NATIVE[State.ACTIVE],
                started_at=parse_time(running.run_at),
                worker=running.process,
                timeline=build_timeline(payload, State.ACTIVE, parse_time(running.run_at)),
            )
    return None


def _build_job(
    source: Source,
    ref: QueueRef,
    where: str,
    raw: bytes,
    length: int,
    score: bytes | None,
    position: int | None,
    wanted: str,
    cut: bytes | None = None,
) -> Job:
    state = next((state for state, name in keys.SETS.items() if name == where), State.WAITING)
    base = job_row(ref, state, keys.NATIVE[state], raw, length, score, cut)
    payload = decode_payload(raw)
    at = base.scheduled_for or base.finished_at
    return msgspec.structs.replace(
        base,
        id=wanted,
        summary=None,
        payload=payload_of(payload, raw, length),
        error=parse_error(payload, with_stack=True) if payload else None,
        timeline=build_timeline(payload, state, at) if payload else (),
        jobs_ahead=position,
        facts=(
            *((position_fact(position),) if position is not None else ()),
            *(list_facts(payload) if payload else ()),
            *(job_ties.list_tie_facts(source, keys.location_of(ref).namespace, payload) if payload else ()),
        ),
    )
