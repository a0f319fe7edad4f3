"""Odd queues of BullMQ and Bull on pages and in the API: offered actions, texts, results of actions."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.web.urls import quote_segment
from tests.contract.bullmq_library import BullMQLibrary
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.test_dead_letters import SAME

PRO = "bullmq-pro 7.39.3"
LEFT_ALONE = f"this queue belongs to {PRO}; Queuedeck reads it but does not change it"
ALPHA = "/queues/main/bullmq/alpha"


@pytest.fixture
def client(make_app: MakeApp, redis_client: redis.Redis) -> FlaskClient:
    return make_app(sample_interval_s=0.5).test_client()


def seen(client: FlaskClient, name: str = "alpha") -> dict[str, Any]:
    """The queue as the API returns it, once it was sampled."""
    path = f"/api/v1/queues/main/bullmq/{name}"
    wait_until(lambda: client.get(path).status_code == 200, what=f"the queue {name}")
    found: dict[str, Any] = client.get(path).get_json()
    return found


def post(client: FlaskClient, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    answer = client.post(path, json=body, headers=SAME)
    found: dict[str, Any] = answer.get_json()
    return answer.status_code, found


def test_no_actions_are_offered_for_a_queue_of_an_unknown_release(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    library = BullMQLibrary("bullmq5")
    filled = library.fill(server.url)
    library.drive("call", server.url, "alpha", method="upsertJobScheduler", args=["daily", {"every": 86_400_000}])
    redis_client.hset("bull:alpha:meta", "version", "bullmq-pro:7.39.3")
    queue = seen(client)
    assert (queue["library_version"], queue["read_only"].casefold()) == (PRO, LEFT_ALONE.casefold() + ".")
    assert queue["counts"]["dead"] == 2
    (dead, waiting) = (next(iter(filled.ids["alpha"][state])) for state in ("dead", "waiting"))
    for path in (ALPHA, f"{ALPHA}?state=dead", f"{ALPHA}/jobs/{dead}", f"{ALPHA}/jobs/{waiting}"):
        page = client.get(path).text
        assert f'action="{ALPHA}/act"' not in page, path
        assert f'action="{ALPHA}/queue"' not in page, path
        assert 'name="action"' not in page, path
    assert LEFT_ALONE[5:] in client.get(ALPHA).text
    wait_until(lambda: client.get("/api/v1/schedules").get_json()["total"] == 1, what="the schedule")
    assert 'name="action"' not in client.get("/schedules").text
    wait_until(lambda: client.get("/api/v1/dead").get_json()["groups"], what="its dead letters")
    group = client.get("/api/v1/dead").get_json()["groups"][0]["fingerprint"]
    queues = client.get("/api/v1/dead").get_json()["groups"][0]["queues"]
    if queues == ["alpha"]:
        assert 'value="retry"' not in client.get(f"/dead/{group}").text
    assert client.get(f"/api/v1{ALPHA}/jobs/{dead}").get_json()["capabilities"] == []
    for verb, body in (
        *((verb, {}) for verb in ("retry", "delete", "duplicate")),
        ("edit", {"payload": "{}"}),
        ("delete", {"for_good": True}),
    ):
        status, told = post(client, f"/api/v1{ALPHA}/jobs/{dead}/{verb}", **body)
        assert (status, told["outcome"]) == (422, "unsupported"), (verb, told)
        assert LEFT_ALONE in told["detail"], told
    for verb, body in (("pause", {}), ("resume", {}), ("purge", {}), ("obliterate", {"confirm": "alpha"})):
        status, told = post(client, f"/api/v1{ALPHA}/{verb}", **body)
        assert (status, told["outcome"]) == (422, "unsupported"), (verb, told)
        assert LEFT_ALONE in f"{told['detail'][:1].lower()}{told['detail'][1:]}", told
    spec = {"source": "main", "backend": "bullmq", "queue": "alpha", "state": "dead", "action": "retry"}
    for more in ({"preview": True}, {}, {"ids": [dead]}):
        status, told = post(client, "/api/v1/bulk", **spec, **more)
        assert (status, told["error"]["code"]) == (422, "unsupported"), told
    page = client.post(f"{ALPHA}/queue", data={"action": "pause"}, headers=SAME)
    assert page.status_code == 303
    assert LEFT_ALONE[5:] in client.get(page.headers["Location"]).text
    page = client.post(f"{ALPHA}/jobs/{dead}/act", data={"action": "retry", "state": "dead"}, headers=SAME)
    assert LEFT_ALONE[5:] in client.get(page.headers["Location"]).text
    assert redis_client.hget("bull:alpha:meta", "paused") is None
    assert redis_client.zcard("bull:alpha:failed") == 2


def test_no_action_changes_a_queue_of_bullmq_pro(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    library = BullMQLibrary("bullmq5")

    def add(count: int) -> None:
        for _ in range(count):
            library.drive("add", server.url, "orders")
            redis_client.hset("bull:orders:meta", "version", "bullmq-pro:7.39.3")

    add(5)
    seen(client, "orders")
    assert post(client, "/api/v1/queues/main/bullmq/orders/pause")[1]["outcome"] == "unsupported"
    library.drive("pause", server.url, "orders")
    add(3)
    assert post(client, "/api/v1/queues/main/bullmq/orders/resume")[1]["outcome"] == "unsupported"
    library.drive("resume", server.url, "orders")
    assert library.own_counts(server.url, "orders")["wait"] == 8


def test_an_orphaned_job_is_deleted_and_restored(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    BullMQLibrary().drive("add", server.url, "alpha")
    redis_client.hset("bull:alpha:left", mapping={"failedReason": "x", "stacktrace": "[]", "attemptsMade": 1})
    seen(client)
    job = client.get(f"/api/v1{ALPHA}/jobs/left").get_json()
    assert (job["state"], job["capabilities"]) == (None, ["delete"])
    assert 'value="delete"' in client.get(f"{ALPHA}/jobs/left").text
    status, told = post(client, f"/api/v1{ALPHA}/jobs/left/retry")
    assert (status, told["outcome"]) == (409, "changed")
    assert "not in any list" in told["detail"]
    status, told = post(client, f"/api/v1{ALPHA}/jobs/left/delete")
    assert (status, told["outcome"]) == (200, "done")
    assert redis_client.exists("bull:alpha:left") == 0
    (batch,) = client.get("/api/v1/undo").get_json()["batches"]
    assert (batch["batch"], batch["state"]) == (told["undo"], None)
    assert post(client, f"/api/v1/undo/{told['undo']}")[1]["restored"] == 1
    assert redis_client.hget("bull:alpha:left", "failedReason") == b"x"
    page = client.post(f"{ALPHA}/jobs/left/act", data={"action": "delete", "state": ""}, headers=SAME)
    assert page.status_code == 303
    shown = client.get(page.headers["Location"]).text
    assert redis_client.exists("bull:alpha:left") == 0
    assert "Restore" in shown
    (batch,) = client.get("/api/v1/undo").get_json()["batches"]
    back = client.post("/undo", data={"batch": batch["batch"]}, headers=SAME)
    assert back.status_code == 303
    assert redis_client.exists("bull:alpha:left") == 1
    assert client.get("/api/v1/audit").get_json()["events"][0]["state"] is None


def test_an_active_job_without_a_worker_offers_matching_actions(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    BullMQLibrary().fill(server.url)
    seen(client)
    assert client.get(f"/api/v1{ALPHA}/jobs/held").get_json()["capabilities"] == []
    assert 'value="retry"' not in client.get(f"{ALPHA}?state=active").text
    status, told = post(client, f"/api/v1{ALPHA}/jobs/held/delete")
    assert (status, told["outcome"]) == (409, "changed")
    held = post(client, f"/api/v1{ALPHA}/jobs/held/delete", state="active")[1]
    assert held["detail"] == "a worker is processing it"
    redis_client.delete("bull:alpha:held:lock")
    redis_client.lpush("bull:alpha:active", "gone")
    assert client.get(f"/api/v1{ALPHA}/jobs/held").get_json()["capabilities"] == ["retry", "delete"]
    assert 'value="retry"' in client.get(f"{ALPHA}?state=active").text
    assert post(client, f"/api/v1{ALPHA}/jobs/held/retry")[1]["outcome"] == "done"
    spec = {"source": "main", "backend": "bullmq", "queue": "alpha", "state": "active", "action": "delete"}
    status, told = post(client, "/api/v1/bulk", **spec)
    assert status == 201, told
    path = f"/api/v1/bulk/{told['bulk_id']}"
    wait_until(lambda: client.get(path).get_json()["state"] == "done", what="the bulk work")
    assert client.get(path).get_json()["outcomes"] == {"done": 1}
    assert redis_client.llen("bull:alpha:active") == 0


@pytest.mark.parametrize("state", ["waiting", "scheduled", "dead", "completed", "blocked"])
def test_an_id_without_a_job_is_deleted_alone_and_in_bulk(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis, state: str
) -> None:
    filled = BullMQLibrary().fill(server.url)
    ids = filled.ids["alpha"][state][:2]  # type: ignore[index]
    redis_client.delete(*(f"bull:alpha:{job_id}" for job_id in ids))
    seen(client)
    status, told = post(client, f"/api/v1{ALPHA}/jobs/{ids[0]}/delete")
    assert (status, told["outcome"]) == (200, "done"), told
    assert post(client, f"/api/v1/undo/{told['undo']}")[1]["restored"] == 1
    spec = {"source": "main", "backend": "bullmq", "queue": "alpha", "state": state, "action": "delete", "ids": ids}
    status, told = post(client, "/api/v1/bulk", **spec)
    path = f"/api/v1/bulk/{told['bulk_id']}"
    wait_until(lambda: client.get(path).get_json()["state"] == "done", what="the bulk work")
    assert client.get(path).get_json()["outcomes"] == {"done": len(ids)}
    left = client.get(f"/api/v1{ALPHA}/jobs?state={state}").get_json()["jobs"]
    assert not set(ids) & {job["id"] for job in left}


def test_the_next_run_of_a_bullmq_4_schedule_cannot_be_deleted(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    BullMQLibrary("bullmq4").drive("schedule", server.url, "alpha")
    seen(client)
    runs = [run.decode() for run in redis_client.zrange("bull:alpha:delayed", 0, -1)]
    for body in ({}, {"for_good": True}):
        _, told = post(client, f"/api/v1{ALPHA}/jobs/{quote_segment(runs[0])}/delete", **body)
        assert (told["outcome"], told["detail"]) == (
            "refused",
            "it is the next run of a schedule; remove the schedule instead",
        )
    spec = {"source": "main", "backend": "bullmq", "queue": "alpha", "state": "scheduled", "action": "delete"}
    _, told = post(client, "/api/v1/bulk", **spec, for_good=True)
    path = f"/api/v1/bulk/{told['bulk_id']}"
    wait_until(lambda: client.get(path).get_json()["state"] == "done", what="the bulk work")
    assert client.get(path).get_json()["outcomes"] == {"refused": 2}
    assert redis_client.zcard("bull:alpha:delayed") == 2


def test_a_schedule_that_will_not_run_again_says_so(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    BullMQLibrary("bullmq5").drive("schedule", server.url, "alpha")
    runs = [run.decode() for run in redis_client.zrange("bull:alpha:delayed", 0, -1)]
    (hourly,) = (run for run in runs if redis_client.hget(f"bull:alpha:{run}", "name") == b"hourly")
    redis_client.zrem("bull:alpha:delayed", hourly)
    redis_client.zadd("bull:alpha:completed", {hourly: 1_700_000_000_000})
    seen(client)
    told = {each["name"]: each for each in client.get("/api/v1/schedules").get_json()["schedules"]}
    assert told["hourly"]["problem"].startswith("it will not run again: ")
    assert told["hourly"]["next_run_at"] is None
    assert told["nightly"]["problem"] is None
    page = client.get("/schedules").text
    assert "it will not run again: the job of its next run is already in completed" in page
    assert "Remove the schedule" in page


def test_links_work_for_queues_and_ids_with_colons(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    # BullMQ 4 allows colons in ids; 5 and 6 write the same keys for the runs of a schedule.
    library = BullMQLibrary("bullmq4")
    library.drive("flows", server.url, "pc", count=1, children=1, child_queue="cc")
    own, line = "order:17", "line:1"
    redis_client.rename("bull:pc:p0", f"bull:pc:{own}")
    redis_client.zrem("bull:pc:waiting-children", "p0")
    redis_client.zadd("bull:pc:waiting-children", {own: 1})
    redis_client.delete("bull:pc:p0:dependencies")
    redis_client.sadd(f"bull:pc:{own}:dependencies", f"bull:cc:{line}")
    redis_client.rename("bull:cc:p0c0", f"bull:cc:{line}")
    redis_client.lrem("bull:cc:wait", 0, "p0c0")
    redis_client.lpush("bull:cc:wait", line)
    parent = {"id": own, "queueKey": "bull:pc"}
    redis_client.hset(f"bull:cc:{line}", mapping={"parentKey": f"bull:pc:{own}", "parent": json.dumps(parent)})
    seen(client, "pc")
    seen(client, "cc")
    told = client.get(f"/api/v1/queues/main/bullmq/cc/jobs/{quote_segment(line)}").get_json()["parent"]
    assert (told["id"], told["queue"], told["source"]) == (own, "pc", "main")
    (told,) = client.get(f"/api/v1/queues/main/bullmq/pc/jobs/{quote_segment(own)}").get_json()["children"]
    assert (told["id"], told["queue"], told["source"]) == (line, "cc", "main")
    redis_client.hdel(f"bull:cc:{line}", "parent")
    told = client.get(f"/api/v1/queues/main/bullmq/cc/jobs/{quote_segment(line)}").get_json()["parent"]
    assert (told["id"], told["queue"], told["source"]) == (own, "pc", "main")


def test_a_waiting_job_names_the_rate_limit_of_its_workers(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    job_id = BullMQLibrary().drive("add", server.url, "alpha")["id"]
    redis_client.set("bull:alpha:limiter", 1, px=3_600_000)
    seen(client)
    wait_until(lambda: seen(client)["notes"], what="the note")
    assert "worker's rate limiter counts starts: 1 so far, resets in" in seen(client)["notes"][0]
    page = client.get(f"{ALPHA}/jobs/{job_id}").text
    assert "rate limiter counts starts: 1 so far, resets in" in page
    assert "If the limit is reached, no job starts until then." in page


def test_a_job_that_succeeded_in_the_end_shows_its_former_error_folded(
    client: FlaskClient, redis_client: redis.Redis
) -> None:
    redis_client.hset("bull:alpha:meta", "version", "bullmq:5.81.0")
    fields = {"name": "send", "data": "{}", "opts": '{"attempts":3}', "timestamp": 1_700_000_000_000, "atm": 2}
    fields |= {"processedOn": 1_700_000_001_000, "finishedOn": 1_700_000_002_000, "returnvalue": "null"}
    fields |= {"failedReason": "502 Bad Gateway", "stacktrace": '["Error: 502 Bad Gateway\\n    at send (a.js:1:1)"]'}
    for name, progress in (("j1", '{"step":"resize","ok":true}'), ("j2", "40")):
        redis_client.hset(f"bull:alpha:{name}", mapping=fields | {"progress": progress})
    redis_client.zadd("bull:alpha:completed", {"j1": 1_700_000_002_000})
    redis_client.zadd("bull:alpha:failed", {"j2": 1_700_000_002_000})
    seen(client)
    done, failed = (client.get(f"{ALPHA}/jobs/{name}").text for name in ("j1", "j2"))
    assert 'class="panel error"' not in done
    assert '<details class="panel former-error"><summary>Attempt 1 failed: Error: 502 Bad Gateway</summary>' in done
    assert done.index("timeline-title") < done.index("former-error")
    assert 'class="panel error"' in failed
    assert "former-error" not in failed
    assert "{'step'" not in done
    assert "&#39;step&#39;" not in done
    assert '<b>step</b><span class="string">resize</span>' in done
    assert "40%" in failed
