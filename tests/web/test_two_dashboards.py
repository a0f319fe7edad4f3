"""Two dashboards on one store: each shows what its own settings say, and says that the other is there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from flask import Flask
from msgspec.structs import replace
from rq import Queue

from dashboard.actions.audit_log import Actor
from dashboard.actions.bulk.operation import BulkPhase, BulkRequest, JobListRef
from dashboard.actions.bulk.undo import build_undo, undo_batch_of
from dashboard.backends.actions import Action, Outcome
from dashboard.backends.base import Discovery
from dashboard.backends.monitored_sources import digest_settings, open_sources
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.doctor import main as doctor
from dashboard.errors import ConfigurationError
from dashboard.model import QueueRef, State
from dashboard.nagios_check import evaluate_once
from dashboard.sampling import queue_search
from dashboard.sampling.leadership import Leadership, holder_name
from dashboard.sampling.sampler import Sampler
from dashboard.sampling.snapshot_store import SnapshotStore
from dashboard.settings import load
from dashboard.sources.source import Source
from dashboard.web.context import EXTENSION
from dashboard.web.views import firing_banner
from tests.alerts.harness import DEEP
from tests.waiting import wait_until
from tests.web.conftest import MakeApp

PAGES = ("/", "/workers", "/schedules", "/dead", "/search?q=x", "/alerts", "/alerts/rules", "/alerts/silences", "/bulk")
PARTS = ("/_overview", "/alerts/_now", "/healthz", "/readyz", "/metrics")
API = ("overview", "queues", "dead", "search?q=x", "workers", "schedules", "alerts", "rules", "bulk", "audit")
SAME = {"Sec-Fetch-Site": "same-origin"}
ACTOR = Actor(name="anna", role="admin")
ELSEWHERE = "Another dashboard with other settings evaluates the rules."
OTHER = "samples with other settings on the same store"
Lead = Callable[..., Sampler]


@pytest.fixture
def lead() -> Iterator[Lead]:
    """Publishes a sample by given settings as the leader does."""
    made = []

    def publish(**settings: Any) -> Sampler:
        watched = open_sources(load(environ={}, keywords=settings))
        made.append(watched)
        store = SnapshotStore(watched.own)
        one = Sampler(watched, 2.0, "the-leader", clock=store.now_s)
        epoch = store.acquire_lease("the-leader", 15).epoch
        assert epoch is not None
        assert store.publish_snapshot("the-leader", epoch, one.sample(epoch), one.history)
        return one

    yield publish
    for watched in made:
        watched.close()


def check_own_view(app: Flask, queue: str) -> None:
    """All pages of the other's settings: none fails, each says so, and each link to a queue leads somewhere."""
    client = app.test_client()
    for path in (*PAGES, *PARTS, *(f"/api/v1/{name}" for name in API)):
        answer = client.get(path)
        assert answer.status_code == 200, (path, answer.status_code)
        if path in PAGES:
            assert OTHER in answer.text, path
    told = client.get("/api/v1/overview").get_json()
    assert OTHER in told["other_settings"]
    assert [each["name"] for each in told["queues"]] == [queue]
    (found,) = told["queues"]
    assert client.get(f"/queues/{found['source']}/{found['backend']}/{queue}").status_code == 200


def bull(client: redis.Redis, name: str) -> None:
    client.hset(f"bull:{name}:meta", "version", "bullmq:5.0.0")
    client.lpush(f"bull:{name}:wait", "1")


def test_other_libraries(
    make_app: MakeApp, lead: Lead, server: EmbeddedRedis, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    Queue("mail", connection=redis_client).enqueue("app.send")
    bull(redis_client, "orders")
    one = {"name": "main", "url": server.url}
    lead(sources=[{**one, "backends": ["rq"]}])
    app = make_app(sources=[{**one, "backends": ["bullmq"]}])
    caplog.set_level(logging.WARNING, "dashboard.sampling.snapshot_reader")
    check_own_view(app, "orders")
    assert len([line for line in caplog.messages if OTHER in line]) == 1
    same = make_app(sources=[{**one, "backends": ["rq"]}]).test_client()
    assert OTHER not in same.get("/").text
    told = same.get("/api/v1/overview").get_json()
    assert (told["other_settings"], [each["name"] for each in told["queues"]]) == (None, ["mail"])


def test_other_sources_on_one_store(
    make_app: MakeApp, lead: Lead, server: EmbeddedRedis, redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    alpha, beta, store = (server.url.replace("/0", f"/{number}") for number in (1, 2, 3))
    for url, name in ((alpha, "theirs"), (beta, "ours")):
        with redis.Redis.from_url(url) as client:
            Queue(name, connection=client).enqueue("app.send")
    lead(sources=[{"name": "alpha", "url": alpha}], store_url=store)
    ours = {"sources": [{"name": "beta", "url": beta}], "store_url": store}
    check_own_view(make_app(**ours), "ours")
    doctor(load(environ={}, keywords=ours))
    assert "the-leader sampled here" in capsys.readouterr().out


def test_a_rolling_deploy_that_adds_a_source(
    make_app: MakeApp, lead: Lead, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    """The new replica shows both sources immediately, and the old ones keep theirs when the new one leads."""
    before = [{"name": "alpha", "url": server.url}]
    after = [*before, {"name": "beta", "url": server.url.replace("/0", "/2")}]
    Queue("mail", connection=redis_client).enqueue("app.send")
    lead(sources=before)
    old, new = make_app(sources=before).test_client(), make_app(sources=after).test_client()
    for leader in (before, after):
        redis_client.delete("{queuedeck}:lead")
        lead(sources=leader)
        for client, sources in ((old, ["alpha"]), (new, ["alpha", "beta"])):
            client.application.extensions[EXTENSION].stop()
            told = client.get("/api/v1/overview").get_json()
            assert [source["name"] for source in told["sources"]] == sources
            assert (told["other_settings"] is None) == (len(sources) == len(leader))
            assert [queue["name"] for queue in told["queues"]] == ["mail"]
            assert client.get("/readyz").status_code == 200


def test_processes_of_the_same_settings_share_their_sample(
    make_app: MakeApp, lead: Lead, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    Queue("mail", connection=redis_client).enqueue("app.send")
    lead(redis_url=server.url)
    settings = {"sources": [{"name": "other", "url": server.url}], "sample_interval_s": 300}
    readings = [make_app(**settings).extensions[EXTENSION].services.snapshots.current() for _ in range(3)]
    assert len({(reading.snapshot.sampler, reading.snapshot.sequence) for reading in readings}) == 1
    assert all(reading.other for reading in readings)


def test_dashboards_with_different_prefixes_do_not_interfere(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    Queue("mail", connection=redis_client).enqueue("app.send")
    bull(redis_client, "orders")
    apps = [
        make_app(
            sources=[{"name": f"of-{name}", "url": server.url, "backends": [name]}],
            store_prefix=f"{{{name}}}",
            checker="auto",
            rules=[DEEP],
        )
        for name in ("rq", "bullmq")
    ]
    for app, name, queue in zip(apps, ("rq", "bullmq"), ("mail", "orders"), strict=True):
        client = app.test_client()

        def shown(client: Any = client) -> Any:
            told = client.get("/api/v1/overview").get_json()
            return told if told["queues"] and client.get("/healthz/checker").status_code == 200 else None

        told = wait_until(shown, what="the checker")
        assert (told["other_settings"], [each["name"] for each in told["queues"]]) == (None, [queue])
        assert redis_client.exists(f"{{{name}}}:lead", f"{{{name}}}:snapshot", f"{{{name}}}:heartbeat") == 3
    assert set(redis_client.scan_iter("{queuedeck}:*")) == set()


def test_alerts_of_the_other_dashboard_are_not_shown(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor can they be changed; what is left behind when the other has stopped is not ours either."""
    for _ in range(11):
        Queue("mail", connection=redis_client).enqueue("app.send")
    bull(redis_client, "orders")
    own = {"id": "only-ours", "metric": "queue.depth", "warning": 5}
    made = {"id": "made-there", "metric": "queue.depth", "warning": 1, "for_s": 0}
    channel = {"id": "hook", "kind": "webhook", "url": "https://example.com/hook"}
    one = {"name": "main", "url": server.url}
    theirs = make_app(sources=[{**one, "backends": ["rq"]}], checker="auto", rules=[DEEP], sample_interval_s=0.5)
    leader = theirs.test_client()
    (alert,) = wait_until(lambda: by_rule(leader, DEEP["id"]), what="the alert of the leader")
    assert leader.post("/api/v1/rules", json=made, headers=SAME).status_code == 201
    assert leader.post("/silences", data={"rule": "made-there", "hours": "1"}, headers=SAME).status_code == 303
    ours = {"sources": [{**one, "backends": ["bullmq"]}], "rules": [own], "channels": [channel]}
    client = make_app(**ours).test_client()
    told = client.get("/api/v1/alerts").get_json()
    assert (told["alerts"], told["pending"], told["watched"]) == ([], [], False)
    assert told["problem"].startswith(ELSEWHERE)
    assert "store_prefix" in told["problem"]
    assert client.get("/api/v1/overview").get_json()["alerts"] is None
    for name in ("silences", "deliveries"):
        told = client.get(f"/api/v1/{name}").get_json()
        assert (told[name], told["problem"][: len(ELSEWHERE)]) == ([], ELSEWHERE)
    told = client.get("/api/v1/rules").get_json()
    ids = {rule["id"] for rule in told["rules"]}
    assert "only-ours" in ids
    assert ids.isdisjoint({"made-there", DEEP["id"]})
    assert told["problem"].startswith(ELSEWHERE)
    for path in ("/alerts", "/alerts/_now", "/alerts/silences", "/alerts/rules", "/alerts/rule/only-ours"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert ELSEWHERE in answer.text, path
        assert alert["fingerprint"] not in answer.text
        assert "made-there" not in answer.text
        assert firing_banner.HEADER not in answer.headers
        assert 'method="post"' not in answer.text, path
    assert client.get("/healthz/checker").status_code == 503
    figures = client.get("/metrics").text
    assert "queuedeck_alerting_up 0.0\n" in figures
    assert "queuedeck_alerts_firing" not in figures
    silence = leader.get("/api/v1/silences").get_json()["silences"][0]["id"]
    acts = [
        (f"/alerts/{alert['fingerprint']}/ack", {"episode": alert["episode"]}),
        ("/silences", {"rule": "deep", "hours": "1"}),
        (f"/silences/{silence}/expire", {}),
        ("/channels/hook/test", {}),
        ("/deliveries/again", {"id": "x"}),
        ("/alerts/rules", {"id": "mine", "metric": "queue.depth", "warning": "1"}),
        ("/alerts/rule/made-there/remove", {"version": "1"}),
    ]
    for path, form in acts:
        answer = client.post(path, data=form, headers=SAME)
        assert (answer.status_code, ELSEWHERE in answer.text) == (409, True), path
    answer = client.post("/api/v1/rules", json=made | {"id": "mine"}, headers=SAME)
    assert (answer.status_code, answer.get_json()["error"]["message"]) == (409, ELSEWHERE)
    # `queuedeck check`: by its own settings, and it says that nobody evaluates them.
    _, alerts, problems = evaluate_once(load(environ={}, keywords=ours))
    assert {alert.rule.id for alert in alerts}.isdisjoint({DEEP["id"], "made-there"})
    assert any(ELSEWHERE in problem for problem in problems)
    doctor(load(environ={}, keywords=ours))
    assert "evaluates alerts" in capsys.readouterr().out
    theirs.extensions[EXTENSION].stop()
    redis_client.delete("{queuedeck}:snapshot")
    client = make_app(**ours).test_client()
    told = client.get("/api/v1/alerts").get_json()
    assert (told["alerts"], told["watched"]) == ([], False)


def test_a_checker_that_does_not_lead_says_that_its_rules_are_not_evaluated(
    server: EmbeddedRedis, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, and only of a leader with other settings."""
    source = Source("main", server.url)
    one, same, other = (Leadership(SnapshotStore(source), holder_name(name * 16)) for name in "aab")
    for leadership in (one, same, other, other):
        leadership.renew_lease()
    source.close()
    assert one.epoch is not None
    lines = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert lines[0].startswith(f"{one.holder} leads with other settings")
    assert "store_prefix" in lines[0]


def by_rule(client: Any, rule_id: str) -> list[dict[str, Any]]:
    """The alerts of a rule that fire."""
    return [alert for alert in client.get("/api/v1/alerts").get_json()["alerts"] if alert["rule"] == rule_id]


def test_bulk_operations_of_the_other_dashboard_are_not_run(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    services = make_app(sources=[{"name": "beta", "url": server.url}]).extensions[EXTENSION].services
    ref = QueueRef(source="alpha", backend="rq", name="mail", key="rq:queue:mail")
    request = BulkRequest(
        action=Action.DELETE, actor=Actor(name="a", role="admin"), job_lists=(JobListRef(ref=ref, state=State.DEAD),)
    )
    bulk_id = services.bulk_store.create(request)
    for _ in range(3):
        services.bulk_runner.run_turn()
    work = services.bulk_store.get(bulk_id)
    assert (work.phase.value, work.leased) == ("collecting", False)
    assert caplog.messages.count(f"bulk operation {bulk_id} left to other processes: alpha is not watched here") == 1


def test_a_replica_with_other_settings_starts_from_the_published_queues(
    make_app: MakeApp, lead: Lead, server: EmbeddedRedis, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a rolling deploy that adds a source."""
    redis_client.mset({f"noise:{number}": "" for number in range(3_000)})
    for number in range(60):
        bull(redis_client, f"b{number}")
    before = [{"name": "alpha", "url": server.url}]
    one = lead(sources=before)
    wait_until(lambda: len(one.sample().queues) == 60, what="all queues")
    store = SnapshotStore(one._watch.own)
    epoch = store.acquire_lease("the-leader", 15).epoch
    assert epoch is not None
    assert store.publish_snapshot("the-leader", epoch, one.sample(epoch), one.history)
    monkeypatch.setattr(queue_search, "FIRST_BUDGET", (1, 0.0))
    client = make_app(sources=[*before, {"name": "beta", "url": server.url.replace("/0", "/2")}]).test_client()
    told = client.get("/api/v1/overview").get_json()
    assert (len(told["queues"]), bool(told["other_settings"])) == (60, True)
    assert client.get("/queues/alpha/bullmq/b59").status_code == 200


def test_a_bulk_operation_for_another_server_of_the_same_name_is_not_run(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Both call their one source `main`, as it is called by default: the same ids are other jobs there."""
    there = server.url.replace("/0", "/4")
    store = server.url.replace("/0", "/3")
    theirs = make_app(redis_url=there, store_url=store).extensions[EXTENSION].services
    app = make_app(redis_url=server.url, store_url=store)
    ours, client = app.extensions[EXTENSION].services, app.test_client()
    with redis.Redis.from_url(there) as elsewhere:
        for one in (redis_client, elsewhere):
            bull(one, "orders")
            one.hset("bull:orders:1", mapping={"name": "pay", "data": "{}", "opts": "{}", "timestamp": 1})
        ref = QueueRef(source="main", backend="bullmq", name="orders", key="bull:orders")
        place = JobListRef(ref=ref, state=State.WAITING)
        bulk_id = theirs.bulk_store.create(
            BulkRequest(action=Action.DELETE, actor=ACTOR, job_lists=(place,), pace_per_s=0)
        )
        for _ in range(3):
            ours.bulk_runner.run_turn()
        assert redis_client.llen("bull:orders:wait") == 1
        left = f"bulk operation {bulk_id} left to other processes: main at {there} is not watched here"
        assert caplog.messages.count(left) == 1
        wait_until(
            lambda: theirs.bulk_runner.run_turn() and theirs.bulk_store.get(bulk_id).phase is BulkPhase.DONE,
            what="the end",
        )
        assert elsewhere.llen("bull:orders:wait") == 0
        redis_client.delete("bull:orders:wait", "bull:orders:1")
        batch = undo_batch_of(bulk_id, place, theirs.bulk_store.get(bulk_id).request)
        answer = client.post(f"/api/v1/undo/{batch}", json={}, headers=SAME)
        assert (answer.status_code, there in answer.get_json()["error"]["message"]) == (409, True)
        answer = client.post(f"/api/v1/bulk/{bulk_id}/undo", json={}, headers=SAME)
        assert answer.status_code == 409
        assert not redis_client.exists("bull:orders:1")
        other = make_app(sources=[{"name": "x", "url": server.url}], store_url=store).test_client()
        for path in (f"undo/{batch}", f"bulk/{bulk_id}/undo"):
            answer = other.post(f"/api/v1/{path}", json={}, headers=SAME)
            told = answer.get_json()["error"]["message"]
            assert (answer.status_code, "no source 'main'" in told) == (409, True), path
        undo_id = theirs.bulk_store.create(build_undo(theirs.bulk_store.get(bulk_id), ACTOR))
        for _ in range(3):
            ours.bulk_runner.run_turn()
        assert theirs.bulk_store.get(undo_id).phase is BulkPhase.COLLECTING
        assert theirs.action_service.restore_batch(ACTOR, batch).count(Outcome.DONE) == 1
        assert elsewhere.llen("bull:orders:wait") == 1


def test_a_process_without_a_leader_starts_from_the_last_sample(
    make_app: MakeApp, lead: Lead, server: EmbeddedRedis, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        Queue(f"q{number}", connection=redis_client).enqueue("app.send")
        bull(redis_client, f"b{number}")
    one = lead(redis_url=server.url)
    wait_until(lambda: len(one.sample().queues) == 120, what="all queues")
    redis_client.delete("{queuedeck}:lead")
    store = SnapshotStore(one._watch.own)
    epoch = store.acquire_lease("the-leader", 15).epoch
    assert epoch is not None
    former = one.sample(epoch)
    late = 4 * former.interval_s
    store.publish_snapshot("the-leader", epoch, replace(former, sampled_at=former.sampled_at - late), one.history)
    monkeypatch.setattr(queue_search, "FIRST_BUDGET", (1, 0.0))
    client = make_app().test_client()
    told = client.get("/api/v1/overview").get_json()
    assert len(told["queues"]) == 120
    assert client.get("/queues/main/bullmq/b59").status_code == 200


NARROWER: dict[str, dict[str, Any]] = {
    "queues": {"queues": ["m*"]},
    "backends": {"backends": ["rq"]},
    "prefixes": {"backends": ["bullmq"], "prefixes": ["shop"]},
    "url": {"url": "another database"},
}
WANTED = {
    "queues": [("bullmq", "mail"), ("rq", "mail")],
    "backends": [("rq", "cash"), ("rq", "mail")],
    "prefixes": [("bullmq", "orders")],
    "url": [],
}


@pytest.mark.parametrize("setting", NARROWER)
def test_narrower_settings_keep_the_queues_they_name(
    make_app: MakeApp,
    lead: Lead,
    server: EmbeddedRedis,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
) -> None:
    """Before their own search has found anything."""
    for name in ("mail", "cash"):
        Queue(name, connection=redis_client).enqueue("app.send")
    bull(redis_client, "mail")
    redis_client.hset("shop:orders:meta", "version", "bullmq:5.0.0")
    redis_client.lpush("shop:orders:wait", "1")
    one = lead(redis_url=server.url)
    wait_until(lambda: len(one.sample().queues) == 4, what="all queues")
    former, past = one.sample(1), one.history
    assert past.totals.depth
    changed = dict(NARROWER[setting])
    if "url" in changed:
        changed["url"] = server.url.replace("/0", "/5")
    watched = open_sources(load(environ={}, keywords={"sources": [{"name": "main", "url": server.url} | changed]}))
    try:
        for backend in watched.backends["main"]:
            monkeypatch.setattr(
                backend, "discover_queues", lambda cursor, budget: Discovery((), complete=False, cursor=1)
            )
        narrower = Sampler(watched, 2.0, "narrower")
        narrower.adopt_published(former, past)
        sample = narrower.sample()
        assert [(queue.backend, queue.name) for queue in sample.queues] == WANTED[setting]
        # The sums of the hour before were of other queues.
        assert narrower.history.totals.depth == ()
    finally:
        watched.close()


def test_a_queue_named_with_its_prefix_is_kept(server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    """By the name that the settings know it by, whatever it was called beside another one of that name."""
    bull(redis_client, "mail")
    redis_client.hset("shop:mail:meta", "version", "bullmq:5.0.0")
    watched = open_sources(
        load(environ={}, keywords={"sources": [{"name": "main", "url": server.url, "queues": ["mail"]}]})
    )
    try:
        one = Sampler(watched, 2.0, "one")
        wait_until(lambda: len(one.sample().queues) == 2, what="both queues")
        former = one.sample()
        assert [queue.name for queue in former.queues] == ["mail", "shop:mail"]
        two = Sampler(watched, 2.0, "two")
        two.adopt_published(former, one.history)
        for backend in watched.backends["main"]:
            backend.discover_queues = lambda cursor, budget: Discovery((), complete=False, cursor=1)  # type: ignore[method-assign]
        assert [queue.name for queue in two.sample().queues] == ["mail", "shop:mail"]
    finally:
        watched.close()


@pytest.mark.parametrize("prefix", ["", "queuedeck", "{}", "{a}{b}", "a b{c}", "{a*}", "x" * 200 + "{a}", "{a", "a}"])
def test_a_prefix_without_one_hash_tag_is_rejected(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match=r'STORE_PREFIX: .*as "\{[a-zA-Z0-9._-]+\}"'):
        load(environ={"QUEUEDECK_STORE_PREFIX": prefix})


def test_the_settings_digest_covers_what_is_monitored_and_no_secrets() -> None:
    def of(**keywords: Any) -> str:
        return digest_settings(load(environ={}, keywords=keywords))

    plain = of(redis_url="redis://h:6379/0")
    assert of(redis_url="redis://:secret@h:6379/0") == plain
    assert of(redis_url="redis://h:6379/0", sample_interval_s=5, users=[]) == plain
    names = ["bullmq", "celery", "rq", "sidekiq"]
    assert of(sources=[{"name": "main", "url": "redis://h:6379/0", "backends": names}]) == plain
    others = [
        of(redis_url="redis://h:6379/1"),
        of(redis_url="redis://i:6379/0"),
        of(redis_url="redis://h:6379/0", rules=[DEEP]),
        of(sources=[{"name": "other", "url": "redis://h:6379/0"}]),
        of(sources=[{"name": "main", "url": "redis://h:6379/0", "backends": ["rq"]}]),
    ]
    assert len({plain, *others}) == 6
