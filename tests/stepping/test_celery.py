"""Every interleaving of one real Celery worker and one act, between any two Redis commands of the one or of the other.

The worker runs its jobs itself (pool `solo`), so that it does one thing at a time. Orders for workers are acted on when
it next looks: those that it has to answer (pause) are tried at each of their own steps alone, beside a worker at rest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from celery import Celery as App
from celery import chord

from dashboard.backends.actions import Action, ActionOptions, ActionResult, JobBackup, JobRef, Outcome
from dashboard.backends.celery.backend import Celery
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import QueueRef, State
from dashboard.settings import SourceSettings
from dashboard.sources.source import Source
from tests.contract.celery_live import Shop
from tests.contract.test_celery import discover
from tests.step_proxy import Command, StepProxy

QUEUES = ("alpha", "beta", "gamma")  # nobody takes from the last of them
# It asks for a job for a moment only, and does not think its connection dead when the answer is held up.
OPTIONS: dict[str, Any] = {"polling_interval": 0.1, "health_check_interval": 86_400}
NO_STEPS = (b"SCRIPT", b"EVALSHA", b"HELLO", b"CLIENT", b"PING")


def counts(words: Command) -> bool:
    """Whether a command of the worker is a step: not what its timers or new connections send."""
    return words[0].upper() not in NO_STEPS and b"unacked_mutex" not in words


class Stage:
    """A real worker that takes jobs of `alpha` and `beta`, held before it asks for the next one."""

    def __init__(self, server: EmbeddedRedis, proxy: StepProxy, shop: Shop, backend: Celery) -> None:
        self.url = server.url
        self.proxy = proxy
        self.shop = shop
        self.backend = backend
        self.client = redis.Redis.from_url(server.url)
        self.refs: dict[str, QueueRef] = {}
        self._bindings: dict[bytes, bytes] = {}
        self.ids: dict[str, str] = {}
        # The app as it sends chords, which are counted where results are.
        self.with_results = App("shop", broker=server.url, backend=server.url, set_as_current=False)
        # Nobody waits for these results: what is left of them shall ask nothing of a server that may be gone.
        self.with_results.backend.remove_pending_result = lambda result: result

    def close(self) -> None:
        self.with_results.close()
        self.client.close()

    def prepare(self) -> None:
        """Make the queues known to all, and remember how the library notes them."""
        for queue in QUEUES:
            self.shop.send("first", queue=queue)
        self.refs = discover(self.backend)
        self._bindings = {key: self.client.dump(key) or b"" for key in self.client.scan_iter("_kombu.*")}

    def clear(self) -> None:
        """Remove everything except the bindings, in one transaction: the worker may rewrite its own at any time."""
        with self.client.pipeline() as pipeline:
            pipeline.flushall()
            for key, value in self._bindings.items():
                pipeline.restore(key, 0, value)
            pipeline.execute()
        self.ids.clear()

    def send(self, key: str, *args: Any, **options: Any) -> str:
        """A job that notes its runs under `key`; it is found by that."""
        self.ids[key] = self.shop.send(key, *args, **options)
        return self.ids[key]

    def waiting(self, *queues: str) -> int:
        """How many messages wait."""
        return sum(self.client.llen(queue) for queue in queues or ("alpha", "beta"))

    def work(self) -> None:
        """The worker takes all that waits, one after the other."""
        while self.waiting():
            self.proxy.take_turn()

    @property
    def ran(self) -> Counter[str]:
        """How often each job ran or failed, by key."""
        return Counter(self.shop.read_marks("ran")) + Counter(self.shop.read_marks("failed"))

    @property
    def held(self) -> set[str]:
        """The ids of what the worker took and has not acknowledged."""
        entries = self.client.hvals("unacked")
        assert len(entries) == self.client.zcard("unacked_index")
        return {json.loads(raw)[0]["headers"]["id"] for raw in entries}

    def status(self, task_id: str) -> str:
        return self.shop.status(task_id)


def _backend(url: str) -> Iterator[Celery]:
    source = Source("main", url)
    backend = Celery(source, SourceSettings(name="main", url=url))
    backend.own_source = source
    yield backend
    backend.close()
    source.close()


@pytest.fixture(scope="module")
def backend(server: EmbeddedRedis) -> Iterator[Celery]:
    yield from _backend(server.url)


@pytest.fixture(scope="module")
def stage(server: EmbeddedRedis, backend: Celery) -> Iterator[Stage]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    with StepProxy(server.port, takes=frozenset({b"BRPOP"}), counts=counts) as proxy:
        shop = Shop(server.url, options=OPTIONS, through=proxy.url)
        with shop.worker("alpha,beta", "--without-heartbeat", pool="solo", size=1, gently=False):
            proxy.wait_for_take()
            stage = Stage(server, proxy, shop, backend)
            stage.prepare()
            yield stage
            stage.close()
        shop.close()


# What the app has sent.


def two(stage: Stage) -> None:
    stage.send("a")
    stage.send("b")


def broken(stage: Stage) -> None:
    """Both fail as often as they run."""
    two(stage)
    stage.client.set("broken", 1)


def timed(stage: Stage) -> None:
    """The first waits in the queue for its turn, and then at the worker for its time."""
    stage.send("t", countdown=3600)
    stage.send("a")


def held(stage: Stage) -> None:
    """The worker has one already, which waits for its time."""
    stage.send("t", countdown=3600)
    stage.work()
    stage.send("a")


def expired(stage: Stage) -> None:
    stage.send("x", expires=-5)
    stage.send("a")


def retrying(stage: Stage) -> None:
    """The worker has one already, which failed and waits for its next try."""
    stage.ids["r"] = str(stage.shop.app.send_task("shop.again", queue="alpha").id)
    stage.work()
    stage.send("a")


def members(stage: Stage) -> None:
    """Two members of a chord, whose body runs after both."""
    app = stage.with_results
    header = [app.signature("shop.mark", args=(key,), queue="alpha") for key in ("m", "n")]
    found = chord(header, app=app)(app.signature("shop.mark", args=("body",), queue="beta", immutable=True))
    assert found.parent is not None
    stage.ids |= dict(zip(("m", "n"), (str(child.id) for child in found.parent.children), strict=True))


# What is done meanwhile.


@dataclass
class Answers:
    """What an act answered: `first` asked, and when it was asked again; `back` = to the putting back."""

    first: list[ActionResult] = field(default_factory=list)
    again: list[ActionResult] = field(default_factory=list)
    back: list[ActionResult] = field(default_factory=list)
    kept: list[JobBackup] = field(default_factory=list)

    @property
    def done(self) -> list[ActionResult]:
        return [each for each in self.first if each.outcome is Outcome.DONE]

    @property
    def lost(self) -> bool:
        """Whether something was deleted and not put back."""
        return bool(self.done) and not self.back


Act = Callable[[Stage, Celery, Answers], None]


def place(stage: Stage, state: State) -> QueueRef:
    return stage.refs["alpha" if state is State.WAITING else "*"]


def acting(action: Action, state: State, key: str, **options: Any) -> Act:
    """The action, asked for twice, as two people or a process that died and the next one do."""

    def act(stage: Stage, backend: Celery, answers: Answers) -> None:
        job_refs = [JobRef(id=stage.ids[key])]
        answers.first += backend.act_on_jobs(place(stage, state), action, state, job_refs, ActionOptions(**options))
        answers.again += backend.act_on_jobs(place(stage, state), action, state, job_refs, ActionOptions(**options))

    return act


def take(stage: Stage, backend: Celery, answers: Answers, state: State, keys: Sequence[str]) -> None:
    taken = backend.backup_jobs(place(stage, state), state, [JobRef(id=stage.ids[key]) for key in keys])
    answers.kept += [each for each in taken if isinstance(each, JobBackup)]
    answers.first += [each for each in taken if isinstance(each, ActionResult)]


def delete(stage: Stage, backend: Celery, answers: Answers, state: State) -> None:
    answers.first += backend.delete_jobs(place(stage, state), state, answers.kept)
    backend.delete_jobs(place(stage, state), state, answers.kept)  # as after a crash


def undo(stage: Stage, backend: Celery, answers: Answers, state: State) -> None:
    done = {each.id for each in answers.done}
    gone = [each for each in answers.kept if each.id in done]
    answers.back += backend.restore_jobs(place(stage, state), state, gone)
    backend.restore_jobs(place(stage, state), state, gone)


def deleting(state: State, *keys: str, back: bool = False) -> Act:
    """Taken and deleted, twice; with `back`, put back at once, twice."""

    def act(stage: Stage, backend: Celery, answers: Answers) -> None:
        take(stage, backend, answers, state, keys)
        delete(stage, backend, answers, state)
        if back:
            undo(stage, backend, answers, state)

    return act


def nothing(stage: Stage, backend: Celery, answers: Answers) -> None:
    """No act."""


def obliterate(stage: Stage, backend: Celery, answers: Answers) -> None:
    line = b"".join(stage.client.lrange("alpha", 0, -1))
    left = [key for key, task_id in stage.ids.items() if task_id.encode() in line]
    answers.first.append(backend.act_on_queue(stage.refs["alpha"], Action.OBLITERATE))
    for key in left:
        del stage.ids[key]


# How often each job runs in the end, and what else must be so.


Runs = Callable[[Stage, Answers], dict[str, int]]


def once(*keys: str) -> Runs:
    """Each once, whatever was answered."""
    return lambda stage, answers: dict.fromkeys(keys, 1)


def more_if_done(key: str, *others: str, at_first: int = 1) -> Runs:
    """`key` once more for each answer that it is done; the others once."""

    def runs(stage: Stage, answers: Answers) -> dict[str, int]:
        times = at_first + len([each for each in (*answers.first, *answers.again) if each.outcome is Outcome.DONE])
        return {**dict.fromkeys(others, 1), **({key: times} if times else {})}

    return runs


def unless_done(key: str, *others: str) -> Runs:
    """`key` does not run if the answer was that it is done; the others once."""
    return lambda stage, answers: dict.fromkeys(others if answers.lost else (key, *others), 1)


def edited(*keys: str) -> Runs:
    """All once, and so does what was edited if that was done."""
    return lambda stage, answers: dict.fromkeys((*keys, "edited") if answers.done else keys, 1)


def nobody(stage: Stage, answers: Answers) -> None:
    """The worker holds nothing."""
    assert stage.held == set()


def come_back(stage: Stage, answers: Answers) -> None:
    """What was deleted came back."""
    nobody(stage, answers)
    assert {each.outcome for each in answers.back} <= {Outcome.DONE}
    assert len(answers.back) == len(answers.done)


def in_gamma(stage: Stage, answers: Answers) -> None:
    """What was moved waits where nobody takes it."""
    nobody(stage, answers)
    assert stage.client.llen("gamma") == len(answers.done)


def held_unless_done(key: str) -> Callable[[Stage, Answers], None]:
    """The worker holds the job until its time, unless the act did what it was asked for."""

    def check(stage: Stage, answers: Answers) -> None:
        assert stage.held == (set() if answers.done else {stage.ids[key]})

    return check


def still_held(key: str) -> Callable[[Stage, Answers], None]:
    """The worker holds the job until its time."""

    def check(stage: Stage, answers: Answers) -> None:
        assert stage.held == {stage.ids[key]}

    return check


def run_or_revoked(stage: Stage, answers: Answers) -> None:
    """The job ran, or is kept as revoked: never both, and never neither."""
    nobody(stage, answers)
    assert stage.status(stage.ids["b"]) == ("SUCCESS" if stage.ran["b"] else "REVOKED")


def recorded(key: str, status: str) -> Callable[[Stage, Answers], None]:
    """The record is there, unless it was deleted for good."""

    def check(stage: Stage, answers: Answers) -> None:
        come_back(stage, answers) if answers.back else nobody(stage, answers)
        assert stage.status(stage.ids[key]) == ("" if answers.lost else status)

    return check


def next_try_is_held(stage: Stage, answers: Answers) -> None:
    """One try of the job is held by the worker until its time: the old one, or that of the new id."""
    assert stage.held == {str(answers.done[0].new_id) if answers.done else stage.ids["r"]}


@dataclass(frozen=True)
class Scenario:
    """`act`, at each step of the worker, on what `app` sent; `before` the worker begins.

    `runs` = how often each job runs in the end, from the answers. Unless `sure`, both done and not-done answers occur.
    """

    name: str
    app: Callable[[Stage], None]
    act: Act
    runs: Runs
    check: Callable[[Stage, Answers], None] = nobody
    before: Act = nothing
    sure: bool = False
    repeats: bool = False  # an order that workers are told may be told again
    at_least: int = 20

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


D, W, S, R, C, X = (
    State.DEAD,
    State.WAITING,
    State.SCHEDULED,
    State.RETRYING,
    State.COMPLETED,
    State.CANCELED,
)
EDITED = {"payload": '{"args": ["edited"]}'}
SCENARIOS = [
    Scenario("retry of dead", broken, acting(Action.RETRY, D, "a"), more_if_done("a", "b")),
    Scenario("retry of canceled", expired, acting(Action.RETRY, X, "x"), more_if_done("x", "a", at_first=0)),
    Scenario("delete of waiting", two, deleting(W, "b"), unless_done("b", "a")),
    Scenario("delete and undo of waiting", two, deleting(W, "a", "b", back=True), once("a", "b"), come_back),
    Scenario(
        "delete of what was taken before",
        two,
        lambda s, b, a: delete(s, b, a, W),
        unless_done("b", "a"),
        before=lambda s, b, a: take(s, b, a, W, ["b"]),
    ),
    Scenario(
        "undo of what was deleted before",
        two,
        lambda s, b, a: undo(s, b, a, W),
        once("a", "b"),
        come_back,
        before=deleting(W, "b"),
        sure=True,
        at_least=15,
    ),
    Scenario(
        "delete and undo of a member of a chord",
        members,
        deleting(W, "n", back=True),
        once("m", "n", "body"),
        come_back,
    ),
    Scenario("delete of dead", broken, deleting(D, "a"), once("a", "b"), recorded("a", "FAILURE")),
    Scenario(
        "delete and undo of dead",
        broken,
        deleting(D, "a", back=True),
        once("a", "b"),
        recorded("a", "FAILURE"),
    ),
    Scenario("delete of completed", two, deleting(C, "a"), once("a", "b"), recorded("a", "SUCCESS")),
    Scenario(
        "delete and undo of completed",
        two,
        deleting(C, "a", back=True),
        once("a", "b"),
        recorded("a", "SUCCESS"),
    ),
    Scenario("delete of canceled", expired, deleting(X, "x"), once("a"), recorded("x", "REVOKED")),
    Scenario("move to a queue of the worker", two, acting(Action.MOVE, W, "b", target="beta"), once("a", "b")),
    Scenario(
        "move to another queue",
        two,
        acting(Action.MOVE, W, "b", target="gamma"),
        unless_done("b", "a"),
        in_gamma,
    ),
    Scenario(
        "promote of waiting",
        timed,
        acting(Action.PROMOTE, W, "t"),
        more_if_done("t", "a", at_first=0),
        held_unless_done("t"),
    ),
    Scenario(
        "promote of held",
        held,
        acting(Action.PROMOTE, S, "t"),
        more_if_done("t", "a", at_first=0),
        held_unless_done("t"),
        sure=True,
        at_least=15,
    ),
    Scenario(
        "promote of what is taken",
        timed,
        acting(Action.PROMOTE, S, "t"),
        more_if_done("t", "a", at_first=0),
        held_unless_done("t"),
    ),
    Scenario(
        "cancel of held",
        held,
        acting(Action.CANCEL, S, "t"),
        once("a"),
        held_unless_done("t"),
        sure=True,
        at_least=15,
    ),
    Scenario("cancel of what is taken", timed, acting(Action.CANCEL, S, "t"), once("a"), held_unless_done("t")),
    Scenario(
        "cancel of retrying",
        retrying,
        acting(Action.CANCEL, R, "r"),
        once("a"),
        held_unless_done("r"),
        sure=True,
        at_least=15,
    ),
    Scenario(
        "promote of retrying",
        retrying,
        acting(Action.PROMOTE, R, "r"),
        once("a"),
        next_try_is_held,
        sure=True,
        at_least=15,
    ),
    Scenario(
        "cancel of waiting",
        two,
        acting(Action.CANCEL, W, "b"),
        lambda stage, answers: {"a": 1, **({"b": 1} if stage.ran["b"] else {})},
        run_or_revoked,
        repeats=True,
    ),
    Scenario(
        "cancel of active",
        two,
        acting(Action.CANCEL, State.ACTIVE, "b"),
        lambda stage, answers: {"a": 1, **({"b": 1} if stage.ran["b"] else {})},
        run_or_revoked,
        repeats=True,
    ),
    Scenario(
        "stop of active",
        two,
        acting(Action.STOP, State.ACTIVE, "b"),
        lambda stage, answers: {"a": 1, **({"b": 1} if stage.ran["b"] else {})},
        run_or_revoked,
        repeats=True,
    ),
    Scenario("duplicate of waiting", two, acting(Action.DUPLICATE, W, "b"), more_if_done("b", "a")),
    Scenario("duplicate of active", two, acting(Action.DUPLICATE, State.ACTIVE, "b"), more_if_done("b", "a")),
    Scenario(
        "duplicate of held",
        held,
        acting(Action.DUPLICATE, S, "t"),
        more_if_done("t", "a", at_first=0),
        still_held("t"),
        sure=True,
        at_least=15,
    ),
    Scenario("duplicate of dead", broken, acting(Action.DUPLICATE, D, "a"), more_if_done("a", "b")),
    Scenario("duplicate of completed", two, acting(Action.DUPLICATE, C, "a"), more_if_done("a", "b")),
    Scenario("edit of waiting", two, acting(Action.EDIT, W, "b", **EDITED), edited("a", "b")),
    Scenario("edit of completed", two, acting(Action.EDIT, C, "a", **EDITED), edited("a", "b")),
    Scenario("obliterate", two, obliterate, lambda stage, answers: dict.fromkeys(stage.ids, 1), sure=True),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_an_act_at_each_step_of_a_worker(
    stage: Stage, backend: Celery, scenario: Scenario, record_property: Callable[[str, object], None]
) -> None:
    told: Counter[bool] = Counter()
    driven = 0
    for step in stage.proxy.steps():
        stage.clear()
        scenario.app(stage)
        answers = Answers()
        scenario.before(stage, backend, answers)
        asked = len(answers.first)
        act = lambda: scenario.act(stage, backend, answers)  # noqa: B023, E731 it is over before the next step
        with step.before(act):
            stage.work()
        if not step.reached:  # and once more beside a worker that has nothing to do
            act()
        stage.work()
        driven += 1
        told.update(each.outcome is Outcome.DONE for each in answers.first[asked:])
        assert Outcome.DONE not in {each.outcome for each in answers.again} or scenario.repeats, (str(step), answers)
        assert stage.ran == scenario.runs(stage, answers), (str(step), answers)
        assert stage.waiting() == 0
        scenario.check(stage, answers)
    record_property("interleavings", ["celery", scenario.name, driven])
    assert driven >= scenario.at_least
    assert scenario.sure or (told[True] and told[False]), told


# The other way round: what happens between two commands of an act.


def worker_runs(stage: Stage) -> None:
    stage.work()


def app_sends(stage: Stage) -> None:
    stage.send("c")


@dataclass(frozen=True)
class Interrupted:
    """`act` goes through the proxy; at each of its commands the worker runs what waits, or the app sends one more."""

    name: str
    app: Callable[[Stage], None]
    act: Act
    runs: Runs
    check: Callable[[Stage, Answers], None] = nobody
    at_least: int = 4

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def ended(app: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """The jobs have run before the act."""

    def run(stage: Stage) -> None:
        app(stage)
        stage.work()

    return run


INTERRUPTED = [
    Interrupted("retry of dead", ended(broken), acting(Action.RETRY, D, "a"), more_if_done("a", "b")),
    Interrupted("delete of waiting", two, deleting(W, "b"), unless_done("b", "a")),
    Interrupted("delete and undo of waiting", two, deleting(W, "a", "b", back=True), once("a", "b"), come_back),
    Interrupted(
        "delete and undo of dead",
        ended(broken),
        deleting(D, "a", back=True),
        once("a", "b"),
        recorded("a", "FAILURE"),
    ),
    Interrupted(
        "move to another queue",
        two,
        acting(Action.MOVE, W, "b", target="gamma"),
        unless_done("b", "a"),
        in_gamma,
    ),
    Interrupted(
        "promote of waiting",
        timed,
        acting(Action.PROMOTE, W, "t"),
        more_if_done("t", "a", at_first=0),
        held_unless_done("t"),
    ),
    Interrupted(
        "promote of held",
        held,
        acting(Action.PROMOTE, S, "t"),
        more_if_done("t", "a", at_first=0),
        held_unless_done("t"),
    ),
    Interrupted("cancel of held", held, acting(Action.CANCEL, S, "t"), once("a"), held_unless_done("t")),
    Interrupted("duplicate of waiting", two, acting(Action.DUPLICATE, W, "b"), more_if_done("b", "a")),
    Interrupted("edit of waiting", two, acting(Action.EDIT, W, "b", **EDITED), edited("a", "b")),
]


@pytest.fixture(scope="module")
def own(server: EmbeddedRedis) -> Iterator[tuple[StepProxy, Celery]]:
    """The backend behind a proxy of its own."""
    with StepProxy(server.port) as proxy:
        for found in _backend(proxy.url):
            found.broker.execute("PING")  # the handshake of its connection is no step
            yield proxy, found


@pytest.mark.parametrize("meanwhile", [worker_runs, app_sends])
@pytest.mark.parametrize("scenario", INTERRUPTED, ids=str)
def test_a_worker_and_an_app_at_each_step_of_an_act(
    stage: Stage,
    own: tuple[StepProxy, Celery],
    scenario: Interrupted,
    meanwhile: Callable[[Stage], None],
    record_property: Callable[[str, object], None],
) -> None:
    proxy, backend = own
    driven = 0
    for step in proxy.steps():
        stage.clear()
        scenario.app(stage)
        answers = Answers()
        with step.before(lambda: meanwhile(stage)):
            scenario.act(stage, backend, answers)
        stage.work()
        driven += step.reached
        more = {"c": 1} if meanwhile is app_sends and step.reached else {}
        assert stage.ran == {**scenario.runs(stage, answers), **more}, (str(step), answers)
        assert stage.waiting() == 0
        scenario.check(stage, answers)
    record_property("interleavings", ["celery", f"{scenario.name}, at each of its steps", driven])
    assert driven >= scenario.at_least
