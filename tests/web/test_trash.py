"""The trash: its page, its jobs, restoring one, some and all, and the same in the API."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from rq import Queue

from dashboard.actions import trash
from dashboard.actions.audit_log import Actor
from dashboard.actions.bulk.operation import BulkRequest, JobListRef
from dashboard.actions.bulk.undo import undo_batch_of
from dashboard.auth import Identity, Role
from dashboard.backends.actions import Action, JobRef
from dashboard.clock import now_s
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import JobQuery, QueueStats, State
from dashboard.services import Services
from dashboard.web.context import EXTENSION
from dashboard.web.pages.trash import restore
from tests.conftest import USUAL, start_server
from tests.contract.test_actions_celery import META, NIGHTLY
from tests.contract.test_celery import declare_queues
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.test_bodies import QUEUE, Forms, deleted
from tests.web.test_dead_letters import SAME


def listed(client: FlaskClient, **query: Any) -> dict[str, Any]:
    """The trash, as the API lists it."""
    answer = client.get("/api/v1/trash", query_string=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.get_json())


def waiting(client: Any) -> list[str]:
    """The ids of the waiting jobs of the queue `mail`, next to run first."""
    return [raw.decode() for raw in client.lrange("rq:queue:mail", 0, -1)]


def delete_all(client: FlaskClient, queue: str = "mail") -> str:
    """Delete all waiting jobs of a queue by a bulk operation; returns its id."""
    path = f"/api/v1/queues/main/rq/{queue}"
    wait_until(lambda: client.get(path).status_code == 200, what="the queue")
    bulk_id = client.post(f"{path}/purge", headers=SAME).get_json()["bulk_id"]
    wait_until(lambda: client.get(f"/api/v1/bulk/{bulk_id}").get_json()["state"] == "done", what="its end")
    return str(bulk_id)


def test_an_empty_trash_says_what_appears_there(client: FlaskClient) -> None:
    text = client.get("/trash").text
    assert "The trash is empty" in text
    assert "Restore" not in text
    assert listed(client) == {
        "batches": [],
        "matching": 0,
        "matching_jobs": 0,
        "total": 0,
        "total_jobs": 0,
        "used_bytes": 0,
        "limit_bytes": 64 << 20,
        "next_cursor": None,
    }


def test_a_deleted_job_is_listed_with_its_origin_and_restored(
    client: FlaskClient, jobs: list[str], redis_client: redis.Redis
) -> None:
    batch = deleted(client, jobs[1])
    found = listed(client)
    (row,) = found["batches"]
    assert (row["batch"], row["queue"], row["state"], row["left"], row["who"]) == (batch, "mail", "waiting", 1, "local")
    assert (row["schedule"], row["bulk_id"]) == (None, None)
    assert found["used_bytes"] == row["size_bytes"] > 500
    text = client.get("/trash").text
    for part in (
        "1 waiting job",
        "mail",
        "RQ on main",
        "local",
        "64\u202fMB" if "64\u202fMB" in text else "64\u202fMiB",
    ):
        assert part in text, part
    assert f'href="/trash/{batch}"' in text
    page = client.get(f"/trash/{batch}").text
    assert jobs[1] in page
    assert ("app.mail.send" in page, "hunter2" in page) == (True, False)
    answer = client.post(f"/trash/{batch}/restore", headers=SAME)
    assert answer.status_code == 303
    assert "1 job restored" in client.get(answer.headers["Location"]).text
    assert waiting(redis_client) == jobs
    assert client.get(f"/trash/{batch}").status_code == 404
    assert client.post(f"/trash/{batch}/restore", headers=SAME).status_code == 404


def test_some_jobs_of_a_batch_are_restored(client: FlaskClient, jobs: list[str], redis_client: redis.Redis) -> None:
    bulk_id = delete_all(client)
    (row,) = listed(client)["batches"]
    assert (row["left"], row["bulk_id"]) == (3, bulk_id)
    answer = client.get(f"/api/v1/trash/{row['batch']}").get_json()
    assert sorted(job["id"] for job in answer["jobs"]) == sorted(jobs)
    assert (answer["batch"]["left"], answer["next_cursor"]) == (3, None)
    path = f"/api/v1/trash/{row['batch']}/restore"
    told = client.post(path, json={"ids": [jobs[0], jobs[2], "none such"]}, headers=SAME)
    assert (told.status_code, told.get_json()["restored"]) == (200, 2)
    assert [each["outcome"] for each in told.get_json()["refused"]] == ["gone"]
    assert set(waiting(redis_client)) == {jobs[0], jobs[2]}
    assert client.get(f"/api/v1/bulk/{bulk_id}").get_json()["restored"] == 2
    told = client.post(path, json={"ids": [jobs[0]]}, headers=SAME)
    assert (told.status_code, told.get_json()["restored"]) == (409, 0)
    assert client.post(path, headers=SAME).get_json()["restored"] == 1
    assert listed(client)["batches"] == []


def test_the_selected_jobs_of_a_page_are_restored_and_without_any_nothing(
    client: FlaskClient, jobs: list[str], redis_client: redis.Redis
) -> None:
    delete_all(client)
    (row,) = listed(client)["batches"]
    text = client.get(f"/trash/{row['batch']}").text
    picks = [part.partition('"')[0] for part in text.split('name="pick" value="')[1:]]
    assert len(picks) == 3
    path = f"/trash/{row['batch']}/restore"
    assert client.post(path, data={"selected": "1"}, headers=SAME).status_code == 409
    assert redis_client.llen("rq:queue:mail") == 0
    answer = client.post(path, data={"selected": "1", "pick": picks[:1]}, headers=SAME)
    assert answer.headers["Location"].startswith(f"/trash/{row['batch']}?")
    assert "1 job restored" in client.get(answer.headers["Location"]).text
    assert redis_client.llen("rq:queue:mail") == 1
    answer = client.post(path, data={"selected": "1", "pick": picks[1:]}, headers=SAME)
    assert answer.headers["Location"].startswith("/trash?")


def test_the_trash_is_filtered_paged_and_restored_as_filtered(
    make_app: MakeApp, jobs: list[str], redis_client: redis.Redis
) -> None:
    who = ["anna"]
    client = make_app(identify=lambda _: Identity(name=who[0], role=Role.ADMIN)).test_client()
    other = [Queue("a%2F<b>", connection=redis_client).enqueue("app.x").id for _ in range(2)]
    wait_until(lambda: client.get(QUEUE).status_code == 200, what="the queue")
    strange = "/api/v1/queues/main/rq/a%252F%3Cb%3E"
    wait_until(lambda: client.get(strange).status_code == 200, what="the other queue")
    for job_id in jobs:
        deleted(client, job_id)
    who[0] = "bert"
    for job_id in other:
        assert client.post(f"{strange}/jobs/{job_id}/delete", headers=SAME).status_code == 200
    assert (listed(client)["total"], listed(client)["total_jobs"]) == (5, 5)
    assert [row["queue"] for row in listed(client, queue="mail")["batches"]] == ["mail"] * 3
    assert [row["who"] for row in listed(client, who="bert", queue="a%2F<b>")["batches"]] == ["bert"] * 2
    assert listed(client, who="bert", queue="mail")["matching"] == 0
    seen, cursor = [], None
    while True:
        page = listed(client, limit=2, **({"cursor": cursor} if cursor else {}))
        seen += [row["batch"] for row in page["batches"]]
        assert (page["matching"], len(page["batches"]) <= 2) == (5, True)
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [row["batch"] for row in listed(client)["batches"]]
    assert client.get("/api/v1/trash?cursor=x").status_code == 422
    assert client.get("/api/v1/trash?limit=0").status_code == 422
    assert client.get("/api/v1/trash?qeue=x").status_code == 422
    text = client.get("/trash?queue=a%25252F%253Cb%253E").text
    assert ("2 of 2" in text, "a%2F&lt;b&gt;" in text, "anna" in text.partition("<tbody")[2]) == (True, True, False)
    form = next(fields for action, fields in Forms(text).found if action == "/trash/restore")
    assert form == {"queue"}
    answer = client.post("/trash/restore", data={"queue": "a%252F%3Cb%3E"}, headers=SAME)
    assert "2 jobs restored" in client.get(answer.headers["Location"]).text
    assert redis_client.llen("rq:queue:mail") == 0
    assert client.post("/trash/restore", headers=SAME).status_code == 303
    assert redis_client.llen("rq:queue:mail") == 3
    assert client.post("/trash/restore", headers=SAME).status_code == 404


def delete_each(client: FlaskClient, jobs: list[str]) -> None:
    """One deletion for each job, once their queue is known."""
    wait_until(lambda: client.get(QUEUE).status_code == 200, what="the queue")
    for job_id in jobs:
        deleted(client, job_id)


def test_restoring_everything_is_bounded_and_can_be_continued(
    client: FlaskClient, jobs: list[str], redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No further batch begins after RESTORE_S. A batch that cannot be restored does not stop the others."""
    monkeypatch.setattr(restore, "RESTORE_S", 0.0)
    delete_each(client, jobs)
    redis_client.set(f"rq:job:{jobs[2]}", "in use again")  # deleted last, so restored first: refused each time
    answer = client.post("/trash/restore", data={"queue": "mail"}, headers=SAME)
    assert answer.status_code == 303
    seen = []
    while "after=" in answer.headers["Location"]:
        page = client.get(answer.headers["Location"]).text
        seen.append(page.partition("Not everything was restored in time: ")[2].partition(" left to restore.")[0])
        fields = next(each for each in Forms(page).found if each[0] == "/trash/restore" and "after" in each[1])[1]
        assert fields == {"queue", "after"}
        after = page.partition('name="after" value="')[2].partition('"')[0]
        answer = client.post("/trash/restore", data={"queue": "mail", "after": after}, headers=SAME)
    assert seen == ["2 deletions with 2 items are", "1 deletion with 1 item is"]
    assert "1 job restored" in client.get(answer.headers["Location"]).text
    assert waiting(redis_client) == jobs[:2]
    assert listed(client)["total_jobs"] == 1


def test_the_api_restores_everything_in_bounded_requests(
    client: FlaskClient, jobs: list[str], redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "RESTORE_S", 0.0)
    delete_each(client, jobs)
    path, body, told = "/api/v1/trash/restore", {"queue": "mail", "reason": "too many"}, []
    while body.get("cursor", "first"):
        answer = client.post(path, json=body, headers=SAME).get_json()
        told.append((answer["restored"], answer["left"], answer["left_jobs"], answer["refused"], answer["bulk_ids"]))
        body["cursor"] = answer["next_cursor"]
    assert told == [(1, 2, 2, [], []), (1, 1, 1, [], []), (1, 0, 0, [], [])]
    assert set(waiting(redis_client)) == set(jobs)
    assert client.post(path, json={}, headers=SAME).status_code == 404
    assert client.post(path, json={"cursor": "x"}, headers=SAME).status_code == 422
    assert client.post(path, json={"qeue": "mail"}, headers=SAME).status_code == 422


def test_many_jobs_are_restored_by_bulk_operations_also_of_one_list(
    client: FlaskClient, jobs: list[str], redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trash, "AT_ONCE_JOBS", 0)
    wait_until(lambda: client.get(QUEUE).status_code == 200, what="the queue")
    batches = [deleted(client, job_id) for job_id in jobs[:2]]
    answer = client.post("/trash/restore", data={"batch": batches}, headers=SAME)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/bulk")
    wait_until(lambda: redis_client.llen("rq:queue:mail") == 3, what="the restored jobs")
    batches = [deleted(client, job_id) for job_id in jobs[:2]]
    # Two deletes of one list, in one operation.
    answer = client.post("/undo", data={"batch": batches}, headers=SAME)
    assert answer.headers["Location"].startswith("/bulk/")
    wait_until(lambda: redis_client.llen("rq:queue:mail") == 3, what="the restored jobs")
    told = client.post(f"/api/v1/trash/{deleted(client, jobs[2])}/restore", headers=SAME)
    assert (told.status_code, told.get_json()["action"]) == (202, "undo")


def test_a_viewer_sees_the_trash_and_why_there_are_no_buttons(
    make_app: MakeApp, jobs: list[str], redis_client: redis.Redis
) -> None:
    role = [Role.OPERATOR]
    client = make_app(identify=lambda _: Identity(name="vera", role=role[0])).test_client()
    wait_until(lambda: client.get(QUEUE).status_code == 200, what="the queue")
    batch = deleted(client, jobs[0])
    role[0] = Role.VIEWER
    for path in ("/trash", f"/trash/{batch}"):
        text = client.get(path).text
        assert "restoring needs the operator role" in text
        assert "<button" not in text.partition('id="main"')[2].partition("</main>")[0].replace(
            '<button class="plain">', ""
        )
    assert client.post(f"/trash/{batch}/restore", headers=SAME).status_code == 403
    assert client.post("/trash/restore", headers=SAME).status_code == 403
    assert client.post(f"/api/v1/trash/{batch}/restore", headers=SAME).status_code == 403
    assert redis_client.llen("rq:queue:mail") == 2


def test_concurrent_restores_neither_double_nor_lose_a_job(
    client: FlaskClient, jobs: list[str], redis_client: redis.Redis
) -> None:
    more = [Queue("mail", connection=redis_client).enqueue("app.x", n).id for n in range(60)]
    delete_all(client)
    (row,) = listed(client)["batches"]
    path = f"/api/v1/trash/{row['batch']}/restore"
    app, told = client.application, list[int]()
    started = threading.Barrier(6)

    def restore(part: int) -> None:
        body = {} if part % 2 else {"ids": [*jobs, *more][part * 5 : part * 5 + 30]}
        started.wait()
        told.append(app.test_client().post(path, json=body, headers=SAME).get_json().get("restored", 0))

    threads = [threading.Thread(target=restore, args=(part,)) for part in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = waiting(redis_client)
    assert sorted(found) == sorted([*jobs, *more])
    assert sum(told) == 63
    assert listed(client)["used_bytes"] == 0
    assert redis_client.exists("{queuedeck}:bin", "{queuedeck}:bin:sizes") == 0


def test_hostile_entries_cost_one_row(client: FlaskClient, jobs: list[str], redis_client: redis.Redis) -> None:
    delete_all(client)
    (row,) = listed(client)["batches"]
    key = f"{{queuedeck}}:bin:{row['batch']}"
    redis_client.hset(key, mapping={b"\xff<b>": b"\x94\xc6\xff\xff\xff\xff", "empty": "", "text": "no array"})
    redis_client.zadd("{queuedeck}:bin", {b"gone": 9e9, b"\xff": 9e9, b"text": 9e9})
    redis_client.set("{queuedeck}:bin:text", "no hash")
    redis_client.hset("{queuedeck}:bin:sizes", row["batch"], "many")
    (again,) = listed(client)["batches"]
    assert (again["batch"], again["left"], again["size_bytes"]) == (row["batch"], 6, 0)
    found = client.get(f"/api/v1/trash/{row['batch']}").get_json()["jobs"]
    assert {job["id"] for job in found} >= {*jobs, "empty", "text"}
    assert {job["name"] for job in found if job["id"] in ("empty", "text")} == {None}
    text = client.get(f"/trash/{row['batch']}").text
    assert "\\xff&lt;b&gt;" in text
    assert client.get("/trash").status_code == 200


def test_the_trash_is_linked_from_where_jobs_were_deleted(
    client: FlaskClient, jobs: list[str], redis_client: redis.Redis
) -> None:
    wait_until(lambda: client.get(QUEUE).status_code == 200, what="the queue")
    page = "/queues/main/rq/mail"
    assert "in the trash" not in client.get(page).text
    token = client.get(page).text.partition('name="pick" value="')[2].partition('"')[0]
    form = {"action": "delete", "state": "waiting", "pick": token}
    answer = client.post(f"{page}/act", data=form, headers=SAME)
    flash = client.get(answer.headers["Location"]).text
    (row,) = listed(client)["batches"]
    assert f'href="/trash/{row["batch"]}"' in flash
    bulk_id = delete_all(client)
    assert f'href="/trash?bulk_id={bulk_id}">2 jobs in the' in client.get(f"/bulk/{bulk_id}").text
    text = client.get(page).text
    assert 'href="/trash?source=main&amp;backend=rq&amp;queue=mail">3 deleted jobs in the trash</a>' in text.replace(
        "\n", ""
    )
    assert "in the trash" not in client.get(f"{page}/_queue").text
    audit = client.get("/audit").text
    assert f'href="/trash/{row["batch"]}">1 in the trash</a>' in audit
    assert f'href="/trash?bulk_id={bulk_id}">2 in the trash</a>' in audit
    assert client.get(f"/trash?bulk_id={bulk_id}").text.count("Restore 2 waiting jobs") == 1
    client.post(f"/trash/{row['batch']}/restore", headers=SAME)
    audit = client.get("/audit").text
    assert f"/trash/{row['batch']}" not in audit
    assert (audit.count(">restored<"), audit.count(">expired<"), "</strong> restored 1 waiting job in " in audit) == (
        1,
        0,
        True,
    )


def test_an_audit_line_says_when_what_was_deleted_has_expired(
    client: FlaskClient, jobs: list[str], redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = deleted(client, jobs[0])
    redis_client.delete(f"{{queuedeck}}:bin:{batch}")
    later = now_s() + 86_401
    monkeypatch.setattr("dashboard.web.pages.audit.now_s", lambda: later)
    assert ">expired<" in client.get("/audit").text
    monkeypatch.setattr("dashboard.actions.trash_listing.now_s", lambda: later)
    assert "The trash is empty" in client.get("/trash").text


def test_a_removed_schedule_is_in_the_trash_and_restored_from_there(
    client: FlaskClient, redis_client: redis.Redis
) -> None:
    entry: dict[Any, Any] = {"definition": NIGHTLY, "meta": META}
    redis_client.hset("redbeat:nightly", mapping=entry)
    redis_client.zadd("redbeat::schedule", {"redbeat:nightly": 1795575600})
    form = {"action": "remove_schedule", "source": "main", "backend": "celery", "id": "redbeat:nightly"}
    declare_queues(redis_client, "alpha")
    found = wait_until(lambda: client.get("/api/v1/schedules").get_json()["schedules"], what="the schedule")
    queue = found[0]["queue"]
    answer = client.post("/schedules/act", data=form | {"queue": queue or ""}, headers=SAME)
    text = client.get(answer.headers["Location"]).text
    (row,) = listed(client)["batches"]
    assert (row["schedule"], row["state"], row["left"]) == ("redbeat:nightly", None, 1)
    assert ("1 schedule removed" in text, f'href="/trash/{row["batch"]}"' in text) == (True, True)
    assert redis_client.exists("redbeat:nightly", "redbeat::schedule") == 0
    assert f"/trash/{row['batch']}" in client.get("/audit").text
    assert "schedule redbeat:nightly" in client.get("/trash").text
    page = client.get(f"/trash/{row['batch']}").text
    assert "hush" not in page
    assert "Removed schedule redbeat:nightly" in page
    answer = client.post(f"/trash/{row['batch']}/restore", headers=SAME)
    assert "1 schedule restored" in client.get(answer.headers["Location"]).text
    assert redis_client.hgetall("redbeat:nightly") == {name.encode(): value for name, value in entry.items()}
    answer = client.post("/schedules/act", data=form | {"queue": queue or ""}, headers=SAME)
    (row,) = listed(client)["batches"]
    answer = client.post("/undo", data={"batch": row["batch"]}, headers=SAME)
    assert answer.headers["Location"].startswith("/schedules?did=undo_schedule")


def services_of(client: FlaskClient) -> Services:
    found: Services = client.application.extensions[EXTENSION].services
    return found


def queue_on(client: FlaskClient, source: str) -> QueueStats:
    """The queue of RQ on that source, once it is found."""

    def find() -> QueueStats | None:
        queues = services_of(client).snapshots.current_queues()
        return next((queue for queue in queues if (queue.source, queue.backend) == (source, "rq")), None)

    return wait_until(find, what=f"the queue on {source}")


def refs_of(client: FlaskClient, queue: QueueStats) -> list[JobRef]:
    backend = services_of(client).sources.backend(queue.source, "rq")
    return list(backend.list_job_refs(queue.ref, JobQuery(state=State.WAITING, page=1, per_page=50)))


def test_what_a_stopped_operation_deleted_without_noting_it_is_restored(
    client: FlaskClient, jobs: list[str], redis_client: redis.Redis
) -> None:
    queue, services = queue_on(client, "main"), services_of(client)
    lists = (JobListRef(ref=queue.ref, state=State.WAITING),)
    asked = BulkRequest(
        action=Action.DELETE, actor=Actor(name="a", role="operator"), job_lists=lists, created_at=now_s()
    )
    bulk_id = services.bulk_store.create(asked)
    services.bulk_store.change_phase(bulk_id, "abort")
    services.action_service.run_batch(
        services.sources.backend("main", "rq"), queue.ref, State.WAITING, Action.DELETE, refs_of(client, queue),
        asked.options, undo_batch_of(bulk_id, lists[0], asked), "a", for_good=False,
    )  # fmt: skip
    assert redis_client.llen("rq:queue:mail") == 0
    (batch,) = listed(client)["batches"]
    answer = client.post(f"/api/v1/trash/{batch['batch']}/restore", headers=SAME)
    assert answer.status_code == 200, answer.text
    assert redis_client.llen("rq:queue:mail") == len(jobs)


def test_a_source_that_is_down_does_not_stop_the_restore_of_others(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis, request: pytest.FixtureRequest
) -> None:
    other = start_server(USUAL)
    request.addfinalizer(other.close)
    sources = [{"name": "main", "url": server.url}, {"name": "other", "url": other.url}]
    client = make_app(sources=sources).test_client()
    with redis.Redis.from_url(other.url) as beside:
        for connection in (redis_client, beside):
            Queue("mail", connection=connection).enqueue("app.send")
    for source in ("main", "other"):
        queue = queue_on(client, source)
        services_of(client).action_service.on_jobs(
            Actor(name="a", role="operator"), queue.ref, State.WAITING, Action.DELETE, refs_of(client, queue)
        )
    assert redis_client.llen("rq:queue:mail") == 0
    other.stop()
    assert client.post("/trash/restore", headers=SAME).status_code == 303
    assert redis_client.llen("rq:queue:mail") == 1
    assert [batch["source"] for batch in listed(client)["batches"] if batch["left"]] == ["other"]
