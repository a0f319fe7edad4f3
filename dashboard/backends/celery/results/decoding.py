"""Decodes result records of any size and serializer, without running any code in them.

Celery writes a record with the app's `result_serializer`: JSON (the default), pickle, YAML or MessagePack; since 5.7
it is compressed if the app asks for that. If a record is too long to be read whole, its beginning and its end are read:
the status is at the beginning, and what `result_extended` adds is at the end.
"""

from __future__ import annotations

import bz2
import json
import lzma
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from ....sources.source import text
from ...payloads.decoding import DECODE_LIMIT_BYTES, loads
from ...payloads.nesting import shallow_part
from ...payloads.pickle_display import describe
from ...payloads.pickle_reader import NotAPickle, PickledMapping, PickledObject, PickledSequence, read, read_beginning

# How much of the end of a long record is read.
TAIL_BYTES: Final = 8192
# How many positions in the end of a long JSON record are tried as the start of its last fields.
MAX_STARTS = 40
# Opcodes of a pickle that contain its status, and usually its date; a short pickle is read completely.
FIRST_OPCODES, SHORT_BYTES = 120, 4096
_COMPRESSED = b"\x00celery-compressed\x00"
_LZMA_MEMORY_BYTES = 64 * 1024 * 1024
_MAX_STATUS = 60
_FIELD = re.compile(
    r', "(?:traceback|children|date_done|group_id|parent_id|name|args|kwargs|worker|retries|queue|task_id)": '
)
_YAML_FIELD = re.compile(r"(status|date_done|queue|name|worker|retries|task_id|group_id|parent_id|traceback): ?(.*)")
_YAML_ERROR = re.compile(r"  (exc_type|exc_module|exc_message): ?(.*)")
_decoder = json.JSONDecoder()
_unpacker = msgspec.msgpack.Decoder()


class RawRecord(NamedTuple):
    """A record as far as it was read: its beginning; its end, if that was read too; its full length."""

    head: bytes
    tail: bytes = b""
    size: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether `head` is the whole record."""
        return len(self.head) >= self.size


class DecodedRecord(NamedTuple):
    """The fields of a record, by Celery's own names; `encoding` None = the format is unknown.

    `whole` False: fields are missing.
    """

    fields: Mapping[str, Any]
    encoding: str | None
    whole: bool = True

    @property
    def status(self) -> str | None:
        """Celery's status of the task; None if it is unknown."""
        found = self.fields.get("status")
        return found if isinstance(found, str) and 0 < len(found) <= _MAX_STATUS else None


def as_raw_record(raw: bytes) -> RawRecord:
    """Return a record that was read whole, or its beginning if its length is unknown."""
    return RawRecord(raw, b"", len(raw))


def decode_record(raw: RawRecord) -> DecodedRecord:
    """Return everything readable in a record. Raises nothing. Cost: linear in what was read of it."""
    raw = _inflate_record(raw)
    head = raw.head
    if head.startswith(b"{"):
        return _decode_json(raw)
    if _is_pickle(raw):
        return _decode_pickle(raw)
    if head[:1] and (0x81 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF)):
        return _decode_msgpack(raw)
    fields = _decode_yaml(raw)
    return DecodedRecord(fields, "yaml" if "status" in fields else None, raw.is_whole)


def _is_pickle(raw: RawRecord) -> bool:
    """Whether a record is a pickled dictionary; protocols 0 and 1 are recognized by its end, too."""
    head = raw.head
    if head[:1] == b"\x80":
        return head[1:2] != b"" and head[1] < 8
    return raw.is_whole and head[:1] in (b"(", b"}") and head.endswith(b".")


def outline_record(raw: RawRecord) -> DecodedRecord:
    """Like `decode_record`, but only `status`, `date_done` and `queue`, as far as they are cheap to read."""
    raw = _inflate_record(raw)
    head = raw.head
    if _is_pickle(raw):
        if raw.is_whole and len(head) <= SHORT_BYTES:
            return decode_record(raw)
        first = {
            name: value
            for name, value in read_beginning(head, FIRST_OPCODES)
            if name in ("status", "date_done", "queue")
        }
        return DecodedRecord({**_pickled_end(raw), **first}, "pickle", raw.is_whole)
    return decode_record(raw)


def _inflate_record(raw: RawRecord) -> RawRecord:
    """Return a compressed record inflated, up to the decoding limit; any other record, or a corrupt one, unchanged."""
    if not raw.head.startswith(_COMPRESSED):
        return raw
    kind, _, body = raw.head[len(_COMPRESSED) :].partition(b"\x00")
    try:
        found, more = _inflate_body(kind, body)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, MemoryError):
        return raw
    return RawRecord(found, b"", max(raw.size, len(found) + 1) if more or not raw.is_whole else len(found))


def _inflate_body(kind: bytes, body: bytes) -> tuple[bytes, bool]:
    if kind == b"application/x-gzip":  # Celery's name for zlib
        unpacker = zlib.decompressobj()
        found = unpacker.decompress(body, DECODE_LIMIT_BYTES)
        return found, not unpacker.eof
    if kind == b"application/x-bz2":
        bunzip = bz2.BZ2Decompressor()
        return bunzip.decompress(body, DECODE_LIMIT_BYTES), not bunzip.eof
    if kind == b"application/x-lzma":
        unlzma = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY_BYTES)
        return unlzma.decompress(body, DECODE_LIMIT_BYTES), not unlzma.eof
    raise ValueError("unknown compression")


def _decode_json(raw: RawRecord) -> DecodedRecord:
    if raw.is_whole:
        try:
            value = loads(raw.head)
        except ValueError:
            value = None
        if isinstance(value, dict):
            return DecodedRecord(value, "json")
    # A record that is cut, or not strict JSON (NaN, lone surrogates), is read field by field up to the first error.
    head = dict(_json_pairs(text(shallow_part(raw.head)), 1))
    return DecodedRecord({**_json_end(text(raw.tail)), **head} if raw.tail else head, "json", whole=False)


def _json_pairs(source: str, at: int, in_part: str | None = "result") -> Iterator[tuple[str, Any]]:
    """Yield the pairs of a JSON object from `at` on, up to the first incomplete one; the object `in_part` as far as it
    goes."""
    end = len(source)
    while at < end:
        try:
            name, at = _decoder.raw_decode(source, _skip_blank(source, at))
            at = _skip_blank(source, at)
            if not isinstance(name, str) or source[at : at + 1] != ":":
                return
            start = _skip_blank(source, at + 1)
        except ValueError:
            return
        try:
            value, at = _decoder.raw_decode(source, start)
        except ValueError:
            if name == in_part and source[start : start + 1] == "{":
                yield name, dict(_json_pairs(source, start + 1, None))
            return
        at = _skip_blank(source, at)
        # A number that is cut would be a different number.
        if source[at : at + 1] not in (",", "}"):
            return
        yield name, value
        if source[at] == "}":
            return
        at += 1


def _skip_blank(source: str, at: int) -> int:
    while source[at : at + 1] in (" ", "\n", "\t", "\r"):
        at += 1
    return at


def _json_end(tail: str) -> dict[str, Any]:
    """Return the last fields of a JSON object that ends with `tail`: those that end with the object itself."""
    for count, start in enumerate(_FIELD.finditer(tail)):
        if count >= MAX_STARTS:
            break
        try:
            value = loads(("{" + tail[start.start() + 2 :]).encode("utf-8", "surrogateescape"))
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    return {}


def _decode_pickle(raw: RawRecord) -> DecodedRecord:
    if raw.is_whole:
        try:
            value = read(raw.head)
        except NotAPickle:
            value = None
        if isinstance(value, PickledMapping):
            return DecodedRecord(_plain_pickled(value.pairs), "pickle")
    return DecodedRecord({**_pickled_end(raw), **_plain_pickled(read_beginning(raw.head))}, "pickle", whole=False)


def _plain_pickled(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs[:100]:
        if isinstance(name, str):
            found[name] = _failure_value(value) if name == "result" else describe(value)
    return found


def _failure_value(value: Any) -> Any:
    """Return a pickled exception as Celery writes one in JSON; any other value unchanged."""
    if not isinstance(value, PickledObject) or not isinstance(value.args, PickledSequence):
        return describe(value)
    what, parts = value.what, [describe(part) for part in value.args.items[:10]]
    if what.endswith(".UnpickleableExceptionWrapper") and len(parts) >= 3:
        what, parts = f"{parts[0]}.{parts[1]}", parts[2] if isinstance(parts[2], list) else [parts[2]]
    module, _, name = what.rpartition(".")
    return {"exc_type": name, "exc_message": parts, "exc_module": module}


def _text_key(name: str) -> bytes:
    """Return a pattern for the pickle opcodes that write a short text."""
    size = re.escape(bytes([len(name)]))
    return rb"(?:\x8c" + size + rb"|X" + size + rb"\0\0\0)" + name.encode()


_MEMO = rb"(?:\x94|q.|r.{4})?"
_VALUE = _MEMO + rb"(?:\x8c(?P<short>.)|X(?P<long>.{4}))"
_DATE = re.compile(_text_key("date_done") + _VALUE, re.DOTALL)
_QUEUE = re.compile(_text_key("queue") + _VALUE, re.DOTALL)
# The fields that Celery writes next, one of which must follow: arguments can contain the same names.
_AFTER_DATE = re.compile(
    _MEMO + rb"(?:" + rb"|".join(map(_text_key, ("group_id", "parent_id", "name", "task_id"))) + rb")", re.DOTALL
)
_AFTER_QUEUE = re.compile(
    _MEMO + rb"(?:" + _text_key("task_id") + rb"|" + _text_key("stamped_headers") + rb")", re.DOTALL
)


def _pickled_end(raw: RawRecord) -> dict[str, Any]:
    """Return when a pickled task finished, and in which queue, as far as the end of the pickle contains them."""
    tail = raw.tail or raw.head[-TAIL_BYTES:]
    found: dict[str, Any] = {}
    for name, pattern, after in (("date_done", _DATE, _AFTER_DATE), ("queue", _QUEUE, _AFTER_QUEUE)):
        for match in pattern.finditer(tail):
            length = int.from_bytes(match["short"] or match["long"], "little")
            if length <= 255 and after.match(tail, match.end() + length):
                found[name] = text(tail[match.end() : match.end() + length])
    return found


def _decode_msgpack(raw: RawRecord) -> DecodedRecord:
    if raw.is_whole and len(raw.head) <= DECODE_LIMIT_BYTES:
        try:
            value = _unpacker.decode(raw.head)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, TypeError):
            value = None
        if isinstance(value, dict):
            return DecodedRecord({name: item for name, item in value.items() if isinstance(name, str)}, "msgpack")
    size = {0xDE: 3, 0xDF: 5}.get(raw.head[0], 1)
    found: dict[str, Any] = {}
    # Celery writes the status first.
    if raw.head[size:].startswith(b"\xa6status"):
        found["status"] = _packed_text(raw.head, size + 7)
    tail = raw.tail or raw.head[-TAIL_BYTES:]
    for name, mark in (("date_done", b"\xa9date_done"), ("queue", b"\xa5queue")):
        at = tail.rfind(mark)
        if at >= 0:
            found[name] = _packed_text(tail, at + len(mark))
    return DecodedRecord(found, "msgpack" if "status" in found else None, whole=False)


def _packed_text(data: bytes, at: int) -> str | None:
    kind = data[at] if at < len(data) else 0
    if 0xA0 <= kind <= 0xBF:
        return text(data[at + 1 : at + 1 + (kind & 0x1F)])
    return text(data[at + 2 : at + 2 + data[at + 1]]) if kind == 0xD9 and at + 1 < len(data) else None


def _decode_yaml(raw: RawRecord) -> dict[str, Any]:
    """Return the plain fields of a YAML record as Celery writes it: one per line, with the lines of an error below."""
    lines = text(raw.head[:DECODE_LIMIT_BYTES]).split("\n")
    if raw.tail:
        lines = [*lines[:-1], *text(raw.tail).split("\n")[1:]]
    found: dict[str, Any] = {}
    error: dict[str, Any] = {}
    within, listed = "", False
    for line in lines:
        if line[:1] not in (" ", "-", ""):
            within = line.partition(":")[0]
            if (field := _YAML_FIELD.fullmatch(line)) is not None:
                found[field[1]] = _yaml_value(field[2])
            elif within == "result" and line != "result:":
                found["result"] = _yaml_value(line.partition(":")[2].strip())
        elif within == "result" and (part := _YAML_ERROR.fullmatch(line)) is not None:
            listed = part[1] == "exc_message"
            error[part[1]] = [] if listed and not part[2] else _yaml_value(part[2])
        elif within == "result" and listed and line.startswith("  - ") and isinstance(error["exc_message"], list):
            error["exc_message"].append(_yaml_value(line[4:]))
    return {**found, "result": error} if error else found


def _yaml_value(written: str) -> Any:
    if written.startswith('"'):
        try:
            return json.loads(written)
        except ValueError:
            return written
    if written.startswith("'") and written.endswith("'") and len(written) > 1:
        return written[1:-1].replace("''", "'")
    if written in ("", "null", "~"):
        return None
    return int(written) if written.isdecimal() and len(written) < 10 else written
