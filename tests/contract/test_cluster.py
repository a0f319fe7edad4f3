"""The contract of BullMQ in a Redis Cluster: the suite of all libraries, and each action with the real worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from dashboard.backends.actions import Action, ActionOptions, JobBackup, JobRef, Outcome
from dashboard.backends.base import Budget
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.errors import NotFound
from dashboard.model import JobQuery, QueueRef, State
from dashboard.settings import SourceSettings
from dashboard.sources.cluster.source import ClusterSource
from dashboard.sources.metering import measure_cost
from tests.contract import test_contract
from tests.contract.bullmq_library import BullMQLibrary
from tests.contract.conftest import KeySpace, Stage
from tests.contract.library import Library
from tests.deployment.cluster_set import ClusterSet, Node, cluster_set
from tests.waiting import wait_until

PREFIX = "{bull}"

# The suite of all libraries, with the fixtures of this module; what needs a single server is not in it.
test_a_search_finds_every_queue = test_contract.test_a_search_finds_every_queue
test_counts_equal_those_of_the_library = test_contract.test_counts_equal_those_of_the_library
test_each_list_shows_the_jobs_of_the_library = test_contract.test_each_list_shows_the_jobs_of_the_library
test_a_job_has_its_state_and_timeline_in_every_state = (
    test_contract.test_a_job_has_its_state_and_timeline_in_every_state
)
test_absent_jobs_and_queues_are_not_found = test_contract.test_absent_jobs_and_queues_are_not_found
test_reads_need_no_more_round_trips_than_documented = test_contract.test_reads_need_no_more_round_trips_than_documented
test_reading_changes_nothing = test_contract.test_reading_changes_nothing
test_flow_counts_jobs_that_ended_between_two_samples = (
    test_contract.test_flow_counts_jobs_that_ended_between_two_samples
)
test_a_search_page_has_the_rows_of_the_page_with_text = (
    test_contract.test_a_search_page_has_the_rows_of_the_page_with_text
)


class ClusteredBullMQ(BullMQLibrary):
    """BullMQ with all queues in one hash slot, through a client of the whole cluster."""

    def job_key(self, queue: str, job_id: str) -> bytes:
        return f"{PREFIX}:{queue}:{job_id}".encode("utf-8", "surrogateescape")

    def drive(self, command: str, url: str, queue: str, **options: object) -> Any:
        return super().drive(command, url.partition(",")[0], queue, **{"prefix": PREFIX, **options})


class NodeKeySpace(KeySpace):
    """The key space of one node."""

    def restore(self, client: redis.Redis) -> None:
        client.flushall()
        with client.pipeline(transaction=False) as pipeline:
            for key, (value, ttl_ms) in self.keys.items():
                pipeline.restore(key, ttl_ms, value)
            pipeline.execute()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSet]:
    with cluster_set(tmp_path_factory.mktemp("cluster"), replicas=False) as running:
        yield running


@pytest.fixture(scope="module")
def home(cluster: ClusterSet) -> Node:
    """The node with all queues."""
    return cluster.owner(f"{PREFIX}:")


@pytest.fixture(
    scope="module",
    params=["bullmq", *(pytest.param(alias, marks=pytest.mark.soak) for alias in ("bullmq5", "bullmq4"))],
)
def key_space(request: pytest.FixtureRequest, cluster: ClusterSet, home: Node) -> KeySpace:
    library: Library = ClusteredBullMQ(request.param)
    with cluster.client_of(home) as client:
        client.flushall()
        filled = library.fill(cluster.url)
        return NodeKeySpace.dump(client, library, filled)


@pytest.fixture
def source(cluster: ClusterSet) -> Iterator[ClusterSource]:
    opened = ClusterSource("main", cluster.url)
    yield opened
    opened.close()


@pytest.fixture
def stage(key_space: KeySpace, cluster: ClusterSet, home: Node, source: ClusterSource) -> Iterator[Stage]:
    backend = BullMQ(source, SourceSettings(name="main", url=cluster.url))
    with cluster.client_of(home) as client:
        key_space.restore(client)
        yield Stage(key_space.library, key_space.filled, cluster.url, client, backend)


def drive(stage: Stage, command: str, queue: str, **options: object) -> Any:
    assert isinstance(stage.library, ClusteredBullMQ)
    return stage.library.drive(command, stage.url, queue, **options)


@contextmanager
def running_worker(stage: Stage, queue: str) -> Iterator[None]:
    """A real worker, which counts each run in the hash `marks`."""
    worker = drive(stage, "consume", queue)["worker"]
    try:
        yield
    finally:
        drive(stage, "stop", queue, worker=worker)


def runs(cluster: ClusterSet, *ids: str) -> list[int]:
    """How often the worker ran each job."""
    with cluster.client() as client:
        return [int(count or 0) for count in client.hmget("marks", ids)]


def await_runs(cluster: ClusterSet, *ids: str) -> None:
    wait_until(lambda: all(runs(cluster, *ids)), what="the run of each job")
    assert set(runs(cluster, *ids)) == {1}


@pytest.fixture(autouse=True)
def no_marks(cluster: ClusterSet) -> None:
    with cluster.client() as client:
        client.delete("marks")


def act(stage: Stage, ref: QueueRef, action: Action, state: State, **options: Any) -> list[str]:
    """The ids of all jobs of a state, after the action on them."""
    found = stage.backend.list_job_refs(ref, JobQuery(state=state))
    results = stage.backend.act_on_jobs(ref, action, state, found, ActionOptions(**options))
    assert {result.outcome for result in results} == {Outcome.DONE}, results
    return [result.new_id or result.id for result in results]


def test_retried_promoted_moved_and_copied_jobs_run_once(stage: Stage, cluster: ClusterSet) -> None:
    refs = stage.discover()
    ref, beta = refs["alpha"], refs["beta"]
    one, *_ = stage.backend.list_job_refs(beta, JobQuery(state=State.WAITING))
    [moved] = stage.backend.act_on_jobs(beta, Action.MOVE, State.WAITING, [one], ActionOptions(target="alpha"))
    assert moved.outcome is Outcome.DONE
    retried = act(stage, ref, Action.RETRY, State.DEAD)
    promoted = act(stage, ref, Action.PROMOTE, State.SCHEDULED)
    copied = act(stage, ref, Action.DUPLICATE, State.COMPLETED)
    waiting = [job_ref.id for job_ref in stage.backend.list_job_refs(ref, JobQuery(state=State.WAITING))]
    assert {*retried, *promoted, *copied} < set(waiting)
    with running_worker(stage, "alpha"):
        await_runs(cluster, *waiting)


def test_a_deletion_is_undone_once_and_the_job_runs_once(stage: Stage, cluster: ClusterSet) -> None:
    ref = stage.ref()
    found = stage.backend.list_job_refs(ref, JobQuery(state=State.DEAD))
    backups = [each for each in stage.backend.backup_jobs(ref, State.DEAD, found) if isinstance(each, JobBackup)]
    assert {each.outcome for each in stage.backend.delete_jobs(ref, State.DEAD, backups)} == {Outcome.DONE}
    assert not stage.rows(ref, State.DEAD)
    assert {each.outcome for each in stage.backend.restore_jobs(ref, State.DEAD, backups)} == {Outcome.DONE}
    act(stage, ref, Action.RETRY, State.DEAD)
    with running_worker(stage, "alpha"):
        await_runs(cluster, *(job_ref.id for job_ref in found))
    drive(stage, "call", "alpha", method="clean", args=[0, 1000, "completed"])
    again = stage.backend.restore_jobs(ref, State.DEAD, backups)
    assert {(each.outcome, each.again) for each in again} == {(Outcome.CHANGED, True)}, again
    assert stage.client.ttl(f"{ref.key}:queuedeck-restored") > 0
    assert "queuedeck-restored" not in stage.discover()
    with pytest.raises(NotFound):
        stage.backend.read_job(ref, "queuedeck-restored")


def test_queues_are_paused_and_deleted_and_schedules_removed(stage: Stage) -> None:
    ref = stage.ref("beta")
    assert stage.backend.act_on_queue(ref, Action.RESUME).outcome is Outcome.DONE
    assert stage.backend.act_on_queue(ref, Action.PAUSE).outcome is Outcome.DONE
    assert stage.backend.read_stats([ref])[0].paused
    drive(stage, "schedule", "gamma")
    gamma = stage.ref("gamma")
    schedules = stage.backend.list_schedules([gamma, ref])
    assert sorted(schedule.name for schedule in schedules) == ["hourly", "nightly"]
    for schedule in schedules:
        assert stage.backend.act_on_schedule(schedule, Action.TRIGGER).outcome is Outcome.DONE
        backup = stage.backend.backup_schedule(schedule)
        assert isinstance(backup, JobBackup)
        assert stage.backend.remove_schedule(schedule, backup).outcome is Outcome.DONE
        assert stage.backend.restore_schedules(gamma, [backup])[0].outcome is Outcome.DONE
    assert len(stage.backend.list_schedules([gamma])) == 2
    while (result := stage.backend.act_on_queue(gamma, Action.OBLITERATE)).more:
        pass
    assert result.outcome is Outcome.DONE
    assert "gamma" not in stage.discover()


def test_queues_with_tags_of_their_own_are_read_in_one_round_trip_to_each_node(
    stage: Stage, cluster: ClusterSet
) -> None:
    tagged = [f"{{shop-{number}}}" for number in range(6)]
    for name in tagged:
        drive(stage, "run", name, good=1, bad=2, prefix="bull")
    try:
        refs = {name: ref for name, ref in stage.discover().items() if name in tagged}
        assert {cluster.owner(ref.key).port for ref in refs.values()} == {node.port for node in cluster.nodes}
        with measure_cost() as cost:
            found = stage.backend.read_stats(list(refs.values()))
        assert (cost.round_trips, cost.commands) == (1, len(tagged) + len(cluster.nodes))
        assert [queue.key for queue in found] == [ref.key for ref in refs.values()]
        assert {(queue.counts.dead, queue.counts.completed, queue.read_only) for queue in found} == {(2, 1, None)}
        ref = refs[tagged[0]]
        other = stage.backend.list_job_refs(ref, JobQuery(state=State.DEAD))
        assert len(act(stage, ref, Action.RETRY, State.DEAD)) == len(other)
        moved = stage.backend.act_on_jobs(
            ref, Action.MOVE, State.WAITING, other, ActionOptions(target=refs[tagged[1]].key)
        )
        assert {(each.outcome, "in several hash slots" in (each.detail or "")) for each in moved} == {
            (Outcome.REFUSED, True)
        }
        assert stage.backend.read_stats([ref])[0].counts.waiting == len(other)
    finally:
        for node in cluster.nodes:
            with cluster.client_of(node) as client:
                client.flushall()


@pytest.fixture
def spread(stage: Stage, cluster: ClusterSet) -> Iterator[QueueRef]:
    """A queue without a hash tag, as it would come from a copied database: its keys are on all nodes."""
    with cluster.client() as client:
        for key, (dump, ttl_ms) in NodeKeySpace.dump(stage.client, stage.library, stage.filled).keys.items():
            if key.startswith(b"{bull}:alpha:"):
                client.restore(key.replace(b"{bull}", b"bull"), ttl_ms, dump, replace=True)
    found = [ref for ref in _search(stage) if ref.key == "bull:alpha"]
    yield found[0]
    for node in cluster.nodes:
        with cluster.client_of(node) as client:
            client.flushall()


def _search(stage: Stage) -> list[QueueRef]:
    found, cursor = [], None
    while True:
        step = stage.backend.discover_queues(cursor, Budget(commands=20, seconds=5))
        found += step.found
        if step.complete:
            return found
        cursor = step.cursor


def test_a_queue_on_several_nodes_is_read_and_acts_are_refused_with_the_reason(
    stage: Stage, cluster: ClusterSet, spread: QueueRef
) -> None:
    with cluster.client() as client:
        before = client.dbsize()
    tagged = stage.ref("beta")
    one, other = stage.backend.read_stats([spread, tagged])
    assert (one.key, other.key, other.read_only) == ("bull:alpha", tagged.key, None)
    assert "such as {bull}" in (one.read_only or "")
    expected = stage.filled.ids["alpha"]
    for state in (State.DEAD, State.WAITING, State.SCHEDULED, State.COMPLETED):
        assert one.counts.of(state) == len(expected[state])
        assert sorted(job.id for job in stage.page(spread, state).jobs) == sorted(expected[state])
    dead = expected[State.DEAD][0]
    assert stage.backend.read_job(spread, dead).error is not None
    stage.backend.read_flow([spread, tagged], None)
    stage.backend.list_workers([spread, tagged])
    stage.backend.list_schedules([spread, tagged])
    job_refs = stage.backend.list_job_refs(spread, JobQuery(state=State.DEAD))
    refused = [
        *stage.backend.act_on_jobs(spread, Action.RETRY, State.DEAD, job_refs, ActionOptions()),
        *stage.backend.act_on_jobs(spread, Action.DUPLICATE, State.DEAD, job_refs, ActionOptions()),
        *stage.backend.backup_jobs(spread, State.DEAD, [JobRef(id=dead)]),
        stage.backend.act_on_queue(spread, Action.PAUSE),
        stage.backend.act_on_queue(spread, Action.OBLITERATE),
    ]
    assert {getattr(each, "outcome", None) for each in refused} == {Outcome.REFUSED}, refused
    assert all("put a part of the prefix or of the name" in str(getattr(each, "detail", "")) for each in refused)
    with cluster.client() as client:
        assert client.dbsize() == before


def test_own_counts(stage: Stage) -> None:
    counts: Mapping[str, int] = stage.library.own_counts(stage.url, "alpha")
    assert counts["failed"] == len(stage.filled.ids["alpha"][State.DEAD])


def test_a_parent_on_another_node_keeps_its_child_from_being_changed(stage: Stage, cluster: ClusterSet) -> None:
    """Such a reference can only be written by hand: the library refuses trees across slots."""
    ref = stage.ref()
    elsewhere = next(
        key for key in (f"bull:{{x{n}}}:parent" for n in range(99)) if cluster.owner(key) is not cluster.owner(ref.key)
    )
    dead, *_ = job_refs = stage.backend.list_job_refs(ref, JobQuery(state=State.DEAD))
    stage.client.hset(f"{ref.key}:{dead.id}", mapping={"parentKey": elsewhere, "parent": "{}"})
    job_refs = stage.backend.list_job_refs(ref, JobQuery(state=State.DEAD))
    before = stage.client.dump(f"{ref.key}:{dead.id}")
    results = stage.backend.act_on_jobs(ref, Action.RETRY, State.DEAD, job_refs, ActionOptions())
    outcomes = {result.id: (result.outcome, result.detail) for result in results}
    assert outcomes.pop(dead.id) == (Outcome.REFUSED, "its parent is on another node of the Redis Cluster")
    assert {outcome for outcome, _ in outcomes.values()} == {Outcome.DONE}
    [kept] = stage.backend.backup_jobs(ref, State.DEAD, [dead])
    assert getattr(kept, "outcome", None) is Outcome.REFUSED
    assert stage.client.dump(f"{ref.key}:{dead.id}") == before
    assert stage.backend.read_job(ref, dead.id).id == dead.id
