"""A moment in the past that a page shows, and the moments that it leads to. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from ....errors import Unsupported
from ....history.tiers import DAY_S, QUARTERS

# Label -> seconds, in the order of the links.
STEPS: tuple[tuple[str, int], ...] = (("1 d", DAY_S), ("1 h", 3600), ("10 min", 600), ("1 min", 60))
# "Earlier" leads so far back, and so does its key.
EARLIER_S = 600
# The clocks of a browser and of Redis differ a little: a moment that is so little ahead is now.
AHEAD_S = 60
# The slider covers so much time, with the moment in the middle unless that is now.
SLIDER_S = DAY_S
SLIDER_STEP_S = 60


class MomentLink(NamedTuple):
    """A step to another moment. `at`: the text for the URL; None if nothing is stored of that time, or it is ahead."""

    label: str
    at: str | None


class Slider(NamedTuple):
    """The ends of the slider, in seconds since 1970."""

    start_s: int
    end_s: int


class Moment(NamedTuple):
    """A moment, and now; both in seconds since 1970."""

    at_s: int
    now_s: float

    @property
    def text(self) -> str:
        """The moment as it is in URLs: 2026-11-29T03:12:00Z."""
        return format_at(self.at_s)

    @property
    def ago_s(self) -> float:
        """How long ago it is."""
        return max(0.0, self.now_s - self.at_s)

    @property
    def minute_text(self) -> str:
        """The moment as the form shows it, in UTC: 2026-11-29T03:12."""
        return self.text[:16]

    @property
    def first_text(self) -> str:
        """The earliest moment that the form accepts."""
        return format_at(self.now_s - QUARTERS.keep_s + 60)[:16]

    @property
    def last_text(self) -> str:
        """The latest moment that the form accepts."""
        return format_at(self.now_s)[:16]

    @property
    def back(self) -> tuple[MomentLink, ...]:
        """The steps back, the longest first."""
        return tuple(self._step(label, -seconds) for label, seconds in STEPS)

    @property
    def forward(self) -> tuple[MomentLink, ...]:
        """The steps forward, the shortest first."""
        return tuple(self._step(label, seconds) for label, seconds in reversed(STEPS))

    @property
    def slider(self) -> Slider:
        """The time that the slider covers: the moment is in its middle, unless it is less than half of it ago."""
        end_s = min(int(self.now_s) // SLIDER_STEP_S * SLIDER_STEP_S, self.at_s + SLIDER_S // 2)
        end_s = max(end_s, self.at_s)
        oldest_s = int(self.now_s) - QUARTERS.keep_s + SLIDER_STEP_S
        return Slider(min(self.at_s, max(oldest_s, end_s - SLIDER_S)), end_s)

    def _step(self, label: str, by_s: int) -> MomentLink:
        at_s = self.at_s + by_s
        is_stored = self.now_s - QUARTERS.keep_s <= at_s <= self.now_s
        return MomentLink(label, format_at(at_s) if is_stored else None)


def choose_moment(at_s: float | None, now_s: float) -> Moment | None:
    """The moment of a URL; None for now.

    Raises Unsupported for one in the future, and for one before anything that is stored.
    """
    if at_s is None:
        return None
    if at_s > now_s + AHEAD_S:
        raise Unsupported(
            f"This moment is in the future: {_shown(at_s)}.", hint=f"It is {_shown(now_s)} now. Choose an earlier one."
        )
    if at_s < now_s - QUARTERS.keep_s:
        raise Unsupported(
            f"Nothing is stored of this moment: {_shown(at_s)}.",
            hint="The history goes back 30 days. Choose a later one.",
        )
    return Moment(int(min(at_s, now_s)), now_s)


def format_at(at_s: float) -> str:
    """Seconds since 1970 as the text of a URL."""
    return datetime.fromtimestamp(int(at_s), UTC).isoformat().replace("+00:00", "Z")


def _shown(at_s: float) -> str:
    try:
        return f"{datetime.fromtimestamp(int(at_s), UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{at_s:.0f} seconds after 1970"
