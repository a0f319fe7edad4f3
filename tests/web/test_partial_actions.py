"""Actions on selected jobs of several lists of which one fails: what was done before it is reported, with its undo."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import BackendUnavailable
from dashboard.web.context import EXTENSION
from tests.conftest import start_server
from tests.dead_letters import failing_jobs
from tests.dead_letters.test_groups import fail_rq
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.test_confirmations import SAME
from tests.web.test_search_page import picks_of, search, text_of, wait_for_dead


def all_dead(client: FlaskClient, count: int) -> list[str]:
    """The tokens of so many dead jobs of RQ, once they were sampled."""

    def found() -> Any:
        picks = picks_of(search(client, "state:dead library:rq"))
        return len(picks) == count and picks

    return list(wait_until(found, what=f"{count} dead jobs"))


def act(client: FlaskClient, action: str, picks: list[str]) -> str:
    """The page after an action on these jobs."""
    answer = client.post("/search/act", data={"action": action, "pick": picks}, headers=SAME)
    assert answer.status_code == 303, answer.text
    return client.get(answer.headers["Location"]).text


def batches_of(page: str) -> list[str]:
    return re.findall(r'<input type="hidden" name="batch" value="([^"]+)"', page)


def test_a_redis_that_stops_responding_keeps_what_was_done_on_the_other(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    fail_rq(server, "mail", (failing_jobs.mail, "a@example.com", 1), (failing_jobs.mail, "b@example.com", 2))
    other = start_server("redis-7")
    try:
        for queue in ("cash", "fax"):
            fail_rq(other, queue, (failing_jobs.charge, 1))
        sources = [{"name": name, "url": url} for name, url in (("main", server.url), ("other", other.url))]
        client = make_app(sources=sources, store_url=server.url, sample_interval_s=0.5).test_client()
        picks = all_dead(client, 4)
    finally:
        other.close()
    # The jobs on the other Redis come last.
    page = act(client, "delete", picks)
    text = text_of(page)
    assert "2 jobs deleted; 1 with an unknown outcome, because Redis stopped responding: check the list" in text
    assert "1 not tried, because Redis stopped responding." in text
    assert redis_client.zcard("rq:failed:mail") == 0
    (batch,) = batches_of(page)
    client.post("/undo", data={"batch": [batch]}, headers=SAME)
    assert redis_client.zcard("rq:failed:mail") == 2


def test_a_restore_that_fails_at_the_second_batch_reports_the_first(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    fail_rq(server, "mail", (failing_jobs.mail, "a@example.com", 1))
    other = start_server("redis-7")
    try:
        fail_rq(other, "cash", (failing_jobs.charge, 1))
        sources = [{"name": name, "url": url} for name, url in (("main", server.url), ("other", other.url))]
        client = make_app(sources=sources, store_url=server.url, sample_interval_s=0.5).test_client()
        batches = batches_of(act(client, "delete", all_dead(client, 2)))
        assert len(batches) == 2
    finally:
        other.close()
    answer = client.post("/undo", data={"batch": batches}, headers=SAME)
    assert answer.status_code == 303
    assert "did=undo&done=1&unknown=1" in answer.headers["Location"]
    assert redis_client.zcard("rq:failed:mail") == 1


def test_a_delete_without_an_answer_keeps_its_undo_and_that_of_the_list_before(
    client: FlaskClient, redis_client: redis.Redis, dead: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_dead(client)
    picks = all_dead(client, 7)
    backend: Any = client.application.extensions[EXTENSION].services.sources.backend("main", "rq")
    delete: Callable[..., Any] = backend.delete_jobs

    def lose_the_second_answer(*arguments: Any) -> Any:
        results = delete(*arguments)
        if redis_client.zcard("rq:failed:mail") + redis_client.zcard("rq:failed:cash") == 0:
            raise BackendUnavailable("Redis does not respond", source="main", reason="lost")
        return results

    monkeypatch.setattr(backend, "delete_jobs", lose_the_second_answer)
    page = act(client, "delete", picks)
    assert re.search(r"[52] jobs deleted; [52] with an unknown outcome", text_of(page))
    assert len(batches_of(page)) == 2
    client.post("/undo", data={"batch": batches_of(page)}, headers=SAME)
    assert (redis_client.zcard("rq:failed:mail"), redis_client.zcard("rq:failed:cash")) == (5, 2)


def test_a_full_trash_at_the_second_list_keeps_the_undo_of_the_first(
    client: FlaskClient, redis_client: redis.Redis, dead: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_dead(client)
    picks = all_dead(client, 7)
    trash = client.application.extensions[EXTENSION].services.action_service.trash
    store_batch: Callable[..., bool] = trash.store_batch
    first: list[str] = []

    def store_one(undo_batch: str, *arguments: Any) -> bool:
        first.append(undo_batch)
        return len(first) == 1 and store_batch(undo_batch, *arguments)

    monkeypatch.setattr(trash, "store_batch", store_one)
    page = act(client, "delete", picks)
    assert re.search(r"(5 jobs deleted; 2|2 jobs deleted; 5) refused\.", text_of(page))
    assert batches_of(page) == first[:1]
    assert "The trash has no room" in html.unescape(client.get("/audit").text)


def test_a_failure_before_anything_was_done_is_explained(
    client: FlaskClient, dead: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_dead(client)
    picks = all_dead(client, 7)
    trash = client.application.extensions[EXTENSION].services.action_service.trash
    monkeypatch.setattr(trash, "store_batch", lambda *_: False)
    answer = client.post("/search/act", data={"action": "delete", "pick": picks}, headers=SAME)
    assert answer.status_code == 409
    assert "The trash has no room for these jobs" in text_of(answer.text)


def test_jobs_of_a_queue_that_was_removed_meanwhile_do_not_stop_the_others(
    client: FlaskClient, redis_client: redis.Redis, dead: list[str]
) -> None:
    wait_for_dead(client)
    picks = all_dead(client, 7)
    redis_client.delete("rq:failed:cash", "rq:queue:cash", "rq:finished:cash")
    redis_client.srem("rq:queues", "rq:queue:cash")
    current = client.application.extensions[EXTENSION].services.snapshots.current

    def gone() -> bool:
        snapshot = current().snapshot
        return snapshot is not None and snapshot.find("main", "rq", "cash") is None

    wait_until(gone, what="a snapshot without the queue")
    assert "5 jobs retried; 2 no longer exist." in text_of(act(client, "retry", picks))
