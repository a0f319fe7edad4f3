"""One pass over all sources: what goes wrong costs its own row, never the snapshot."""

from __future__ import annotations

import gc
from typing import Any, ClassVar

import pytest
import redis
from msgspec.structs import replace
from redis.exceptions import ResponseError

from dashboard.backends.base import Budget, Discovery
from dashboard.forecasts.queue_forecaster import TOO_SHORT
from dashboard.model import ForecastState, QueueForecast
from dashboard.sampling.queue_search import QueueSearch
from dashboard.sampling.recent_history import History
from dashboard.sampling.sampler import Sampler
from dashboard.settings import SourceSettings
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from tests.conftest import start_server
from tests.unit.sampling.list_backend import Broken, Lists, Miscounting, watch_of


def fill(client: redis.Redis, **lengths: int) -> None:
    for name, length in lengths.items():
        client.sadd("lists", name)
        client.rpush(name, *range(length))


def test_a_sample_has_every_queue_sorted(source: Source, redis_client: redis.Redis) -> None:
    fill(redis_client, mail=3, images=1)
    snapshot = Sampler(watch_of(source), 2, "me").sample(epoch=9)
    assert [(queue.name, queue.depth) for queue in snapshot.queues] == [("images", 1), ("mail", 3)]
    assert (snapshot.sampler, snapshot.epoch, snapshot.sequence) == ("me", 9, 1)
    (stats,) = snapshot.sources
    assert stats.reachable
    assert stats.discovered
    assert stats.libraries == ("lists",)
    assert stats.health.version is not None


def test_a_sample_costs_one_round_trip_for_health_and_those_of_the_backend(
    source: Source, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.sampling.queue_search.SEARCH_PAUSE_S", 1e9)  # the second sample looks for no queues
    fill(redis_client, **{f"q{n}": 1 for n in range(50)})
    sampler = Sampler(watch_of(source), 2, "me")
    sampler.sample()
    with measure_cost() as meter:
        snapshot = sampler.sample()
    assert meter.round_trips == 3
    assert snapshot.sources[0].round_trips == 3
    assert snapshot.sources[0].commands == 2 + 50 + 50


def test_a_sample_looks_for_no_cycles_and_leaves_that_to_later(
    source: Source, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that fails; and a process that never looks for any is left so."""
    fill(redis_client, mail=1)
    sampler = Sampler(watch_of(source), 2, "me")
    seen = []
    health = source.read_health
    monkeypatch.setattr(source, "read_health", lambda **options: seen.append(gc.isenabled()) or health(**options))
    assert gc.isenabled()
    sampler.sample()
    assert gc.isenabled()
    monkeypatch.setattr(sampler, "_clock", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sampler.sample()
    assert gc.isenabled()
    assert seen == [False, False]
    gc.disable()
    try:
        with pytest.raises(ZeroDivisionError):
            sampler.sample()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_rates_come_with_the_second_look(source: Source, redis_client: redis.Redis) -> None:
    fill(redis_client, mail=1)
    redis_client.set("done:mail", 1000)
    sampler = Sampler(watch_of(source), 2, "me")
    assert sampler.sample().queues[0].throughput_per_min == 0
    redis_client.incrby("done:mail", 10)
    assert sampler.sample().queues[0].throughput_per_min == pytest.approx(10 * 60 / 2)  # ten in two looks of a second


def test_two_samples_in_a_row_yield_no_rate(source: Source, redis_client: redis.Redis) -> None:
    fill(redis_client, mail=1)
    redis_client.set("done:mail", 1000)
    sampler = Sampler(watch_of(source), 2, "me", least_rate_s=3.0)
    for looks in range(1, 5):  # of a second each
        known = sampler.sample().queues[0].throughput_per_min is not None
        assert known == (looks >= 3)


def test_an_unreachable_source_is_reported_and_its_queues_become_unknown() -> None:
    with start_server("redis-7") as server:
        client = redis.Redis.from_url(server.url)
        fill(client, mail=3)
        client.close()
        source = Source("main", server.url)
        sampler = Sampler(watch_of(source), 2, "me", clock=lambda: 1000.0)
        assert sampler.sample().queues[0].depth == 3
        server.stop(kill=True)
        snapshot = sampler.sample()
        assert not snapshot.sources[0].reachable
        assert snapshot.sources[0].unreachable_since == 1000.0
        assert [(queue.name, queue.depth, bool(queue.error)) for queue in snapshot.queues] == [("mail", None, True)]
        server.start()
        recovered = sampler.sample()
        assert recovered.sources[0].reachable
        assert recovered.sources[0].unreachable_since is None
        assert recovered.queues[0].depth == 0  # this Redis keeps nothing over a restart
        source.close()


def test_an_outage_began_when_it_was_first_seen() -> None:
    """And the next one has a beginning of its own."""
    now_s = 1000.0
    with start_server("redis-7") as server:
        source = Source("main", server.url)
        sampler = Sampler(watch_of(source), 2, "me", clock=lambda: now_s)
        began = []
        for _ in range(2):
            sampler.sample()
            server.stop(kill=True)
            for _ in range(2):
                now_s += 10
                began.append(sampler.sample().sources[0].unreachable_since)
            server.start()
        assert began == [1010.0, 1010.0, 1030.0, 1030.0]
        source.close()


def test_one_dead_source_does_not_blind_the_others(source: Source, redis_client: redis.Redis, kept_port: int) -> None:
    fill(redis_client, mail=3)
    dead = Source("dead", f"redis://127.0.0.1:{kept_port}/0")
    snapshot = Sampler(watch_of(dead, source), 2, "me").sample()
    assert [(entry.name, entry.reachable) for entry in snapshot.sources] == [("dead", False), ("main", True)]
    assert [queue.depth for queue in snapshot.queues] == [3]


def test_one_broken_library_does_not_blind_the_others(
    source: Source, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    fill(redis_client, mail=3)
    snapshot = Sampler(watch_of(source, kinds=(Broken, Lists)), 2, "me").sample()
    assert [queue.depth for queue in snapshot.queues] == [3]
    assert snapshot.sources[0].problems == ("Broken: the search for its queues failed; the log has the details",)
    assert "a bug" in caplog.text


@pytest.mark.parametrize(("extra", "rows"), [(-1, 1), (1, 3)])
def test_a_library_that_returns_another_number_of_rows_is_one_problem(
    source: Source, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, extra: int, rows: int
) -> None:
    fill(redis_client, mail=3, images=1)
    monkeypatch.setattr(Miscounting, "extra", extra)
    snapshot = Sampler(watch_of(source, kinds=(Miscounting, Lists)), 2, "me").sample()
    why = f"its backend returned {rows} rows for 2 queues; there must be one for each"
    found = {(queue.name, queue.depth, queue.error) for queue in snapshot.queues}
    assert found == {("images", 1, None), ("mail", 3, None), ("images", None, why), ("mail", None, why)}
    assert snapshot.sources[0].problems == (f"Miscounting: {why}",)


class Failing(Lists):
    """Before it reads anything."""

    error: ClassVar[Exception | None] = None

    def maintain(self) -> None:
        """Raises `error`, if there is one."""
        if self.error is not None:
            raise self.error


def test_queues_stay_while_their_library_cannot_be_read(
    source: Source, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That they cannot be read does not mean that they are gone."""
    fill(redis_client, mail=3)
    sampler = Sampler(watch_of(source, kinds=(Failing,)), 2, "me")
    sampler.sample()
    for error, why in (
        (RuntimeError("a bug"), "could not be read; the log has the details"),
        (ResponseError("BUSY a script is running"), "BUSY a script is running"),
    ):
        monkeypatch.setattr(Failing, "error", error)
        snapshot = sampler.sample(epoch=1)
        assert [(queue.name, queue.depth, queue.error) for queue in snapshot.queues] == [("mail", None, why)]
        assert snapshot.sources[0].problems == (f"Lists: {why}",)
    monkeypatch.setattr(Failing, "error", None)
    assert [(queue.name, queue.depth, queue.error) for queue in sampler.sample(epoch=1).queues] == [("mail", 3, None)]


def test_queues_are_read_while_the_search_for_them_fails(
    source: Source, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.sampling.queue_search.SEARCH_PAUSE_S", 0.0)
    fill(redis_client, mail=3)
    sampler = Sampler(watch_of(source), 2, "me")
    sampler.sample()
    monkeypatch.setattr(Lists, "discover_queues", Broken.discover_queues)
    snapshot = sampler.sample()
    assert [(queue.name, queue.depth, queue.error) for queue in snapshot.queues] == [("mail", 3, None)]
    assert not snapshot.sources[0].discovered


def test_one_broken_queue_costs_one_row(source: Source, redis_client: redis.Redis) -> None:
    fill(redis_client, mail=3)
    redis_client.sadd("lists", "odd")
    redis_client.set("odd", "not a list")
    queues = {queue.name: queue for queue in Sampler(watch_of(source), 2, "me").sample().queues}
    assert queues["mail"].depth == 3
    assert queues["odd"].depth is None
    assert "WRONGTYPE" in (queues["odd"].error or "")


def test_queues_stay_while_their_directory_cannot_be_read(
    source: Source, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.sampling.queue_search.SEARCH_PAUSE_S", 0.0)
    fill(redis_client, mail=3)
    sampler = Sampler(watch_of(source), 2, "me")
    sampler.sample()
    redis_client.rename("lists", "aside")
    redis_client.set("lists", "x")
    for _ in range(2):
        snapshot = sampler.sample()
        assert [(queue.name, queue.depth, queue.error) for queue in snapshot.queues] == [("mail", 3, None)]
        assert ["WRONGTYPE" in problem for problem in snapshot.sources[0].problems] == [True]
        assert not snapshot.sources[0].discovered
    redis_client.rename("aside", "lists")
    after = sampler.sample().sources[0]
    assert (after.problems, after.discovered) == ((), True)


def test_a_removed_queue_disappears_with_the_next_discovery(
    source: Source, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.sampling.queue_search.SEARCH_PAUSE_S", 0.0)
    fill(redis_client, mail=3, images=1)
    sampler = Sampler(watch_of(source), 2, "me")
    assert len(sampler.sample().queues) == 2
    redis_client.srem("lists", "mail")
    assert [queue.name for queue in sampler.sample().queues] == ["images"]


def test_the_history_of_another_sampler_is_continued(source: Source, redis_client: redis.Redis) -> None:
    fill(redis_client, mail=3)
    first = Sampler(watch_of(source), 2, "one", clock=lambda: 1000.0)
    first.sample()
    second = Sampler(watch_of(source), 2, "two", clock=lambda: 1016.0)
    second.adopt_published(None, first.history)
    second.sample()
    assert second.history.totals.depth == (3, 3)


class Slow(Lists):
    """The first step of each search finds nothing."""

    key_scans = 1

    def discover_queues(self, cursor: Any, budget: Budget) -> Discovery:
        """All that there is, in the second step."""
        if cursor is None:
            budget.commands -= 1
            return Discovery((), complete=False, cursor=1)
        return super().discover_queues(None, budget)


def test_queues_found_by_another_sampler_are_available_immediately(source: Source, redis_client: redis.Redis) -> None:
    """After a restart, and where a web process goes on for a leader that is late."""
    fill(redis_client, mail=3, images=1)
    former = Sampler(watch_of(source), 2, "one").sample()
    redis_client.srem("lists", "images")
    sampler = Sampler(watch_of(source, kinds=(Slow,)), 2, "two")

    sampler.adopt_published(former, History())
    first = sampler.sample()
    sampler.adopt_published(former, History())  # the leader is gone; what it published last stays for minutes
    second = sampler.sample()

    assert [(queue.name, queue.depth) for queue in first.queues] == [("images", 1), ("mail", 3)]
    assert not first.sources[0].discovered
    assert [queue.name for queue in second.queues] == ["mail"]
    assert second.sources[0].discovered


def test_queues_that_another_sampler_found_are_listed_in_an_outage() -> None:
    """Even by a sampler that read the source itself before there were any queues."""
    with start_server("redis-7") as server:
        source = Source("main", server.url)
        sampler = Sampler(watch_of(source), 2, "two")
        assert sampler.sample().queues == ()
        with redis.Redis.from_url(server.url) as client:
            fill(client, mail=3)
        former = Sampler(watch_of(source), 2, "one").sample(epoch=1)
        server.stop(kill=True)
        sampler.adopt_published(former, History())
        snapshot = sampler.sample()
        assert [(queue.name, queue.depth, bool(queue.error)) for queue in snapshot.queues] == [("mail", None, True)]
        source.close()


class TwoSteps(Lists):
    """A search in two steps. A server lists its queues in an order of its own."""

    def discover_queues(self, cursor: Any, budget: Budget) -> Discovery:
        """The first queue, then the others."""
        descending = bool(self.source.execute("EXISTS", "descending"))
        refs = sorted(super().discover_queues(None, budget).found, key=lambda ref: ref.name, reverse=descending)
        if cursor is None:
            return Discovery(tuple(refs[:1]), complete=False, cursor=1)
        return Discovery(tuple(refs[cursor:]), complete=True, cursor=None)


def test_a_search_starts_again_on_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failover or a restart its cursor says nothing: what it would not find is still there."""
    monkeypatch.setattr("dashboard.sampling.queue_search.SEARCH_PAUSE_S", 0.0)
    with start_server("redis-7") as server:
        source = Source("main", server.url)
        sampler = Sampler(watch_of(source, kinds=(TwoSteps,)), 2, "me")

        def names() -> list[str]:
            return [queue.name for queue in sampler.sample().queues]

        with redis.Redis.from_url(server.url) as client:
            fill(client, mail=3, images=1)
        assert [names() for _ in range(3)] == [["images"], ["images", "mail"], ["images", "mail"]]
        server.stop(kill=True)
        server.start()
        with redis.Redis.from_url(server.url) as client:
            fill(client, mail=3, images=1)
            client.set("descending", 1)
        assert [names() for _ in range(2)] == [["images", "mail"]] * 2
        source.close()


def test_a_search_ends_on_servers_that_take_turns(source: Source, redis_client: redis.Redis) -> None:
    """Behind one address: each of them makes it start again once."""
    fill(redis_client, mail=3, images=1)
    backend, search = TwoSteps(source, SourceSettings(name="main", url=source.address)), QueueSearch()
    for steps in range(1, 6):
        search.follow_server("one" if steps % 2 else "two")
        search.take_step(backend)
        if search.complete:
            break
    assert (steps, sorted(search.known)) == (3, ["images", "mail"])


def test_their_history_is_kept_until_they_are_found_again(source: Source, redis_client: redis.Redis) -> None:
    fill(redis_client, mail=3)
    one = Sampler(watch_of(source), 2, "one", clock=lambda: 1000.0)
    former = one.sample()
    two = Sampler(watch_of(source, kinds=(Slow,)), 2, "two", clock=lambda: 1016.0)

    two.adopt_published(former, one.history)
    two.sample()

    assert [queue.depth for queue in two.history.queues.values()] == [(3, 3)]


def test_the_forecast_of_another_sampler_continues_while_it_is_fresh(source: Source, redis_client: redis.Redis) -> None:
    fill(redis_client, mail=3)
    former = Sampler(watch_of(source), 2, "one", clock=lambda: 1000.0).sample()
    (mail,) = former.queues
    growing = QueueForecast(state=ForecastState.GROWING, growing_per_min=320.0, window_s=60.0)
    former = replace(former, queues=(replace(mail, forecast=growing),))
    for now, reason in ((1016.0, None), (1200.0, TOO_SHORT)):
        two = Sampler(watch_of(source), 2, "two", clock=lambda now=now: now)
        two.adopt_published(former, History())
        (queue,) = two.sample().queues
        assert queue.forecast is not None
        assert queue.forecast.reason == reason
        assert (queue.forecast == growing) is (reason is None)


def test_queues_of_others_are_not_taken_over(source: Source, redis_client: redis.Redis) -> None:
    fill(redis_client, mail=3)
    former = Sampler(watch_of(source), 2, "one").sample()
    elsewhere = Source("elsewhere", source.address)
    sampler = Sampler(watch_of(elsewhere, kinds=(Slow,)), 2, "two")
    sampler.adopt_published(former, History())
    assert sampler.sample().queues == ()
    elsewhere.close()


def test_how_far_the_first_search_has_come(source: Source, redis_client: redis.Redis) -> None:
    redis_client.mset({f"key:{number}": "" for number in range(4000)})
    sampler = Sampler(watch_of(source, kinds=(Slow,)), 2, "me")
    assert sampler.sample().sources[0].search_progress == pytest.approx(0.25)  # one command is about 1000 keys
    assert sampler.sample().sources[0].search_progress is None


@pytest.mark.parametrize(
    ("commands", "early_s", "due_s"),
    [(1, 3.9, 4.1), (20, 3.9, 4.1), (21, 59.0, 61.0), (400, 59.0, 61.0)],
)
def test_a_key_space_that_costs_much_is_searched_once_a_minute(
    source: Source, monkeypatch: pytest.MonkeyPatch, commands: int, early_s: float, due_s: float
) -> None:
    """By what the whole search costs; a small one begins anew after four seconds."""
    now_s = 1000.0
    monkeypatch.setattr("dashboard.sampling.queue_search.monotonic_s", lambda: now_s)
    searches: list[float] = []

    class Large(Lists):
        """Queues that are found at the price of so many commands."""

        def discover_queues(self, cursor: Any, budget: Budget) -> Discovery:
            searches.append(now_s)
            budget.commands -= commands
            return super().discover_queues(cursor, budget)

    sampler = Sampler(watch_of(source, kinds=(Large,)), 2, "me")
    sampler.sample()
    now_s = 1000.0 + early_s
    sampler.sample()
    assert searches == [1000.0]
    now_s = 1000.0 + due_s
    sampler.sample()
    assert searches == [1000.0, 1000.0 + due_s]


def test_later_searches_step_lightly(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first may cost 400 commands a sample, since nothing is shown before; each later one 20, bit by bit."""
    now_s = 1000.0
    monkeypatch.setattr("dashboard.sampling.queue_search.monotonic_s", lambda: now_s)
    allowed: list[int] = []

    class Stepwise(Lists):
        """Each search takes two steps, all that is allowed each time."""

        def discover_queues(self, cursor: Any, budget: Budget) -> Discovery:
            allowed.append(budget.commands)
            budget.commands = 0
            found = super().discover_queues(cursor, budget)
            return Discovery(found.found, complete=cursor is not None, cursor=None if cursor else 1)

    sampler = Sampler(watch_of(source, kinds=(Stepwise,)), 2, "me")
    snapshots = [sampler.sample(), sampler.sample()]
    assert [snapshot.sources[0].discovered for snapshot in snapshots] == [False, True]
    now_s += 61
    sampler.sample()
    sampler.sample()
    now_s += 59  # two steps of 20 are more than one may cost: a minute again
    sampler.sample()
    assert allowed == [400, 400, 20, 20]


def test_a_sample_has_the_forecasts_of_queues_with_jobs_at_no_command(
    source: Source, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 100_000, 5))
    monkeypatch.setattr("dashboard.sampling.sampler.monotonic_s", lambda: float(next(clock)))
    redis_client.sadd("lists", "mail", "idle")
    sampler, length = Sampler(watch_of(source), 10, "me"), 1000
    fill(redis_client, mail=length)
    costs = set()
    for _ in range(15):  # every 10 seconds, as it asks twice
        redis_client.ltrim("mail", 0, length - 1)
        redis_client.incrby("done:mail", 20)
        idle, mail = sampler.sample().queues
        costs.add(sampler.sample().sources[0].commands)
        length -= 40
    assert idle.forecast is None
    assert mail.forecast is not None
    assert mail.forecast.state is ForecastState.DRAINING
    assert mail.forecast.empty_in_s == pytest.approx(mail.depth / 2, rel=0.2)  # type: ignore[operator]
    assert mail.forecast.finishing_per_min == pytest.approx(60, rel=0.2)
    assert costs <= {6, 7}
