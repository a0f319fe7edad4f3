"""Publishing in parts: what is sent, what a lost part costs, and that a deposed leader changes nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from msgspec.structs import replace

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import Counts, NativeCount, QueueStats, Snapshot, State
from dashboard.sampling import snapshot_parts, snapshot_store, snapshot_transfer
from dashboard.sampling.recent_history import History, QueueHistory
from dashboard.sampling.snapshot_parts import BUSY_FOR, ROWS, SnapshotCutter
from dashboard.sampling.snapshot_reader import SnapshotReader
from dashboard.sampling.snapshot_store import SnapshotStore
from dashboard.sources.source import Source
from dashboard.store import redis_store
from tests.caches import expire_values

QUEUES = 1000  # more than the manifest carries


@pytest.fixture
def store(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[SnapshotStore]:
    source = Source("main", any_server.url)
    yield SnapshotStore(source)
    source.close()


@pytest.fixture
def reader(store: SnapshotStore) -> SnapshotStore:
    """The store as another process sees it."""
    return SnapshotStore(store.source)


def queue(number: int, depth: int = 0) -> QueueStats:
    noise = random.Random(number).randbytes(16).hex()  # so that it does not pack well
    native = (NativeCount(native=f"wait-{noise}", state=State.WAITING, count=depth),)
    return QueueStats(
        source="main",
        backend="x",
        name=f"queue-{number:05}",
        key=f"bull:queue-{number:05}",
        counts=Counts(waiting=depth),
        native=native,
        depth=depth,
    )


def snapshot(store: SnapshotStore, *queues: QueueStats, epoch: int = 1) -> Snapshot:
    return Snapshot(
        sampled_at=store.now_s(), interval_s=2, sequence=1, sampler="t", epoch=epoch, sources=(), queues=queues
    )


def many(store: SnapshotStore) -> Snapshot:
    return snapshot(store, *map(queue, range(QUEUES)))


def changed(taken: Snapshot, number: int, depth: int) -> Snapshot:
    return replace(taken, queues=(*taken.queues[:number], queue(number, depth), *taken.queues[number + 1 :]))


def part_keys(client: redis.Redis) -> list[bytes]:
    return sorted(client.keys(f"{snapshot_transfer.PART}:*"))


def lead(store: SnapshotStore, name: str = "one") -> int:
    epoch = store.acquire_lease(name, 15).epoch
    assert epoch is not None
    return epoch


def calls(client: redis.Redis, command: str) -> int:
    return int(client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


def test_many_queues_come_back_in_their_order_with_their_history(store: SnapshotStore, reader: SnapshotStore) -> None:
    epoch = lead(store)
    taken = many(store)
    past = History(
        version=3,
        last_at=store.now_s(),
        queues={f"main\0x\0{n}": QueueHistory(depth=tuple(random.Random(n).randbytes(60))) for n in range(QUEUES)},
    )
    assert store.publish_snapshot("one", epoch, taken, past)
    assert reader.read_published(with_history=True) == (taken, past)
    assert reader.read_published(with_history=False) == (taken, None)


def test_few_queues_travel_in_the_manifest(store: SnapshotStore, reader: SnapshotStore, any_redis: redis.Redis) -> None:
    epoch = lead(store)
    taken = snapshot(store, *map(queue, range(20)))
    assert store.publish_snapshot("one", epoch, taken, History(version=1, last_at=store.now_s()))
    assert part_keys(any_redis) == []
    before = any_redis.info("stats")["total_commands_processed"]
    assert reader.read_published(with_history=True)[0] == taken
    assert any_redis.info("stats")["total_commands_processed"] - before <= 8  # of these, connecting and asking here


def test_only_what_changed_is_sent_and_read(
    store: SnapshotStore, reader: SnapshotStore, any_redis: redis.Redis
) -> None:
    epoch = lead(store)
    taken = many(store)
    assert store.publish_snapshot("one", epoch, taken, None)
    whole = any_redis.info("stats")["total_net_input_bytes"]
    reader.read_published(with_history=False)
    taken = changed(taken, 500, 7)
    any_redis.config_resetstat()
    assert store.publish_snapshot("one", epoch, taken, None)
    assert calls(any_redis, "set") == 3  # the run without that queue, that queue, and the pointer
    assert any_redis.info("stats")["total_net_input_bytes"] < whole / 3
    assert reader.read_published(with_history=False)[0] == taken
    assert calls(any_redis, "get") <= 4  # the lease, the pointer and two parts
    taken = changed(taken, 500, 8)
    any_redis.config_resetstat()
    assert store.publish_snapshot("one", epoch, taken, None)
    assert calls(any_redis, "set") == 2  # that queue, and the pointer
    assert reader.read_published(with_history=False)[0] == taken
    any_redis.config_resetstat()
    assert store.publish_snapshot("one", epoch, replace(taken, sequence=2), None)
    assert calls(any_redis, "set") == 1
    assert reader.read_published(with_history=False)[0] == replace(taken, sequence=2)


def test_a_process_reads_nothing_back_that_it_published(store: SnapshotStore, any_redis: redis.Redis) -> None:
    epoch = lead(store)
    taken = many(store)
    assert store.publish_snapshot("one", epoch, taken, None)
    any_redis.config_resetstat()
    assert store.read_published(with_history=False)[0] is taken
    assert calls(any_redis, "get") == 1


def test_no_value_is_larger_than_a_part_may_be(
    store: SnapshotStore, reader: SnapshotStore, any_redis: redis.Redis
) -> None:
    epoch = lead(store)
    queues = [replace(queue(n), notes=(random.Random(n).randbytes(6000).hex(),)) for n in range(QUEUES)]
    taken = snapshot(store, *queues)
    past = History(
        version=1,
        last_at=store.now_s(),
        queues={f"{random.Random(n).randbytes(3000).hex()}": QueueHistory(depth=(n,)) for n in range(QUEUES)},
    )
    assert store.publish_snapshot("one", epoch, taken, past)
    sizes = [any_redis.strlen(key) for key in any_redis.scan_iter("*")]
    assert sum(sizes) > 5_000_000
    assert max(sizes) <= snapshot_parts.PART_BYTES
    assert reader.read_published(with_history=True) == (taken, past)


def test_a_deposed_leader_swaps_no_pointer_and_its_parts_run_out(
    store: SnapshotStore, reader: SnapshotStore, any_redis: redis.Redis
) -> None:
    old = lead(store)
    taken = many(store)
    assert store.publish_snapshot("one", old, taken, None)
    any_redis.delete(redis_store.LEAD)
    other = SnapshotStore(store.source)
    new = lead(other, "two")
    theirs = changed(taken, 3, 9)
    assert other.publish_snapshot("two", new, theirs, None)
    listed = set(part_keys(any_redis))
    for depth in range(3):
        assert not store.publish_snapshot("one", old, changed(taken, 5, depth + 1), None)
    assert reader.read_published(with_history=True) == (theirs, None)
    left = [any_redis.pttl(key) for key in set(part_keys(any_redis)) - listed]
    assert len(left) == 3 + 1  # each queue that changed, and once the run without it
    assert all(0 < ms <= snapshot_transfer.PENDING_TTL_MS for ms in left)


def test_parts_that_are_no_longer_listed_live_on_for_a_moment(store: SnapshotStore, any_redis: redis.Redis) -> None:
    """A reader may have read the manifest just before. The next leader sees to those of the last one."""
    epoch = lead(store)
    taken = many(store)
    assert store.publish_snapshot("one", epoch, taken, None)
    first = set(part_keys(any_redis))
    taken = changed(taken, 0, 1)
    assert store.publish_snapshot("one", epoch, taken, None)
    kept = {key for key in first if any_redis.pttl(key) > snapshot_transfer.GRACE_MS}
    assert len(first - kept) == 1
    assert all(any_redis.pttl(key) > 0 for key in first)
    store.release_lease("one", epoch)
    other = SnapshotStore(store.source)
    assert other.publish_snapshot("two", lead(other, "two"), other.read_published(with_history=True)[0] or taken, None)
    assert store.publish_snapshot("one", epoch, taken, None) is False
    small = snapshot(store, queue(1))
    assert other.publish_snapshot("two", lead(other, "two"), small, None)
    assert all(any_redis.pttl(key) <= snapshot_transfer.GRACE_MS for key in part_keys(any_redis))


@pytest.mark.parametrize("loss", ["gone", "all gone", "garbage", "another part", "a list"])
def test_a_snapshot_with_a_lost_part_is_unavailable_until_it_is_sent_again(
    store: SnapshotStore, reader: SnapshotStore, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    epoch = lead(store)
    taken = many(store)
    assert store.publish_snapshot("one", epoch, taken, None)
    key, another, *_ = part_keys(any_redis)
    value = any_redis.get(another)
    any_redis.delete(*(part_keys(any_redis) if loss == "all gone" else [key]))
    match loss:
        case "garbage":
            any_redis.set(key, b"\xff\x00 garbage", px=60_000)
        case "another part":
            any_redis.set(key, value or b"", px=60_000)
        case "a list":
            any_redis.rpush(key, "a")
    any_redis.config_resetstat()
    assert reader.read_published(with_history=False)[0] is None
    assert calls(any_redis, "get") <= 2 * (1 + 2 * (QUEUES // ROWS + 1))  # a second look, and no third
    if loss in ("garbage", "another part"):
        clock = snapshot_transfer.monotonic_s() + snapshot_transfer.REFRESH_S
        monkeypatch.setattr(snapshot_transfer, "monotonic_s", lambda: clock)
    taken = replace(taken, sequence=2)
    assert store.publish_snapshot("one", epoch, taken, None)
    assert reader.read_published(with_history=False)[0] == taken


def test_who_cannot_read_a_part_samples_for_itself(
    store: SnapshotStore, reader: SnapshotStore, any_redis: redis.Redis
) -> None:
    """And does not show what it read before as if it were of now."""
    epoch = lead(store)
    taken = many(store)
    own = snapshot(store, queue(1, 5), epoch=0)
    viewer = SnapshotReader(reader, 60.0, lambda _last, _history: (own, History()))
    assert store.publish_snapshot("one", epoch, taken, None)
    assert viewer.current().snapshot == taken
    taken = changed(taken, 2, 2)
    assert store.publish_snapshot("one", epoch, taken, None)
    any_redis.delete(*part_keys(any_redis))
    expire_values(viewer._readings)
    assert viewer.current().snapshot == own


def test_a_part_that_is_replaced_while_it_is_read_costs_one_more_look(
    store: SnapshotStore, reader: SnapshotStore, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = lead(store)
    first, second = many(store), changed(many(store), 9, 9)
    assert store.publish_snapshot("one", epoch, first, None)
    slow = Source("slow", store.source.address)
    monkeypatch.setattr(reader, "source", slow)
    asked: list[int] = []
    batch = slow.run_batch

    def paused(commands: Any) -> Any:
        asked.append(len(commands))
        if len(asked) == 2:  # it has the manifest, and not yet the parts
            assert store.publish_snapshot("one", epoch, second, None)
            any_redis.delete(
                *(key for key in part_keys(any_redis) if any_redis.pttl(key) <= snapshot_transfer.GRACE_MS)
            )
        return batch(commands)

    monkeypatch.setattr(slow, "run_batch", paused)
    assert reader.read_published(with_history=False)[0] == second
    assert len(asked) == 4
    slow.close()


def test_a_full_redis_from_version_7_on_takes_all_parts(
    store: SnapshotStore, reader: SnapshotStore, any_redis: redis.Redis
) -> None:
    if any_redis.info()["redis_version"] < "7":
        return
    epoch = lead(store)
    taken = many(store)
    any_redis.config_set("maxmemory", "1")
    try:
        assert store.publish_snapshot("one", epoch, taken, None)
        assert reader.read_published(with_history=False)[0] == taken
    finally:
        any_redis.config_set("maxmemory", "0")


def test_a_wrong_manifest_is_no_snapshot(store: SnapshotStore, any_redis: redis.Redis) -> None:
    epoch = lead(store)
    assert store.publish_snapshot("one", epoch, many(store), None)
    sound = any_redis.get(snapshot_store.SNAPSHOT)
    assert sound is not None
    name = part_keys(any_redis)[0].rsplit(b":", 1)[1]
    for wrong in (
        sound[:-9],
        b"q1" + sound[2:],
        sound.replace(name, b"0" * len(name)),
        snapshot_parts.FORMAT,
        b"\x00" * 100_000,
    ):
        any_redis.set(snapshot_store.SNAPSHOT, wrong)
        assert SnapshotStore(store.source).read_published(with_history=False)[0] is None


def test_parts_honour_the_store_prefix(any_server: EmbeddedRedis, any_redis: redis.Redis) -> None:
    source = Source("main", any_server.url, "{mine}")
    store = SnapshotStore(source)
    taken = many(store)
    assert store.publish_snapshot("one", lead(store), taken, None)
    assert SnapshotStore(source).read_published(with_history=False)[0] == taken
    assert all(key.startswith(b"{mine}:") for key in any_redis.scan_iter("*"))
    assert set(any_redis.scan_iter("{mine}:part:snapshot:*"))
    source.close()


def test_shared_samples_go_in_parts_too(store: SnapshotStore, reader: SnapshotStore) -> None:
    taken, past = many(store), History(version=1, last_at=store.now_s())
    store.share_snapshot("other", taken, past)
    assert reader.read_shared("other") == (taken, past)
    assert reader.read_published(with_history=True) == (None, None)


def test_cutting_any_changes_gives_all_queues_in_their_order() -> None:
    """Also where queues come and go, and while they are busy or no longer."""
    dice = random.Random(7)
    cutter = SnapshotCutter()
    numbers = list(range(700))
    depths = dict.fromkeys(range(2000), 0)
    known: dict[str, Any] = {}
    for look in range(60):
        if look % 9 == 8:
            numbers = sorted({*dice.sample(numbers, len(numbers) - 5), *dice.sample(range(2000), 7)})
        for number in dice.sample(numbers, dice.choice([0, 0, 0, 3, 300])):
            depths[number] += 1
        queues = tuple(queue(number, depths[number]) for number in numbers)
        taken = Snapshot(sampled_at=look, interval_s=2, sequence=look, sampler="t", epoch=1, sources=(), queues=queues)
        document = cutter.cut_snapshot(taken)
        known = {
            part.name: known.get(part.name) or snapshot_parts.SNAPSHOTS.rows(part.name, part.body)
            for part in document.parts
        }
        manifest = snapshot_parts.SNAPSHOTS.manifest(document.manifest)
        assert manifest is not None
        assert manifest.join_parts(known) == taken


def test_a_queue_that_stays_as_it_is_is_sent_no_more() -> None:
    cutter = SnapshotCutter()
    rows = [queue(number) for number in range(QUEUES)]
    rows[40] = queue(40, 1)

    def names() -> set[str]:
        taken = Snapshot(sampled_at=1.0, interval_s=2, sequence=1, sampler="t", epoch=1, sources=(), queues=tuple(rows))
        return {part.name for part in cutter.cut_snapshot(taken).parts}

    first = names()
    rows[40] = queue(40, 2)
    busy = names()
    assert len(busy - first) == 2
    assert all(names() == busy for _ in range(BUSY_FOR - 1))
    assert len(names() - busy) == 1  # back in its run
