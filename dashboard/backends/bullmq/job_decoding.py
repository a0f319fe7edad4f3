"""Decoding of job hashes, for lists and the job page. Every field is untrusted until it is decoded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from redis.exceptions import ResponseError

from ...clock import instant
from ...model import JobError
from ...sources.source import Reply
from ..payloads.decoding import loads, loads_dict, of_decoded, printable
from ..payloads.masking import mask_payload
from ..payloads.nesting import shallow_part
from . import keys

# The fields shown in lists; `data`, `returnvalue` and `stacktrace` have no size limit, only the job page shows them.
ROW_FIELDS = (
    *("name", "timestamp", "processedOn", "finishedOn", "delay", "priority", "atm", "attemptsMade", "ats"),
    *("failedReason", "progress", "pb", "rjk", "parentKey", "opts"),
)
ROW_LIMIT_BYTES = 16 * 1024
MESSAGE_LIMIT = 2000
_strings = json.JSONDecoder(strict=False)


@dataclass(slots=True)
class JobFields:
    """The fields of one hash: a value that is missing, too long or invalid is None; `troubles` lists the last two."""

    raw: Mapping[str, Reply]
    troubles: list[str] = field(default_factory=list)

    def bytes_of(self, name: str) -> bytes | None:
        """Return the value of a field; None if it is missing or too long."""
        value = self.raw.get(name)
        if isinstance(value, list):
            self.troubles.append(f"{name} is {value[0]} bytes long")
            return None
        return value if isinstance(value, bytes) else None

    def text(self, name: str, limit: int = 500) -> str | None:
        """Return a field as text to display; None if it is missing or empty."""
        value = self.bytes_of(name)
        return printable(value, limit) if value else None

    def integer(self, name: str) -> int | None:
        """Return a field as a whole number."""
        value = self.bytes_of(name)
        number = keys.parse_integer(value)
        if value and number is None:
            self.troubles.append(f"{name} is not a number")
        return number

    def instant(self, name: str) -> datetime | None:
        """Return a field as a time, stored in ms since 1970."""
        value = self.bytes_of(name)
        moment = instant(keys.parse_seconds(value))
        if value and moment is None and value != b"0":
            self.troubles.append(f"{name} is not a time")
        return moment

    def options(self) -> dict[str, Any] | None:
        """Return the job's options; None if they are missing or cannot be read."""
        value = self.bytes_of("opts")
        if value is None:
            return None
        options = loads_dict(value)
        if not options and value.strip() != b"{}":
            self.troubles.append("opts is not a JSON object")
            return None
        return options

    @property
    def attempts(self) -> int | None:
        """The number of attempts made; None if the remains of the hash do not say.

        Bull, and BullMQ before 5, use another field name. All write the field when the first attempt finishes; every
        job that was added has a time or a name.
        """
        for name in ("atm", "attemptsMade"):
            if self.raw.get(name) is not None:
                tries = self.integer(name)
                return tries if tries is None or tries >= 0 else None
        return 0 if any(self.raw.get(name) is not None for name in ("timestamp", "name")) else None

    @property
    def progress(self) -> Any:
        """The last progress that the job reported, decoded, masked and bounded."""
        value = self.bytes_of("progress")
        if not value or value == b"0":
            return None
        try:
            return mask_payload(loads(value))[0]
        except ValueError:
            return printable(value, 200)


def max_attempts(options: Mapping[str, Any] | None) -> int | None:
    """Return the maximum number of attempts: at least one, whatever the option says; None without options, or if the
    option is not a whole number.
    """
    if options is None:
        return None
    attempts = options.get("attempts")
    if attempts is None:
        return 1
    return max(1, attempts) if isinstance(attempts, int) and not isinstance(attempts, bool) else None


def parse_error(reason: str | None, stack: str | None = None) -> JobError | None:
    """Return the error in `failedReason`, which is plain text; only the stack trace has the name of the class."""
    if not reason and not stack:
        return None
    class_name = None
    if stack:
        # Node has the class in the first line, Python in the last one, with its module.
        lines = stack.strip().split("\n")
        head, colon, _ = lines[-1 if lines[0].startswith("Traceback ") else 0].partition(":")
        name = head.rpartition(".")[2]
        # Python writes "NoneType: None" if a job fails without an exception, for example because of a failed child.
        if colon and name.isidentifier() and name != "NoneType":
            class_name = name
    return JobError(class_name=class_name, message=reason or None, stack=stack)


def parse_stacks(raw: bytes | None, *, cut: bool = False) -> tuple[str, ...]:
    """Return the stack traces of failed attempts, oldest first: `stacktrace` is a JSON array of strings; else ().

    `cut`: `raw` is only its beginning.
    """
    if not raw:
        return ()
    try:
        tries = loads(raw)
    except ValueError:
        return (printable(raw, cut=cut),)
    return tuple(of_decoded(stack) for stack in tries if isinstance(stack, str)) if isinstance(tries, list) else ()


def newest_stack(raw: bytes | None) -> str | None:
    """Return the last complete stack trace of `stacktrace`, which may be cut; if the only one is cut, its beginning."""
    if not raw:
        return None
    text, at = shallow_part(raw).decode("utf-8", "replace"), 1
    found: str | None = None
    while 0 < at < len(text):
        try:
            value, end = _strings.raw_decode(text, at)
        except ValueError:
            break
        found = value if isinstance(value, str) else found
        at = text.find('"', end)
    if found is None and text.startswith('["'):
        found = text[2:].replace("\\n", "\n")
    return of_decoded(found) if found else None


def is_missing(values: Reply) -> bool:
    """Whether a hash has none of the requested fields, so that it no longer exists."""
    return isinstance(values, list) and not any(value is not None for value in values)


def find_problem(values: Reply) -> str | None:
    """Return what is wrong with the hash as a whole; None if it can be read."""
    if isinstance(values, ResponseError):
        return "its key has the wrong type" if "WRONGTYPE" in str(values) else printable(str(values), 200)
    return "its data no longer exists, only its id is left" if is_missing(values) else None
