"""The marks that the class list compares with, and the newer ones whose jobs are among the same figures. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ....clock import instant
from ....history.classes.windows import Window, first_figures_s
from ....history.tiers import DAY_S
from ....marks.mark_reader import AFTER_MARK_S
from ....model import Mark
from ...formatting import one_line

MAX_TITLE = 20
MAX_NEWER = 3


class FigureTimes(NamedTuple):
    """`now_s`; `end_s`: now or the moment shown; `stored_s`: the figures end there, written `within_s` later."""

    now_s: float
    end_s: float
    stored_s: int
    within_s: float


class NewerMark(NamedTuple):
    """A mark after the one that is compared with. `at_s`, `compared_s`: since 1970; `compared_s`: from when on figures
    can be compared with those before it; None if they can already, or never as of that moment."""

    label: str
    at_s: float
    at: str
    compared_from: str | None


@dataclass(frozen=True, slots=True)
class ComparedMarks:
    """What the list compares with. `title`: of the column; "" without one. `label`: the mark, if it is one.

    `newer`: at most MAX_NEWER, the newest first; `hidden`: how many more there are. `mixed`: the newer marks that lie
    within the figures since the mark, so that a change can come from either: "v413"; "" without any. `earlier`: the
    same, of those between the figures before the mark and the mark.
    """

    title: str = ""
    label: str = ""
    newer: tuple[NewerMark, ...] = ()
    hidden: int = 0
    mixed: str = ""
    earlier: str = ""


def last_compared_s(marks: Iterable[Mark], times: FigureTimes) -> float | None:
    """When the last mark was since which there are figures, of `marks`, newest first; None without one in the last
    AFTER_MARK_S. Marks that a library recorded concern only some of the classes."""
    own = (mark.at for mark in marks if mark.id is not None and times.end_s - mark.at <= AFTER_MARK_S)
    return next((at for at in own if first_figures_s(at, times.now_s) <= times.stored_s), None)


def compare_marks(
    marks: Sequence[Mark], since_s: float | None, since: Window | None, until: Window | None, times: FigureTimes
) -> ComparedMarks:
    """What is compared with the moment `since_s`. `since`, `until`: the slots whose figures are compared; None without
    any."""
    mark = None if since_s is None else next((each for each in marks if round(each.at) == round(since_s)), None)
    if since_s is not None and mark is None:
        return ComparedMarks(title=f"Since {instant(since_s):%b %d, %H:%M}")
    own = "" if mark is None else one_line(mark.short_label, MAX_TITLE)
    after_s = times.end_s - AFTER_MARK_S if mark is None else mark.at
    found: dict[str, Mark] = {}
    earlier: list[str] = []
    for each in marks:
        if mark is not None and until is not None and until.end_s <= each.at < mark.at:
            earlier.append(_label_of(each))
        # A library rounds its marks, so the same version can have two.
        is_newer = after_s < each.at <= times.end_s and (mark is not None or each.id is not None)
        if is_newer and (label := _label_of(each)) not in (own, *found):
            found[label] = each
    labels = [label for label, each in found.items() if since is not None and each.at < since.end_s]
    mixed = _name_all(labels if mark is not None else [], "newer")
    ahead = _name_all([label for label in dict.fromkeys(earlier) if label not in (own, *found)], "earlier")
    return ComparedMarks(
        title=f"Since {' and '.join(name for name in (ahead, own, mixed) if name)}" if mark else "",
        label=own,
        newer=tuple(_newer(label, each, times) for label, each in list(found.items())[:MAX_NEWER]),
        hidden=max(0, len(found) - MAX_NEWER),
        mixed=mixed,
        earlier=ahead,
    )


def _name_all(labels: Sequence[str], kind: str) -> str:
    return f"{len(labels)} {kind}" if len(labels) > 1 else "".join(labels)


def _newer(label: str, mark: Mark, times: FigureTimes) -> NewerMark:
    first_s = first_figures_s(mark.at, times.now_s)
    written_s = math.ceil((first_s + times.within_s) / 60) * 60
    is_open = first_s > times.stored_s and times.end_s == times.now_s
    return NewerMark(label, mark.at, _clock(mark.at, times.end_s), _clock(written_s, times.end_s) if is_open else None)


def _label_of(mark: Mark) -> str:
    return one_line(mark.short_label, MAX_TITLE)


def _clock(at_s: float, end_s: float) -> str:
    """The time of day, with the day if it is another one than that of `end_s`."""
    is_today = at_s // DAY_S == end_s // DAY_S
    return f"{instant(at_s):{'%H:%M' if is_today else '%b %d, %H:%M'}}"
