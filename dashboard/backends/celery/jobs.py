"""Pages of jobs and single jobs: messages from the broker, finished jobs from the result records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import NoPermissionError, ResponseError

from ...clock import monotonic_s
from ...errors import BackendUnavailable, NotFound, Unsupported, WrongType
from ...model import Job, JobPage, JobQuery, QueueRef, State
from ...sources.source import Argument, Command, Reply, Source
from ..actions import JobRef
from ..base import SIFT_BYTES, SIFT_ROWS
from ..bounded_reads import CALL_BYTES, PAGE_BYTES, PAGE_READ_BYTES, read_plainly, short_fields, unread_rows
from ..lua_reads import Scripts
from ..payloads.decoding import DECODE_LIMIT_BYTES, count_of, printable, text
from . import keys
from .heartbeats import beats_of
from .job_decoding import (
    NAMELESS,
    STATES,
    BoundedMessage,
    cut_of,
    decode_envelope,
    decode_unacked,
    digest_of,
    headers_of,
    in_full,
    job_id,
    message_row,
    record_in_full,
    record_row,
    state_of,
    wrapped_forms,
)
from .results.decoding import TAIL_BYTES, RawRecord, outline_record
from .results.metadata import of_value as results_of_value
from .results.record import ResultsLocation, home_of
from .routes import QueueRoutes
from .workers import is_alive

# How many unacknowledged messages are inspected for a page of one state.
LOOK_INTO = 500
# If this many have the same id, the first one of the queue is still found.
MOST_NAMED = 10
# How many bytes of them; the rest is not inspected.
UNACKED_BYTES = 8 * 1024 * 1024
# How far from the head (the end that is served next) a queue's lists are searched for one job, and for how long. One
# script call reads so many that the server is busy for a few ms. Without scripts, messages are transferred:
# LOOK_AT_PLAIN applies then.
LOOK_AT_MOST = 500_000
LOOK_SECONDS = 1.0
LOOK_AT_PLAIN = 5000


# The status is within this many bytes of a record, whatever its serializer.
STATUS_BYTES = 64
REVOKED = "workers that remember the revocation will discard it; if all of them restart, it will run"
MAY_RUN = "it may be running; to be sure, start workers with -E or set task_track_started = True"
STILL_HELD = "a worker still holds it and will discard it when it is due"


class TaskFacts(NamedTuple):
    """What our own keys store about tasks: where their results are, which tasks are known to have started, and whether
    no others are running."""

    results_location: ResultsLocation
    started: frozenset[str]
    whole: bool


class UnackedMessage(NamedTuple):
    """A message that a worker holds unacknowledged."""

    cut: BoundedMessage
    message: dict[str, Any] | None
    queue: str | None
    task: str
    state: State
    maybe: bool = False  # it may be running; there is no record of it

    def to_row(self, ref: QueueRef, queue: str) -> Job:
        """Return it as a row of a list."""
        native = keys.MAYBE_RUNNING if self.maybe else native_of(_TOGETHER, self.state)
        return message_row(ref, self.queue or queue, self.state, self.cut, self.message, native=native)


_TOGETHER = keys.QueueLocation("", None)


def native_of(place: keys.QueueLocation, state: State) -> str:
    """Return Celery's name for a state, in a queue or in the shared entry for all queues."""
    return keys.RESERVED if place.queue is None and state is State.WAITING else keys.NATIVE[state]


class JobReader:
    """Reads jobs of one source: `broker` holds the messages, `results` the records, `own` their index, under keys that
    contain `name`.
    """

    def __init__(
        self, broker: Source, results: Source, own: Source | None, name: str, scripts: Scripts, names: keys.UnackedKeys
    ) -> None:
        self._broker = broker
        self._scripts = scripts
        self._results = results
        self._own = own
        self._name = name
        self._names = names

    def list_jobs(self, ref: QueueRef, query: JobQuery, *, marked: bool = True) -> tuple[JobPage, list[bytes]]:
        """Return a page, and the payloads of its rows.

        Cost: 2 round trips, and that of `_read_messages` if messages are long; 4 without scripts. For waiting jobs 1
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
        if query.native is not None and query.native != native_of(place, query.state):
            raise Unsupported(f"Celery has no list {query.native!r} of {query.state.value} jobs.")

    def list_job_refs(self, ref: QueueRef, query: JobQuery) -> list[JobRef]:
        """Return the ids and stamps of the jobs of a page. Cost: 2 round trips, 1 for finished jobs."""
        if query.state not in keys.ENDED or self._own is None:
            jobs = self.list_jobs(ref, query, marked=False)[0].jobs
            return [JobRef(id=job.id, version=job.version) for job in jobs if job.version is not None]
        place = keys.location_of(ref)
        self._check_state(place, query)
        key, last = keys.index_key(self._name, query.state, place.prefix), query.offset + query.per_page - 1
        reply = self._own.run_batch([("ZREVRANGE", key, query.offset, last, "WITHSCORES")])[0]
        _check_replies(self._own, f"The index of {query.state.value} jobs", [reply])
        pairs = zip(reply[::2], reply[1::2], strict=True)
        return [JobRef(id=text(keys.member_id(member)), version=repr(float(score))) for member, score in pairs]

    def _list_waiting(
        self, ref: QueueRef, place: keys.QueueLocation, query: JobQuery, *, marked: bool
    ) -> tuple[JobPage, list[bytes]]:
        lists = place.list_keys()
        together = marked and self._own is self._broker
        commands: list[Command] = [("LLEN", key) for key in lists]
        replies = self._broker.run_batch([*commands, *([self._facts_command(place)] if together else ())])
        sizes, problems = _readable_sizes(self._broker, ref, lists, replies[: len(lists)])
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
        found, unread = self._read_messages(parts)
        jobs = [
            message_row(ref, ref.name, State.WAITING, cut, decode_envelope(cut.raw) if cut.is_whole else None)
            for cut in found
        ]
        if marked:
            jobs = self._with_revoked(ref, jobs, replies[-1] if together else self._own_facts(place))
        first = query.offset + len(found)
        rest = unread_rows(ref, State.WAITING, keys.NATIVE[State.WAITING], first, first + unread)
        total = sum(sizes)
        page = _build_page(query, _mark_repeats((*jobs, *rest)), None if problems and not total else total)
        page = msgspec.structs.replace(page, truncated=bool(rest), at_least=bool(problems), problems=problems)
        return page, [*(cut.raw for cut in found), *(b"" for _ in rest)]

    def _facts_command(self, place: keys.QueueLocation) -> Command:
        return ("HGET", keys.results_key(self._name), place.prefix.encode("utf-8", "surrogateescape"))

    def _own_facts(self, place: keys.QueueLocation) -> Reply:
        """Return what our own keys store about the results. Cost: 1 round trip."""
        return None if self._own is None else self._own.run_batch([self._facts_command(place)])[0]

    def _with_revoked(self, ref: QueueRef, jobs: Sequence[Job], facts: Reply) -> list[Job]:
        """Return waiting jobs, with those marked that workers will discard; none are marked if results are unreadable.

        Cost: 1 round trip, none for no jobs.
        """
        home = ResultsLocation(keys.location_of(ref).prefix, results_of_value(facts).prefixes[::-1])
        names = [(n, name) for n, job in enumerate(jobs) for name in home.record_keys(job.id)]
        try:
            records = self._results.run_batch([("GETRANGE", name, 0, STATUS_BYTES - 1) for _, name in names])
        except BackendUnavailable:
            if self._results is self._broker:
                raise
            return list(jobs)
        revoked = {n for (n, _), raw in zip(names, records, strict=True) if _status_of(raw) == "REVOKED"}
        return [_as_revoked(job) if n in revoked else job for n, job in enumerate(jobs)]

    def _read_messages(self, parts: Sequence[tuple[bytes, int, int]]) -> tuple[list[BoundedMessage], int]:
        """Return (messages of the given list ranges, in order, up to PAGE_READ_BYTES; how many are left unread).

        Cost: 1 round trip, 1 more for each further CALL_BYTES; without scripts that of `read_plainly`, for each list.
        """
        found: list[list[BoundedMessage]] = [[] for _ in parts]
        starts = [first for _, first, _ in parts]
        left, read = list(range(len(parts))), 0
        while left:
            calls = [(parts[n][0], starts[n], parts[n][2] - starts[n], CALL_BYTES // len(left)) for n in left]
            answered = self._scripts.run(keys.load_script("page"), calls)
            if answered is None:
                return self._messages_plainly(parts)
            further = []
            for n, reply in zip(left, answered[0], strict=True):
                size, values, reached, some = reply if isinstance(reply, list) else (0, [], starts[n], 0)
                read += some
                found[n] += [
                    BoundedMessage(raw, length, f"{NAMELESS}{text(version)}") if version else cut_of(raw)
                    for raw, length, version in zip(*[iter(values)] * 3, strict=True)
                ]
                stop = min(parts[n][2], size if isinstance(size, int) else 0)
                if starts[n] < reached < stop:
                    further.append(n)
                starts[n] = reached
            received = sum(len(cut.raw) for some_found in found for cut in some_found)
            if read >= PAGE_READ_BYTES or received >= PAGE_BYTES:
                # Rows after the first incomplete range would be at the wrong position.
                whole = further[0] if further else len(parts)
                unread = sum(stop - start for (_, _, stop), start in zip(parts[whole:], starts[whole:], strict=True))
                unread += sum(len(some_found) for some_found in found[whole + 1 :])
                return [cut for some_found in found[: whole + 1] for cut in some_found], unread
            left = further
        return [cut for some_found in found for cut in some_found], 0

    def _messages_plainly(self, parts: Sequence[tuple[bytes, int, int]]) -> tuple[list[BoundedMessage], int]:
        found: list[BoundedMessage] = []
        for n, (key, first, stop) in enumerate(parts):
            members = [cut_of(member.raw) for member in read_plainly(self._broker, key, "list", first, stop)]
            found += members
            if len(members) < stop - first:
                return found, stop - first - len(members) + sum(end - start for _, start, end in parts[n + 1 :])
        return found, 0

    def _queue_exists(self, place: keys.QueueLocation) -> bool:
        bound = keys.BINDING.encode()
        name = (place.queue or "").encode("utf-8", "surrogateescape")
        key = place.prefix.encode("utf-8", "surrogateescape") + bound + name
        return bool(self._broker.run_batch([("EXISTS", key)])[0] == 1)

    def _list_unacked(self, ref: QueueRef, place: keys.QueueLocation, query: JobQuery) -> tuple[JobPage, list[bytes]]:
        cuts, size, known = self._read_unacked(place)
        _check_replies(self._broker, "The messages that workers took", [size])
        total = size if isinstance(size, int) else 0
        found = self._held_messages(place.prefix, cuts, known)
        rows = [held for held in found if held.state is query.state]
        shown = rows[query.offset : query.offset + query.per_page]
        whole = len(cuts) >= total
        # A message that is acknowledged before it runs is in no list.
        counted = whole and query.state is not State.ACTIVE and not any(held.maybe for held in rows)
        jobs = tuple(held.to_row(ref, ref.name) for held in shown)
        page = _build_page(query, _mark_repeats(jobs), len(rows) if counted else None)
        page = msgspec.structs.replace(page, scanned=len(cuts), truncated=not whole)
        return page, [held.cut.raw for held in shown]

    def _held_messages(self, prefix: str, cuts: Sequence[BoundedMessage], known: TaskFacts) -> list[UnackedMessage]:
        """Return messages held by workers, each in its known state. Cost: 1 round trip, and that of QueueRoutes."""
        found = []
        entries = [decode_unacked(cut.raw) if cut.is_whole else (None, None) for cut in cuts]
        routes = QueueRoutes(self._broker, prefix)
        routes.look_up(route for _, route in entries)
        for cut, (message, route) in zip(cuts, entries, strict=True):
            queue = routes.queue_of(route) or (route.routing_key if route else None)
            state = state_of(headers_of(message))
            found.append(UnackedMessage(cut, message, queue, job_id(cut.mark, headers_of(message)), state))
        names = [known.results_location.record_keys(held.task)[0] for held in found]
        records = self._results.run_batch([("GETRANGE", name, 0, STATUS_BYTES - 1) for name in names])
        for n, raw in enumerate(records):
            held = found[n]
            status = _status_of(raw)
            if status == "REVOKED":
                found[n] = held._replace(state=State.CANCELED)
            elif status == "STARTED" or held.task in known.started:
                found[n] = held._replace(state=State.ACTIVE)
            elif held.state is State.WAITING and held.message is not None:
                found[n] = held._replace(maybe=not known.whole)
        return found

    def _read_unacked(self, place: keys.QueueLocation) -> tuple[list[BoundedMessage], Reply, TaskFacts]:
        """Return (the newest unacknowledged messages, at most LOOK_INTO and UNACKED_BYTES of them; how many there are,
        or why they cannot be read; what our own keys store about them).

        Cost: 1 round trip, 3 without scripts; 1 more if our own keys are on another server.
        """
        entries, index = self._names.keys(place.prefix)
        call = (entries, index, 0, LOOK_INTO, UNACKED_BYTES, DECODE_LIMIT_BYTES)
        own: list[Command] = [
            self._facts_command(place),
            ("SMEMBERS", keys.started_key(self._name)),
            ("HGETALL", keys.workers_key(self._name)),
        ]
        mailboxes: Command = ("SCARD", f"{place.prefix}{keys.MAILBOX}")
        together = self._own is self._broker
        answered = self._scripts.run(keys.load_script("unacked"), [call], also=[mailboxes, *(own if together else ())])
        boxes: Reply = answered[1][0] if answered is not None else None
        if answered is not None and together:
            told = answered[1][1:]
        else:
            told = self._own.run_batch(own) if self._own is not None else [None] * len(own)
        started = frozenset(text(each) for each in told[1]) if isinstance(told[1], list | set) else frozenset()
        home = ResultsLocation(place.prefix, results_of_value(told[0]).prefixes[::-1])
        if answered is not None:
            reply: Any = answered[0][0]
            total, values = (reply[0], reply[1]) if isinstance(reply, list) else (reply, [])
        else:
            tags, total, boxes = self._broker.run_batch(
                [("ZREVRANGE", index, 0, LOOK_INTO - 1), ("HLEN", entries), mailboxes]
            )
            names = tags if isinstance(tags, list) else []
            total = tags if isinstance(tags, ResponseError) else total
            lengths = self._broker.run_batch([("HSTRLEN", entries, tag) for tag in names])
            raws = short_fields(self._broker, [(entries, tag) for tag in names], DECODE_LIMIT_BYTES, UNACKED_BYTES)
            values = [part for each in zip(names, raws, lengths, strict=True) if each[2] for part in each]
        beats = [beat for beat in beats_of(told[2]).values() if beat.get("prefix", "") == place.prefix]
        known = TaskFacts(home, started, _tells_all(beats, boxes, len(started), self._broker.now_s()))
        found = []
        for tag, raw, length in zip(*[iter(values)] * 3, strict=True):
            if isinstance(raw, bytes):
                found.append(cut_of(raw))
            elif isinstance(length, int) and length > DECODE_LIMIT_BYTES:
                found.append(BoundedMessage(b"", length, f"{digest_of(tag)}-{length}"))
        return found, total, known

    def _list_ended(self, ref: QueueRef, place: keys.QueueLocation, query: JobQuery) -> tuple[JobPage, list[bytes]]:
        if self._own is None:
            return _build_page(query, (), None), []
        key = keys.index_key(self._name, query.state, place.prefix)
        last = query.offset + query.per_page - 1
        total, reply, facts, filled = self._own.run_batch(
            [
                ("ZCARD", key),
                ("ZREVRANGE", key, query.offset, last, "WITHSCORES"),
                self._facts_command(place),
                ("EXISTS", keys.filled_key(self._name)),
            ]
        )
        known = results_of_value(facts)
        _check_replies(self._own, f"The index of {query.state.value} jobs", (total, reply))
        ids, scores = reply[::2], reply[1::2]
        records = self._read_records([keys.record_key(member) for member in ids])
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

    def _read_records(self, records: Sequence[bytes]) -> list[RawRecord | None]:
        """Return each record, or its beginning and end if it is too long; None if there is none.

        Cost: 1 round trip; 1 more if some exceed their share of PAGE_BYTES, to read more of them within PAGE_BYTES.
        """
        share = min(DECODE_LIMIT_BYTES, PAGE_BYTES // max(1, len(records)))
        replies = self._results.run_batch(
            [command for key in records for command in (("GETRANGE", key, 0, share - 1), ("STRLEN", key))]
        )
        found = [
            (raw, size) if isinstance(raw, bytes) and isinstance(size, int) else (b"", 0)
            for raw, size in zip(replies[::2], replies[1::2], strict=True)
        ]
        room = PAGE_BYTES - sum(len(raw) for raw, _ in found)
        asked: list[int] = []
        for n, (raw, size) in enumerate(found):
            if len(raw) < size <= min(DECODE_LIMIT_BYTES, room):
                asked.append(n)
                room -= size
        ends = [n for n, (raw, size) in enumerate(found) if len(raw) < size and n not in asked]
        wholes = self._results.run_batch(
            [
                *(("GETRANGE", records[n], 0, DECODE_LIMIT_BYTES - 1) for n in asked),
                *(("GETRANGE", records[n], -TAIL_BYTES, -1) for n in ends),
            ]
        )
        for n, raw in zip(asked, wholes, strict=False):
            if isinstance(raw, bytes):
                found[n] = (raw, max(len(raw), found[n][1]))
        tails = {n: raw for n, raw in zip(ends, wholes[len(asked) :], strict=True) if isinstance(raw, bytes)}
        return [RawRecord(raw, tails.get(n, b""), size) if raw else None for n, (raw, size) in enumerate(found)]

    def read_job(self, ref: QueueRef, wanted: str) -> Job:
        """Return one job, wherever it is; a message takes precedence over a record. Raises NotFound.

        Cost: at most 4 round trips; 1 more per further SIFT_BYTES of messages that are searched.
        """
        place = keys.location_of(ref)
        search = _WaitingJobSearch(self._broker, self._scripts, place, wanted)
        job = self._find_in_lists(ref, search) or self._find_unacked_job(ref, place, wanted)
        started = monotonic_s()
        while job is None and search.has_more and monotonic_s() - started < LOOK_SECONDS:
            job = self._find_in_lists(ref, search)
        if job is not None:
            return job
        far = f" Only the next {search.reached:,} messages of the queue were searched." if search.has_more else ""
        raise NotFound(
            f"There is no job {wanted[:200]!r} in {'any queue' if ref.shared else repr(ref.name)}.",
            hint="Celery lists running jobs only with acks_late, and keeps results only for result_expires." + far,
        )

    def _find_in_lists(self, ref: QueueRef, search: _WaitingJobSearch) -> Job | None:
        """Return the job if it is among the next messages of the search."""
        for cut, position in search.search_next():
            message = decode_envelope(cut.raw) if cut.is_whole else None
            if job_id(cut.mark, headers_of(message)) == search.wanted:
                place = keys.location_of(ref)
                home = home_of(self._own, self._name, place.prefix)
                records = self._results.run_batch(
                    [("GETRANGE", key, 0, STATUS_BYTES - 1) for key in home.record_keys(search.wanted)]
                )
                job = _build_job(ref, ref.name, State.WAITING, cut, message, position)
                if "REVOKED" in map(_status_of, records):
                    return _as_revoked(msgspec.structs.replace(job, facts=(*job.facts, ("Revoked", REVOKED))))
                return job
        return None

    def scan_matches(self, ref: QueueRef, word: str, offset: int) -> tuple[list[tuple[Job, bytes]], int, bool] | None:
        """Return (waiting jobs whose messages may contain `word`, with the messages; where to continue; whether there
        is more); None without scripts, or if not all lists can be read. Cost: 2 round trips; 2 more if some are found.
        """
        lists = keys.location_of(ref).list_keys()
        sizes = self._broker.run_batch([("LLEN", key) for key in lists])
        if _readable_sizes(self._broker, ref, lists, sizes)[1]:
            return None
        before = 0
        for key, size in zip(lists, sizes, strict=True):
            if offset < before + size:
                call = (key, offset - before, SIFT_ROWS, SIFT_BYTES, "folded", word.lower())
                answered = self._scripts.run(keys.load_script("find"), [call])
                if answered is None:
                    return None
                reply: Any = answered[0][0]
                if not isinstance(reply, list):
                    break
                cuts = [cut for cut, _ in _parse_found(reply)]
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
                    marked = self._with_revoked(ref, [job for job, _ in rows], self._own_facts(place))
                    rows = [(job, raw) for job, (_, raw) in zip(marked, rows, strict=True)]
                # The scan must advance even if workers picked up messages in the meantime.
                reached = max(before + reply[1], offset + 1)
                return rows, reached, reached < sum(sizes)
            before += size
        return [], sum(sizes), False

    def _find_unacked_job(self, ref: QueueRef, place: keys.QueueLocation, wanted: str) -> Job | None:
        """Return the job from the messages held by workers, or from its result record."""
        cuts, _, known = self._read_unacked(place)
        named = [
            cut
            for cut in cuts
            if job_id(cut.mark, headers_of(decode_unacked(cut.raw)[0] if cut.is_whole else None)) == wanted
        ]
        held_here = [
            held
            for held in self._held_messages(place.prefix, named[:MOST_NAMED], known)
            if place.queue in (None, held.queue)
        ]
        for held in held_here[:1]:
            if held.state is State.CANCELED:
                record = self._find_recorded_job(ref, wanted, known.results_location)
                if record is not None:
                    return msgspec.structs.replace(record, facts=(*record.facts, ("Message", STILL_HELD)))
            job = _build_job(ref, held.queue or ref.name, held.state, held.cut, held.message, None)
            if held.maybe:
                facts = (("With a worker", MAY_RUN), *job.facts)
                return msgspec.structs.replace(job, native_state=keys.MAYBE_RUNNING, facts=facts)
            return job
        return self._find_recorded_job(ref, wanted, known.results_location)

    def _find_recorded_job(self, ref: QueueRef, wanted: str, home: ResultsLocation) -> Job | None:
        """Return the job from its result record."""
        place = keys.location_of(ref)
        for record in self._read_records(home.record_keys(wanted)):
            if record is None:
                continue
            decoded = outline_record(record)
            if place.queue is None or decoded.fields.get("queue") == place.queue:
                return record_in_full(ref, wanted, STATES.get(decoded.status or ""), record)
        return None


class _WaitingJobSearch:
    """A search for one waiting job in the lists of its queue, in steps that keep the server busy for a few ms."""

    def __init__(self, broker: Source, scripts: Scripts, place: keys.QueueLocation, wanted: str) -> None:
        self._broker, self._scripts = broker, scripts
        self._lists = place.list_keys() if place.queue is not None else []
        self._after = [0] * len(self._lists)
        self._sizes = [1] * len(self._lists)  # until they are known
        self.wanted = wanted
        # The id as written in the message's JSON: a cheap check before a message is decoded.
        self._written = {
            json.dumps(wanted)[1:-1].encode(),
            json.dumps(wanted, ensure_ascii=False)[1:-1].encode("utf-8", "replace"),
        }
        # In protocol 1 it is in the base64 body; some clients give the message a different correlation id.
        self._written |= {form for written in self._written for form in wrapped_forms(written)}
        self._nameless = wanted.startswith(NAMELESS)  # the message does not contain its digest

    @property
    def has_more(self) -> bool:
        """Whether there are messages that can still be searched."""
        return bool(self._open_lists)

    @property
    def reached(self) -> int:
        """How many messages of the most searched list were read."""
        return max(self._after, default=0)

    @property
    def _open_lists(self) -> list[int]:
        return [n for n, size in enumerate(self._sizes) if self._after[n] < min(size, LOOK_AT_MOST)]

    def search_next(self) -> list[tuple[BoundedMessage, int]]:
        """Return the next messages that may be the job, each with how many are ahead of it. Cost: 1 round trip."""
        todo = self._open_lists
        if not todo:
            return []
        sought: tuple[Argument, ...] = ("text", *sorted(self._written))
        if self._nameless:
            sought = ("stamp", self.wanted.removeprefix(NAMELESS))
        calls: list[Sequence[Argument]] = [
            (self._lists[n], self._after[n], SIFT_ROWS, SIFT_BYTES // len(todo), *sought) for n in todo
        ]
        answered = self._scripts.run(keys.load_script("find"), calls)
        if answered is None:
            return self._search_without_lua()
        found: list[tuple[int, BoundedMessage, int]] = []
        for n, reply in zip(todo, answered[0], strict=True):
            answer: list[Any] = reply if isinstance(reply, list) else [0, 0, 0]
            self._sizes[n], self._after[n] = answer[0], max(answer[1], self._after[n] + 1)
            found += [(n, cut, place) for cut, place in _parse_found(answer)]
        return [(cut, sum(self._sizes[:n]) + place) for n, cut, place in found]

    def _search_without_lua(self) -> list[tuple[BoundedMessage, int]]:
        """Like `search_next`, in a single step and without scripts. Cost: that of `read_plainly`, for each list."""
        found: list[tuple[BoundedMessage, int]] = []
        before = 0
        for n, key in enumerate(self._lists):
            count = 0
            for member in read_plainly(self._broker, key, "list", 0, LOOK_AT_PLAIN):
                count += 1
                if self._nameless or any(form in member.raw for form in self._written):
                    cut = cut_of(member.raw)
                    if not self._nameless or cut.mark == self.wanted:
                        found.append((cut, before + member.place))
            before += count
            self._sizes[n] = self._after[n] = count
        return found


def _tells_all(beats: Sequence[Mapping[str, object]], boxes: Reply, started: int, now: float) -> bool:
    """Whether the tasks known to have started are all that run: every worker is known, and the live workers report as
    many active tasks, or none.

    `beats` = heartbeats of the known workers, `boxes` = number of workers with a mailbox. Compare
    `stats.divide_unacked`.
    """
    alive = [beat for beat in beats if is_alive(beat, now)]
    counts = [count_of(beat.get("active")) for beat in alive]
    if not beats or None in counts or not isinstance(boxes, int) or boxes > len(beats):
        return False
    return sum(count or 0 for count in counts) in (0, started)


def _as_revoked(job: Job) -> Job:
    """Return a waiting job marked as revoked: workers will discard it."""
    return msgspec.structs.replace(job, native_state=keys.QUEUED_REVOKED)


def _parse_found(reply: Sequence[Any]) -> list[tuple[BoundedMessage, int]]:
    """Return the messages in a reply of `find.lua`, each with how many are ahead of it."""
    return [
        (BoundedMessage(raw, length, f"{NAMELESS}{text(version)}") if version else cut_of(raw), place)
        for raw, length, version, place in reply[3:]
    ]


def _status_of(beginning: Reply) -> str | None:
    """Return the status in the first STATUS_BYTES of a record; None if there is none."""
    if not isinstance(beginning, bytes) or not beginning:
        return None
    return outline_record(RawRecord(beginning, b"", STATUS_BYTES + 1)).status


def _build_job(
    ref: QueueRef, queue: str, state: State, cut: BoundedMessage, message: dict[str, Any] | None, position: int | None
) -> Job:
    native = native_of(keys.location_of(ref), state) if position is None else keys.NATIVE[state]
    job = message_row(ref, queue, state, cut, message, native=native)
    if message is None:
        return job
    more = in_full(job, message)
    if position is not None:
        more["facts"] = (("Place in line", f"{position} before it" if position else "next"), *more["facts"])
    return msgspec.structs.replace(job, **more, summary=None)


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
