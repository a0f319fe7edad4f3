"""Actions on an error group: its buttons, selected jobs, and bulk operations on all of it, across libraries."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from rq import Queue
from rq.job import JobStatus

from dashboard import Identity, Role
from dashboard.actions import trash
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.sources.metering import measure_cost
from dashboard.web.context import EXTENSION
from dashboard.web.pages.bulk import operations as bulk
from tests.contract.bullmq_library import BullMQLibrary
from tests.contract.rq_library import open_client, run_waiting_jobs
from tests.contract.sidekiq_worker import failed_payload, payload
from tests.dead_letters import failing_jobs
from tests.dead_letters.test_groups import fail_rq
from tests.e2e.on_call import LIBRARIES, Night
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.test_dead_letters import SAME, groups
from tests.workloads import rq_jobs


@pytest.fixture
def client(make_app: MakeApp, redis_client: redis.Redis) -> FlaskClient:
    """A browser on this machine, on an empty Redis that is looked at twice a second."""
    return make_app(sample_interval_s=0.5).test_client()


def both(server: EmbeddedRedis, redis_client: redis.Redis, count: int = 4) -> None:
    """`count` jobs of BullMQ and as many of Sidekiq that died of the same error, none with a stack."""
    ids = BullMQLibrary().drive("many", server.url, "mails", count=count, dead=True)["ids"]
    for job_id in ids:
        redis_client.hdel(f"bull:mails:{job_id}", "stacktrace")
        redis_client.hset(f"bull:mails:{job_id}", "failedReason", f"no route to 10.0.0.{job_id}")
    redis_client.sadd("queues", "work")
    redis_client.lpush("queue:work", payload("first"))
    jobs = [failed_payload(f"s{n}", error_class=None, error_message=f"no route to 10.0.0.{n}") for n in range(count)]
    redis_client.zadd("dead", {job: 1_700_000_000 + n for n, job in enumerate(jobs)})


def the_group(client: FlaskClient, count: int) -> str:
    """Its fingerprint, once all of its jobs were seen."""

    def found() -> Any:
        return next((group["fingerprint"] for group in groups(client) if group["count"] == count), None)

    return str(wait_until(found, what=f"a group of {count}"))


def frozen(client: FlaskClient) -> None:
    """From now on no look at Redis brings what changed: what is shown follows the acts of this process alone."""
    client.application.extensions[EXTENSION].services.dead_letter_service._next_read = float("inf")


def buttons(text: str) -> list[str]:
    return re.findall(r'<a class="button[^>]*>([^<]*)</a>', text)


def ticks(text: str) -> list[str]:
    return re.findall(r'name="pick" value="([^"]*)"', text)


def done(client: FlaskClient, bulk_id: str) -> dict[str, Any]:
    def ended() -> Any:
        work = client.get(f"/api/v1/bulk/{bulk_id}").get_json()
        return work["state"] in ("done", "failed") and work

    return dict(wait_until(ended, what=f"the end of bulk work {bulk_id}"))


def test_the_page_offers_actions_with_the_number_of_jobs(client: FlaskClient, dead: list[str]) -> None:
    fingerprint = the_group(client, 5)
    text = client.get(f"/dead/{fingerprint}").text
    assert buttons(text) == ["Retry all 5…", "Delete all 5…"]
    assert len(ticks(text)) == 5
    for action in ("retry", "delete"):
        page = client.get("/bulk/new", query_string={"fingerprint": fingerprint, "action": action}).text
        assert f"{action.title()} 5 jobs" in page
        assert f'href="/dead/{fingerprint}"' in page
        assert ("Canary" in page) == (action == "retry")
        assert "RQ: " in page


def test_users_without_the_role_see_no_buttons(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    fail_rq(server, "mail", (failing_jobs.mail, "a@example.com", 1))
    viewer = {"identify": lambda _: Identity(name="vera", role=Role.VIEWER)}
    for settings, status in ((viewer, 403), ({"read_only": True}, 404)):
        client = make_app(**settings).test_client()
        fingerprint = the_group(client, 1)
        text = client.get(f"/dead/{fingerprint}").text
        assert 'class="grid list members"' in text
        assert (buttons(text), ticks(text), 'method="post"' in text) == ([], [], False)
        assert client.post(f"/dead/{fingerprint}/act", data={"action": "retry"}, headers=SAME).status_code == status


@pytest.mark.parametrize("night", LIBRARIES, ids=repr)
def test_a_viewer_of_each_library_sees_no_buttons_and_changes_nothing(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis, night: Night
) -> None:
    viewer = {"identify": lambda _: Identity(name="vera", role=Role.VIEWER)}
    with night.dying(server.url, 3):
        app = make_app(checker="auto", alerts="off", sample_interval_s=0.5, **viewer)
        app.extensions[EXTENSION].start()  # the failed jobs of Celery are known to the process that samples
        client = app.test_client()
        fingerprint = the_group(client, 3)
        group = client.get(f"/dead/{fingerprint}").text
        shelf = f"/queues/main/{night.name}/{night.shelf}"
        jobs = {html.unescape(path) for path in re.findall(rf'href="({re.escape(shelf)}/jobs/[^"?#]+)"', group)}
        assert len(jobs) == 3
        job = jobs.pop()
        for path in (f"/dead/{fingerprint}", f"{shelf}?state=dead", job, "/bulk"):
            answer = client.get(path)
            assert answer.status_code == 200
            assert re.findall(r'data-tick|method="post"|class="bulk-bar|/bulk/new', answer.text) == [], path
        everything = {"source": "main", "backend": night.name, "queue": night.shelf, "state": "dead"}
        for path, body in (
            (f"/api/v1{job}/retry", {}),
            (f"/api/v1{job}/delete", {}),
            ("/api/v1/bulk", {"action": "delete", **everything}),
            (f"/api/v1{shelf}/pause", {}),
        ):
            assert client.post(path, json=body, headers=SAME).status_code == 403, path
        assert client.get(f"/api/v1{shelf}/jobs?state=dead").get_json()["total"] == 3


@pytest.mark.parametrize("action", ["retry", "delete"])
def test_selected_jobs_of_two_libraries_disappear_immediately(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis, action: str
) -> None:
    both(server, redis_client)
    fingerprint = the_group(client, 8)
    text = client.get(f"/dead/{fingerprint}").text
    tokens = [*ticks(text)[:2], *ticks(text)[-2:]]
    frozen(client)
    answer = client.post(f"/dead/{fingerprint}/act", data={"action": action, "pick": tokens}, headers=SAME)
    assert answer.status_code == 303
    text = client.get(answer.headers["Location"]).text
    assert f"4 jobs {'retried' if action == 'retry' else 'deleted'}." in text
    assert len(ticks(text)) == 4
    assert not set(tokens) & set(ticks(text))
    assert "Retry all 4" in text
    assert groups(client)[0]["count"] == 4
    assert (redis_client.zcard("bull:mails:failed"), redis_client.zcard("dead")) == (2, 2)
    events = client.get("/api/v1/audit").get_json()["events"]
    assert sorted((event["backend"], event["count"]) for event in events) == [("bullmq", 2), ("sidekiq", 2)]
    if action == "retry":
        assert (redis_client.llen("bull:mails:wait"), redis_client.llen("queue:work")) == (2, 3)
        assert "Restore" not in text
        return
    batches = re.findall(r'name="batch" value="([^"]*)"', text)
    answer = client.post("/undo", data={"batch": batches, "fingerprint": fingerprint}, headers=SAME)
    text = client.get(answer.headers["Location"]).text
    assert "4 jobs restored." in text
    assert len(ticks(text)) == 8
    assert (redis_client.zcard("bull:mails:failed"), redis_client.zcard("dead")) == (4, 4)


def test_the_question_about_jobs_of_a_group_counts_them_by_queue(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    both(server, redis_client)
    fingerprint = the_group(client, 8)
    tokens = ticks(client.get(f"/dead/{fingerprint}").text)
    answer = client.post(f"/dead/{fingerprint}/confirm", data={"action": "delete", "pick": tokens}, headers=SAME)
    facts = [html.unescape(fact) for fact in re.findall(r"<dt>Queues?</dt><dd>([^<]*)</dd>", answer.text)]
    assert sorted(facts) == ["All Sidekiq queues on main: 4 dead jobs", "mails on main: 4 dead jobs"]
    error = re.findall(r"<dt>Error group</dt><dd>([^<]*)</dd>", answer.text)
    assert len(error) == 1
    assert error[0].startswith("no route to 10.0.0.")
    assert client.post(f"/dead/{fingerprint}/confirm", data={"action": "delete"}, headers=SAME).status_code == 409


def test_selected_jobs_that_no_longer_exist_are_reported(
    client: FlaskClient, redis_client: redis.Redis, dead: list[str]
) -> None:
    fingerprint = the_group(client, 5)
    tokens = ticks(client.get(f"/dead/{fingerprint}").text)
    redis_client.zrem("rq:failed:mail", dead[0])
    redis_client.delete(f"rq:job:{dead[0]}")
    answer = client.post(f"/dead/{fingerprint}/act", data={"action": "retry", "pick": tokens}, headers=SAME)
    text = client.get(answer.headers["Location"]).text
    assert "4 jobs retried; 1 no longer exists." in text
    assert "No jobs left in this group" in text
    for form, status in (
        ({"action": "retry"}, 409),
        ({"action": "retry", "pick": "x"}, 409),
        ({"action": "obliterate", "pick": tokens}, 422),
        ({"action": "dance", "pick": tokens}, 422),
        ({"action": "retry", "pick": tokens[0][:-8]}, 409),
    ):
        assert client.post(f"/dead/{fingerprint}/act", data=form, headers=SAME).status_code == status, form
    assert client.post("/dead/x/act", data={"action": "retry", "pick": tokens}, headers=SAME).status_code == 404


def test_a_bulk_on_a_group_retries_in_two_libraries(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    both(server, redis_client)
    fail_rq(server, "mail", (failing_jobs.mail, "a@example.com", 1))
    fingerprint = the_group(client, 8)
    frozen(client)
    form = {"action": "retry", "fingerprint": fingerprint, "pace": "0", "reason": "the route is back"}
    answer = client.post("/bulk", data=form, headers=SAME)
    work = done(client, answer.headers["Location"].rpartition("/")[2])
    assert (work["state"], work["matched"], work["outcomes"]) == ("done", 8, {"done": 8})
    assert (redis_client.zcard("bull:mails:failed"), redis_client.zcard("dead")) == (0, 0)
    assert redis_client.llen("bull:mails:wait") == 4
    queued = [json.loads(raw)["jid"] for raw in redis_client.lrange("queue:work", 0, -1)]
    assert len(set(queued)) == 5
    assert redis_client.zcard("rq:failed:mail") == 1
    # No viewer sees them any more, though nobody looked at Redis since.
    assert [group["error_class"] for group in groups(client)] == ["ConnectionError"]
    assert "No jobs left in this group" in client.get(f"/dead/{fingerprint}").text


def test_a_bulk_on_a_group_deletes_in_two_libraries_and_is_undone(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    both(server, redis_client)
    before = (redis_client.zrange("bull:mails:failed", 0, -1, withscores=True), redis_client.zrange("dead", 0, -1))
    fingerprint = the_group(client, 8)
    body = {"action": "delete", "fingerprint": fingerprint, "pace_per_s": 0}
    work = done(client, client.post("/api/v1/bulk", json=body, headers=SAME).get_json()["bulk_id"])
    assert (work["outcomes"], work["undoable"]) == ({"done": 8}, True)
    assert (redis_client.zcard("bull:mails:failed"), redis_client.zcard("dead")) == (0, 0)
    answer = client.post(f"/api/v1/bulk/{work['bulk_id']}/undo", json={}, headers=SAME)
    assert answer.get_json()["restored"] == 8
    after = (redis_client.zrange("bull:mails:failed", 0, -1, withscores=True), redis_client.zrange("dead", 0, -1))
    assert after == before
    assert groups(client)[0]["count"] == 8


def test_a_long_group_is_paged_on_the_page_and_in_the_api(client: FlaskClient, server: EmbeddedRedis) -> None:
    BullMQLibrary().drive("many", server.url, "mails", count=120, dead=True)
    fingerprint = the_group(client, 120)
    text = " ".join(client.get(f"/dead/{fingerprint}").text.split())
    assert "1–50 of 120, newest first" in text
    assert f"/dead/{fingerprint}/_group?page=" not in text
    assert len(ticks(text)) == 50
    last = client.get(f"/dead/{fingerprint}?page=3").text
    assert "101–120 of 120" in last
    assert f"/dead/{fingerprint}/_group?page=3" in last
    assert len(ticks(last)) == 20
    assert ticks(client.get(f"/dead/{fingerprint}/_group?page=3").text) == ticks(last)
    assert ticks(client.get(f"/dead/{fingerprint}?page=99").text) == ticks(last)
    ids: list[str] = []
    for page in (1, 2, 3):
        answer = client.get(f"/api/v1/dead/{fingerprint}?page={page}&per_page=40").get_json()
        assert (answer["page"], answer["per_page"], answer["count"]) == (page, 40, 120)
        ids += [job["id"] for job in answer["jobs"]]
    assert len(set(ids)) == 120


def test_a_long_group_asks_redis_for_nothing_to_list_a_page(
    once_told: None, client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    """What is asked of Redis for a page, or a preview, of a long group: nothing but the samples and the marks of its
    chart."""
    BullMQLibrary().drive("many", server.url, "mails", count=500, dead=True)
    fingerprint = the_group(client, 500)
    client.get(f"/dead/{fingerprint}")
    frozen(client)
    client.application.extensions[EXTENSION].services.snapshots.current()
    client.application.extensions[EXTENSION].services.snapshots._readings.keep_s = float("inf")
    costs = {f"/dead/{fingerprint}?page=9": 2, f"/bulk/new?fingerprint={fingerprint}&action=retry": 0}
    for path, commands in costs.items():
        with measure_cost() as meter:
            assert client.get(path).status_code == 200
        assert meter.commands == commands, path


def test_other_actions_remove_dead_letters_from_the_groups_too(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis, dead: list[str]
) -> None:
    the_group(client, 5)
    frozen(client)
    answer = client.post(f"/api/v1/queues/main/rq/mail/jobs/{dead[0]}/retry", json={}, headers=SAME)
    assert answer.get_json()["outcome"] == "done"
    assert groups(client)[0]["count"] == 4
    again = client.post(f"/api/v1/queues/main/rq/mail/jobs/{dead[0]}/retry", json={}, headers=SAME)
    assert (again.status_code, again.get_json()["outcome"]) == (409, "changed")
    assert again.get_json()["detail"] == "The job is waiting; RQ does not support retry there."
    answer = client.post(f"/api/v1/queues/main/rq/mail/jobs/{dead[1]}/delete", json={}, headers=SAME)
    assert groups(client)[0]["count"] == 3
    client.post(f"/api/v1/undo/{answer.get_json()['undo']}", json={}, headers=SAME)
    with open_client(server.url) as other:
        other.zrem("rq:failed:cash", *other.zrange("rq:failed:cash", 0, -1))
    # An undo is seen by the next viewer, and with it all else that changed.
    assert [group["count"] for group in groups(client)] == [4]


@pytest.mark.parametrize(
    ("path", "status", "outcome"),
    [("jobs/nobody/retry", 404, "gone"), ("jobs/nobody/explode", 422, "unsupported"), ("pause", 200, "done")],
)
def test_an_action_by_the_api_returns_every_kind_of_outcome(
    client: FlaskClient, dead: list[str], path: str, status: int, outcome: str
) -> None:
    the_group(client, 5)
    answer = client.post(f"/api/v1/queues/main/rq/mail/{path}", json={}, headers=SAME)
    assert (answer.status_code, answer.get_json()["outcome"]) == (status, outcome)
    if status != 200:
        assert answer.get_json()["error"]["message"] == answer.get_json()["detail"]


def redrivable(server: EmbeddedRedis, redis_client: redis.Redis) -> None:
    """Copies of failed jobs in dead-letter queues of BullMQ, RQ and Sidekiq, all of which record their origin queue."""
    library = BullMQLibrary()
    for queue in ("mails", "news"):
        library.drive("counts", server.url, queue)
        redis_client.hset(f"bull:{queue}:meta", "version", "bullmq:6.7.0")
    for home in ("mails", "mails", "news"):
        library.drive("add", server.url, "mails-dlq", name="send", data={"originalQueue": home, "to": "ä"})
    with open_client(server.url) as other:
        for name in ("cash", "cash-dlq"):
            Queue(name, connection=other).enqueue(rq_jobs.add, 7, original_queue="cash")
    redis_client.sadd("queues", "work", "work-dlq")
    redis_client.lpush("queue:work", payload("first"))
    redis_client.lpush("queue:work-dlq", payload("again", queue="work-dlq", args=[{"original_queue": "work"}]))


def spots(client: FlaskClient) -> dict[str, str]:
    """The groups by their first queue, once those of three queues are listed."""

    def found() -> Any:
        here = {group["queues"][0]: group["fingerprint"] for group in groups(client)}
        return len(here) == 3 and here

    return dict(wait_until(found, what="the dead-letter queues"))


def test_jobs_in_dead_letter_queues_return_to_their_origin_queues(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    redrivable(server, redis_client)
    found = spots(client)
    text = client.get(f"/dead/{found['mails-dlq']}").text
    assert buttons(text) == ["Redrive all 3…", "Delete all 3…"]
    assert "from news" in text
    page = client.get("/bulk/new", query_string={"fingerprint": found["mails-dlq"], "action": "move"}).text
    assert "Redrive 3 jobs" in page
    assert "2 came from <b>mails</b>, 1 came from <b>news</b>." in page
    assert 'name="target" value=""' in page
    page = client.get("/bulk/new", query_string={"fingerprint": found["cash-dlq"], "action": "move"}).text
    assert 'name="target" value="cash"' in page
    data = redis_client.hget("bull:mails-dlq:1", "data")
    frozen(client)
    for queue in ("mails-dlq", "cash-dlq", "work-dlq"):
        form = {"action": "move", "fingerprint": found[queue], "pace": "0", "target": ""}
        answer = client.post("/bulk", data=form, headers=SAME)
        work = done(client, answer.headers["Location"].rpartition("/")[2])
        assert work["outcomes"] == {"done": work["matched"]}, (queue, work)
    assert groups(client) == []
    assert (redis_client.llen("bull:mails:wait"), redis_client.llen("bull:news:wait")) == (2, 1)
    assert redis_client.exists("bull:mails-dlq:wait", "rq:queue:cash-dlq", "queue:work-dlq") == 0
    assert redis_client.hget("bull:mails:1", "data") == data
    assert (redis_client.llen("rq:queue:cash"), redis_client.llen("queue:work")) == (2, 2)
    with open_client(server.url) as other:
        back = Queue("cash", connection=other).jobs
        assert [job.origin for job in back] == ["cash", "cash"]
        run_waiting_jobs(Queue("cash", connection=other))
        assert [job.get_status() for job in back] == [JobStatus.FINISHED] * 2
    moved = json.loads(redis_client.lrange("queue:work", 0, 0)[0])
    assert (moved["queue"], moved["args"]) == ("work", [{"original_queue": "work"}])
    events = client.get("/api/v1/audit").get_json()["events"]
    moves = [event for event in events if event["action"] == "move"]
    assert {(event["action"], event["queue"], event["count"]) for event in moves} == {
        ("move", "mails-dlq", 3),
        ("move", "cash-dlq", 1),
        ("move", "work-dlq", 1),
    }


def test_the_page_of_a_dead_letter_queue_redrives_all_or_selected_jobs(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    redrivable(server, redis_client)
    spots(client)
    path = "/queues/main/bullmq/mails-dlq"
    text = " ".join(client.get(f"{path}?state=waiting").text.split())
    assert 'data-verb="Redrive"' in text
    link = html.unescape(re.findall(r'href="([^"]*)"[^>]*>Redrive all 3…<', text)[0])
    assert "Redrive 3 jobs" in client.get(link).text
    assert "Redrive" not in client.get("/queues/main/bullmq/mails?state=waiting").text
    # Ticked, without a queue named: each where it came from.
    form: dict[str, Any] = {"action": "move", "state": "waiting", "pick": ticks(text)[:2], "target": ""}
    answer = client.post(f"{path}/act", data=form, headers=SAME)
    assert "2 jobs redriven." in client.get(answer.headers["Location"]).text
    assert redis_client.llen("bull:mails:wait") + redis_client.llen("bull:news:wait") == 2
    # What matches a filter goes to a queue that is named, and to no other.
    form = {"action": "move", "source": "main", "backend": "bullmq", "queue": "mails-dlq", "state": "waiting", "q": "ä"}
    page = client.get("/bulk/new", query_string=form).text
    assert "Redrive 1 job<" in page
    assert "required" in page
    assert client.post("/bulk", data=form, headers=SAME).status_code == 409
    ids = {"ids": ["3"]} | {name: form[name] for name in ("action", "source", "backend", "queue", "state")}
    assert client.post("/api/v1/bulk", json=ids, headers=SAME).status_code == 409
    # All that are left, to a queue that is named.
    form = {"action": "move", "source": "main", "backend": "bullmq", "queue": "mails-dlq", "state": "waiting"}
    answer = client.post("/bulk", data=form | {"target": "news", "pace": "0"}, headers=SAME)
    assert done(client, answer.headers["Location"].rpartition("/")[2])["outcomes"] == {"done": 1}
    assert redis_client.exists("bull:mails-dlq:wait") == 0
    assert redis_client.llen("bull:news:wait") >= 1


def test_jobs_without_an_origin_queue_stay_until_one_is_chosen(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    library = BullMQLibrary()
    library.drive("counts", server.url, "mails")
    for home in ("mails", "nowhere", "mails-dlq"):
        library.drive("add", server.url, "mails-dlq", name="send", data={"originalQueue": home})
    fingerprint = the_group(client, 3)
    wait_until(lambda: client.get("/api/v1/queues").get_json()["total"] == 2, what="the queues")
    query = {"fingerprint": fingerprint, "action": "move"}
    page = " ".join(client.get("/bulk/new", query_string=query).text.split())
    assert "Redrive 1 job<" in page
    assert "2 have no recorded origin and stay where they are unless you choose a queue." in page
    work = client.post("/api/v1/bulk", json=query | {"pace_per_s": 0}, headers=SAME).get_json()
    assert done(client, work["bulk_id"])["outcomes"] == {"done": 1}
    assert redis_client.llen("bull:mails-dlq:wait") == 2
    page = client.get("/bulk/new", query_string=query).text
    assert "Their origin queue is unknown." in page
    assert "required" in page
    refused = client.post("/bulk", data=query, headers=SAME)
    assert (refused.status_code, "Nothing was started" in refused.text) == (409, True)
    tokens = ticks(client.get(f"/dead/{fingerprint}").text)
    answer = client.post(f"/dead/{fingerprint}/act", data={"action": "move", "pick": tokens}, headers=SAME)
    assert "2 refused." in client.get(answer.headers["Location"]).text
    form = {"action": "move", "pick": tokens, "target": "mails"}
    answer = client.post(f"/dead/{fingerprint}/act", data=form, headers=SAME)
    assert "2 jobs redriven." in client.get(answer.headers["Location"]).text
    assert redis_client.llen("bull:mails:wait") == 3


def test_the_page_of_a_bulk_delete_shows_what_was_restored(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    both(server, redis_client)
    fingerprint = the_group(client, 8)
    form = {"action": "delete", "fingerprint": fingerprint, "pace": "0"}
    url = client.post("/bulk", data=form, headers=SAME).headers["Location"]
    done(client, url.rpartition("/")[2])
    text = client.get(url).text
    assert "Restore 8<" in text
    assert f'href="/dead/{fingerprint}"' in text
    # One came again meanwhile under its id: that one stays in the trash.
    redis_client.hset("bull:mails:3", "name", "new")
    answer = client.post(f"{url}/undo", headers=SAME)
    told = client.get(answer.headers["Location"]).text
    assert "7 jobs restored; 1 skipped: already restored, or the id is in use again" in told
    for page in (told, client.get(f"{url}/_work").text):
        assert "7 restored since" in page
        assert "Restore 1<" in page
        assert "Restore 8<" not in page
    redis_client.delete("bull:mails:3")
    assert "1 job restored" in client.get(client.post(f"{url}/undo", headers=SAME).headers["Location"]).text
    text = client.get(url).text
    assert "8 restored since" in text
    assert "/undo" not in text


def test_the_audit_log_has_a_bulk_operation_from_start_to_undo(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    both(server, redis_client)
    place = {"source": "main", "backend": "sidekiq", "queue": "*", "state": "dead", "q": "route", "pace": "0.01"}
    form = {"action": "delete", "reason": "hopeless", **place}
    url = wait_until(lambda: client.post("/bulk", data=form, headers=SAME).headers.get("Location"), what="the queue")
    bulk_id = url.rpartition("/")[2]
    wait_until(lambda: client.get(f"/api/v1/bulk/{bulk_id}").get_json()["done"], what="the first job")
    client.post(f"{url}/abort", headers=SAME)
    wait_until(lambda: len(client.get("/api/v1/audit").get_json()["events"]) == 3, what="the record of the end")
    text = " ".join(client.get(url).text.split())
    assert re.search(r"The other [1-3] were not changed", text)
    client.post(f"{url}/undo", headers=SAME)
    events = client.get("/api/v1/audit").get_json()["events"][::-1]
    assert [event["bulk_id"] for event in events] == [bulk_id] * 4
    assert [event["action"] for event in events] == ["start bulk operation", "abort bulk operation", "delete", "undo"]
    start, abort, *_ = events
    assert (start["reason"], start["state"]) == ("hopeless", "dead")
    assert start["detail"] == "delete, matching route, 0.01 per second"
    assert re.fullmatch(r"[1-3] of 4 deleted so far", abort["detail"])
    assert {event["queue"] for event in events} == {"*"}
    shown = client.get("/audit").text
    assert shown.count(f"/bulk/{bulk_id}") == 4
    ids = {event["action"]: event["ids"] for event in events}
    # Those that had their turn, not those that were spared.
    assert len(ids["delete"]) == events[-1]["count"] < 4
    assert set(ids["undo"]) == set(ids["delete"])
    assert html.escape(ids["delete"][0]) in shown


def test_many_more_jobs_than_previewed_are_not_changed(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    redis_client.sadd("queues", "work")
    redis_client.lpush("queue:work", payload("first"))
    redis_client.zadd("dead", {failed_payload(f"s{n}"): n for n in range(100)})
    form = {"action": "delete", "source": "main", "backend": "sidekiq", "queue": "*", "state": "dead", "pace": "0"}
    page = wait_until(
        lambda: (answer := client.get("/bulk/new", query_string=form)).status_code == 200 and answer.text,
        what="the queue",
    )
    (seen,) = re.findall(r'name="seen" value="(\d+)"', page)
    assert seen == "100"
    # A few more than previewed are accepted: those of the time between preview and start.
    assert "100 jobs match now. Jobs added after the start are not included." in " ".join(page.split())
    redis_client.zadd("dead", {failed_payload(f"t{n}"): n for n in range(900)})
    refused = client.post("/bulk", data=form | {"seen": seen}, headers=SAME)
    assert refused.status_code == 409
    assert "1,000 jobs match now; the preview showed 100." in html.unescape(refused.text)
    assert redis_client.zcard("dead") == 1_000
    assert client.post("/bulk", data=form | {"seen": "990"}, headers=SAME).status_code == 303


def test_the_preview_says_when_the_bulk_limit_is_exceeded(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    client = make_app(sample_interval_s=0.5, bulk_max_jobs=50).test_client()
    redis_client.sadd("queues", "work")
    redis_client.lpush("queue:work", payload("first"))
    redis_client.zadd("dead", {failed_payload(f"s{n}"): n for n in range(80)})
    form = {"action": "retry", "source": "main", "backend": "sidekiq", "queue": "*", "state": "dead"}
    page = wait_until(
        lambda: (answer := client.get("/bulk/new", query_string=form)).status_code == 200 and answer.text,
        what="the queue",
    )
    assert "There are more jobs than the bulk limit of 50" in page
    assert "50 now" not in page


def test_the_page_says_when_no_process_can_run_it(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "ALONE_S", 0.0)
    both(server, redis_client)
    fingerprint = the_group(client, 8)
    form = {"action": "retry", "fingerprint": fingerprint, "pace": "0.01"}  # one job, and the next one much later
    url = client.post("/bulk", data=form, headers=SAME).headers["Location"]
    bulk_id = url.rpartition("/")[2]
    wait_until(lambda: client.get(f"/api/v1{url}").get_json()["done"], what="the first job")
    alone = "No Queuedeck process is running this"
    assert alone not in client.get(url).text
    # At once, so that nobody takes the lease again in between: it ran out, and Redis takes no writes.
    with redis_client.pipeline(transaction=True) as pipe:
        pipe.delete(f"{{queuedeck}}:bulk:{bulk_id}:lease")
        pipe.replicaof("127.0.0.1", "1")
        pipe.execute()
    try:
        wait_until(lambda: alone in client.get(f"{url}/_work").text, what="the page saying so")
    finally:
        redis_client.replicaof("NO", "ONE")
    runner = client.application.extensions[EXTENSION].services.bulk_runner

    def ended_early() -> Any:
        for running in list(runner._running.values()):
            running.due = 0.0  # as if the time between two jobs had passed
        runner.start()
        return client.get(f"/api/v1{url}").get_json()["state"] in ("done", "failed")

    wait_until(ended_early, what="the end of the work")
    work = done(client, bulk_id)
    assert (work["state"], work["outcomes"]) == ("done", {"done": 8})
    assert alone not in client.get(url).text


def test_a_large_undo_is_a_separate_bulk_operation(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    both(server, redis_client)
    fingerprint = the_group(client, 8)
    form = {"action": "delete", "fingerprint": fingerprint, "pace": "0"}
    url = client.post("/bulk", data=form, headers=SAME).headers["Location"]
    bulk_id = url.rpartition("/")[2]
    done(client, bulk_id)
    monkeypatch.setattr(trash, "AT_ONCE_JOBS", 7)
    here = client.application.extensions[EXTENSION].services
    monkeypatch.setattr(here.bulk_runner, "run_turn", lambda: 0.05)  # it is kept from running for a while
    answer = client.post(f"{url}/undo", headers=SAME)
    undo_url = answer.headers["Location"]
    assert (answer.status_code, undo_url != url) == (303, True)
    text = client.get(undo_url).text
    assert "Restoring" in text
    assert "Collecting jobs from the trash" in text
    assert f'undo of <a href="{url}">' in text
    text = client.get(f"{url}/_work").text
    assert f'<a href="{undo_url}">Restoring</a>: 0 of 0' in text
    assert "/undo" not in text
    # Whoever asks again is led to the same.
    assert client.post(f"{url}/undo", headers=SAME).headers["Location"] == undo_url
    asked = client.post(f"/api/v1/bulk/{bulk_id}/undo", json={}, headers=SAME)
    told = asked.get_json()
    assert asked.status_code == 202
    assert (told["bulk_id"], told["undoes"], told["state"]) == (undo_url.rpartition("/")[2], bulk_id, "collecting")
    assert (told["restored"], told["changed"], told["action"]) == (0, 0, "undo")
    assert client.post(f"{undo_url}/pause", headers=SAME).status_code == 303
    assert "Restore paused</a>: 0 of 0" in client.get(url).text
    assert client.post(f"{undo_url}/resume", headers=SAME).status_code == 303
    monkeypatch.undo()
    assert done(client, told["bulk_id"])["outcomes"] == {"done": 8}
    text = client.get(undo_url).text
    assert "Restore 8 jobs" in text
    assert "8 of 8: 8 restored." in text
    text = client.get(url).text
    assert "8 restored since" in text
    assert "/undo" not in text
    events = client.get("/api/v1/audit").get_json()["events"][::-1]
    assert [event["action"] for event in events] == [
        *("start bulk operation", "delete", "start undo of bulk operation"),
        *("pause undo of bulk operation", "resume undo of bulk operation", "undo"),
    ]
    assert {event["bulk_id"] for event in events} == {bulk_id}
    assert events[-1]["outcomes"] == {"done": 8}


def test_a_large_undo_of_selected_jobs_is_a_bulk_operation(
    client: FlaskClient, server: EmbeddedRedis, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    both(server, redis_client)
    fingerprint = the_group(client, 8)
    tokens = ticks(client.get(f"/dead/{fingerprint}").text)
    monkeypatch.setattr(trash, "AT_ONCE_JOBS", 3)
    answer = client.post(f"/dead/{fingerprint}/act", data={"action": "delete", "pick": tokens}, headers=SAME)
    batches = re.findall(r'name="batch" value="(\w+)"', client.get(answer.headers["Location"]).text)
    assert len(batches) == 2
    told = client.post(f"/api/v1/undo/{batches[0]}", json={}, headers=SAME)
    assert told.status_code == 202
    assert done(client, told.get_json()["bulk_id"])["outcomes"] == {"done": 4}
    answer = client.post("/undo", data={"batch": batches, "fingerprint": fingerprint}, headers=SAME)
    assert done(client, answer.headers["Location"].rpartition("/")[2])["outcomes"] == {"done": 4}
    assert redis_client.zcard("dead") == redis_client.zcard("bull:mails:failed") == 4
