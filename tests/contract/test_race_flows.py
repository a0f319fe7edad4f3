"""Related jobs are deleted and restored while a real worker runs: none is lost, none runs twice."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest
import redis
from celery import Celery as App
from celery import chord, group
from rq import Queue

from dashboard.backends.actions import Action, ActionResult, JobBackup, JobRef, Outcome
from dashboard.backends.base import Backend
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.backends.celery.backend import Celery
from dashboard.backends.rq.backend import RQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import NotFound
from dashboard.model import JobQuery, QueueRef, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.celery_live import Shop
from tests.contract.rq_actions import running_rq_worker
from tests.contract.rq_library import open_client
from tests.contract.test_actions_bullmq import RELEASES, backups_of, drive, outcomes, read_marks, running_worker
from tests.contract.test_actions_celery import discover
from tests.waiting import wait_until
from tests.workloads import rq_jobs


class DeletingUser:
    """Deletes jobs of one list and restores most of them a moment later, until stopped; counts by id."""

    def __init__(self, backend: Backend, ref: QueueRef, state: State, seed: int, *, back: float = 1.0) -> None:
        self.backend, self.ref, self.state = backend, ref, state
        self.dice = random.Random(seed)
        self.back = back
        self.deleted: dict[str, int] = {}
        self.restored: dict[str, int] = {}
        self.refused: set[str] = set()
        self.held: list[list[JobBackup]] = []

    @property
    def lost(self) -> set[str]:
        """The jobs that were deleted and not restored."""
        return {each for each, times in self.deleted.items() if times > self.restored.get(each, 0)}

    def delete_and_restore(self) -> None:
        """Delete some jobs; restore those deleted a few rounds ago."""
        try:
            found = self.backend.list_job_refs(self.ref, JobQuery(state=self.state, per_page=200))
        except NotFound:
            found = []
        self.delete([job_ref for job_ref in found if self.dice.random() < 0.15])
        if len(self.held) > 3:
            self.restore(self.held.pop(0))

    def delete(self, job_refs: Sequence[JobRef]) -> None:
        """Delete these."""
        if not job_refs:
            return
        taken = self.backend.backup_jobs(self.ref, self.state, job_refs)
        self._note_refusals([each for each in taken if isinstance(each, ActionResult)])
        backups = [each for each in taken if isinstance(each, JobBackup)]
        done = self.backend.delete_jobs(self.ref, self.state, backups) if backups else []
        self._note_refusals(done)
        gone = [job for job, each in zip(backups, done, strict=True) if each.outcome is Outcome.DONE]
        for job in gone:
            self.deleted[job.id] = self.deleted.get(job.id, 0) + 1
        self.held.append(gone)

    def restore(self, gone: Sequence[JobBackup]) -> None:
        """Restore most of the deleted jobs, twice, like a process that died and its successor."""
        back = [job for job in gone if self.dice.random() < self.back]
        for _ in range(2 if back else 0):
            for each in self.backend.restore_jobs(self.ref, self.state, back):
                if each.outcome is Outcome.DONE:
                    self.restored[each.id] = self.restored.get(each.id, 0) + 1

    def restore_all(self) -> None:
        """Restore the remaining jobs."""
        while self.held:
            self.restore(self.held.pop(0))

    def _note_refusals(self, results: Sequence[ActionResult]) -> None:
        self.refused |= {each.detail or "" for each in results if each.outcome is Outcome.REFUSED}


@contextmanager
def running_users(*users: DeletingUser) -> Iterator[None]:
    """Run all users during the block; at its end they restore the jobs they hold."""
    over = threading.Event()
    failures: list[BaseException] = []

    def run(user: DeletingUser) -> None:
        try:
            while not over.is_set():
                user.delete_and_restore()
                time.sleep(0.02)  # users are slower than this
            user.restore_all()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=run, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not failures, failures


@pytest.fixture
def bullmq(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[BullMQ]:
    source = Source("main", server.url)
    yield BullMQ(source, SourceSettings(name="main", url=server.url))
    source.close()


def bull_ref(name: str) -> QueueRef:
    return QueueRef(source="main", backend="bullmq", name=name, key=f"bull:{name}")


FAMILIES, CHILDREN = 200, 3


@pytest.mark.soak
@pytest.mark.parametrize("forgetful", [False, True], ids=["kept", "removeOnComplete"])
@pytest.mark.parametrize("alias", RELEASES)
def test_parents_and_children_of_bullmq_run_once_in_order(
    bullmq: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, alias: str, forgetful: bool, seed: int
) -> None:
    """Children and parents are deleted and restored; in the end each has run once, in order."""
    opts = {"removeOnComplete": forgetful}
    drive(alias, server.url, "flows", count=FAMILIES, children=CHILDREN, child_queue="photos", opts=opts)
    parents = DeletingUser(bullmq, bull_ref("alpha"), State.BLOCKED, seed + 1)
    children = DeletingUser(bullmq, bull_ref("photos"), State.WAITING, seed + 2)
    with ExitStack() as stack:
        # Children take a while, so that they have parents to be away from.
        stack.enter_context(
            running_worker(alias, server.url, "photos", concurrency=2, order=True, ms=10, allowed="allowed")
        )
        stack.enter_context(running_worker(alias, server.url, "alpha", concurrency=2, order=True))
        with running_users(parents, children):

            def ran_out() -> bool:
                undone = min(sum(user.restored.values()) for user in (parents, children))
                # The worker keeps pace with those who act, however quick the machine makes it.
                redis_client.set("allowed", 5 * undone)
                return undone > 20 and redis_client.llen("bull:photos:wait") == 0

            wait_until(ran_out, what="an empty queue")
        redis_client.set("allowed", 10**6)
        everyone = FAMILIES * (CHILDREN + 1)
        wait_until(
            lambda: len(read_marks(redis_client)) == everyone and redis_client.llen("order") == everyone,
            what="all families",
        )
    assert set(read_marks(redis_client).values()) == {1}
    assert parents.lost == children.lost == set()
    assert sum(parents.restored.values()) > 20
    assert sum(children.restored.values()) > 20
    assert redis_client.zcard("bull:alpha:waiting-children") == 0
    order = {raw.decode(): at for at, raw in enumerate(redis_client.lrange("order", 0, -1))}
    for n in range(FAMILIES):
        own = [f"p{n}c{k}" for k in range(CHILDREN)]
        # A child that is deleted is not waited for; every other one is.
        waited_for = {child for child in own if child not in children.deleted}
        assert all(order[child] < order[f"p{n}"] for child in waited_for), n
        if not forgetful:
            told = {raw.decode().rpartition(":")[2] for raw in redis_client.hkeys(f"bull:alpha:p{n}:processed")}
            assert told >= waited_for, n


def test_a_parent_whose_child_ended_since_it_was_read_is_not_deleted(
    bullmq: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    drive("bullmq", server.url, "flows", count=1, children=2, child_queue="photos")
    parent = bullmq.backup_jobs(bull_ref("alpha"), State.BLOCKED, [JobRef(id="p0")])
    child = bullmq.backup_jobs(bull_ref("photos"), State.WAITING, [JobRef(id="p0c1")])
    assert outcomes(bullmq.delete_jobs(bull_ref("photos"), State.WAITING, backups_of(child))) == ["done"]
    assert outcomes(bullmq.delete_jobs(bull_ref("alpha"), State.BLOCKED, backups_of(parent))) == ["changed"]
    assert redis_client.exists("bull:alpha:p0")


@pytest.mark.soak
def test_deduplicated_jobs_of_bullmq_run_once(
    bullmq: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, seed: int
) -> None:
    """The app adds one under the same key all the time, and a new one only while none of that key is there."""
    user = DeletingUser(bullmq, bull_ref("alpha"), State.WAITING, seed + 3)
    with running_worker("bullmq", server.url, "alpha", concurrency=1, ms=15, every=2), running_users(user):
        wait_until(lambda: sum(user.restored.values()) > 200, what="deletes and undos")
    ran = read_marks(redis_client)
    assert set(ran.values()) == {1}
    assert user.lost == set()
    # A job that came back when another one had its key waits beside it, and the key stays that of the other one.
    standing = {raw.decode() for name in ("wait", "active") for raw in redis_client.lrange(f"bull:alpha:{name}", 0, -1)}
    assert set(user.restored) <= set(ran) | standing
    keys = list(redis_client.scan_iter("bull:alpha:de:*", count=1000))
    assert keys
    assert {(redis_client.get(key) or b"").decode() for key in keys} <= standing


@pytest.mark.soak
def test_deleting_the_next_run_is_refused_and_the_scheduler_continues(
    bullmq: BullMQ, server: EmbeddedRedis, redis_client: redis.Redis, seed: int
) -> None:
    """Its next run can never be deleted, so no user ends a schedule accidentally."""
    user = DeletingUser(bullmq, bull_ref("alpha"), State.SCHEDULED, seed + 4)
    with running_worker("bullmq", server.url, "alpha", schedulers=20, interval=150), running_users(user):
        wait_until(lambda: len(read_marks(redis_client)) > 300, what="the runs")
        wait_until(lambda: user.refused, what="a refusal")
    assert user.refused == {"it is the next run of a schedule; remove the schedule instead"}
    assert set(read_marks(redis_client).values()) == {1}
    assert user.lost == set()
    assert redis_client.zcard("bull:alpha:repeat") == 20
    for member, at in redis_client.zrange("bull:alpha:repeat", 0, -1, withscores=True):
        assert redis_client.exists(f"bull:alpha:repeat:{member.decode()}:{int(at)}")


@pytest.fixture
def rq(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[RQ]:
    source = Source("main", server.url)
    yield RQ(source, SourceSettings(name="main", url=server.url))
    source.close()


@pytest.mark.soak
@pytest.mark.parametrize("result_ttl", [500, 0], ids=["kept", "forgotten"])
def test_dependents_of_rq_run_once_in_order(
    rq: RQ, server: EmbeddedRedis, redis_client: redis.Redis, result_ttl: int, seed: int
) -> None:
    """Those that wait, and those they wait for, go to the trash and back; in the end each has run once, in order."""
    pairs = 150
    with open_client(server.url) as client:
        queue = Queue("alpha", connection=client)
        first = [queue.enqueue(rq_jobs.in_order, result_ttl=result_ttl) for _ in range(pairs)]
        after = {job.id: queue.enqueue(rq_jobs.in_order, depends_on=job, result_ttl=result_ttl).id for job in first}
        ref = QueueRef(source="main", backend="rq", name="alpha", key="rq:queue:alpha")
        waiting = DeletingUser(rq, ref, State.WAITING, seed + 5)
        blocked = DeletingUser(rq, ref, State.BLOCKED, seed + 6)
        everyone = {*after, *after.values()}
        redis_client.set("allowed", 0)
        with running_rq_worker(server.url, "simple", "alpha"):
            with running_users(waiting, blocked):

                def raced() -> bool:
                    undone = min(sum(user.restored.values()) for user in (waiting, blocked))
                    # The worker keeps pace with those who act, however quick the machine makes it.
                    redis_client.set("allowed", undone)
                    return undone > 150 and len(read_marks(redis_client)) > pairs / 2

                wait_until(raced, what="the race")
            redis_client.delete("allowed")
            wait_until(lambda: len(read_marks(redis_client)) == len(everyone), what="the rest")
    assert read_marks(redis_client) == dict.fromkeys(everyone, 1)
    assert waiting.lost == blocked.lost == set()
    assert sum(waiting.restored.values()) > 20
    assert sum(blocked.restored.values()) > 20
    assert redis_client.zcard("rq:deferred:alpha") == 0
    order = {raw.decode(): at for at, raw in enumerate(redis_client.lrange("order", 0, -1))}
    assert all(order[parent] < order[dependent] for parent, dependent in after.items())


@pytest.fixture
def shop(server: EmbeddedRedis, redis_client: redis.Redis) -> Iterator[Shop]:
    found = Shop(server.url)
    yield found
    found.close()


@pytest.mark.soak
def test_chords_and_groups_of_celery_run_once(
    server: EmbeddedRedis,
    redis_client: redis.Redis,
    source: Source,
    source_settings: SourceSettings,
    shop: Shop,
    seed: int,
) -> None:
    """Members go to the trash and back while workers take others; each chord's body runs once, after all of them."""
    chords, members = 60, 5
    backend = Celery(source, source_settings)
    backend.own_source = source
    app = App("shop", broker=server.url, backend=server.url, set_as_current=False)
    for n in range(chords):
        header = group(app.signature("shop.mark", args=(f"m{n}.{k}",), queue="alpha") for k in range(members))
        chord(header, app=app)(app.signature("shop.mark", args=(f"b{n}",), queue="beta", immutable=True))
        group(app.signature("shop.mark", args=(f"g{n}.{k}",), queue="alpha") for k in range(2)).apply_async()
    wanted = {f"m{n}.{k}" for n in range(chords) for k in range(members)}
    wanted |= {f"b{n}" for n in range(chords)} | {f"g{n}.{k}" for n in range(chords) for k in range(2)}
    ref = discover(backend)["alpha"]
    user = DeletingUser(backend, ref, State.WAITING, seed + 7)
    user.delete(backend.list_job_refs(ref, JobQuery(state=State.WAITING, per_page=100)))
    with shop.worker(size=2):
        with running_users(user, DeletingUser(backend, ref, State.WAITING, seed + 8)):
            wait_until(lambda: redis_client.llen("alpha") == 0, what="an empty queue")
        wait_until(lambda: set(shop.read_marks("ran")) == wanted, what="all of them")
        # What workers have taken is not theirs to give back: no list offers its deletion.
        for state in (State.ACTIVE, State.SCHEDULED):
            assert Action.DELETE not in backend.job_actions.get(state, ())
            assert {each.outcome for each in backend.backup_jobs(discover(backend)["*"], state, [JobRef(id="x")])} <= {
                *(Outcome.GONE, Outcome.REFUSED, Outcome.UNSUPPORTED),
            }
    assert set(shop.read_marks("ran").values()) == {1}
    assert user.lost == set()
    assert sum(user.restored.values()) >= 100
    backend.close()
    app.close()
