"""Decoding of payloads into Jobs. A payload is JSON that any client can write, so it is untrusted input."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from ...clock import EPOCH, instant
from ...model import Job, JobError, Payload, QueueRef, State, TimelineEvent
from ...sources.source import text
from ..bounded_reads import stamp_of
from ..payloads.decoding import (
    DECODE_LIMIT_BYTES,
    decoded_payload,
    finite,
    json_payload,
    loads,
    printable,
    text_or_none,
)
from ..payloads.masking import mask_payload
from ..payloads.nesting import is_too_deep
from ..payloads.search_text import of_json, of_value

# The most bytes that a backtrace may have after decompression.
BACKTRACE_LIMIT_BYTES = 512 * 1024
# Retries of a job with `retry: true`. The app can configure another number, but Redis does not hold it.
DEFAULT_RETRIES = 25
# Times above this are milliseconds: Sidekiq 8 writes whole milliseconds, older releases seconds with a fraction.
MILLISECONDS = 1e11
LONGEST_TIME = 64
# Replaces an encrypted argument, as on Sidekiq's own pages: `lib/sidekiq/api.rb` (display_args).
ENCRYPTED = "[encrypted data]"


class _Jid(msgspec.Struct):
    jid: Any = None


_JID = msgspec.json.Decoder(_Jid)


def parse_time(value: Any) -> datetime | None:
    """The instant of a time in a payload; None if it cannot be parsed.

    Accepts seconds or milliseconds, as a number or text, and times as Ruby prints them (`2026-11-23 10:00:00 UTC`,
    ISO 8601).
    """
    if isinstance(value, str):
        return _written_moment(value)
    number = finite(value)
    if number is None or number <= 0:
        return None
    return instant(number / 1000 if number > MILLISECONDS else number)


def _written_moment(value: str) -> datetime | None:
    if len(value) > LONGEST_TIME:
        return None
    try:
        return parse_time(float(value))
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(value.strip().replace(" UTC", "+00:00").replace(" +", "+").replace(" -", "-"))
        found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return found if found > EPOCH else None


def enqueued_at(payload: Mapping[str, Any]) -> datetime | None:
    """When a job was enqueued; when it was created if it is not enqueued yet."""
    at = payload.get("enqueued_at")
    return parse_time(payload.get("created_at") if at is None else at)


def decode_payload(raw: bytes) -> dict[str, Any] | None:
    """The payload; None if it is not a JSON object, which can happen in the dead set."""
    try:
        value = loads(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def job_id(payload: Mapping[str, Any] | None, version: str, score: bytes | None) -> str:
    """The id of an entry: its jid; in a set `<score>-<jid>`, as on Sidekiq's own pages.

    An entry without a jid is identified by its stamp.
    """
    jid = (payload or {}).get("jid")
    name = jid if isinstance(jid, str) and jid.isascii() and jid else f"raw{version}"
    return f"{text(score)}-{name}" if score is not None else name


def jid_of(raw: bytes) -> Mapping[str, Any] | None:
    """As `decode_payload`, but only the jid, however long the rest is; None if it is not a JSON object."""
    if is_too_deep(raw):
        return None
    try:
        return {"jid": _JID.decode(raw).jid}
    except (ValueError, msgspec.MsgspecError):
        return decode_payload(raw)  # which also accepts half a surrogate pair


def job_row(
    ref: QueueRef, state: State, native: str, raw: bytes, size: int, score: bytes | None, version: bytes | None = None
) -> Job:
    """An entry as a row of a list. `version`: as the server computed it, if `raw` was cut."""
    payload = decode_payload(raw)
    known = text(version) if version is not None else stamp_of(raw)
    common: dict[str, Any] = {
        "id": job_id(payload, known, score),
        "version": known,
        "source": ref.source,
        "backend": ref.backend,
    }
    at = parse_time(_parse_number(score))
    if payload is None:
        return Job(
            **common,
            queue=ref.name,
            state=state,
            native_state=native,
            summary=printable(raw, 200),
            finished_at=at if state is State.DEAD else None,
            scheduled_for=at if state in (State.SCHEDULED, State.RETRYING) else None,
            problem=f"not a readable job: {size} bytes that are not a JSON object",
        )
    return Job(
        **common,
        queue=text_or_none(payload.get("queue"), 200) or ref.name,
        name=job_name(payload),
        state=state,
        native_state=native,
        enqueued_at=enqueued_at(payload),
        scheduled_for=at if state in (State.SCHEDULED, State.RETRYING) else None,
        finished_at=at if state is State.DEAD else None,
        attempts=_count_attempts(payload),
        max_attempts=_max_attempts(payload),
        summary=arguments_text(payload),
        error=parse_error(payload),
        problem=None if isinstance(payload.get("jid"), str) else "no jid: not created by a Sidekiq client",
    )


def without_data(
    ref: QueueRef, state: State, native: str, raw: bytes, score: bytes | None, version: bytes | None, problem: str
) -> Job:
    """An entry as a row that holds only its address and the `problem`."""
    known = text(version) if version is not None else stamp_of(raw)
    return Job(
        id=job_id(jid_of(raw), known, score),
        version=known,
        source=ref.source,
        backend=ref.backend,
        queue=ref.name,
        state=state,
        native_state=native,
        problem=problem,
    )


def job_name(payload: Mapping[str, Any]) -> str | None:
    """The class of the job; for Active Job the class behind the wrapper."""
    for name in ("display_class", "wrapped", "class"):
        if found := text_or_none(payload.get(name), 300):
            return found
    return None


def arguments_text(payload: Mapping[str, Any], limit: int = 300) -> str | None:
    """The arguments in one line, masked; those of Active Job without its envelope. None if they were not read."""
    found = arguments_of(payload)
    if found is None:
        return None
    shown, _ = mask_payload(found)
    return printable(json.dumps(shown, ensure_ascii=False)[1:-1].encode("utf-8", "replace"), limit) or None


def arguments_of(payload: Mapping[str, Any]) -> list[Any] | None:
    """The arguments; those of Active Job without its envelope, ENCRYPTED in place of an encrypted one. None if there
    are none.
    """
    found = payload.get("args")
    if not isinstance(found, list):
        return None
    envelope = envelope_of(payload)
    if envelope is not None:
        return list(envelope["arguments"])
    return [*found[:-1], ENCRYPTED] if found and is_encrypted(payload) else found


def is_encrypted(payload: Mapping[str, Any]) -> bool:
    """Whether Sidekiq Enterprise encrypted the last argument."""
    return payload.get("encrypt") not in (None, False)


def searched_text(raw: bytes) -> str:
    """The searchable text of a payload, without encrypted parts."""
    payload = decode_payload(raw) if b'"encrypt"' in raw else None
    if payload is None or not is_encrypted(payload):
        return of_json(raw)
    return of_value(mask_payload({**payload, "args": arguments_of(payload)})[0])


def envelope_of(payload: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The envelope in which Active Job wraps a job; None for other jobs."""
    found = payload.get("args")
    first = found[0] if isinstance(found, list) and found else None
    if "wrapped" in payload and isinstance(first, dict) and isinstance(first.get("arguments"), list):
        return first
    return None


def parse_error(payload: Mapping[str, Any], *, with_stack: bool = False) -> JobError | None:
    """The latest failure; None if the job never failed."""
    class_name, message = (
        text_or_none(payload.get("error_class"), 300),
        text_or_none(payload.get("error_message"), 10_000),
    )
    if class_name is None and message is None:
        return None
    return JobError(class_name=class_name, message=message, stack=backtrace_text(payload) if with_stack else None)


def backtrace_text(payload: Mapping[str, Any]) -> str | None:
    """The lines of the backtrace, which Sidekiq stores only for jobs that enable it; None if missing or unreadable."""
    packed = payload.get("error_backtrace")
    lines: Any = packed
    if isinstance(packed, list):
        pass
    elif isinstance(packed, str):
        try:
            unpacker = zlib.decompressobj()
            plain = unpacker.decompress(base64.b64decode(packed), BACKTRACE_LIMIT_BYTES)
            lines = loads(plain[:DECODE_LIMIT_BYTES])
        except (ValueError, zlib.error):
            return None
    else:
        return None
    if not isinstance(lines, list):
        return None
    return "\n".join(printable(line.encode("utf-8", "replace"), 2000) for line in lines[:500] if isinstance(line, str))


def stack_of(raw: bytes) -> str | None:
    """The backtrace of a payload as stored in Redis; None if there is none."""
    payload = decode_payload(raw) if b'"error_backtrace"' in raw else None
    return backtrace_text(payload) if payload else None


def payload_of(payload: Mapping[str, Any] | None, raw: bytes, size: int) -> Payload:
    """The arguments of the job, or the entry as stored if it has none."""
    if payload is None or arguments_of(payload) is None:
        return json_payload(raw, size)
    return decoded_payload(arguments_of(loads(raw, exact=True)), size)


def build_timeline(payload: Mapping[str, Any], state: State | None, at: datetime | None) -> tuple[TimelineEvent, ...]:
    """The events that the payload records, oldest first."""
    detail = text_or_none(payload.get("error_message"), 200)
    known = [
        (parse_time(payload.get("created_at")), "created", None),
        (parse_time(payload.get("enqueued_at")), "enqueued", None),
        (parse_time(payload.get("failed_at")), "failed first", detail if "retried_at" not in payload else None),
        (parse_time(payload.get("retried_at")), "failed again", detail),
    ]
    if at is not None and state is not None:
        word = {State.DEAD: "died", State.RETRYING: "next try", State.SCHEDULED: "due", State.ACTIVE: "started"}.get(
            state
        )
        if word:
            known.append((at, word, None))
    events = [TimelineEvent(at=when, event=event, detail=text_) for when, event, text_ in known if when is not None]
    return tuple(sorted(events, key=lambda event: event.at))


def list_facts(payload: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """The facts that only Sidekiq has."""
    for label, name in (("Retry queue", "retry_queue"), ("Class in Redis", "class")):
        if (found := text_or_none(payload.get(name), 200)) and found != job_name(payload):
            yield label, found
    if payload.get("retry") is False:
        yield "Retries", "none; the job is discarded when it fails"
    if payload.get("dead") is False:
        yield "After the last retry", "discarded instead of moved to the dead set"
    if isinstance(tags := payload.get("tags"), list) and tags:
        yield "Tags", ", ".join(text_or_none(tag, 50) or "?" for tag in tags[:20])
    yield from _progress_facts(payload)


def _progress_facts(payload: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """The progress of an interrupted job of Active Job, from which a retry continues.

    Source: rails `active_job/continuation.rb` (to_h), job-iteration `lib/job-iteration/iteration.rb` (serialize).
    """
    envelope = envelope_of(payload) or {}
    continuation = envelope.get("continuation")
    steps = continuation if isinstance(continuation, dict) else {}
    if isinstance(done := steps.get("completed"), list) and done:
        yield "Completed steps", ", ".join(_brief_text(step) for step in done[:50])
    current = steps.get("current")
    if isinstance(current, list) and current:
        cursor = f", cursor {_brief_text(current[1])}" if len(current) > 1 and current[1] is not None else ""
        yield "Current step", _brief_text(current[0]) + cursor
    if envelope.get("cursor_position") is not None:
        yield "Cursor", _brief_text(envelope["cursor_position"])
    for label, name in (("Resumptions", "resumptions"), ("Interruptions", "times_interrupted")):
        if isinstance(times := envelope.get(name), int) and not isinstance(times, bool) and times > 0:
            yield label, _brief_text(times)


def _brief_text(value: Any) -> str:
    """A value of the payload in one line, masked."""
    shown, _ = mask_payload(value)
    line = shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)
    return printable(line.encode("utf-8", "replace"), 200)


def _count_attempts(payload: Mapping[str, Any]) -> int | None:
    """Failed attempts: Sidekiq counts from the first failure on. None if a failure is recorded without its number."""
    count = payload.get("retry_count")
    if count is None:
        failed = any(payload.get(name) is not None for name in ("error_class", "error_message", "failed_at"))
        return None if failed or "class" not in payload else 0
    return count + 1 if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None


def _max_attempts(payload: Mapping[str, Any]) -> int | None:
    """The most attempts of a job. Sidekiq uses its default for anything that is not an integer."""
    retry = payload.get("retry")
    if retry is None:
        return None
    if retry is False:
        return 1
    return max(1, retry + 1) if isinstance(retry, int) and retry is not True else DEFAULT_RETRIES + 1


def _parse_number(score: bytes | None) -> float | None:
    try:
        return float(score) if score is not None else None
    except ValueError:
        return None
