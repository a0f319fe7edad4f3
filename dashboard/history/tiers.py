"""How long figures are stored, and how finely. Pure: no Redis, no clock."""

from __future__ import annotations

from typing import NamedTuple

from .columns import CLASS, SeriesKind

HOUR_S = 3600
DAY_S = 24 * HOUR_S


class Tier(NamedTuple):
    """One resolution. `name` is part of a key. `tail_records`: so many records are compressed together."""

    name: str
    step_s: int
    keep_s: int
    tail_records: int


FINE = Tier("10s", 10, HOUR_S, 90)
MINUTES = Tier("1m", 60, 2 * DAY_S, 120)
QUARTERS = Tier("15m", 900, 30 * DAY_S, 96)
# There are several classes for each queue.
CLASS_QUARTERS = Tier("15m", 900, DAY_S, 32)
CLASS_HOURS = Tier("2h", 7200, 30 * DAY_S, 24)

_OF_CLASSES = (CLASS_QUARTERS, CLASS_HOURS)
_OF_OTHERS = (FINE, MINUTES, QUARTERS)
MOST_TIERS = max(len(_OF_CLASSES), len(_OF_OTHERS))
TIER_NAMES = tuple(dict.fromkeys(tier.name for tier in (*_OF_OTHERS, *_OF_CLASSES)))


def tiers_of(kind: SeriesKind) -> tuple[Tier, ...]:
    """The tiers of a kind of series, the finest first. The step of each is a multiple of the one before."""
    return _OF_CLASSES if kind is CLASS else _OF_OTHERS


# A leader stores a slot with the next sample after its end, within this time unless samples are far apart.
WRITTEN_WITHIN_S = 30.0
# A sample of slow servers takes that long.
LONG_SAMPLE_S = 15.0


def written_within_s(interval_s: float) -> float:
    """How long after its end a slot is stored at the latest, with samples that are `interval_s` seconds apart."""
    return max(WRITTEN_WITHIN_S, interval_s + LONG_SAMPLE_S)


def classes_until_s(now_s: float, within_s: float = WRITTEN_WITHIN_S) -> int:
    """The end of the last slot of classes that is stored. Of the one after it, nothing is. `within_s`: see
    `written_within_s`."""
    return slot_of(now_s - within_s, CLASS_QUARTERS.step_s)


def slot_of(at: float, step_s: int) -> int:
    """The start of the slot that `at` (seconds since 1970) lies in."""
    return int(at // step_s) * step_s
