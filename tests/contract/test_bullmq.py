"""Features that only BullMQ has: versions, prefixes, events streams, locks, flows."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator

import pytest
import redis

from dashboard.backends.base import FLOW_WINDOW_S, Budget
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.backends.bullmq.flow import reasons
from dashboard.backends.bullmq.flow.cursor import ENDS
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import NotFound
from dashboard.model import JobQuery, Quality, QueueFlow, QueueRef, QueueStats, State
from dashboard.settings import SourceSettings
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from tests.contract.bullmq_library import BullMQLibrary, ids_by_state, node
from tests.contract.sample_series import classes_of
from tests.waiting import CEILING_S

# How far the clocks of a server and of two sources are taken to be apart, in the same machine.
CLOCKS_S = 1.0
# The reading user of the documentation: no scripts, no CLIENT LIST.
READER = "on >secret resetkeys ~* resetchannels -@all +@read -@dangerous +ping +hello +auth +select +info +role +time"


@pytest.fixture
def library() -> BullMQLibrary:
    """The newest release."""
    return BullMQLibrary()


@pytest.fixture
def backend(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[BullMQ]:
    """The backend on an empty server of each version."""
    source = Source("main", any_server.url)
    yield BullMQ(source, SourceSettings(name="main", url=any_server.url))
    source.close()


@pytest.fixture
def reader(any_server: EmbeddedRedis, any_redis: redis.Redis) -> Iterator[BullMQ]:
    """The backend for a user who may run no scripts."""
    any_redis.execute_command("ACL", "SETUSER", "reader", *READER.split())
    url = f"redis://reader:secret@127.0.0.1:{any_server.port}/0"
    source = Source("main", url)
    yield BullMQ(source, SourceSettings(name="main", url=url))
    source.close()
    any_redis.execute_command("ACL", "DELUSER", "reader")


def discover(backend: BullMQ) -> dict[str, QueueRef]:
    """All queues by the names they get."""
    found: dict[str, QueueRef] = {}
    cursor = None
    while True:
        step = backend.discover_queues(cursor, Budget(commands=50, seconds=5))
        found.update({ref.key: ref for ref in step.found})
        if step.complete:
            return {ref.name: ref for ref in backend.disambiguate(list(found.values()))}
        cursor = step.cursor


def stats(backend: BullMQ, name: str = "alpha") -> QueueStats:
    """The stats of one queue."""
    return backend.read_stats([discover(backend)[name]])[0]


def read_flow(backend: BullMQ, cursor: object = None) -> tuple[QueueFlow, object]:
    """The flow of `alpha`, and the next cursor."""
    delta, following = backend.read_flow([discover(backend)["alpha"]], cursor)
    return delta.queues[0], following


def page(backend: BullMQ, state: State, **query: int) -> list[str]:
    """Ids of one page of `alpha`."""
    found = backend.list_jobs(discover(backend)["alpha"], JobQuery(state=state, **query))
    return [job.id for job in found.jobs]


def test_queues_of_bull_are_read_with_estimated_rates(backend: BullMQ, any_server: EmbeddedRedis) -> None:
    made = node("bull.mjs", any_server.url, "old:mails")
    assert set(discover(backend)) == {"old:mails"}
    found = stats(backend, "old:mails")
    assert {entry.native: entry.count for entry in found.native} == {
        word: made["counts"][word] for word in ("wait", "paused", "active", "delayed", "failed", "completed")
    }
    assert found.counts.blocked is None
    assert found.library_version is None
    assert found.paused is False
    assert "Bull 4 or older" in found.notes
    ref = discover(backend)["old:mails"]
    for state, ids in ids_by_state(made["ids"]).items():
        rows = backend.list_jobs(ref, JobQuery(state=state)).jobs
        assert sorted(job.id for job in rows) == sorted(ids)
        for job_id in ids:
            job = backend.read_job(ref, job_id)
            assert (job.state, job.problem) == (state, None)
    delta, _ = backend.read_flow([ref], None)
    assert (delta.queues[0].completed, delta.queues[0].dead) == (3, 1)
    assert delta.queues[0].quality is Quality.ESTIMATED
    assert delta.queues[0].reason == reasons.NO_EVENTS


def test_a_paused_bull_queue_is_paused(backend: BullMQ, any_server: EmbeddedRedis, any_redis: redis.Redis) -> None:
    node("bull.mjs", any_server.url, "alpha")
    any_redis.set("bull:alpha:meta-paused", 1)
    any_redis.rename("bull:alpha:wait", "bull:alpha:paused")
    any_redis.hset("bull:alpha:meta", "paused", 1)
    found = stats(backend)
    assert found.paused is True
    assert found.counts.waiting == 4


@pytest.mark.parametrize("prefix", ["{bull}", "app:jobs", "ünï*code?[x]"])
def test_queues_of_any_prefix_are_found(
    backend: BullMQ, library: BullMQLibrary, any_server: EmbeddedRedis, prefix: str
) -> None:
    library.drive("run", any_server.url, "alpha", good=1, bad=0, prefix=prefix)
    found = stats(backend)
    assert (found.prefix, found.counts.completed) == (prefix, 1)
    settings = SourceSettings(name="main", url=any_server.url, prefixes=(prefix,))
    assert set(discover(BullMQ(backend.source, settings))) == {"alpha"}
    elsewhere = SourceSettings(name="main", url=any_server.url, prefixes=("other",))
    assert not discover(BullMQ(backend.source, elsewhere))


def test_queues_of_one_name_never_collide(backend: BullMQ, library: BullMQLibrary, any_server: EmbeddedRedis) -> None:
    for good, prefix in ((1, "bull"), (2, "shop"), (3, "blog")):
        library.drive("run", any_server.url, "mails", good=good, bad=0, prefix=prefix)
    refs = discover(backend)
    assert set(refs) == {"mails", "shop:mails", "blog:mails"}
    completed = {found.name: found.counts.completed for found in backend.read_stats(list(refs.values()))}
    assert completed == {"mails": 1, "shop:mails": 2, "blog:mails": 3}
    assert {found.name: found.prefix for found in backend.read_stats(list(refs.values()))} == {
        "mails": "bull",
        "shop:mails": "shop",
        "blog:mails": "blog",
    }


def test_keys_that_resemble_a_queue_are_ignored(backend: BullMQ, any_redis: redis.Redis) -> None:
    any_redis.hset("bull:alpha:meta", mapping={"name": "a job whose id is meta"})
    any_redis.set("session:id", "abc")
    any_redis.set("session:active", "yes")
    any_redis.set("a:b:meta", "no hash")
    any_redis.hset("meta", mapping={"version": "bullmq:6.7.0"})
    any_redis.hset("bull::relay:x:meta", mapping={"version": "bullmq:6.7.0"})
    assert discover(backend) == {}


def test_a_user_without_scripts_reads_the_same(
    backend: BullMQ, reader: BullMQ, library: BullMQLibrary, any_server: EmbeddedRedis
) -> None:
    filled = library.fill(any_server.url)
    full, plain = (list(discover(each).values()) for each in (backend, reader))
    began = time.monotonic()
    assert full == plain
    for one, other in zip(backend.read_stats(full), reader.read_stats(plain), strict=True):
        assert one.native == other.native
        assert one.counts == other.counts
        assert (one.paused, one.library_version, one.prefix) == (other.paused, other.library_version, other.prefix)
        assert one.latency_s is not None
        assert other.latency_s is not None
        assert abs(other.latency_s - one.latency_s) <= time.monotonic() - began + CLOCKS_S
        assert one.error is other.error is None
        assert other.workers is None  # CLIENT LIST is not permitted: unknown, not none
    for ref in full:
        for state in backend.states:
            for number in (1, 2, 3):
                query = JobQuery(state=state, page=number, per_page=3)
                assert backend.list_jobs(ref, query) == reader.list_jobs(ref, query)
            for job_id in filled.ids[ref.name][state]:
                assert backend.read_job(ref, job_id) == reader.read_job(ref, job_id)
    with measure_cost() as meter:
        reader.read_stats(plain)
    assert meter.round_trips <= 3
    counted = reader.read_flow(plain, None)[0].queues[0]
    assert (counted.completed, counted.dead) == (3, 2)
    assert (counted.quality, counted.reason) == (Quality.ESTIMATED, reasons.NO_SCRIPTS)


def test_jobs_with_a_priority_come_after_jobs_without(
    backend: BullMQ, library: BullMQLibrary, any_server: EmbeddedRedis
) -> None:
    library.fill(any_server.url)
    ref = discover(backend)["alpha"]
    waiting = backend.read_stats([ref])[0].counts.waiting
    assert waiting is not None
    rows = backend.list_jobs(ref, JobQuery(state=State.WAITING)).jobs
    jobs = [backend.read_job(ref, row.id) for row in rows]
    assert [job.jobs_ahead for job in jobs] == list(range(waiting))
    assert [dict(job.facts)["Position"] for job in jobs] == ["next", *(f"{n} ahead" for n in range(1, waiting))]


def test_rates_are_exact_when_the_app_keeps_no_completed_jobs(
    backend: BullMQ, library: BullMQLibrary, any_server: EmbeddedRedis
) -> None:
    library.run_jobs(any_server.url, "alpha", good=1, bad=0)
    _, cursor = read_flow(backend)
    library.drive("run", any_server.url, "alpha", good=12, bad=0, removeOnComplete=True, ms=30)
    flow, _ = read_flow(backend, cursor)
    assert (flow.completed, flow.dead, flow.quality, flow.reason) == (12, 0, Quality.EXACT, None)
    assert len(flow.runtimes_s) == 12
    assert all(0.02 < runtime < CEILING_S for runtime in flow.runtimes_s)


def test_a_job_that_runs_over_several_samples_is_timed(backend: BullMQ, any_redis: redis.Redis) -> None:
    any_redis.hset("bull:alpha:meta", mapping={"version": "bullmq:6.7.0", "opts.maxLenEvents": 10000})
    started = int(time.time() * 1000) - 60_000
    any_redis.xadd("bull:alpha:events", {"event": "active", "jobId": "7", "prev": "waiting"}, id=f"{started}-0")
    _, cursor = read_flow(backend)
    _, cursor = read_flow(backend, cursor)
    any_redis.xadd("bull:alpha:events", {"event": "completed", "jobId": "7"}, id=f"{started + 61_500}-0")
    flow, cursor = read_flow(backend, cursor)
    assert flow.runtimes_s == (61.5,)
    assert read_flow(backend, cursor)[0].runtimes_s == ()


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("jobs", [300, 3000])
def test_run_times_of_a_busy_queue_are_those_of_long_and_failed_jobs_too(
    backend: BullMQ, any_redis: redis.Redis, jobs: int, kept: bool
) -> None:
    """One job in ten takes 40 times as long, one in twenty fails after 2 s. Of 3,000, not all events are read: of jobs
    that are removed, those with both events are then the short ones."""
    any_redis.hset("bull:alpha:meta", mapping={"version": "bullmq:6.7.0", "opts.maxLenEvents": 10000})
    any_redis.xadd("bull:alpha:events", {"event": "added", "jobId": "0", "name": "send"}, id="1-1")
    _, cursor = read_flow(backend)
    now_ms, batch = int(time.time() * 1000), any_redis.pipeline(transaction=False)
    events = []
    for job in range(jobs):
        end_ms, is_dead = now_ms - 900 + job * 800 // jobs, job % 20 == 7
        took_ms = 2000 if is_dead else 400 if job % 10 == 0 else 10
        events += [(end_ms - took_ms, "active", job), (end_ms, "failed" if is_dead else "completed", job)]
        if kept:
            facts = {"name": "send", "timestamp": 1, "processedOn": end_ms - took_ms, "finishedOn": end_ms}
            batch.hset(f"bull:alpha:{job}", mapping=facts | ({"failedReason": "x"} if is_dead else {}))
            batch.zadd(f"bull:alpha:{'failed' if is_dead else 'completed'}", {str(job): end_ms})
    for place, (at_ms, event, job) in enumerate(sorted(events)):
        batch.xadd("bull:alpha:events", {"event": event, "jobId": job, "prev": "active"}, id=f"{at_ms}-{place}")
    batch.set("bull:alpha:id", jobs)
    batch.execute()
    flow, _ = read_flow(backend, cursor)
    if not kept and jobs > 300:
        assert flow.runtimes_s == ()
        return
    assert len(flow.runtimes_s) > 100
    shares = {took_s: flow.runtimes_s.count(took_s) / len(flow.runtimes_s) for took_s in (0.01, 0.4, 2.0)}
    assert shares == pytest.approx({0.01: 0.85, 0.4: 0.1, 2.0: 0.05}, abs=0.04)


def test_a_trimmed_stream_is_reported_and_not_counted_as_idle(backend: BullMQ, any_redis: redis.Redis) -> None:
    any_redis.hset("bull:alpha:meta", mapping={"version": "bullmq:6.7.0", "opts.maxLenEvents": 3})
    any_redis.xadd("bull:alpha:events", {"event": "completed", "jobId": "0"})
    _, found = read_flow(backend)
    assert isinstance(found, dict)
    # As if that sample had been taken an hour ago.
    cursor = {key: before._replace(at_ms=before.at_ms - 3_600_000) for key, before in found.items()}
    for job in range(1, 10):
        any_redis.xadd("bull:alpha:events", {"event": "completed", "jobId": job})
    any_redis.xtrim("bull:alpha:events", maxlen=3, approximate=False)
    flow, after = read_flow(backend, cursor)
    assert (flow.hidden, flow.ended, flow.reason) == (ENDS, None, reasons.UNKNOWN_ENDED)
    assert read_flow(backend, after)[0].hidden == ENDS  # as long as rates look back
    # With the ids that were given out it is known how many ended.
    cursor = {key: before._replace(left=0) for key, before in cursor.items()}
    any_redis.set("bull:alpha:id", 9)
    flow, after = read_flow(backend, cursor)
    assert (flow.hidden, flow.ended, flow.reason) == ((State.DEAD,), 9, reasons.UNSPLIT)
    flow, _ = read_flow(backend, after)
    assert (flow.hidden, flow.ended) == ((State.DEAD,), 0)
    # Not where ids were given out for nothing.
    any_redis.xadd("bull:alpha:events", {"event": "duplicated", "jobId": "9"})
    any_redis.xtrim("bull:alpha:events", maxlen=3, approximate=False)
    flow, _ = read_flow(backend, cursor)
    assert (flow.hidden, flow.ended, flow.reason) == (ENDS, None, reasons.UNKNOWN_ENDED)


def test_a_burst_beyond_what_is_read_is_counted_from_the_kept_jobs(backend: BullMQ, any_redis: redis.Redis) -> None:
    any_redis.hset("bull:alpha:meta", mapping={"version": "bullmq:6.7.0", "opts.maxLenEvents": 10000})
    any_redis.zadd("bull:alpha:completed", {"early": (time.time() - 2 * FLOW_WINDOW_S) * 1000})
    any_redis.xadd("bull:alpha:events", {"event": "drained"})
    _, cursor = read_flow(backend)
    with any_redis.pipeline(transaction=False) as pipe:
        for job in range(3000):
            pipe.xadd("bull:alpha:events", {"event": "completed", "jobId": job})
            pipe.zadd("bull:alpha:completed", {job: int(time.time() * 1000) + 1})
        pipe.execute()
    flow, following = read_flow(backend, cursor)
    assert (flow.completed, flow.quality, flow.reason) == (3000, Quality.ESTIMATED, reasons.CUT_KEPT)
    any_redis.delete("bull:alpha:completed")
    flow, _ = read_flow(backend, cursor)
    assert (flow.hidden, flow.ended, flow.reason) == (ENDS, None, reasons.UNKNOWN_ENDED)
    assert read_flow(backend, following)[0].completed == 0


def test_return_values_in_events_are_not_fetched(backend: BullMQ, any_redis: redis.Redis) -> None:
    any_redis.hset("bull:alpha:meta", mapping={"version": "bullmq:6.7.0", "opts.maxLenEvents": 10000})
    for job in range(20):
        any_redis.xadd("bull:alpha:events", {"event": "completed", "jobId": job, "returnvalue": "x" * 500_000})
    ref = discover(backend)["alpha"]
    before = any_redis.info("stats")["total_net_output_bytes"]
    delta, _ = backend.read_flow([ref], None)
    # Of so many bytes the newest are counted.
    flow = delta.queues[0]
    assert 8 <= flow.completed < 20
    assert flow.quality is Quality.ESTIMATED
    assert (flow.reason or "").startswith(reasons.FIRST_BUSY.partition("{")[0])
    assert any_redis.info("stats")["total_net_output_bytes"] - before < 50_000
    any_redis.delete("bull:alpha:events")
    for job in range(20):
        any_redis.xadd("bull:alpha:events", {"event": "completed", "jobId": job, "returnvalue": "x" * 100_000})
    delta, _ = backend.read_flow([ref], None)
    assert delta.queues[0].completed == 20


def test_a_queue_with_only_old_events_has_rates_in_the_first_sample(backend: BullMQ, any_redis: redis.Redis) -> None:
    """And the other queues have theirs."""
    an_hour_ago = int(time.time() * 1000) - 3_600_000
    for name, at in (("alpha", an_hour_ago), ("beta", "*")):
        any_redis.hset(f"bull:{name}:meta", mapping={"version": "bullmq:6.7.0", "opts.maxLenEvents": 10000})
        any_redis.xadd(f"bull:{name}:events", {"event": "completed", "jobId": "1"}, id=f"{at}-0" if at != "*" else at)
    delta, _ = backend.read_flow(list(discover(backend).values()), None)
    assert {flow.key: (flow.completed, flow.quality) for flow in delta.queues} == {
        "bull:alpha": (0, Quality.EXACT),
        "bull:beta": (1, Quality.EXACT),
    }


def test_workers_are_counted_by_the_names_of_their_connections(
    backend: BullMQ, library: BullMQLibrary, any_server: EmbeddedRedis
) -> None:
    library.run_jobs(any_server.url, "alpha", good=1, bad=0)
    base = f"bull:{base64.b64encode(b'alpha').decode()}"
    names = [base, f"{base}:w:one", "bull:alpha:w:py", "bull:alpha:w:py", f"{base}:qe", "bull:YmV0YQ=="]
    clients = [redis.Redis.from_url(any_server.url, client_name=name) for name in names]
    for client in clients:
        client.ping()
    # A Python worker names all of its connections, and waits on one of them.
    clients[3].bzpopmin("bull:alpha:nothing-here", timeout=0.01)
    assert stats(backend).workers == 3
    for client in clients:
        client.close()


def test_an_idle_queue_with_signs_of_a_worker_has_an_unknown_number(
    backend: BullMQ, library: BullMQLibrary, any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    library.run_jobs(any_server.url, "alpha", good=1, bad=0)
    any_redis.delete("bull:alpha:stalled-check")
    assert stats(backend).workers == 0
    any_redis.set("bull:alpha:stalled-check", 1, px=30_000)
    assert stats(backend).workers is None


def test_latency_counts_from_when_a_job_could_run(backend: BullMQ, any_redis: redis.Redis) -> None:
    any_redis.hset("bull:alpha:meta", mapping={"version": "bullmq:6.7.0", "opts.maxLenEvents": 10000})
    now = int(time.time() * 1000)
    any_redis.lpush("bull:alpha:wait", "1")
    # Ages of an hour and more: the test itself may take a while.

    def job(**fields: object) -> float | None:
        any_redis.delete("bull:alpha:1")
        any_redis.hset("bull:alpha:1", mapping={"name": "x", "opts": '{"attempts":0}', **fields})
        return stats(backend).latency_s

    assert job(timestamp=now - 3_600_000) == pytest.approx(3_600, abs=90)
    assert job(timestamp=now - 9_000_000, opts='{"attempts":0,"delay":5400000}') == pytest.approx(3_600, abs=90)
    assert job(timestamp=now - 9e6, processedOn=now - 2_000_000, atm=1) == pytest.approx(2_000, abs=90)
    assert job(timestamp=now - 9e6, atm=3) is None  # retried by hand: nothing tells when
    assert job(timestamp="soon") is None
    any_redis.rpush("bull:alpha:wait", "0:0")
    assert job(timestamp=now - 3_600_000) == pytest.approx(3_600, abs=90)
    assert stats(backend).counts.waiting == 1
    any_redis.delete("bull:alpha:wait")
    assert stats(backend).latency_s == 0


def test_latency_is_that_of_the_oldest_job_in_a_lifo_queue(backend: BullMQ, any_redis: redis.Redis) -> None:
    any_redis.hset("bull:alpha:meta", mapping={"version": "bullmq:6.7.0", "opts.maxLenEvents": 10000})
    now = int(time.time() * 1000)
    for job, age_s in (("old", 5_000), ("new", 1)):
        any_redis.hset(f"bull:alpha:{job}", mapping={"timestamp": now - age_s * 1000, "opts": "{}"})
        any_redis.rpush("bull:alpha:wait", job)
    assert stats(backend).latency_s == pytest.approx(5_000, abs=90)


def test_a_delayed_job_that_is_not_promoted_is_overdue(backend: BullMQ, any_redis: redis.Redis) -> None:
    any_redis.hset("bull:alpha:meta", mapping={"version": "bullmq:6.7.0", "opts.maxLenEvents": 10000})
    assert stats(backend).overdue_s == 0
    any_redis.zadd("bull:alpha:delayed", {"1": (int(time.time() * 1000) - 4_200_000) * 4096 + 3})
    assert stats(backend).overdue_s == pytest.approx(4_200, abs=90)


@pytest.mark.every_server
def test_figures_are_read_by_scripts_on_every_server(backend: BullMQ, any_redis: redis.Redis) -> None:
    any_redis.hset("bull:alpha:meta", "version", "bullmq:6.7.0")
    any_redis.config_resetstat()
    stats(backend)
    assert {"cmdstat_eval", "cmdstat_eval_ro"} & any_redis.info("commandstats").keys()


def test_limits_are_reported(backend: BullMQ, any_redis: redis.Redis) -> None:
    meta = {"version": "bullmq:6.7.0", "opts.maxLenEvents": 10000, "concurrency": 5, "max": 10, "duration": 60000}
    any_redis.hset("bull:alpha:meta", mapping=meta)
    assert stats(backend).notes == ("global concurrency 5", "at most 10 jobs per 60 s")
    any_redis.set("bull:alpha:limiter", 10, px=30_000)
    assert stats(backend).notes[-1].startswith("rate limited for ")


def test_an_active_job_without_a_lock_is_reported(
    backend: BullMQ, library: BullMQLibrary, any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    library.fill(any_server.url)
    ref = discover(backend)["alpha"]
    assert [job.problem for job in backend.list_jobs(ref, JobQuery(state=State.ACTIVE)).jobs] == [None]
    any_redis.delete("bull:alpha:held:lock")
    (job,) = backend.list_jobs(ref, JobQuery(state=State.ACTIVE)).jobs
    assert job.problem is not None
    assert "lock" in job.problem
    assert backend.read_job(ref, "held").problem == job.problem


def test_pages_show_what_runs_next_first(
    backend: BullMQ, library: BullMQLibrary, any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    ids = library.fill(any_server.url).ids["alpha"]
    order = page(backend, State.WAITING)
    assert order[:4] == ids[State.WAITING][:4]
    assert order[-2:] == ["11", "12"]  # prioritized jobs are taken when `wait` is empty
    assert page(backend, State.WAITING, page=2, per_page=5) == order[5:]
    any_redis.rpush("bull:alpha:wait", "0:0")
    assert page(backend, State.WAITING) == order
    any_redis.linsert("bull:alpha:wait", "before", order[1], "0:1795613401467")  # as jobs at the front leave it
    assert page(backend, State.WAITING) == order
    assert page(backend, State.SCHEDULED) == ids[State.SCHEDULED]
    assert page(backend, State.DEAD)[0] in ids[State.DEAD]


def test_a_flow_links_parent_and_children(backend: BullMQ, library: BullMQLibrary, any_server: EmbeddedRedis) -> None:
    ids = library.fill(any_server.url).ids["alpha"]
    ref = discover(backend)["alpha"]
    parent = backend.read_job(ref, ids[State.BLOCKED][0])
    assert {child.id for child in parent.children} == {"photo-1", "photo-2"}
    assert parent.children_total == 2
    assert {(child.queue, child.state, child.native_state) for child in parent.children} == {("alpha", None, "pending")}
    child = backend.read_job(ref, "photo-1")
    assert child.parent is not None
    assert (child.parent.id, child.parent.ref) == (parent.id, ref)
    library.run_jobs(any_server.url, "alpha", good=1, bad=0)
    parent = backend.read_job(ref, parent.id)
    assert {child.state for child in parent.children} == {State.COMPLETED}


def test_the_next_run_of_a_scheduler_can_be_opened(backend: BullMQ, any_redis: redis.Redis) -> None:
    any_redis.hset("bull:alpha:meta", mapping={"version": "bullmq:6.7.0", "opts.maxLenEvents": 10000})
    due = int(time.time() * 1000) + 60_000
    job_id = f"repeat:nightly:a/b:{due}"
    any_redis.hset(f"bull:alpha:{job_id}", mapping={"name": "report", "timestamp": due, "rjk": "nightly:a/b"})
    any_redis.zadd("bull:alpha:delayed", {job_id: due * 4096})
    job = backend.read_job(discover(backend)["alpha"], job_id)
    assert job.state is State.SCHEDULED
    assert ("Scheduler", "nightly:a/b") in job.facts


@pytest.mark.parametrize("key", ["meta", "id", "events", "wait", "completed", "metrics:completed"])
def test_keys_of_the_queue_itself_cannot_be_opened_as_jobs(
    backend: BullMQ, library: BullMQLibrary, any_server: EmbeddedRedis, key: str
) -> None:
    library.fill(any_server.url)
    with pytest.raises(NotFound):
        backend.read_job(discover(backend)["alpha"], key)


@pytest.mark.parametrize("key", ["wait", "active", "delayed", "failed", "events", "limiter", "stalled-check"])
def test_a_key_of_the_wrong_type_makes_only_its_figure_unknown(
    backend: BullMQ, library: BullMQLibrary, any_server: EmbeddedRedis, any_redis: redis.Redis, key: str
) -> None:
    library.fill(any_server.url)
    any_redis.delete(f"bull:alpha:{key}")
    any_redis.geoadd(f"bull:alpha:{key}", (1.0, 2.0, "x")) if key in ("wait", "active") else any_redis.set(
        f"bull:alpha:{key}", "\xff" * 10
    )
    refs = discover(backend)
    found = {queue.name: queue for queue in backend.read_stats(list(refs.values()))}
    assert found["beta"].error is None
    broken = [entry.native for entry in found["alpha"].native if entry.count is None]
    assert broken == ([key] if key in ("wait", "active", "delayed", "failed") else [])
    assert bool(found["alpha"].error) == bool(broken)
    delta, _ = backend.read_flow(list(refs.values()), None)
    assert {flow.key: flow.quality is Quality.UNKNOWN for flow in delta.queues} == {
        "bull:alpha": key == "events",
        "bull:beta": False,
    }


def test_paused_jobs_come_before_jobs_with_a_priority(backend: BullMQ, any_redis: redis.Redis) -> None:
    any_redis.hset("bull:alpha:meta", mapping={"version": "bullmq:5.1.0", "paused": 1})
    any_redis.lpush("bull:alpha:paused", "a", "b")
    any_redis.zadd("bull:alpha:prioritized", {"urgent": 1})
    for job in ("a", "b", "urgent"):
        any_redis.hset(f"bull:alpha:{job}", mapping={"name": "mail", "timestamp": 1})
    assert page(backend, State.WAITING) == ["a", "b", "urgent"]
    ref = discover(backend)["alpha"]
    assert [dict(backend.read_job(ref, job).facts).get("Position") for job in ("a", "urgent")] == [
        "next",
        "2 ahead",
    ]


def test_long_lists_with_ids_of_any_bytes_are_paged(backend: BullMQ, any_redis: redis.Redis) -> None:
    any_redis.hset("bull:alpha:meta", mapping={"version": "bullmq:6.7.0", "opts.maxLenEvents": 10000})
    with any_redis.pipeline(transaction=False) as pipe:
        for start in range(0, 100_000, 1000):
            pipe.lpush("bull:alpha:wait", *range(start, start + 1000))
        pipe.rpush("bull:alpha:wait", b"\xff\xfe<script>", "x" * 10_000, "a/b c")
        pipe.execute()
    assert page(backend, State.WAITING, page=1000, per_page=50)[0] == str(999 * 50 - 3)
    first = page(backend, State.WAITING, per_page=3)
    assert first[0] == "a/b c"
    ref = discover(backend)["alpha"]
    any_redis.hset(b"bull:alpha:\xff\xfe<script>", mapping={"name": b"\xff", "timestamp": 1})
    assert backend.read_job(ref, first[2]).name == "\\xff"
    with measure_cost() as meter:
        backend.list_jobs(ref, JobQuery(state=State.WAITING, page=1000))
    assert meter.commands <= 2


def test_an_active_job_is_stalled_while_it_has_no_lock(
    backend: BullMQ, library: BullMQLibrary, any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    library.fill(any_server.url)
    assert (stats(backend).counts.active, stats(backend).stalled) == (1, 0)
    assert any_redis.delete("bull:alpha:held:lock") == 1
    assert (stats(backend).counts.active, stats(backend).stalled) == (1, 1)


def test_hostile_jobs_have_some_class(backend: BullMQ, any_redis: redis.Redis) -> None:
    any_redis.hset("bull:alpha:meta", mapping={"opts.maxLenEvents": 10000, "version": "bullmq:6.7.0"})
    any_redis.xadd("bull:alpha:events", {"event": "drained"})
    _, cursor = read_flow(backend)
    fields: dict[str, str | int] = {
        "name": "mail",
        "timestamp": 1000,
        "processedOn": 4000,
        "opts": '{"delay":500,"backoff":{"delay":9}}',
    }
    jobs: dict[str, dict[str, str | int]] = {
        "1": fields,
        "2": {**fields, "name": "x" * 1000, "timestamp": "never"},
        "3": {**fields, "name": "y" * 1_000_000, "opts": "[" * 1000},
        "4": {**fields, "timestamp": "9" * 1_000_000, "opts": '"delay"'},
        "5": {**fields, "opts": '{"delay":' + "[" * 500},
        "6": {**fields, "processedOn": 1},
        "7": {"name": b"\xff\x00".decode("utf-8", "surrogateescape")},
    }
    for job_id, values in jobs.items():
        for name, value in values.items():
            any_redis.hset(f"bull:alpha:{job_id}", name, str(value).encode("utf-8", "surrogateescape"))
        any_redis.xadd("bull:alpha:events", {"event": "completed", "jobId": job_id})
    flow, cursor = read_flow(backend, cursor)
    assert classes_of(flow) == {"mail": (4, 0), "x" * 200: (1, 0), "": (1, 0), "\udcff\x00": (1, 0)}
    # Options that cannot be read have no delay.
    assert sorted(flow.waits_s) == [2.5, 3.0, 3.0]
    any_redis.set("bull:alpha:8", "no hash")
    any_redis.xadd("bull:alpha:events", {"event": "completed", "jobId": "8"})
    any_redis.xadd("bull:alpha:events", {"event": "failed", "jobId": "9" * 10_000})
    flow, _ = read_flow(backend, cursor)
    assert (flow.completed, flow.dead, flow.classes) == (1, 1, None)
