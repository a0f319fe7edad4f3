"""Sidekiq's real process and poller, stopped before each of their commands for an act of ours; and the reverse."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import pytest
import redis

from dashboard.backends.actions import Action, ActionOptions, ActionResult, JobBackup, JobRef, Outcome
from dashboard.backends.sidekiq.backend import Sidekiq
from dashboard.model import JobQuery, QueueRef, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.conftest import start_server
from tests.contract.sidekiq_worker import failed_payload, jid_of, payload, running_poller, running_sidekiq
from tests.processes import Child
from tests.step_proxy import Command, Step, StepProxy
from tests.stepping.scenario import Scenario, outcomes
from tests.waiting import wait_until

WORK = QueueRef(source="main", backend="sidekiq", name="work", key="queue:work")
SHARED = QueueRef(source="main", backend="sidekiq", name="*", key="*", shared=True)
SETS = {State.SCHEDULED: "schedule", State.RETRYING: "retry", State.DEAD: "dead"}
DUE = (State.SCHEDULED, State.RETRYING)
# What a process sends for a job. The rest are beats of other threads, at any time.
OF_A_JOB = {b"BRPOP", b"HINCRBY", b"ZADD", b"ZREMRANGEBYSCORE", b"ZREMRANGEBYRANK", b"LPUSH", b"RPUSH", b"SADD"}
WAKE = "wake"


def of_a_job(command: Command) -> bool:
    """Whether a command belongs to the run of a job."""
    return command[0].upper() in OF_A_JOB and b"processes" not in command


@dataclass
class Lab:
    """A Redis with Sidekiq's queues, a process of one thread that is held where it asks for a job, and our backend."""

    client: redis.Redis
    backend: Sidekiq
    proxy: StepProxy
    polls: StepProxy
    poller: Child
    port: int

    def clear(self) -> None:
        """Forget all jobs."""
        self.client.delete("queue:work", "queue:other", "runs", *SETS.values(), "{queuedeck}:deleted")
        self.client.sadd("queues", "work")

    def push(self, *payloads: str) -> None:
        """Jobs of the queue `work`, next one first."""
        self.client.lpush("queue:work", *payloads)

    def fill(self, state: State, *payloads: str, due: bool = True) -> None:
        """Entries of a set, of an hour ago or from now."""
        at = time.time() + (-3600 if due else 3600)
        self.client.zadd(SETS[state], {each: at + n for n, each in enumerate(payloads)})

    def meet(self, step: Step, act: Callable[[], object]) -> None:
        """Let the process run what is in its queues, with `act` at this step."""
        with step.before(act):
            if step.number == 0:  # before the take itself, so that there may be nothing to take
                self.proxy.let_go()
                wait_until(lambda: self.proxy.is_held or self._is_waiting(), what="the process")
                if self._is_waiting():
                    self.push(payload(WAKE))
                self.proxy.wait_for_take()
            self.drive()

    def _is_waiting(self) -> bool:
        return bool(self.client.info("clients")["blocked_clients"])

    def drive(self) -> None:
        """Let the process run what is in its queues, and return once it asks for more."""
        while self.client.exists("queue:work", "queue:other"):
            self.proxy.take_turn()

    def poll(self) -> None:
        """One round of Sidekiq's poller: what is due goes to its queue."""
        self.poller.write_line("poll")
        assert self.poller.read_line() == "polled"

    def runs(self) -> dict[str, int]:
        """How often each job has run, by name."""
        found = {name.decode(): int(times) for name, times in self.client.hgetall("runs").items()}
        found.pop(WAKE, None)
        return found

    def jids(self, key: str) -> list[str]:
        """The ids of the jobs in a set."""
        return [json.loads(raw)["jid"] for raw in self.client.zrange(key, 0, -1)]

    def seen(self, state: State, name: str = "one") -> list[JobRef]:
        """The job of that name as a person sees it in the list of a state; or as they saw it when it was there."""
        found = self.backend.list_job_refs(place(state), JobQuery(state=state, per_page=100))
        own = [job_ref for job_ref in found if job_ref.id.endswith(jid_of(name))]
        return own or [JobRef(id=jid_of(name) if state is State.WAITING else f"1-{jid_of(name)}")]

    def act(
        self, action: Action, state: State, job_refs: Sequence[JobRef], options: ActionOptions
    ) -> list[ActionResult]:
        """The answers to an act on jobs."""
        return self.backend.act_on_jobs(place(state), action, state, job_refs, options)

    def delete(
        self, state: State, job_refs: Sequence[JobRef]
    ) -> tuple[list[JobBackup], list[JobBackup | ActionResult]]:
        """Take and delete; (what was deleted, all answers)."""
        taken = self.backend.backup_jobs(place(state), state, job_refs)
        backups = [each for each in taken if isinstance(each, JobBackup)]
        done = self.backend.delete_jobs(place(state), state, backups)
        gone = [job for job, each in zip(backups, done, strict=True) if each.outcome is Outcome.DONE]
        return gone, [*(each for each in taken if isinstance(each, ActionResult)), *done]

    def restore(self, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        """Put back twice over, as a process that died and its follower do; the answers of the first."""
        first = self.backend.restore_jobs(place(state), state, backups)
        assert "done" not in outcomes(self.backend.restore_jobs(place(state), state, backups))
        return first


def place(state: State) -> QueueRef:
    """Where jobs of a state are found."""
    return WORK if state is State.WAITING else SHARED


@dataclass(frozen=True)
class Deed:
    """Something that a person does to a job, and what is left of it then."""

    name: str
    # Runs that the job still has where it was done, and whether it is in the dead set then.
    runs: int
    dead: bool = False
    copy: str | None = None

    def do(self, lab: Lab, state: State, job_refs: Sequence[JobRef]) -> list[JobBackup | ActionResult]:
        """The answers."""
        if self.name.startswith("delete"):
            gone, answers = lab.delete(state, job_refs)
            if gone and self.name == "delete and undo":
                assert outcomes(lab.restore(state, gone)) == ["done"]
            return answers
        return [*lab.act(Action(self.name), state, job_refs, ActionOptions(target="other", payload='["edited"]'))]


DELETE, UNDO = Deed("delete", 0), Deed("delete and undo", 1)
MOVE, RETRY, PROMOTE = Deed("move", 1), Deed("retry", 1), Deed("promote", 1)
KILL = Deed("kill", 0, dead=True)
DUPLICATE, EDIT = Deed("duplicate", 1, copy="one"), Deed("edit", 1, copy="edited")
OF_WAITING = (MOVE, DUPLICATE, EDIT, DELETE, UNDO)
OF_SET = {
    State.SCHEDULED: (PROMOTE, KILL, DUPLICATE, EDIT, DELETE, UNDO),
    State.RETRYING: (RETRY, PROMOTE, KILL, DUPLICATE, EDIT, DELETE, UNDO),
}
ON_DUE = pytest.mark.parametrize(
    ("state", "deed"),
    [pytest.param(state, deed, id=f"{state.value}, {deed.name}") for state in DUE for deed in OF_SET[state]],
)


def expected_runs(deed: Deed, done: int) -> dict[str, int]:
    """How often each job must have run: the one that was acted on, or not, and the copy of it."""
    runs = {"one": deed.runs if done else 1}
    if done and deed.copy:
        runs[deed.copy] = runs.get(deed.copy, 0) + 1
    return {name: times for name, times in runs.items() if times}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with (
        closing(start_server("redis-7")) as server,
        redis.Redis.from_url(server.url) as client,
        closing(Source("main", server.url)) as source,
        StepProxy(server.port, takes=frozenset({b"BRPOP"}), counts=of_a_job) as proxy,
        StepProxy(server.port) as polls,
        running_sidekiq(proxy.url, concurrency=1, held=True),
        running_poller(polls.url) as polling,
    ):
        backend = Sidekiq(source, SourceSettings(name="main", url=server.url))
        found = Lab(client, backend, proxy, polls, polling, server.port)
        proxy.wait_for_take()
        found.poll()  # so that it has loaded its script
        yield found


@pytest.fixture(scope="module")
def ours(lab: Lab) -> Iterator[Lab]:
    """The lab with a backend whose commands are the steps."""
    with StepProxy(lab.port) as proxy, closing(Source("main", proxy.url)) as source:
        found = replace(lab, backend=Sidekiq(source, SourceSettings(name="main", url=proxy.url)), proxy=proxy)
        for state in (State.WAITING, State.DEAD):
            found.seen(state)  # so that it has connected
        yield found


@pytest.fixture
def scenario(record_property: Callable[[str, object], None]) -> Scenario:
    return Scenario("sidekiq", record_property)


# The process runs, and an act of ours comes before each of its commands.


@pytest.mark.parametrize("deed", OF_WAITING, ids=lambda deed: deed.name)
def test_acts_on_a_waiting_job(lab: Lab, scenario: Scenario, deed: Deed) -> None:
    def attempt(step: Step) -> None:
        lab.clear()
        lab.push(payload())
        answers: list[JobBackup | ActionResult] = []
        lab.meet(step, lambda: answers.extend(deed.do(lab, State.WAITING, lab.seen(State.WAITING))))
        assert lab.runs() == expected_runs(deed, scenario.count(answers))
        assert not lab.client.exists("queue:work", "queue:other", *SETS.values())

    scenario.try_all(f"{deed.name} a waiting job", lab.proxy, attempt, at_least=2)


@pytest.mark.parametrize("deed", OF_SET[State.RETRYING], ids=lambda deed: deed.name)
def test_acts_on_a_job_that_fails(lab: Lab, scenario: Scenario, deed: Deed) -> None:
    """It fails once for the retry set; an act that runs it again makes it fail once more."""

    def attempt(step: Step) -> None:
        lab.clear()
        lab.push(payload(args=["one", "fail"]))
        lab.push(payload("next"))
        answers: list[JobBackup | ActionResult] = []
        lab.meet(step, lambda: answers.extend(deed.do(lab, State.RETRYING, lab.seen(State.RETRYING))))
        done = scenario.count(answers)
        again = 1 if done and deed in (RETRY, PROMOTE, DUPLICATE) else 0
        edited = {"edited": 1} if done and deed is EDIT else {}
        assert lab.runs() == {"one": 1 + again, "next": 1} | edited
        standing = lab.jids("retry")
        assert len(standing) == (0 if done and deed in (DELETE, KILL) else 2 if done and deed is DUPLICATE else 1)
        assert lab.jids("dead") == ([jid_of("one")] if done and deed is KILL else [])

    scenario.try_all(f"{deed.name} a failing job", lab.proxy, attempt, at_least=4)


@pytest.mark.parametrize("deed", [RETRY, DUPLICATE, EDIT, DELETE, UNDO], ids=lambda deed: deed.name)
def test_acts_on_a_job_that_dies(lab: Lab, scenario: Scenario, deed: Deed) -> None:
    def attempt(step: Step) -> None:
        lab.clear()
        lab.push(failed_payload(args=["one", "fail"]))
        lab.push(payload("next"))
        answers: list[JobBackup | ActionResult] = []
        lab.meet(step, lambda: answers.extend(deed.do(lab, State.DEAD, lab.seen(State.DEAD))))
        done = scenario.count(answers)
        again = 1 if done and deed in (RETRY, DUPLICATE) else 0
        edited = {"edited": 1} if done and deed is EDIT else {}
        assert lab.runs() == {"one": 1 + again, "next": 1} | edited
        # The try by hand is not counted, so that it dies once more; a copy has its tries before it.
        assert lab.jids("dead") == ([] if done and deed is DELETE else [jid_of("one")])
        assert len(lab.jids("retry")) == (1 if done and deed is DUPLICATE else 0)

    scenario.try_all(f"{deed.name} a dying job", lab.proxy, attempt, at_least=5)


@pytest.mark.parametrize("state", [State.WAITING, *SETS], ids=str)
def test_undo_while_another_job_runs(lab: Lab, scenario: Scenario, state: State) -> None:
    def attempt(step: Step) -> None:
        lab.clear()
        if state is State.WAITING:
            lab.push(payload())
        else:
            lab.fill(state, failed_payload(), due=False)
        gone, _ = lab.delete(state, lab.seen(state))
        lab.push(payload("other"))
        answers: list[ActionResult] = []
        lab.meet(step, lambda: answers.extend(lab.restore(state, gone)))
        done = scenario.count(answers)
        runs = {"one": 1} if done and state is State.WAITING else {}
        assert lab.runs() == {"other": 1} | runs
        if state is not State.WAITING:
            assert lab.jids(SETS[state]) == [jid_of("one")] * done

    scenario.try_all(f"undo a {state.value} job", lab.proxy, attempt, at_least=2, always_done=True)


def test_obliterate(lab: Lab, scenario: Scenario) -> None:
    def attempt(step: Step) -> None:
        lab.clear()
        lab.push(payload(), payload("two"))
        answers: list[ActionResult] = []
        before: list[dict[str, int]] = []

        def act() -> None:
            waiting = [json.loads(raw)["args"][0] for raw in lab.client.lrange("queue:work", 0, -1)]
            answers.append(lab.backend.act_on_queue(WORK, Action.OBLITERATE))
            before.append({name: 1 for name in ("one", "two") if name not in waiting})

        lab.meet(step, act)
        assert lab.runs() == (before[0] if before else {"one": 1, "two": 1})
        scenario.count(answers)

    scenario.try_all("obliterate", lab.proxy, attempt, at_least=4, always_done=True)


# The poller moves what is due, and an act of ours comes before each of its commands.


@pytest.mark.parametrize(
    ("state", "deed"),
    [(state, deed) for state in DUE for deed in OF_SET[state]],
    ids=lambda each: getattr(each, "name", each),
)
def test_acts_on_a_job_that_is_due(lab: Lab, scenario: Scenario, state: State, deed: Deed) -> None:
    def attempt(step: Step) -> None:
        lab.clear()
        lab.fill(state, payload() if state is State.SCHEDULED else failed_payload(retry_count=1))
        job_refs = lab.seen(state)
        answers: list[JobBackup | ActionResult] = []
        with step.before(lambda: answers.extend(deed.do(lab, state, job_refs))):
            lab.poll()
        lab.poll()  # what was put back behind its back
        lab.drive()
        done = scenario.count(answers)
        assert lab.runs() == expected_runs(deed, done)
        assert lab.jids("dead") == ([jid_of("one")] if done and deed.dead else [])
        assert not lab.client.exists("retry", "schedule")

    scenario.try_all(f"{deed.name} a due job, {state.value}", lab.polls, attempt, at_least=4)


@pytest.mark.parametrize("state", DUE, ids=str)
def test_undo_of_a_job_that_is_due(lab: Lab, scenario: Scenario, state: State) -> None:
    def attempt(step: Step) -> None:
        lab.clear()
        lab.fill(state, failed_payload(), failed_payload("two"))
        gone, _ = lab.delete(state, lab.seen(state))
        answers: list[ActionResult] = []
        with step.before(lambda: answers.extend(lab.restore(state, gone))):
            lab.poll()
        lab.poll()
        lab.drive()
        assert lab.runs() == {"two": 1} | ({"one": 1} if scenario.count(answers) else {})
        assert not lab.client.exists("retry", "schedule", "dead")

    scenario.try_all(f"undo a due job, {state.value}", lab.polls, attempt, at_least=4, always_done=True)


# Our own side: before each command of an act the process or its poller runs, or the app does something.


def run_jobs(lab: Lab) -> None:
    lab.drive()


def poll_and_run(lab: Lab) -> None:
    lab.poll()
    lab.drive()


def add_a_job(lab: Lab) -> None:
    lab.push(payload("added"))


@pytest.mark.parametrize("other", [run_jobs, add_a_job])
@pytest.mark.parametrize("deed", OF_WAITING, ids=lambda deed: deed.name)
def test_own_acts_on_a_waiting_job(
    lab: Lab, ours: Lab, scenario: Scenario, deed: Deed, other: Callable[[Lab], None]
) -> None:
    def attempt(step: Step) -> None:
        lab.clear()
        lab.push(payload("first"), payload(), payload("last"))
        with step.before(lambda: other(lab)):
            answers = deed.do(ours, State.WAITING, ours.seen(State.WAITING))
        lab.drive()
        done = scenario.count(answers)
        added = {"added": 1} if other is add_a_job and step.reached else {}
        assert lab.runs() == {"first": 1, "last": 1} | expected_runs(deed, done) | added
        assert not lab.client.exists("queue:work", "queue:other", *SETS.values())

    always = other is add_a_job
    name = f"{other.__name__} during {deed.name} of a waiting job"
    scenario.try_all(name, ours.proxy, attempt, at_least=3, always_done=always)


@pytest.mark.parametrize("other", [poll_and_run, add_a_job])
@pytest.mark.parametrize(
    ("state", "deed"),
    [(state, deed) for state in DUE for deed in OF_SET[state]],
    ids=lambda each: getattr(each, "name", each),
)
def test_own_acts_on_a_due_job(
    lab: Lab, ours: Lab, scenario: Scenario, state: State, deed: Deed, other: Callable[[Lab], None]
) -> None:
    def attempt(step: Step) -> None:
        lab.clear()
        lab.fill(state, payload() if state is State.SCHEDULED else failed_payload(retry_count=1))
        with step.before(lambda: other(lab)):
            answers = deed.do(ours, state, ours.seen(state))
        poll_and_run(lab)
        done = scenario.count(answers)
        added = {"added": 1} if other is add_a_job and step.reached else {}
        assert lab.runs() == expected_runs(deed, done) | added
        assert lab.jids("dead") == ([jid_of("one")] if done and deed.dead else [])
        assert not lab.client.exists("retry", "schedule")

    name = f"{other.__name__} during {deed.name} of a due job, {state.value}"
    scenario.try_all(name, ours.proxy, attempt, at_least=3, always_done=other is add_a_job)


@pytest.mark.parametrize("deed", OF_SET[State.RETRYING], ids=lambda deed: deed.name)
def test_own_acts_on_a_job_that_the_app_reschedules(lab: Lab, ours: Lab, scenario: Scenario, deed: Deed) -> None:
    """Its bytes are the same at another time: it is not in the state in which it was seen."""

    def attempt(step: Step) -> None:
        lab.clear()
        lab.fill(State.RETRYING, failed_payload(retry_count=1), due=False)
        job_refs = lab.seen(State.RETRYING)
        with step.before(lambda: lab.client.zincrby("retry", 600, failed_entry(lab))):
            answers = deed.do(ours, State.RETRYING, job_refs)
        done = scenario.count(answers)
        if step.reached and step.number < 2:  # before it was looked for, and before it was acted on
            assert not done
            assert lab.jids("retry") == [jid_of("one")]
            assert not lab.client.exists("queue:work", "dead")
        lab.client.delete("queue:work", "retry", "dead")

    scenario.try_all(f"reschedule during {deed.name}", ours.proxy, attempt, at_least=2)


def failed_entry(lab: Lab) -> Any:
    """What stands in the retry set; something else where it is gone, which the app then does not find either."""
    found = lab.client.zrange("retry", 0, 0)
    return found[0] if found else failed_payload("two")
