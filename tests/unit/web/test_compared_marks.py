"""The marks that the class list compares with: none is blamed alone for what a newer one can have caused."""

from __future__ import annotations

from dashboard.history.classes.windows import Window, choose_windows
from dashboard.history.tiers import CLASS_QUARTERS, classes_until_s
from dashboard.model import Mark
from dashboard.web.views.classes.compared_marks import FigureTimes, compare_marks, last_compared_s

DAY = 1_700_006_400  # a midnight
OLD = Mark(at=DAY + 6 * 3600, text="deploy", version="v412", id="a")
NEW = Mark(at=DAY + 9 * 3600 + 36 * 60, text="deploy", version="v413", id="b")
SAME = Mark(at=NEW.at + 20, text="deploy", version="v413", source="main", backend="sidekiq")


def at_time(hours: int, minutes: int) -> FigureTimes:
    now_s = DAY + hours * 3600 + minutes * 60
    return FigureTimes(now_s, now_s, classes_until_s(now_s), 30.0)


def windows_at(times: FigureTimes, since_s: float, range_s: int = 3600) -> tuple[Window | None, Window | None]:
    windows = choose_windows(range_s, times.now_s, since_s)
    return windows.since, windows.until


def test_a_newer_mark_is_named_until_it_is_compared_itself() -> None:
    marks, times = [SAME, NEW, OLD], at_time(9, 50)
    assert last_compared_s(marks, times) == OLD.at
    found = compare_marks(marks, OLD.at, *windows_at(times, OLD.at), times)
    assert (found.title, found.mixed) == ("Since v412 and v413", "v413")  # 9:30 to 9:45 has jobs of both
    assert [(mark.label, mark.at, mark.compared_from) for mark in found.newer] == [("v413", "09:36", "10:01")]

    times = at_time(9, 40)
    found = compare_marks(marks, OLD.at, *windows_at(times, OLD.at), times)
    assert (found.title, found.mixed, len(found.newer)) == ("Since v412", "", 1)

    times = at_time(10, 1)
    assert last_compared_s(marks, times) == NEW.at
    found = compare_marks(marks, NEW.at, *windows_at(times, NEW.at), times)
    assert (found.title, found.newer) == ("Since v413", ())
    old = compare_marks(marks, OLD.at, *windows_at(times, OLD.at), times)  # as the link of a sorted list asks for
    assert (old.title, old.newer[0].compared_from) == ("Since v412 and v413", None)


def test_the_first_mark_of_a_day_is_named_before_it_is_compared() -> None:
    times = at_time(9, 50)
    assert last_compared_s([NEW], times) is None
    found = compare_marks([NEW], None, None, None, times)
    assert (found.title, found.mixed, found.newer[0].compared_from) == ("", "", "10:01")
    assert compare_marks([SAME], None, None, None, times).newer == ()  # of one Redis only


def test_many_newer_marks_are_counted_and_other_moments_are_no_marks() -> None:
    marks = [Mark(at=NEW.at - 60 * n, text="deploy", version=f"v{450 - n}", id=str(n)) for n in range(9)]
    times, window = at_time(9, 50), Window(DAY, DAY + 35_100, CLASS_QUARTERS)
    found = compare_marks([*marks, OLD], OLD.at, window, None, times)
    assert (found.title, len(found.newer), found.hidden) == ("Since v412 and 9 newer", 3, 6)
    assert compare_marks(marks, OLD.at, window, None, times).title == "Since Nov 15, 06:00"


def test_a_mark_between_the_figures_before_and_the_mark_can_be_the_cause() -> None:
    times = at_time(10, 20)
    close = Mark(at=NEW.at - 300, text="deploy", version="v412.1", id="c")
    found = compare_marks([NEW, close, OLD], NEW.at, *windows_at(times, NEW.at), times)
    assert (found.title, found.earlier) == ("Since v412.1 and v413", "v412.1")
    before = Mark(at=NEW.at - 1200, text="deploy", version="v412.1", id="c")
    assert compare_marks([NEW, before, OLD], NEW.at, *windows_at(times, NEW.at), times).title == "Since v413"
    # The figures of the day before are those of two hours each.
    day = compare_marks([NEW, before, OLD], NEW.at, *windows_at(times, NEW.at, 86_400), times)
    assert day.title == "Since v412.1 and v413"
