"""What charts draw of the slots that were read."""

from __future__ import annotations

from dashboard.history.columns import QUEUE
from dashboard.history.readings import sum_queues
from dashboard.history.slots import Slot
from dashboard.web.views.charts.chart_data import drop_beginning

FIGURES = (1,) * len(QUEUE.columns)


def test_a_slot_that_has_only_just_begun_is_a_gap_and_no_dip() -> None:
    slots = [Slot(0, 900_000, FIGURES), Slot(900, 200_000, FIGURES)]
    assert [slot.cells for slot in drop_beginning(slots, 900, 1100)] == [FIGURES, None]
    assert drop_beginning([slots[0], Slot(900, 225_000, FIGURES)], 900, 1130)[-1].cells == FIGURES
    assert drop_beginning(slots, 900, 1800)[-1].cells == FIGURES  # over: it was sampled no longer than that
    assert drop_beginning([], 900, 0) == []


def test_jobs_are_not_counted_as_enqueued_where_only_some_of_those_that_finish_are() -> None:
    known = dict(zip(QUEUE.names, FIGURES, strict=True)) | {"runtimes": None, "waits": None}
    lacking = known | {"enqueued": None}
    idle = lacking | {"finished": None}
    place = QUEUE.index_of("enqueued")
    assert sum_queues([tuple(known.values()), tuple(idle.values())])[place] == 1
    assert sum_queues([tuple(known.values()), tuple(lacking.values())])[place] is None
