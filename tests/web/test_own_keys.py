"""Garbage in Queuedeck's own keys: pages, checker and actions keep working; the key is repaired with one log line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyotp
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from dashboard.actions.bulk.operation import ENDED
from dashboard.actions.bulk.undo import build_undo
from dashboard.alerts.delivery.channels.base import DeliveryResult
from dashboard.auth import Role
from dashboard.backends.monitored_sources import open_sources
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.history.recording import HistoryRecording
from dashboard.model import Mark, Snapshot
from dashboard.sampling import snapshot_parts
from dashboard.sampling.sampler import Sampler
from dashboard.sampling.snapshot_store import SnapshotStore
from dashboard.schedules.seen_schedules import SeenSchedule, SeenScheduleStore
from dashboard.settings import SloSettings, UserSettings
from dashboard.slos.slo_watch import SloWatch
from dashboard.store import key_types
from dashboard.store.redis_store import PREFIX
from dashboard.web.access import sessions
from dashboard.web.access.one_time_codes import OneTimeCodes
from dashboard.web.access.sign_in_limits import AttemptCounter, SignInAttempt
from dashboard.web.context import EXTENSION
from tests.actions.conftest import ACTOR
from tests.alerts.harness import DEEP, Process, Recorder, deep
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.test_dead_letters import SAME

SLOS = (SloSettings(id="mail", queues=("mail",), target=0.99, succeeded=True),)
BAD = b"\xff\x00 of a later version"
JOBS = "/api/v1/queues/main/rq/mail/jobs"


def wrong_type(client: redis.Redis, key: bytes, kind: str) -> None:
    client.delete(key)
    if kind == "string":
        client.rpush(key, BAD, "1")
    else:
        client.set(key, BAD)


def garbage(client: redis.Redis, key: bytes, kind: str) -> None:
    """The right type, and nothing in it that we wrote."""
    fields = client.hkeys(key) if kind == "hash" else []
    left = client.pttl(key)
    client.delete(key)
    match kind:
        case "string":
            client.set(key, BAD)
        case "hash":
            client.hset(key, mapping={BAD: BAD, **dict.fromkeys(fields, BAD)})
        case "list":
            client.rpush(key, BAD, BAD)
        case "set":
            client.sadd(key, BAD, "x:y")
        case "zset":
            client.zadd(key, {BAD: float("inf"), "x:y": float("-inf"), "": 0})
        case "stream":
            client.xadd(key, {"e": BAD, "event": BAD})
            client.xadd(key, {BAD: b"1"})
    if left > 0:
        client.pexpire(key, left)


def numbers(client: redis.Redis, key: bytes, kind: str) -> None:
    """Numbers that no calendar and no counter holds."""
    huge = "9" * 400
    match kind:
        case "string":
            client.set(key, huge, keepttl=True)
        case "hash":
            client.hset(key, mapping={**dict.fromkeys(client.hkeys(key), huge), "nan": "nan"})
        case "list":
            client.rpush(key, huge)
        case "set":
            client.sadd(key, huge)
        case "zset":
            client.zadd(key, {huge: 1e300})
        case "stream":
            client.delete(key)
            client.xadd(key, {"e": huge, "event": f'{{"at": {huge}}}'}, id="18446744073709551615-18446744073709551615")


def no_end(client: redis.Redis, key: bytes, kind: str) -> None:
    client.persist(key)


Damage = Callable[[redis.Redis, bytes, str], None]
KINDS: dict[str, Damage] = {
    "wrong type": wrong_type,
    "garbage": garbage,
    "numbers": numbers,
    "no end": no_end,
}


@dataclass
class Stage:
    app: Flask
    client: redis.Redis
    process: Process
    pages: tuple[str, ...]
    kept: dict[bytes, tuple[int, bytes]]
    names: dict[bytes, str]  # our own keys and their types

    def reset(self) -> FlaskClient:
        """A new process on the data as seeded."""
        self.app.extensions[EXTENSION].stop()
        self.client.flushall()
        for key, (ttl, dump) in self.kept.items():
            self.client.restore(key, ttl, dump)
        self.process.restart()
        return self.app.test_client()

    def walk(self, client: FlaskClient, *, parts: bool = True) -> list[str]:
        """The pages that fail; those that are parts of others too unless not asked for."""
        pages = [page for page in self.pages if parts or not ("/_" in page or "openapi" in page or "new" in page)]
        answers = ((page, client.get(page).status_code) for page in pages)
        return [f"{page}: {status}" for page, status in answers if status >= 500 and page != "/healthz/checker"]

    def tick(self, depth: int) -> None:
        assert self.process.evaluate(deep(depth))
        self.process.deliver()

    def act(self, client: FlaskClient) -> None:
        """Delete a dead job and put it back."""
        row = wait_until(lambda: client.get(f"{JOBS}?state=dead").get_json().get("jobs"), what="the queue")[0]
        one = {"state": "dead"}
        answer = client.post(f"{JOBS}/{row['id']}/delete", json=one, headers=SAME)
        assert answer.status_code == 200, answer.get_json()
        batch = answer.get_json()["undo"]
        undone = client.post(f"/api/v1/undo/{batch}", json={}, headers=SAME)
        assert (undone.status_code, undone.get_json()["restored"]) == (200, 1)
        events = client.get("/api/v1/audit").get_json()["events"]
        assert [event["action"] for event in events[:2]] == ["undo", "delete"]


@pytest.fixture
def stage(
    make_app: MakeApp,
    server: EmbeddedRedis,
    redis_client: redis.Redis,
    dead: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stage]:
    monkeypatch.setattr(snapshot_parts, "INLINE_BYTES", -1)  # a few queues have parts, too
    channel = {"id": "ops", "kind": "webhook", "url": "https://hooks.example/x"}
    app = make_app(rules=[DEEP], channels=[channel], checker="off", slos=SLOS, secret_key="k" * 40)
    client = app.test_client()
    process = Process(server.url, "one", (Recorder("ops"),))
    work = seed(process, client, redis_client)
    rules = [rule.rule for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ()) and not rule.arguments]
    pages = (*rules, f"/bulk/{work}", "/queues/main/rq/mail", f"{JOBS}?state=dead")
    names = {key: redis_client.type(key).decode() for key in redis_client.keys(f"{PREFIX}:*")}
    kept = {key: (max(0, redis_client.pttl(key)), redis_client.dump(key)) for key in redis_client.scan_iter("*")}
    yield Stage(app, redis_client, process, pages, kept, names)
    process.close()


def seed(process: Process, client: FlaskClient, data: redis.Redis) -> str:
    """Write at least one key of each kind; return the id of a running bulk operation."""
    recorder = process.channels["ops"]
    recorder.answers = [DeliveryResult(ok=False, status="410", permanent=True), DeliveryResult(ok=False, status="503")]
    process.evaluate(deep(100))
    process.deliver()
    process.evaluate(deep(100, 100))
    process.deliver()
    store = SnapshotStore(process.source)
    sampler = Sampler(open_sources(client.application.extensions[EXTENSION].settings), 2.0, "one", clock=store.now_s)
    epoch = store.acquire_lease("one", 15).epoch
    assert epoch is not None
    snapshot = sampler.sample(epoch)
    store.publish_snapshot("one", epoch, snapshot, sampler.history)
    record_history(store, f"one:{epoch}", snapshot, sampler)
    assert store.may_sample("other settings", 3600.0)  # for as long as the test needs the key
    store.share_snapshot("other settings", snapshot, sampler.history)
    services = client.application.extensions[EXTENSION].services
    alert = services.alert_service.alerts.list_alerts().firing[0]
    services.alert_service.acknowledgements.acknowledge_alert(
        alert.state.fingerprint, episode=alert.state.episode, by="anna"
    )
    services.alert_service.silences.save_silence(
        services.alert_service.silences.draft_silence(for_s=3600, by="anna", queue="unused")
    )
    services.alert_service.notifications.send_test("ops", by="anna")
    seen = SeenSchedule(source="main", backend="sidekiq", queue=None, id="nightly", pattern="0 3 * * *")
    SeenScheduleStore(store).save([seen])
    services.marks.mark_store.add_mark(Mark(at=store.now_s(), text="deploy", version="v412", who="anna"))
    services.pauses.record_pause(snapshot.queues[0], "anna", whole_library=False)
    services.alert_service.rules.save_rule({**DEEP, "id": "deeper", "critical": 1000}, by="anna", version=None)
    attempt = SignInAttempt(name="anna", address="10.0.0.1")
    AttemptCounter().count_attempt(store, attempt)
    sessions.EndedSessions().add(process.source, "over")
    anna = UserSettings(name="anna", password_hash="", totp_secret="A" * 32)
    assert OneTimeCodes().is_right(store, anna, pyotp.TOTP("A" * 32).now())
    tokens = client.application.extensions[EXTENSION].token_store
    assert tokens.find(tokens.create("deploy", Role.VIEWER, 1, "anna")[1]) is not None
    assert client.get("/dead").status_code == 200
    body = {"source": "main", "backend": "rq", "state": "dead", "pace_per_s": 1}
    works = []
    for action, queue in (("delete", "cash"), ("retry", "mail")):
        answer = client.post("/api/v1/bulk", json=body | {"action": action, "queue": queue}, headers=SAME)
        assert answer.status_code == 201, answer.get_json()
        works.append(answer.get_json()["bulk_id"])
        if len(works) == 1:
            wait_until(lambda: services.bulk_store.get(works[0]).phase in ENDED, what="the deletion")
            services.bulk_runner.stop()
            services.bulk_store.create(build_undo(services.bulk_store.get(works[0]), ACTOR))
    assert services.bulk_store.acquire_lease(works[1], "another process")
    data.zadd(f"{PREFIX}:unnamed:ops", {"an episode": 1})
    data.zadd(f"{PREFIX}:deleted", {"of Sidekiq": 1})
    data.zadd(f"{PREFIX}:back", {"of an undo": 1})
    data.zadd(f"{PREFIX}:missing", {"of RQ": 1})
    client.application.extensions[EXTENSION].stop()
    return works[0]


def record_history(store: SnapshotStore, lead: str, snapshot: Snapshot, sampler: Sampler) -> None:
    recording = HistoryRecording(store, 64 * 2**20, SloWatch(SLOS, store))
    assert recording.take_over(lead)
    assert recording.record(snapshot, sampler.flows)
    recording.stop()


def all_keys(stage: Stage) -> dict[str, str]:
    """Our own keys without their prefix, and their types."""
    return {key.decode().removeprefix(f"{PREFIX}:"): kind for key, kind in stage.names.items()}


def shape(name: str) -> str:
    """The same for keys of one family."""
    found = ((begin, end) for begin, end, _ in key_types.FAMILIES if name.startswith(begin) and name.endswith(end))
    return name if name in key_types.TYPES else "…".join(next(found))


def one_of_each(stage: Stage) -> list[tuple[bytes, str]]:
    return list(
        {(shape(key), kind): (f"{PREFIX}:{key}".encode(), kind) for key, kind in all_keys(stage).items()}.values()
    )


def test_the_table_lists_every_key(stage: Stage) -> None:
    """And each kind of key is there, so that what follows is about all of them."""
    names = all_keys(stage)
    assert {name: key_types.type_of(name) for name in names} == names
    shapes = {shape(name) for name in names}
    assert set(key_types.TYPES) - shapes == set()
    assert {f"{begin}…{end}" for begin, end, _ in key_types.FAMILIES} - shapes == set()


# Keys that are damaged together: no two of them are read by the same part of the product, as they are far apart in the
# order of their names. In the soak each is damaged by itself.
@pytest.mark.parametrize("together", [6, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("damage", [wrong_type, garbage])
def test_garbage_in_a_key_is_repaired(
    stage: Stage, damage: Damage, together: int, caplog: pytest.LogCaptureFixture
) -> None:
    keys = sorted(one_of_each(stage))
    rounds = -(-len(keys) // together)
    for begin in range(rounds):
        chosen = keys[begin::rounds]
        client = stage.reset()
        caplog.clear()
        for key, kind in chosen:
            damage(stage.client, key, kind)
        try:
            heals(stage, client, chosen, caplog)
        except Exception as exc:
            exc.add_note(f"the keys were {chosen!r}")
            raise


def heals(stage: Stage, client: FlaskClient, keys: list[tuple[bytes, str]], caplog: pytest.LogCaptureFixture) -> None:
    assert stage.walk(client, parts=False) == []
    stage.tick(100)
    stage.act(client)
    stage.tick(0)
    for key, kind in keys:
        # One that nobody needs any more, as that of ended work, stays as it is until its end: it counts as absent.
        if key.decode().removeprefix(f"{PREFIX}:") in key_types.TYPES and stage.client.exists(key):
            assert stage.client.type(key).decode() == kind
        lines = [record.getMessage() for record in caplog.records if key.decode() in record.getMessage()]
        assert len([line for line in lines if line.startswith("own key")]) <= 1, lines
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == []


def test_garbage_in_all_keys_is_repaired(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    for damage in KINDS.values():
        client = stage.reset()
        caplog.clear()
        for key, kind in stage.names.items():
            damage(stage.client, key, kind)
        assert stage.walk(client) == []
        stage.tick(100)
        stage.act(client)
        stage.tick(0)
        assert stage.walk(client) == []
