"""A cluster whose nodes change, fail, or are not what they seem, read as one Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dashboard.backends.actions import Action, ActionOptions, ActionResult, JobRef, Outcome
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.backends.monitored_sources import open_sources
from dashboard.doctor import examine_source
from dashboard.doctor.acl import acting_line, publishing_line, reading_line
from dashboard.doctor.findings import FindingLevel
from dashboard.errors import BackendUnavailable
from dashboard.model import JobQuery, QueueRef, State
from dashboard.settings import Settings, SourceSettings
from dashboard.sources.cluster import topology
from dashboard.sources.cluster.slot_map import parse_slots, slot_of
from dashboard.sources.cluster.source import ClusterSource
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from dashboard.store.redis_store import EPOCH, LEAD, Store
from dashboard.web.views.servers.server_reports import ServerReports
from tests.conftest import start_server
from tests.contract.bullmq_library import BullMQLibrary
from tests.deployment.cluster_set import ClusterSet, Node, cluster_set
from tests.search import search
from tests.waiting import wait_until

QUEUE = "mails"
SLOT = slot_of(b"{bull}:")
DEAD = 4


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSet]:
    with cluster_set(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(autouse=True)
def as_it_was(cluster: ClusterSet) -> Iterator[None]:
    """Empty before each test; no slot is on its way afterwards."""
    for node in cluster.primaries():
        with cluster.client_of(node) as client:
            client.flushall()
    yield
    for node in cluster.primaries():
        cluster.stop_moving(SLOT, node)
        with cluster.client_of(node) as client:
            client.config_set("maxmemory", 0)


@pytest.fixture(autouse=True)
def _nodes_asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology, "REFRESH_AFTER_S", 0.0)


@pytest.fixture
def source(cluster: ClusterSet) -> Iterator[ClusterSource]:
    opened = ClusterSource("main", cluster.url)
    yield opened
    opened.close()


@pytest.fixture
def backend(cluster: ClusterSet, source: ClusterSource) -> BullMQ:
    return BullMQ(source, SourceSettings(name="main", url=cluster.url))


@pytest.fixture
def ref(cluster: ClusterSet, backend: BullMQ) -> QueueRef:
    """A queue with DEAD dead jobs."""
    drive(cluster, "run", good=1, bad=DEAD)
    [found] = search(backend)
    assert backend.read_stats([found])[0].counts.dead == DEAD
    return found


def drive(cluster: ClusterSet, command: str, queue: str = QUEUE, **options: Any) -> Any:
    url = f"redis+cluster://127.0.0.1:{cluster.primaries()[0].server.port}"
    return BullMQLibrary().drive(command, url, queue, **{"prefix": "{bull}", **options})


def retry(backend: BullMQ, ref: QueueRef, job_refs: list[JobRef]) -> list[ActionResult]:
    return backend.act_on_jobs(ref, Action.RETRY, State.DEAD, job_refs, ActionOptions())


def dead_jobs(backend: BullMQ, ref: QueueRef) -> list[JobRef]:
    return backend.list_job_refs(ref, JobQuery(state=State.DEAD))


@contextmanager
def slot_on_its_way(cluster: ClusterSet, slot: int, keys: int) -> Iterator[tuple[Node, Node]]:
    """(old node, new node) of a slot of which some keys have already been moved."""
    old = cluster.owner("{bull}:") if slot == SLOT else cluster.owner("{queuedeck}:")
    new = next(node for node in cluster.primaries() if node is not old)
    cluster.start_moving(slot, old, new)
    cluster.move_keys(slot, old, new, count=keys)
    yield old, new
    cluster.finish_moving(slot, old, new)


def dump(cluster: ClusterSet) -> dict[bytes, Any]:
    """All keys of all nodes but those of Queuedeck."""
    found: dict[bytes, Any] = {}
    for node in cluster.primaries():
        with cluster.client_of(node).client() as client:  # one connection, so that ASKING is about the next command
            for key in list(client.scan_iter()):
                if not key.startswith(b"{queuedeck}"):
                    client.execute_command("ASKING")
                    found[key] = client.dump(key)
    return found


def test_reading_changes_nothing_on_any_node(cluster: ClusterSet, backend: BullMQ, ref: QueueRef) -> None:
    before = dump(cluster)
    source = backend.source
    assert search(backend) == [ref]
    for state in backend.states:
        for job in backend.list_jobs(ref, JobQuery(state=state)).jobs:
            backend.read_job(ref, job.id)
    backend.read_flow([ref], None)
    backend.list_workers([ref])
    backend.list_schedules([ref])
    source.read_health()
    examine_source(source, (backend,), is_store=True)
    assert dump(cluster) == before
    assert before


def test_a_failover_is_followed_with_the_next_command(
    cluster: ClusterSet, source: ClusterSource, backend: BullMQ, ref: QueueRef
) -> None:
    cluster.switch_roles(cluster.owner(ref.key))  # the former primary answers MOVED
    with measure_cost() as cost:
        assert backend.read_stats([ref])[0].counts.dead == DEAD
    assert cost.round_trips == 2
    assert {each.outcome for each in retry(backend, ref, dead_jobs(backend, ref))} == {Outcome.DONE}
    wait_until(lambda: source.read_health().replicas == 1, what="all replicas in the health")


def test_a_killed_primary_makes_the_source_unavailable_until_its_replica_took_over(
    cluster: ClusterSet, backend: BullMQ, ref: QueueRef
) -> None:
    job_refs = dead_jobs(backend, ref)
    former = cluster.owner(ref.key)
    cluster.wait_for_replica(former)
    replica = cluster.replica_of(former)
    former.server.stop(kill=True)
    for _ in range(2):
        with pytest.raises(
            BackendUnavailable, match=f"the node 127.0.0.1:{former.port} of redis\\+cluster://"
        ) as caught:
            retry(backend, ref, job_refs)
        assert (caught.value.reason, "the addresses that the nodes announce" in (caught.value.hint or "")) == (
            "refused",
            True,
        )
    with cluster.client_of(replica) as client:
        client.execute_command("CLUSTER FAILOVER", "TAKEOVER")

    def results() -> list[ActionResult] | None:
        try:
            return retry(backend, ref, job_refs)
        except BackendUnavailable:
            return None

    assert {each.outcome for each in wait_until(results, what="the retry") or ()} == {Outcome.DONE}
    assert backend.read_stats([ref])[0].counts.waiting == DEAD
    cluster.start_as_replica(former, replica)


def test_while_a_slot_is_moved_its_queue_is_read_and_actions_wait_or_are_refused_whole(
    cluster: ClusterSet, backend: BullMQ, ref: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_refs = dead_jobs(backend, ref)
    before = dump(cluster)
    monkeypatch.setattr("dashboard.sources.cluster.source.MOVING_LIMIT_S", 0.1)
    with slot_on_its_way(cluster, SLOT, keys=5):
        [stats] = backend.read_stats([ref])
        assert (stats.error, stats.counts.dead, stats.counts.completed) == (None, DEAD, 1)
        assert [job.id for job in backend.list_jobs(ref, JobQuery(state=State.DEAD)).jobs] == [
            job_ref.id for job_ref in job_refs
        ]
        for job_ref in job_refs:
            assert backend.read_job(ref, job_ref.id).error is not None
            with pytest.raises(BackendUnavailable, match=f"hash slot {SLOT} is being moved to another node") as caught:
                retry(backend, ref, [job_ref])
            assert (caught.value.reason, (caught.value.hint or "")[:20]) == ("readonly", "Nothing was changed.")
        backend.read_flow([ref], None)
        assert search(backend) == [ref]
        assert dump(cluster) == before
    assert {each.outcome for each in retry(backend, ref, job_refs)} == {Outcome.DONE}
    assert backend.read_stats([ref])[0].counts.waiting == DEAD


def test_an_action_waits_for_a_slot_that_arrives_in_time(
    cluster: ClusterSet, backend: BullMQ, ref: QueueRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_refs = dead_jobs(backend, ref)
    with slot_on_its_way(cluster, SLOT, keys=5) as (old, new):
        waits: list[float] = []

        def arrive(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                cluster.finish_moving(SLOT, old, new)

        monkeypatch.setattr("dashboard.sources.cluster.source.time.sleep", arrive)
        monkeypatch.setattr("dashboard.sources.cluster.source.MOVING_LIMIT_S", 60.0)
        assert {each.outcome for each in retry(backend, ref, job_refs)} == {Outcome.DONE}
        assert len(waits) == 3


def test_own_data_is_written_whole_or_not_at_all_while_its_slot_is_moved(
    cluster: ClusterSet, source: ClusterSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.sources.cluster.source.MOVING_LIMIT_S", 0.1)
    store = Store(source)
    first = store.acquire_lease("one", 60).epoch
    assert first
    with slot_on_its_way(cluster, slot_of(b"{queuedeck}"), keys=1):
        with pytest.raises(BackendUnavailable, match="is being moved"):
            store.acquire_lease("one", 60)
        assert [isinstance(reply, bytes) for reply in store.read_keys(("GET", LEAD), ("GET", EPOCH))] == [True, True]
        one = "redis.call('SET', KEYS[1], 'x') return redis.call('GET', KEYS[1])"
        with pytest.raises(BackendUnavailable, match="is being moved"):
            store.run_script(one, (LEAD,))
        with pytest.raises(BackendUnavailable, match="is being moved"):
            store.run_script(one, (EPOCH,))
    assert store.acquire_lease("one", 60).epoch == first


def test_a_full_node_decides_about_the_memory(cluster: ClusterSet, source: ClusterSource) -> None:
    calm, full, last = cluster.primaries()
    for node, limit in ((calm, 2**30), (last, 2**30), (full, 0)):
        with cluster.client_of(node) as client:
            used = client.info("memory")["used_memory"]
            client.config_set("maxmemory", limit or used + 50_000)
    health = source.read_health()
    assert (health.memory_limited, health.memory_ratio and health.memory_ratio > 0.9) == (True, True)
    assert {node.address: bool(node.memory_ratio and node.memory_ratio > 0.9) for node in source.nodes} == {
        f"127.0.0.1:{node.port}": node is full for node in (calm, full, last)
    }
    assert (health.maxmemory_bytes or 0) > 2 * 2**30


@pytest.mark.usefixtures("ref")
def test_the_doctor_examines_each_node(cluster: ClusterSet, source: ClusterSource, backend: BullMQ) -> None:
    cluster.wait_until_replicas_are_listed()
    source.topology.note_change()

    def lines() -> list[str]:
        return [str(finding) for finding in examine_source(source, (backend,), is_store=True)]

    found = lines()
    report = ServerReports(open_sources(Settings(redis_url=cluster.url)), tuple).read_report("main")
    assert sum("Node 127.0.0.1:" in str(finding) for finding in report.passed) == 3
    assert not any("redis+cluster://" in str(finding) for finding in report.findings)
    assert "ok       Redis Cluster: 3 primaries, 3 replicas, 16,384 of 16,384 hash slots served" in found
    assert sum(line.startswith("ok       Node 127.0.0.1:") for line in found) == 3
    assert sum("Persistence is off" in line for line in found) == 1
    assert any("BullMQ: 1 queue under {bull}" in line for line in found)
    assert "ok       BullMQ: this user can act on jobs." in found
    with cluster.client_of(cluster.primaries()[1]) as client:
        client.config_set("maxmemory", "1gb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        odd = [line for line in lines() if "allkeys-lru" in line]
        client.config_set("maxmemory-policy", "noeviction")
    assert len(odd) == 1
    assert f"Node 127.0.0.1:{cluster.primaries()[1].port}: Eviction policy allkeys-lru" in odd[0]


def test_the_printed_users_can_read_and_act(cluster: ClusterSet, backend: BullMQ, ref: QueueRef) -> None:
    def allow(*printed: str) -> None:
        for node in cluster.nodes:
            with cluster.client_of(node) as client:
                client.execute_command("ACL", "SETUSER", "queuedeck", "reset")
                for line in printed:
                    client.execute_command(*line.replace(">PASSWORD", ">secret").split())

    url = cluster.url.replace("://", "://queuedeck:secret@")
    user = ClusterSource("main", url)
    as_user = BullMQ(user, SourceSettings(name="main", url=url))
    try:
        allow(reading_line(is_cluster=True))
        assert as_user.read_stats(search(as_user))[0].counts.dead == DEAD
        assert user.read_health(probe=True).write_probe == "NOPERM"
        findings = examine_source(user, (as_user,), is_store=False)
        assert max(finding.level for finding in findings) is FindingLevel.WARNING
        [first, *_] = cluster.primaries()
        with cluster.client_of(first) as client:
            client.execute_command("ACL", "SETUSER", "queuedeck", "-zscore")
        [refused] = [
            str(finding) for finding in examine_source(user, (as_user,), is_store=False) if "ZSCORE" in str(finding)
        ]
        assert "This user cannot run ZSCORE" in refused
        allow(publishing_line(is_cluster=True), acting_line(backend, [ref]))
        assert user.read_health(probe=True).write_probe == "ok"
        assert Store(user).acquire_lease("one", 60).epoch
        assert {each.outcome for each in retry(as_user, ref, dead_jobs(as_user, ref))} == {Outcome.DONE}
        allow(reading_line())  # that of a single server
        user.topology.note_change()
        lost = ClusterSource("main", url)
        with pytest.raises(BackendUnavailable, match="does not allow CLUSTER SLOTS") as caught:
            lost.read_health()
        assert (caught.value.reason, "+cluster|slots" in (caught.value.hint or "")) == ("forbidden", True)
        lost.close()
    finally:
        user.close()
        for node in cluster.nodes:
            with cluster.client_of(node) as client:
                client.acl_deluser("queuedeck")


def unavailable(url: str) -> BackendUnavailable:
    opened = ClusterSource("main", url)
    try:
        with pytest.raises(BackendUnavailable) as caught:
            opened.read_health()
        return caught.value
    finally:
        opened.close()


def test_what_is_not_a_cluster_is_named(cluster: ClusterSet, kept_port: int) -> None:
    with start_server("redis-7") as single:
        found = unavailable(f"redis+cluster://127.0.0.1:{single.port}")
        assert (found.reason, found.message) == (
            "protocol",
            f"127.0.0.1:{single.port} is not a node of a Redis Cluster",
        )
        assert found.hint == "Use redis:// for a server without cluster mode."
    with start_server("redis-7", "--cluster-enabled", "yes") as empty:
        found = unavailable(f"redis+cluster://127.0.0.1:{empty.port}")
        assert found.message == f"127.0.0.1:{empty.port} names no node that serves a hash slot"
    found = unavailable(f"redis+cluster://127.0.0.1:{kept_port},127.0.0.1:{kept_port + 1}")
    assert found.message.startswith(f"No node of the cluster could be reached (127.0.0.1:{kept_port}, ")
    found = unavailable(f"{cluster.url.replace('://', '://me:hush@')}")
    assert (found.reason, "hush" in f"{found.message}{found.hint}") == ("auth", False)
    plain = Source("main", f"redis://127.0.0.1:{cluster.primaries()[0].port}/0")
    with pytest.raises(BackendUnavailable, match="is one node of a Redis Cluster") as caught:
        plain.read_health()
    assert "redis+cluster://" in (caught.value.hint or "")
    plain.close()


def test_a_node_that_does_not_answer_is_not_the_end_of_the_search(cluster: ClusterSet, kept_port: int) -> None:
    opened = ClusterSource("main", f"redis+cluster://127.0.0.1:{kept_port},{cluster.hosts[0]}")
    assert opened.read_health().role == "cluster"
    opened.close()


def test_slots_without_a_node_make_the_source_unavailable(
    cluster: ClusterSet, source: ClusterSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = slot_of(b"gone")
    owner = cluster.owner("gone")
    with cluster.client_of(owner) as client:
        client.execute_command("CLUSTER", "DELSLOTS", slot)
        try:
            assert source.execute("GET", "other") is None
            with pytest.raises(BackendUnavailable, match="belongs to a Redis Cluster that is down") as caught:
                source.execute("GET", "gone")
            assert (caught.value.reason, "slots without a node" in (caught.value.hint or "")) == ("refused", True)
            wait_until(
                lambda: (
                    "1 hash slot served by no node" in "".join(map(str, examine_source(source, (), is_store=False)))
                ),
                what="the slot without a node",
            )
        finally:
            client.execute_command("CLUSTER", "ADDSLOTS", slot)


@pytest.mark.parametrize("host", ["198.51.100.7", "no-such-host.invalid", "127.0.0.1"])
def test_a_cluster_that_announces_an_address_of_no_use_is_named(
    cluster: ClusterSet, kept_port: int, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the other nodes at their right addresses, as behind a proxy or in containers."""
    opened = ClusterSource("main", cluster.url)
    opened.read_health()  # the connections to the right ones are open: only the wrong one can run out of time
    opened.topology.note_change()

    def announced(reply: Any, asked: Any) -> Any:
        wrong = [[*row[:2], [host.encode(), kept_port], *row[3:]] if row[0] == 0 else row for row in reply]
        return parse_slots(wrong, asked)

    monkeypatch.setattr(topology, "parse_slots", announced)
    monkeypatch.setattr("dashboard.sources.connection.CONNECT_TIMEOUT_S", 0.2)
    try:
        with pytest.raises(BackendUnavailable) as caught:
            opened.read_health()
        assert f"the node {host}:{kept_port} of redis+cluster://" in caught.value.message
        assert "the addresses that the nodes announce" in (caught.value.hint or "")
    finally:
        opened.close()


def test_nodes_that_contradict_each_other_end_in_an_error(
    cluster: ClusterSet, source: ClusterSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of two nodes names the other one for a slot, as for a moment after it was moved."""
    source.read_health()
    owner = cluster.owner("contested")
    other = next(node for node in cluster.primaries() if node is not owner)
    with cluster.client_of(owner) as client:
        client.execute_command("CLUSTER", "SETSLOT", slot_of(b"contested"), "NODE", other.id)
    try:
        monkeypatch.setattr(topology, "REFRESH_AFTER_S", 60.0)
        with pytest.raises(BackendUnavailable, match="contradict each other about its slots") as caught:
            source.execute("GET", "contested")
        assert caught.value.reason == "refused"
    finally:
        with cluster.client_of(owner) as client:
            client.execute_command("CLUSTER", "SETSLOT", slot_of(b"contested"), "NODE", owner.id)
    assert source.execute("GET", "contested") is None


def test_connections_that_the_nodes_closed_are_opened_again(cluster: ClusterSet, source: ClusterSource) -> None:
    source.read_health()
    for node in cluster.primaries():
        with cluster.client_of(node) as client:
            client.client_kill_filter(_type="normal", skipme=True)
    assert source.read_health().role == "cluster"
