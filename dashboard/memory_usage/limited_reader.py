"""Reads within a budget of commands and seconds, in batches so small that Redis serves its other clients in between."""

from __future__ import annotations

from collections.abc import Sequence

from ..clock import monotonic_s
from ..sources.source import Command, Reply, Source

BATCH = 50
MAX_COMMANDS = 60_000
MAX_S = 4.0


class LimitedReader:
    """The reads of one measurement. Once its budget is used up, `is_spent`, and every reply is None."""

    def __init__(self, source: Source, max_commands: int = MAX_COMMANDS) -> None:
        self.commands = 0
        self._source = source
        self._max_commands = max_commands
        self._began_at = monotonic_s()
        self._max_s = MAX_S

    @property
    def is_spent(self) -> bool:
        """Whether no more commands may be sent."""
        return self.spent_ratio >= 1

    @property
    def spent_ratio(self) -> float:
        """Which share of the budget is used up."""
        return max(self.commands / self._max_commands, (monotonic_s() - self._began_at) / self._max_s)

    def scan_shares(self, steps: int) -> list[tuple[int, int]]:
        """See `Source.scan_shares`."""
        return self._source.scan_shares(steps)

    def read(self, commands: Sequence[Command], batch: int = BATCH) -> list[Reply]:
        """The replies to read-only commands, in order, or their errors; None for those that are not sent any more.

        Raises BackendUnavailable.
        """
        replies: list[Reply] = []
        for start in range(0, len(commands), batch):
            if self.is_spent:
                break
            part = commands[start : start + batch]
            self.commands += len(part)
            replies += self._source.run_batch(part)
        return [*replies, *(None for _ in range(len(commands) - len(replies)))]
