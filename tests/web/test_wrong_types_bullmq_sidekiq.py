"""A key of a wrong type costs one line of its queue: no page and no API list breaks, and all other queues are right."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Callable, Iterator
from itertools import cycle

import pytest
import redis
from flask.testing import FlaskClient

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import State
from tests.contract.bullmq_library import BullMQLibrary
from tests.contract.sidekiq_worker import failed_payload, jid_of, payload
from tests.contract.test_odd_data import KINDS, far_apart
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.test_dead_letters import SAME

PAGES = ("/", "/dead", "/workers", "/schedules", "/search?q=good", "/metrics")
LISTS = ("overview", "queues", "dead", "search?q=good", "workers", "schedules", "redis")
Dump = dict[bytes, bytes]


def fill_bullmq(server: EmbeddedRedis, client: redis.Redis) -> None:
    library = BullMQLibrary()
    library.fill(server.url)  # alpha, beta
    library.drive("schedule", server.url, "alpha")
    client.set("bull:alpha:limiter", 1, px=60_000)
    client.sadd("bull:alpha:stalled", "1")
    client.hset("bull:alpha:metrics:completed", mapping={"count": 1, "prevTS": 1, "prevCount": 0})
    client.lpush("bull:alpha:metrics:completed:data", 1)


def fill_sidekiq(server: EmbeddedRedis, client: redis.Redis) -> None:
    client.mset({"stat:processed": 1, "stat:failed": 0})
    for queue in ("alpha", "beta"):
        client.sadd("queues", queue)
        client.lpush(f"queue:{queue}", payload(f"good {queue}", queue=queue))
    for name in ("schedule", "retry", "dead"):
        client.zadd(name, {failed_payload(f"good {name}"): 1_700_000_000})
    info = {"hostname": "web", "pid": 1, "queues": ["alpha", "beta"], "concurrency": 5, "version": "7.3.9"}
    client.sadd("processes", "web:1:aa")
    client.hset("web:1:aa", mapping={"info": json.dumps(info), "busy": 1, "beat": time.time(), "quiet": "false"})
    work = {"queue": "alpha", "payload": payload("running"), "run_at": time.time()}
    client.hset("web:1:aa:work", "t1", json.dumps(work))
    client.sadd("paused", "beta")
    client.sadd("cron_jobs:default", "cron_job:default:a")
    client.hset("cron_job:default:a", mapping={"name": "a", "cron": "* * * * *", "klass": "A", "status": "enabled"})
    client.hset("schedules", "nightly", json.dumps({"cron": "0 0 * * *", "class": "N"}))
    client.hset(f"it-{jid_of('good alpha')}", mapping={"ex": 1, "rt": "1", "c": "4"})
    client.hset(time.strftime("j|%Y%m%d|%H:%M", time.gmtime()), mapping={"Mark|p": 3, "Mark|ms": 100})


# Without these, others are not read: they have another type alone.
FIRST_READ = {b"bull:alpha:meta", b"queues", b"processes"}
FILLS: dict[str, Callable[[EmbeddedRedis, redis.Redis], None]] = {"bullmq": fill_bullmq, "sidekiq": fill_sidekiq}


def spoilt(keys: list[bytes]) -> Iterator[bytes]:
    """One key of each kind: of the keys of jobs that differ in nothing but the id, one."""
    seen: set[bytes] = set()
    for key in keys:
        kind = re.sub(rb"[0-9a-f]{8}-[0-9a-f-]{27}|\d+", b"N", key)
        if b":beta" not in key and kind not in seen:
            seen.add(kind)
            yield key


def spoil(client: redis.Redis, key: bytes, kinds: Iterator[Callable[[redis.Redis, bytes], object]]) -> None:
    """Give a key the next type that it does not have."""
    was = client.type(key)
    while client.type(key) in (was, b"none"):
        client.delete(key)
        next(kinds)(client, key)


def read_all(client: FlaskClient, library: str, queues: list[str]) -> dict[str, tuple[int, str]]:
    """Status and text of every page and list."""
    paths = [*PAGES, *(f"/api/v1/{name}" for name in LISTS)]
    for queue in queues:
        paths += [f"/queues/main/{library}/{queue}", f"/api/v1/queues/main/{library}/{queue}"]
        paths += [f"/queues/main/{library}/{queue}?state={state.value}" for state in State]
        paths += [f"/api/v1/queues/main/{library}/{queue}/jobs?state={state.value}" for state in State]
    answers = {path: client.get(path) for path in paths}
    return {path: (answer.status_code, answer.text) for path, answer in answers.items()}


# How many keys have another type at the same time; in the soak each key has it by itself.
@pytest.mark.parametrize("together", [2, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("library", FILLS)
def test_a_key_of_the_wrong_type_is_one_error_line(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis, library: str, together: int
) -> None:
    FILLS[library](server, redis_client)
    client = make_app().test_client()
    queues: list[str] = []

    def found() -> bool:
        queues[:] = [queue["name"] for queue in client.get("/api/v1/queues").get_json()["queues"]]
        return {"alpha", "beta"} <= set(queues)

    wait_until(found, what="both queues")
    named = [name for name in queues if name != "beta"]
    fine = {path: status for path, (status, _) in read_all(client, library, named).items()}
    assert set(fine.values()) <= {200, 422}
    beta = f"/api/v1/queues/main/{library}/beta/jobs?state=waiting"
    before = client.get(beta).get_json()
    ids = [job_ids(client, library, state) for state in ("dead", "waiting", "scheduled")]
    dump: Dump = {key: redis_client.dump(key) for key in sorted(redis_client.scan_iter())}
    kinds = cycle(list(KINDS.values())[:5])
    keys = list(spoilt(list(dump)))
    alone = [[key] for key in keys if key in FIRST_READ]
    for chosen in (*alone, *far_apart([key for key in keys if key not in FIRST_READ], together)):
        for key in chosen:
            spoil(redis_client, key, kinds)
        types = [(key, redis_client.type(key)) for key in chosen]
        for path, (status, text) in read_all(client, library, named).items():
            others = () if path in PAGES or not path.startswith("/api") else (404, 409)
            assert status == fine[path] or status in others, (types, path, text[:500])
            if status == 409:
                assert "type" in json.loads(text)["error"]["message"], text
        after = client.get(beta).get_json()
        assert [job["id"] for job in after["jobs"]] == [job["id"] for job in before["jobs"]], types
        for queue, job_id in ids:
            for verb in ("retry", "promote", "duplicate", "delete"):
                path = f"/api/v1/queues/main/{library}/{queue}/jobs/{job_id}/{verb}"
                acted = client.post(path, headers=SAME, json={})
                assert acted.status_code < 500, (types, path, acted.text)
        for other, value in dump.items():
            redis_client.restore(other, 0, value, replace=True)


def test_waiting_jobs_in_a_key_of_the_wrong_type_are_unknown(make_app: MakeApp, redis_client: redis.Redis) -> None:
    for queue in ("alpha", "beta"):
        redis_client.hset(f"bull:{queue}:meta", "version", "bullmq:5.81.0")
    redis_client.set("bull:alpha:wait", "another type")
    redis_client.hset("bull:beta:1", mapping={"name": "good", "timestamp": 1_700_000_000_000})
    redis_client.rpush("bull:beta:wait", "1")
    client = make_app().test_client()
    wait_until(lambda: len(client.get("/api/v1/queues").get_json()["queues"]) == 2, what="both queues")
    page = client.get("/queues/main/bullmq/alpha?state=waiting").text
    assert "The waiting jobs could not be read" in page
    assert "No jobs waiting" not in page
    assert ">1+<" in client.get("/").text
    assert "waiting" in client.get("/api/v1/overview").get_json()["totals_at_least"]


def job_ids(client: FlaskClient, library: str, state: str) -> tuple[str, str]:
    """The queue and id of a job in that state."""
    queue = "*" if library == "sidekiq" and state != "waiting" else "alpha"
    (job, *_) = client.get(f"/api/v1/queues/main/{library}/{queue}/jobs?state={state}").get_json()["jobs"]
    return queue, job["id"]


def test_readable_lists_are_shown_beside_unreadable_ones(make_app: MakeApp, redis_client: redis.Redis) -> None:
    redis_client.hset("bull:alpha:meta", "version", "bullmq:5.81.0")
    redis_client.set("bull:alpha:wait", "another type")
    redis_client.hset("bull:alpha:7", mapping={"name": "urgent", "timestamp": 1_700_000_000_000, "data": "{}"})
    redis_client.zadd("bull:alpha:prioritized", {"7": 1})
    client = make_app().test_client()
    wait_until(lambda: len(client.get("/api/v1/queues").get_json()["queues"]) == 1, what="the queue")
    why = "The wait list of 'alpha' cannot be read: its key has the wrong type."
    listed = client.get("/api/v1/queues/main/bullmq/alpha/jobs?state=waiting").get_json()
    assert [job["id"] for job in listed["jobs"]] == ["7"]
    assert (listed["total"], listed["at_least"], listed["problems"]) == (1, True, [why])
    page = client.get("/queues/main/bullmq/alpha?state=waiting").text
    assert why in html.unescape(page)
    assert "urgent" in page
    assert "1–1 of 1+" in page
    assert re.search(r">waiting <b><span [^>]*>1\+</span></b>", page)
    for asked in ("/api/v1/search?q=urgent", "/api/v1/queues/main/bullmq/alpha/jobs?state=waiting&q=urgent"):
        found = client.get(asked).get_json()
        assert [job["id"] for job in found["jobs"]] == ["7"]
        assert (found["at_least"], found["problems"]) == (True, [f"alpha: {why}"])
    bulk = {"action": "delete", "source": "main", "backend": "bullmq", "queue": "alpha", "state": "waiting"}
    preview = client.post("/api/v1/bulk", json=bulk | {"preview": True}, headers=SAME).get_json()
    line = f"alpha (bullmq on main): {why}"
    assert (preview["matched"], preview["exact"], preview["unread"]) == (1, False, [line])
    for more in ({"q": "urgent"}, {}):
        work = client.post("/api/v1/bulk", json=bulk | more, headers=SAME).get_json()
        assert (work["matched"], work["unread"]) == (1, [line])
        url = f"/api/v1/bulk/{work['bulk_id']}"
        wait_until(lambda url=url: client.get(url).get_json()["ended_at"], what="the end of the work")
        done = client.get(url).get_json()
        assert (done["unread"], done["matched"]) == ([line], 1)
    redis_client.delete("bull:alpha:prioritized")
    empty = client.get("/api/v1/queues/main/bullmq/alpha/jobs?state=waiting").get_json()
    assert (empty["jobs"], empty["total"], empty["problems"]) == ([], None, [why])
    assert why in html.unescape(client.get("/queues/main/bullmq/alpha?state=waiting").text)
