"""The figures of all queues are worked out once per snapshot, and only what is shown is put into words."""

from __future__ import annotations

import pytest

from dashboard.model import Counts, QueueStats, Snapshot, SourceStats
from dashboard.sampling.recent_history import History, QueueHistory, key_of
from dashboard.sampling.snapshot_reader import CurrentSnapshot
from dashboard.services import build_services
from dashboard.settings import load
from dashboard.web.page_caches import PageCaches
from dashboard.web.pages.overview import build_figures
from dashboard.web.views.overview.overview_data import OverviewData
from dashboard.web.views.overview.queue_table import PER_PAGE, QueueTableQuery, build_table
from dashboard.web.views.problems import checks
from tests.counting import calls_of

QUEUES = 2000


def queue(number: int) -> QueueStats:
    """A queue with three problems."""
    return QueueStats(
        source="main",
        backend="rq",
        name=f"queue-{number:04}",
        key=f"rq:queue:queue-{number:04}",
        depth=5 + number % 7,
        latency_s=301.0 + number / 10,
        overdue_s=370.0,
        counts=Counts(dead=15 + number % 3),
        throughput_per_min=60.0,
        failed_per_min=0.0,
        error_ratio=0.0,
    )


def snapshot(queues: tuple[QueueStats, ...], sequence: int = 1) -> Snapshot:
    """One sample of `queues`."""
    source = SourceStats(name="main", address="redis://127.0.0.1:6379/0", reachable=True)
    return Snapshot(
        sampled_at=1000.0, interval_s=2, sequence=sequence, sampler="", epoch=1, sources=(source,), queues=queues
    )


def many() -> OverviewData:
    """QUEUES queues with an hour of history."""
    queues = tuple(queue(number) for number in range(QUEUES))
    past = QueueHistory(depth=(5,) * 60, dead=(4,) * 60)
    return OverviewData(snapshot(queues), History(queues={key_of(each): past for each in queues}, totals=past))


def shown(overview: OverviewData, **args: str) -> int:
    """What the overview asks for; how many rows it shows."""
    build_figures(overview)
    _ = overview.problems, overview.libraries, overview.sources
    return len(build_table(overview, QueueTableQuery.of(args)).groups[0].rows)


def test_the_first_refresh_after_a_sample_looks_at_each_queue_once() -> None:
    overview = many()
    # With each trouble found twice and put into words it took 111 calls for each queue.
    assert calls_of(lambda: shown(overview)) < 40 * QUEUES
    assert len(overview.problems) == 3 * QUEUES
    assert overview.problems[0].text == "scheduled jobs are 6\u202fm 10\u202fs overdue"


def test_another_page_or_order_of_the_same_sample_works_out_nothing_again() -> None:
    overview = many()
    first = calls_of(lambda: shown(overview))
    for args in ({"page": "2"}, {"dir": "up"}, {"sort": "name"}):
        assert calls_of(lambda args=args: shown(overview, **args)) < first / 10, args  # type: ignore[misc]


def test_only_what_is_shown_is_put_into_words(monkeypatch: pytest.MonkeyPatch) -> None:
    spoken: list[float | None] = []
    monkeypatch.setattr(checks, "duration", lambda seconds: spoken.append(seconds) or "x")
    overview = many()
    assert shown(overview) == PER_PAGE
    assert spoken == []
    assert overview.problems[0].text == "scheduled jobs are x overdue"
    assert len(spoken) == 1


def test_what_was_worked_out_is_shared_until_the_next_sample_or_history() -> None:
    caches = PageCaches(build_services(load(environ={}, keywords={}), checks=False))

    def overview_data(taken: Snapshot, history: History) -> OverviewData:
        return caches.overview_data(taken, CurrentSnapshot(taken, history, age_s=0.0, stale=False))

    first, again, newer = snapshot((queue(1),)), snapshot((queue(1),), 2), History(version=1)
    assert overview_data(first, History()) is overview_data(first, History())
    assert overview_data(again, History()).snapshot.sequence == 2
    assert overview_data(again, newer).history is newer
    assert overview_data(again, newer).queues == again.queues
