"""Several processes, one leader; a reader that costs Redis next to nothing and samples itself when nobody leads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from msgspec.structs import replace

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import Forbidden
from dashboard.model import HistoryProblem, Snapshot
from dashboard.sampling import checker as checker_module
from dashboard.sampling import snapshot_reader, snapshot_store
from dashboard.sampling.checker import Checker
from dashboard.sampling.leadership import Leadership
from dashboard.sampling.recent_history import History
from dashboard.sampling.sampler import Sampler
from dashboard.sampling.snapshot_reader import SnapshotReader
from dashboard.sampling.snapshot_store import SnapshotStore
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from dashboard.store import cache, redis_store
from tests.caches import expire_values
from tests.conftest import start_server
from tests.unit.sampling.list_backend import watch_of
from tests.waiting import CEILING_S, wait_until

INTERVAL_S = 0.5


class FailingRecorder:
    """Has no room at first, then cannot write, and then records."""

    def __init__(self) -> None:
        self.problem: HistoryProblem | None = HistoryProblem(message="No room.", hint="Make room.")
        self.fault: Exception | None = None

    def take_over(self, lead: str) -> bool:
        return True

    def record(self, snapshot: Snapshot, flows: object) -> bool:
        if self.fault is not None:
            raise self.fault
        return True

    def stop(self) -> None:
        pass


@pytest.fixture
def checker_of(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Callable[..., Checker]]:
    """Makes started checkers, as processes would; stopped at the end."""
    redis_client.sadd("lists", "mail")
    redis_client.rpush("mail", 1, 2, 3)
    made: list[tuple[Checker, Source]] = []

    def make(holder: str, interval_s: float = INTERVAL_S, recorder: FailingRecorder | None = None) -> Checker:
        source = Source("main", server.url)
        store = SnapshotStore(source)
        sampler = Sampler(watch_of(source), interval_s, holder)
        checker = Checker(store, sampler, Leadership(store, holder), interval_s, recorder=recorder)
        checker.start()
        made.append((checker, source))
        return checker

    yield make
    for checker, source in made:
        checker.stop()
        source.close()


def published(source: Source) -> Snapshot | None:
    return SnapshotStore(source).read_published(with_history=False)[0]


def test_a_snapshot_says_why_no_history_is_recorded(checker_of: Callable[..., Checker], source: Source) -> None:
    recorder = FailingRecorder()
    checker_of("one", 0.05, recorder)

    def wait_for(message: str | None) -> None:
        def is_published() -> bool:
            found = published(source)
            return found is not None and message == (found.history_problem and found.history_problem.message)

        wait_until(is_published, what=f"a snapshot that says {message}")

    wait_for("No room.")
    recorder.problem = None
    wait_for(None)
    recorder.fault = Forbidden("NOPERM")
    wait_for("It could not be stored: NOPERM")
    recorder.fault = RuntimeError("broken")
    wait_for("It could not be stored.")
    recorder.fault = None
    wait_for(None)


def test_of_two_checkers_one_publishes_and_the_other_takes_over(
    checker_of: Callable[..., Checker], source: Source
) -> None:
    first = checker_of("one")
    wait_until(lambda: published(source) is not None, what="a snapshot")
    checker_of("two")
    before = published(source)
    assert before is not None
    wait_until(lambda: (published(source) or before).sequence >= before.sequence + 2, what="two more samples")
    now = published(source)
    assert now is not None
    assert (now.sampler, now.epoch) == ("one", before.epoch)
    first.stop()
    wait_until(lambda: (published(source) or before).sampler == "two", what="a snapshot of the other one")
    after = published(source)
    assert after is not None
    assert after.epoch > before.epoch
    assert [queue.depth for queue in after.queues] == [3]


def test_a_leader_whose_lease_was_taken_stops_publishing(
    checker_of: Callable[..., Checker], source: Source, redis_client: redis.Redis
) -> None:
    checker = checker_of("one")
    wait_until(lambda: published(source) is not None, what="a snapshot")
    redis_client.set(redis_store.LEAD, "other:99999999999999", px=60_000)
    redis_client.delete(snapshot_store.SNAPSHOT)
    ended = {checker._finished}

    def ticked() -> bool:
        ended.add(checker._finished)
        return len(ended) > 3  # in the first one it may learn that it leads no more

    wait_until(ticked, what="more ticks")
    assert published(source) is None


def test_the_hour_of_history_survives_a_change_of_leader(checker_of: Callable[..., Checker], source: Source) -> None:
    first = checker_of("one")
    wait_until(lambda: SnapshotStore(source).read_published(with_history=True)[1] is not None, what="the history")
    first.stop()
    _, before = SnapshotStore(source).read_published(with_history=True)
    checker_of("two")
    wait_until(lambda: (published(source) or snapshot_by("one")).sampler == "two", what="a snapshot of the other one")
    wait_until(lambda: SnapshotStore(source).read_published(with_history=True)[1] is not None, what="the history")
    _, after = SnapshotStore(source).read_published(with_history=True)
    assert before is not None
    assert after is not None
    assert after.totals.depth[: len(before.totals.depth)] == before.totals.depth


def test_a_stopped_checker_does_not_take_the_lease_back(
    checker_of: Callable[..., Checker], source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    checker = checker_of("one")
    renewing, stopping, released = threading.Event(), threading.Event(), threading.Event()
    renew, release = checker._leadership.renew_lease, checker._leadership.release_lease

    def renew_late() -> int | None:
        renewing.set()
        assert stopping.wait(CEILING_S)
        released.wait(0.2)  # a moment in which nothing may happen
        return renew()

    def note_release() -> None:
        release()
        released.set()

    monkeypatch.setattr(checker._leadership, "renew_lease", renew_late)
    monkeypatch.setattr(checker._leadership, "release_lease", note_release)
    assert renewing.wait(CEILING_S)
    stopping.set()
    checker.stop()
    checker._keeper.join(CEILING_S)
    assert SnapshotStore(source).acquire_lease("two", 15).epoch is not None


def test_a_stop_waits_for_a_sample_under_way(
    checker_of: Callable[..., Checker], source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next leader takes over after it, and connections that are closed next are in use no more."""
    checker = checker_of("one")
    sampling, stopping = threading.Event(), threading.Event()
    sample, shut_down = checker._sampler.sample, checker._scheduler.shutdown
    held = []

    def sample_late(epoch: int) -> Snapshot:
        sampling.set()
        assert stopping.wait(CEILING_S)
        held.append(source.execute("EXISTS", redis_store.LEAD))
        return sample(epoch)

    def note_shutdown(*, wait: bool) -> None:
        shut_down(wait=wait)
        stopping.set()

    monkeypatch.setattr(checker._sampler, "sample", sample_late)
    monkeypatch.setattr(checker._scheduler, "shutdown", note_shutdown)
    assert sampling.wait(CEILING_S)
    began = checker._finished
    checker.stop()
    assert checker._finished > began
    assert held == [1]
    assert not source.execute("EXISTS", redis_store.LEAD)


def test_a_stop_does_not_wait_for_a_sample_that_hangs(
    checker_of: Callable[..., Checker], source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checker_module, "STOP_S", 0.1)
    checker = checker_of("one")
    sampling, released = threading.Event(), threading.Event()

    def hang(_epoch: int) -> Snapshot:
        sampling.set()
        assert released.wait(CEILING_S)
        raise Forbidden("too late")

    monkeypatch.setattr(checker._sampler, "sample", hang)
    assert sampling.wait(CEILING_S)
    checker.stop()
    assert not source.execute("EXISTS", redis_store.LEAD)
    released.set()


def snapshot_by(sampler: str, *, at: float = 0.0, sequence: int = 1) -> Snapshot:
    return Snapshot(
        sampled_at=at, interval_s=INTERVAL_S, sequence=sequence, sampler=sampler, epoch=1, sources=(), queues=()
    )


def test_a_refresh_of_a_viewer_costs_at_most_two_commands(checker_of: Callable[..., Checker], source: Source) -> None:
    checker_of("one", interval_s=60.0)  # so that no pause of this process makes its sample stale
    wait_until(lambda: published(source) is not None, what="a snapshot")
    reader = SnapshotReader(SnapshotStore(source), INTERVAL_S, lambda: pytest.fail("nobody leads"))
    highest = 0
    for _ in range(10):
        with measure_cost() as meter:
            current = reader.current()
        assert current.snapshot is not None
        assert meter.commands <= 2
        highest = max(highest, meter.commands)
        expire_values(reader._readings)
    assert highest > 0
    with measure_cost() as meter:
        reader.current()
        reader.current()
    assert meter.commands <= 2  # the second one is free
    wait_until(lambda: bool(reader.current().history.totals.depth), what="the history")


def test_who_asks_once_or_seldom_gets_the_history_of_now(source: Source) -> None:
    store = SnapshotStore(source)
    epoch = store.acquire_lease("one", 15).epoch
    assert epoch is not None

    def publish(sequence: int) -> None:
        taken = replace(snapshot_by("one", at=time.time(), sequence=sequence), epoch=epoch, history_version=sequence)
        assert store.publish_snapshot("one", epoch, taken, History(version=sequence, last_at=float(sequence)))

    reader = SnapshotReader(SnapshotStore(source), 60.0, lambda: pytest.fail("somebody leads"))
    publish(1)
    assert reader.current().history.last_at == 1.0
    publish(2)
    expire_values(reader._readings)
    reader._looked_at = time.monotonic() - 60  # as if a minute had passed
    assert reader.current().history.last_at == 2.0


def test_without_a_leader_a_process_samples_at_most_once_per_interval(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    for module in (snapshot_reader, cache):
        monkeypatch.setattr(module, "monotonic_s", lambda: now)
    calls: list[float] = []
    gate = threading.Barrier(8)

    def own_sample(_known: Snapshot | None, _history: History) -> tuple[Snapshot, History]:
        calls.append(now)
        return snapshot_by("me", at=time.time(), sequence=len(calls)), History()

    reader = SnapshotReader(SnapshotStore(source), INTERVAL_S, own_sample)

    def look() -> None:
        gate.wait()
        for _ in range(5):
            assert reader.current().snapshot is not None

    expected = []
    with ThreadPoolExecutor(8) as pool:
        for _ in range(4):
            expected.append(now)
            for later_s in (0.0, INTERVAL_S * 0.9):
                now = expected[-1] + later_s
                for future in [pool.submit(look) for _ in range(8)]:
                    future.result()
                assert calls == expected
            now += INTERVAL_S


def test_a_stale_snapshot_of_a_dead_leader_is_replaced_by_an_own_sample(source: Source) -> None:
    store = SnapshotStore(source)
    epoch = store.acquire_lease("dead", 15).epoch
    assert epoch is not None
    assert store.publish_snapshot("dead", epoch, snapshot_by("dead", at=time.time() - 60), None)
    begun_with: list[str] = []

    def own_sample(known: Snapshot | None, _history: History) -> tuple[Snapshot, History]:
        begun_with.append(known.sampler if known else "")
        return snapshot_by("me", at=time.time()), History()

    reader = SnapshotReader(store, INTERVAL_S, own_sample)
    current = reader.current()
    assert current.snapshot is not None
    assert current.snapshot.sampler == "me"
    assert begun_with == ["dead"]  # its queues are there until they are not found again
    assert not current.stale


def test_with_the_store_gone_the_reading_says_why() -> None:
    with start_server("redis-7") as server:
        source = Source("main", server.url)
        server.stop(kill=True)
        sampler = Sampler(watch_of(source), INTERVAL_S, "me")
        reader = SnapshotReader(
            SnapshotStore(source), INTERVAL_S, lambda _known, _history: (sampler.sample(), sampler.history)
        )
        current = reader.current()
        assert current.error is not None
        assert current.error.startswith("Connection refused by")
        assert current.snapshot is not None
        assert not current.snapshot.sources[0].reachable
        source.close()


@pytest.mark.parametrize("leads", [True, False])
def test_the_last_figures_are_known_though_nobody_looked(monkeypatch: pytest.MonkeyPatch, leads: bool) -> None:
    """Those of the checker's own samples, or of another one that leads, before the Redis and the store go down."""
    monkeypatch.setattr(checker_module, "LOOK_EVERY_S", 0.0)
    with start_server("redis-7") as server, redis.Redis.from_url(server.url) as client:
        client.sadd("lists", "mail")
        client.rpush("mail", 1, 2, 3)
        sources = [Source("main", server.url) for _ in range(2)]
        stores = [SnapshotStore(source) for source in sources]
        own = Sampler(watch_of(sources[0]), INTERVAL_S, "me")
        reader = SnapshotReader(stores[0], INTERVAL_S, lambda _known, _history: (own.sample(), own.history))
        samplers = [Sampler(watch_of(source), INTERVAL_S, f"checker-{n}") for n, source in enumerate(sources)]
        leaderships = [Leadership(store, f"checker-{n}") for n, store in enumerate(stores)]
        checkers = [
            Checker(stores[n], samplers[n], leaderships[n], INTERVAL_S, reader=None if n else reader) for n in range(2)
        ]
        for n in (0, 1) if leads else (1, 0):
            leaderships[n].renew_lease()
            checkers[n]._tick()
        assert (leaderships[0].epoch is not None) is leads
        server.stop(kill=True)
        expire_values(reader._readings)
        current = reader.current()
        assert current.snapshot is not None
        assert not current.snapshot.sources[0].reachable
        shown, taken_at = reader.last_known.fill(current.snapshot)
        assert [queue.depth for queue in shown.queues] == [3]
        assert set(taken_at) == {"main"}
        for source in sources:
            source.close()


class Rounds(threading.Event):
    """A stop that comes after so many waits, none of which takes time."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._left = count

    def wait(self, timeout: float | None = None) -> bool:
        """Whether to stop."""
        self._left -= 1
        return self._left < 0


def keep(source: Source, late_s: float, *, rounds: int = 1) -> tuple[bool, int]:
    """(whether the leader's lease was renewed, how often it was found hung) with the last tick so long ago."""
    hung: list[None] = []
    store = SnapshotStore(source)
    leadership = Leadership(store, "one")
    checker = Checker(
        store,
        Sampler(watch_of(source), INTERVAL_S, "one"),
        leadership,
        INTERVAL_S,
        on_hung=lambda: hung.append(None),
    )
    assert leadership.renew_lease() is not None
    source.execute("PEXPIRE", redis_store.LEAD, 600_000)  # renewed, it has 15 s again
    checker._stop = Rounds(rounds)
    checker._finished -= late_s
    checker._keep_lease()
    return source.execute("PTTL", redis_store.LEAD) <= 15_000, len(hung)


def test_the_lease_is_renewed_while_ticks_end(source: Source) -> None:
    assert keep(source, 0.0) == (True, 0)


def test_a_hung_leader_lets_its_lease_run_out(source: Source) -> None:
    """Before it is taken for hung, and after; that it hangs is told once, with the stacks of all threads."""
    assert keep(source, 30.0, rounds=3) == (False, 0)
    source.execute("DEL", redis_store.LEAD)
    assert keep(source, 3600.0, rounds=3) == (False, 1)


def test_a_leader_whose_lease_ran_out_neither_samples_nor_publishes(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at its own clock first, and Redis refuses what it publishes all the same."""
    store = SnapshotStore(source)
    leadership = Leadership(store, "one")
    sampler = Sampler(watch_of(source), INTERVAL_S, "one")
    checker = Checker(store, sampler, leadership, INTERVAL_S)
    epoch = leadership.renew_lease()
    assert epoch is not None
    source.execute("DEL", redis_store.LEAD)
    assert not store.publish_snapshot("one", epoch, snapshot_by("one"), None)
    now_s = time.monotonic()
    monkeypatch.setattr("dashboard.sampling.leadership.monotonic_s", lambda: now_s + 16)
    checker._tick()
    assert sampler.history.version == 0  # no sample was taken
    assert published(source) is None


def test_a_process_that_ends_leaves_the_lead_of_another_alone(source: Source) -> None:
    """It may not have heard yet that its lease ran out and another process leads."""
    one, two = Leadership(SnapshotStore(source), "one"), Leadership(SnapshotStore(source), "two")
    assert one.renew_lease() is not None
    source.execute("DEL", redis_store.LEAD)
    epoch = two.renew_lease()
    assert epoch is not None
    one.release_lease()
    assert source.execute("GET", redis_store.LEAD) == f"two:{epoch}".encode()
