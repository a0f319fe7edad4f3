"""Decodes result records into Jobs. All input is untrusted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from ....model import Job, JobError, JobLink, Payload, QueueRef, State, TimelineEvent
from ....redact import without_cut_word
from ...payloads.decoding import decoded_payload, loads, printable, text_or_none
from ...payloads.masking import mask_payload
from ...payloads.search_text import of_json, of_value
from ...unreadable_data import decode_or
from ..job_decoding import parse_count, parse_time, too_large, with_decoded_body
from ..keys import NATIVE
from .decoding import DecodedRecord, RawRecord, as_raw_record, decode_record

NO_NAME = "the record has no task name; set result_extended = True in the app to store it"
STATES = {"FAILURE": State.DEAD, "SUCCESS": State.COMPLETED, "REVOKED": State.CANCELED, "STARTED": State.ACTIVE}
# Any other status is set by the task itself to report progress, and its result holds the details.
OWN_STATUSES = frozenset({*STATES, "PENDING", "RECEIVED", "RETRY", "REJECTED", "IGNORED"})
UNREADABLE = "its record is in an unknown format: not JSON, pickle, YAML or MessagePack"


def record_row(ref: QueueRef, task_id: str, state: State | None, raw: RawRecord | None) -> Job:
    """Return a result record as a row of a list; `raw` None = it has expired. `state` = the state of the list."""
    return decode_or(
        lambda: _record_row(ref, task_id, state, raw),
        lambda why: Job(
            id=task_id,
            source=ref.source,
            backend=ref.backend,
            queue=ref.name,
            state=state,
            native_state=NATIVE[state] if state else None,
            problem=why,
        ),
    )


def _record_row(ref: QueueRef, task_id: str, state: State | None, raw: RawRecord | None) -> Job:
    if raw is None:
        common: dict[str, Any] = {"id": task_id, "source": ref.source, "backend": ref.backend, "queue": ref.name}
        return Job(
            **common, state=state, native_state=NATIVE[state] if state else None, problem="its record has expired"
        )
    return _record_job(ref, task_id, state, raw, decode_record(raw))


def _record_job(ref: QueueRef, task_id: str, state: State | None, raw: RawRecord, decoded: DecodedRecord) -> Job:
    record, status = decoded.fields, decoded.status
    problem = None
    if status is None:
        problem = UNREADABLE if raw.is_whole else too_large("record", raw.size)
    elif not decoded.whole:
        problem = too_large("record", raw.size) if not raw.is_whole else "parts of its record cannot be read"
    retries = parse_count(record.get("retries"))
    summary = None if "name" in record or not decoded.whole else NO_NAME
    return Job(
        id=task_id,
        source=ref.source,
        backend=ref.backend,
        state=state,
        queue=text_or_none(record.get("queue"), 200) or ref.name,
        version=record_version(record),
        name=text_or_none(record.get("name"), 300),
        native_state=text_or_none(status, 40) or (NATIVE[state] if state else None),
        finished_at=parse_time(record.get("date_done")),
        attempts=None if retries is None else retries + 1,
        worker=text_or_none(record.get("worker"), 200),
        error=record_error(record),
        summary=printable(raw.head, 200) if status is None else summary,
        problem=problem,
    )


def record_version(record: Mapping[str, Any]) -> str | None:
    """Return what distinguishes one run's result from the next: when it was written, as scored in the index."""
    done = parse_time(record.get("date_done"))
    return repr(done.timestamp()) if done else None


def record_error(record: Mapping[str, Any], *, with_stack: bool = False) -> JobError | None:
    """Return why a task failed; None if it did not. An app that sets FAILURE itself gives the reason in its result."""
    if record.get("status") not in ("FAILURE", "RETRY", "REVOKED"):
        return None
    result = record.get("result")
    raised = result if isinstance(result, dict) and "exc_type" in result else {}
    message = raised.get("exc_message") if raised else result
    if raised and isinstance(message, list):
        parts = [str(part) for part in message[:10]]
        message = ", ".join(part if len(part) <= 2000 else f"{without_cut_word(part[:2000])}…" for part in parts)
    return JobError(
        class_name=text_or_none(raised.get("exc_type"), 200),
        message=_as_words(message, 10_000),
        stack=text_or_none(record.get("traceback"), 50_000) if with_stack else None,
    )


def _as_words(value: Any, limit: int) -> str | None:
    """Return a value as displayable text, with secrets masked; None for None and for empty values."""
    if value is None or isinstance(value, str):
        return text_or_none(value, limit)
    if value in ({}, []):
        return None
    return text_or_none(json.dumps(mask_payload(value)[0], ensure_ascii=False), limit)


def stack_of(raw: bytes) -> str | None:
    """Return the traceback of a result record as stored in Redis; None if there is none."""
    return text_or_none(decode_record(as_raw_record(raw)).fields.get("traceback"), 50_000)


def record_text(raw: bytes) -> str:
    """Return the searchable text of a message, or of a result record in any format."""
    if not raw or raw[:1] == b"{":
        return of_json(with_decoded_body(raw))
    fields = decode_record(as_raw_record(raw)).fields
    return of_value(mask_payload(dict(fields))[0]) if fields else of_json(raw)


def arguments_of(raw: RawRecord) -> dict[str, Any]:
    """Return `args` and `kwargs` of a result record, with each JSON number as a Number; {} if it has none."""
    record: Any = None
    if raw.is_whole and raw.head[:1] == b"{":
        try:
            record = loads(raw.head, exact=True)
        except ValueError:
            record = None
    if not isinstance(record, dict):
        record = decode_record(raw).fields
    return {name: record[name] for name in ("args", "kwargs") if name in record}


def record_in_full(ref: QueueRef, task_id: str, state: State | None, raw: RawRecord) -> Job:
    """Return a result record as a job's page shows it."""
    decoded = decode_record(raw)
    job = _record_job(ref, task_id, state, raw, decoded)
    if decoded.status is None:
        return job
    record = decoded.fields
    extended = arguments_of(raw)
    children = record.get("children")
    links = [
        JobLink(id=child[0][0], queue="")
        for child in (children if isinstance(children, list) else [])[:100]
        if isinstance(child, list)
        and child
        and isinstance(child[0], list)
        and child[0]
        and isinstance(child[0][0], str)
    ]
    missing = Payload(kind="missing", text="", note=NO_NAME if decoded.whole else job.problem)
    result = record.get("result")
    shows = decoded.status == "SUCCESS" or (decoded.status == "FAILURE" and _is_own(result))
    return replace(
        job,
        payload=decoded_payload(extended) if extended else missing,
        result=decoded_payload(result) if shows and "result" in record else None,
        progress=None if decoded.status in OWN_STATUSES else mask_payload(result)[0],
        error=record_error(record, with_stack=True),
        children=tuple(links),
        children_total=len(children) if isinstance(children, list) and children else None,
        timeline=(TimelineEvent(at=job.finished_at, event="ended", detail=job.native_state),)
        if job.finished_at
        else (),
        facts=(("Encoding", f"{decoded.encoding}; decoded without running any code"),)
        if decoded.encoding not in (None, "json")
        else (),
        summary=None,
    )


def _is_own(result: Any) -> bool:
    """Whether the app wrote this result, rather than Celery from an exception."""
    return result is not None and not (isinstance(result, dict) and "exc_type" in result)
