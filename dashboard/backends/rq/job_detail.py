"""One job with everything RQ stores about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from ...clock import instant, iso
from ...errors import NotFound
from ...model import Job, JobLink, Payload, QueueRef, State
from ...sources.source import Command, Reply, text
from ..job_facts import FAILURE_RETENTION, POSITION, RESULT_RETENTION, RUNS_AFTER_FAILED_PARENT, position_fact
from ..payloads.decoding import DECODE_LIMIT_BYTES, printable
from .job_decoding import SMALL, error_of, job_of
from .job_hashes import FieldSelection, JobHash, JobHashReader
from .keys import LISTS, STATUSES, QueueKeys, job_id_of
from .serialization import (
    call_payload,
    decode_base64,
    json_text,
    number_of,
    parse_integer,
    parse_time,
    serialized_payload,
)
from .timeline import build_timeline

MAX_LINKS = 50
# How many running jobs are searched for one job.
LOOK_LIMIT = 1000
# How many ids are searched at each end of a long queue; without a match this takes Redis 1 ms.
LINE_LIMIT = 50_000
# Label of a fact -> its field.
FACTS: Mapping[str, str] = {
    "Timeout (s)": "timeout",
    "Time to live (s)": "ttl",
    RESULT_RETENTION: "result_ttl",
    FAILURE_RETENTION: "failure_ttl",
    "Retries left": "retries_left",
    "Retry intervals (s)": "retry_intervals",
    "Repeats left": "repeats_left",
    "Repeat intervals (s)": "repeat_intervals",
    "Group": "group_id",
    "Rate limit": "rate_limit_key",
    "Concurrent jobs in this rate limit": "rate_limit_concurrency",
    "On success": "success_callback_name",
    "On failure": "failure_callback_name",
    "On stop": "stopped_callback_name",
    RUNS_AFTER_FAILED_PARENT: "allow_dependency_failures",
    "Last heartbeat": "last_heartbeat",
}
# Statuses whose jobs are in sets that are not read here.
_ELSEWHERE = ("rate_limited", "ready_to_enqueue")
WIDE = ("description", "data", "meta", "result", "exc_info", "dependency_ids", "dependency_id")
DETAIL = FieldSelection(
    small=(*SMALL, *FACTS.values()),
    wide=WIDE,
    limit_bytes=DECODE_LIMIT_BYTES,
    entries=10,
)
LINK = FieldSelection(small=("status", "origin"), limit_bytes=4096)


@dataclass(frozen=True, slots=True)
class _Places:
    """The lists of its queue that contain a job, and the jobs that depend on it."""

    lists: frozenset[State]
    position: int | None  # in the waiting list, 0 = next
    missing: bool  # known to be in no list
    taken: bool  # in the intermediate list: a worker picked it up but has not started it
    taken_s: float | None  # when RQ first saw it there, in seconds since 1970
    due: float | None
    lost_at: float | None  # running: when it counts as abandoned without another heartbeat of its worker
    expires_s: int | None
    dependents: tuple[str, ...]
    dependents_total: int | None


def read_job(reader: JobHashReader, ref: QueueRef, queue: QueueKeys, job_id: str) -> Job:
    """Return the job with its links. Raises NotFound, BackendUnavailable. Cost: 2 round trips, 4 without scripts."""
    records, replies = reader.read_hashes([(queue, job_id)], DETAIL, _place_commands(queue, job_id))
    record, places = records[0], _parse_places(replies, job_id)
    _check_belongs(record, places, ref, queue, job_id)
    status = STATUSES.get(record.text("status") or "")
    state = status or next((state for state in LISTS if state in places.lists), None)
    job = job_of(ref, job_id, record, state=state, due=instant(places.due))
    state = job.state
    name, payload = call_payload(record.fields.get("data"), record.oversized.get("data"), record.text("description"))
    meta = _serialized_payload(record, "meta")
    stray = _explain_stray(places, state, job.native_state)
    parents = _parent_ids(record)
    links = _read_links(reader, ref, queue, (*parents[:MAX_LINKS], *places.dependents))
    children = tuple(links[dependent] for dependent in places.dependents)
    return msgspec.structs.replace(
        job,
        name=printable(name, 300) if name else job.name,
        error=error_of(record) if state is State.DEAD else None,
        payload=payload,
        meta=meta if meta.kind != "missing" else None,
        result=_result_payload(record),
        progress=_progress_of(meta),
        timeline=build_timeline(record),
        parent=links[parents[0]] if parents else None,
        children=children,
        children_total=places.dependents_total,
        jobs_ahead=places.position,
        facts=(*_list_facts(record), *_place_facts(places, state, parents, reader.now_s())),
        problem=job.problem or stray,
        abandoned=stray is not None,
    )


def _place_commands(queue: QueueKeys, job_id: str) -> list[Command]:
    sets = [state for state in LISTS if state not in (State.WAITING, State.ACTIVE)]
    return [
        ("LLEN", queue.queue),
        ("LPOS", queue.queue, job_id, "MAXLEN", LINE_LIMIT),
        ("LPOS", queue.queue, job_id, "RANK", -1, "MAXLEN", LINE_LIMIT),
        ("LPOS", queue.intermediate, job_id, "MAXLEN", LINE_LIMIT),
        ("GETRANGE", f"{queue.intermediate}:first_seen:{job_id}", 0, 40),
        ("ZCARD", queue.list_of(State.ACTIVE)),
        ("ZRANGE", queue.list_of(State.ACTIVE), 0, LOOK_LIMIT - 1, "WITHSCORES"),
        *(("ZSCORE", queue.list_of(state), job_id) for state in sets),
        ("PTTL", queue.job(job_id)),
        ("SCARD", queue.dependents(job_id)),
        ("SSCAN", queue.dependents(job_id), 0, "COUNT", MAX_LINKS),
    ]


def _parse_places(replies: Sequence[Reply], job_id: str) -> _Places:
    length, front, back, taken, first_seen, runs, running, *scores, ttl, dependents_total, dependents = replies
    position = front if isinstance(front, int) else back
    sets = [state for state in LISTS if state not in (State.WAITING, State.ACTIVE)]
    found = {state: float(score) for state, score in zip(sets, scores, strict=True) if isinstance(score, bytes)}
    here: set[State] = set(found)
    lost_at = None
    if isinstance(running, list):
        for member, score in zip(running[::2], running[1::2], strict=True):
            if job_id_of(text(member), State.ACTIVE) == job_id:
                here.add(State.ACTIVE)
                lost_at = float(score)
    if isinstance(position, int):
        here.add(State.WAITING)
    known = (length, runs, *scores)
    whole = not any(isinstance(reply, ResponseError) for reply in (*known, front, back, taken))
    whole = whole and length <= 2 * LINE_LIMIT and runs <= LOOK_LIMIT
    members = dependents[1] if isinstance(dependents, list) else []
    return _Places(
        lists=frozenset(here),
        position=position if isinstance(position, int) else None,
        missing=whole and not here,
        taken=isinstance(taken, int),
        taken_s=number_of(first_seen),
        due=found.get(State.SCHEDULED),
        lost_at=lost_at,
        expires_s=ttl // 1000 if isinstance(ttl, int) and ttl > 0 else None,
        dependents=tuple(sorted(text(member) for member in members)[:MAX_LINKS]),
        dependents_total=dependents_total if isinstance(dependents_total, int) else None,
    )


def _explain_stray(places: _Places, state: State | None, status: str | None) -> str | None:
    """Return what is wrong with a job that is not in the list of its status; None for other jobs."""
    if state is None or not places.missing or status in _ELSEWHERE:
        return None
    if places.taken and state is State.WAITING:
        since = f" since {iso(instant(places.taken_s))} or earlier" if places.taken_s is not None else ""
        return f"In RQ's intermediate list{since}: a worker picked it up but has not started it."
    if state is State.WAITING:
        return "Not in any list: lost between queue and worker."
    if state in (State.COMPLETED, State.DEAD, State.CANCELED):
        return "Not in any RQ list: only its data is left, until it expires."
    return "Not in any RQ list: it will not run unless you act on it."


def _check_belongs(record: JobHash, places: _Places, ref: QueueRef, queue: QueueKeys, job_id: str) -> None:
    """Raise NotFound for a job that is in no list of this queue and whose data does not name this queue."""
    if places.lists:
        return
    if record.kind == "none":
        raise NotFound(f"There is no job {printable(job_id, 100)!r} in {ref.name!r}, or it no longer exists.")
    origin = record.text("origin")
    if origin is not None and origin != queue.name:
        raise NotFound(
            f"Job {printable(job_id, 100)!r} is not in {ref.name!r}, or no longer.",
            hint=f"It belongs to queue {printable(origin, 100)!r}.",
        )


def _serialized_payload(record: JobHash, field: str) -> Payload:
    return serialized_payload(record.fields.get(field), record.oversized.get(field))


def _result_payload(record: JobHash) -> Payload | None:
    """Return the newest return value: from the results stream, else from the hash, where repeating jobs store it."""
    for entry in record.entries:
        raw = entry.fields.get("return_value")
        if raw is not None and entry.fields.get("type") == b"1":
            if len(raw) > DECODE_LIMIT_BYTES:
                return serialized_payload(None, len(raw))
            return serialized_payload(decode_base64(raw))
    if record.entries_bytes is not None:
        return serialized_payload(None, record.entries_bytes)
    kept = _serialized_payload(record, "result")
    return None if kept.kind == "missing" else kept


def _progress_of(meta: Payload) -> Any:
    """Return what the application stores as `progress` in meta, as many do; None without it."""
    if not isinstance(meta.value, dict):
        return None
    found = meta.value.get("progress")
    return found if isinstance(found, int | float | str) else None


def _parent_ids(record: JobHash) -> tuple[str, ...]:
    """Return the ids of the jobs that this one depends on or depended on."""
    found = json_text(record.text("dependency_ids"))
    if isinstance(found, list):
        return tuple(str(job_id) for job_id in found if isinstance(job_id, str | int))
    single = record.text("dependency_id")
    return (single,) if single else ()


def _read_links(reader: JobHashReader, ref: QueueRef, queue: QueueKeys, ids: Sequence[str]) -> dict[str, JobLink]:
    """Return links to jobs, by id. Cost: 1 round trip, none without ids."""
    wanted = list(dict.fromkeys(ids))
    if not wanted:
        return {}
    records, _ = reader.read_hashes([(queue, job_id) for job_id in wanted], LINK)
    return {job_id: _build_link(ref, queue, job_id, record) for job_id, record in zip(wanted, records, strict=True)}


def _build_link(ref: QueueRef, queue: QueueKeys, job_id: str, record: JobHash) -> JobLink:
    status, origin = record.text("status"), record.text("origin")
    there = QueueKeys(queue.prefix, origin) if origin else None
    return JobLink(
        id=job_id,
        queue=there.shown_name if there else "",
        ref=QueueRef(source=ref.source, backend=ref.backend, name=there.shown_name, key=there.queue) if there else None,
        state=STATUSES.get(status or ""),
        native_state=status,
    )


def _list_facts(record: JobHash) -> list[tuple[str, str]]:
    found = _field_facts(record)
    left = parse_integer(record.text("retries_left"))
    # RQ counts down and does not record the original number.
    waits = record.text("status") == "scheduled" and record.text("started_at") is not None
    if waits and left is not None and record.text("number_of_retries") is None:
        found.append(("Attempts", f"at least 1 failed; {left} {'retry' if left == 1 else 'retries'} left"))
    return found


def _field_facts(record: JobHash) -> list[tuple[str, str]]:
    facts = {label: printable(record.fields[field], 500) for label, field in FACTS.items() if field in record.fields}
    if (beat := parse_time(record.text("last_heartbeat"))) is not None:
        facts["Last heartbeat"] = f"{beat:%Y-%m-%dT%H:%M:%SZ}"
    return list(facts.items())


def _place_facts(places: _Places, state: State | None, parents: Sequence[str], now: float) -> list[tuple[str, str]]:
    facts = []
    if places.position is not None:
        facts.append(position_fact(places.position))
    elif state is State.WAITING and not (places.missing or places.lists or places.taken):
        # In another list, a worker has just picked it up, and its status follows in a moment.
        facts.append((POSITION, f"unknown; not among the first or last {LINE_LIMIT:,} jobs"))
    if len(parents) > 1:
        facts.append(("Depends on", ", ".join(printable(job_id, 60) for job_id in parents[:MAX_LINKS])))
    if places.lost_at is not None and places.lost_at <= now:
        facts.append(("Worker lost", "no heartbeat; RQ treats the job as abandoned"))
        if (abandoned_at := instant(places.lost_at)) is not None:
            facts.append(("Abandoned since", iso(abandoned_at)))
    if places.expires_s is not None:
        facts.append(("Data expires in (s)", str(places.expires_s)))
    return facts
