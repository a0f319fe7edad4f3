"""Silences, maintenance windows and acknowledgements: they suppress notifications, never evaluation. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from ..globs import GLOB_LIMIT, glob_matches, is_glob
from ..model import Value
from .evaluation.state_machine import AlertLabels, AlertState
from .rules.rule import Severity

MAX_SILENCE_S = 365 * 86_400.0
MAX_COMMENT = 300
DAY_MIN = 24 * 60
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


class WeeklyWindow(Value, frozen=True, kw_only=True):
    """A weekly window: on these days (0 = Monday), starting at `from_min` of the day, for `minutes`."""

    days: tuple[int, ...]
    from_min: int
    minutes: int
    timezone: str = "UTC"

    def contains_time(self, now: float) -> bool:
        """Whether `now` (seconds since 1970) is inside. Start and end are local time, and it can cross midnight.

        When the clock is set back, it starts and ends the first time that the clock shows that time; when the clock is
        set forward past the start, it starts then.
        """
        return _end_of_stretch(self, int(now // 60) * 60) is not None

    def ends_at(self, now: float) -> float:
        """The end of the window that contains `now`: seconds since 1970, at most two weeks later.

        Windows that follow each other without a gap count as one.
        """
        minute = int(now // 60) * 60
        return _end_of_stretch(self, minute) or float(minute)


@lru_cache(maxsize=1024)  # an evaluation and a page call it for each of their alerts
def _end_of_stretch(weekly: WeeklyWindow, now: int) -> float | None:
    """The end of the window that contains the minute `now`; None outside of one."""
    zone = ZoneInfo(weekly.timezone)
    end: float | None = None
    for _ in range(2 * len(weekly.days)):
        at = now if end is None else end
        today = datetime.fromtimestamp(at, UTC).astimezone(zone).date()
        ends = []
        for days_ago in range(1 + (weekly.from_min + weekly.minutes) // DAY_MIN):
            day = today - timedelta(days=days_ago)
            if day.weekday() in weekly.days:
                begin = datetime.combine(day, time()) + timedelta(minutes=weekly.from_min)
                over = (begin + timedelta(minutes=weekly.minutes)).replace(tzinfo=zone).timestamp()
                if at < over and _window_start(begin, zone) <= at:
                    ends.append(over)
        if not ends:
            break
        end = max(ends)
    return end


def _window_start(clock: datetime, zone: ZoneInfo) -> float:
    """The first instant at which the zone's clock shows that time, or a later one of that day."""
    shown = clock.replace(tzinfo=zone).timestamp()
    skipped = clock.replace(tzinfo=zone, fold=1).timestamp()
    while skipped < shown:  # the clock is set forward past it
        if datetime.fromtimestamp(skipped, zone).replace(tzinfo=None) >= clock:
            return skipped
        skipped += 60
    return shown


class Silence(Value, frozen=True, kw_only=True):
    """Which alerts are silenced until when. All globs must match; an alert without the label matches only `*`."""

    id: str
    until: float  # seconds since 1970 by the store's clock
    by: str
    comment: str = ""
    created_at: float = 0.0
    starts_at: float = 0.0
    rule: str = "*"
    source: str = "*"
    backend: str = "*"
    queue: str = "*"
    severity: Severity | None = None
    weekly: WeeklyWindow | None = None  # set: a maintenance window, active only within it

    def mutes_alert(self, rule_id: str, severity: Severity, labels: AlertLabels, now: float) -> bool:
        """Whether notifications of that alert are suppressed now."""
        return (
            (self.severity is None or self.severity is severity)
            and _matches_glob(self.rule, rule_id)
            and self.covers_queue(labels.source, labels.backend, labels.queue)
            and self.is_active(now)
        )

    def covers_queue(self, source: str | None, backend: str | None, queue: str | None) -> bool:
        """Whether alerts about that queue can match, of some rule and at some time; None: they have no such label."""
        return (
            _matches_glob(self.source, source)
            and _matches_glob(self.backend, backend)
            and _matches_glob(self.queue, queue)
        )

    def is_active(self, now: float) -> bool:
        """Whether it suppresses notifications now: it has begun, has not ended, and is within its weekly window."""
        return self.starts_at <= now < self.until and (self.weekly is None or self.weekly.contains_time(now))

    def ends_at(self, now: float) -> float:
        """When the current silence ends; for a maintenance window the end of this occurrence, not of the last one."""
        return min(self.until, self.weekly.ends_at(now)) if self.weekly else self.until

    def find_problem(self) -> str | None:
        """What is wrong with it, as `field: expected …`; None when it is valid."""
        if not _ID.match(self.id):
            return "id: expected letters, digits, dots, dashes or underscores"
        for field in ("rule", "source", "backend", "queue"):
            glob = getattr(self, field)
            if not is_glob(glob):
                return f"{field}: expected a glob of at most {GLOB_LIMIT} characters with * and ? only"
        if not 0 < self.until - max(self.created_at, self.starts_at) <= MAX_SILENCE_S:
            return "until: expected a time after the start, within a year"
        if len(self.comment) > MAX_COMMENT or len(self.by) > MAX_COMMENT:
            return f"comment: expected at most {MAX_COMMENT} characters"
        return _weekly_problem(self.weekly) if self.weekly else None


def _weekly_problem(weekly: WeeklyWindow) -> str | None:
    if not weekly.days or not all(0 <= day <= 6 for day in weekly.days):
        return "days: expected numbers from 0 (Monday) to 6"
    if not 0 <= weekly.from_min < DAY_MIN or not 1 <= weekly.minutes <= 7 * DAY_MIN:
        return "from_min, minutes: expected a minute of the day, and 1 minute to 7 days"
    try:
        ZoneInfo(weekly.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "timezone: expected a name such as Europe/Berlin"
    return None


def _matches_glob(glob: str, text: str | None) -> bool:
    return glob == "*" or (text is not None and glob_matches(glob, text))


class Acknowledgement(Value, frozen=True, kw_only=True):
    """Who acknowledged an incident, which stops its reminders."""

    episode: str
    by: str
    at: float
    comment: str = ""


class ActiveSilences(Value, frozen=True, kw_only=True):
    """All silences and acknowledgements, as of one read."""

    silences: tuple[Silence, ...] = ()
    acks: dict[str, Acknowledgement] = msgspec.field(default_factory=dict)  # by fingerprint

    def find_silence(self, rule_id: str, severity: Severity, labels: AlertLabels, now: float) -> Silence | None:
        """The first silence that matches that alert now."""
        if not self.silences:
            return None
        return first_silence(
            silence for silence in self.silences if silence.mutes_alert(rule_id, severity, labels, now)
        )

    def is_acknowledged(self, state: AlertState) -> bool:
        """Whether the ongoing incident is acknowledged."""
        if not self.acks:
            return False
        ack = self.acks.get(state.fingerprint)
        return ack is not None and ack.episode in (state.episode, state.announced) and state.is_active


def describe_silence(silence: Silence) -> str:
    """What a silence matches, in one line: "rule mail-deep, queue mail-*, critical only"."""
    matchers = {"rule": silence.rule, "queue": silence.queue, "library": silence.backend, "Redis": silence.source}
    parts = [f"{name} {glob}" for name, glob in matchers.items() if glob != "*"]
    if silence.severity:
        parts.append(f"{silence.severity} only")
    return ", ".join(parts) or "everything"


def first_silence(silences: Iterable[Silence]) -> Silence | None:
    """The first one, or None."""
    return next(iter(silences), None)
