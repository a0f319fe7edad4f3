"""Where the history of a series is stored: its number, and the keys of its tiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..store.packing import pack, unpack
from ..store.redis_store import PREFIX
from .columns import KINDS, SeriesKind
from .tiers import tiers_of

IDS = f"{PREFIX}:ts:ids"  # hash: packed SeriesKey -> "<id> <bytes stored>"
# string: seconds since 1970; what is stored from before is sample data. Only the demo has any.
SAMPLE_END = f"{PREFIX}:ts:sample-end"
# More series than this are not recorded, and none whose names are longer than this together.
MAX_SERIES = 20_000
LONGEST_NAMES = 2_000
# About what Redis needs for one key besides its value, and for one field of IDS besides the names.
KEY_BYTES, FIELD_BYTES = 130, 80
_ALLOCATION_STEPS = 4


class SeriesKey(NamedTuple):
    """What a series is about. All queues of a source: neither library nor name; of all sources: no source either."""

    kind: SeriesKind
    source: str = ""
    backend: str = ""
    name: str = ""
    job_class: str = ""


class StoredAs(NamedTuple):
    """The number under which a series is stored, and the memory that its compressed records take."""

    series_id: int
    size_bytes: int

    @property
    def text(self) -> str:
        """The value of the series in IDS."""
        return f"{self.series_id} {self.size_bytes}"


def blocks_key(tier: str, series_id: int) -> str:
    """The key of the compressed records of a series."""
    return f"{PREFIX}:ts:{tier}:{series_id}"


def tail_key(tier: str, series_id: int) -> str:
    """The key of the newest records of a series."""
    return f"{PREFIX}:ts:{tier}:{series_id}:tail"


def value_names(key: SeriesKey, series_id: int) -> list[str]:
    """The keys of all values of a series: blocks and tail of each tier."""
    return [name(tier.name, series_id) for tier in tiers_of(key.kind) for name in (blocks_key, tail_key)]


def overhead_bytes(key: SeriesKey) -> int:
    """About what Redis needs for a series besides its values."""
    return FIELD_BYTES + names_length(key) + 2 * KEY_BYTES * len(tiers_of(key.kind))


def names_length(key: SeriesKey) -> int:
    """The characters of all names of a series."""
    return sum(map(len, key[1:]))


def allocated_bytes(length: int) -> int:
    """About what the allocator of Redis reserves for a value: from each power of two to the next, in four steps."""
    if not length:
        return 0
    needed = length + 16
    step = max(16, (1 << (needed - 1).bit_length()) // (2 * _ALLOCATION_STEPS))
    return -(-needed // step) * step


def importance(key: SeriesKey) -> tuple[bool, bool]:
    """Series with a lower one are recorded first: servers and totals, then queues, then classes."""
    return bool(key.name), bool(key.job_class)


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
