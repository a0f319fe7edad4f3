"""What charts mark: deployments and other changes, and alerts that fired or resolved. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from ....alerts.evaluation.state_machine import AlertLabels
from ....alerts.notification import HistoryEntry
from ....history.series_keys import SeriesKey
from ....marks.mark_reader import MarkList, UnreadMarks
from ....model import Mark
from ....units import format_duration
from ...formatting import one_line

# More lines hide the chart below them: of each kind, the newest are drawn and listed.
MOST_OF_A_KIND = 60
MAX_LABEL, MAX_PLACE, MAX_TITLE = 270, 60, 120


class ChartMark(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One vertical line, `at_s` in seconds since 1970. `tone` names its color in charts.css.

    `id`, `link`, `by`: of a mark that was added in Queuedeck; `by` is also the library that recorded one.
    """

    at_s: float
    kind: Literal["mark", "firing", "resolved"]
    tone: str
    label: str
    id: str | None = None
    link: str | None = None
    by: str | None = None


class ChartMarks(NamedTuple):
    """Marks of a chart page, newest first; `hidden` earlier ones are left out. `problem`: why none can be read."""

    shown: tuple[ChartMark, ...] = ()
    hidden: int = 0
    unread: tuple[UnreadMarks, ...] = ()
    problem: str | None = None

    @property
    def digest(self) -> str:
        """The same for the same marks: by it, a page knows whether its list shows what its charts draw."""
        return hashlib.blake2b(msgspec.json.encode(self.shown), digest_size=8).hexdigest()


def collect_marks(
    key: SeriesKey, mark_list: MarkList, changes: Iterable[HistoryEntry], titles: Mapping[str, str]
) -> ChartMarks:
    """The marks of the page about `key`. `titles`: the display names of libraries.

    A queue has the alerts of its own and of its Redis, a Redis those without a queue; all queues together have all.
    Marks that a library recorded are those of its source only.
    """
    sources = {key.source} if key.source else None
    return _draw_marks(mark_list, sources, [entry for entry in changes if concerns(entry.labels, key)], titles)


def collect_group_marks(
    fingerprint: str,
    queues: Collection[SeriesKey],
    mark_list: MarkList,
    changes: Iterable[HistoryEntry],
    titles: Mapping[str, str],
) -> ChartMarks:
    """The marks of an error group with jobs of `queues`: alerts about it, about these queues and about their Redis.

    Marks that a library recorded are those of their sources.
    """
    alerts = [
        entry
        for entry in changes
        if entry.labels.error == fingerprint or any(concerns(entry.labels, key) for key in queues)
    ]
    return _draw_marks(mark_list, {key.source for key in queues}, alerts, titles)


def _draw_marks(
    mark_list: MarkList, sources: Collection[str] | None, changes: Sequence[HistoryEntry], titles: Mapping[str, str]
) -> ChartMarks:
    """`sources`: of which marks of libraries are drawn; None for all."""
    marks = [
        _draw_mark(mark, titles)
        for mark in mark_list.marks
        if mark.source is None or sources is None or mark.source in sources
    ]
    alerts = [_draw_change(entry, titles) for entry in changes]
    shown = sorted((*marks[:MOST_OF_A_KIND], *alerts[:MOST_OF_A_KIND]), key=lambda mark: -mark.at_s)
    unread = tuple(each for each in mark_list.unread if sources is None or each.source in sources)
    return ChartMarks(tuple(shown), len(marks) + len(alerts) - len(shown), unread)


def concerns(labels: AlertLabels, key: SeriesKey) -> bool:
    """Whether an alert with these labels belongs on the page about `key`; one about an error, a channel, an SLO or a
    schedule without a known queue only on that of all queues."""
    if not key.source:
        return True
    if labels.error is not None or labels.channel is not None or labels.slo is not None:
        return False
    if labels.schedule is not None and labels.queue is None:
        return False
    if labels.source is None:
        return True
    if labels.source != key.source:
        return False
    if labels.queue is not None:
        is_of_class = not key.job_class or labels.job_class in (None, key.job_class)
        return is_of_class and (labels.backend, labels.queue) == (key.backend, key.name)
    return labels.backend is None or not key.backend or labels.backend == key.backend


def _draw_mark(mark: Mark, titles: Mapping[str, str]) -> ChartMark:
    by = f"{titles.get(mark.backend, mark.backend)} on {mark.source}" if mark.backend else mark.who
    return ChartMark(
        at_s=mark.at,
        kind="mark",
        tone="main",
        label=one_line(mark.label, MAX_LABEL),
        id=mark.id,
        link=mark.link,
        by=one_line(by, MAX_PLACE) if by else None,
    )


def _draw_change(entry: HistoryEntry, titles: Mapping[str, str]) -> ChartMark:
    place = place_of(entry.labels, titles)
    alert = one_line(f"alert {entry.rule_name}{f': {place}' if place else ''}", MAX_LABEL)
    if entry.kind == "resolved":
        lasted = f"resolved after {format_duration(entry.lasted_s)}"
        return ChartMark(at_s=entry.at, kind="resolved", tone="calm", label=f"{alert} {lasted}")
    return ChartMark(at_s=entry.at, kind="firing", tone=entry.severity.value, label=f"{alert} fired")


def place_of(labels: AlertLabels, titles: Mapping[str, str]) -> str:
    """What an alert is about, in one line: a queue, a job class, an error, a library or a Redis; "" for everything."""
    title = titles.get(labels.backend, labels.backend) if labels.backend else ""
    if labels.error is not None or labels.schedule is not None or labels.slo is not None:
        return one_line(labels.title or labels.error or labels.schedule or labels.slo or "", MAX_TITLE)
    if labels.job_class is not None:
        return one_line(labels.job_class, MAX_TITLE)
    if labels.queue == "*":
        return f"all {title} queues"
    return one_line(labels.queue or title or labels.source or labels.channel or "", MAX_PLACE)
