"""Pages of jobs: messages from the broker, finished jobs from the result records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from redis.exceptions import NoPermissionError, ResponseError

from ...errors import BackendUnavailable, NotFound, Unsupported, WrongType
from ...model import Job, JobPage, JobQuery, QueueRef, State
from ...sources.source import Command, Reply, Source, text
from ..actions import JobRef
from ..base import SCAN_BYTES, SCAN_ROWS
from ..bounded_reads import unread_rows
from ..payloads.decoding import printable
from . import keys
from .job_decoding import as_revoked, decode_envelope, message_row
from .job_servers import JobServers
from .messages.ranges import read_ranges
from .messages.unacked import UnackedReader
from .messages.waiting_search import parse_found
from .results.display_reads import read_for_display, read_statuses
from .results.metadata import decode_metadata
from .results.record import ResultsLocation
from .results.record_jobs import record_row


class TaskPages:
    """Reads pages of jobs of one source."""

    def __init__(self, servers: JobServers) -> None:
        self._servers = servers
        self._unacked = UnackedReader(servers)

    def list_jobs(self, ref: QueueRef, query: JobQuery, *, marked: bool = True) -> tuple[JobPage, list[bytes]]:
        """Return a page, and the payloads of its rows.

        Cost: 2 round trips, and that of `read_ranges` if messages are long; 4 without scripts. For waiting jobs 1
        more, and another one if our own keys are on another server; neither applies if revoked jobs are not to be
        `marked`.
        """
        place = keys.location_of(ref)
        self._check_state(place, query)
        if query.state is State.WAITING and place.queue is not None:
            return self._list_waiting(ref, place, query, marked=marked)
        if query.state in keys.TAKEN:
            return self._list_unacked(ref, place, query)
        return self._list_ended(ref, place, query)

    def _check_state(self, place: keys.QueueLocation, query: JobQuery) -> None:
        if query.state not in keys.NATIVE:
            raise Unsupported(f"Celery has no {query.state.value} jobs.")
        if query.state is not State.WAITING and place.queue is not None:
            raise Unsupported(
                f"Celery stores the {query.state.value} jobs of all queues together.",
                hint="See the entry for all Celery queues.",
            )
        if query.native is not None and query.native != keys.native_of(place, query.state):
            raise Unsupported(f"Celery has no list {query.native!r} of {query.state.value} jobs.")

    def list_job_refs(self, ref: QueueRef, query: JobQuery) -> list[JobRef]:
        """Return the ids and stamps of the jobs of a page. Cost: 2 round trips, 1 for finished jobs."""
        if query.state not in keys.ENDED or self._servers.own is None:
            jobs = self.list_jobs(ref, query, marked=False)[0].jobs
            return [JobRef(id=job.id, version=job.version) for job in jobs if job.version is not None]
        place = keys.location_of(ref)
        self._check_state(place, query)
        key, last = keys.index_key(self._servers.name, query.state, place.prefix), query.offset + query.per_page - 1
        reply = self._servers.own.run_batch([("ZREVRANGE", key, query.offset, last, "WITHSCORES")])[0]
        _check_replies(self._servers.own, f"The index of {query.state.value} jobs", [reply])
        pairs = zip(reply[::2], reply[1::2], strict=True)
        return [JobRef(id=text(keys.member_id(member)), version=repr(float(score))) for member, score in pairs]

    def _list_waiting(
        self, ref: QueueRef, place: keys.QueueLocation, query: JobQuery, *, marked: bool
    ) -> tuple[JobPage, list[bytes]]:
        lists = place.list_keys()
        together = marked and self._servers.own_with_broker
        commands: list[Command] = [("LLEN", key) for key in lists]
        replies = self._servers.broker.run_batch(
            [*commands, *([self._servers.facts_command(place)] if together else ())]
        )
        sizes, problems = _readable_sizes(self._servers.broker, ref, lists, replies[: len(lists)])
        if not any(sizes) and not problems and not self._queue_exists(place):
            raise NotFound(f"There is no queue {ref.name!r}.", hint="No exchange is bound to it any more.")
        parts = []
        offset, rows = query.offset, query.per_page
        for key, size in zip(lists, sizes, strict=True):
            if offset < size and rows > 0:
                stop = min(size, offset + rows)
                parts.append((key, offset, stop))
                rows -= stop - offset
                offset = 0
            else:
                offset = max(0, offset - size)
        found, unread = read_ranges(self._servers.broker, self._servers.scripts, parts)
        jobs = [
            message_row(ref, ref.name, State.WAITING, cut, decode_envelope(cut.raw) if cut.is_whole else None)
            for cut in found
        ]
        if marked:
            jobs = self._with_revoked(ref, jobs, replies[-1] if together else self._servers.own_facts(place))
        first = query.offset + len(found)
        rest = unread_rows(ref, State.WAITING, keys.NATIVE[State.WAITING], first, first + unread)
        total = sum(sizes)
        page = _build_page(query, _mark_repeats((*jobs, *rest)), None if problems and not total else total)
        page = msgspec.structs.replace(page, truncated=bool(rest), at_least=bool(problems), problems=problems)
        return page, [*(cut.raw for cut in found), *(b"" for _ in rest)]

    def _with_revoked(self, ref: QueueRef, jobs: Sequence[Job], facts: Reply) -> list[Job]:
        """Return waiting jobs, with those marked that workers will discard; none are marked if results are unreadable.

        Cost: 1 round trip, none for no jobs.
        """
        results_location = ResultsLocation(keys.location_of(ref).prefix, decode_metadata(facts).prefixes[::-1])
        names = [(n, name) for n, job in enumerate(jobs) for name in results_location.record_keys(job.id)]
        try:
            statuses = read_statuses(self._servers.results, [name for _, name in names])
        except BackendUnavailable:
            if self._servers.results is self._servers.broker:
                raise
            return list(jobs)
        revoked = {n for (n, _), status in zip(names, statuses, strict=True) if status == "REVOKED"}
        return [as_revoked(job) if n in revoked else job for n, job in enumerate(jobs)]

    def _queue_exists(self, place: keys.QueueLocation) -> bool:
        bound = keys.BINDING.encode()
        name = (place.queue or "").encode("utf-8", "surrogateescape")
        key = place.prefix.encode("utf-8", "surrogateescape") + bound + name
        return bool(self._servers.broker.run_batch([("EXISTS", key)])[0] == 1)

    def _list_unacked(self, ref: QueueRef, place: keys.QueueLocation, query: JobQuery) -> tuple[JobPage, list[bytes]]:
        cuts, size, known = self._unacked.read_newest(place)
        _check_replies(self._servers.broker, "The messages that workers took", [size])
        total = size if isinstance(size, int) else 0
        found = self._unacked.held_messages(place.prefix, cuts, known)
        rows = [held for held in found if held.state is query.state]
        shown = rows[query.offset : query.offset + query.per_page]
        whole = len(cuts) >= total
        # A message that is acknowledged before it runs is in no list.
        counted = whole and query.state is not State.ACTIVE and not any(held.maybe for held in rows)
        jobs = tuple(held.to_row(ref, ref.name) for held in shown)
        page = _build_page(query, _mark_repeats(jobs), len(rows) if counted else None)
        page = msgspec.structs.replace(page, scanned=len(cuts), truncated=not whole)
        return page, [held.cut.raw for held in shown]

    def _list_ended(self, ref: QueueRef, place: keys.QueueLocation, query: JobQuery) -> tuple[JobPage, list[bytes]]:
        if self._servers.own is None:
            return _build_page(query, (), None), []
        key = keys.index_key(self._servers.name, query.state, place.prefix)
        last = query.offset + query.per_page - 1
        total, reply, facts, filled = self._servers.own.run_batch(
            [
                ("ZCARD", key),
                ("ZREVRANGE", key, query.offset, last, "WITHSCORES"),
                self._servers.facts_command(place),
                ("EXISTS", keys.filled_key(self._servers.name)),
            ]
        )
        known = decode_metadata(facts)
        _check_replies(self._servers.own, f"The index of {query.state.value} jobs", (total, reply))
        ids, scores = reply[::2], reply[1::2]
        records = read_for_display(self._servers.results, [keys.record_key(member) for member in ids])
        rows = [
            record_row(ref, text(keys.member_id(member)), query.state, raw)
            for member, raw in zip(ids, records, strict=True)
        ]
        # A record without a time of writing uses its score in the index as stamp, as in `list_job_refs`.
        jobs = tuple(
            job if job.version is not None else msgspec.structs.replace(job, version=repr(float(score)))
            for job, score in zip(rows, scores, strict=True)
        )
        page = _build_page(query, jobs, total)
        more = not filled or query.state in known.capped or known.unlisted
        return msgspec.structs.replace(page, at_least=more), [raw.head if raw else b"" for raw in records]

    def scan_matches(self, ref: QueueRef, word: str, offset: int) -> tuple[list[tuple[Job, bytes]], int, bool] | None:
        """Return (waiting jobs whose messages may contain `word`, with the messages; where to continue; whether there
        is more); None without scripts, or if not all lists can be read. Cost: 2 round trips; 2 more if some are found.
        """
        lists = keys.location_of(ref).list_keys()
        sizes = self._servers.broker.run_batch([("LLEN", key) for key in lists])
        if _readable_sizes(self._servers.broker, ref, lists, sizes)[1]:
            return None
        before = 0
        for key, size in zip(lists, sizes, strict=True):
            if offset < before + size:
                call = (key, offset - before, SCAN_ROWS, SCAN_BYTES, "folded", word.lower())
                answered = self._servers.scripts.run(keys.load_script("find"), [call])
                if answered is None:
                    return None
                reply: Any = answered[0][0]
                if not isinstance(reply, list):
                    break
                cuts = [cut for cut, _ in parse_found(reply)]
                rows = [
                    (
                        message_row(
                            ref, ref.name, State.WAITING, cut, decode_envelope(cut.raw) if cut.is_whole else None
                        ),
                        cut.raw,
                    )
                    for cut in cuts
                ]
                if rows:
                    place = keys.location_of(ref)
                    marked = self._with_revoked(ref, [job for job, _ in rows], self._servers.own_facts(place))
                    rows = [(job, raw) for job, (_, raw) in zip(marked, rows, strict=True)]
                # The scan must advance even if workers picked up messages in the meantime.
                reached = max(before + reply[1], offset + 1)
                return rows, reached, reached < sum(sizes)
            before += size
        return [], sum(sizes), False


def _check_replies(source: Source, what: str, replies: Iterable[Reply]) -> None:
    """Raise Forbidden or WrongType, with a readable message, if one of the commands was refused."""
    for reply in replies:
        if isinstance(reply, NoPermissionError):
            raise source.forbidden_error(reply)
        if isinstance(reply, ResponseError):
            raise WrongType(f"{what} cannot be read: a key has the wrong type.", source=source.name)


def _readable_sizes(
    source: Source, ref: QueueRef, lists: Sequence[bytes], sizes: Sequence[Reply]
) -> tuple[list[int], tuple[str, ...]]:
    """Return (the size of each list, 0 for an unreadable one; which lists are unreadable and why).

    Raises Forbidden, and WrongType if none can be read.
    """
    if all(isinstance(size, ResponseError) for size in sizes):
        _check_replies(source, f"The list of {ref.name!r}", sizes)
    _check_replies(source, f"The list of {ref.name!r}", [size for size in sizes if isinstance(size, NoPermissionError)])
    problems = tuple(
        f"The list {printable(key, 200)!r} cannot be read: its key has the wrong type."
        for key, size in zip(lists, sizes, strict=True)
        if isinstance(size, ResponseError)
    )
    return [size if isinstance(size, int) else 0 for size in sizes], problems


def _build_page(query: JobQuery, jobs: tuple[Job, ...], total: int | None) -> JobPage:
    return JobPage(jobs=jobs, page=query.page, per_page=query.per_page, total=total, order=keys.ORDERS[query.state])


def _mark_repeats(jobs: tuple[Job, ...]) -> tuple[Job, ...]:
    """Return `jobs`, with repeated ids marked: the same task may be sent twice."""
    seen: set[str] = set()
    marked = []
    for job in jobs:
        if job.id in seen and job.problem is None:
            job = msgspec.structs.replace(job, problem="this job is listed more than once")
        seen.add(job.id)
        marked.append(job)
    return tuple(marked)
