"""One page of a job list. Layout: bullmq `src/commands/getRanges-1.lua`, without its writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from redis.exceptions import NoPermissionError, ResponseError

from ...clock import instant
from ...errors import NotFound, WrongType
from ...model import Job, JobPage, JobQuery, QueueRef, Searched, State, Window
from ...sources.source import Argument, Command, Reply, Source, text
from ..actions import JobRef
from ..lua_reads import Scripts
from ..payloads.decoding import printable
from ..payloads.search_text import LIMIT as TEXT_LIMIT
from ..payloads.search_text import ends, joined, of_json
from ..unreadable_data import decode_or, searched_row
from . import job_rows, keys
from .job_decoding import MESSAGE_LIMIT, ROW_FIELDS, JobFields, max_attempts, newest_stack, parse_error, parse_stacks
from .job_decoding import find_problem as problem_of


class ListedJob(NamedTuple):
    """One entry of a list."""

    native: str
    job_id: bytes
    score: bytes | None
    unread: int | None = None  # the length of an id that was too long to read; 0 = not even the length is known


def list_jobs(source: Source, scripts: Scripts, ref: QueueRef, query: JobQuery) -> JobPage:
    """Return the page. Raises NotFound, WrongType, BackendUnavailable. Cost: 2 round trips if scripts are permitted,
    else 4.
    """
    total, entries, problems = _read_listed(source, scripts, ref, query)
    found = job_rows.read_job_rows(source, scripts, ref, [entry.job_id for entry in entries])
    return JobPage(
        jobs=tuple(_row_job(ref, entry, row) for entry, row in zip(entries, found, strict=True)),
        page=query.page,
        per_page=query.per_page,
        total=total,
        order=keys.ORDERS[query.state],
        at_least=bool(problems),
        problems=problems,
    )


def read_window(source: Source, scripts: Scripts, ref: QueueRef, query: JobQuery) -> Window:
    """Return the same jobs with the text of their payload, error and stack traces. Cost and errors as `list_jobs`."""
    total, entries, problems = _read_listed(source, scripts, ref, query)
    found = job_rows.read_job_rows(source, scripts, ref, [entry.job_id for entry in entries], texts=True)
    return Window(
        rows=tuple(
            searched_row(_searchable_row, _row_job(ref, entry, row), row)
            for entry, row in zip(entries, found, strict=True)
        ),
        total=total,
        order=keys.ORDERS[query.state],
        at_least=bool(problems),
        problems=problems,
    )


def _read_listed(
    source: Source, scripts: Scripts, ref: QueueRef, query: JobQuery
) -> tuple[int | None, list[ListedJob], tuple[str, ...]]:
    """Return (the number of jobs in the lists of the state, the entries of the page, the lists that cannot be read).

    The number covers the lists that can be read; None if these are empty and others cannot be read.
    """
    lists = [entry for entry in keys.BY_STATE[query.state] if query.native in (None, entry.native)]
    sizes, entries, there = _read_entries(source, scripts, ref, query, lists)
    for size in sizes:
        if isinstance(size, NoPermissionError):
            raise source.forbidden_error(size)
    problems = tuple(
        f"The {entry.native} list of {ref.name!r} cannot be read: its key has the wrong type."
        for entry, size in zip(lists, sizes, strict=False)
        if isinstance(size, ResponseError)
    )
    if sizes and len(problems) == len(sizes):
        raise WrongType(problems[0], source=source.name)
    if not there and not any(sizes):
        raise NotFound(f"There is no queue {ref.name!r}.", hint="It may have just been deleted.")
    # A job added at the front with `lifo` leaves the marker of 4.x in the middle; the library counts it there.
    jobs = [entry for entry in entries if entry.native != "wait" or not entry.job_id.startswith(keys.MARKER)]
    known = sum(size for size in sizes if isinstance(size, int))
    return None if problems and not known else known, jobs, problems


def _read_entries(
    source: Source, scripts: Scripts, ref: QueueRef, query: JobQuery, lists: Sequence[keys.NativeList]
) -> tuple[list[Reply], list[ListedJob], bool]:
    """Return the size of each list, the entries of the page, and whether the queue exists."""
    arguments = [part for entry in lists for part in (entry.native, entry.kind, "1" if entry.from_tail else "0")]
    call: tuple[Argument, ...] = (ref.key, query.offset, query.per_page, *arguments)
    answered = scripts.run(keys.load_script("page"), [call], at=[ref.key])
    if answered is None:
        return _plain_entries(source, ref, query, lists)
    reply = answered[0][0]
    if isinstance(reply, ResponseError):
        return [reply], [], True
    sizes, found, there = reply
    places = [
        ListedJob(native.decode(), job_id, score)
        if isinstance(job_id, bytes)
        else ListedJob(native.decode(), b"", score, unread=job_id[0])
        for native, job_id, score in zip(*[iter(found)] * 3, strict=True)
    ]
    return sizes, places, bool(there)


def _plain_entries(
    source: Source, ref: QueueRef, query: JobQuery, lists: Sequence[keys.NativeList]
) -> tuple[list[Reply], list[ListedJob], bool]:
    counts: list[Command] = [
        ("LLEN" if entry.kind == "list" else "ZCARD", f"{ref.key}:{entry.native}") for entry in lists
    ]
    *sizes, tail, there = source.run_batch(
        [*counts, ("LINDEX", f"{ref.key}:wait", -1), ("EXISTS", f"{ref.key}:meta", f"{ref.key}:id")]
    )
    marker = isinstance(tail, bytes) and tail.startswith(keys.MARKER)
    commands: list[Command] = []
    asked: list[keys.NativeList] = []
    offset, left = query.offset, query.per_page
    for n, entry in enumerate(lists):
        size = sizes[n]
        if not isinstance(size, int):
            continue
        skip = 1 if marker and entry.native == "wait" else 0
        sizes[n] = size = size - skip
        if offset < size and left > 0:
            last = min(size, offset + left) - 1
            commands.append(_range_command(f"{ref.key}:{entry.native}", entry, offset + skip, last + skip))
            asked.append(entry)
            left -= last - offset + 1
            offset = 0
        else:
            offset = max(0, offset - size)
    entries: list[ListedJob] = []
    for entry, reply in zip(asked, source.run_batch(commands), strict=True):
        if isinstance(reply, ResponseError):
            continue
        if entry.kind == "list":
            entries.extend(
                ListedJob(entry.native, job_id, None) for job_id in (reversed(reply) if entry.from_tail else reply)
            )
        else:
            entries.extend(
                ListedJob(entry.native, job_id, score) for job_id, score in zip(*[iter(reply)] * 2, strict=True)
            )
    return sizes, entries, bool(there)


def _range_command(key: str, entry: keys.NativeList, first: int, last: int) -> Command:
    if entry.kind == "zset":
        return ("ZREVRANGE" if entry.from_tail else "ZRANGE", key, first, last, "WITHSCORES")
    return ("LRANGE", key, -last - 1, -first - 1) if entry.from_tail else ("LRANGE", key, first, last)


def _searchable_row(job: Job, row: job_rows.JobRow) -> Searched:
    """Return the row with the stack trace of its last failure, which contains the class of the error."""
    stack = (
        newest_stack(_bytes_or_none(row.texts[job_rows.TEXTS.index("stacktrace")])) if row.texts and job.error else None
    )
    if stack is not None and job.error is not None:
        error = parse_error(job.error.message, stack)
        class_name = error.class_name if error else None
        job = msgspec.structs.replace(job, error=msgspec.structs.replace(job.error, class_name=class_name))
    return Searched(job=job, text=_text_of_row(row), stack=ends(stack))


def _text_of_row(row: job_rows.JobRow) -> str:
    data, trace = (_bytes_or_none(reply) for reply in row.texts) if row.texts else (None, None)
    reason = _bytes_or_none(row.values[ROW_FIELDS.index("failedReason")]) if row.texts else None
    failure = (
        printable(reason) if reason else "",
        *parse_stacks(trace, cut=trace is not None and len(trace) > TEXT_LIMIT),
    )
    return joined(of_json(data), "\n".join(filter(None, failure)))


def _bytes_or_none(reply: Reply) -> bytes | None:
    return reply if isinstance(reply, bytes) else None


def list_job_refs(source: Source, scripts: Scripts, ref: QueueRef, query: JobQuery) -> list[JobRef]:
    """Return ids and stamps of a page, without jobs whose id is too long to read, or whose list cannot be read.

    Cost: 1 round trip, 2 without scripts.
    """
    lists = [entry for entry in keys.BY_STATE[query.state] if query.native in (None, entry.native)]
    _, entries, _ = _read_entries(source, scripts, ref, query, lists)
    return [
        JobRef(id=text(entry.job_id), version=_version_of(entry))
        for entry in entries
        if entry.unread is None and (entry.native != "wait" or not entry.job_id.startswith(keys.MARKER))
    ]


def _row_job(ref: QueueRef, entry: ListedJob, row: job_rows.JobRow) -> Job:
    if entry.unread is not None:
        why = f"its id is {entry.unread} bytes long" if entry.unread else "the ids before it are very long"
        return _without_data(ref, entry, f"{why}: not read. Inspect the list with redis-cli.")
    return decode_or(lambda: _build_job(ref, entry, row), lambda why: _without_data(ref, entry, why))


def _without_data(ref: QueueRef, entry: ListedJob, problem: str) -> Job:
    """Return a job with only what its list entry contains."""
    return Job(
        id=text(entry.job_id),
        source=ref.source,
        backend=ref.backend,
        queue=ref.name,
        version=_version_of(entry),
        state=keys.BY_NATIVE[entry.native].state,
        native_state=entry.native,
        problem=problem,
    )


def _build_job(ref: QueueRef, entry: ListedJob, row: job_rows.JobRow) -> Job:
    values, locked, _ = row
    state = keys.BY_NATIVE[entry.native].state
    wrong = problem_of(values)
    if wrong is not None:
        bare = _without_data(ref, entry, wrong)
        return msgspec.structs.replace(bare, abandoned=state is State.ACTIVE and locked == 0)
    fields = JobFields(dict(zip(ROW_FIELDS, values, strict=True)))
    options = fields.options()
    job = Job(
        id=text(entry.job_id),
        source=ref.source,
        backend=ref.backend,
        queue=ref.name,
        version=_version_of(entry),
        name=fields.text("name", 200),
        state=state,
        native_state=entry.native,
        enqueued_at=fields.instant("timestamp"),
        scheduled_for=instant(keys.due_s(entry.score)) if state is State.SCHEDULED else None,
        started_at=fields.instant("processedOn"),
        finished_at=fields.instant("finishedOn"),
        attempts=fields.attempts,
        max_attempts=max_attempts(options),
        priority=fields.integer("priority") or None,
        progress=fields.progress,
        worker=fields.text("pb", 100),
        error=parse_error(fields.text("failedReason", MESSAGE_LIMIT)),
        problem="no worker holds its lock: the worker died or is not responding"
        if state is State.ACTIVE and not locked
        else None,
        abandoned=state is State.ACTIVE and not locked,
    )
    return job if not fields.troubles else _with_troubles(job, fields.troubles)


def _version_of(entry: ListedJob) -> str | None:
    """Return the score as Redis writes it: the time of a finish or a start, which distinguishes two runs of a job."""
    return text(entry.score) if entry.score is not None else None


def _with_troubles(job: Job, troubles: Sequence[str]) -> Job:
    problem = "; ".join(dict.fromkeys(filter(None, (job.problem, *troubles))))
    return msgspec.structs.replace(job, problem=problem)
