"""RQ's real worker and scheduler, stopped before each of their commands while an act of ours runs; and the reverse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
import redis
from rq import Queue
from rq.job import Job as RealJob
from rq.scheduler import RQScheduler
from rq.suspension import is_suspended

from dashboard.backends.actions import Action, ActionOptions, ActionResult, JobBackup, JobRef, Outcome
from dashboard.backends.rq.backend import RQ
from dashboard.model import JobQuery, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.conftest import start_server
from tests.contract.rq_actions import REF, running_rq_worker
from tests.contract.rq_library import open_client
from tests.step_proxy import Step, StepProxy
from tests.stepping.scenario import OutsideTransactions, Scenario, outcomes
from tests.waiting import wait_until
from tests.workloads import rq_jobs

TAKES = frozenset({b"BLMOVE", b"BLPOP"})
# A worker that runs one job has at least so many steps, and a scheduler that finds one.
JOB_STEPS, SCHEDULER_STEPS = 20, 10
# Keys of workers and of their upkeep, which outlive jobs.
UPKEEP = ("rq:worker", "rq:queues", "rq:clean", "rq:scheduler", "rq:execution:", "{queuedeck}:", "marks", "order")
REGISTRIES = {"failed": "failed", "stopped": "failed", "finished": "finished", "canceled": "canceled"}
REGISTRIES |= {"scheduled": "scheduled", "deferred": "deferred"}


@dataclass
class Lab:
    """A Redis with RQ's queues, a real worker of them that is held where it asks for a job, and our backend."""

    client: redis.Redis
    backend: RQ
    proxy: StepProxy
    port: int
    worker: str = ""

    @property
    def queue(self) -> Queue:
        """The queue that all workers serve."""
        return Queue("alpha", connection=self.client)

    def clear(self) -> None:
        """Forget all jobs. Must be called before each interleaving, and while the worker is held."""
        keys = [key for key in self.client.scan_iter(count=1000) if not key.startswith(b"rq:worker")]
        if keys:
            self.client.delete(*keys)

    def enqueue(self, *arguments: Any, **options: Any) -> RealJob:
        """A job that counts its runs, and fails in those before the one of the number that is given."""
        return self.queue.enqueue(rq_jobs.mark, *arguments, **options)

    def drive(self) -> None:
        """Let the worker run what is in line, and return once it asks for more."""
        while self.client.exists("rq:queue:alpha") or (self.client.exists("rq:queue:beta") and self.serves_beta):
            self.proxy.take_turn()

    def meet(self, step: Step, act: Callable[[], object]) -> None:
        """Let the worker run what is in line, with `act` at this step."""
        with step.before(act):
            if step.number == 0:  # before the take itself, so that there may be nothing to take
                self.proxy.let_go()
                wait_until(lambda: self.proxy.is_held or self._is_waiting(), what="the worker")
                if self._is_waiting():
                    self.queue.enqueue(rq_jobs.add, 1, result_ttl=0)
                self.proxy.wait_for_take()
            self.drive()

    def _is_waiting(self) -> bool:
        return bool(self.client.info("clients")["blocked_clients"])

    @property
    def serves_beta(self) -> bool:
        """Whether the worker takes jobs of the second queue, too."""
        return b"beta" in (self.client.hget(f"rq:worker:{self.worker}", "queues") or b"")

    def runs(self) -> dict[str, int]:
        """How often each job has run."""
        return {key.decode(): int(value) for key, value in self.client.hgetall("marks").items()}

    def picks(self, state: State) -> list[JobRef]:
        """The jobs of a state, as a person sees them now."""
        return self.backend.list_job_refs(REF, JobQuery(state=state, per_page=100))

    def act(
        self, action: Action, state: State, job_refs: Sequence[JobRef], target: str | None = None
    ) -> list[ActionResult]:
        """The answers to an act on jobs."""
        return self.backend.act_on_jobs(REF, action, state, job_refs, ActionOptions(target=target))

    def delete(
        self, state: State, job_refs: Sequence[JobRef]
    ) -> tuple[list[JobBackup], list[JobBackup | ActionResult]]:
        """Take and delete; (what was deleted, all answers)."""
        taken = self.backend.backup_jobs(REF, state, job_refs)
        backups = [each for each in taken if isinstance(each, JobBackup)]
        refused = [each for each in taken if isinstance(each, ActionResult)]
        done = self.backend.delete_jobs(REF, state, backups)
        gone = [job for job, each in zip(backups, done, strict=True) if each.outcome is Outcome.DONE]
        return gone, [*refused, *done]

    def deleted(self, state: State, job: RealJob) -> list[JobBackup]:
        """A job that is in the trash from now on."""
        gone, answers = self.delete(state, [JobRef(id=job.id)])
        assert outcomes(answers) == ["done"]
        return gone

    def restore(self, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        """Put back twice over, as a process that died and its follower do; the answers of the first."""
        first = self.backend.restore_jobs(REF, state, backups)
        assert "done" not in outcomes(self.backend.restore_jobs(REF, state, backups))
        return first

    def status(self, job: RealJob) -> str:
        """The status that RQ keeps; '' where the job is gone."""
        return (self.client.hget(job.key, "status") or b"").decode()

    def assert_at_rest(self) -> None:
        """Each job stands in the one registry of its status, nothing is left of others, none waits for nobody."""
        keys = {key.decode() for key in self.client.scan_iter(count=1000)}
        jobs = {key.removeprefix("rq:job:") for key in keys if key.startswith("rq:job:") and key.count(":") == 2}
        wanted: dict[str, set[str]] = {}
        for job_id in jobs:
            status, origin = self.client.hmget(f"rq:job:{job_id}", "status", "origin")
            assert (status or b"").decode() in REGISTRIES, f"{job_id} is {status!r} for ever"
            wanted.setdefault(f"rq:{REGISTRIES[status.decode()]}:{origin.decode()}", set()).add(job_id)
        found = {
            key: {member.decode() for member in self.client.zrange(key, 0, -1)}
            for key in keys
            if key.startswith(tuple(f"rq:{name}:" for name in (*REGISTRIES.values(), "wip", "ready")))
        }
        assert found == wanted
        parts = {f"rq:results:{job_id}" for job_id in jobs} | {f"rq:job::{job_id}:dependencies" for job_id in jobs}
        parts |= {key for job_id in jobs for key in (f"rq:job:{job_id}", f"rq:job:{job_id}:dependents")}
        left = {key for key in keys if not key.startswith(UPKEEP)}
        assert left <= {*parts, *wanted}, left - {*parts, *wanted}
        for job_id in wanted.get("rq:deferred:alpha", ()):
            parents = {parent.decode() for parent in self.client.smembers(f"rq:job::{job_id}:dependencies")}
            ended = {parent for parent in parents if self.client.hget(f"rq:job:{parent}", "status") == b"finished"}
            assert parents - ended, f"{job_id} waits for nobody"


def labs(*queues: str) -> Iterator[Lab]:
    with (
        closing(start_server("redis-7")) as server,
        open_client(server.url) as client,
        closing(Source("main", server.url)) as source,
        StepProxy(server.port, takes=TAKES, counts=OutsideTransactions()) as proxy,
        running_rq_worker(proxy.url, "held", *queues) as name,
    ):
        backend = RQ(source, SourceSettings(name="main", url=server.url))
        proxy.wait_for_take()
        lab = Lab(client, backend, proxy, server.port, name)
        lab.clear()
        yield lab


@pytest.fixture(scope="module")
def one_queue() -> Iterator[Lab]:
    """A worker of one queue: it moves the job that it takes to a list of its own."""
    yield from labs("alpha")


@pytest.fixture(scope="module")
def lab(one_queue: Lab) -> Lab:
    return one_queue


@pytest.fixture(scope="module")
def two_queues() -> Iterator[Lab]:
    """A worker of two queues: what it takes is nowhere until it begins."""
    yield from labs("alpha", "beta")


@pytest.fixture(params=["one_queue", "two_queues"])
def each_lab(request: pytest.FixtureRequest) -> Lab:
    """Each way in which a worker takes a job, for the acts that race it for that."""
    lab: Lab = request.getfixturevalue(request.param)
    return lab


@pytest.fixture
def scenario(record_property: Callable[[str, object], None]) -> Scenario:
    return Scenario("rq", record_property)


@pytest.fixture(params=[500, 0], ids=["kept", "forgotten"])
def result_ttl(request: pytest.FixtureRequest) -> int:
    ttl: int = request.param
    return ttl


# The worker runs, and an act of ours comes before each of its commands.


def test_retry_of_a_job_that_fails(lab: Lab, scenario: Scenario, result_ttl: int) -> None:
    def attempt(step: Step) -> None:
        lab.clear()
        job = lab.enqueue(2, result_ttl=result_ttl)
        answers: list[ActionResult] = []

        def act() -> None:
            seen = lab.picks(State.DEAD)
            answers.extend(lab.act(Action.RETRY, State.DEAD, [JobRef(id=job.id)]))
            # As a process that died, and another one that does the batch again.
            answers.extend(lab.act(Action.RETRY, State.DEAD, seen))

        lab.meet(step, act)
        done = scenario.count(answers)
        assert done <= 1
        assert lab.runs() == {job.id: 1 + done}
        assert lab.status(job) == ("failed" if not done else "finished" if result_ttl else "")
        lab.assert_at_rest()

    scenario.try_all("retry a dead job", lab.proxy, attempt, at_least=JOB_STEPS)


def test_retry_of_a_canceled_job(lab: Lab, scenario: Scenario) -> None:
    def attempt(step: Step) -> None:
        lab.clear()
        job, other = lab.enqueue(), lab.enqueue()
        lab.act(Action.CANCEL, State.WAITING, [JobRef(id=job.id)])
        answers: list[ActionResult] = []
        lab.meet(step, lambda: answers.extend(lab.act(Action.RETRY, State.CANCELED, [JobRef(id=job.id)])))
        assert lab.runs() == {other.id: 1} | ({job.id: 1} if scenario.count(answers) else {})
        lab.assert_at_rest()

    scenario.try_all("retry a canceled job", lab.proxy, attempt, at_least=JOB_STEPS, always_done=True)


@pytest.mark.parametrize("undone", [False, True], ids=["for good", "and undone"])
def test_delete_of_a_waiting_job(each_lab: Lab, scenario: Scenario, undone: bool) -> None:
    lab = each_lab

    def attempt(step: Step) -> None:
        lab.clear()
        job = lab.enqueue()
        answers: list[JobBackup | ActionResult] = []

        def act() -> None:
            gone, all_answers = lab.delete(State.WAITING, [JobRef(id=job.id)])
            answers.extend(all_answers)
            if undone and gone:
                assert outcomes(lab.restore(State.WAITING, gone)) == ["done"]

        lab.meet(step, act)
        runs = 0 if scenario.count(answers) and not undone else 1
        assert lab.runs() == ({job.id: 1} if runs else {})
        assert lab.status(job) == ("finished" if runs else "")
        lab.assert_at_rest()

    scenario.try_all(f"delete a waiting job{', undo' if undone else ''}", lab.proxy, attempt, at_least=JOB_STEPS)


def test_delete_of_a_waiting_job_that_was_taken_before(each_lab: Lab, scenario: Scenario) -> None:
    lab = each_lab

    def attempt(step: Step) -> None:
        lab.clear()
        job = lab.enqueue()
        (backup,) = lab.backend.backup_jobs(REF, State.WAITING, [JobRef(id=job.id)])
        assert isinstance(backup, JobBackup)
        answers: list[ActionResult] = []
        lab.meet(step, lambda: answers.extend(lab.backend.delete_jobs(REF, State.WAITING, [backup])))
        assert lab.runs() == ({} if scenario.count(answers) else {job.id: 1})
        lab.assert_at_rest()

    scenario.try_all("delete a waiting job taken before", lab.proxy, attempt, at_least=JOB_STEPS)


@pytest.mark.parametrize("undone", [False, True], ids=["for good", "and undone"])
@pytest.mark.parametrize("state", [State.DEAD, State.COMPLETED])
def test_delete_of_a_job_that_ends(lab: Lab, scenario: Scenario, state: State, undone: bool) -> None:
    native = "failed" if state is State.DEAD else "finished"

    def attempt(step: Step) -> None:
        lab.clear()
        job = lab.enqueue(9 if state is State.DEAD else 1)
        answers: list[JobBackup | ActionResult] = []

        def act() -> None:
            runs_now = lab.client.zcard("rq:wip:alpha")
            gone, all_answers = lab.delete(state, [JobRef(id=job.id)])
            answers.extend(all_answers)
            assert not (gone and runs_now), "a job was deleted that its worker still runs"
            if undone and gone:
                assert outcomes(lab.restore(state, gone)) == ["done"]

        lab.meet(step, act)
        done = scenario.count(answers)
        assert lab.runs() == {job.id: 1}
        assert lab.status(job) == ("" if done and not undone else native)
        lab.assert_at_rest()

    name = f"delete a {native} job{', undo' if undone else ''}"
    scenario.try_all(name, lab.proxy, attempt, at_least=JOB_STEPS)


@pytest.mark.parametrize("act_name", ["delete", "delete unseen", "retry"])
def test_acts_on_a_job_that_the_app_cancels(lab: Lab, scenario: Scenario, act_name: str) -> None:
    """RQ lets the app cancel a job that runs, and goes on to run it: until it ends, none of our acts is done."""

    def attempt(step: Step) -> None:
        lab.clear()
        job = lab.enqueue()
        answers: list[JobBackup | ActionResult] = []
        running: list[bool] = []
        in_line: list[bool] = []

        def act() -> None:
            in_line.append(lab.client.lpos("rq:queue:alpha", job.id) is not None)
            if lab.status(job) in ("queued", "started"):
                job.cancel()
            running.append(lab.client.exists("rq:wip:alpha") == 1)
            job_ref = JobRef(id=job.id)
            if act_name == "retry":
                answers.extend(lab.act(Action.RETRY, State.CANCELED, [job_ref]))
            elif act_name == "delete":
                answers.extend(lab.delete(State.CANCELED, [job_ref])[1])
            else:  # nothing was kept of it, so that nothing tells whether it is as it was
                large = JobBackup(id=job.id, version=None, blob=None, size_bytes=2_000_000)
                answers.extend(lab.backend.delete_jobs(REF, State.CANCELED, [large]))

        lab.meet(step, act)
        done = scenario.count(answers)
        if done:
            assert running == [False]
        # What the app cancels is out of line, but what a worker has taken runs all the same.
        runs = 0 if in_line == [True] else 1
        if act_name == "retry":
            assert lab.runs().get(job.id, 0) == runs + done
        else:
            assert lab.runs().get(job.id, 0) in ({runs, 0} if done else {runs})

    scenario.try_all(f"{act_name} a job canceled by the app", lab.proxy, attempt, at_least=JOB_STEPS)


@pytest.mark.parametrize("state", [State.WAITING, State.DEAD, State.SCHEDULED, State.CANCELED])
def test_undo_while_another_job_runs(lab: Lab, scenario: Scenario, state: State) -> None:
    def attempt(step: Step) -> None:
        lab.clear()
        if state is State.SCHEDULED:
            job = lab.queue.enqueue_in(timedelta(hours=1), rq_jobs.mark)
        else:
            job = lab.enqueue(9 if state is State.DEAD else 1)
        if state is State.CANCELED:
            job.cancel()
        elif state is State.DEAD:
            lab.drive()
        before = lab.runs()
        gone = lab.deleted(state, job)
        other = lab.enqueue()
        answers: list[ActionResult] = []
        lab.meet(step, lambda: answers.extend(lab.restore(state, gone)))
        done = scenario.count(answers)
        again = {job.id: 1} if done and state is State.WAITING else {}
        assert lab.runs() == {other.id: 1} | before | again
        assert bool(lab.status(job)) == bool(done)
        lab.assert_at_rest()

    scenario.try_all(f"undo a {state.value} job", lab.proxy, attempt, at_least=JOB_STEPS, always_done=True)


def test_cancel_of_a_waiting_job(each_lab: Lab, scenario: Scenario) -> None:
    lab = each_lab

    def attempt(step: Step) -> None:
        lab.clear()
        job = lab.enqueue()
        answers: list[ActionResult] = []
        lab.meet(step, lambda: answers.extend(lab.act(Action.CANCEL, State.WAITING, [JobRef(id=job.id)])))
        done = scenario.count(answers)
        assert lab.runs() == ({} if done else {job.id: 1})
        assert lab.status(job) == ("canceled" if done else "finished")
        lab.assert_at_rest()

    scenario.try_all("cancel a waiting job", lab.proxy, attempt, at_least=JOB_STEPS)


@pytest.mark.parametrize("state", [State.WAITING, State.DEAD])
def test_move_to_another_queue(two_queues: Lab, scenario: Scenario, state: State) -> None:
    lab = two_queues

    def attempt(step: Step) -> None:
        lab.clear()
        job = lab.enqueue(2 if state is State.DEAD else 1)
        answers: list[ActionResult] = []
        lab.meet(step, lambda: answers.extend(lab.act(Action.MOVE, state, [JobRef(id=job.id)], "beta")))
        done = scenario.count(answers)
        assert lab.runs() == {job.id: 2 if done and state is State.DEAD else 1}
        assert lab.client.hget(job.key, "origin") == (b"beta" if done else b"alpha")
        lab.assert_at_rest()

    scenario.try_all(f"move a {state.value} job", lab.proxy, attempt, at_least=JOB_STEPS)


@pytest.mark.parametrize("state", [State.WAITING, State.DEAD, State.COMPLETED])
def test_duplicate(lab: Lab, scenario: Scenario, state: State) -> None:
    """The copy runs once as a job of its own; the job itself is as if nobody had copied it."""

    def attempt(step: Step) -> None:
        lab.clear()
        job = lab.enqueue(2 if state is State.DEAD else 1)
        answers: list[ActionResult] = []

        def act() -> None:
            seen = lab.picks(state) or [JobRef(id=job.id)]
            # As after a crash: the same copy.
            for _ in range(2 if seen[0].version else 1):
                answers.extend(lab.act(Action.DUPLICATE, state, [each for each in seen if each.id == job.id]))

        lab.meet(step, act)
        scenario.count(answers)
        copies = {each.new_id for each in answers if each.outcome is Outcome.DONE}
        assert len(copies) <= 1
        assert lab.runs() == {job.id: 1} | dict.fromkeys(copies, 1)
        lab.assert_at_rest()

    scenario.try_all(f"duplicate a {state.value} job", lab.proxy, attempt, at_least=JOB_STEPS)


# A parent runs, and an act of ours is about the job that waits for it.


@pytest.mark.parametrize("parent_too", [False, True], ids=["of a parent", "of a parent that came back"])
def test_undo_of_a_dependent_while_its_parent_ends(
    lab: Lab, scenario: Scenario, result_ttl: int, parent_too: bool
) -> None:
    def attempt(step: Step) -> None:
        lab.clear()
        parent = lab.enqueue(result_ttl=result_ttl)
        child = lab.enqueue(depends_on=parent, result_ttl=result_ttl)
        above = lab.deleted(State.WAITING, parent) if parent_too else []
        below = lab.deleted(State.BLOCKED, child)
        if above:
            assert outcomes(lab.restore(State.WAITING, above)) == ["done"]
        answers: list[ActionResult] = []
        lab.meet(step, lambda: answers.extend(lab.restore(State.BLOCKED, below)))
        assert lab.runs() == {parent.id: 1} | ({child.id: 1} if scenario.count(answers) else {})
        lab.assert_at_rest()

    name = f"undo a dependent{' of a parent that came back' if parent_too else ''}"
    scenario.try_all(name, lab.proxy, attempt, at_least=JOB_STEPS, always_done=True)


def test_undo_of_a_parent_whose_dependent_waits(lab: Lab, scenario: Scenario) -> None:
    def attempt(step: Step) -> None:
        lab.clear()
        parent = lab.enqueue()
        child = lab.enqueue(depends_on=parent)
        gone = lab.deleted(State.WAITING, parent)
        other = lab.enqueue()
        answers: list[ActionResult] = []
        lab.meet(step, lambda: answers.extend(lab.restore(State.WAITING, gone)))
        both = {parent.id: 1, child.id: 1} if scenario.count(answers) else {}
        assert lab.runs() == {other.id: 1} | both
        lab.assert_at_rest()

    scenario.try_all("undo a parent", lab.proxy, attempt, at_least=JOB_STEPS, always_done=True)


@pytest.mark.parametrize("act_name", ["delete", "delete and undo", "promote", "cancel"])
def test_acts_on_a_dependent_while_its_parent_ends(
    lab: Lab, scenario: Scenario, result_ttl: int, act_name: str
) -> None:
    def attempt(step: Step) -> None:
        lab.clear()
        parent = lab.enqueue(result_ttl=result_ttl)
        child = lab.enqueue(depends_on=parent, result_ttl=result_ttl)
        answers: list[JobBackup | ActionResult] = []

        def act() -> None:
            job_ref = JobRef(id=child.id)
            if act_name in ("promote", "cancel"):
                answers.extend(lab.act(Action(act_name), State.BLOCKED, [job_ref]))
                return
            gone, all_answers = lab.delete(State.BLOCKED, [job_ref])
            answers.extend(all_answers)
            if gone and act_name == "delete and undo":
                assert outcomes(lab.restore(State.BLOCKED, gone)) == ["done"]

        lab.meet(step, act)
        stays = scenario.count(answers) and act_name in ("delete", "cancel")
        assert lab.runs() == {parent.id: 1} | ({} if stays else {child.id: 1})
        lab.assert_at_rest()

    scenario.try_all(f"{act_name} a dependent", lab.proxy, attempt, at_least=JOB_STEPS)


def test_delete_of_a_parent_that_comes_back(lab: Lab, scenario: Scenario) -> None:
    def attempt(step: Step) -> None:
        lab.clear()
        parent = lab.enqueue()
        child = lab.enqueue(depends_on=parent)
        answers: list[JobBackup | ActionResult] = []
        bin_of_act: list[JobBackup] = []

        def act() -> None:
            gone, all_answers = lab.delete(State.WAITING, [JobRef(id=parent.id)])
            answers.extend(all_answers)
            bin_of_act.extend(gone)

        lab.meet(step, act)
        if scenario.count(answers):
            assert lab.runs() == {}
            assert lab.status(child) == "deferred"
            assert outcomes(lab.restore(State.WAITING, bin_of_act)) == ["done"]
            lab.drive()
        assert lab.runs() == {parent.id: 1, child.id: 1}
        lab.assert_at_rest()

    scenario.try_all("delete a parent", lab.proxy, attempt, at_least=JOB_STEPS)


# RQ's scheduler puts in line what is due, and an act of ours comes before each of its commands.


@pytest.mark.parametrize(
    "act_name", ["promote", "cancel", "delete", "delete and undo", "delete one taken before", "duplicate"]
)
def test_acts_on_a_job_that_is_due(lab: Lab, scenario: Scenario, act_name: str) -> None:
    counts = OutsideTransactions()
    with StepProxy(lab.port, counts=counts) as proxy, open_client(proxy.url) as client:

        def attempt(step: Step) -> None:
            lab.clear()
            job = lab.queue.enqueue_in(timedelta(seconds=-5), rq_jobs.mark)
            (taken,) = lab.backend.backup_jobs(REF, State.SCHEDULED, [JobRef(id=job.id)])
            assert isinstance(taken, JobBackup)
            answers: list[JobBackup | ActionResult] = []

            def act() -> None:
                seen = [job_ref for job_ref in lab.picks(State.SCHEDULED) if job_ref.id == job.id] or [
                    JobRef(id=job.id)
                ]
                if act_name in ("promote", "cancel", "duplicate"):
                    answers.extend(lab.act(Action(act_name), State.SCHEDULED, seen))
                    return
                if act_name == "delete one taken before":
                    answers.extend(lab.backend.delete_jobs(REF, State.SCHEDULED, [taken]))
                    return
                gone, all_answers = lab.delete(State.SCHEDULED, seen)
                answers.extend(all_answers)
                if gone and act_name == "delete and undo":
                    assert outcomes(lab.restore(State.SCHEDULED, gone)) == ["done"]

            scheduler = RQScheduler([lab.queue], connection=client, logging_level="CRITICAL")
            with step.before(act):
                scheduler.register_birth()
                scheduler.acquire_locks()
                scheduler.enqueue_scheduled_jobs()
                scheduler.release_locks()
            # The next one finds what was put back behind the first one's back.
            scheduler.acquire_locks()
            scheduler.enqueue_scheduled_jobs()
            scheduler.stop()
            lab.drive()
            done = scenario.count(answers)
            runs = {} if done and act_name in ("cancel", "delete", "delete one taken before") else {job.id: 1}
            copies = {each.new_id: 1 for each in answers if isinstance(each, ActionResult) and each.new_id}
            assert lab.runs() == runs | copies
            lab.assert_at_rest()

        scenario.try_all(f"{act_name} a due job", proxy, attempt, at_least=SCHEDULER_STEPS)


# Our own side: before each command of an act the worker runs what is in line, or the app does something.


def run_a_job(lab: Lab) -> None:
    lab.drive()


def add_a_job(lab: Lab) -> None:
    lab.enqueue()


def add_a_job_ahead(lab: Lab) -> None:
    lab.queue.enqueue(rq_jobs.mark, at_front=True)


def pause_and_resume(lab: Lab) -> None:
    assert lab.backend.act_on_queue(REF, Action.PAUSE).outcome is Outcome.DONE
    assert lab.backend.act_on_queue(REF, Action.RESUME).outcome is Outcome.DONE


@pytest.fixture(scope="module")
def ours(lab: Lab) -> Iterator[Lab]:
    """The lab with a backend whose commands are the steps."""
    with StepProxy(lab.port) as proxy, closing(Source("main", proxy.url)) as source:
        backend = RQ(source, SourceSettings(name="main", url=proxy.url))
        backend.list_job_refs(REF, JobQuery(state=State.WAITING))  # so that it has connected
        yield replace(lab, backend=backend, proxy=proxy)


OTHERS = pytest.mark.parametrize("other", [run_a_job, add_a_job, add_a_job_ahead, pause_and_resume])
WAITING_STEPS, BATCH = 4, 3


@OTHERS
@pytest.mark.parametrize("act_name", ["move", "cancel", "duplicate"])
def test_own_acts_on_waiting_jobs(
    lab: Lab, ours: Lab, scenario: Scenario, act_name: str, other: Callable[[Lab], None]
) -> None:
    def attempt(step: Step) -> None:
        lab.clear()
        jobs = {lab.enqueue().id for _ in range(BATCH)}
        with step.before(lambda: other(lab)):
            answers = ours.act(Action(act_name), State.WAITING, ours.picks(State.WAITING), "beta")
        scenario.count(answers)
        lab.drive()
        done = {each.id for each in answers if each.outcome is Outcome.DONE}
        moved = set(lab.client.lrange("rq:queue:beta", 0, -1)) if act_name == "move" else set()
        assert {each.decode() for each in moved} == (done if act_name == "move" else set())
        lab.client.delete("rq:queue:beta", *(f"rq:job:{each.decode()}" for each in moved))
        copies = {each.new_id for each in answers if each.new_id}
        assert len(copies) == (len(done) if act_name == "duplicate" else 0)
        out = done if act_name in ("move", "cancel") else set()
        runs = lab.runs()
        assert set(runs.values()) <= {1}
        assert (jobs | copies) - out <= set(runs)
        assert not out & set(runs)
        lab.assert_at_rest()

    name = f"{other.__name__} during {act_name}"
    steps = WAITING_STEPS + (1 if act_name != "duplicate" else -2)
    scenario.try_all(name, ours.proxy, attempt, at_least=steps, always_done=other is not run_a_job)


@OTHERS
@pytest.mark.parametrize("state", [State.WAITING, State.DEAD])
def test_own_delete_and_undo(
    lab: Lab, ours: Lab, scenario: Scenario, state: State, other: Callable[[Lab], None]
) -> None:
    def attempt(step: Step) -> None:
        lab.clear()
        # Nothing is left of a job that ran: only the undo itself tells that it was done before.
        jobs = {lab.enqueue(9 if state is State.DEAD else 1, result_ttl=0).id for _ in range(BATCH)}
        if state is State.DEAD:
            lab.drive()
            lab.enqueue()
        with step.before(lambda: other(lab)):
            seen = [job_ref for job_ref in ours.picks(state) if job_ref.id in jobs]
            gone, answers = ours.delete(state, seen[1:])
            back = ours.restore(state, gone[:-1])
        scenario.count(answers)
        assert set(outcomes(back)) <= {"done"}
        lab.drive()
        lost = {job.id for job in gone[-1:]}
        left = jobs - lost
        assert {job_id: lab.runs().get(job_id, 0) for job_id in jobs} == (
            dict.fromkeys(jobs, 1) if state is State.DEAD else dict.fromkeys(left, 1) | dict.fromkeys(lost, 0)
        )
        standing = left if state is State.DEAD else set()
        assert {job_id for job_id in jobs if lab.client.exists(f"rq:job:{job_id}")} == standing
        lab.assert_at_rest()

    always = other is not run_a_job or state is State.DEAD
    name = f"{other.__name__} during delete and undo of {state.value} jobs"
    scenario.try_all(name, ours.proxy, attempt, at_least=WAITING_STEPS, always_done=always)


@OTHERS
def test_own_retry(lab: Lab, ours: Lab, scenario: Scenario, other: Callable[[Lab], None]) -> None:
    def attempt(step: Step) -> None:
        lab.clear()
        jobs = {lab.enqueue(2).id for _ in range(BATCH)}
        lab.drive()
        lab.enqueue()
        with step.before(lambda: other(lab)):
            seen = ours.picks(State.DEAD)
            answers = [each for _ in range(2) for each in ours.act(Action.RETRY, State.DEAD, seen)]
        lab.drive()
        assert scenario.count(answers) == BATCH
        assert {job_id: lab.runs()[job_id] for job_id in jobs} == dict.fromkeys(jobs, 2)
        lab.assert_at_rest()

    scenario.try_all(f"{other.__name__} during retry", ours.proxy, attempt, at_least=3)


@pytest.mark.parametrize("other", [run_a_job, add_a_job, add_a_job_ahead])
def test_own_obliterate(lab: Lab, ours: Lab, scenario: Scenario, other: Callable[[Lab], None]) -> None:
    """What the app adds before the last step goes too; what it adds later is in line."""

    def attempt(step: Step) -> None:
        lab.clear()
        lab.enqueue()
        dead = lab.enqueue(9)
        with step.before(lambda: other(lab)):
            answer = ours.backend.act_on_queue(REF, Action.OBLITERATE)
        assert scenario.count([answer]) or answer.outcome is Outcome.GONE
        lab.drive()
        assert set(lab.runs().values()) <= {1}
        if other is not run_a_job or step.number:
            assert lab.runs().get(dead.id, 0) == 0
        lab.assert_at_rest()

    scenario.try_all(f"{other.__name__} during obliterate", ours.proxy, attempt, at_least=10, always_done=True)


# Whole queues.


def test_pause_and_resume(lab: Lab, scenario: Scenario) -> None:
    def attempt(step: Step) -> None:
        lab.clear()
        first, second = lab.enqueue(), lab.enqueue()
        answers: list[ActionResult] = []

        def suspended() -> bool:
            return lab.client.hget(f"rq:worker:{lab.worker}", "state") == b"suspended"

        with step.before(lambda: answers.append(lab.backend.act_on_queue(REF, Action.PAUSE))):
            lab.proxy.let_go()
            wait_until(lambda: lab.proxy.is_held or suspended(), what="the end of the first job")
        assert lab.runs() == {first.id: 1}
        if step.reached:
            assert is_suspended(lab.client)
            if lab.proxy.is_held:  # "a worker that is waiting already may take one more"
                lab.proxy.wait_for_take()
                lab.proxy.let_go()
                wait_until(suspended, what="a worker that is suspended")
            runs = lab.runs()
            answers.append(lab.backend.act_on_queue(REF, Action.RESUME))
            lab.proxy.wait_for_take()
            assert lab.runs() == runs
        else:
            lab.proxy.wait_for_take()
        scenario.count(answers)
        assert not is_suspended(lab.client)
        lab.drive()
        assert lab.runs() == {first.id: 1, second.id: 1}
        lab.assert_at_rest()

    scenario.try_all("pause, resume", lab.proxy, attempt, at_least=JOB_STEPS, always_done=True)


def test_obliterate(each_lab: Lab, scenario: Scenario) -> None:
    """Refused from when a worker takes a job until it lets go of it; a job that it took unseen runs, and is kept."""
    lab = each_lab

    def attempt(step: Step) -> None:
        lab.clear()
        job = lab.enqueue()
        answers: list[ActionResult] = []
        before: list[tuple[bool, dict[str, int]]] = []

        def act() -> None:
            in_line = bool(lab.client.exists("rq:queue:alpha"))
            answers.append(lab.backend.act_on_queue(REF, Action.OBLITERATE))
            before.append((in_line, lab.runs()))

        lab.meet(step, act)
        in_line, ran = before[0] if before else (False, {})
        unseen = lab.serves_beta and not in_line and not ran
        if scenario.count(answers) and not unseen:
            assert lab.runs() == ran
            assert not lab.status(job)
        else:
            assert lab.runs() == {job.id: 1}
            assert lab.status(job) == "finished"
        lab.assert_at_rest()

    scenario.try_all("obliterate", lab.proxy, attempt, at_least=JOB_STEPS)
