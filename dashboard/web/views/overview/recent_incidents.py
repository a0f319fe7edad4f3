"""The incidents that ended last, for an overview on which nothing is wrong. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ....alerts.management.alert_reader import FoldedIncidents

SHOWN = 4
# Enough that ongoing incidents between the resolved ones leave SHOWN of these.
READ = 20
DAYS = 7

UNREADABLE = "Alert history unknown: the store cannot be read."
ELSEWHERE = "Alert history unknown: another dashboard evaluates the rules."
NO_HISTORY = "No alert history yet."
NONE_LATELY = f"No incidents in the last {DAYS} days."


@dataclass(frozen=True, slots=True)
class RecentIncidents:
    """`resolved`: at most SHOWN that ended within DAYS, newest first; `text` says why there are none, "" otherwise."""

    resolved: tuple[FoldedIncidents, ...] = ()
    text: str = ""


def summarize_history(history: Sequence[FoldedIncidents], now: float) -> RecentIncidents:
    """What to show of `history`, the newest READ entries, newest first; `now` in seconds since 1970."""
    # Otherwise older incidents of the week are unread.
    is_whole_week = len(history) < READ or now - history[-1].newest.known.at > DAYS * 86_400
    lately = [entry for entry in history if now - entry.newest.known.at <= DAYS * 86_400]
    resolved = tuple(entry for entry in lately if entry.newest.ended is not None)[:SHOWN]
    if resolved:
        return RecentIncidents(resolved)
    if lately:  # one that has begun and whose end is not recorded
        where = f"in the last {DAYS} days" if is_whole_week else f"among the last {len(history)}"
        return RecentIncidents(text=f"No resolved incidents {where}.")
    return RecentIncidents(text=NONE_LATELY if history else NO_HISTORY)
