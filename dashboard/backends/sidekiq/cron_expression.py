"""The next run of a cron expression as parsed by fugit, which sidekiq-cron uses. Pure.

Supported: five fields, or six with seconds first; lists, ranges, steps, names, `L` for the last day of a month;
shortcuts such as `@daily`; a time zone at the end. Everything else (`#`, `%`, `~`, `&`, days counted from the end,
sentences) is unknown. Rules: fugit `lib/fugit/cron.rb`.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

SPECIALS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@noon": "0 12 * * *",
    "@hourly": "0 * * * *",
}
LONGEST = 200
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
LAST_DAY = -1
LONGEST_DAY = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
# Enough to reach the 29th of February, and soon over for a date that never comes.
MOST_STEPS = 400
# sidekiq-cron checks every 30 s which schedules are due.
LATE = timedelta(seconds=90)
_ELEMENT = re.compile(r"(\*|[0-9]{1,2}|[a-z]{1,4})?(?:-([0-9]{1,2}|[a-z]{3}))?(?:/([0-9]{1,2}))?\Z")
_DELTA = re.compile(r"([-+])([01][0-9]|2[0-4]):?(00|15|30|45)\Z")
_ZONE = re.compile(r"[A-Z][A-Za-z0-9+-]*(?:/[A-Z][A-Za-z0-9+_-]+){0,2}\Z")


class Cron(NamedTuple):
    """An expression: the matching values per field, None for any. `zone` None: that of the Ruby process, unknown."""

    seconds: frozenset[int] | None
    minutes: frozenset[int] | None
    hours: frozenset[int] | None
    days: frozenset[int] | None
    months: frozenset[int] | None
    weekdays: frozenset[int] | None  # Sunday is 0
    zone: tzinfo | None

    def next_after(self, at: datetime, zone: tzinfo) -> datetime | None:
        """The first instant after `at` that matches in the time zone `zone`; None if there is none for years."""
        now = at.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
        for _ in range(MOST_STEPS):
            try:
                following = self._next_candidate(now, zone)
            except OverflowError:
                return None
            if following is None:
                return now
            now = following
        return None

    def _next_candidate(self, now: datetime, zone: tzinfo) -> datetime | None:
        """The next instant to try; None if `now` matches."""
        local = now.astimezone(zone)
        midnight = local.replace(hour=0, minute=0, second=0, fold=0)
        if not _matches_field(self.months, local.month):
            return _local_instant(now, (midnight.replace(day=1) + timedelta(days=32)).replace(day=1))
        if not self._day_fits(local):
            return _local_instant(now, midnight + timedelta(days=1))
        if not _matches_field(self.hours, local.hour):
            return now + timedelta(seconds=3600 - local.minute * 60 - local.second)
        if not _matches_field(self.minutes, local.minute):
            return now + timedelta(seconds=60 - local.second)
        if not _matches_field(self.seconds, local.second):
            return now + timedelta(
                seconds=1 if any(s > local.second for s in self.seconds or ()) else 60 - local.second
            )
        return None

    def _day_fits(self, local: datetime) -> bool:
        weekday = _matches_field(self.weekdays, (local.weekday() + 1) % 7)
        last = LAST_DAY in (self.days or ()) and local.day == calendar.monthrange(local.year, local.month)[1]
        day = last or _matches_field(self.days, local.day)
        # If both are given, one match is enough.
        return weekday or day if self.weekdays is not None and self.days is not None else weekday and day

    @property
    def is_zone_independent(self) -> bool:
        """Whether it is due at the same instants in every time zone; zones differ by multiples of 15 minutes."""
        minutes = self.minutes is None or (_is_even(self.minutes, 60) and len(self.minutes) % 4 == 0)
        return minutes and self._whole_days and self.hours is None

    @property
    def _whole_days(self) -> bool:
        return self.days is None and self.weekdays is None and self.months is None

    def pinned_by(self, last: datetime) -> bool:
        """Whether a run at `last` shows that the expression uses UTC, as far as the next run depends on it."""
        due = self.next_after(last - LATE, UTC)
        if due is None or due > last or not _is_even(self.minutes, 60) or not _is_even(self.hours, 24):
            return False
        return self._whole_days or (self.hours is not None and len(self.hours) == 1)


@lru_cache(maxsize=2000)
def parse_cron(text: str) -> Cron | None:
    """Parse `text`; None if it is not supported."""
    if len(text) > LONGEST:
        return None
    words = text.split()
    if words and words[0] in SPECIALS:
        words[:1] = SPECIALS[words[0]].split()
    zone: tzinfo | None = None
    if len(words) > 5 and (_ZONE.match(words[-1]) or _DELTA.match(words[-1])) and not _is_weekday(words[-1]):
        zone = _parse_zone(words.pop())
        if zone is None:
            return None
    if len(words) not in (5, 6):
        return None
    try:
        seconds = _parse_values(words.pop(0), 0, 59) if len(words) == 6 else frozenset({0})
        minutes, hours, days, months = (
            _parse_values(word, *bounds, names)
            for word, bounds, names in zip(
                words, ((0, 59), (0, 24), (1, 31), (1, 12)), ((), (), (), MONTHS), strict=False
            )
        )
        weekdays = _parse_weekdays(words[4])
    except ValueError:
        return None
    hours = frozenset(hour % 24 for hour in hours) if hours is not None else None
    if days is not None and months is not None:
        # fugit drops months that have none of the days, whatever the weekdays.
        months = frozenset(month for month in months if min(days) <= LONGEST_DAY[month])
        if not months:
            return None
    return Cron(seconds, minutes, hours, days, months, weekdays, zone)


def next_run(text: str, last: datetime | None, now: datetime) -> tuple[datetime | None, str | None]:
    """(the next run of a schedule, the time zone); None for whatever is not certain.

    An expression without a zone uses that of the Ruby process, which Redis does not hold: the next run is reported only
    if the `last` run shows that this is UTC.
    """
    cron = parse_cron(text)
    zone = _certain_zone(cron, last) if cron is not None else None
    if cron is None or zone is None:
        return None, None
    if cron.zone is not None:
        return cron.next_after(now, zone), text.split()[-1]
    return cron.next_after(now, zone), None if cron.is_zone_independent else "UTC"


def missed_run(text: str, last: datetime, now: datetime) -> datetime | None:
    """The run after the `last` one, if it was due more than LATE before `now`; None if not, or if it is not certain.

    sidekiq-cron makes up for a run only within a minute: after a longer outage, the run is missing.
    """
    cron = parse_cron(text)
    zone = _certain_zone(cron, last) if cron is not None else None
    due = cron.next_after(last, zone) if cron is not None and zone is not None else None
    return due if due is not None and due + LATE < now else None


def _certain_zone(cron: Cron, last: datetime | None) -> tzinfo | None:
    """The time zone in which an expression is evaluated, as far as it matters; None if it is not certain."""
    if cron.zone is not None:
        return cron.zone
    return UTC if cron.is_zone_independent or (last is not None and cron.pinned_by(last)) else None


def _local_instant(now: datetime, local: datetime) -> datetime:
    """The instant of a local time; an hour after `now` if it is before `now` because clocks were set back."""
    found = local.astimezone(UTC)
    return found if found > now else now + timedelta(hours=1)


def _matches_field(values: frozenset[int] | None, value: int) -> bool:
    return values is None or value in values


def _is_even(values: frozenset[int] | None, size: int) -> bool:
    """Whether the values are evenly spaced around the dial, so that one determines the others."""
    ordered = sorted(values or (0,))
    return len({(b - a) % size for a, b in zip(ordered, [*ordered[1:], ordered[0]], strict=True)}) == 1


def _is_weekday(word: str) -> bool:
    return any(part[:3].lower() in WEEKDAYS for part in word.replace("-", ",").split(",")) and "/" not in word


def _parse_zone(name: str) -> tzinfo | None:
    if delta := _DELTA.match(name):
        offset = timedelta(hours=int(delta[2]), minutes=int(delta[3]))
        return timezone(-offset if delta[1] == "-" else offset) if offset < timedelta(hours=24) else None
    try:
        return ZoneInfo("UTC" if name == "Z" else name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _parse_number(text: str | None, names: tuple[str, ...], least: int) -> int | None:
    if text in (None, "*"):
        return None
    assert text is not None
    return int(text) if text.isdigit() else names.index(text) + least


def _parse_parts(
    word: str, names: tuple[str, ...], least: int
) -> Iterable[tuple[int | None, int | None, int | None, bool]]:
    """(from, to, step, whether it matches all) of each element of a list. Raises ValueError if not supported."""
    for part in word.lower().split(","):
        match = _ELEMENT.match(part)
        if match is None or not part or (match[1] is None and match[2] is not None) or (match[1] == "*" and match[2]):
            raise ValueError(part)
        step = int(match[3]) if match[3] else None
        if step == 0:
            raise ValueError(part)
        yield (
            _parse_number(match[1], names, least),
            _parse_number(match[2], names, least),
            step,
            match[1] in (None, "*") and step is None,
        )


def _parse_values(word: str, least: int, most: int, names: tuple[str, ...] = ()) -> frozenset[int] | None:
    """The values of a field, None for any. Raises ValueError if not supported."""
    if most == 31 and word.lower() in ("l", "last"):
        return frozenset({LAST_DAY})
    top = 23 if most == 24 else most  # 24 is a valid hour and means midnight; ranges end at 23
    found: set[int] = set()
    whole = False
    for first, last, step, every in _parse_parts(word, names, least):
        whole = whole or every
        start = least if first is None else first
        end = top if last is None and (first is None or step is not None) else start if last is None else last
        if not (least <= start <= most and least <= end <= most):
            raise ValueError(word)
        ring = range(start, end + 1) if start <= end else (*range(start, top + 1), *range(least, end + 1))
        found.update(ring[:: step or 1])
        whole = whole or (start, end, step or 1) == (least, top, 1)
    return None if whole else frozenset(found)


def _parse_weekdays(word: str) -> frozenset[int] | None:
    """The days of the week, None for any. Raises ValueError if not supported."""
    found: set[int] = set()
    for first, last, step, _ in _parse_parts(word, WEEKDAYS, 0):
        start = first or 0
        end = last if last is not None else start if first is not None else 6
        if first is None and step is None:
            continue
        if start > 7 or end > 7:
            raise ValueError(word)
        found.update(range(start, (end if end >= start else end + 7) + 1, step or 1))
    return frozenset(day % 7 for day in found) or None
