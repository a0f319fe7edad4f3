"""Sidekiq's real process meets each of our actions at every point of its work: no job is lost, and none runs twice.

Its thread that runs jobs, and its poller that sends due jobs to their queues, each run through a proxy that stops them
before their k-th command; the action runs there, for every k.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import redis

from dashboard.backends.acting import Acted, Action, Kept, Outcome, Pick, Wishes
from dashboard.backends.base import NO_WISHES
from dashboard.backends.sidekiq.backend import Sidekiq
from dashboard.model import JobQuery, QueueRef, State
from dashboard.settings import SourceSettings
from dashboard.sources import Source
from tests.conftest import start_server
from tests.contract.sidekiq_worker import failed, payload, worker
from tests.step_proxy import Command, StepProxy
from tests.waiting import wait_until

QUEUE = QueueRef(source="main", backend="sidekiq", name="work", key="queue:work")
SETS = QueueRef(source="main", backend="sidekiq", name="*", key="*", shared=True)
KEYS = {State.SCHEDULED: "schedule", State.RETRYING: "retry", State.DEAD: "dead"}
DONE, GONE = Outcome.DONE, Outcome.GONE
# These of a job's keys are the steps; heartbeats and figures of the process are none.
OF_JOBS = {b"runs", *(key.encode() for key in KEYS.values())}


def is_about_jobs(command: Command) -> bool:
    """Whether a command of the process reads or moves a job."""
    return any(word in OF_JOBS or word.startswith(b"queue:") for word in command[1:])


@dataclass
class Rig:
    """A Sidekiq behind a proxy, and what our actions answered."""

    port: int
    client: redis.Redis
    backend: Sidekiq
    proxy: StepProxy
    done: Counter[str] = field(default_factory=Counter)
    outcomes: set[Outcome] = field(default_factory=set)
    markers: int = 0

    def clear(self) -> None:
        """Remove all jobs; what the process keeps of itself stays."""
        self.client.delete("queue:work", "queue:other", "retry", "schedule", "dead", "runs")
        self.done.clear()

    def ref(self, state: State) -> QueueRef:
        """Where jobs of a state are found."""
        return QUEUE if state is State.WAITING else SETS

    def add(self, state: State, job: str) -> list[Pick]:
        """Put a job there, due for a minute where it has a time; as a person then sees it."""
        if state is State.WAITING:
            self.client.lpush("queue:work", job)
        else:
            self.client.zadd(KEYS[state], {job: time.time() - 60})
        return self.seen(state)

    def seen(self, state: State) -> list[Pick]:
        """The jobs of a state as a person sees them now."""
        return self.backend.picks(self.ref(state), JobQuery(state=state))

    def note(self, word: str, acted: Sequence[Acted]) -> None:
        """Remember what was done."""
        self.outcomes |= {each.outcome for each in acted}
        self.done[word] += sum(each.outcome is DONE for each in acted)

    def act(self, action: Action, state: State, picks: list[Pick], wishes: Wishes = NO_WISHES) -> list[Acted]:
        """One action of ours; its answers."""
        acted = self.backend.act(self.ref(state), action, state, picks, wishes) if picks else []
        self.note(action.value, acted)
        return acted

    def delete(self, state: State, picks: list[Pick]) -> list[Kept]:
        """Delete jobs; what is needed to put those back that were really deleted."""
        taken = self.backend.take(self.ref(state), state, picks) if picks else []
        self.outcomes |= {each.outcome for each in taken if isinstance(each, Acted)}
        kept = [each for each in taken if isinstance(each, Kept)]
        acted = self.backend.delete(self.ref(state), state, kept) if kept else []
        self.note("delete", acted)
        return [job for job, each in zip(kept, acted, strict=True) if each.outcome is DONE]

    def restore(self, state: State, kept: list[Kept]) -> None:
        """Put jobs back, twice, as a process that died and its successor do."""
        for _ in range(2 if kept else 0):
            acted = self.backend.restore(self.ref(state), state, kept)
            self.done["restore"] += sum(each.outcome is DONE for each in acted)

    def runs(self) -> dict[str, int]:
        """How often each job ran."""
        return {name.decode(): int(count) for name, count in self.client.hgetall("runs").items()}

    def left(self) -> list[str]:
        """The keys that still hold a job."""
        return [key for key in ("queue:work", "queue:other", "retry", "schedule", "dead") if self.client.exists(key)]

    def finish(self) -> None:
        """Let the thread that runs jobs run all that is in line."""
        while self.client.exists("queue:work", "queue:other"):
            self.proxy.take_turn()

    def poll(self) -> None:
        """Let the poller look through both sets, until nothing in them is due."""
        for _ in range(3):
            self.proxy.take_turn()
        while self.client.exists("retry", "schedule"):
            self.proxy.take_turn()

    def run_all(self) -> None:
        """Return when all that was sent to the queue so far has run: there is one thread, and it keeps the order."""
        self.markers += 1
        name = f"marker {self.markers}"
        self.client.lpush("queue:work", payload(name))
        wait_until(lambda: self.client.hexists("runs", name), what="the last job of the queue")
        self.client.hdel("runs", name)


@contextmanager
def rig_of(takes: bytes, counts: Callable[[Command], bool], poll_s: float) -> Iterator[Rig]:
    """A Sidekiq of one thread on a Redis of its own: another process on it would take its jobs."""
    with (
        start_server("redis-7") as server,
        redis.Redis.from_url(server.url) as client,
        StepProxy(server.port, takes=frozenset({takes}), counts=counts) as proxy,
        worker(proxy.url, threads=1, poll_s=poll_s),
    ):
        source = Source("main", server.url)
        proxy.wait_for_take()
        yield Rig(server.port, client, Sidekiq(source, SourceSettings(name="main", url=server.url)), proxy)
        source.close()


@pytest.fixture(scope="module")
def thread() -> Iterator[Rig]:
    """The one thread that runs jobs is stepped; the poller looks once an hour."""
    with rig_of(b"BRPOP", is_about_jobs, 3600) as rig:
        yield rig


@pytest.fixture(scope="module")
def poller() -> Iterator[Rig]:
    """The poller is stepped; jobs run as soon as they are in their queue."""

    def sends_jobs(command: Command) -> bool:
        return command[0].upper() != b"BRPOP" and b"runs" not in command and is_about_jobs(command)

    with rig_of(b"EVALSHA", sends_jobs, 0.01) as rig:
        yield rig


Act = Callable[[Rig, State, list[Pick]], None]
# A job that succeeds, one that will be tried again, one that has failed for the last time: where each ends.
GOOD, AGAIN, LAST = payload(), payload(args=["one", "fail"]), failed(args=["one", "fail"], retry_count=24)
TO_OTHER = Wishes(target="other")


def acting(action: Action, wishes: Wishes = NO_WISHES) -> Act:
    def act(rig: Rig, state: State, picks: list[Pick]) -> None:
        rig.act(action, state, picks, wishes)

    return act


def delete(rig: Rig, state: State, picks: list[Pick]) -> None:
    rig.delete(state, picks)


def delete_and_restore(rig: Rig, state: State, picks: list[Pick]) -> None:
    rig.restore(state, rig.delete(state, picks))


def of_the_job(rig: Rig) -> dict[str, int]:
    """How often the job had to run, after all that was done to it: none of these copies it."""
    times = 1 + rig.done["retry"] + rig.done["promote"]
    return {"one": times}


# What a person does, to a job of which state, as the job is; whether the pick is one from before the worker began.
ON_A_JOB_THAT_RUNS: dict[str, tuple[str, State, Act]] = {
    "move a waiting job": (GOOD, State.WAITING, acting(Action.MOVE, TO_OTHER)),
    "delete a waiting job": (GOOD, State.WAITING, delete),
    "delete a waiting job, put it back": (GOOD, State.WAITING, delete_and_restore),
    "retry a failed job": (AGAIN, State.RETRYING, acting(Action.RETRY)),
    "promote a failed job": (AGAIN, State.RETRYING, acting(Action.PROMOTE)),
    "kill a failed job": (AGAIN, State.RETRYING, acting(Action.KILL)),
    "delete a failed job": (AGAIN, State.RETRYING, delete),
    "delete a failed job, put it back": (AGAIN, State.RETRYING, delete_and_restore),
    "retry a dead job": (LAST, State.DEAD, acting(Action.RETRY)),
    "delete a dead job": (LAST, State.DEAD, delete),
    "delete a dead job, put it back": (LAST, State.DEAD, delete_and_restore),
}


@pytest.mark.parametrize("name", ON_A_JOB_THAT_RUNS)
def test_an_action_on_the_job_that_a_thread_runs(
    thread: Rig, name: str, record_property: Callable[[str, object], None]
) -> None:
    job, state, act = ON_A_JOB_THAT_RUNS[name]
    thread.outcomes.clear()
    done, missed, steps = 0, 0, 0
    for step in thread.proxy.steps():
        thread.clear()
        before = thread.add(State.WAITING, job)

        def run(before: list[Pick] = before) -> None:
            act(thread, state, before if state is State.WAITING else thread.seen(state))

        with step.before(run):
            thread.finish()
        thread.finish()
        if not step.reached:
            break
        steps += 1
        done += bool(+thread.done)
        missed += not +thread.done
        away = thread.done["delete"] - thread.done["restore"]
        ran = {} if away and state is State.WAITING else of_the_job(thread)
        assert thread.runs() == ran, (str(step), thread.done)
        ends = {GOOD: [], AGAIN: ["dead" if thread.done["kill"] else "retry"], LAST: ["dead"]}[job]
        assert thread.left() == ([] if away else ends), (str(step), thread.done)
    assert steps >= 3
    assert done
    assert missed
    record_property("interleavings", ["sidekiq", name, steps])


ON_A_DUE_JOB: dict[str, tuple[State, Act, list[str]]] = {
    "retry a due retry": (State.RETRYING, acting(Action.RETRY), []),
    "promote a due retry": (State.RETRYING, acting(Action.PROMOTE), []),
    "kill a due retry": (State.RETRYING, acting(Action.KILL), ["dead"]),
    "delete a due retry": (State.RETRYING, delete, []),
    "delete a due retry, put it back": (State.RETRYING, delete_and_restore, []),
    "promote a due scheduled job": (State.SCHEDULED, acting(Action.PROMOTE), []),
    "kill a due scheduled job": (State.SCHEDULED, acting(Action.KILL), ["dead"]),
    "delete a due scheduled job": (State.SCHEDULED, delete, []),
    "delete a due scheduled job, put it back": (State.SCHEDULED, delete_and_restore, []),
}


@pytest.mark.parametrize("name", ON_A_DUE_JOB)
def test_an_action_on_a_job_that_the_poller_sends_to_its_queue(
    poller: Rig, name: str, record_property: Callable[[str, object], None]
) -> None:
    state, act, kept_in = ON_A_DUE_JOB[name]
    poller.outcomes.clear()
    steps = 0
    for step in poller.proxy.steps():
        poller.clear()
        picks = poller.add(state, failed() if state is State.RETRYING else payload())
        with step.before(lambda picks=picks: act(poller, state, picks)):  # type: ignore[misc]
            poller.poll()
        poller.poll()
        poller.run_all()
        if not step.reached:
            break
        steps += 1
        ended = (poller.done["delete"] > poller.done["restore"]) or poller.done["kill"]
        assert poller.runs() == ({} if ended else {"one": 1}), (str(step), poller.done)
        assert poller.left() == (kept_in if ended else []), (str(step), poller.done)
    assert steps >= 3
    assert {DONE, GONE} <= poller.outcomes
    record_property("interleavings", ["sidekiq", name, steps])


OWN_SIDE: dict[str, tuple[State, Act]] = {
    "move a waiting job": (State.WAITING, acting(Action.MOVE, TO_OTHER)),
    "delete a waiting job, put it back": (State.WAITING, delete_and_restore),
    "copy a waiting job": (State.WAITING, acting(Action.DUPLICATE)),
    "retry a dead job": (State.DEAD, acting(Action.RETRY)),
    "delete a dead job, put it back": (State.DEAD, delete_and_restore),
}


@pytest.mark.parametrize("name", OWN_SIDE)
def test_a_thread_runs_jobs_between_two_commands_of_an_action(
    thread: Rig, name: str, record_property: Callable[[str, object], None]
) -> None:
    """The other way round: our action is held before its k-th command, and the process runs all that is in line."""
    state, act = OWN_SIDE[name]
    steps = 0
    with StepProxy(thread.port) as ours:
        source = Source("main", ours.url)
        backend = Sidekiq(source, SourceSettings(name="main", url=ours.url))
        acting_rig = Rig(thread.port, thread.client, backend, thread.proxy)
        source.execute("PING")
        for step in ours.steps():
            thread.clear()
            acting_rig.done.clear()
            picks = thread.add(state, GOOD if state is State.WAITING else failed())
            with step.before(thread.finish):
                act(acting_rig, state, picks)
            thread.finish()
            if not step.reached:
                break
            steps += 1
            done = acting_rig.done
            away = done["delete"] > done["restore"]
            times = (state is State.WAITING and not away) + done["retry"] + done["duplicate"]
            assert thread.runs() == ({"one": times} if times else {}), (str(step), done)
            kept_in = ["dead"] if state is State.DEAD and not away and not done["retry"] else []
            assert thread.left() == kept_in, (str(step), done)
        source.close()
    assert steps >= 1
    assert DONE in acting_rig.outcomes
    record_property("interleavings", ["sidekiq", f"worker within: {name}", steps])


@pytest.mark.parametrize("act", [Action.RETRY, Action.PROMOTE, Action.KILL, Action.DELETE], ids=lambda act: act.value)
def test_a_job_that_gets_another_time_during_an_action_stays(
    thread: Rig, act: Action, record_property: Callable[[str, object], None]
) -> None:
    """A person acts on a job as it was seen: one that failed again since then has another score, and is left alone."""
    steps = 0
    with StepProxy(thread.port) as ours:
        source = Source("main", ours.url)
        rig = Rig(thread.port, thread.client, Sidekiq(source, SourceSettings(name="main", url=ours.url)), thread.proxy)
        source.execute("PING")
        for step in ours.steps():
            thread.clear()
            rig.outcomes.clear()
            picks = thread.add(State.RETRYING, AGAIN)
            with step.before(lambda: thread.client.zadd("retry", {AGAIN: time.time() + 3600})):
                if act is Action.DELETE:
                    rig.delete(State.RETRYING, picks)
                else:
                    rig.act(act, State.RETRYING, picks)
            if not step.reached:
                break
            steps += 1
            assert rig.outcomes <= {Outcome.CHANGED, GONE}, str(step)
            assert thread.left() == ["retry"], str(step)
        source.close()
    assert steps >= 1
    record_property("interleavings", ["sidekiq", f"another time within: {act.value}", steps])


def test_the_payload_of_a_retried_job_is_that_of_the_failed_one(thread: Rig) -> None:
    """The stepping tests count runs by name: this one shows that the job which ran is the one that failed."""
    thread.clear()
    picks = thread.add(State.DEAD, LAST)
    thread.act(Action.RETRY, State.DEAD, picks)
    (raw,) = thread.client.lrange("queue:work", 0, -1)
    assert json.loads(raw)["jid"] == json.loads(LAST)["jid"]
    thread.finish()
