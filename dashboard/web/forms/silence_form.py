"""The form of a silence or a maintenance window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ...alerts.rules.rule import Severity
from ...alerts.silences import MAX_SILENCE_S, WeeklyWindow
from ...globs import GLOB_LIMIT, is_glob

GLOBS = ("rule", "source", "backend", "queue")
FIELDS = (*GLOBS, "severity", "when", "hours", "starts", "from", "weeks", "timezone", "comment")
# Operators can silence for a day; longer silences and weekly windows need an admin.
OPERATOR_S = 86_400.0
LONGEST_S = 30 * 86_400.0
WEEK_S = 7 * 86_400.0
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(slots=True)
class SilenceForm:
    """The form as it is shown: texts and errors by field. `needs_admin`: one of the errors is a missing role."""

    texts: dict[str, str]
    days: tuple[int, ...] = ()
    everything: bool = False
    errors: dict[str, str] = field(default_factory=dict)
    needs_admin: bool = False

    @classmethod
    def of(cls, given: Mapping[str, str]) -> SilenceForm:
        """An empty form, its globs filled in from the query parameters."""
        texts = dict.fromkeys(FIELDS, "") | {name: given.get(name, "*")[:200] for name in GLOBS}
        when = given.get("when", "now")
        texts |= {"when": when if when in ("now", "later", "weekly") else "now", "hours": "2", "timezone": "UTC"}
        return cls(texts | {"from": "02:00", "weeks": "12"})

    @classmethod
    def typed(cls, form: Mapping[str, str], days: Sequence[str]) -> SilenceForm:
        """The form as it was submitted."""
        texts = {name: form.get(name, "").strip()[:300] for name in FIELDS}
        texts |= {name: texts[name] or "*" for name in GLOBS} | {"when": texts["when"] or "now"}
        texts["timezone"] = texts["timezone"] or "UTC"
        known = [str(number) for number in range(len(DAYS))]
        found = cls(texts, tuple(int(day) for day in days if day in known), form.get("everything") == "1")
        if any(day not in known for day in days):
            found.errors["days"] = "expected days from 0, Monday, to 6"
        return found

    def values(self, now: float, *, admin: bool) -> dict[str, Any]:
        """The keywords of `SilenceEditor.draft_silence`. Sets `errors` and `needs_admin`."""
        texts = self.texts
        values: dict[str, Any] = {name: texts[name] for name in GLOBS} | {"comment": texts["comment"]}
        for name in GLOBS:
            if texts[name] and not is_glob(texts[name]):
                self.errors[name] = f"expected at most {GLOB_LIMIT} characters, with * and ? as wildcards"
        severity = texts["severity"]
        if severity not in ("", "warning", "critical"):
            self.errors["severity"] = "expected warning, critical, or empty for both"
        if texts["when"] not in ("now", "later", "weekly"):
            self.errors["when"] = "expected now, later or weekly"
        values["severity"] = Severity(severity) if severity in ("warning", "critical") else None
        if not any(set(texts[name]) - set("*") for name in GLOBS) and severity == "" and not self.everything:
            self.errors["everything"] = (
                "this would silence every alert: choose a rule, queue, library or Redis, or check the box to confirm"
            )
        length_s = self._parse_number("hours", 1 / 60, LONGEST_S / 3600) * 3600
        if texts["when"] == "weekly":
            return values | self._parse_weekly(length_s, admin=admin)
        if length_s > OPERATOR_S and not admin:
            self.needs_admin = True
            self.errors["hours"] = "you need the admin role to silence for more than 24 hours"
        starts_in_s = self._starts_in_s(now) if texts["when"] == "later" else 0.0
        return values | {"for_s": length_s, "starts_in_s": starts_in_s}

    def _parse_weekly(self, length_s: float, *, admin: bool) -> dict[str, Any]:
        if not admin:
            self.needs_admin = True
            self.errors["when"] = "you need the admin role for weekly windows"
        hour, _, minute = self.texts["from"].partition(":")
        from_min = 0
        digits = (hour + minute).isascii() and hour.isdigit() and minute.isdigit()
        if digits and len(hour) < 3 and len(minute) < 3 and int(hour) < 24 and int(minute) < 60:
            from_min = int(hour) * 60 + int(minute)
        else:
            self.errors["from"] = "expected a time of day, such as 02:00"
        if not self.days:
            self.errors["days"] = "select at least one day"
        if length_s > WEEK_S:
            self.errors["hours"] = "a weekly window can last at most 168 hours"
        weeks = self._parse_number("weeks", 1, MAX_SILENCE_S // WEEK_S)
        zone = self._parse_zone()
        weekly = WeeklyWindow(
            days=self.days,
            from_min=from_min,
            minutes=max(1, round(length_s / 60)),
            timezone=zone.key if zone else "UTC",
        )
        return {"for_s": weeks * WEEK_S, "weekly": weekly}

    def _starts_in_s(self, now: float) -> float:
        zone = self._parse_zone()
        try:
            begin = datetime.fromisoformat(self.texts["starts"])
        except ValueError:
            self.errors["starts"] = "expected a date and time, such as 2027-03-01 02:00"
            return 0.0
        starts_in_s = begin.replace(tzinfo=zone or UTC).timestamp() - now
        if not 0 <= starts_in_s <= MAX_SILENCE_S:
            self.errors["starts"] = "expected a time in the future, within a year"
            return 0.0
        return starts_in_s

    def _parse_zone(self) -> ZoneInfo | None:
        try:
            return ZoneInfo(self.texts["timezone"])
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self.errors["timezone"] = "expected a name such as Europe/Berlin"
            return None

    def _parse_number(self, name: str, least: float, most: float) -> float:
        try:
            number = float(self.texts[name])
        except ValueError:
            number = float("nan")
        if least <= number <= most:
            return number
        low = "above 0" if least < 1 else f"from {least:g}"
        self.errors[name] = f"expected a number {low}, at most {most:g}"
        return least
