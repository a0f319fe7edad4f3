"""Result records as pages show them: as much of each as fits on a page, or only its status."""

from __future__ import annotations

from collections.abc import Sequence

from ....sources.source import Reply, Source
from ...bounded_reads import PAGE_BYTES
from ...payloads.decoding import DECODE_LIMIT_BYTES
from .decoding import TAIL_BYTES, RawRecord, outline_record

# The status is within this many bytes of a record, whatever its serializer.
STATUS_BYTES = 64


def read_for_display(results: Source, records: Sequence[bytes]) -> list[RawRecord | None]:
    """Return each record, or its beginning and end if it is too long; None if there is none.

    Cost: 1 round trip; 1 more if some exceed their share of PAGE_BYTES, to read more of them within PAGE_BYTES.
    """
    share = min(DECODE_LIMIT_BYTES, PAGE_BYTES // max(1, len(records)))
    replies = results.run_batch(
        [command for key in records for command in (("GETRANGE", key, 0, share - 1), ("STRLEN", key))]
    )
    found = [
        (raw, size) if isinstance(raw, bytes) and isinstance(size, int) else (b"", 0)
        for raw, size in zip(replies[::2], replies[1::2], strict=True)
    ]
    room = PAGE_BYTES - sum(len(raw) for raw, _ in found)
    asked: list[int] = []
    for n, (raw, size) in enumerate(found):
        if len(raw) < size <= min(DECODE_LIMIT_BYTES, room):
            asked.append(n)
            room -= size
    ends = [n for n, (raw, size) in enumerate(found) if len(raw) < size and n not in asked]
    wholes = results.run_batch(
        [
            *(("GETRANGE", records[n], 0, DECODE_LIMIT_BYTES - 1) for n in asked),
            *(("GETRANGE", records[n], -TAIL_BYTES, -1) for n in ends),
        ]
    )
    for n, raw in zip(asked, wholes, strict=False):
        if isinstance(raw, bytes):
            found[n] = (raw, max(len(raw), found[n][1]))
    tails = {n: raw for n, raw in zip(ends, wholes[len(asked) :], strict=True) if isinstance(raw, bytes)}
    return [RawRecord(raw, tails.get(n, b""), size) if raw else None for n, (raw, size) in enumerate(found)]


def read_statuses(results: Source, records: Sequence[bytes]) -> list[str | None]:
    """Return the status of each record; None if there is no record. Cost: 1 round trip."""
    return [_status_of(raw) for raw in results.run_batch([("GETRANGE", key, 0, STATUS_BYTES - 1) for key in records])]


def _status_of(beginning: Reply) -> str | None:
    """Return the status in the first STATUS_BYTES of a record; None if there is none."""
    if not isinstance(beginning, bytes) or not beginning:
        return None
    return outline_record(RawRecord(beginning, b"", STATUS_BYTES + 1)).status
