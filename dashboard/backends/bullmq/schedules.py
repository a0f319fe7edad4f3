"""Job schedulers, and the repeatable jobs of older releases and of Bull. Layout: bullmq `src/classes/job-scheduler.ts`,
`src/commands/addJobScheduler-11.lua`; for the older ones see repeat_keys.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from redis.exceptions import NoPermissionError, ResponseError

from ...clock import instant, iso
from ...model import Payload, QueueRef, Schedule
from ...sources.source import Argument, Command, Reply, Source, text
from ..base import MAX_SCHEDULES
from ..lua_reads import Scripts
from ..payloads.decoding import count_or_none, json_payload, loads_dict, of_decoded, printable
from ..unreadable_data import decode_or
from . import keys, without_lua
from .job_decoding import JobFields, find_problem, is_missing
from .repeat_keys import RepeatKey, parse_repeat_key
from .stats import QUEUES_PER_CALL

FIELDS = ("name", "pattern", "tz", "every", "offset", "startDate", "endDate", "limit", "ic", "data")
JOB_FIELDS = ("name", "opts", "data")
LIMIT_BYTES = 8 * 1024
ID_LIMIT_BYTES = 2000
SCHEDULES_PER_CALL = 100
# A call reads about this many entries over all its queues, then FEW of each further queue, so that none is left out.
ENTRIES_PER_CALL = 3 * MAX_SCHEDULES
FEW = 20


class ScheduleEntry(NamedTuple):
    """One entry of a queue's `repeat`."""

    ref: QueueRef
    member: bytes
    next_ms: float | None
    old: RepeatKey | None  # the parts of its id, if it has the format of older releases

    @property
    def key(self) -> bytes:
        """Its hash."""
        return f"{self.ref.key}:repeat:".encode("utf-8", "surrogateescape") + self.member

    def job_keys(self) -> tuple[bytes | str, ...]:
        """Return the possible prefixes of the keys of its jobs, one of which is right; always three."""
        old = [f"{self.ref.key}:{start}" for start in self.old.jobs] if self.old else ["", ""]
        return (self.key + b":", *old)


class ScheduleRecord(NamedTuple):
    """The raw data of one schedule."""

    values: Reply  # of FIELDS, or an error
    job: Sequence[Reply] | None  # JOB_FIELDS of the next run's job; None if there is none
    job_there: bool
    before_ms: Reply  # when the previous run started
    standing: str | None = None  # the list of the next run's job, "" = none; None if unknown


def list_schedules(source: Source, scripts: Scripts, refs: Sequence[QueueRef]) -> list[Schedule]:
    """Return the schedules of `refs`, soonest first, at most MAX_SCHEDULES.

    Cost: 2 round trips if scripts are permitted, else 3; 1 if there are none.
    """
    rows = _read_lists(source, scripts, refs)
    entries = [entry for ref, row in zip(refs, rows, strict=True) for entry in _parse_entries(ref, row)]
    hidden = [_hidden_row(ref) for ref, row in zip(refs, rows, strict=True) if _is_wrong_type(row)]
    entries.sort(key=lambda entry: (entry.next_ms is None, entry.next_ms, entry.ref.key, entry.member))
    entries = entries[:MAX_SCHEDULES]
    found = [
        decode_or(partial(_build_schedule, entry, record, source.now_s()), partial(_unreadable_row, entry))
        for entry, record in zip(entries, _read_records(source, scripts, entries), strict=True)
    ]
    return [*found, *hidden][:MAX_SCHEDULES]


def _is_wrong_type(row: Reply) -> bool:
    return isinstance(row, ResponseError) and "WRONGTYPE" in str(row)


def _hidden_row(ref: QueueRef) -> Schedule:
    """Return a row in place of a queue's schedules if their key has the wrong type."""
    return Schedule(
        id="repeat",
        source=ref.source,
        backend=ref.backend,
        kind="repeatable",
        queue=ref.name,
        ref=ref,
        problem="its key cannot be read: it has the wrong type",
    )


def _unreadable_row(entry: ScheduleEntry, why: str) -> Schedule:
    ref = entry.ref
    return Schedule(
        id=text(entry.member),
        source=ref.source,
        backend=ref.backend,
        kind="repeatable",
        queue=ref.name,
        ref=ref,
        problem=why,
    )


def _read_lists(source: Source, scripts: Scripts, refs: Sequence[QueueRef]) -> list[Reply]:
    chunks = scripts.split(refs, QUEUES_PER_CALL, keys.queue_key)
    calls: list[list[Argument]] = [
        [MAX_SCHEDULES, ENTRIES_PER_CALL, FEW, *(ref.key for ref in chunk)] for chunk in chunks
    ]
    answered = scripts.run(keys.load_script("repeats"), calls, at=[chunk[0].key for chunk in chunks])
    if answered is None:
        each = max(FEW, min(MAX_SCHEDULES, ENTRIES_PER_CALL // max(1, len(refs))))
        return source.run_batch([("ZRANGE", f"{ref.key}:repeat", 0, each - 1, "WITHSCORES") for ref in refs])
    found: list[Reply] = []
    for chunk, reply in zip(chunks, answered[0], strict=True):
        if isinstance(reply, NoPermissionError):
            raise source.forbidden_error(reply)
        found += reply if isinstance(reply, list) else [reply] * len(chunk)
    return found


def _parse_entries(ref: QueueRef, row: Reply) -> Iterable[ScheduleEntry]:
    """Yield the entries of one queue; none if the key has the wrong type."""
    pairs = zip(*[iter(row)] * 2, strict=True) if isinstance(row, list) else ()
    for member, score in pairs:
        short = member[:ID_LIMIT_BYTES]
        yield ScheduleEntry(ref, short, keys.parse_number(score), parse_repeat_key(text(short)))


def _read_records(source: Source, scripts: Scripts, entries: Sequence[ScheduleEntry]) -> list[ScheduleRecord]:
    if not entries:
        return []
    head: list[Argument] = [json.dumps(FIELDS), json.dumps(JOB_FIELDS), LIMIT_BYTES]
    calls: list[list[Argument]] = []
    parts = scripts.split(entries, SCHEDULES_PER_CALL, lambda entry: entry.ref.key)
    for part in parts:
        call = list(head)
        for entry in part:
            every = (entry.old and entry.old.every_ms) or ""
            next_ms = "" if entry.next_ms is None else f"{entry.next_ms:.0f}"
            call += [entry.key, f"{entry.ref.key}:", next_ms, every, FIELDS.index("every") + 1, *entry.job_keys()]
        calls.append(call)
    answered = scripts.run(keys.load_script("schedules"), calls, at=[part[0].ref.key for part in parts])
    if answered is None:
        return _read_without_lua(source, entries)
    found: list[ScheduleRecord] = []
    for call, reply in zip(calls, answered[0], strict=True):
        count = (len(call) - len(head)) // 8
        rows = reply if isinstance(reply, list) else [[reply, None, None, None]] * count
        found += [
            ScheduleRecord(values, job[1] if job else None, bool(job), before, _ascii_or_none(where))
            for values, job, before, where in rows
        ]
    return found


def _read_without_lua(source: Source, entries: Sequence[ScheduleEntry]) -> list[ScheduleRecord]:
    """Read the same with plain commands; of the jobs of the next runs, only whether they exist."""
    jobs: list[Command] = [
        ("EXISTS", *(_to_bytes(start) + b"%.0f" % (entry.next_ms or 0) for start in entry.job_keys() if start))
        for entry in entries
    ]
    # Then the times once more: a worker may have continued to the following run.
    times: list[Command] = [("ZSCORE", f"{entry.ref.key}:repeat", entry.member) for entry in entries]
    hashes = [entry.key for entry in entries]
    values, answers = without_lua.read_fields(source, hashes, dict.fromkeys(FIELDS, LIMIT_BYTES), [*jobs, *times])
    found = []
    for n, (entry, row) in enumerate(zip(entries, values, strict=True)):
        exists, score = answers[n], answers[len(jobs) + n]
        same = isinstance(score, bytes) and keys.parse_number(score) == entry.next_ms
        # Finding the list of the job would take a search through all lists; ids of older releases are only a guess.
        gone = exists == 0 and same and entry.old is None
        found.append(ScheduleRecord(row, None, exists == 1, None, "" if gone else None))
    return found


def _ascii_or_none(reply: Reply) -> str | None:
    return reply.decode("ascii", "replace") if isinstance(reply, bytes) else None


def _to_bytes(key: bytes | str) -> bytes:
    return key if isinstance(key, bytes) else key.encode("utf-8", "surrogateescape")


def _build_schedule(entry: ScheduleEntry, record: ScheduleRecord, now: float) -> Schedule:
    ref, old = entry.ref, entry.old
    wrong = find_problem(record.values) if not is_missing(record.values) else None
    fields = JobFields({} if wrong else dict(zip(FIELDS, record.values, strict=True)))
    job = JobFields(dict(zip(JOB_FIELDS, record.job, strict=True)) if isinstance(record.job, list) else {})
    repeat = _repeat_options(job)
    # Schedulers count their runs; for older ones the job of the next run has the number.
    scheduler = fields.raw.get("ic") is not None
    details = _merge_details(fields, repeat, old)
    if is_missing(record.values) and old is None and record.job is None:
        wrong = "its data no longer exists, only its id is left"
    elif entry.next_ms is None:
        wrong = wrong or "the time of its next run is invalid"
    runs = fields.integer("ic") if scheduler else count_or_none(repeat.get("count"))
    stuck = None if wrong else _explain_stuck(record)
    ended = _explain_end(details, runs, now) if stuck else None
    if ended:
        stuck = None
    troubles = [wrong, *fields.troubles] if wrong else [*([stuck] if stuck else ()), *fields.troubles]
    return Schedule(
        id=text(entry.member),
        source=ref.source,
        backend=ref.backend,
        kind="job scheduler" if scheduler else "repeatable",
        name=details["name"] or job.text("name", 200),
        queue=ref.name,
        ref=ref,
        pattern=_pattern_of(details),
        timezone=details["tz"],
        next_run_at=instant(None if entry.next_ms is None or stuck or ended else entry.next_ms / 1000),
        last_run_at=instant(keys.parse_seconds(record.before_ms if isinstance(record.before_ms, bytes) else None)),
        ended=ended is not None,
        runs=runs,
        payload=_payload_of(fields) or _payload_of(job),
        facts=tuple(_list_facts(details, ended)),
        problem="; ".join(dict.fromkeys(troubles)) or None,
    )


def _repeat_options(job: JobFields) -> Mapping[str, Any]:
    """Return the repeat options, from the options of the next run's job."""
    value = job.bytes_of("opts")
    repeat = loads_dict(value).get("repeat")
    return repeat if isinstance(repeat, dict) else {}


def _merge_details(fields: JobFields, repeat: Mapping[str, Any], old: RepeatKey | None) -> dict[str, str | None]:
    """Return the details of a schedule from its hash, else from its next job, else from its id."""
    of_id: dict[str, str | None] = {}
    if old is not None:
        of_id = {
            "name": old.name,
            "pattern": old.pattern,
            "every": old.every_ms,
            "tz": old.timezone,
            "endDate": old.end_ms,
        }
    found: dict[str, str | None] = {}
    for name in FIELDS[:-1]:
        of_job = repeat.get(name) or (repeat.get("cron") if name == "pattern" else None)
        short = of_decoded(str(of_job), 200) if isinstance(of_job, str | int | float) else None
        own = of_id.get(name)
        found[name] = fields.text(name, 200) or short or (printable(own, 200) if own else None)
    return found


def _pattern_of(details: Mapping[str, str | None]) -> str | None:
    if details["pattern"]:
        return details["pattern"]
    every = keys.parse_number(details["every"].encode() if details["every"] else None)
    return f"every {every / 1000:.15g} s" if every else None


def _payload_of(fields: JobFields) -> Payload | None:
    raw = fields.raw.get("data")
    if isinstance(raw, list):
        return Payload(kind="text", text="", size_bytes=raw[0], truncated=True, note="too long to show")
    return json_payload(raw) if isinstance(raw, bytes) else None


# The lists in which the job of a next run is still going to run, or running.
_COMING = frozenset({"delayed", "wait", "paused", "prioritized", "active", "waiting-children"})
_AGAIN = "Remove the schedule and let the app create it again"


def _explain_stuck(record: ScheduleRecord) -> str | None:
    """Return why a schedule never runs again, and what to do; None if a next run exists. Each run creates the next."""
    if record.standing is None or record.standing in _COMING:
        return None
    why = "the job of its next run no longer exists"
    if record.standing:
        why = f"the job of its next run is already in {record.standing}"
    elif record.job_there:
        why = "the job of its next run is not in any list"
    return f"it will not run again: {why}. {_AGAIN}."


def _explain_end(details: Mapping[str, str | None], runs: int | None, now: float) -> str | None:
    """Return why a schedule without a next run has reached the end that the app set; None if it has not."""
    limit = keys.parse_integer(details["limit"].encode()) if details["limit"] else None
    if limit is not None and runs is not None and runs >= limit:
        return f"after {runs} runs"
    end_s = keys.parse_seconds(details["endDate"].encode()) if details["endDate"] else None
    return "its end date has passed" if end_s is not None and end_s < now else None


def _list_facts(details: Mapping[str, str | None], ended: str | None) -> Iterable[tuple[str, str]]:
    if ended:
        yield "Ended", ended
    if details["limit"]:
        yield "Ends after", f"{details['limit']} runs"
    for label, name in (("Starts at", "startDate"), ("Ends at", "endDate")):
        if value := details[name]:
            yield label, iso(instant(keys.parse_seconds(value.encode()))) or value
    if offset := keys.parse_number(details["offset"].encode() if details["offset"] else None):
        yield "Offset", f"{offset / 1000:.15g} s"
