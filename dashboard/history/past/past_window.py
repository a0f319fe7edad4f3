"""Which slots show a moment in the past. Pure: no Redis, no clock."""

from __future__ import annotations

from typing import NamedTuple

from ..history_reader import HistoryRange
from ..tiers import MINUTES, QUARTERS, WRITTEN_WITHIN_S, Tier, slot_of

# Rates and run times of a moment are those of the time before it, as those of now are; of a whole slot if it is longer.
RATES_S = 300
# The trend before a moment, in slots of a minute and in longer ones.
MINUTE_POINTS, QUARTER_POINTS = 60, 12


class PastWindow(NamedTuple):
    """The slots that show a moment: the last of `points` slots of `tier`, which ends at `end_s`, not after the moment.
    Rates are over the last `rate_points` of them. Seconds since 1970."""

    tier: Tier
    end_s: int
    points: int

    @property
    def step_s(self) -> int:
        """The length of a slot."""
        return self.tier.step_s

    @property
    def start_s(self) -> int:
        """The beginning of the last slot."""
        return self.end_s - self.step_s

    @property
    def rate_points(self) -> int:
        """How many slots the rates are of."""
        return max(1, RATES_S // self.step_s)

    @property
    def rates_s(self) -> int:
        """How much time the rates are of, in seconds."""
        return self.rate_points * self.step_s

    @property
    def trend_s(self) -> int:
        """How much time the trend covers, in seconds."""
        return self.points * self.step_s

    @property
    def slots(self) -> HistoryRange:
        """What to read."""
        return HistoryRange(self.end_s - self.trend_s, self.end_s, self.step_s)


def choose_window(at_s: float, now_s: float, within_s: float = WRITTEN_WITHIN_S) -> PastWindow:
    """The slots for a moment: minutes while they are stored, otherwise those of the coarsest tier.

    For one of just now, the last minute that is stored by then: `within_s` seconds after its end, see
    `written_within_s`.
    """
    end_s = slot_of(min(at_s, now_s - within_s), MINUTES.step_s)
    if now_s - (end_s - MINUTE_POINTS * MINUTES.step_s) <= MINUTES.keep_s:
        return PastWindow(MINUTES, end_s, MINUTE_POINTS)
    return PastWindow(QUARTERS, slot_of(at_s, QUARTERS.step_s), QUARTER_POINTS)
