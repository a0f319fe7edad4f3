"""The slow scan of all records: it finds those that existed before the live feed, and those that the feed missed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ....clock import monotonic_s
from ....sources.source import Source
from ...base import Budget
from ...scan import scan_step
from ..keys import RECORD
from .decoding import TAIL_BYTES, RawRecord
from .metadata import KnownMetadata

# How much a scan of the records may cost per sample.
FILL_COMMANDS, FILL_SECONDS = 10, 0.05
# Of a longer record, only the beginning and the end are read.
RECORD_LIMIT, HEAD_BYTES = 16_384, 1024
RECORDS_AT_ONCE = 200
# How long until records with an unreadable status are read again.
UNREADABLE_AGAIN_S = 600.0
# How often the records are scanned if the feed cannot be received at all.
LOOK_AGAIN_S = 60.0


class RecordScan:
    """Scans the records of one source, a step per sample, as often as the live feed makes it necessary."""

    def __init__(self, results: Source, metadata: KnownMetadata) -> None:
        self._results = results
        self._metadata = metadata
        self._cursor: int | None = 0
        self._has_ended = False  # the last step of a scan was made
        self._missed = False  # the feed has missed records since it was last complete
        self._looked_at = 0.0  # monotonic; when the last scan finished
        self._for_room = False  # the current scan only fills up an index that has room again

    @property
    def is_running(self) -> bool:
        """Whether there are records still to be scanned."""
        return self._cursor is not None

    @property
    def is_old(self) -> bool:
        """Whether the last scan finished long enough ago to look again."""
        return monotonic_s() - self._looked_at > LOOK_AGAIN_S

    @property
    def found_all(self) -> bool:
        """Whether all records that existed were found, and what the index has no room for is known."""
        return (self._for_room or (self._cursor is None and not self._has_ended)) and not self._missed

    def begin(self, *, for_room: bool = False) -> None:
        """Begin another scan; `for_room` = only to fill up an index that has room again."""
        self._cursor, self._for_room = 0, for_room
        self._metadata.begin_scan()

    def restart(self) -> None:
        """Scan from the start again; the findings of a scan that is running remain."""
        self._cursor = 0

    def look_again(self, *, whole: bool) -> None:
        """Start another scan to find missed records: once the feed is complete again; before, every LOOK_AGAIN_S."""
        if not whole:
            self._missed = True
            if self._cursor is None and self.is_old:
                self.begin()
        elif self._missed:
            self._missed = False
            self.begin()
        elif (
            self._cursor is None
            and monotonic_s() - self._looked_at > UNREADABLE_AGAIN_S
            and self._metadata.has_unlisted()
        ):
            self.begin(for_room=True)

    def read_step(self) -> Iterator[list[tuple[bytes, RawRecord]]]:
        """Return the records of one step, as (key, record), RECORDS_AT_ONCE at a time."""
        assert self._cursor is not None
        keys, cursor = scan_step(
            self._results,
            self._cursor,
            Budget(FILL_COMMANDS, FILL_SECONDS),
            match=f"*{RECORD}*",
            key_type="string",
        )
        for start in range(0, len(keys), RECORDS_AT_ONCE):
            yield self._read_records(keys[start : start + RECORDS_AT_ONCE])
        self._cursor = cursor or None  # only now: what could not be read is scanned again
        if self._cursor is None:
            self._looked_at, self._has_ended = monotonic_s(), True

    def store_findings(self) -> None:
        """After the last step of a scan, let its findings replace the earlier ones."""
        if self._has_ended:
            self._has_ended = self._for_room = False
            self._metadata.end_scan()

    def _read_records(self, names: Sequence[bytes]) -> list[tuple[bytes, RawRecord]]:
        """Return records as far as they are inspected. Cost: 1 round trip, 2 if some are longer than HEAD_BYTES."""
        replies = self._results.run_batch(
            [command for key in names for command in (("STRLEN", key), ("GETRANGE", key, 0, HEAD_BYTES - 1))]
        )
        found = {
            key: RawRecord(head, b"", max(size, len(head)))
            for key, size, head in zip(names, replies[::2], replies[1::2], strict=True)
            if isinstance(size, int) and isinstance(head, bytes) and head
        }
        long = [key for key, raw in found.items() if not raw.is_whole]
        wholes = self._results.run_batch(
            [
                ("GETRANGE", key, 0, RECORD_LIMIT - 1)
                if found[key].size <= RECORD_LIMIT
                else ("GETRANGE", key, -TAIL_BYTES, -1)
                for key in long
            ]
        )
        for key, more in zip(long, wholes, strict=True):
            if isinstance(more, bytes) and more:
                raw = found[key]
                found[key] = raw._replace(tail=more) if raw.size > RECORD_LIMIT else RawRecord(more, b"", len(more))
        return list(found.items())
