"""A past of weeks, written into the store at once."""

from __future__ import annotations

from collections.abc import Callable

from dashboard.history.columns import CLASS, QUEUE, SOURCE, Cells, Record, SeriesKind
from dashboard.history.history_writer import HistoryWriter
from dashboard.history.recorder import ClosedSlot
from dashboard.history.series_keys import SeriesKey
from dashboard.history.tiers import DAY_S, HOUR_S, Tier, tiers_of
from dashboard.store.redis_store import LEAD, Store
from tests.history.leader import BUDGET_BYTES

MAIL = SeriesKey(QUEUE, "main", "rq", "mail")
# Of each day, only so much before and after the time of now is written.
AROUND_S = 7 * HOUR_S


def write_weeks(
    store: Store,
    lead: str,
    now_s: int,
    per_quarter: Callable[[int], int | None],
    *,
    job_class: str = "send",
    workers: int = 4,
    days: int = 30,
) -> None:
    """The days until `now_s`, a full hour: `mail` has so many jobs, all of one class, in the quarter that begins at so
    many seconds before now; None was not sampled."""
    store.source.execute("SET", LEAD, lead, "PX", 10_000_000)
    writer = HistoryWriter(store, BUDGET_BYTES)
    writer.load_series()
    slots = []

    def add(key: SeriesKey, tier: Tier, start_s: int, **values: int) -> None:
        slots.append(ClosedSlot(key, tier, Record(start_s, _cells(key.kind, values))))

    for start_s in range(now_s - days * DAY_S, now_s, 900):
        jobs = per_quarter(now_s - start_s)
        if jobs is None or not -AROUND_S <= (start_s - now_s + DAY_S // 2) % DAY_S - DAY_S // 2 <= AROUND_S:
            continue
        finished = {"quality": 2, "uncounted_ms": 0, "finished": jobs, "failed": 0}
        for tier in tiers_of(SOURCE)[1:]:
            add(SeriesKey(SOURCE, "main"), tier, start_s, sampled_ms=900_000)
        for tier in tiers_of(QUEUE)[1:]:
            add(MAIL, tier, start_s, depth=0, workers=workers, enqueued=jobs, **finished)
        key = SeriesKey(CLASS, *MAIL[1:4], job_class)
        add(key, tiers_of(CLASS)[0], start_s, **finished)
        if start_s % 7200 == 0:
            add(key, tiers_of(CLASS)[1], start_s, **finished | {"finished": 8 * jobs})
    assert writer.append_slots(lead, slots)


def _cells(kind: SeriesKind, values: dict[str, int]) -> Cells:
    return tuple(values.get(name) for name in kind.names)
