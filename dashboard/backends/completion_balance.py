"""Detection of jobs that finish without a trace: finished jobs per counters, against those with a record. Pure."""

from __future__ import annotations

from typing import NamedTuple

from .base import FLOW_WINDOW_S

SUM_S = 60.0
# Records that a user deletes between two samples are missing too: a share this small is not caused by the library.
SMALL_SHARE = 0.05


class CompletionBalance(NamedTuple):
    """The sums of one minute, and when an earlier minute last had jobs without a record."""

    began: float = 0.0
    ended: int = 0
    seen: int = 0
    ahead: int = 0  # records of the last sample before this minute: counters may only include them in this minute
    last_seen: int = 0
    hidden_at: float | None = None

    def add(self, at: float, ended: int, seen: int) -> CompletionBalance:
        """Add a sample taken at `at` (seconds of any steady clock): `ended` jobs finished, `seen` records appeared."""
        if self is BALANCED and not ended and not seen:
            return self  # the usual case for most queues
        if at - self.began < SUM_S:
            return self._replace(ended=self.ended + ended, seen=self.seen + seen, last_seen=seen)
        return CompletionBalance(at, ended, seen, self.last_seen, seen, at if self._lacks_records else self.hidden_at)

    @property
    def hidden_count(self) -> int:
        """The number of jobs of this minute without a record."""
        return max(0, self.ended - self.seen - self.ahead)

    @property
    def _lacks_records(self) -> bool:
        return self.hidden_count > SMALL_SHARE * self.ended

    def hides_jobs(self, at: float) -> bool:
        """Whether more jobs finished than left a record, within FLOW_WINDOW_S before `at`.

        A record can appear later than the counter changes: up to a minute later, it does not count as missing.
        """
        return self._lacks_records or (self.hidden_at is not None and at - self.hidden_at < FLOW_WINDOW_S)

    def growth_since(self, before: CompletionBalance) -> int:
        """The number of jobs without a record that the last sample added; `before` = the balance without it."""
        return max(0, self.hidden_count - (before.hidden_count if before.began == self.began else 0))


BALANCED = CompletionBalance()
