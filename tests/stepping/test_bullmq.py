"""Every interleaving of one real BullMQ worker and one act, between any two Redis commands of the one or of the other.

BullMQ 6 runs all scenarios. 4 has another layout in all of them (markers in the waiting list, another way to wake), so
it runs them, too, but for those of schedulers, which it does not have. 5 differs from 6 where the queue is paused (a
list of its own) and where a retried job waits (not by its priority), and runs those scenarios alone: the rest is the
same script of ours on the same keys.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis

from dashboard.backends.actions import Action, ActionOptions, ActionResult, JobBackup, JobRef, Outcome
from dashboard.backends.bullmq.actions import queue_actions
from dashboard.backends.bullmq.backend import BullMQ
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import QueueRef, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.bullmq_library import BullMQLibrary, running_script
from tests.search import search
from tests.step_proxy import StepProxy

RELEASES = ("bullmq", "bullmq5", "bullmq4")
TAKES = frozenset({b"BZPOPMIN", b"BRPOPLPUSH", b"BLMOVE"})
# It waits for a job as briefly as 4 can (below 0.05 s that polls), and no timer of it asks Redis for anything.
WORKER = {"drainDelay": 0.06, "skipStalledCheck": True, "skipLockRenewal": True}
LISTS = ("wait", "paused", "active")
SETS = ("prioritized", "delayed", "waiting-children", "failed", "completed")
OWN = {*LISTS, *SETS, "id", "pc", "meta", "events", "marker", "repeat", "limiter", "stalled", "stalled-check"}
PARTS = ("lock", "logs", "dependencies", "processed", "failed", "unsuccessful")


def ref(name: str = "alpha") -> QueueRef:
    return QueueRef(source="main", backend="bullmq", name=name, key=f"bull:{name}")


class Stage:
    """A real worker of one release that takes jobs of `alpha` one at a time, held before it asks for the next one."""

    def __init__(self, alias: str, server: EmbeddedRedis, proxy: StepProxy, backend: BullMQ) -> None:
        self.alias = alias
        self.url = server.url
        self.proxy = proxy
        self.backend = backend
        self.client = redis.Redis.from_url(server.url, decode_responses=True)
        self._raw = redis.Redis.from_url(server.url)
        self._filled: dict[Callable[[Stage], None], dict[bytes, bytes]] = {}
        self.added: list[str] = []  # ids of jobs that the app added since the keys were put back

    def close(self) -> None:
        self.client.close()
        self._raw.close()

    def drive(self, command: str, queue: str = "alpha", **options: Any) -> Any:
        """What the library answers to a command of the app."""
        return BullMQLibrary(self.alias).drive(command, self.url, queue, **options)

    def fill(self, app: Callable[[Stage], None]) -> None:
        """Put all keys back as `app` made them with the real library; only the first time it does so."""
        self._raw.flushall()
        self.added.clear()
        if self.alias != "bullmq4":
            # It may wait until a job is due that stood there before: by this it forgets that one.
            self.client.zadd("bull:alpha:marker", {"0": 0})
            self.work()
            self._raw.flushall()
        if app not in self._filled:
            app(self)
            self._raw.delete("marks")
            self._filled[app] = {key: self._raw.dump(key) or b"" for key in self._raw.scan_iter()}
        else:
            with self._raw.pipeline() as pipeline:
                for key, value in self._filled[app].items():
                    pipeline.restore(key, 0, value)
                pipeline.execute()

    @property
    def wakes(self) -> bool:
        """Whether a worker that asks for a job gets an answer at once; 4 looks for jobs that are due without one."""
        if self.alias == "bullmq4":
            return bool(self.client.llen("bull:alpha:wait") or self.client.zcount("bull:alpha:delayed", 0, 4096))
        return bool(self.client.zcount("bull:alpha:marker", 0, 1))

    def work(self, turns: int = 0) -> None:
        """The worker runs all that wakes it, one job after the other; it asks for `turns` jobs at least."""
        while turns > 0 or self.wakes:
            self.proxy.take_turn()
            turns -= 1

    @property
    def ran(self) -> dict[str, int]:
        """How often each job was run, by id."""
        return {job_id: int(times) for job_id, times in self.client.hgetall("marks").items()}

    def places(self, queue: str) -> dict[str, list[str]]:
        """The lists and sets of a queue in which each job stands, by id."""
        found: dict[str, list[str]] = {}
        for name in LISTS:
            for job_id in self.client.lrange(f"bull:{queue}:{name}", 0, -1):
                if not job_id.startswith("0:"):  # the marker of 4
                    found.setdefault(job_id, []).append(name)
        for name in SETS:
            for job_id in self.client.zrange(f"bull:{queue}:{name}", 0, -1):
                found.setdefault(job_id, []).append(name)
        return found

    def check(self, queue: str) -> None:
        """Every job stands in one place, every place holds a job, and nothing is left of a job that is gone."""
        places = self.places(queue)
        base = f"bull:{queue}:"
        hashes, parts, keepers = set(), set(), {}
        schedules = {f"repeat:{name}" for name in self.client.zrange(f"{base}repeat", 0, -1)}
        for key in self.client.scan_iter(f"{base}*"):
            name = key.removeprefix(base)
            job_id, _, part = name.rpartition(":")
            if name in OWN or name in schedules:
                continue
            if name.startswith("de:"):
                keepers[name] = self.client.get(key)
            elif part in PARTS:
                parts.add((job_id, part))
            else:
                hashes.add(name)
        assert hashes == set(places), (hashes, places)
        assert {len(names) for names in places.values()} <= {1}, places
        assert {job_id for job_id, _ in parts} <= hashes, parts
        assert not [part for part in parts if part[1] == "lock"], (parts, places, self.ran)
        assert set(keepers.values()) <= hashes, keepers
        # What waits is waited for by a worker, unless the queue is paused; what runs has ended.
        left = {name for names in places.values() for name in names}
        assert "active" not in left, places
        if queue == "alpha":
            stuck = {"wait", "prioritized", "paused"} & left
            assert not stuck or self.client.hexists(f"{base}meta", "paused"), places


@contextlib.contextmanager
def staged(alias: str, server: EmbeddedRedis) -> Iterator[Stage]:
    source = Source("main", server.url)
    backend = BullMQ(source, SourceSettings(name="main", url=server.url))
    options = json.dumps({"concurrency": 1, "untimed": True, "settings": WORKER})
    with (
        StepProxy(server.port, takes=TAKES) as proxy,
        running_script("drive.mjs", alias, "consume", proxy.url, "alpha", options),
    ):
        proxy.wait_for_take()
        found = Stage(alias, server, proxy, backend)
        yield found
        found.close()
    source.close()


@pytest.fixture(scope="module")
def stages(server: EmbeddedRedis) -> Iterator[Callable[[str], Stage]]:
    """The stage of a release; its worker starts when it is first asked for and stays to the end."""
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda alias: stack.enter_context(staged(alias, server)))


@pytest.fixture
def stage(request: pytest.FixtureRequest, stages: Callable[[str], Stage]) -> Stage:
    return stages(request.param)


# What the app has made.


def three(stage: Stage) -> None:
    for _ in range(3):
        stage.drive("add")


def three_forgotten(stage: Stage) -> None:
    for _ in range(3):
        stage.drive("add", opts={"removeOnComplete": True})


def failing(stage: Stage) -> None:
    for _ in range(2):
        stage.drive("add", data={"failures": 1})


def urgent(stage: Stage) -> None:
    for priority in (2, 1):
        stage.drive("add", data={"failures": 1}, opts={"priority": priority})


def deduplicated(stage: Stage) -> None:
    for name in ("a", "b"):
        stage.drive("add", opts={"deduplication": {"id": name}})


def delayed(stage: Stage) -> None:
    stage.drive("add")
    stage.drive("add", opts={"delay": 3_600_000})
    stage.drive("add", opts={"delay": 3_600_000, "priority": 3})


def due(stage: Stage) -> None:
    """The second of them is due since 1970, which the worker sees when it next takes a job."""
    stage.drive("add")
    stage.drive("add", opts={"delay": 3_600_000})
    stage.client.zadd("bull:alpha:delayed", {"2": 4096}, xx=True)


def family(stage: Stage) -> None:
    stage.drive("flows", "albums", count=1, children=2, child_queue="alpha")


def broken_family(stage: Stage) -> None:
    stage.drive("flows", "albums", count=1, children=2, child_queue="alpha", data={"failures": 1})


def paused_family(stage: Stage) -> None:
    family(stage)
    stage.drive("pause", "albums")


def paused_queue(stage: Stage) -> None:
    three(stage)
    stage.drive("pause")


def two_queues(stage: Stage) -> None:
    three(stage)
    for _ in range(4):
        stage.drive("add", "beta")


def paused_target(stage: Stage) -> None:
    two_queues(stage)
    stage.drive("pause", "beta")


def scheduled(stage: Stage) -> None:
    """The next run of `nightly` is due since 1970."""
    stage.drive("schedule")
    stage.drive("add")
    (run,) = [job_id for job_id in stage.client.zrange("bull:alpha:delayed", 0, -1) if "nightly" in job_id]
    stage.client.zadd("bull:alpha:delayed", {run: 4096}, xx=True)


# What is done meanwhile.


@dataclass
class Answers:
    """What an act answered: `first` asked, and when it was asked again; `kept` = what was taken to be deleted."""

    first: list[ActionResult] = field(default_factory=list)
    again: list[ActionResult] = field(default_factory=list)
    back: list[ActionResult] = field(default_factory=list)
    kept: list[JobBackup] = field(default_factory=list)

    @property
    def done(self) -> list[str]:
        """The ids of those that were done when they were first asked for."""
        return [each.id for each in self.first if each.outcome is Outcome.DONE]


def acting(action: Action, state: State, *ids: str, queue: str = "alpha", **options: Any) -> Callable[..., None]:
    """The action, asked for twice, as two people or a process that died and the next one do."""

    def act(backend: BullMQ, answers: Answers) -> None:
        job_refs = [JobRef(id=job_id) for job_id in ids]
        answers.first += backend.act_on_jobs(ref(queue), action, state, job_refs, ActionOptions(**options))
        answers.again += backend.act_on_jobs(ref(queue), action, state, job_refs, ActionOptions(**options))

    return act


def take(backend: BullMQ, answers: Answers, state: State, queue: str, ids: Sequence[str]) -> None:
    taken = backend.backup_jobs(ref(queue), state, [JobRef(id=job_id) for job_id in ids])
    answers.kept += [each for each in taken if isinstance(each, JobBackup)]
    answers.first += [each for each in taken if isinstance(each, ActionResult)]


def delete(backend: BullMQ, answers: Answers, state: State, queue: str) -> None:
    answers.first += backend.delete_jobs(ref(queue), state, answers.kept)
    assert Outcome.DONE not in {each.outcome for each in backend.delete_jobs(ref(queue), state, answers.kept)}


def undo(backend: BullMQ, answers: Answers, state: State, queue: str) -> None:
    gone = [each for each in answers.kept if each.id in answers.done]
    answers.back += backend.restore_jobs(ref(queue), state, gone)
    again = backend.restore_jobs(ref(queue), state, gone)
    assert Outcome.DONE not in {each.outcome for each in again}, again


def deleting(state: State, *ids: str, queue: str = "alpha", back: bool = False) -> Callable[..., None]:
    """Taken and deleted, twice; with `back`, put back at once, twice."""

    def act(backend: BullMQ, answers: Answers) -> None:
        take(backend, answers, state, queue, ids)
        delete(backend, answers, state, queue)
        if back:
            undo(backend, answers, state, queue)

    return act


Before = Callable[[BullMQ, Answers], None]


def nothing(backend: BullMQ, answers: Answers) -> None:
    """No act."""


@dataclass(frozen=True)
class Scenario:
    """`act`, at each step of the worker, on what `app` made; `before` the worker begins, and `after` it has ended.

    `runs` = how often each job runs in the end, from the answers. Unless `sure`, both done and not-done answers occur.
    """

    name: str
    app: Callable[[Stage], None]
    act: Before
    runs: Callable[[Stage, Answers], Mapping[str, int]]
    before: Before = nothing
    after: Before = nothing
    sure: bool = False
    copies: bool = False  # asked for twice, it makes two
    turns: int = 0
    check: Callable[[Stage, Answers], None] = lambda *_: None
    queues: tuple[str, ...] = ("alpha",)
    releases: tuple[str, ...] = ("bullmq", "bullmq4")
    at_least: int = 5


def each_of(*ids: str) -> Callable[[Stage, Answers], Mapping[str, int]]:
    """Each once, and once more for each answer that it was done."""

    def runs(stage: Stage, answers: Answers) -> Mapping[str, int]:
        done = [each.id for each in (*answers.first, *answers.again) if each.outcome is Outcome.DONE]
        return {job_id: 1 + done.count(job_id) for job_id in ids}

    return runs


def once(*ids: str) -> Callable[[Stage, Answers], Mapping[str, int]]:
    """Each once, whatever was answered."""
    return lambda stage, answers: dict.fromkeys(ids, 1)


def but_for_the_deleted(*ids: str) -> Callable[[Stage, Answers], Mapping[str, int]]:
    """Each once, unless it was deleted and not put back."""

    def runs(stage: Stage, answers: Answers) -> Mapping[str, int]:
        back = {each.id for each in answers.back if each.outcome is Outcome.DONE}
        return {job_id: 1 for job_id in ids if job_id not in answers.done or job_id in back}

    return runs


def with_copies(*ids: str) -> Callable[[Stage, Answers], Mapping[str, int]]:
    """Each once, and so does each copy."""

    def runs(stage: Stage, answers: Answers) -> Mapping[str, int]:
        made = [each.new_id for each in (*answers.first, *answers.again) if each.outcome is Outcome.DONE]
        assert None not in made
        return {**dict.fromkeys(ids, 1), **{str(new_id): 1 for new_id in made}}

    return runs


def all_back(stage: Stage, answers: Answers) -> None:
    """What was deleted came back."""
    assert {each.outcome for each in answers.back} <= {Outcome.DONE}, answers.back
    assert len(answers.back) == len(answers.done)


def gone_for_good(stage: Stage, answers: Answers) -> None:
    """What was deleted stands nowhere."""
    assert not set(answers.done) & set(stage.places("alpha")), answers


def dead_again(stage: Stage, answers: Answers) -> None:
    """What was put back among the dead stands there."""
    all_back(stage, answers)
    assert stage.places("alpha") == {"1": ["failed"], "2": ["failed"]}


def parent_is_free(stage: Stage, answers: Answers) -> None:
    """The parent waits for nobody: it stands in line, unless it was deleted."""
    away = "p0" in answers.done and not answers.back
    paused = stage.client.hexists("bull:albums:meta", "paused")
    line = "paused" if paused and stage.alias != "bullmq" else "wait"
    assert stage.places("albums") == ({} if away else {"p0": [line]}), answers
    if not paused and stage.alias != "bullmq4" and not away:
        assert stage.client.exists("bull:albums:marker")  # a worker of it is woken
    assert {each.outcome for each in answers.back} <= {Outcome.DONE}, answers.back


def moved(stage: Stage, answers: Answers) -> None:
    """What was moved waits in the other queue, and there alone."""
    stage.check("beta")
    waiting = {job_id for job_id, names in stage.places("beta").items() if names[0] in ("wait", "paused")}
    new = {str(each.new_id) for each in answers.first if each.outcome is Outcome.DONE}
    assert waiting == {"1", "2", "3", "4"} | new
    assert not set(answers.done) & set(stage.places("alpha"))


def obliterated(stage: Stage, answers: Answers) -> None:
    """Nothing is left of the queue but what the worker wrote since."""
    if answers.done:
        assert stage.places("alpha") == {}
        assert not stage.client.exists("bull:alpha:meta", "bull:alpha:id")


def resumed(stage: Stage, answers: Answers) -> None:
    assert not stage.client.hexists("bull:alpha:meta", "paused")
    assert {each.outcome for each in answers.first} <= {Outcome.DONE}
    assert not any(each.more for each in answers.first)


def in_parts(action: Action) -> Before:
    """An action on the queue that is asked for until there is no more to do."""

    def act(backend: BullMQ, answers: Answers) -> None:
        while (answer := backend.act_on_queue(ref(), action)).more:
            assert answer.outcome is Outcome.DONE
        answers.first.append(answer)

    return act


def queue_act(*actions: Action) -> Before:
    """Actions on the queue, one after the other."""

    def act(backend: BullMQ, answers: Answers) -> None:
        for action in actions:
            answers.first.append(backend.act_on_queue(ref(), action))

    return act


def paused_meanwhile(act: Before) -> Before:
    """The queue is paused, then acted on; it is resumed when the worker has ended."""

    def both(backend: BullMQ, answers: Answers) -> None:
        assert backend.act_on_queue(ref(), Action.PAUSE).outcome is Outcome.DONE
        act(backend, answers)

    return both


def awake(act: Before) -> Before:
    """The act, after which a worker that waits until a delayed job is due, 10 s at most, looks for jobs at once."""

    def both(backend: BullMQ, answers: Answers) -> None:
        act(backend, answers)
        backend.source.execute("ZADD", "bull:alpha:marker", 0, "0")

    return both


def resume(backend: BullMQ, answers: Answers) -> None:
    assert backend.act_on_queue(ref(), Action.RESUME).outcome in (Outcome.DONE, Outcome.GONE)


def on_schedule(action: Action) -> Before:
    """The action on the schedule `nightly`, asked for twice where that matters."""

    def act(backend: BullMQ, answers: Answers) -> None:
        for schedule in backend.list_schedules(search(backend)):
            if schedule.id == "nightly":
                answers.first.append(backend.act_on_schedule(schedule, action))

    return act


def delete_next_run(backend: BullMQ, answers: Answers) -> None:
    """Whatever runs of a schedule are due are asked to be deleted."""
    runs = [key.decode().rpartition("bull:alpha:")[2] for key in _source_scan(backend)]
    take(backend, answers, State.SCHEDULED, "alpha", runs)
    delete(backend, answers, State.SCHEDULED, "alpha")


def _source_scan(backend: BullMQ) -> list[bytes]:
    found: list[bytes] = backend.source.execute("KEYS", "bull:alpha:repeat:nightly:*")
    return found


def schedule_lives(stage: Stage, answers: Answers) -> None:
    """The schedule has its next run, and the one that was due has run."""
    assert not answers.done, answers
    at = stage.client.zscore("bull:alpha:repeat", "nightly")
    assert stage.places("alpha")[f"repeat:nightly:{int(at or 0)}"] == ["delayed"]


def schedule_is_gone(stage: Stage, answers: Answers) -> None:
    """Nothing is left that would run it."""
    if answers.done:
        assert stage.client.zscore("bull:alpha:repeat", "nightly") is None
        assert not stage.client.exists("bull:alpha:repeat:nightly")
        assert not [
            names for job_id, names in stage.places("alpha").items() if "nightly" in job_id and "delayed" in names
        ]


ALL = RELEASES
D, W, S, B, C = State.DEAD, State.WAITING, State.SCHEDULED, State.BLOCKED, State.COMPLETED


def albums(name: str, act: Before, **more: Any) -> Scenario:
    """A scenario of a parent in `albums` with two children in `alpha`."""
    more = {"app": family, "runs": but_for_the_deleted("p0c0", "p0c1"), "check": parent_is_free} | more
    return Scenario(name, act=act, queues=("alpha", "albums"), **more)


SCENARIOS = [
    Scenario("retry of dead", failing, acting(Action.RETRY, D, "1", "2"), each_of("1", "2")),
    Scenario(
        "retry of dead with a priority",
        urgent,
        acting(Action.RETRY, D, "1", "2"),
        each_of("1", "2"),
        releases=ALL,
    ),
    Scenario(
        "retry of dead in a paused queue",
        failing,
        paused_meanwhile(acting(Action.RETRY, D, "1", "2")),
        each_of("1", "2"),
        after=resume,
        releases=ALL,
    ),
    Scenario("retry of completed", three, acting(Action.RETRY, C, "1", "2"), each_of("1", "2", "3")),
    Scenario(
        "delete of waiting",
        three,
        deleting(W, "1", "2"),
        but_for_the_deleted("1", "2", "3"),
        check=gone_for_good,
    ),
    Scenario(
        "delete and undo of waiting",
        three,
        deleting(W, "1", "3", back=True),
        but_for_the_deleted("1", "2", "3"),
        check=all_back,
    ),
    Scenario(
        "delete and undo in a paused queue",
        three,
        paused_meanwhile(deleting(W, "1", "3", back=True)),
        once("1", "2", "3"),
        after=resume,
        check=all_back,
        releases=ALL,
    ),
    Scenario(
        "delete of what was taken before",
        three,
        lambda b, a: delete(b, a, W, "alpha"),
        but_for_the_deleted("1", "2", "3"),
        before=lambda b, a: take(b, a, W, "alpha", ["1", "2"]),
        check=gone_for_good,
    ),
    Scenario(
        "undo of what was deleted before",
        three,
        lambda b, a: undo(b, a, W, "alpha"),
        but_for_the_deleted("1", "2", "3"),
        before=deleting(W, "1", "3"),
        sure=True,
    ),
    Scenario(
        "undo of a deduplicated job",
        deduplicated,
        deleting(W, "1", back=True),
        once("1", "2"),
        check=all_back,
    ),
    Scenario("delete and undo of dead", failing, deleting(D, "1", back=True), once("1", "2"), check=dead_again),
    Scenario("delete of dead", failing, deleting(D, "1"), once("1", "2"), check=gone_for_good),
    Scenario("delete of completed", three, deleting(C, "1"), once("1", "2", "3"), check=gone_for_good),
    Scenario("delete and undo of completed", three, deleting(C, "1", back=True), once("1", "2", "3"), check=all_back),
    Scenario("promote of delayed", delayed, acting(Action.PROMOTE, S, "2", "3"), once("1", "2", "3"), sure=True),
    Scenario(
        "promote in a paused queue",
        delayed,
        awake(paused_meanwhile(acting(Action.PROMOTE, S, "2", "3"))),
        once("1", "2", "3"),
        after=resume,
        sure=True,
        releases=ALL,
    ),
    Scenario("promote of due", due, acting(Action.PROMOTE, S, "2"), once("1", "2")),
    Scenario("delete of due", due, deleting(S, "2"), but_for_the_deleted("1", "2"), check=gone_for_good),
    Scenario("delete and undo of due", due, deleting(S, "2", back=True), once("1", "2"), check=all_back),
    albums("delete of a child", deleting(W, "p0c1")),
    albums("delete and undo of a child", deleting(W, "p0c1", back=True)),
    albums(
        "undo of a child deleted before",
        lambda b, a: undo(b, a, W, "alpha"),
        before=deleting(W, "p0c1"),
        sure=True,
    ),
    albums("delete of a parent", deleting(B, "p0", queue="albums"), runs=once("p0c0", "p0c1")),
    albums("delete and undo of a parent", deleting(B, "p0", queue="albums", back=True), runs=once("p0c0", "p0c1")),
    albums(
        "undo of a parent deleted before",
        lambda b, a: undo(b, a, B, "albums"),
        before=deleting(B, "p0", queue="albums"),
        runs=once("p0c0", "p0c1"),
        sure=True,
    ),
    albums("delete of a child of a paused parent", deleting(W, "p0c1"), app=paused_family, releases=ALL),
    Scenario(
        "move to another queue",
        two_queues,
        acting(Action.MOVE, W, "1", "2", target="beta"),
        but_for_the_deleted("1", "2", "3"),
        check=moved,
    ),
    Scenario(
        "move to a paused queue",
        paused_target,
        acting(Action.MOVE, W, "1", "2", target="beta"),
        but_for_the_deleted("1", "2", "3"),
        check=moved,
        releases=ALL,
    ),
    Scenario(
        "move from another queue",
        two_queues,
        acting(Action.MOVE, W, "1", "4", queue="beta", target="alpha"),
        with_copies("1", "2", "3"),
        sure=True,
        queues=("alpha", "beta"),
    ),
    Scenario(
        "duplicate",
        three_forgotten,
        acting(Action.DUPLICATE, W, "1", "2"),
        with_copies("1", "2", "3"),
        copies=True,
    ),
    Scenario(
        "edit",
        three_forgotten,
        acting(Action.EDIT, W, "1", "2", payload='{"n": 7}'),
        with_copies("1", "2", "3"),
        copies=True,
    ),
    Scenario("pause", three, queue_act(Action.PAUSE), once("1", "2", "3"), after=resume, sure=True, releases=ALL),
    Scenario(
        "pause and resume",
        three,
        queue_act(Action.PAUSE, Action.RESUME),
        once("1", "2", "3"),
        check=resumed,
        sure=True,
        releases=ALL,
    ),
    Scenario(
        "resume",
        paused_queue,
        queue_act(Action.RESUME),
        once("1", "2", "3"),
        check=resumed,
        sure=True,
        turns=2,
        at_least=2,
        after=resume,
        releases=ALL,
    ),
    Scenario(
        "obliterate",
        three,
        queue_act(Action.OBLITERATE),
        lambda stage, answers: stage.ran if answers.done else dict.fromkeys("123", 1),
        check=obliterated,
    ),
    Scenario(
        "trigger of a schedule",
        scheduled,
        on_schedule(Action.TRIGGER),
        lambda stage, answers: dict.fromkeys((*stage.ran, *(str(each.new_id) for each in answers.first)), 1),
        sure=True,
        releases=("bullmq",),
    ),
    Scenario(
        "removal of a schedule",
        scheduled,
        on_schedule(Action.REMOVE_SCHEDULE),
        lambda stage, answers: dict.fromkeys(stage.ran, 1),
        check=schedule_is_gone,
        sure=True,
        releases=("bullmq",),
    ),
    Scenario(
        "delete of the next run of a schedule",
        scheduled,
        delete_next_run,
        lambda stage, answers: dict.fromkeys(stage.ran, 1),
        check=schedule_lives,
        releases=("bullmq",),
        sure=True,
    ),
]


@pytest.mark.parametrize(
    ("stage", "scenario"),
    [
        pytest.param(alias, each, id=f"{alias}-{each.name.replace(' ', '-')}")
        for alias in RELEASES
        for each in SCENARIOS
        if alias in each.releases
    ],
    indirect=["stage"],
)
def test_an_act_at_each_step_of_a_worker(
    stage: Stage, scenario: Scenario, record_property: Callable[[str, object], None]
) -> None:
    told: Counter[bool] = Counter()
    driven = 0
    for step in stage.proxy.steps():
        stage.fill(scenario.app)
        answers = Answers()
        scenario.before(stage.backend, answers)
        asked = len(answers.first)
        act = lambda: scenario.act(stage.backend, answers)  # noqa: B023, E731 it is over before the next step
        with step.before(act):
            stage.work(scenario.turns)
        if not step.reached:  # and once more beside a worker that has nothing to do
            act()
            stage.work()
        scenario.after(stage.backend, answers)
        stage.work()
        driven += 1
        told.update(each.outcome is Outcome.DONE for each in answers.first[asked:])
        assert scenario.copies or Outcome.DONE not in {each.outcome for each in answers.again}, (str(step), answers)
        assert stage.ran == scenario.runs(stage, answers), (str(step), answers)
        for queue in scenario.queues:
            stage.check(queue)
        scenario.check(stage, answers)
    record_property("interleavings", [stage.alias, scenario.name, driven])
    assert driven >= scenario.at_least
    assert scenario.sure or (told[True] and told[False]), told


# The other way round: what happens between two commands of an act.


def worker_runs(stage: Stage) -> None:
    stage.work()


def app_adds(stage: Stage) -> None:
    stage.added.append(stage.drive("add")["id"])


def app_pauses(stage: Stage) -> None:
    stage.drive("pause")


def app_resumes(stage: Stage) -> None:
    stage.drive("resume")


def app_pauses_and_resumes(stage: Stage) -> None:
    stage.drive("pause")
    stage.drive("resume")


MEANWHILE = (worker_runs, app_adds, app_pauses, app_pauses_and_resumes)


@dataclass(frozen=True)
class Interrupted(Scenario):
    """`act` goes through the proxy, and each of `meanwhile` happens at each of its commands."""

    meanwhile: tuple[Callable[[Stage], None], ...] = MEANWHILE
    removes: bool = False  # what the app adds meanwhile need not run
    releases: tuple[str, ...] = ("bullmq", "bullmq4")
    at_least: int = 2


def empty_or_added(stage: Stage, answers: Answers) -> None:
    """Nothing is left of a queue that was removed, but for what the app added since."""
    assert answers.done
    assert set(stage.places("alpha")) <= set(stage.added)


def tried_once_more(stage: Stage, answers: Answers) -> None:
    """Of the copy of a job that was there when it was read, there is one."""
    assert {each.outcome for each in answers.first} <= {Outcome.DONE, Outcome.GONE}


INTERRUPTED = [
    Interrupted("retry of dead", failing, acting(Action.RETRY, D, "1", "2"), each_of("1", "2")),
    Interrupted("retry of completed", three, acting(Action.RETRY, C, "1", "2"), each_of("1", "2", "3")),
    Interrupted("delete of waiting", three, deleting(W, "1", "2"), but_for_the_deleted("1", "2", "3")),
    Interrupted(
        "delete and undo of waiting",
        three,
        deleting(W, "1", "3", back=True),
        once("1", "2", "3"),
        check=all_back,
        releases=ALL,
    ),
    Interrupted("undo of a deduplicated job", deduplicated, deleting(W, "1", back=True), once("1", "2")),
    Interrupted("delete and undo of due", due, deleting(S, "2", back=True), once("1", "2"), check=all_back),
    Interrupted("promote of due", due, acting(Action.PROMOTE, S, "2"), once("1", "2")),
    Interrupted(
        "delete and undo of a child",
        family,
        deleting(W, "p0c1", back=True),
        once("p0c0", "p0c1"),
        check=parent_is_free,
        queues=("alpha", "albums"),
    ),
    Interrupted(
        "delete and undo of a parent",
        family,
        deleting(B, "p0", queue="albums", back=True),
        once("p0c0", "p0c1"),
        check=parent_is_free,
        queues=("alpha", "albums"),
    ),
    Interrupted(
        "move to another queue",
        two_queues,
        acting(Action.MOVE, W, "1", "2", target="beta"),
        but_for_the_deleted("1", "2", "3"),
        check=moved,
        queues=("alpha", "beta"),
    ),
    Interrupted(
        "duplicate",
        three_forgotten,
        acting(Action.DUPLICATE, W, "1"),
        with_copies("1", "2", "3"),
        check=tried_once_more,
    ),
    Interrupted(
        "edit",
        three_forgotten,
        acting(Action.EDIT, W, "1", payload='{"n": 7}'),
        with_copies("1", "2", "3"),
        check=tried_once_more,
    ),
    Interrupted(
        "pause in parts",
        three,
        in_parts(Action.PAUSE),
        once("1", "2", "3"),
        after=resume,
        releases=ALL,
        at_least=1,
        meanwhile=(worker_runs, app_adds, app_resumes),
    ),
    Interrupted(
        "resume in parts",
        paused_queue,
        in_parts(Action.RESUME),
        once("1", "2", "3"),
        releases=ALL,
        at_least=1,
        meanwhile=(worker_runs, app_adds, app_pauses, app_resumes),
    ),
    Interrupted(
        "obliterate in parts",
        three,
        in_parts(Action.OBLITERATE),
        lambda stage, answers: stage.ran,
        check=empty_or_added,
        meanwhile=(app_adds,),
        at_least=4,
        removes=True,
    ),
    Interrupted(
        "trigger of a schedule",
        scheduled,
        on_schedule(Action.TRIGGER),
        lambda stage, answers: dict.fromkeys({*stage.ran, *(str(each.new_id) for each in answers.first)}, 1),
        releases=("bullmq",),
    ),
    Interrupted(
        "removal of a schedule",
        scheduled,
        on_schedule(Action.REMOVE_SCHEDULE),
        lambda stage, answers: dict.fromkeys(stage.ran, 1),
        check=schedule_is_gone,
        releases=("bullmq",),
    ),
]


@pytest.fixture(scope="module")
def own(server: EmbeddedRedis) -> Iterator[tuple[StepProxy, BullMQ]]:
    """The backend behind a proxy of its own."""
    with StepProxy(server.port) as proxy:
        source = Source("main", proxy.url)
        source.execute("PING")  # the handshake of its connection is no step
        yield proxy, BullMQ(source, SourceSettings(name="main", url=proxy.url))
        source.close()


@pytest.mark.parametrize(
    ("stage", "scenario"),
    [
        pytest.param(alias, each, id=f"{alias}-{each.name.replace(' ', '-')}")
        for alias in RELEASES
        for each in INTERRUPTED
        if alias in each.releases
    ],
    indirect=["stage"],
)
def test_a_worker_and_an_app_at_each_step_of_an_act(
    stage: Stage,
    own: tuple[StepProxy, BullMQ],
    scenario: Interrupted,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    monkeypatch.setattr(queue_actions, "MOVED_AT_ONCE", 1)
    monkeypatch.setattr(queue_actions, "OBLITERATE_STEP", 1)
    proxy, backend = own
    driven = 0
    for meanwhile in scenario.meanwhile:
        steps = 0
        for step in proxy.steps():
            stage.fill(scenario.app)
            answers = Answers()
            with step.before(lambda: meanwhile(stage)):  # noqa: B023 it is over before the next one
                scenario.act(backend, answers)
            stage.work()
            if meanwhile is app_pauses:
                stage.drive("resume")
            scenario.after(stage.backend, answers)
            stage.work()
            steps += step.reached
            added = {} if scenario.removes else dict.fromkeys(stage.added, 1)
            assert stage.ran == {**scenario.runs(stage, answers), **added}, (meanwhile.__name__, str(step), answers)
            for queue in scenario.queues:
                stage.check(queue)
            scenario.check(stage, answers)
        assert steps >= scenario.at_least, meanwhile
        driven += steps
    record_property("interleavings", [stage.alias, f"{scenario.name}, at each of its steps", driven])
