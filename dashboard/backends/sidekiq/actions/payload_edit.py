"""New payloads built from old ones: only the fields that an action concerns change; the rest stays byte for byte.

Other values are never decoded, so floats, big integers, escapes and the order of keys survive.
Source: sidekiq `lib/sidekiq/api.rb` (SortedEntry#retry), `client.rb` (push), `job_util.rb` (validate, normalize_item).
"""

from __future__ import annotations

import secrets
import uuid
from typing import Any, NamedTuple

import msgspec

from ....clock import instant, iso
from ...payloads.decoding import loads, written
from ...payloads.editing import InvalidPayload, decoded_edit, with_originals
from ...payloads.nesting import is_too_deep
from ..job_decoding import arguments_of

Fields = dict[str, msgspec.Raw]

_FIELDS = msgspec.json.Decoder(Fields)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
# The fields of a payload about failures; a new job has none.
FAILURES = ("retry_count", "failed_at", "retried_at", "discarded_at", "error_class", "error_message", "error_backtrace")
# Without these fields the next failure counts as the first one.
ATTEMPTS = ("retry_count", "failed_at", "retried_at")
# Fields that belong to the old job alone. A batch counts its jobs by id: an unknown id would end it early. The
# middleware that uses locks and digests computes them from the arguments: an old one would release or take the lock of
# another job. An expiry belongs to the old push, and a scheduled time has passed. The counts of interruptions
# (super_fetch, reliable fetch) and of exceeded limits (Enterprise) end a job when they get too high; a new job starts
# at zero.
# Source: sidekiq-unique-jobs `lib/sidekiq_unique_jobs/job.rb` (prepare, add_digest).
OF_THE_OLD_JOB = (
    *FAILURES,
    *("at", "interrupted_count", "overrated"),
    *("bid", "expiry", "unique_token", "lock_digest", "lock_args", "unique_digest", "unique_args"),
)
# The progress that Active Job stores in its envelope; a new job begins at the first step. Source: rails
# `active_job/continuable.rb` (serialize), job-iteration `lib/job-iteration/iteration.rb` (serialize).
PROGRESS = ("continuation", "resumptions", "cursor_position", "times_interrupted", "total_time", "scheduled_at")
DEFAULT_QUEUE = "default"


class MalformedEntry(ValueError):
    """The entry is not a job that Sidekiq would push; the text says why."""


class PushedJob(NamedTuple):
    """A job to push: its queue, its payload and its id."""

    queue: str
    payload: bytes
    jid: str


def push_again(raw: bytes, now: float, *, counted_back: bool, reset: bool = False) -> PushedJob:
    """The job that Sidekiq itself would push for an entry of a set at `now`, in seconds since 1970.

    `counted_back`: like a manual retry, which does not count as an attempt. `reset`: earlier attempts do not count.
    Raises MalformedEntry.
    """
    fields = _checked_fields(raw)
    if reset:
        for name in ATTEMPTS:
            fields.pop(name, None)
    elif counted_back and (count := _decode_integer(fields.get("retry_count"))) is not None:
        fields["retry_count"] = _encode_raw(count - 1)
    return _build_push(fields, _ensure_queue(fields), now)


def move_payload(raw: bytes, queue: str) -> PushedJob:
    """The job moved to another queue, with its enqueue time unchanged. Raises MalformedEntry."""
    fields = _checked_fields(raw)
    fields["queue"] = _encode_raw(queue)
    return PushedJob(queue, msgspec.json.encode(fields), _ensure_jid(fields))


def copy_payload(raw: bytes, now: float) -> PushedJob:
    """A new job with the same class and arguments. Raises MalformedEntry."""
    return _new_push(_checked_fields(raw), now, None)


def edit_payload(raw: bytes, now: float, arguments: list[Any]) -> PushedJob:
    """A new job with other `arguments`; masked values in them are taken from the old ones.

    Raises MalformedEntry, InvalidPayload.
    """
    fields = _checked_fields(raw)
    if "encrypt" in fields and bytes(fields["encrypt"]) not in (b"false", b"null"):
        raise MalformedEntry("the last argument is encrypted; only the app can write it")
    try:
        # Decoded as for the page, which decodes no more of an entry.
        payload = loads(raw, exact=True)
    except ValueError:
        payload = {}
    return _new_push(fields, now, with_originals(arguments, arguments_of(payload), "arguments"))


def _new_push(fields: Fields, now: float, arguments: list[Any] | None) -> PushedJob:
    for name in OF_THE_OLD_JOB:
        fields.pop(name, None)
    fields["args"] = _new_arguments(fields, None if arguments is None else written(arguments).encode("utf-8"), now)
    fields["jid"] = _encode_raw(secrets.token_hex(12))
    if "created_at" in fields:
        fields["created_at"] = _as_known(fields, now)
    return _build_push(fields, _ensure_queue(fields), now)


def of_message(message: bytes, queue: str, now: float) -> PushedJob:
    """The job for one run of a schedule, from the message stored with the schedule. Raises MalformedEntry.

    Times are seconds with a fraction, which every version reads correctly.
    """
    fields = _checked_fields(message)
    fields.setdefault("queue", _encode_raw(queue))
    fields["jid"] = _encode_raw(secrets.token_hex(12))
    fields["created_at"] = _encode_raw(now)
    return _build_push(fields, _ensure_queue(fields), now)


def written_arguments(text: str) -> list[Any]:
    """The arguments that a user entered as a JSON array. Raises InvalidPayload, which says what is wrong."""
    found = decoded_edit(text)
    if not isinstance(found, list):
        raise InvalidPayload("The arguments must be a JSON array.")
    return found


def decode_fields(raw: bytes) -> Fields:
    """The fields of an entry, with their values undecoded. Raises MalformedEntry unless it is a UTF-8 JSON object."""
    try:
        if not raw.isascii():
            raw.decode("utf-8")
        return _parse_fields(raw)
    except (ValueError, msgspec.DecodeError):
        raise MalformedEntry("the entry is not a readable job and can only be deleted") from None


def _parse_fields(raw: bytes) -> Fields:
    """The fields of a JSON object; they are re-encoded if it has half a surrogate pair, which JSON can spell."""
    if is_too_deep(raw):
        raise ValueError("nested too deeply")
    try:
        return _FIELDS.decode(raw)
    except msgspec.DecodeError:
        found = loads(raw, exact=True, limit=len(raw))
        if not isinstance(found, dict):
            raise
    for name in found:
        name.encode("utf-8")  # raises for half a surrogate pair, which cannot be written in a name
    return {name: _encode_value(value) for name, value in found.items()}


def _parse_members(raw: bytes) -> list[msgspec.Raw]:
    """The members of a JSON array, as `_parse_fields`."""
    try:
        return _LIST.decode(raw)
    except msgspec.DecodeError:
        found = loads(raw, exact=True, limit=len(raw))
        if not isinstance(found, list):
            raise
    return [_encode_value(value) for value in found]


def _encode_value(value: Any) -> msgspec.Raw:
    return msgspec.Raw(written(value, compact=True).encode("utf-8"))


def _checked_fields(raw: bytes) -> Fields:
    """As `decode_fields`; raises MalformedEntry also for entries that Sidekiq's client would reject."""
    fields = decode_fields(raw)
    if not _decode_text(fields.get("class")):
        raise MalformedEntry("the job has no class, so no worker can run it; it can only be deleted")
    if not bytes(fields.get("args") or b"").startswith(b"["):
        raise MalformedEntry("the arguments are not an array, so no worker can run the job; it can only be deleted")
    return fields


def _ensure_queue(fields: Fields) -> str:
    if "queue" not in fields:
        fields["queue"] = _encode_raw(DEFAULT_QUEUE)
        return DEFAULT_QUEUE
    queue = _decode_text(fields["queue"])
    if not queue:
        raise MalformedEntry("the queue name of the job is not a string")
    return queue


def _build_push(fields: Fields, queue: str, now: float) -> PushedJob:
    jid = _ensure_jid(fields)
    fields["enqueued_at"] = _as_known(fields, now)
    return PushedJob(queue, msgspec.json.encode(fields), jid)


def _ensure_jid(fields: Fields) -> str:
    jid = _decode_text(fields.get("jid"))
    if not jid:
        jid = secrets.token_hex(12)
        fields["jid"] = _encode_raw(jid)
    return jid


def _as_known(fields: Fields, now: float) -> msgspec.Raw:
    """Now, in the format of the release that wrote the payload: whole milliseconds in 8, fractional seconds before."""
    known = fields.get("created_at", fields.get("enqueued_at"))
    return _encode_raw(int(now * 1000) if _decode_integer(known) is not None else now)


def _new_arguments(fields: Fields, arguments: bytes | None, now: float) -> msgspec.Raw:
    """The arguments of a new job; those of Active Job in their envelope, with a new job id."""
    old = fields["args"]
    try:
        first, *more = _parse_members(bytes(old))
        envelope = _parse_fields(bytes(first))
    except (ValueError, msgspec.DecodeError):
        envelope, more = {}, []
    if "wrapped" not in fields or "arguments" not in envelope:
        return msgspec.Raw(arguments) if arguments is not None else old
    if arguments is not None:
        envelope["arguments"] = msgspec.Raw(arguments)
    anew: dict[str, Any] = {
        "job_id": str(uuid.uuid4()),
        "provider_job_id": None,
        "executions": 0,
        "exception_executions": {},
    }
    if _decode_text(envelope.get("enqueued_at")):
        anew["enqueued_at"] = iso(instant(now))
    for name, value in anew.items():
        if name in envelope:
            envelope[name] = _encode_raw(value)
    for name in PROGRESS:
        envelope.pop(name, None)
    return msgspec.Raw(msgspec.json.encode([envelope, *more]))


def _decode_text(raw: msgspec.Raw | None) -> str | None:
    try:
        return msgspec.json.decode(raw, type=str) if raw is not None else None
    except (ValueError, msgspec.DecodeError):
        return None


def _decode_integer(raw: msgspec.Raw | None) -> int | None:
    digits = bytes(raw or b"").removeprefix(b"-")
    return int(bytes(raw or b"")) if digits.isdigit() and len(digits) < 19 else None


def _encode_raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
