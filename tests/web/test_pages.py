"""The pages as a browser without scripts gets them: whatever is in Redis, and when Redis is not there."""

from __future__ import annotations

import gzip
import html
import re
from urllib.parse import quote, unquote

import pytest
import redis
from flask.testing import FlaskClient
from rq import Queue

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.sampling.snapshot_store import SNAPSHOT
from dashboard.sources.metering import measure_cost
from dashboard.web.context import EXTENSION
from dashboard.web.fragments import PTAG
from tests.caches import expire_values
from tests.contract.test_sidekiq import enqueue, payload
from tests.waiting import wait_until
from tests.web.conftest import MakeApp

ASKED_BY_HTMX = {"HX-Request": "true", "HX-Request-Type": "partial"}
NAMES = [
    "mail",
    "a/b",
    "a:b:c",
    "..",
    "100% sure?#x",
    "日本のキュー",
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}",
    "x" * 2000,
    "turn\u202eed",
]


def markup(text: str) -> set[str]:
    """The names of all elements of a page."""
    return set(re.findall(r"<([a-z][\w-]*)", text))


def queue_path(name: str) -> str:
    return f"/queues/main/rq/{quote(name, safe='')}"


def test_an_empty_redis_shows_what_to_do_next(client: FlaskClient, server: EmbeddedRedis) -> None:
    text = client.get("/").text
    assert "No queues yet" in text
    assert f"redis://127.0.0.1:{server.port}/0" in text
    assert "queuedeck serve --redis" in text
    assert '<table class="grid' not in text


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://:hidden-word@127.0.0.1:1/0", "Connection refused by redis://127.0.0.1:1/0"),
        ("redis://:hidden-word@127.0.0.1:{port}/0", "password"),
        ("redis://127.0.0.1:{port}/99", "database"),
    ],
)
def test_an_unreadable_redis_is_reported_in_one_line(
    make_app: MakeApp, server: EmbeddedRedis, url: str, told: str
) -> None:
    client = make_app(redis_url=url.format(port=server.port)).test_client()
    response = client.get("/")
    assert response.status_code == 200
    assert "cannot be read" in response.text
    assert told.lower() in response.text.lower()
    assert "hidden-word" not in response.text
    assert "Traceback" not in response.text


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_queue_of_any_name_has_its_pages(client: FlaskClient, redis_client: redis.Redis, name: str) -> None:
    plain = Queue("plain", connection=redis_client).enqueue("f")
    job = Queue(name, connection=redis_client).enqueue(name, description=name, meta={name: [name]})
    overview = client.get("/")
    assert markup(overview.text) == markup(client.get("/?q=plain").text)
    (link,) = {
        html.unescape(match)
        for match in re.findall(r'<th scope="row">.*?<a href="([^"]*)"', overview.text)
        if "plain" not in match
    }
    for path, like in (
        (link, queue_path("plain")),
        (f"{queue_path(name)}/jobs/{job.id}", f"{queue_path('plain')}/jobs/{plain.id}"),
    ):
        response = client.get(path)
        assert response.status_code == 200
        assert markup(response.text) - markup(client.get(like).text) <= {"details", "summary", "ul", "li", "pre", "b"}
        assert "onerror=alert(1)>" not in response.text
        assert "\u202e" not in response.text


def test_a_job_id_of_any_kind_leads_to_its_page_or_to_404(client: FlaskClient, redis_client: redis.Redis) -> None:
    queue = Queue("mail", connection=redis_client)
    for job_id in ("a-b_c", "x" * 500):
        queue.enqueue("f", job_id=job_id)
        assert client.get(f"{queue_path('mail')}/jobs/{job_id}").status_code == 200
    for job_id in ("a/b", "<script>", "a b", "%00", "x" * 10_000):
        response = client.get(f"{queue_path('mail')}/jobs/{quote(job_id, safe='')}")
        assert response.status_code == 404
        assert "<script>" not in re.sub(r"<script src=[^>]*>", "", response.text)


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/queues",
        "/queues/main/rq",
        "/queues/main/rq/none",
        "/queues/none/rq/mail",
        "/queues/main/none/mail",
    ],
)
def test_a_missing_queue_or_job_is_a_readable_404_page(client: FlaskClient, jobs: list[str], path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert "Go to the overview" in response.text
    told = client.get(path, headers=ASKED_BY_HTMX)
    if path.count("/") == 4:  # the address of a queue: one that was there may be gone, which a poll must survive
        assert (told.status_code, told.text) == (204, "")
        assert "<" not in unquote(told.headers["Queuedeck-Gone"])
        return
    assert (told.status_code, told.mimetype) == (404, "text/plain")
    assert "<" not in told.text


def test_a_list_of_the_wrong_type_affects_only_its_row(
    client: FlaskClient, jobs: list[str], redis_client: redis.Redis
) -> None:
    redis_client.sadd("rq:queues", "rq:queue:broken")
    redis_client.set("rq:queue:broken", "no list")
    text = client.get("/").text
    assert "unreadable" in text
    assert re.search(r'<td class="n wait">3<', text)
    assert client.get(queue_path("broken")).status_code == 200


@pytest.mark.parametrize(
    "path", ["/_overview", queue_path("mail") + "/_queue", queue_path("mail") + "/jobs/{job}/_job"]
)
def test_an_unchanged_fragment_returns_304(client: FlaskClient, jobs: list[str], path: str) -> None:
    path = path.format(job=jobs[0])

    def confirmed() -> bool:
        first = client.get(path, headers=ASKED_BY_HTMX)
        assert first.status_code == 200
        again = client.get(path, headers={**ASKED_BY_HTMX, PTAG: first.headers[PTAG]})
        assert again.headers["Queuedeck-Age"]
        assert (again.status_code == 304) == (again.headers[PTAG] == first.headers[PTAG])
        assert again.status_code == 200 or again.data == b""
        return again.status_code == 304

    wait_until(confirmed, what="an unchanged view")


def test_a_fragment_has_neither_nonce_nor_htmx_and_is_compressed(client: FlaskClient, jobs: list[str]) -> None:
    response = client.get("/_overview", headers={**ASKED_BY_HTMX, "Accept-Encoding": "gzip"})
    assert response.headers["Content-Encoding"] == "gzip"
    text = gzip.decompress(response.data).decode()
    assert "nonce" not in text
    assert " hx-" not in text
    assert "mail" in text


def test_a_refresh_costs_two_commands_whatever_the_number_of_queues(
    make_app: MakeApp, redis_client: redis.Redis, once_told: None
) -> None:
    for number in range(100):
        Queue(f"q{number}", connection=redis_client).enqueue("f")
    # So long that no pause of this process makes the published sample stale.
    leader = make_app(checker="auto", sample_interval_s=60).test_client()
    viewer = make_app(sample_interval_s=60).test_client()
    leader.get("/")
    wait_until(lambda: redis_client.exists(SNAPSHOT), what="publishing")
    assert b"of 100" in viewer.get("/_overview").data
    costs = []
    for _ in range(200):
        expire_values(viewer.application.extensions[EXTENSION].services.snapshots._readings)
        with measure_cost() as meter:
            assert viewer.get("/_overview", headers=ASKED_BY_HTMX).status_code == 200
        costs.append(meter.commands)
    assert 0 < max(costs) <= 2


def test_the_page_works_without_scripts(client: FlaskClient, jobs: list[str]) -> None:
    text = client.get("/?sort=name&q=mai").text
    assert '<input type="hidden" name="sort" value="name">' in text
    assert 'value="mai"' in text
    assert "<noscript><a" in text
    assert ">Waiting</a>" in text


def test_an_id_too_long_for_a_url_is_shown_without_a_link(client: FlaskClient, redis_client: redis.Redis) -> None:
    queue = Queue("mail", connection=redis_client)
    short, long = queue.enqueue("f"), "x" * 10_000
    redis_client.rpush("rq:queue:mail", long)
    text = client.get("/queues/main/rq/mail").text
    assert f"/jobs/{short.id}" in text
    assert "10,000 characters: too long for a URL" in text
    assert "x" * 1000 not in text


def test_the_shared_entry_offers_no_queue_actions(client: FlaskClient, redis_client: redis.Redis) -> None:
    enqueue(redis_client, payload())
    assert "Delete queue" in client.get("/queues/main/sidekiq/mails").text
    assert "Delete queue" not in client.get("/queues/main/sidekiq/*").text


def test_the_open_tab_counts_its_current_list(client: FlaskClient, redis_client: redis.Redis, jobs: list[str]) -> None:
    def tab(state: str) -> str:
        (count,) = re.findall(rf">{state} <b>(?:<[^>]*>)?([^<]*)", re.sub(r" <em>[^<]*</em>", "", page()))
        return str(count)

    def page() -> str:
        return client.get("/queues/main/rq/mail?state=waiting").text

    assert tab("waiting") == "3"
    client.application.extensions[EXTENSION].services.snapshots._readings.keep_s = float("inf")
    Queue("mail", connection=redis_client).enqueue("app.mail.send")
    assert tab("waiting") == "4"
    assert tab("active") == "0"


def test_a_finished_job_without_a_finish_time_shows_no_other_time_there(
    client: FlaskClient, redis_client: redis.Redis
) -> None:
    redis_client.hset("bull:orders:meta", "version", "bullmq:5.0.0")
    redis_client.zadd("bull:orders:completed", {"1": 1_700_000_000_000})
    redis_client.hset(
        "bull:orders:1", mapping={"name": "pay", "data": "{}", "opts": "{}", "processedOn": 1_700_000_000_000}
    )
    page = client.get("/queues/main/bullmq/orders?state=completed").text
    assert '<td data-label="finished"><abbr title="not reported">–</abbr></td>' in page
    (job,) = client.get("/api/v1/queues/main/bullmq/orders/jobs?state=completed").get_json()["jobs"]
    assert (job["started_at"] is None, job["finished_at"]) == (False, None)
