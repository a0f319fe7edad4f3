"""Decodes RQ's stored values: times, call descriptions, tracebacks, and serialized values without unpickling them."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import zlib
from datetime import UTC, datetime
from typing import Any

from ...model import JobError, Payload
from ...sources.source import text
from ...units import format_size
from ..payloads.decoding import DECODE_LIMIT_BYTES, json_payload, loads, printable
from ..payloads.masking import mask_payload
from ..payloads.pickle_display import described
from ..payloads.pickle_reader import NotAPickle, may_be_pickle, read

STACK_LIMIT = 64 * 1024
DESCRIPTION_LIMIT = 10_000
_CALL = re.compile(r"([A-Za-z_][\w.<>]{0,299})\((.*)\)\s*\Z", re.DOTALL)
# The line of a traceback that names the exception; the message can continue on further lines.
_RAISED = re.compile(r"([A-Za-z_][\w.]{0,199})(?:: ?(.*))?\Z", re.DOTALL)
_ABANDONED = re.compile(r"due to (\w{1,100})")
_TRACEBACK = "Traceback (most recent call last):"


def parse_time(value: str | None) -> datetime | None:
    """Return the instant in one of RQ's time fields (ISO 8601, UTC); None for anything else."""
    if not value or len(value) > 40:
        return None
    try:
        at = datetime.fromisoformat(value)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def parse_integer(value: str | None) -> int | None:
    """Return the integer in a field; None for anything else."""
    try:
        return int(value) if value and len(value) <= 20 else None
    except ValueError:
        return None


def number_of(raw: Any) -> float | None:
    """Return the finite number above 0 in a short text; None for anything else."""
    try:
        found = float(raw) if isinstance(raw, bytes) and 0 < len(raw) <= 40 else 0.0
    except ValueError:
        return None
    return found if math.isfinite(found) and found > 0 else None


def call_parts(description: str | None) -> tuple[str | None, str | None]:
    """Return (function, arguments) of a description in RQ's format; (the text, None) if the app set its own."""
    if not description:
        return None, None
    found = _CALL.match(description)
    if found is None:
        return printable(description, 300), None
    return printable(found[1], 300), printable(found[2], 1000)


def inflate_bytes(raw: bytes, limit: int = DECODE_LIMIT_BYTES) -> tuple[bytes, bool]:
    """Return (the first `limit` bytes of `raw`, decompressed if it is compressed, whether there is more)."""
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(raw, limit)
    except zlib.error:
        return raw[:limit], len(raw) > limit
    return found, bool(unpacker.unconsumed_tail) or (len(found) == limit and not unpacker.eof)


def decode_base64(raw: bytes | None) -> bytes:
    """Return the bytes of base64 text; b"" if it is invalid."""
    try:
        return base64.b64decode(raw or b"", validate=True)
    except (binascii.Error, ValueError):
        return b""


def parse_failure(raw: bytes) -> JobError | None:
    """Return the error in a zlib-compressed traceback or message; None if it is empty."""
    found, cut = inflate_bytes(raw, STACK_LIMIT)
    whole = text(found).strip()
    if not whole:
        return None
    lines = whole[whole.rfind(_TRACEBACK) :].split("\n") if _TRACEBACK in whole else [whole]
    start = next((index for index, line in enumerate(lines) if index and line and not line[0].isspace()), None)
    if _TRACEBACK in whole and start is not None:
        raised = _RAISED.match("\n".join(lines[start:]))
        name, message = (raised[1], raised[2] or "") if raised else (None, lines[start])
    else:
        abandoned = _ABANDONED.search(whole[:1000])
        name, message = (abandoned[1] if abandoned else None), whole.split("\n", 1)[0]
    return JobError(
        class_name=printable(name, 200) if name else None,
        message=printable(message, 2000),
        stack=printable(whole, STACK_LIMIT, cut=cut) + ("\n… (the rest was not read)" if cut else ""),
    )


def serialized_payload(raw: bytes | None, too_large: int | None = None) -> Payload:
    """Return the Payload of a serialized value, compressed or not; `too_large` = its bytes if it was not read."""
    if too_large is not None:
        note = f"too long to show; the limit is {format_size(DECODE_LIMIT_BYTES)}"
        return Payload(kind="opaque", text="", size_bytes=too_large, truncated=True, note=note)
    if raw is None:
        return Payload(kind="missing", text="")
    found, cut = inflate_bytes(raw)
    if cut:
        note = f"too long to show: more than {format_size(DECODE_LIMIT_BYTES)} when decompressed"
        return Payload(kind="opaque", text="", size_bytes=len(raw), truncated=True, note=note)
    if not may_be_pickle(found):
        return json_payload(found, None)
    try:
        value, cut = described(read(found))
        return _plain_payload(value, len(raw), cut=cut)
    except NotAPickle as exc:
        if not found.startswith(b"\x80"):
            return json_payload(found, None)  # text that looks like one of the older pickle protocols
        note = f"pickled; cannot be shown without running it: {exc}"
        return Payload(kind="opaque", text="", size_bytes=len(raw), note=note)


def call_payload(raw: bytes | None, too_large: int | None, description: str | None) -> tuple[str | None, Payload]:
    """Return (the function's name, the Payload of a job's `data`), whose value has `function`, `args` and `kwargs`.

    If the data cannot be shown, the text is the job's own description.
    """
    payload = serialized_payload(raw, too_large)
    value = payload.value
    if payload.kind == "json" and isinstance(value, list) and len(value) == 4:
        name = value[0] if isinstance(value[0], str) else None
        parts = {"function": value[0], "instance": value[1], "args": value[2], "kwargs": value[3]}
        if value[1] is None:
            del parts["instance"]
        return name, Payload(
            kind="json",
            value=parts,
            text=_json_text(parts),
            size_bytes=payload.size_bytes,
            truncated=payload.truncated,
            note=payload.note,
        )
    if payload.kind == "opaque" and description:
        shown = printable(description, DESCRIPTION_LIMIT)
        # RQ itself shortens each argument in it: rq 3.0, utils.py, truncate_long_string.
        cut = payload.truncated or len(description) > DESCRIPTION_LIMIT or "..." in description
        return None, Payload(kind="opaque", text=shown, size_bytes=payload.size_bytes, truncated=cut, note=payload.note)
    return None, payload


def json_text(raw: str | None) -> Any:
    """Return the value of a field that RQ stores as JSON; None for anything else."""
    if raw is None:
        return None
    try:
        return loads(raw.encode("utf-8", "surrogateescape"))
    except ValueError:
        return None


def _plain_payload(value: Any, size: int, *, cut: bool) -> Payload:
    value, more = mask_payload(value)
    cut = cut or more
    return Payload(
        kind="json",
        value=value,
        text=_json_text(value),
        size_bytes=size,
        truncated=cut,
        note="unpickled safely; objects shown as class names"
        + ("; parts nested too deeply or too long to show are cut" if cut else ""),
    )


def _json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)
