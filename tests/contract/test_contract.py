"""The contract of every backend, checked with the real library on real servers."""

from __future__ import annotations

import os
import socket

import pytest

from dashboard.backends.base import WINDOW_ROWS, Budget
from dashboard.errors import BackendUnavailable, NotFound, Unsupported
from dashboard.leftovers.leftover_report import LeftoverKind
from dashboard.leftovers.leftover_scan import find_leftovers
from dashboard.memory_usage.measurement import measure_memory
from dashboard.model import Capability, JobQuery, Quality, State, WorkerState
from dashboard.settings import SourceSettings
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from tests.conftest import usual_in_gate
from tests.contract.conftest import WITH_HASHES, Stage
from tests.search import search

BIG = 4_000_000
LONGEST_S = 300  # that a test may take
DEFAULT_NAMES = ("mail", "Mail", "shop.send")  # the jobs that fail with "cannot send to …"


def test_a_search_finds_every_queue(stage: Stage) -> None:
    found = stage.discover()
    assert set(found) == set(stage.filled.ids)
    assert {name for name, ref in found.items() if ref.shared} == ({"*"} if stage.library.shared else set())
    assert {(ref.source, ref.backend) for ref in found.values()} == {("main", stage.backend.name)}


@usual_in_gate
def test_a_search_shows_only_the_queues_that_the_settings_want(stage: Stage) -> None:
    settings = SourceSettings(name="main", url=stage.url, backends=(stage.backend.name,), queues=("al*", "later"))
    backend = type(stage.backend)(stage.backend.source, settings)
    assert {ref.name for ref in search(backend) if not ref.shared} == {"alpha", "later"}


def test_counts_equal_those_of_the_library(stage: Stage) -> None:
    refs = stage.discover()
    for stats in stage.backend.read_stats(list(refs.values())):
        own = dict(stage.library.own_counts(stage.url, stats.name))
        assert {entry.native: entry.count for entry in stats.native} == own
        assert stats.error is None
        for state in stage.library.states(stats.name):
            assert stats.counts.of(state) == sum(entry.count or 0 for entry in stats.native if entry.state is state)
            assert stats.counts.of(state) == len(stage.filled.ids[stats.name].get(state, ()))
        assert stats.counts.of(State.WAITING) == stats.depth


@usual_in_gate
def test_states_that_the_library_lacks_are_unknown(stage: Stage) -> None:
    for name, ref in stage.discover().items():
        stats = stage.backend.read_stats([ref])[0]
        for state in set(State) - set(stage.library.states(name)):
            assert stats.counts.of(state) is None
            with pytest.raises(Unsupported):
                stage.page(ref, state)


@usual_in_gate
def test_stats_contain_the_wait_of_the_oldest_job(stage: Stage) -> None:
    stats = stage.backend.read_stats([stage.ref()])[0]
    if not stage.library.keeps_ages:
        assert stats.latency_s is None
        return
    assert stats.latency_s is not None
    assert 0 <= stats.latency_s < 600
    # Where scheduled jobs are kept together, they say nothing of one queue.
    assert stats.overdue_s == (None if stage.library.shared else 0)


@usual_in_gate
def test_stats_have_the_requested_order(stage: Stage) -> None:
    refs = stage.discover()
    requested = [refs["beta"], refs["alpha"]]
    assert [stats.name for stats in stage.backend.read_stats(requested)] == ["beta", "alpha"]
    assert stage.backend.read_stats([]) == []


def test_each_list_shows_the_jobs_of_the_library(stage: Stage) -> None:
    for name, ref in stage.discover().items():
        for state in stage.library.states(name):
            page = stage.page(ref, state)
            assert sorted(job.id for job in page.jobs) == sorted(stage.filled.ids[name].get(state, ()))
            assert page.total in (None, len(page.jobs))
            assert page.order
            for job in page.jobs:
                assert (job.state, job.problem) == (state, None)
                assert job.queue in ({"alpha", "beta"} if ref.shared else {name})
                assert job.name
                assert job.native_state
                assert job.payload is None


@usual_in_gate
def test_pages_have_no_gaps_or_repetitions(stage: Stage) -> None:
    for name, ref in stage.discover().items():
        for state in stage.library.states(name):
            whole = [job.id for job in stage.page(ref, state).jobs]
            pages = [stage.page(ref, state, page=number, per_page=2) for number in range(1, len(whole) // 2 + 2)]
            assert [job.id for page in pages for job in page.jobs] == whole
            assert all(len(page.jobs) == 2 for page in pages[: len(whole) // 2])
            beyond = stage.page(ref, state, page=1000, per_page=2)
            assert beyond.jobs == ()
            assert beyond.total in (None, len(whole))


def test_a_job_has_its_state_and_timeline_in_every_state(stage: Stage) -> None:
    refs = stage.discover()
    places = ["alpha", *(["*"] if stage.library.shared else [])]
    first_jobs = {
        state: (refs[name], ids[0]) for name in places for state, ids in stage.filled.ids[name].items() if ids
    }
    assert set(first_jobs) == set(stage.backend.states)
    for state, (ref, job_id) in first_jobs.items():
        job = stage.backend.read_job(ref, job_id)
        assert (job.id, job.state, job.problem) == (job_id, state, None)
        assert (job.enqueued_at is not None) == stage.library.keeps_ages
        assert job.payload is not None
        assert job.payload.kind == "json"
        assert job.payload.size_bytes
        assert [event.at for event in job.timeline] == sorted(event.at for event in job.timeline)
        assert job.timeline or not stage.library.keeps_ages
        if stage.library.keeps_ages:
            assert (job.error is not None) == (state in (State.DEAD, State.RETRYING))
        assert (job.scheduled_for is not None) == (state in (State.SCHEDULED, State.RETRYING))
        if state in (State.DEAD, State.COMPLETED):
            assert job.finished_at is not None
            assert (job.started_at or job.enqueued_at or job.finished_at) <= job.finished_at
    dead = stage.backend.read_job(*first_jobs[State.DEAD])
    assert dead.error is not None
    assert dead.error.message
    assert dead.error.stack
    if State.COMPLETED in stage.backend.states:
        done = stage.backend.read_job(*first_jobs[State.COMPLETED])
        assert done.result is not None
        assert done.result.kind == "json"


def test_absent_jobs_and_queues_are_not_found(stage: Stage) -> None:
    refs = stage.discover()
    with pytest.raises(NotFound):
        stage.backend.read_job(refs["alpha"], "never-there")
    for ids in stage.filled.ids["beta"].values():
        if ids and not set(ids) & {job_id for ids in stage.filled.ids["alpha"].values() for job_id in ids}:
            with pytest.raises(NotFound):
                stage.backend.read_job(refs["alpha"], ids[0])
    stage.client.flushall()
    with pytest.raises(NotFound):
        stage.page(refs["alpha"], State.WAITING)
    with pytest.raises(NotFound):
        stage.backend.read_job(refs["alpha"], stage.filled.ids["alpha"][State.WAITING][0])


def max_round_trips(stage: Stage, state: State) -> int:
    """How many round trips a page may cost; for Celery's waiting jobs their results are read as well."""
    return 3 if stage.backend.name == "celery" and state is State.WAITING else 2


def test_reads_need_no_more_round_trips_than_documented(stage: Stage) -> None:
    refs = list(stage.discover().values())
    stage.backend.read_stats(refs)  # Redis 6 is asked once whether it knows EVAL_RO
    with measure_cost() as meter:
        stage.backend.read_stats(refs)
    assert meter.round_trips == 1
    with measure_cost() as meter:
        _, cursor = stage.backend.read_flow(refs, None)
    assert meter.round_trips <= 2
    with measure_cost() as meter:
        stage.backend.read_flow(refs, cursor)
    assert meter.round_trips <= 2
    for ref in refs:
        for state in stage.library.states(ref.name):
            with measure_cost() as meter:
                jobs = stage.page(ref, state).jobs
            assert meter.round_trips <= max_round_trips(stage, state)
            for job in jobs:
                with measure_cost() as meter:
                    stage.backend.read_job(ref, job.id)
                assert meter.round_trips <= 4
    for read in (stage.backend.list_workers, stage.backend.list_schedules):
        with measure_cost() as meter:
            read(refs)
        assert meter.round_trips <= 2


def test_reading_changes_nothing(stage: Stage) -> None:
    before = stage.changes()
    refs = list(stage.discover().values())
    stage.backend.read_stats(refs)
    _, cursor = stage.backend.read_flow(refs, None)
    stage.backend.read_flow(refs, cursor)
    for ref in refs:
        for state in stage.library.states(ref.name):
            for job in stage.page(ref, state).jobs:
                stage.backend.read_job(ref, job.id)
            if Capability.SEARCH in stage.backend.capabilities:
                stage.backend.search_page(ref, JobQuery(state=state))
    stage.backend.list_workers(refs)
    stage.backend.list_schedules(refs)
    stage.backend.library_versions(refs)
    assert stage.changes() == before
    stage.client.set("counted", 1)
    assert stage.changes() == before + 1


@usual_in_gate
def test_the_storage_of_a_queue_has_all_its_jobs_and_no_leftovers(stage: Stage) -> None:
    refs = list(stage.discover().values())
    stats = stage.backend.read_stats(refs)
    source = stage.backend.source
    memory = measure_memory(source, stats, lambda _source, _backend: stage.backend)
    found = {queue.ref: queue for queue in memory.queues}
    for queue in stats:
        storage = stage.backend.describe_storage(queue.ref)
        if storage is None:  # of a library of another package
            assert memory.unmeasured == len(stats)
            continue
        for stored in storage.keys:
            assert source.execute("TYPE", stored.key).decode() in (stored.kind, "none"), stored.key
        states = {stored.state for stored in storage.keys}
        jobs = sum(len(ids) for state, ids in stage.filled.ids[queue.name].items() if state in states)
        assert found[queue.ref].jobs >= found[queue.ref].sampled >= jobs
        assert found[queue.ref].is_complete
    before = stage.changes()
    leftovers = find_leftovers(source, stats, lambda _source, _backend: stage.backend)
    assert {each.kind: each.found for each in leftovers.kinds if each.kind is not LeftoverKind.UNLOCKED} == {
        kind: 0 for kind in LeftoverKind if kind is not LeftoverKind.UNLOCKED
    }
    assert stage.changes() == before


def test_flow_counts_jobs_that_ended_between_two_samples(stage: Stage) -> None:
    refs = list(stage.discover().values())
    _, cursor = stage.flow(refs, None)
    stage.library.run_jobs(stage.url, "alpha", good=7, bad=2)
    waiting = len(stage.filled.ids["alpha"][State.WAITING])
    delta, cursor = stage.flow(refs, cursor)
    flows = {flow.key: flow for flow in delta.queues}
    alpha, beta = (
        flows[stage.ref("*" if stage.library.shared and not stage.library.heard else "alpha").key],
        flows[stage.ref("beta").key],
    )
    # The worker takes what was waiting before, too, and what that freed.
    if stage.library.keeps_completed:
        assert 7 <= alpha.completed <= 7 + waiting + len(stage.filled.ids["alpha"].get(State.BLOCKED, ()))
    else:
        assert (alpha.completed, alpha.hidden) == (0, (State.COMPLETED,))
    assert alpha.dead == 2
    assert (beta.completed, beta.dead) == (0, 0)
    assert alpha.quality is not Quality.UNKNOWN
    assert (alpha.quality is Quality.EXACT and stage.library.keeps_completed) or alpha.reason
    assert 0 < alpha.span_s < LONGEST_S
    assert alpha.runtimes_s or stage.library.shared or not stage.library.keeps_completed
    assert all(0 <= runtime < LONGEST_S for runtime in alpha.runtimes_s)
    delta, _ = stage.flow(refs, cursor)
    assert {(flow.completed, flow.dead) for flow in delta.queues} == {(0, 0)}


@usual_in_gate
@pytest.mark.parametrize("key_space", WITH_HASHES, indirect=True, ids=repr)
def test_flow_of_a_new_queue_covers_the_last_minutes(stage: Stage) -> None:
    _, cursor = stage.flow(list(stage.discover().values()), None)
    stage.library.run_jobs(stage.url, "gamma", good=5, bad=3)
    refs = list(stage.discover().values())
    delta, _ = stage.flow(refs, cursor)
    gamma = next(flow for flow in delta.queues if flow.key == stage.ref("gamma").key)
    completed = 5 if stage.library.keeps_completed else 0
    assert (gamma.completed, gamma.dead) == (completed, 3)
    assert len(gamma.runtimes_s) == 8 or not stage.library.keeps_completed
    (first,) = stage.flow([stage.ref("gamma")], None)[0].queues
    # RQ: no worker is there that has run for as long as the look goes back.
    unproven = stage.library.backend.name == "rq" and first.quality is Quality.UNKNOWN
    assert unproven or (first.completed, first.dead) == (completed, 3)


@usual_in_gate
@pytest.mark.parametrize("name", ["weird ünïcode/<b>&?#", "%2F..", "q" * 200])
def test_a_queue_may_have_any_name(stage: Stage, name: str) -> None:
    stage.library.run_jobs(stage.url, name, good=1, bad=1)
    stage.library.settle(stage.backend, stage.client)
    ref = stage.ref(name)
    stats = stage.backend.read_stats([ref])[0]
    assert (stats.name, stats.error) == (name, None)
    if stage.library.shared:
        assert stats.counts.waiting == 0
        ref = stage.ref("*")
    else:
        completed = 1 if stage.library.keeps_completed else None
        assert (stats.counts.completed, stats.counts.dead) == (completed, 1)
    for state in {State.COMPLETED, State.DEAD} & set(stage.library.states(ref.name)):
        job = stage.page(ref, state).jobs[0]
        assert job.queue == name
        assert stage.backend.read_job(ref, job.id).state is state


@usual_in_gate
@pytest.mark.parametrize("key_space", WITH_HASHES, indirect=True, ids=repr)
def test_a_job_without_data_does_not_affect_other_rows(stage: Stage) -> None:
    ref, ids = stage.ref(), stage.filled.ids["alpha"]
    for state, (gone, *others) in ids.items():
        stage.client.delete(stage.library.job_key("alpha", gone))
        rows = stage.rows(ref, state)
        assert rows[gone].problem
        assert [rows[job_id].problem for job_id in others] == [None] * len(others)
        assert stage.backend.read_job(ref, gone).problem


@usual_in_gate
@pytest.mark.parametrize("key_space", WITH_HASHES, indirect=True, ids=repr)
def test_a_job_key_of_the_wrong_type_does_not_affect_other_rows(stage: Stage) -> None:
    ref, ids = stage.ref(), stage.filled.ids["alpha"]
    for state, (wrong, *others) in ids.items():
        key = stage.library.job_key("alpha", wrong)
        stage.client.delete(key)
        stage.client.rpush(key, b"\xff\xfe")
        rows = stage.rows(ref, state)
        assert rows[wrong].problem
        assert [rows[job_id].problem for job_id in others] == [None] * len(others)
        assert stage.backend.read_job(ref, wrong).problem


@usual_in_gate
@pytest.mark.parametrize("key_space", WITH_HASHES, indirect=True, ids=repr)
@pytest.mark.parametrize(
    "junk", [b"\xff\xfe\x00{[", b"", b"9" * 5000, b'{"a":' * 5000, b"NaN", b"\x80\x05cos\nsystem\n"]
)
def test_a_job_of_junk_does_not_affect_other_rows(stage: Stage, junk: bytes) -> None:
    ref, ids = stage.ref(), stage.filled.ids["alpha"]
    for state, (spoilt, *others) in ids.items():
        key = stage.library.job_key("alpha", spoilt)
        stage.client.hset(key, mapping=dict.fromkeys(stage.client.hkeys(key), junk))
        rows = stage.rows(ref, state)
        assert spoilt in rows
        assert [rows[job_id].problem for job_id in others] == [None] * len(others)
        job = stage.backend.read_job(ref, spoilt)
        assert job.payload is not None
        job.payload.text.encode("utf-8")
    assert stage.backend.read_stats([ref])[0].counts.waiting == len(ids[State.WAITING])


@pytest.mark.parametrize("key_space", WITH_HASHES, indirect=True, ids=repr)
def test_huge_values_are_not_fetched(stage: Stage) -> None:
    ref, ids = stage.ref(), stage.filled.ids["alpha"]
    kept = (State.COMPLETED,) if stage.library.keeps_completed else ()
    for state in (State.WAITING, State.DEAD, *kept):
        key = stage.library.job_key("alpha", ids[state][0])
        for field in stage.client.hkeys(key):
            stage.client.hset(key, field, os.urandom(8) * (BIG // 8))
        before = stage.sent_bytes()
        rows = stage.rows(ref, state)
        job = stage.backend.read_job(ref, ids[state][0])
        assert stage.sent_bytes() - before < BIG
        assert len(rows) == len(ids[state])
        assert job.payload is not None
        assert job.payload.truncated
    stage.backend.read_stats([ref])
    stage.backend.read_flow([ref], None)


@usual_in_gate
def test_an_unreachable_server_is_unavailable(stage: Stage) -> None:
    ref = stage.ref()
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and nobody listens: no server of another test can come to be there
        url = f"redis://127.0.0.1:{held.getsockname()[1]}/0"
        source = Source("main", url)
        backend = type(stage.backend)(source, SourceSettings(name="main", url=url))
        for read in (
            lambda: backend.discover_queues(None, Budget(commands=10, seconds=1)),
            lambda: backend.read_stats([ref]),
            *([] if stage.library.heard else [lambda: backend.read_flow([ref], None)]),
            lambda: backend.list_jobs(ref, JobQuery(state=State.WAITING)),
            lambda: backend.read_job(ref, "1"),
        ):
            with pytest.raises(BackendUnavailable) as caught:
                read()
            assert caught.value.source == "main"


def test_a_search_page_has_the_rows_of_the_page_with_text(stage: Stage) -> None:
    for name, ref in stage.discover().items():
        for state in stage.library.states(name):
            query = JobQuery(state=state, per_page=WINDOW_ROWS)
            stage.backend.search_page(ref, query)  # Redis 6 is asked once whether it knows EVAL_RO
            with measure_cost() as meter:
                window = stage.backend.search_page(ref, query)
            assert meter.round_trips <= max_round_trips(stage, state)
            page = stage.backend.list_jobs(ref, query)
            assert [row.job.id for row in window.rows] == [job.id for job in page.jobs]
            assert window.total == page.total
            if state is State.DEAD:
                assert all("cannot send" in row.text for row in window.rows if row.job.name in DEFAULT_NAMES)
    assert Capability.SEARCH in stage.backend.capabilities


@usual_in_gate
def test_listed_workers_have_a_source_an_id_and_a_reason(stage: Stage) -> None:
    refs = list(stage.discover().values())
    for worker in stage.backend.list_workers(refs):
        assert (worker.source, worker.backend) == ("main", stage.backend.name)
        assert worker.id
        assert worker.reason or worker.state not in (WorkerState.SUSPECT, WorkerState.DEAD)
