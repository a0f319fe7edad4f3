"""From a job's hash to a Job; shared by lists and the job page. Every field is hostile until it is read."""

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
from ..payloads.decoding import bounded, loads, loads_dict, of_decoded, printable
from . import keys

# What a list shows of a job; `data`, `returnvalue` and `stacktrace`, which nobody bounds, are for the job page.
ROW_FIELDS = (
    *("name", "timestamp", "processedOn", "finishedOn", "delay", "priority", "atm", "attemptsMade", "ats"),
    *("failedReason", "progress", "pb", "rjk", "parentKey", "opts"),
)
ROW_LIMIT_BYTES = 16 * 1024
MESSAGE_LIMIT = 2000
_strings = json.JSONDecoder(strict=False)


@dataclass(slots=True)
class JobFields:
    """The fields of one hash: what is missing, too long or no number is None; `troubles` says so."""

    raw: Mapping[str, Reply]
    troubles: list[str] = field(default_factory=list)

    def bytes_of(self, name: str) -> bytes | None:
        """The value of a field; None when it is missing or too long."""
        value = self.raw.get(name)
        if isinstance(value, list):
            self.troubles.append(f"{name} is {value[0]} bytes long")
            return None
        return value if isinstance(value, bytes) else None

    def text(self, name: str, limit: int = 500) -> str | None:
        """A field for people; None when it is missing or empty."""
        value = self.bytes_of(name)
        return printable(value, limit) if value else None

    def integer(self, name: str) -> int | None:
        """A whole number."""
        value = self.bytes_of(name)
        number = keys.parse_integer(value)
        if value and number is None:
            self.troubles.append(f"{name} is not a number")
        return number

    def instant(self, name: str) -> datetime | None:
        """A moment, written in ms since 1970."""
        value = self.bytes_of(name)
        moment = instant(keys.parse_seconds(value))
        if value and moment is None and value != b"0":
            self.troubles.append(f"{name} is not a time")
        return moment

    def options(self) -> dict[str, Any] | None:
        """The job's options; None when they are missing or cannot be read."""
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
        """Tries made so far; None where what is left of the hash does not tell.

        Bull and BullMQ before 5 call the field differently, and all write it as the first try ends; every job that was
        added has a time or a name.
        """
        for name in ("atm", "attemptsMade"):
            if self.raw.get(name) is not None:
                tries = self.integer(name)
                return tries if tries is None or tries >= 0 else None
        return 0 if any(self.raw.get(name) is not None for name in ("timestamp", "name")) else None

    @property
    def progress(self) -> Any:
        """Whatever the job reported last, decoded, masked and bounded."""
        value = self.bytes_of("progress")
        if not value or value == b"0":
            return None
        try:
            return bounded(loads(value))[0]
        except ValueError:
            return printable(value, 200)


def max_attempts(options: Mapping[str, Any] | None) -> int | None:
    """How often a job may be tried: at least once, whatever the option says; None without options, or where it is no
    whole number.
    """
    if options is None:
        return None
    attempts = options.get("attempts")
    if attempts is None:
        return 1
    return max(1, attempts) if isinstance(attempts, int) and not isinstance(attempts, bool) else None


def parse_error(reason: str | None, stack: str | None = None) -> JobError | None:
    """The failure behind `failedReason`, which is plain text; the name of a class is only in the stack."""
    if not reason and not stack:
        return None
    class_name = None
    if stack:
        # Node tells the class in the first line, Python in the last one, with its module.
        lines = stack.strip().split("\n")
        head, colon, _ = lines[-1 if lines[0].startswith("Traceback ") else 0].partition(":")
        name = head.rpartition(".")[2]
        # Python writes "NoneType: None" where a job fails without an exception, as for a child that failed.
        if colon and name.isidentifier() and name != "NoneType":
            class_name = name
    return JobError(class_name=class_name, message=reason or None, stack=stack)


def parse_stacks(raw: bytes | None) -> tuple[str, ...]:
    """The stacks of a job's failed tries, oldest first: `stacktrace` is a JSON array of texts; () when it is not."""
    if not raw:
        return ()
    try:
        tries = loads(raw)
    except ValueError:
        return (printable(raw),)
    return tuple(of_decoded(stack) for stack in tries if isinstance(stack, str)) if isinstance(tries, list) else ()


def newest_stack(raw: bytes | None) -> str | None:
    """The last whole stack of `stacktrace`, which may be cut; of a single one that is cut, its beginning."""
    if not raw:
        return None
    text, at = raw.decode("utf-8", "replace"), 1
    found: str | None = None
    while 0 < at < len(text):
        try:
            value, end = _strings.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        found = value if isinstance(value, str) else found
        at = text.find('"', end)
    if found is None and text.startswith('["'):
        found = text[2:].replace("\\n", "\n")
    return of_decoded(found) if found else None


def is_missing(values: Reply) -> bool:
    """Whether a hash held none of the fields that were asked for, so that it is gone."""
    return isinstance(values, list) and not any(value is not None for value in values)


def find_problem(values: Reply) -> str | None:
    """What is wrong with a whole hash; None when it can be read."""
    if isinstance(values, ResponseError):
        return "its key has the wrong type" if "WRONGTYPE" in str(values) else printable(str(values), 200)
    return "its data no longer exists, only its id is left" if is_missing(values) else None
