"""The times whose totals are compared: a range, the one before it, and those around a moment. Pure: no Redis, no clock.

Classes are stored in slots of 15 minutes and 2 hours, so these times begin and end with a slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..columns import CLASS
from ..history_reader import choose_tier
from ..tiers import CLASS_HOURS, CLASS_QUARTERS, DAY_S, HOUR_S, WRITTEN_WITHIN_S, Tier, classes_until_s, slot_of

# Name -> seconds.
CLASS_RANGES: Mapping[str, int] = {"1h": HOUR_S, "24h": DAY_S, "7d": 7 * DAY_S, "30d": 30 * DAY_S}
DEFAULT_CLASS_RANGE = "1h"
STEP_S = CLASS_QUARTERS.step_s


class Window(NamedTuple):
    """From `start_s` until before `end_s`, in seconds since 1970, from the slots of `tier`."""

    start_s: int
    end_s: int
    tier: Tier


class ClassWindows(NamedTuple):
    """The range `current` and the time `before` it, and around a moment, `since` it and `until` it.

    None: not asked for, older than what is stored, or shorter than a slot.
    """

    current: Window
    before: Window | None
    since: Window | None = None
    until: Window | None = None

    @property
    def known(self) -> tuple[Window, ...]:
        """Those that are not None."""
        return tuple(window for window in self if window is not None)


def choose_windows(
    range_s: int,
    now_s: float,
    since_s: float | None = None,
    until_s: float | None = None,
    within_s: float = WRITTEN_WITHIN_S,
) -> ClassWindows:
    """The last `range_s` seconds before now, or before `until_s`, and as many before them; with `since_s`, also the
    part of the range since that moment, and as many seconds as the range has before it.

    A slot in which the moment lies belongs to neither, and that of `until_s` to none. Slots are stored `within_s`
    seconds after their end.
    """
    end_s = classes_until_s(now_s, within_s) if until_s is None else last_end_s(until_s, now_s, within_s)
    start_s = end_s - range_s
    tier = choose_tier(CLASS, start_s, now_s)
    current = Window(slot_of(start_s, tier.step_s), end_s, tier)
    before = _ending(current.start_s, range_s, now_s)
    if since_s is None:
        return ClassWindows(current, before)
    since = None
    if since_s < end_s:
        tier = choose_tier(CLASS, max(since_s, start_s), now_s)
        first_s = max(current.start_s, slot_of(since_s + tier.step_s - 1, tier.step_s))
        since = Window(first_s, end_s, tier) if first_s < end_s else None
    return ClassWindows(current, before, since, _ending(since_s, range_s, now_s) if since else None)


def last_end_s(at_s: float, now_s: float, within_s: float) -> int:
    """The end of the last slot that had ended at a moment, of those that are still stored."""
    end_s = classes_until_s(min(at_s + within_s, now_s), within_s)
    # The slots of 15 minutes since the last one of 2 hours must still be there.
    is_fine = now_s - slot_of(end_s, CLASS_HOURS.step_s) <= CLASS_QUARTERS.keep_s
    return end_s if is_fine else slot_of(end_s, CLASS_HOURS.step_s)


def first_figures_s(since_s: float, now_s: float) -> int:
    """When the first whole slot since a moment ends, in seconds since 1970: before it, nothing can be compared."""
    step_s = choose_tier(CLASS, since_s, now_s).step_s
    return slot_of(since_s + step_s - 1, step_s) + step_s


def _ending(end_s: float, range_s: int, now_s: float) -> Window | None:
    tier = choose_tier(CLASS, end_s - range_s, now_s)
    stop_s = slot_of(end_s, tier.step_s)
    if now_s - (stop_s - range_s) > CLASS_HOURS.keep_s:
        return None
    return Window(slot_of(stop_s - range_s, tier.step_s), stop_s, tier)
