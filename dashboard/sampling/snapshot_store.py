"""The snapshot and the last hour, published in Queuedeck's own store: written by the leader, read by all processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import NoPermissionError

from ..clock import monotonic_s
from ..model import Snapshot
from ..sources.source import Command, Source
from ..store.redis_store import AHEAD_S, LEAD, PREFIX, Store
from .recent_history import LAST_STEP_S, History
from .snapshot_parts import HISTORIES, SNAPSHOTS, DocumentKind, SnapshotCutter, cut_history
from .snapshot_transfer import PartTransfer, part_key

SNAPSHOT = f"{PREFIX}:snapshot"  # string, about 40 bytes per listed part, TTL 10 min
HISTORY = f"{PREFIX}:history"  # the same for the last hour, TTL 2 h
LONGEST_INTERVAL_S = 300.0
SNAPSHOT_TTL_MS = 600_000
HISTORY_TTL_MS = 7_200_000
SHARED_TTL_MS = 600_000
CLOCK_CHECK_S = 60.0

# KEYS: a key; while it exists, no other process samples. ARGV: its TTL in ms. Returns 1 if this process should sample.
_MAY_SAMPLE = """
begin(KEYS[1], ARGV[1])
if redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[1]) then return 1 end
return 0
"""


class SnapshotStore(Store):
    """The store of a process that publishes or reads snapshots. Thread-safe."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._channels: dict[str, PartTransfer] = {}  # by pointer
        self._cutters: dict[str, SnapshotCutter] = {}

    def publish_snapshot(self, holder: str, epoch: int, snapshot: Snapshot, history: History | None) -> bool:
        """Publish; False if the lease was lost in the meantime and no pointer was swapped. One thread at a time.

        Raises BackendUnavailable, Forbidden. Cost: 1 round trip, 2 with a history; 1 more for each of the two if parts
        of it were lost. No value sent is larger than PART_BYTES.
        """
        lead = f"{holder}:{epoch}"
        # First, since readers request it once a snapshot announces a newer one.
        if history is not None and not self._history_transfer(HISTORY, HISTORY_TTL_MS).send_document(
            cut_history(history), lead
        ):
            return False
        return self._snapshot_transfer(SNAPSHOT).send_document(self._cutter_of(SNAPSHOT).cut_snapshot(snapshot), lead)

    def read_published(self, *, with_history: bool) -> tuple[Snapshot | None, History | None]:
        """(the published snapshot, the history if requested); None for one that is missing or of another version.

        One with a missing part counts as missing, after a second attempt. Raises BackendUnavailable. Cost: 1 round trip
        of 1 command, or of 2 with the history or a clock check; 1 more round trip if there is something new.
        """
        channels = [
            self._snapshot_transfer(SNAPSHOT),
            *([self._history_transfer(HISTORY, HISTORY_TTL_MS)] if with_history else []),
        ]
        checked = self.clock
        check_clock = not with_history and (checked is None or monotonic_s() - checked[1] > CLOCK_CHECK_S)
        snapshot, *history = self._read_transfers(channels, check_clock=check_clock)
        return self._without_wrong_times(snapshot, history[0] if history else None)

    def _read_transfers(self, channels: Sequence[PartTransfer], *, check_clock: bool = False) -> list[Any]:
        """The value of each transfer; None if a part of it is still missing at the second attempt."""
        values, lost = self._read_once(channels, check_clock=check_clock)
        if lost:  # it may have been replaced between the two round trips
            values, _ = self._read_once(channels)
        return values

    def _read_once(self, channels: Sequence[PartTransfer], *, check_clock: bool = False) -> tuple[list[Any], bool]:
        """(the value of each transfer, whether a part of any is missing)."""
        asked = monotonic_s()
        pointers: list[Command] = [("GET", channel.pointer) for channel in channels]
        raws = self.source.run_batch([*pointers, ("TIME",)] if check_clock else pointers)
        if isinstance(raws[0], NoPermissionError):
            raise self.source.forbidden_error(raws[0])
        if check_clock and isinstance(raws[-1], list):
            seconds, micros = raws[-1]
            self.note_clock(seconds, micros, asked)
        pairs = list(zip(channels, raws, strict=False))
        wanted = [(channel, name) for channel, raw in pairs for name in channel.wanted_parts(raw)]
        found = self.source.run_batch([("GET", part_key(channel.pointer, name)) for channel, name in wanted])
        bodies = dict(zip(wanted, found, strict=True))
        values: list[Any] = []
        lost = False
        for channel, raw in pairs:
            try:
                values.append(
                    channel.join_value(raw, {name: body for (of, name), body in bodies.items() if of is channel})
                )
            except LookupError:
                values.append(None)
                lost = True
        return values, lost

    def _transfer_of(self, pointer: str, kind: DocumentKind[Any], lives_ms: int) -> PartTransfer:
        return self._channels.setdefault(pointer, PartTransfer(self, pointer, kind, LEAD, lives_ms))

    def _snapshot_transfer(self, pointer: str) -> PartTransfer:
        return self._transfer_of(pointer, SNAPSHOTS, SNAPSHOT_TTL_MS)

    def _history_transfer(self, pointer: str, lives_ms: int) -> PartTransfer:
        return self._transfer_of(pointer, HISTORIES, lives_ms)

    def _cutter_of(self, pointer: str) -> SnapshotCutter:
        return self._cutters.setdefault(pointer, SnapshotCutter())

    def _without_wrong_times(
        self, snapshot: Snapshot | None, history: History | None
    ) -> tuple[Snapshot | None, History | None]:
        """Both arguments; None for one whose times cannot come from this store."""
        latest = self.now_s() + AHEAD_S
        if snapshot is not None and not (
            0 <= snapshot.sampled_at <= latest and 0 < snapshot.interval_s <= LONGEST_INTERVAL_S
        ):
            snapshot = None
        if history is not None and not (0 <= history.last_at <= latest and 1 <= history.step_s <= LAST_STEP_S):
            history = None
        return snapshot, history

    def read_shared(self, settings_digest: str) -> tuple[Snapshot | None, History | None]:
        """What a process with those settings last passed to `share_snapshot`. Errors and cost: see `read_published`."""
        snapshots, histories = self._shared_transfers(settings_digest)
        return self._without_wrong_times(*self._read_transfers([snapshots, histories]))

    def _shared_transfers(self, settings_digest: str) -> tuple[PartTransfer, PartTransfer]:
        return (
            self._snapshot_transfer(f"{SNAPSHOT}:{settings_digest}"),
            self._history_transfer(f"{HISTORY}:{settings_digest}", SHARED_TTL_MS),
        )

    def may_sample(self, settings_digest: str, interval_s: float) -> bool:
        """Whether this process should take the next sample for all web processes with those settings. 1 round trip."""
        key = f"{PREFIX}:sampling:{settings_digest}"
        return bool(self.run_script(_MAY_SAMPLE, (key,), max(1, int(interval_s * 1000))))

    def share_snapshot(self, settings_digest: str, snapshot: Snapshot, history: History) -> None:
        """Share a sample with web processes of the same settings while the leader has others. 2 round trips."""
        snapshots, histories = self._shared_transfers(settings_digest)
        histories.send_document(cut_history(history), "")
        snapshots.send_document(self._cutter_of(snapshots.pointer).cut_snapshot(snapshot), "")
