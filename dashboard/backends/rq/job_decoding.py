"""Converts what was read of a job's hash to a Job: the part that lists and the page of a job share."""

from __future__ import annotations

from datetime import datetime

import msgspec

from ...model import Job, JobError, QueueRef, State
from ...units import format_size
from .actions.descriptions import ENDED
from .job_hashes import FieldSelection, JobHash, RunResult
from .keys import STATUSES
from .serialization import call_parts, decode_base64, parse_failure, parse_integer, parse_time

# Fields that RQ itself writes, all short. Source: rq 3.0, job.py, Job.to_dict.
SMALL = (
    *("status", "origin", "created_at", "enqueued_at", "started_at", "ended_at", "worker_name"),
    *("retries_left", "number_of_retries", "repeats_left"),
)
LIST = FieldSelection(small=SMALL, wide=("description", "exc_info"), limit_bytes=16 * 1024)
DEAD_LIST = FieldSelection(small=SMALL, wide=("description", "exc_info"), limit_bytes=16 * 1024, entries=1)
# Statuses in which the newest attempt has started.
_TRIED = frozenset({"started", "finished", "failed", "stopped"})
# Types of results that carry a traceback: failed, stopped, retries exhausted.
FAILED_TYPES = frozenset({b"2", b"3", b"5"})


def job_of(
    ref: QueueRef,
    job_id: str,
    record: JobHash,
    *,
    state: State | None,
    due: datetime | None = None,
    stacks: bool = False,
) -> Job:
    """Return the Job of a row; `state` = the list that contains it, None to use its status. `due` = its scheduled time.

    Its error includes the stack trace only if `stacks` is set.
    """
    status = record.text("status")
    name, summary = call_parts(record.text("description"))
    own = _own_state(record, status)
    attempts, most = _count_attempts(record, status)
    ended = own in (State.COMPLETED, State.DEAD, State.CANCELED)
    return Job(
        id=job_id,
        source=ref.source,
        backend=ref.backend,
        queue=ref.name,
        version=_version_of(record, state or own),
        name=name,
        summary=summary,
        state=own if own is State.RETRYING and state in (None, State.SCHEDULED) else state or own,
        native_state=status,
        enqueued_at=parse_time(record.text("enqueued_at")) or parse_time(record.text("created_at")),
        scheduled_for=due,
        started_at=parse_time(record.text("started_at")),
        finished_at=parse_time(record.text("ended_at")) if ended else None,
        attempts=attempts,
        max_attempts=most,
        worker=record.text("worker_name"),
        error=_shorten_error(error_of(record), stacks=stacks) if own is State.DEAD else None,
        problem=problem_of(record),
    )


def without_data(ref: QueueRef, job_id: str, state: State | None, problem: str) -> Job:
    """Return a job with only what the list alone contains."""
    return Job(id=job_id, source=ref.source, backend=ref.backend, queue=ref.name, state=state, problem=problem)


def _own_state(record: JobHash, status: str | None) -> State | None:
    """Return the state in a job's own data; a scheduled job that ran before and counts its retries is retrying.

    If the job also repeats, RQ does not record whether it waits for a retry or for its next repeat.
    """
    tried = record.text("started_at") is not None and record.text("repeats_left") is None
    counts = any(parse_integer(record.text(name)) is not None for name in ("retries_left", "number_of_retries"))
    if status == "scheduled" and tried and counts:
        return State.RETRYING
    return STATUSES.get(status or "")


def _version_of(record: JobHash, state: State | None) -> str | None:
    """Return when the job finished, else when it was last enqueued; the scripts that act on jobs do the same."""
    fields = ("ended_at", "enqueued_at", "created_at") if state in ENDED else ("enqueued_at", "created_at")
    found = next((value for field in fields if (value := record.text(field))), None)
    return found if found is None or len(found) <= 64 else None


def error_of(record: JobHash) -> JobError | None:
    """Return the last failure: from the results stream, else from the hash, as on servers without streams."""
    entry = failed_entry(record)
    if entry is not None:
        return parse_failure(decode_base64(entry.fields.get("exc_string")))
    raw = record.fields.get("exc_info")
    return parse_failure(raw) if raw else None


def _shorten_error(error: JobError | None, *, stacks: bool) -> JobError | None:
    return error if error is None or stacks else msgspec.structs.replace(error, stack=None)


def failed_entry(record: JobHash) -> RunResult | None:
    """Return the newest result that is a failure."""
    return next((entry for entry in record.entries if entry.fields.get("type") in FAILED_TYPES), None)


def problem_of(record: JobHash) -> str | None:
    """Return what is wrong with a job's data, in one line; None if nothing is."""
    if record.error is not None:
        return f"Its data cannot be read: {record.error}."
    if record.kind == "none":
        return "Its data no longer exists: it expired or was deleted, and only the id is left in this list."
    if record.kind != "hash":
        return f"Its key holds a {record.kind}, not job data."
    for field, size in record.oversized.items():
        if field in SMALL:
            return f"Its field {field} holds {format_size(size)}, too much for a value of RQ's."
    status = record.text("status")
    if status is None:
        return "Its data has no status."
    if status not in STATUSES and status != "created":
        return "Its status is not one of RQ's."
    if any(_is_broken(record, field) for field in ("enqueued_at", "started_at", "ended_at")):
        return "One of its times cannot be read."
    return None


def _is_broken(record: JobHash, field: str) -> bool:
    value = record.text(field)
    return value is not None and parse_time(value) is None


def _count_attempts(record: JobHash, status: str | None) -> tuple[int | None, int | None]:
    """Return (attempts so far, maximum attempts).

    RQ counts up only for jobs that request a retry with their return value. For jobs that fail it counts `retries_left`
    down and does not record the original number, so the maximum is known only for a job that never ran.
    """
    done, left = parse_integer(record.text("number_of_retries")), parse_integer(record.text("retries_left"))
    if done is not None:
        return done + (status in _TRIED), None
    if left is not None and record.text("started_at") is None:
        return 0, left + 1
    return None, None
