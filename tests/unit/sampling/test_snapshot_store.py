"""Publishing under a lease: one leader, and an epoch that guards every write. On both Redis versions."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis
from msgspec.structs import replace

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import BackendUnavailable, Forbidden
from dashboard.model import QueueStats, Snapshot
from dashboard.sampling import snapshot_store
from dashboard.sampling.leadership import LEASE_S, Leadership
from dashboard.sampling.recent_history import History, QueueHistory
from dashboard.sampling.snapshot_store import SnapshotStore
from dashboard.sources.source import Source
from dashboard.store import redis_store
from tests.waiting import wait_until


@pytest.fixture
def store(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[SnapshotStore]:
    source = Source("main", any_server.url)
    yield SnapshotStore(source)
    source.close()


def _milliseconds(client: redis.Redis) -> int:
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000


def snapshot(sequence: int = 1) -> Snapshot:
    return Snapshot(
        sampled_at=1.0, interval_s=2, sequence=sequence, sampler="t", epoch=1, sources=(), queues=(), history_version=1
    )


def test_the_first_to_ask_leads_and_the_second_learns_who_does(store: SnapshotStore) -> None:
    first = store.acquire_lease("one", 15)
    second = store.acquire_lease("two", 15)
    assert first.epoch is not None
    assert (second.epoch, second.holder) == (None, "one")
    assert store.acquire_lease("one", 15).epoch == first.epoch


@pytest.mark.parametrize(
    ("key", "kind", "told"),
    [
        (redis_store.LEAD, "copied", "{queuedeck}:lead did not expire in time: replaced"),
        (redis_store.LEAD, "text", "{queuedeck}:lead was not a lease: replaced"),
        (redis_store.LEAD, "list", "{queuedeck}:lead was a list, not a string: moved to {queuedeck}:aside:lead"),
        (redis_store.EPOCH, "text", "{queuedeck}:epoch did not hold a valid number: removed"),
        (redis_store.EPOCH, "hash", "{queuedeck}:epoch was a hash, not a string: moved to {queuedeck}:aside:epoch"),
    ],
)
def test_a_key_that_is_no_lease_is_replaced_with_one_line(
    store: SnapshotStore,
    any_redis: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    key: str,
    kind: str,
    told: str | None,
) -> None:
    match kind:
        case "copied":
            any_redis.set(key, "gone:1795860506050")
        case "text":
            any_redis.set(key, b"\xff garbage", px=60_000)
        case "list":
            any_redis.lpush(key, "a")
        case "hash":
            any_redis.hset(key, "a", "b")
    first = store.acquire_lease("one", 15)
    assert (first.holder, bool(first.epoch)) == ("one", True)
    assert store.acquire_lease("two", 15).epoch is None
    assert store.acquire_lease("one", 15) == first
    assert 0 < any_redis.pttl(redis_store.LEAD) <= 15_000
    assert [record.message for record in caplog.records] == ([f"own key {told}"] if told else [])


def test_our_own_lease_without_an_end_gets_one(store: SnapshotStore, any_redis: redis.Redis) -> None:
    lease = store.acquire_lease("one", 15)
    any_redis.persist(redis_store.LEAD)
    assert store.acquire_lease("one", 15) == lease
    assert 0 < any_redis.pttl(redis_store.LEAD) <= 15_000


def test_the_epoch_rises_with_every_change_of_leader_even_after_a_flush(
    store: SnapshotStore, any_redis: redis.Redis
) -> None:
    first = store.acquire_lease("one", 15).epoch
    assert first is not None
    any_redis.delete(redis_store.LEAD)
    second = store.acquire_lease("two", 15).epoch
    assert second is not None
    assert second > first
    any_redis.flushall()
    wait_until(lambda: _milliseconds(any_redis) > second, what="another millisecond")
    third = store.acquire_lease("one", 15).epoch
    assert third is not None
    assert third > second


def test_what_is_published_is_read_back(store: SnapshotStore) -> None:
    epoch = store.acquire_lease("one", 15).epoch
    assert epoch is not None
    assert store.publish_snapshot("one", epoch, snapshot(7), History(version=3))
    assert store.read_published(with_history=True) == (snapshot(7), History(version=3))
    assert store.read_published(with_history=False) == (snapshot(7), None)


@pytest.mark.parametrize("name", ["\udcff\udcfe bad", "ü 💥", "\0raw:00ff", "\0raw:nonsense", "\ud800", ""])
def test_names_of_any_bytes_are_published(store: SnapshotStore, name: str) -> None:
    epoch = store.acquire_lease("one", 15).epoch
    assert epoch is not None
    queues = tuple(QueueStats(source="main", backend="x", name=each, key=each) for each in (name, "plain"))
    published = replace(snapshot(), queues=queues)
    past = History(version=3, queues={f"main\0x\0{name}": QueueHistory(depth=(1, None))})
    assert store.publish_snapshot("one", epoch, published, past)
    assert store.read_published(with_history=True) == (published, past)


def test_a_leader_that_slept_through_its_lease_changes_nothing(store: SnapshotStore, any_redis: redis.Redis) -> None:
    old = store.acquire_lease("one", 15).epoch
    assert old is not None
    any_redis.delete(redis_store.LEAD)  # as when the lease ran out
    new = store.acquire_lease("two", 15).epoch
    assert new is not None
    assert store.publish_snapshot("two", new, snapshot(2), None)
    assert not store.publish_snapshot("one", old, snapshot(1), None)
    assert store.read_published(with_history=False)[0] == snapshot(2)


def test_the_lease_and_the_published_values_do_not_stay_for_ever(store: SnapshotStore, any_redis: redis.Redis) -> None:
    epoch = store.acquire_lease("one", 15).epoch
    assert epoch is not None
    store.publish_snapshot("one", epoch, snapshot(), History())
    assert 0 < any_redis.pttl(redis_store.LEAD) <= 15_000
    assert 0 < any_redis.pttl(snapshot_store.SNAPSHOT) <= snapshot_store.SNAPSHOT_TTL_MS
    assert 0 < any_redis.pttl(snapshot_store.HISTORY) <= snapshot_store.HISTORY_TTL_MS
    assert sorted(any_redis.keys()) == sorted(
        key.encode() for key in (redis_store.LEAD, redis_store.EPOCH, snapshot_store.SNAPSHOT, snapshot_store.HISTORY)
    )


@pytest.mark.parametrize("value", [b"", b"q1", b"q1\xff\xff", b"q0rubbish", b"q1" + b"\x91" * 5000])
def test_what_another_version_or_a_stranger_wrote_is_no_snapshot(
    store: SnapshotStore, any_redis: redis.Redis, value: bytes
) -> None:
    any_redis.set(snapshot_store.SNAPSHOT, value)
    any_redis.lpush(snapshot_store.HISTORY, "a list")
    assert store.read_published(with_history=True) == (None, None)


def test_the_clock_of_the_store_counts(store: SnapshotStore) -> None:
    store.acquire_lease("one", 15)
    assert abs(store.now_s() - time.time()) < 60  # the same machine, though a busy one


@pytest.mark.parametrize("off_s", [-3600, 3600])
def test_a_host_whose_clock_is_off_has_the_time_of_the_store(
    store: SnapshotStore, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch, off_s: int
) -> None:
    """Before the store was asked for the time, after a lease and after a read."""
    host = time.time
    monkeypatch.setattr(time, "time", lambda: host() + off_s)

    def error_s() -> float:
        return abs(store.now_s() - _milliseconds(any_redis) / 1000)

    assert error_s() < 60
    store.acquire_lease("one", 15)
    assert error_s() < 60
    reader = SnapshotStore(store.source)
    reader.read_published(with_history=False)
    assert abs(reader.now_s() - _milliseconds(any_redis) / 1000) < 60


def test_a_lease_that_ran_out_is_not_believed_in(store: SnapshotStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the process's own clock, even when Redis cannot be asked; and it takes the lead from nobody."""
    one, two = Leadership(store, "one"), Leadership(store, "two")
    assert one.renew_lease() is not None
    assert two.renew_lease() is None
    now_s = time.monotonic()
    monkeypatch.setattr("dashboard.sampling.leadership.monotonic_s", lambda: now_s + LEASE_S + 1)
    assert one.epoch is None
    one.release_lease()
    assert two.renew_lease() is None  # in Redis the lease is still one's
    assert one.renew_lease() is not None  # and one renews it


def test_a_leader_that_cannot_ask_leads_until_its_lease_is_over(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    leadership = Leadership(SnapshotStore(source), "one")
    epoch = leadership.renew_lease()
    assert epoch is not None

    def gone(*_arguments: object) -> None:
        raise source.unavailable_error(OSError("gone"))

    monkeypatch.setattr(source, "execute", gone)
    assert leadership.renew_lease() == epoch
    now_s = time.monotonic()
    monkeypatch.setattr("dashboard.sampling.leadership.monotonic_s", lambda: now_s + LEASE_S + 1)
    assert leadership.renew_lease() is None


def test_only_its_holder_releases_a_lease_and_it_is_free_immediately(store: SnapshotStore) -> None:
    one, two = Leadership(store, "one"), Leadership(store, "two")
    assert one.renew_lease() is not None
    assert two.renew_lease() is None
    two.release_lease()
    assert two.renew_lease() is None
    one.release_lease()
    assert one.epoch is None
    assert two.renew_lease() is not None


def test_a_full_redis_still_takes_the_lease_from_version_7_on(store: SnapshotStore, any_redis: redis.Redis) -> None:
    any_redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            any_redis.set("x", "y")
        if any_redis.info()["redis_version"] >= "7":
            epoch = store.acquire_lease("one", 15).epoch
            assert epoch is not None
            assert store.publish_snapshot("one", epoch, snapshot(), None)
        else:
            with pytest.raises(BackendUnavailable):
                store.acquire_lease("one", 15)
    finally:
        any_redis.config_set("maxmemory", "0")


def test_a_user_who_may_only_read_cannot_lead_and_says_why(
    store: SnapshotStore, any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    any_redis.acl_setuser(
        "reader", enabled=True, nopass=True, keys=["*"], categories=["-@all", "+@read"], commands=["+ping"]
    )
    reader = Source("main", f"redis://reader:x@127.0.0.1:{any_server.port}/0")
    try:
        with pytest.raises(Forbidden):
            SnapshotStore(reader).acquire_lease("one", 15)
        leadership = Leadership(SnapshotStore(reader), "one")
        assert leadership.renew_lease() is None
        assert leadership.problem is not None
        assert "is not allowed to do this" in leadership.problem
        assert SnapshotStore(reader).read_published(with_history=True) == (None, None)
    finally:
        reader.close()
        any_redis.acl_deluser("reader")
