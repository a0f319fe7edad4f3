"""Where the history of a series is stored: its number, and the keys of its tiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..store.packing import pack, unpack
from ..store.redis_store import PREFIX
from .columns import KINDS, SeriesKind

IDS = f"{PREFIX}:ts:ids"  # hash: packed SeriesKey -> "<id> <bytes stored>"
# More series than this are not recorded.
MAX_SERIES = 20_000


class SeriesKey(NamedTuple):
    """What a series is about. All queues of a source: neither library nor name; of all sources: no source either."""

    kind: SeriesKind
    source: str = ""
    backend: str = ""
    name: str = ""
    job_class: str = ""


class StoredAs(NamedTuple):
    """The number under which a series is stored, and the bytes that it takes."""

    series_id: int
    size_bytes: int


def blocks_key(tier: str, series_id: int) -> str:
    """The key of the compressed records of a series."""
    return f"{PREFIX}:ts:{tier}:{series_id}"


def tail_key(tier: str, series_id: int) -> str:
    """The key of the newest records of a series."""
    return f"{PREFIX}:ts:{tier}:{series_id}:tail"


def pack_key(key: SeriesKey) -> bytes:
    """The field of a series in IDS."""
    return pack([key.kind.code, *key[1:]])


def parse_stored(value: bytes | None) -> StoredAs | None:
    """The value of a series in IDS; None for one that is missing or not ours."""
    numbers = (value or b"").split()
    if len(numbers) != 2 or not all(number.isdigit() and len(number) <= 12 for number in numbers):
        return None
    return StoredAs(int(numbers[0]), int(numbers[1]))


def parse_ids(raw: Sequence[bytes] | None) -> dict[SeriesKey, StoredAs]:
    """The series in IDS, from the reply to HGETALL; fields that are not ours are left out."""
    found: dict[SeriesKey, StoredAs] = {}
    for field, value in zip((raw or ())[::2], (raw or ())[1::2], strict=True):
        parts: list[Any] | None = unpack(field, list)
        stored = parse_stored(value)
        if stored is None or parts is None or len(parts) != 5 or not all(isinstance(part, str) for part in parts[1:]):
            continue
        if isinstance(parts[0], int) and parts[0] in KINDS:
            found[SeriesKey(KINDS[parts[0]], *parts[1:])] = stored
    return found
