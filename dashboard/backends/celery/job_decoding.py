"""Decodes Celery messages of protocol 1 and 2 into Jobs. All input is untrusted."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from msgspec.structs import replace

from ...model import Argument, Job, JobLink, Payload, QueueRef, Searched, State, TimelineEvent
from ...redact import without_cut_word
from ..bounded_reads import stamp_of
from ..payloads.arguments import MAX_ARGUMENTS, arguments_in, fields_in
from ..payloads.decoding import DECODE_LIMIT_BYTES, decoded_payload, json_payload, loads, printable, text_or_none
from ..payloads.pickle_display import describe
from ..payloads.pickle_reader import NotAPickle, may_be_pickle
from ..payloads.pickle_reader import read as read_pickle
from ..unreadable_data import decode_or
from .keys import NATIVE, QUEUED_REVOKED
from .routes import MessageRoute

# What the headers of a message mean: see `Backend.option_units` and `option_names`.
OPTION_UNITS: Mapping[str, str] = {"timelimit.0": "s", "timelimit.1": "s", "eta": "iso", "expires": "iso"}
OPTION_NAMES: Mapping[str, str] = {"timelimit.0": "time_limit", "timelimit.1": "soft_time_limit"}

# The prefix of the id of a message that has none; how many bytes are shown of one that is too long to decode.
NAMELESS, BEGINNING = "raw", 1024
# What a protocol 1 message has in its body, and protocol 2 in its headers; and the header that marks the former.
FIRST = ("task", "id", "eta", "expires", "retries", "timelimit")
FIRST_PROTOCOL = "\0protocol 1"


def parse_time(value: Any) -> datetime | None:
    """Return the instant of an ISO time; without an offset, it is UTC. None for anything else."""
    if not isinstance(value, str) or len(value) > 60:
        return None
    try:
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def decode_envelope(raw: bytes) -> dict[str, Any] | None:
    """Return the envelope of a message; None if it is not one.

    For protocol 1, which has everything in the body, `headers` are those that protocol 2 would have; see `is_first`.
    """
    try:
        message = loads(raw)
    except ValueError:
        return None
    return with_headers(message) if isinstance(message, dict) else None


def with_headers(message: dict[str, Any]) -> dict[str, Any]:
    """Return a protocol 1 message with the headers of protocol 2; any other message unchanged."""
    headers = message.get("headers")
    if (isinstance(headers, dict) and "id" in headers) or not isinstance(message.get("body"), str):
        return message
    content = first_body(message)
    if content is None:
        return message
    found = {name: content.get(name) for name in FIRST}
    found |= {"argsrepr": _arguments_text(content.get("args")), "kwargsrepr": _arguments_text(content.get("kwargs"))}
    found["group"] = content.get("taskset")
    return {**message, "headers": {**(headers if isinstance(headers, dict) else {}), **found, FIRST_PROTOCOL: True}}


def first_body(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the body of a protocol 1 message, which names the task and its arguments; None for any other message."""
    raw = message.get("body")
    if not isinstance(raw, str):
        return None
    data = _body_bytes(message, raw)
    try:
        content: Any = loads(data)
    except ValueError:
        content = _read_pickle(data)
    if not isinstance(content, dict):
        return None
    return content if isinstance(content.get("task"), str) and isinstance(content.get("id"), str) else None


def _read_pickle(data: bytes) -> Any:
    if not may_be_pickle(data) or len(data) > DECODE_LIMIT_BYTES:
        return None
    try:
        return describe(read_pickle(data))
    except NotAPickle:
        return None


def is_first(headers: Mapping[str, Any]) -> bool:
    """Whether these headers are those of a protocol 1 message."""
    return headers.get(FIRST_PROTOCOL) is True


def _arguments_text(value: Any) -> str:
    """Return arguments as Celery would write them into a header, cut to what a row needs."""
    written = repr(tuple(value) if isinstance(value, list) else value)
    return written if len(written) <= 1024 else without_cut_word(written[:1024])


def decode_unacked(raw: bytes) -> tuple[dict[str, Any] | None, MessageRoute | None]:
    """Return (envelope, route) of an entry of `unacked`, which is JSON [message, exchange, routing key]."""
    try:
        entry = loads(raw)
    except ValueError:
        return None, None
    if not isinstance(entry, list) or not entry or not isinstance(entry[0], dict):
        return None, None
    route = None
    if len(entry) > 2 and isinstance(entry[2], str):
        route = MessageRoute(entry[1] if isinstance(entry[1], str) else "", entry[2])
    return with_headers(entry[0]), route


def headers_of(message: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the headers of a message; {} if it has none."""
    headers = (message or {}).get("headers")
    return headers if isinstance(headers, dict) else {}


def state_of(headers: Mapping[str, Any]) -> State:
    """Return the state of a message that a worker holds, assuming it is not running."""
    if isinstance(headers.get("eta"), str):
        retries = headers.get("retries")
        return State.RETRYING if isinstance(retries, int) and retries > 0 else State.SCHEDULED
    return State.WAITING


def job_id(mark: str, headers: Mapping[str, Any]) -> str:
    """Return the task id; for a message without one, the digest of its bytes."""
    found = headers.get("id")
    return found if isinstance(found, str) and found.isprintable() and found else mark


def wrapped_forms(written: bytes) -> list[bytes]:
    """Return the fragments that a base64 text contains if it encodes an id, wherever the id begins.

    Fragments of a short id also occur elsewhere. Some JSON writers escape each slash of base64.
    """
    found: list[bytes] = []
    for shift in range(3 if written else 0):
        whole = base64.b64encode(b"\0" * shift + written)
        # The characters at both ends also depend on the bytes next to the id.
        first, last = (8 * shift + 5) // 6, (8 * (shift + len(written))) // 6
        found.append(whole[first:last])
    return [*found, *(form.replace(b"/", b"\\/") for form in found if b"/" in form)]


def nameless_id(raw: bytes) -> str:
    """Return an id for bytes that have none."""
    return f"{NAMELESS}{stamp_of(raw)}"


class BoundedMessage(NamedTuple):
    """A message as far as it was read: whole, or only its beginning; its length, and its digest."""

    raw: bytes
    size: int
    mark: str

    @property
    def is_whole(self) -> bool:
        """Whether `raw` is the whole message."""
        return len(self.raw) == self.size


def cut_of(raw: bytes) -> BoundedMessage:
    """Return a message that was read whole, cut if it is too long to decode."""
    return BoundedMessage(raw if len(raw) <= DECODE_LIMIT_BYTES else raw[:BEGINNING], len(raw), nameless_id(raw))


def too_large(what: str, size: int) -> str:
    """Return the problem text of a row whose message or record is not decoded."""
    return f"too large to decode: its {what} has {size:,} bytes, the limit is {DECODE_LIMIT_BYTES:,}"


def message_row(
    ref: QueueRef,
    queue: str,
    state: State,
    cut: BoundedMessage,
    message: Mapping[str, Any] | None,
    *,
    native: str | None = None,
) -> Job:
    """Return a message as a row of a list; `native` = Celery's name for its state, if not the usual one of `state`."""
    return decode_or(
        lambda: _message_row(ref, queue, state, cut, message, native),
        lambda why: Job(
            id=cut.mark,
            source=ref.source,
            backend=ref.backend,
            queue=queue,
            version=cut.mark,
            state=state,
            native_state=native or NATIVE[state],
            problem=why,
        ),
    )


def _message_row(
    ref: QueueRef, queue: str, state: State, cut: BoundedMessage, message: Mapping[str, Any] | None, native: str | None
) -> Job:
    headers = headers_of(message)
    common: dict[str, Any] = {
        "id": job_id(cut.mark, headers),
        "source": ref.source,
        "backend": ref.backend,
        "queue": queue,
        "version": cut.mark,
    }
    if message is None or not headers:
        return Job(
            **common,
            state=state,
            native_state=native or NATIVE[state],
            summary=printable(cut.raw[:BEGINNING], 200),
            problem=f"not a Celery message ({cut.size:,} bytes)" if cut.is_whole else too_large("message", cut.size),
        )
    retries = headers.get("retries")
    properties = message.get("properties")
    priority = properties.get("priority") if isinstance(properties, dict) else None
    return Job(
        **common,
        name=text_or_none(headers.get("task"), 300),
        state=state,
        native_state=native or NATIVE[state],
        scheduled_for=parse_time(headers.get("eta")),
        attempts=parse_count(retries),
        priority=parse_count(priority),
        summary=_arguments_summary(headers),
    )


def parse_count(value: Any) -> int | None:
    """Return a non-negative integer; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def arguments_in_row(row: Searched) -> tuple[Argument, ...]:
    """Return the arguments in the row of a message, or of a result record that stores them; () if there are none."""
    fields = fields_in(row.text, ("args", "kwargs", "body"))
    body = fields.get("body", "")
    if body.startswith("["):
        parts = [each.text for each in arguments_in(body)][:2]
    else:
        fields = fields_in(body, ("args", "kwargs")) or fields
        parts = [_unquoted(fields.get(name, "")) for name in ("args", "kwargs")]
    found = tuple(each for part in parts if part for each in arguments_in(part))[:MAX_ARGUMENTS]
    # Of a body that is not JSON, the headers describe the arguments, as Python writes them.
    return found or arguments_in(row.job.summary or "")


def _unquoted(value: str) -> str:
    """Return an argument that is stored as text, as releases before 4.4 do, without its quotes."""
    if not value.startswith('"'):
        return "" if value == "null" else value
    try:
        return str(json.loads(value))
    except ValueError:
        return ""


def _arguments_summary(headers: Mapping[str, Any]) -> str | None:
    args, kwargs = text_or_none(headers.get("argsrepr"), 200), text_or_none(headers.get("kwargsrepr"), 200)
    return " ".join(part for part in (args, kwargs) if part not in (None, "()", "{}")) or None


def in_full(job: Job, message: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a job's page shows of a message beyond its row."""
    headers = headers_of(message)
    return {
        "payload": body_payload(message),
        "options": decoded_payload(
            {name: value for name, value in headers.items() if name not in ("argsrepr", "kwargsrepr", FIRST_PROTOCOL)}
        ),
        "parent": _parent_link(headers),
        "facts": tuple(list_facts(headers)),
        "timeline": (TimelineEvent(at=job.scheduled_for, event="due", detail=None),) if job.scheduled_for else (),
    }


def body_payload(message: Mapping[str, Any]) -> Payload:
    """Return the arguments of a message. A pickled body is not decoded; its headers show the arguments."""
    headers = headers_of(message)
    raw = message.get("body")
    if not isinstance(raw, str):
        return Payload(kind="missing", text="")
    shown = _arguments_summary(headers) or ""
    if is_first(headers) and message.get("content-type") != "application/json":
        content = first_body(message) or {}
        call: dict[str, Any] = {"args": content.get("args"), "kwargs": content.get("kwargs")}
        return replace(decoded_payload(call), note="unpickled safely; objects shown as class names")
    if message.get("content-type") != "application/json" or headers.get("compression"):
        return Payload(
            kind="opaque",
            text=shown,
            size_bytes=len(raw),
            note=f"{text_or_none(message.get('content-type'), 60)}: not decoded",
        )
    data = _body_bytes(message, raw)
    found_call = call_of(message)
    if found_call is not None:
        return decoded_payload(found_call, len(data))
    found = json_payload(data)
    return found if found.kind == "json" else replace(found, note="its body cannot be decoded")


def call_of(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return `args` and `kwargs` of a message, with each number as a Number; None if its body is not a JSON call."""
    raw = message.get("body")
    try:
        call = loads(_body_bytes(message, raw), exact=True) if isinstance(raw, str) else None
    except ValueError:
        return None
    if isinstance(call, dict):
        return {"args": call.get("args") or [], "kwargs": call.get("kwargs") or {}} if "task" in call else None
    return {"args": call[0], "kwargs": call[1]} if isinstance(call, list) and len(call) >= 2 else None


def _body_bytes(message: Mapping[str, Any], raw: str) -> bytes:
    """Return the body of a message, decoded from base64: secrets can only be masked in decoded text."""
    plain = raw.encode("utf-8", "replace")
    if not _is_base64(message):
        return plain
    try:
        return base64.b64decode(plain, validate=True)
    except ValueError:
        return plain


def with_decoded_body(raw: bytes) -> bytes:
    """Return a message with its body decoded, for searches: in base64, nothing is found and no secret is masked.

    A body that the job's page does not show is left out: in a pickle, no secret is recognized.
    """
    try:
        message: Any = loads(raw)
    except ValueError:
        message = None
    message = message if isinstance(message, dict) else None
    body_text = (message or {}).get("body")
    if message is None or not isinstance(body_text, str):
        return raw
    if message.get("content-type") != "application/json" or headers_of(message).get("compression"):
        return _with_body(message, first_body(message))
    if not _is_base64(message):
        return raw
    data = _body_bytes(message, body_text)
    try:
        found: Any = loads(data)
    except ValueError:
        found = data.decode("utf-8", "replace")
    return _with_body(message, found)


def _with_body(message: Mapping[str, Any], body: Any) -> bytes:
    return json.dumps({**message, "body": body}).encode("utf-8", "surrogatepass")


def _is_base64(message: Mapping[str, Any]) -> bool:
    properties = message.get("properties")
    return isinstance(properties, dict) and properties.get("body_encoding") == "base64"


def _parent_link(headers: Mapping[str, Any]) -> JobLink | None:
    parent = headers.get("parent_id")
    return JobLink(id=parent, queue="") if isinstance(parent, str) and parent != headers.get("id") else None


def list_facts(headers: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Return facts that only Celery has."""
    for label, name in (("Sent by", "origin"), ("Expires", "expires"), ("Group", "group"), ("Root", "root_id")):
        if (found := text_or_none(headers.get(name), 200)) and found != headers.get("id"):
            yield label, found
    if is_first(headers):
        yield "Protocol", "1"
    if headers.get("redelivered") is True:
        yield "Redelivered", "a worker picked it up earlier and did not finish it"


def as_revoked(job: Job) -> Job:
    """Return a waiting job marked as revoked: workers will discard it."""
    return replace(job, native_state=QUEUED_REVOKED)
