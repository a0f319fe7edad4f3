"""Rates of BullMQ and Bull where jobs are removed as soon as they have ended: the truth by what tells, or unknown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from dashboard.backends import class_tally
from dashboard.backends.bullmq import rates
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.backends.bullmq.flow import reasons
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import Quality, QueueStats
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.bullmq_library import BullMQLibrary, _script
from tests.contract.sample_series import SampleSeries, classes_of, rates_of
from tests.processes import Child, child

GOOD, BAD = 9, 3
TRUTH = (12, 3, 0.25)
NOTHING = (None, None, None)
KEEP: dict[str, Any] = {}
NO_GOOD = {"removeOnComplete": True}
NO_BAD = {"removeOnFail": True}
NEITHER = {"removeOnComplete": True, "removeOnFail": True}
ALL = (KEEP, NO_GOOD, NO_BAD, NEITHER)


def open_backend(server: EmbeddedRedis, user: str = "") -> BullMQ:
    """The backend, with all rights or as a user without scripts."""
    url = server.url.replace("redis://", f"redis://{user}")
    return BullMQ(Source("main", url), SourceSettings(name="main", url=url))


@pytest.fixture
def plain(redis_client: redis.Redis) -> str:
    """A user who may not run scripts."""
    redis_client.execute_command("ACL", "SETUSER", "plain", "on", ">secret", "~*", "+@all", "-@scripting")
    return "plain:secret@"


def listed_counts(row: QueueStats) -> tuple[int | None, int | None]:
    """How many completed and dead jobs are shown."""
    return row.counts.completed, row.counts.dead


@pytest.mark.parametrize("alias", ["bullmq", "bullmq5", "bullmq4"])
def test_events_count_jobs_that_are_removed_immediately(
    server: EmbeddedRedis, redis_client: redis.Redis, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, backend = BullMQLibrary(alias), open_backend(server)
    for settings in ALL:
        # The second time, more happens between two samples than is read at once.
        for events in (5000, 20):
            monkeypatch.setattr(rates, "EVENTS_PER_LOOK", events)
            redis_client.flushall()
            series = SampleSeries(backend)
            library.drive("run", server.url, "alpha", good=1, bad=1)
            series.take_sample()
            library.drive("run", server.url, "alpha", good=GOOD, bad=BAD, **settings)
            row = series.take_sample()["alpha"]
            if settings != KEEP and events == 20:  # the ids tell how many, but maybe too few events which
                assert rates_of(row) in [(14, None, None), (14, 4, round(4 / 14, 4))]
                assert settings != NEITHER or row.flow_reason == reasons.UNSPLIT
            else:
                assert rates_of(row) == (14, 4, round(4 / 14, 4)), (settings, events)
            if events == 5000:
                assert listed_counts(row) == (
                    1 if "removeOnComplete" in settings else 1 + GOOD,
                    1 if "removeOnFail" in settings else 1 + BAD,
                )
                assert any("leave no trace" in note for note in row.notes) == (settings != KEEP)
                if settings in (KEEP, NEITHER):
                    check_classes(library, server, series, settings)


def check_classes(
    library: BullMQLibrary, server: EmbeddedRedis, series: SampleSeries, settings: dict[str, Any]
) -> None:
    """The classes of what finished, with its run times, and how long it had waited; then the same with retries."""
    flow = series.flows["alpha"]
    if settings == KEEP:
        assert classes_of(flow) == {"good": (GOOD, 0), "bad": (0, BAD)}
    else:  # the first jobs that are removed: their names were not remembered
        assert (flow.classes, flow.classes_reason) == (None, class_tally.GONE)
    # So long that what the machine adds to a run or a wait is not taken for it.
    library.drive("run", server.url, "alpha", good=6, bad=2, ms=40, job={"delay": 1500}, **settings)
    series.take_sample()
    flow = series.flows["alpha"]
    assert classes_of(flow) == {"good": (6, 0), "bad": (0, 2)}
    assert flow.classes_quality is Quality.EXACT
    for one in flow.classes or ():
        assert len(one.runtimes_s) == one.completed + one.dead
        assert all((0.03 if one.job_class == "good" else 0) < time_s < 1.4 for time_s in one.runtimes_s)
    if "removeOnComplete" not in settings:  # else the stream does not tell when a delayed job could start
        assert len(flow.waits_s) == 6
        assert all(0 <= wait_s < 1.4 for wait_s in flow.waits_s)
    assert flow.retried == 0
    library.drive("run", server.url, "alpha", good=3, bad=2, job={"attempts": 3, "backoff": 5}, **settings)
    library.drive("run", server.url, "alpha", good=3, bad=1, job={"attempts": 2}, **settings)
    series.take_sample()
    flow = series.flows["alpha"]
    assert (classes_of(flow), flow.retried) == ({"good": (6, 0), "bad": (0, 3)}, 2 * 2 + 1)
    assert len(flow.waits_s) == 6


@pytest.mark.parametrize(("alias", "most"), [("bullmq", 0), ("bullmq5", 30), ("bullmq4", 30)])
def test_a_burst_counts_whole_where_the_events_stream_is_short(
    server: EmbeddedRedis, redis_client: redis.Redis, alias: str, most: int
) -> None:
    library, backend = BullMQLibrary(alias), open_backend(server)
    for settings in ALL:
        redis_client.flushall()
        redis_client.hset("bull:alpha:meta", "opts.maxLenEvents", most)
        series = SampleSeries(backend)
        library.drive("run", server.url, "alpha", good=1, bad=1)
        series.take_sample()
        for _ in range(2):
            row = series.take_sample()["alpha"]
        before = row.finished_15min or 0
        # BullMQ itself trims whole blocks of a hundred events.
        library.drive("run", server.url, "alpha", good=GOOD * 20, bad=BAD * 20, **settings)
        redis_client.xtrim("bull:alpha:events", maxlen=most, approximate=False)
        for _ in range(2):
            row = series.take_sample()["alpha"]
            finished, failed, ratio = rates_of(row)
            assert finished in (None, before + 240), settings
            assert failed in (None, 60, 61), settings
            assert ratio is None or abs(ratio - 0.25) < 0.01
            assert failed is not None or settings in (NO_BAD, NEITHER) or most == 0
        if most:
            assert finished is not None


def test_without_events_and_scripts_what_is_removed_is_unknown(
    server: EmbeddedRedis, redis_client: redis.Redis, plain: str
) -> None:
    library = BullMQLibrary()
    for settings in ALL:
        redis_client.delete(*redis_client.scan_iter("bull:*"), "none")
        series = SampleSeries(open_backend(server, plain))
        library.drive("run", server.url, "alpha", good=1, bad=0)
        series.take_sample()
        library.drive("run", server.url, "alpha", good=GOOD, bad=BAD, **settings)
        row = series.take_sample()["alpha"]
        assert rates_of(row) == ((13, 3, round(3 / 13, 4)) if settings == KEEP else NOTHING)
        assert series.take_sample()["alpha"].flow_reason == (
            reasons.NO_SCRIPTS if settings == KEEP else reasons.UNTRACED
        )


@pytest.fixture
def bull(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Child]:
    """A process that drives Bull on an empty server."""
    with child(_script("bull_serve.mjs", server.url), name="bull", pipes=True, gently=False) as process:
        yield process


def run_command(bull: Child, **command: Any) -> None:
    """Have it done."""
    bull.write_line(json.dumps(command))
    assert bull.read_line() == "{}"


def test_bull_publishes_no_events_to_count_by(server: EmbeddedRedis, bull: Child, plain: str) -> None:
    for number, (settings, shown) in enumerate(
        ((KEEP, TRUTH), (NO_GOOD, (None, BAD, None)), (NO_BAD, NOTHING), (NEITHER, NOTHING))
    ):
        name = f"old{number}"
        series, others = SampleSeries(open_backend(server)), SampleSeries(open_backend(server, plain))
        run_command(bull, queue=name, good=GOOD, bad=BAD, settings=settings)
        for each in (series, others):
            assert rates_of(each.take_sample()[name])[2] is None
        run_command(bull, queue=name, run=True)
        row = series.take_sample()[name]
        assert rates_of(row) == shown, settings
        assert rates_of(others.take_sample()[name]) == (TRUTH if settings == KEEP else NOTHING)
        good = None if "removeOnComplete" in settings else GOOD
        bad = None if "removeOnFail" in settings else BAD
        assert listed_counts(row) == (good, bad)
        flow = series.flows[name]
        if settings == KEEP:
            assert (classes_of(flow), flow.classes_quality) == ({"__default__": (GOOD, BAD)}, Quality.ESTIMATED)
            assert (len(flow.waits_s), flow.retried) == (GOOD, None)
            continue
        assert flow.classes is None
        assert "leave no trace" in (row.flow_reason or "")
        # A queue in which nothing happens any more shows no jobs that nobody saw.
        assert rates_of(series.take_sample()[name]) == shown


def test_a_quiet_queue_of_bull_that_keeps_nothing_finished_nothing(server: EmbeddedRedis, bull: Child) -> None:
    run_command(bull, queue="quiet", good=1, settings=NEITHER)
    run_command(bull, queue="quiet", run=True)
    series = SampleSeries(open_backend(server))
    series.take_sample()
    series.take_sample()
    assert rates_of(series.take_sample()["quiet"])[:2] == (0, 0)
