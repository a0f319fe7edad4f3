"""What charts say about figures that are estimated or unknown."""

from __future__ import annotations

from typing import Any

from dashboard.history.columns import CLASS, QUEUE, SOURCE
from dashboard.history.slots import Slot
from dashboard.model import Quality
from dashboard.web.views.charts.chart_notes import FiguresNow, note_charts
from dashboard.web.views.charts.charts import CLASS_CHARTS, QUEUE_CHARTS, SOURCE_CHARTS

EXACT: dict[str, Any] = {name: 0 for name in QUEUE.names if name not in ("runtimes", "waits")} | {"quality": 2}
RQ = EXACT | {"quality": 1, "retrying": None, "enqueued": None}
NONE_COUNTED = EXACT | {"quality": 0, "finished": None, "failed": None}
WHY = "Counted from RQ's registries."


def notes_of(*slots: dict[str, Any] | None, now: FiguresNow = FiguresNow("RQ")) -> dict[str, str]:  # noqa: B008
    found = [
        Slot(at * 60, 60_000, None if known is None else tuple(known.get(name) for name in QUEUE.names))
        for at, known in enumerate(slots)
    ]
    return note_charts(QUEUE, QUEUE_CHARTS, found, now)


def test_exact_figures_and_gaps_need_no_note() -> None:
    assert notes_of(EXACT, None, EXACT) == notes_of(None) == notes_of() == {}
    assert note_charts(SOURCE, SOURCE_CHARTS, [Slot(0, 1, (1, *[None] * 11))], FiguresNow()) == {}


def test_estimated_figures_say_so_with_the_reason_of_now() -> None:
    said = notes_of(RQ, None, RQ, now=FiguresNow("RQ", Quality.ESTIMATED, WHY))
    assert said == {
        "depth": "Retrying jobs are not reported by RQ.",
        "flow": f"≈ Estimated in this range. {WHY} Enqueued jobs are not reported by RQ.",
        "errors": "≈ Estimated in this range.",
    }
    part = notes_of(EXACT, RQ, now=FiguresNow("RQ", Quality.EXACT, WHY))
    assert part == dict.fromkeys(("flow", "errors"), "≈ Estimated in part of this range.")
    in_class = note_charts(CLASS, CLASS_CHARTS, [Slot(0, 1, (1, 0, 5, 0, None))], FiguresNow("RQ"))
    assert in_class == dict.fromkeys(("flow", "errors"), "≈ Estimated in this range.")


def test_unknown_figures_say_so() -> None:
    why = FiguresNow("Celery", Quality.UNKNOWN, "Results are off")
    assert notes_of(NONE_COUNTED, now=why) == {
        "flow": "Unknown in this range. Results are off.",
        "errors": "Unknown in this range.",
    }
    assert notes_of(NONE_COUNTED, EXACT)["errors"] == "Unknown in part of this range."
    no_failures = notes_of(EXACT | {"failed": None}, now=FiguresNow())
    assert no_failures == dict.fromkeys(("flow", "errors"), "Failed jobs are not reported by every library.")
    several = notes_of(EXACT | {"scheduled": None, "retrying": None, "dead": None}, now=FiguresNow("Celery"))
    assert several == {"depth": "Scheduled, retrying and dead jobs are not reported by Celery."}
