"""RQ's real worker meets each of our actions at every point of its work: no job is lost, and none runs twice.

The worker runs through a proxy that stops it before its k-th command; the action runs there, for every k.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import redis
from rq import Queue
from rq.job import Job

from dashboard.backends.acting import Acted, Action, Kept, Outcome, Pick, Wishes
from dashboard.backends.base import NO_WISHES
from dashboard.backends.rq.backend import RQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import State
from dashboard.settings import SourceSettings
from dashboard.sources import Source
from tests.contract.rq_acting import REF, working
from tests.contract.rq_library import connected
from tests.step_proxy import Command, StepProxy
from tests.workloads import rq_jobs

TAKES = frozenset({b"BLMOVE", b"BLPOP", b"BRPOPLPUSH"})
# A worker with a job has more commands than this; with fewer, a scenario would drive nothing.
LEAST_STEPS = 15
REGISTRIES = ("failed", "finished", "canceled", "deferred", "scheduled", "wip")


@dataclass
class Rig:
    """One worker behind a proxy, and what our actions answered about each job."""

    client: redis.Redis
    queue: Queue
    backend: RQ
    proxy: StepProxy
    done: dict[str, Counter[str]] = field(default_factory=dict)
    outcomes: set[Outcome] = field(default_factory=set)

    def clear(self) -> None:
        """Remove all jobs; what a worker keeps of itself stays."""
        keep = (b"rq:worker", b"rq:queues", b"rq:clean")
        gone = [key for key in self.client.scan_iter(count=1000) if not key.startswith(keep)]
        if gone:
            self.client.delete(*gone)
        self.done.clear()

    def note(self, word: str, acted: list[Acted]) -> None:
        """Remember what was done."""
        for each in acted:
            self.outcomes.add(each.outcome)
            if each.outcome is Outcome.DONE:
                self.done.setdefault(each.id, Counter())[word] += 1

    def act(self, action: Action, state: State, job_id: str, wishes: Wishes = NO_WISHES) -> None:
        """One action of ours on one job."""
        self.note(f"{action.value} {state.value}", self.backend.act(REF, action, state, [Pick(id=job_id)], wishes))

    def take(self, state: State, job_id: str) -> list[Kept]:
        """What is needed to put a job back; [] when it cannot be deleted now."""
        taken = self.backend.take(REF, state, [Pick(id=job_id)])
        self.outcomes |= {each.outcome for each in taken if isinstance(each, Acted)}
        return [each for each in taken if isinstance(each, Kept)]

    def delete(self, state: State, kept: list[Kept]) -> list[Kept]:
        """Delete it; what was really deleted."""
        acted = self.backend.delete(REF, state, kept) if kept else []
        self.note(f"delete {state.value}", acted)
        return [job for job, each in zip(kept, acted, strict=True) if each.outcome is Outcome.DONE]

    def restore(self, state: State, kept: list[Kept]) -> None:
        """Put it back, twice, as a process that died and its successor do."""
        for _ in range(2):
            self.note(f"restore {state.value}", self.backend.restore(REF, state, kept) if kept else [])

    def runs_due(self, job_id: str) -> int:
        """How often a job that was in line once had to run, after all that was done to it."""
        did = self.done.get(job_id, Counter())
        into_line = ("retry dead", "retry canceled", "move dead", "promote blocked", "restore waiting")
        return 1 + sum(did[word] for word in into_line) - did["delete waiting"] - did["cancel waiting"]

    def is_away(self, job_id: str) -> bool:
        """Whether it was deleted and not put back."""
        did = self.done.get(job_id, Counter())
        return sum(did[f"delete {state.value}"] - did[f"restore {state.value}"] for state in State) == 1

    def finish(self) -> None:
        """Let the worker run all that is in line."""
        while self.client.exists("rq:queue:alpha", "rq:queue:beta"):
            self.proxy.take_turn()

    def runs(self) -> dict[str, int]:
        """How often each job ran."""
        return {job_id.decode(): int(count) for job_id, count in self.client.hgetall("marks").items()}

    def places(self, job_id: str) -> list[str]:
        """The registries that hold a job."""
        names = [f"{kind}:{name}" for kind in REGISTRIES for name in ("alpha", "beta")]
        with self.client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.zrange(f"rq:{name}", 0, -1)
            found = pipeline.execute()
        return [
            name
            for name, members in zip(names, found, strict=True)
            if any(member.startswith(job_id.encode()) for member in members)
        ]


@pytest.fixture(scope="module")
def rig(server: EmbeddedRedis) -> Iterator[Rig]:
    source = Source("main", server.url)
    with (
        redis.Redis.from_url(server.url) as client,
        connected(server.url) as connection,
        StepProxy(server.port, takes=TAKES) as proxy,
    ):
        client.flushall()
        with working(proxy.url, "simple", "alpha", "beta"):
            proxy.wait_for_take()
            backend = RQ(source, SourceSettings(name="main", url=server.url))
            yield Rig(client, Queue("alpha", connection=connection), backend, proxy)
    source.close()


def begins_a_job(command: Command) -> bool:
    """The first command of a worker after it has taken a job from the line."""
    return command[0] == b"HGETALL"


Act = Callable[[Rig, str], None]


def drive(rig: Rig, add: Callable[[Rig], Job], act: Act, check: Callable[[Rig, str, str], None]) -> int:
    """Run one job and `act` at every step of the worker; how many steps there were."""
    rig.outcomes.clear()
    steps = 0
    for step in rig.proxy.steps():
        rig.clear()
        job = add(rig)
        with step.before(lambda job_id=job.id: act(rig, job_id), since=begins_a_job):  # type: ignore[misc]
            rig.finish()
        rig.finish()
        if step.reached:
            steps += 1
            check(rig, job.id, str(step))
    assert steps >= LEAST_STEPS
    return steps


def check_one(rig: Rig, job_id: str, at: str) -> None:
    """It ran as often as the answers say, and stands in one place, unless it was deleted."""
    away = rig.is_away(job_id)
    assert rig.runs().get(job_id, 0) == rig.runs_due(job_id), (at, rig.done)
    assert len(rig.places(job_id)) == (0 if away else 1), (at, rig.done, rig.places(job_id))
    assert not any("wip" in place for place in rig.places(job_id)), at
    assert bool(rig.client.exists(f"rq:job:{job_id}")) != away, (at, rig.done)


def dead_job(rig: Rig) -> Job:
    return rig.queue.enqueue(rq_jobs.mark, 99, result_ttl=500)


def good_job(rig: Rig) -> Job:
    return rig.queue.enqueue(rq_jobs.mark, 1, result_ttl=500)


def delete_dead(rig: Rig, job_id: str) -> None:
    rig.delete(State.DEAD, rig.take(State.DEAD, job_id))


def delete_and_restore(state: State) -> Act:
    def act(rig: Rig, job_id: str) -> None:
        rig.restore(state, rig.delete(state, rig.take(state, job_id)))

    return act


def acting(action: Action, state: State, wishes: Wishes = NO_WISHES) -> Act:
    return lambda rig, job_id: rig.act(action, state, job_id, wishes)


def cancel_and_retry(rig: Rig, job_id: str) -> None:
    rig.act(Action.CANCEL, State.WAITING, job_id)
    rig.act(Action.RETRY, State.CANCELED, job_id)


def retry_twice(rig: Rig, job_id: str) -> None:
    rig.act(Action.RETRY, State.DEAD, job_id)
    rig.act(Action.RETRY, State.DEAD, job_id)


RACES = {Outcome.DONE, Outcome.CHANGED}
# A worker has taken it, or runs it.
TOO_LATE = {Outcome.CHANGED, Outcome.REFUSED}
TO_BETA = Wishes(target="beta")
SCENARIOS: dict[str, tuple[Callable[[Rig], Job], Act, set[Outcome]]] = {
    "retry a dead job": (dead_job, acting(Action.RETRY, State.DEAD), RACES),
    "retry a dead job twice": (dead_job, retry_twice, RACES),
    "move a dead job": (dead_job, acting(Action.MOVE, State.DEAD, TO_BETA), RACES),
    "delete a dead job": (dead_job, delete_dead, RACES),
    "delete a dead job, put it back": (dead_job, delete_and_restore(State.DEAD), RACES),
    "delete a completed job, put it back": (good_job, delete_and_restore(State.COMPLETED), RACES),
    "delete, put back a job that was taken": (good_job, delete_and_restore(State.WAITING), TOO_LATE),
    "cancel a job that was taken": (good_job, cancel_and_retry, TOO_LATE),
    "move a job that was taken": (good_job, acting(Action.MOVE, State.WAITING, TO_BETA), TOO_LATE),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_action_on_the_job_that_a_worker_runs(
    rig: Rig, name: str, record_property: Callable[[str, object], None]
) -> None:
    add, act, expected = SCENARIOS[name]
    steps = drive(rig, add, act, check_one)
    assert rig.outcomes == expected
    record_property("interleavings", ["rq", name, steps])


def test_a_dead_job_is_copied_and_each_runs_on_its_own(
    rig: Rig, record_property: Callable[[str, object], None]
) -> None:
    copies: dict[str, str] = {}

    def copy(rig: Rig, job_id: str) -> None:
        (acted,) = rig.backend.act(REF, Action.DUPLICATE, State.DEAD, [Pick(id=job_id)])
        rig.note("duplicate", [acted])
        if acted.new_id and acted.outcome is Outcome.DONE:
            copies[job_id] = acted.new_id

    def check(rig: Rig, job_id: str, at: str) -> None:
        expected = {job_id: 1} | ({copies[job_id]: 1} if job_id in copies else {})
        assert rig.runs() == expected, at
        assert {place for each in expected for place in rig.places(each)} == {"failed:alpha"}, at

    steps = drive(rig, dead_job, copy, check)
    assert copies
    assert rig.outcomes == RACES
    record_property("interleavings", ["rq", "copy a dead job", steps])


@pytest.mark.parametrize(
    ("act", "result_ttl"),
    [
        ("put back", 500),
        ("put back like its parent", 500),
        ("put back", 0),
        ("delete", 500),
        ("delete, put back", 500),
        ("delete, put back", 0),
        ("cancel, retry", 500),
        ("promote", 500),
    ],
)
def test_an_action_on_a_job_whose_parent_ends(
    rig: Rig, act: str, result_ttl: int, record_property: Callable[[str, object], None]
) -> None:
    """The dependent runs once, after its parent, unless it was deleted; it never waits for a parent that has ended."""
    rig.outcomes.clear()
    steps = 0
    for step in rig.proxy.steps():
        rig.clear()
        parent = rig.queue.enqueue(rq_jobs.in_order, result_ttl=result_ttl)
        child = rig.queue.enqueue(rq_jobs.in_order, depends_on=parent, result_ttl=result_ttl)
        away: list[Kept] = []
        if act == "put back":
            away = rig.delete(State.BLOCKED, rig.take(State.BLOCKED, child.id))
        elif act == "put back like its parent":  # which still lists it then as one that waits
            above = rig.delete(State.WAITING, rig.take(State.WAITING, parent.id))
            away = rig.delete(State.BLOCKED, rig.take(State.BLOCKED, child.id))
            rig.restore(State.WAITING, above)

        begun = False

        def run(away: list[Kept] = away, child: Job = child) -> None:
            nonlocal begun
            begun = rig.client.hget(child.key, "status") == b"started"
            if act.startswith("put back"):
                rig.restore(State.BLOCKED, away)
            elif act == "cancel, retry":
                rig.act(Action.CANCEL, State.BLOCKED, child.id)
                rig.act(Action.RETRY, State.CANCELED, child.id)
            elif act == "promote":
                rig.act(Action.PROMOTE, State.BLOCKED, child.id)
            else:
                gone = rig.delete(State.BLOCKED, rig.take(State.BLOCKED, child.id))
                if act == "delete, put back":
                    rig.restore(State.BLOCKED, gone)

        with step.before(run, since=begins_a_job):
            rig.finish()
        rig.finish()
        if not step.reached or begun:
            break  # from here on, the worker runs the dependent
        steps += 1
        runs = {parent.id: 1} | ({} if rig.is_away(child.id) else {child.id: 1})
        assert rig.runs() == runs, (str(step), rig.done)
        assert rig.client.zcard("rq:deferred:alpha") == 0, str(step)
        order = [raw.decode() for raw in rig.client.lrange("order", 0, -1)]
        assert sorted(order) == sorted(runs), str(step)
        # A job that a person sets going waits for nobody.
        assert act in ("promote", "cancel, retry") or order[0] == parent.id, str(step)
    assert steps >= LEAST_STEPS
    assert Outcome.DONE in rig.outcomes
    record_property("interleavings", ["rq", f"{act} a dependent, result_ttl {result_ttl}", steps])


@pytest.mark.parametrize("state", [State.WAITING, State.DEAD, State.SCHEDULED], ids=lambda state: state.value)
def test_a_job_comes_back_beside_one_that_runs(
    rig: Rig, state: State, record_property: Callable[[str, object], None]
) -> None:
    """A job that was deleted is put back while the worker is busy with another one."""
    rig.outcomes.clear()
    steps = 0
    for step in rig.proxy.steps():
        rig.clear()
        if state is State.DEAD:
            dead = dead_job(rig)
            rig.finish()
        job = {
            State.WAITING: lambda: good_job(rig),
            State.DEAD: lambda: dead,  # noqa: B023 called at once
            State.SCHEDULED: lambda: rig.queue.enqueue_in(datetime.timedelta(hours=1), rq_jobs.mark, 1),
        }[state]()
        away = rig.delete(state, rig.take(state, job.id))
        assert away
        rig.outcomes.clear()
        other = good_job(rig)
        with step.before(lambda away=away: rig.restore(state, away), since=begins_a_job):  # type: ignore[misc]
            rig.finish()
        rig.finish()
        if not step.reached:
            break
        steps += 1
        ran = {State.WAITING: {job.id: 1}, State.DEAD: {job.id: 1}, State.SCHEDULED: {}}[state]
        assert rig.runs() == {other.id: 1} | ran, str(step)
        (place,) = rig.places(job.id)
        assert place.partition(":")[0] == {"waiting": "finished", "dead": "failed"}.get(state.value, state.value)
        assert rig.outcomes == RACES  # the second time it is there already
    assert steps >= LEAST_STEPS
    record_property("interleavings", ["rq", f"put back a {state.value} job", steps])


OWN_SIDE: dict[str, tuple[Callable[[Rig], Job], Callable[[Rig, str], None], Act]] = {
    "retry a dead job": (dead_job, lambda rig, _: rig.finish(), acting(Action.RETRY, State.DEAD)),
    "delete a waiting job, put it back": (good_job, lambda _rig, _id: None, delete_and_restore(State.WAITING)),
    "cancel a waiting job, retry it": (good_job, lambda _rig, _id: None, cancel_and_retry),
    "move a waiting job": (good_job, lambda _rig, _id: None, acting(Action.MOVE, State.WAITING, TO_BETA)),
    "delete a dead job, put it back": (dead_job, lambda rig, _: rig.finish(), delete_and_restore(State.DEAD)),
}


@pytest.mark.parametrize("name", OWN_SIDE)
def test_the_worker_runs_between_two_commands_of_an_action(
    rig: Rig, server: EmbeddedRedis, name: str, record_property: Callable[[str, object], None]
) -> None:
    """The other way round: our action is held before its k-th command, and the worker runs all that is in line."""
    add, before, act = OWN_SIDE[name]
    worker = rig.proxy
    rig.outcomes.clear()
    steps = 0
    with StepProxy(server.port) as ours:
        source = Source("main", ours.url)
        acting_rig = Rig(rig.client, rig.queue, RQ(source, SourceSettings(name="main", url=ours.url)), worker)
        acting_rig.done, acting_rig.outcomes = rig.done, rig.outcomes
        source.execute("PING")
        for step in ours.steps():
            rig.clear()
            job = add(rig)
            before(rig, job.id)
            with step.before(rig.finish):
                act(acting_rig, job.id)
            rig.finish()
            if not step.reached:
                break
            steps += 1
            check_one(rig, job.id, str(step))
        source.close()
    assert steps >= 1
    assert Outcome.DONE in rig.outcomes
    record_property("interleavings", ["rq", f"worker within: {name}", steps])
