"""Whether jobs end without a trace: what ended, as counters tell, against what left a record. Pure."""

from __future__ import annotations

from typing import NamedTuple

from .base import FLOW_WINDOW_S

SUM_S = 60.0
# Records that a person deletes between two looks are missing too: so small a share is none of the library's doing.
SMALL_SHARE = 0.05


class CompletionBalance(NamedTuple):
    """The sums of a minute, and when an earlier minute last had jobs that left no record."""

    began: float = 0.0
    ended: int = 0
    seen: int = 0
    ahead: int = 0  # records of the last look before this minute: the counters may tell of them only in it
    last_seen: int = 0
    hidden_at: float | None = None

    def add(self, at: float, ended: int, seen: int) -> CompletionBalance:
        """With a look at `at` (seconds of any steady clock), when so many ended and so many records came."""
        if self is BALANCED and not ended and not seen:
            return self  # as in most queues at most looks
        if at - self.began < SUM_S:
            return self._replace(ended=self.ended + ended, seen=self.seen + seen, last_seen=seen)
        return CompletionBalance(at, ended, seen, self.last_seen, seen, at if self._lacks_records else self.hidden_at)

    @property
    def hidden_count(self) -> int:
        """How many jobs of this minute left no record."""
        return max(0, self.ended - self.seen - self.ahead)

    @property
    def _lacks_records(self) -> bool:
        return self.hidden_count > SMALL_SHARE * self.ended

    def hides_jobs(self, at: float) -> bool:
        """Whether within FLOW_WINDOW_S before `at` more jobs ended than left a record.

        A record may come later than the counter tells: within a minute it is not missed.
        """
        return self._lacks_records or (self.hidden_at is not None and at - self.hidden_at < FLOW_WINDOW_S)

    def growth_since(self, before: CompletionBalance) -> int:
        """How many jobs without a record the last look brought; `before` = the balance without it."""
        return max(0, self.hidden_count - (before.hidden_count if before.began == self.began else 0))


BALANCED = CompletionBalance()
