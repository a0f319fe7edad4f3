"""From a message of Celery's protocol 2, or a result record, to a Job. All of it is hostile until it is read."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from msgspec.structs import replace

from dashboard.backends.celery.keys import NATIVE
from dashboard.backends.members import stamp_of
from dashboard.backends.odd_data import readable
from dashboard.backends.payload import (
    DECODE_LIMIT_BYTES,
    bounded,
    decoded_payload,
    json_payload,
    loads,
    loads_dict,
    printable,
)
from dashboard.model import Job, JobError, JobLink, Payload, QueueRef, State, TimelineEvent

# What the id of a message without one begins with; so much is shown of one that is too long to be decoded.
NAMELESS, BEGINNING = "raw", 1024
NO_NAME = "the record has no task name: set result_extended = True in the app to have it"
STATES = {"FAILURE": State.DEAD, "SUCCESS": State.COMPLETED, "REVOKED": State.CANCELED, "STARTED": State.ACTIVE}
# Any other status is a task's own word for how far it is, and its result what it tells about that.
OWN_STATUSES = frozenset({*STATES, "PENDING", "RECEIVED", "RETRY", "REJECTED", "IGNORED"})


def words(value: Any, limit: int) -> str | None:
    """A text for people; None for what is no text or empty."""
    return printable(value.encode("utf-8", "replace"), limit) if isinstance(value, str) and value else None


def when(value: Any) -> datetime | None:
    """The instant of an ISO time; one without an offset is UTC. None for anything else."""
    if not isinstance(value, str) or len(value) > 60:
        return None
    try:
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def decode(raw: bytes) -> dict[str, Any] | None:
    """The envelope of a message; None for what is none."""
    try:
        message = loads(raw)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def taken(raw: bytes) -> tuple[dict[str, Any] | None, str | None]:
    """(the envelope, the queue) of an entry of `unacked`, which is JSON [message, exchange, routing key]."""
    try:
        entry = loads(raw)
    except ValueError:
        return None, None
    if not isinstance(entry, list) or not entry or not isinstance(entry[0], dict):
        return None, None
    queue = entry[2] if len(entry) > 2 and isinstance(entry[2], str) else None
    return entry[0], queue


def headers_of(message: Mapping[str, Any] | None) -> dict[str, Any]:
    """The headers of a message; {} when it has none."""
    headers = (message or {}).get("headers")
    return headers if isinstance(headers, dict) else {}


def state_of(headers: Mapping[str, Any]) -> State:
    """What a message that a worker took is waiting for."""
    if isinstance(headers.get("eta"), str):
        retries = headers.get("retries")
        return State.RETRYING if isinstance(retries, int) and retries > 0 else State.SCHEDULED
    return State.ACTIVE


def job_id(mark: str, headers: Mapping[str, Any]) -> str:
    """The task id; for a message without one the digest of its bytes."""
    found = headers.get("id")
    return found if isinstance(found, str) and found.isprintable() and found else mark


def digest(raw: bytes) -> str:
    """A name for bytes that have none."""
    return f"{NAMELESS}{stamp_of(raw)}"


class Cut(NamedTuple):
    """A message as far as it was read: whole, or its beginning; its length, and its digest."""

    raw: bytes
    size: int
    mark: str

    @property
    def whole(self) -> bool:
        """Whether all of it is here."""
        return len(self.raw) == self.size


def cut_of(raw: bytes) -> Cut:
    """A message that was read whole, cut where it is too long to be decoded."""
    return Cut(raw if len(raw) <= DECODE_LIMIT_BYTES else raw[:BEGINNING], len(raw), digest(raw))


def too_large(what: str, size: int) -> str:
    """The problem of a row whose message or record is not decoded."""
    return f"too large to be read: its {what} has {size} bytes, {DECODE_LIMIT_BYTES} are read"


def row(ref: QueueRef, queue: str, state: State, cut: Cut, message: Mapping[str, Any] | None) -> Job:
    """A message as a row of a list."""
    return readable(
        lambda: _row(ref, queue, state, cut, message),
        lambda why: Job(
            id=cut.mark,
            source=ref.source,
            backend=ref.backend,
            queue=queue,
            stamp=cut.mark,
            state=state,
            native_state=NATIVE[state],
            problem=why,
        ),
    )


def _row(ref: QueueRef, queue: str, state: State, cut: Cut, message: Mapping[str, Any] | None) -> Job:
    headers = headers_of(message)
    common: dict[str, Any] = {
        "id": job_id(cut.mark, headers),
        "source": ref.source,
        "backend": ref.backend,
        "queue": queue,
        "stamp": cut.mark,
    }
    if message is None or not headers:
        return Job(
            **common,
            state=state,
            native_state=NATIVE[state],
            summary=printable(cut.raw[:BEGINNING], 200),
            problem=f"{cut.size} bytes that are no Celery message" if cut.whole else too_large("message", cut.size),
        )
    retries = headers.get("retries")
    properties = message.get("properties")
    priority = properties.get("priority") if isinstance(properties, dict) else None
    return Job(
        **common,
        name=words(headers.get("task"), 300),
        state=state,
        native_state=NATIVE[state],
        scheduled_for=when(headers.get("eta")),
        attempts=retries if isinstance(retries, int) else None,
        priority=priority if isinstance(priority, int) else None,
        summary=_summary(headers),
    )


def _summary(headers: Mapping[str, Any]) -> str | None:
    args, kwargs = words(headers.get("argsrepr"), 200), words(headers.get("kwargsrepr"), 200)
    return " ".join(part for part in (args, kwargs) if part not in (None, "()", "{}")) or None


def in_full(job: Job, message: Mapping[str, Any]) -> dict[str, Any]:
    """What a job's page shows of a message beyond its row."""
    headers = headers_of(message)
    return {
        "payload": body(message),
        "options": decoded_payload(
            {name: value for name, value in headers.items() if name not in ("argsrepr", "kwargsrepr")}
        ),
        "parent": _parent(headers),
        "facts": tuple(facts(headers)),
        "timeline": (TimelineEvent(at=job.scheduled_for, event="due", detail=None),) if job.scheduled_for else (),
    }


def body(message: Mapping[str, Any]) -> Payload:
    """The arguments of a message. A pickled body stays as it is: what it was called with is told by its headers."""
    headers = headers_of(message)
    raw = message.get("body")
    if not isinstance(raw, str):
        return Payload(kind="missing", text="")
    shown = _summary(headers) or ""
    if message.get("content-type") != "application/json" or headers.get("compression"):
        return Payload(
            kind="opaque",
            text=shown,
            size_bytes=len(raw),
            note=f"{words(message.get('content-type'), 60)}: not decoded",
        )
    data = _data(message, raw)
    call = call_of(message)
    if call is not None:
        return decoded_payload(call, len(data))
    found = json_payload(data)
    return found if found.kind == "json" else replace(found, note="its body cannot be decoded")


def call_of(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """`args` and `kwargs` of a message, each number as a Number; None where its body is no call in JSON."""
    raw = message.get("body")
    try:
        call = loads(_data(message, raw), exact=True) if isinstance(raw, str) else None
    except ValueError:
        return None
    return {"args": call[0], "kwargs": call[1]} if isinstance(call, list) and len(call) >= 2 else None


def _data(message: Mapping[str, Any], raw: str) -> bytes:
    """The body of a message as it was before it was wrapped: secrets in base64 would be seen by whoever decodes it."""
    plain = raw.encode("utf-8", "replace")
    if not _is_base64(message):
        return plain
    try:
        return base64.b64decode(plain, validate=True)
    except ValueError:
        return plain


def unwrapped(raw: bytes) -> bytes:
    """A message with its body decoded, for a search: in base64 nothing is found and no secret is masked."""
    message = decode(raw)
    body_text = (message or {}).get("body")
    if message is None or not isinstance(body_text, str) or not _is_base64(message):
        return raw
    data = _data(message, body_text)
    try:
        found: Any = loads(data)
    except ValueError:
        found = data.decode("utf-8", "replace")
    return json.dumps({**message, "body": found}).encode("utf-8", "surrogatepass")


def _is_base64(message: Mapping[str, Any]) -> bool:
    properties = message.get("properties")
    return isinstance(properties, dict) and properties.get("body_encoding") == "base64"


def _parent(headers: Mapping[str, Any]) -> JobLink | None:
    parent = headers.get("parent_id")
    return JobLink(id=parent, queue="") if isinstance(parent, str) and parent != headers.get("id") else None


def facts(headers: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """What only Celery tells."""
    for label, name in (("Sent by", "origin"), ("Expires", "expires"), ("Group", "group"), ("Root", "root_id")):
        if (found := words(headers.get(name), 200)) and found != headers.get("id"):
            yield label, found
    if headers.get("redelivered") is True:
        yield "Redelivered", "a worker took it before and did not finish it"


def record_row(ref: QueueRef, task_id: str, state: State, raw: bytes | None, size: int | None = None) -> Job:
    """A result record as a row of a list; None = it has expired. `size` = its length, where `raw` is its beginning."""
    return readable(
        lambda: _record_row(ref, task_id, state, raw, size),
        lambda why: Job(
            id=task_id,
            source=ref.source,
            backend=ref.backend,
            queue=ref.name,
            state=state,
            native_state=NATIVE[state],
            problem=why,
        ),
    )


def _record_row(ref: QueueRef, task_id: str, state: State, raw: bytes | None, size: int | None) -> Job:
    common: dict[str, Any] = {"id": task_id, "source": ref.source, "backend": ref.backend, "state": state}
    if raw is None:
        return Job(**common, queue=ref.name, native_state=NATIVE[state], problem="its record has expired")
    cut = size is not None and size > len(raw)
    record = {} if cut else loads_dict(raw)
    status = record.get("status")
    if not isinstance(status, str):
        return Job(
            **common,
            queue=ref.name,
            native_state=NATIVE[state],
            summary=printable(raw, 200),
            problem=too_large("record", size or 0)
            if cut
            else "its record is no JSON object that Celery wrote; pickled results are not decoded",
        )
    retries = record.get("retries")
    return Job(
        **common,
        queue=words(record.get("queue"), 200) or ref.name,
        stamp=record_stamp(record),
        name=words(record.get("name"), 300),
        native_state=printable(status.encode("utf-8", "replace"), 40),
        finished_at=when(record.get("date_done")),
        attempts=retries + 1 if isinstance(retries, int) else None,
        worker=words(record.get("worker"), 200),
        error=record_error(record),
        summary=None if "name" in record else NO_NAME,
    )


def record_stamp(record: Mapping[str, Any]) -> str | None:
    """What tells one end of a task from the next: when it was written, as the index scores it."""
    done = when(record.get("date_done"))
    return repr(done.timestamp()) if done else None


def record_error(record: Mapping[str, Any], *, with_stack: bool = False) -> JobError | None:
    """Why a task failed; None when it did not."""
    if record.get("status") not in ("FAILURE", "RETRY", "REVOKED"):
        return None
    result = record.get("result")
    result = result if isinstance(result, dict) else {}
    message = result.get("exc_message")
    if isinstance(message, list):
        message = ", ".join(str(part)[:2000] for part in message[:10])
    return JobError(
        class_name=words(result.get("exc_type"), 200),
        message=words(message, 10_000),
        stack=words(record.get("traceback"), 50_000) if with_stack else None,
    )


def stack_of(raw: bytes) -> str | None:
    """The traceback of a result record as it stands in Redis; None when there is none."""
    return words(loads_dict(raw).get("traceback"), 50_000)


def arguments_of(raw: bytes) -> dict[str, Any]:
    """`args` and `kwargs` of a result record, each number as a Number; {} where it has none."""
    try:
        record = loads(raw, exact=True)
    except ValueError:
        return {}
    return {name: record[name] for name in ("args", "kwargs") if name in record} if isinstance(record, dict) else {}


def record_in_full(job: Job, raw: bytes) -> dict[str, Any]:
    """What a job's page shows of a record beyond its row."""
    record = loads_dict(raw)
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
    return {
        "payload": decoded_payload(extended) if extended else Payload(kind="missing", text="", note=NO_NAME),
        "result": decoded_payload(record.get("result")) if record.get("status") == "SUCCESS" else None,
        "progress": None if record.get("status") in OWN_STATUSES else bounded(record.get("result"))[0],
        "error": record_error(record, with_stack=True),
        "children": tuple(links),
        "children_total": len(children) if isinstance(children, list) and children else None,
        "timeline": (TimelineEvent(at=job.finished_at, event="ended", detail=job.native_state),)
        if job.finished_at
        else (),
        "summary": None,
    }
