"""Ids of repeatable jobs from releases before job schedulers; the id contains everything that is stored about them.

BullMQ up to 4, and 5 for old ones: `name:jobId:endDate:tz:pattern`; Bull 4 omits the time zone if the last part is a
number of ms. Layout: bullmq 4 `src/classes/repeat.ts`, bull 4 `lib/repeatable.js`.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

_WITH_ZONE = re.compile(r"(?P<name>.*):(?P<job>[^:]*):(?P<end>\d*):(?P<zone>[^:]*):(?P<pattern>[^:]+)\Z", re.DOTALL)
_WITHOUT = re.compile(r"(?P<name>.*):(?P<job>[^:]*):(?P<end>\d*):(?P<pattern>\d+)\Z", re.DOTALL)
_PATTERN = re.compile(r"\d+|\S+(?: \S+){4,5}|@\w+")


class RepeatKey(NamedTuple):
    """The parts of such an id; `jobs` = possible prefixes of the ids of its runs, one of which is right."""

    name: str
    job_id: str | None
    end_ms: str | None
    timezone: str | None
    pattern: str | None
    every_ms: str | None
    jobs: tuple[str, ...]


def parse_repeat_key(member: str) -> RepeatKey | None:
    """Return the parts of an id; None if it has another format."""
    match = _WITH_ZONE.match(member)
    if match is None or not _PATTERN.fullmatch(match["pattern"]):
        match = _WITHOUT.match(member)
    if match is None:
        return None
    parts = match.groupdict()
    every = parts["pattern"] if parts["pattern"].isdecimal() else None
    return RepeatKey(
        name=parts["name"],
        job_id=parts["job"] or None,
        end_ms=parts["end"] or None,
        timezone=parts.get("zone") or None,
        pattern=None if every else parts["pattern"],
        every_ms=every,
        jobs=tuple(
            f"repeat:{_md5_hex(parts['name'] + job + _md5_hex(member))}:" for job in (parts["job"], parts["job"] + ":")
        ),
    )


def _md5_hex(text: str) -> str:
    return hashlib.md5(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
