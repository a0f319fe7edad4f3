"""Outages of the store and their ends, notified without it by one process per host."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from dashboard.alerts.delivery import outage_spool
from dashboard.alerts.delivery.channels.base import DeliveryResult, Message
from dashboard.alerts.delivery.message import PageLinks
from dashboard.alerts.delivery.outage_spool import OutageRecord
from dashboard.alerts.delivery.store_outage import (
    FOLLOWER_WAIT_S,
    REFUSED,
    UNREACHABLE,
    StoreOutageNotifier,
    metric_from_problem,
)
from dashboard.alerts.delivery.transport.deadline import Deadline
from dashboard.alerts.notification import HistoryEntry
from dashboard.alerts.rules.rule import Rule, parse_rule
from dashboard.alerts.silences import ActiveSilences, Silence, WeeklyWindow
from dashboard.alerts.store import AlertStore
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import BackendUnavailable, Forbidden, QueuedeckError
from dashboard.sampling.snapshot_store import SnapshotStore
from dashboard.sources.source import Source
from tests.alerts.harness import Recorder
from tests.conftest import SERVERS, start_server
from tests.processes import child
from tests.waiting import wait_until

GONE = BackendUnavailable("Connection refused by redis://h:1/0", source="main", reason="refused")
FULL = BackendUnavailable("redis://h:1/0 is out of memory and refuses writes", source="main", reason="full")
LATER = DeliveryResult(ok=False, status="500")
NO_MUTES = ActiveSilences()


def rules(**fields: object) -> tuple[Rule, ...]:
    gone = {"id": "redis-unreachable", "metric": UNREACHABLE, "op": "ge", "critical": 0.05, "for_s": 0, **fields}
    refused = {"id": "redis-writes-refused", "metric": REFUSED, "op": "ge", "critical": 1, "for_s": 0.05, **fields}
    return parse_rule(gone, "test"), parse_rule(refused, "test")


class ClockOffset:
    """How far the monotonic clock of the process is ahead of that of the machine."""

    s = 0.0


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClockOffset, "s", 0.0)
    for module in ("store_outage", "outage_sender"):
        monkeypatch.setattr(f"dashboard.alerts.delivery.{module}.monotonic_s", lambda: time.monotonic() + ClockOffset.s)


class Host:
    """The processes of one host, which share a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recorded: list[HistoryEntry] = []
        self.made: list[StoreOutageNotifier] = []

    def process(self, *channels: Recorder) -> StoreOutageNotifier:
        named = {channel.id: channel for channel in channels}
        local = StoreOutageNotifier(
            "redis://h:1/0", "main", 2.0, named, PageLinks(None), self.folder, self.recorded.append
        )
        self.made.append(local)
        return local


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    for local in host.made:
        local.stop()


def fail(
    local: StoreOutageNotifier,
    *,
    times: int = 30,
    problem: QueuedeckError = GONE,
    led: bool = True,
    active_silences: ActiveSilences = NO_MUTES,
) -> None:
    """Fail evaluations for far longer than the rules require."""
    for _ in range(times):
        local.record_failure(problem, rules(), active_silences, led=led, epoch=7)
        ClockOffset.s += 0.1


def fail_until_notifying(local: StoreOutageNotifier, *, active_silences: ActiveSilences = NO_MUTES) -> None:
    """Fail evaluations until this process notifies."""

    def starts_notifying() -> bool:
        fail(local, times=1, active_silences=active_silences)
        return local.is_notifying

    wait_until(starts_notifying, what="the start of notifying")


def test_missing_permissions_are_an_outage_only_after_a_success(host: Host) -> None:
    ops = Recorder()
    local = host.process(ops)
    fail(local, problem=Forbidden("The Redis user may not do that"))
    assert not local.is_notifying
    local.record_success()
    fail(local, problem=Forbidden("The Redis user may not do that"))
    wait_until(lambda: ops.kinds == ["firing"], what="the alert")
    assert "may not do that" in str(ops.arrived[0].lines[0].detail_text)


def test_an_outage_and_its_end_are_notified_once_and_recorded(host: Host) -> None:
    ops = Recorder()
    local = host.process(ops)
    fail_until_notifying(local)
    wait_until(lambda: ops.kinds == ["firing"], what="the alert")
    local.record_success()
    wait_until(lambda: ops.kinds == ["firing", "resolved"], what="the end of the alert")
    wait_until(lambda: [entry.kind for entry in host.recorded] == ["firing", "resolved"], what="the record of both")
    wait_until(lambda: not local.is_notifying, what="the end of notifying")
    first, last = ops.arrived
    assert first.episode == last.episode
    assert "Connection refused" in str(first.lines[0].detail_text)
    assert last.ended_at is not None
    assert not list(host.folder.glob("*.spool"))


class Hanging(Recorder):
    """Hangs until `released` is set."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.released = threading.Event()

    def attempt_delivery(self, message: Message, deadline: Deadline) -> DeliveryResult:
        self.released.wait(120)
        return super().attempt_delivery(message, deadline)


def test_a_hanging_channel_delays_no_other(host: Host) -> None:
    slow, quick = Hanging("a-slow"), Recorder("quick")
    local = host.process(slow, quick)
    fail_until_notifying(local)
    try:
        wait_until(lambda: quick.kinds == ["firing"], what="the alert on the quick channel")
        local.record_success()
        wait_until(lambda: quick.kinds == ["firing", "resolved"], what="its end there")
        assert slow.arrived == []
    finally:
        slow.released.set()
    wait_until(lambda: slow.kinds == ["firing", "resolved"], what="both on the slow one")


def test_a_short_outage_is_not_notified(host: Host) -> None:
    ops = Recorder()
    local = host.process(ops)
    for _ in range(3):
        local.record_failure(GONE, rules(critical=10), NO_MUTES, led=True, epoch=7)
        local.record_success()
    assert not local.is_notifying
    assert ops.given == []


def test_an_outage_within_a_maintenance_window_is_not_notified(host: Host) -> None:
    ops = Recorder()
    local = host.process(ops)
    daily = WeeklyWindow(days=(0, 1, 2, 3, 4, 5, 6), from_min=0, minutes=1440)
    window = Silence(id="w", until=time.time() + 60, by="me", source="main", weekly=daily)
    fail(local, active_silences=ActiveSilences(silences=(window,)))
    assert not local.is_notifying
    assert ops.given == []
    fail_until_notifying(
        local, active_silences=ActiveSilences(silences=(msgspec.structs.replace(window, until=time.time() - 1),))
    )
    wait_until(lambda: ops.kinds == ["firing"], what="the alert once the window is over")


def test_one_process_per_host_sends(host: Host) -> None:
    ops = Recorder()
    first, second = host.process(ops), host.process(ops)
    fail_until_notifying(first)
    fail(second)
    assert not second.is_notifying
    wait_until(lambda: ops.kinds == ["firing"], what="the alert")


def test_a_follower_waits_for_the_last_leader_before_notifying(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("dashboard.alerts.delivery.store_outage.monotonic_s", lambda: clock[0])
    local = host.process(Recorder())
    for clock[0] in (0.0, 10.0, 20.0, FOLLOWER_WAIT_S):
        fail(local, times=1, led=False)
        assert not local.is_notifying
    clock[0] = FOLLOWER_WAIT_S + 1
    fail(local, times=1, led=False)
    assert local.is_notifying


def test_two_hosts_notify_under_the_same_id(tmp_path: Path) -> None:
    ops = Recorder()
    hosts = [Host(tmp_path / name) for name in ("a", "b")]
    for host in hosts:
        host.folder.mkdir()
        fail_until_notifying(host.process(ops))
    wait_until(lambda: len(ops.arrived) == 2, what="both alerts")
    assert len({message.id for message in ops.arrived}) == 1
    for host in hosts:
        host.made[0].stop()


def test_an_outage_that_ended_before_delivery_is_one_message(host: Host) -> None:
    ops = Recorder(answers=[LATER])
    ops.gate = threading.Event()
    local = host.process(ops)
    fail_until_notifying(local)
    wait_until(lambda: len(ops.given) == 1, what="the first attempt")
    local.record_success()  # before the first attempt has failed, and long before the second
    ops.gate.set()
    wait_until(lambda: ops.kinds == ["both"], what="one message of both")


def test_a_restarted_process_continues_the_outage(host: Host) -> None:
    ops = Recorder()
    local = host.process(ops)
    fail_until_notifying(local)
    wait_until(lambda: ops.kinds == ["firing"], what="the alert")
    local.stop()  # as if killed: the lock is free, the spool file exists
    successor = host.process(ops)
    fail_until_notifying(successor)
    successor.record_success()
    wait_until(lambda: ops.kinds == ["firing", "resolved"], what="the end of the alert")


def test_an_unnotified_end_is_notified_by_the_next_process(host: Host) -> None:
    ops = Recorder()
    local = host.process(ops)
    fail_until_notifying(local)
    wait_until(lambda: ops.kinds == ["firing"], what="the alert")
    local.stop()
    host.process(ops).record_success()
    wait_until(lambda: ops.kinds == ["firing", "resolved"], what="the end of the alert")


def test_an_unwritable_spool_folder_does_not_stop_notifications(tmp_path: Path) -> None:
    ops = Recorder()
    local = StoreOutageNotifier(
        "redis://h:1/0", "main", 2.0, {"ops": ops}, PageLinks(None), tmp_path / "none", lambda entry: None
    )
    fail_until_notifying(local)
    wait_until(lambda: ops.kinds == ["firing"], what="the alert")
    assert len(ops.given) == 1
    local.record_success()
    wait_until(lambda: ops.kinds == ["firing", "resolved"], what="the end of the alert")
    local.stop()


@pytest.mark.parametrize(
    ("problem", "metric"),
    [
        (GONE, UNREACHABLE),
        (FULL, REFUSED),
        (BackendUnavailable("x: MISCONF Redis is configured to save", source="m", reason="protocol"), REFUSED),
        (BackendUnavailable("x is loading", source="m", reason="loading"), UNREACHABLE),
        (BackendUnavailable("x: BUSY Redis is busy", source="m", reason="protocol"), UNREACHABLE),
        (Forbidden("may not"), REFUSED),
    ],
)
def test_a_server_that_refuses_writes_is_distinguished_from_an_unreachable_one(
    problem: QueuedeckError, metric: str
) -> None:
    assert metric_from_problem(problem) == metric


def test_a_corrupt_spool_file_does_not_stop_notifications(host: Host) -> None:
    ops = Recorder()
    local = host.process(ops)
    local._spool.file.write_bytes(b"\xff" * 100)
    fail_until_notifying(local)
    wait_until(lambda: ops.kinds == ["firing"], what="the alert")
    wait_until(
        lambda: msgspec.json.decode(local._spool.file.read_bytes(), type=OutageRecord).notified == ("ops",),
        what="the notification about it",
    )


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_a_store_out_of_memory_takes_states_except_on_redis_6(name: str) -> None:
    with start_server(name, "--maxmemory", "6mb", "--maxmemory-policy", "noeviction") as server:
        source = Source("main", server.url)
        store = SnapshotStore(source)
        epoch = store.acquire_lease("one", 15).epoch
        fill(source)
        source.execute("CONFIG", "SET", "maxmemory", "1mb")  # below what is in use, regardless of buffers
        refused: BackendUnavailable | None = None
        try:
            assert AlertStore(store).record_beat(f"one:{epoch}", "one", delivers=True, durations=None)
        except BackendUnavailable as exc:
            refused = exc
        assert (refused is not None) is (name == "redis-6")
        assert refused is None or metric_from_problem(refused) == REFUSED
        assert source.read_health(probe=True).write_probe == "OOM"
        source.close()


def fill(source: Source) -> None:
    """Write until the server refuses even small values."""
    for size in (10_000, 500, 20):
        for index in range(4000):
            reply = source.run_batch([("SET", f"ballast:{size}:{index}", b"x" * size)])[0]
            if isinstance(reply, Exception):
                break
        else:
            pytest.fail("the server takes everything")


CHILD = """
import sys, time
from pathlib import Path
from dashboard.alerts.delivery.message import PageLinks
from dashboard.alerts.delivery.store_outage import StoreOutageNotifier
from tests.alerts.test_store_outage import GONE, NO_MUTES, rules
from tests.alerts.harness import Recorder
folder = Path(sys.argv[1])
local = StoreOutageNotifier("redis://h:1/0", "main", 2.0, {"ops": Recorder()}, PageLinks(None), folder, print)
while not local.is_notifying or local._spool.outage is None or not local._spool.outage.notified:
    local.record_failure(GONE, rules(), NO_MUTES, led=True, epoch=7)
    time.sleep(0.01)
print("notified", flush=True)
sys.stdin.read()
"""


def test_another_process_resolves_the_outage_of_a_killed_one(host: Host) -> None:
    with child([sys.executable, "-c", CHILD, host.folder], name="notifier", pipes=True) as other:
        assert other.read_line() == "notified"
        ops = Recorder()
        successor = host.process(ops)
        fail(successor)
        assert not successor.is_notifying
        other.kill()
        fail_until_notifying(successor)
        successor.record_success()
        wait_until(lambda: ops.kinds == ["resolved"], what="the end of the alert")


def test_an_outage_is_saved_to_disk_before_it_is_kept_in_memory(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    ops = Recorder()
    local = host.process(ops)
    ahead: list[OutageRecord] = []

    def write(file: Path, outage: OutageRecord) -> None:
        if local._spool.outage == outage:
            ahead.append(outage)
        to_disk(file, outage)

    to_disk = outage_spool._write_outage
    monkeypatch.setattr(outage_spool, "_write_outage", write)
    fail_until_notifying(local)
    wait_until(lambda: ops.kinds == ["firing"], what="the alert")
    local.record_success()
    wait_until(lambda: not local.is_notifying, what="the end of the outage")
    assert ahead == []


def test_a_killed_server_is_reported_as_unreachable(host: Host, open_source: Callable[[str], Source]) -> None:
    server: EmbeddedRedis = start_server("redis-7")
    source = open_source(server.url)
    ops = Recorder()
    local = host.process(ops)
    server.stop(kill=True)

    def starts_notifying() -> bool:
        with pytest.raises(QueuedeckError) as caught:
            AlertStore(SnapshotStore(source)).read_inputs()
        local.record_failure(caught.value, rules(), NO_MUTES, led=True, epoch=7)
        return local.is_notifying

    wait_until(starts_notifying, what="the start of notifying")
    wait_until(lambda: [message.rule_id for message in ops.arrived] == ["redis-unreachable"], what="the alert")
    server.close()
