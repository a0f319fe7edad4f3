"""The search page: what it says was found and searched, marked words, times, and actions on the results."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import redis
from flask.testing import FlaskClient
from rq import Queue

from dashboard import Identity, Role
from dashboard.model import Counts, Job, QueueStats, State
from dashboard.search.matches import FoundJob
from dashboard.web.forms.job_tokens import found_token
from tests.cases import failures_of
from tests.contract.test_sidekiq import enqueue, payload
from tests.waiting import wait_until
from tests.web.conftest import MakeApp
from tests.web.test_confirmations import SAME, form_of

MANY = 1200
USERS = [{"name": "anna", "password": "very-secret-1", "role": "viewer"}]


def token_of(queue: str) -> str:
    job = Job(id="1", source="main", backend="rq", queue=queue, state=State.DEAD)
    return found_token(FoundJob(QueueStats(source="main", backend="rq", key=queue, name=queue, counts=Counts()), job))


TOKEN = token_of("mail")


def text_of(page: str) -> str:
    """The text of a page, with single spaces."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", page)).replace("\u202f", " ").split())


def status_of(page: str) -> str:
    found = re.search(r"<p role=\"status\"[^>]*>(.*?)</p>", page, re.DOTALL)
    assert found
    return text_of(found[1])


def next_url(page: str) -> str | None:
    found = re.search(r'href="([^"]+)" rel="next" data-search-more', page)
    return html.unescape(found[1]) if found else None


def picks_of(page: str) -> list[str]:
    return re.findall(r'name="pick" value="([^"]+)"', page)


def ids_of(page: str) -> list[str]:
    return re.findall(r'<tr id="(r[0-9a-f]+)"', page)


def search(client: FlaskClient, query: str, **args: Any) -> str:
    response = client.get("/search", query_string={"q": query, **args})
    assert response.status_code == 200
    return response.text


@pytest.fixture
def many(redis_client: redis.Redis) -> int:
    """Waiting jobs of RQ, more than one part of a search shows."""
    queue = Queue("mail", connection=redis_client)
    queue.enqueue_many([Queue.prepare_data("app.mail.send", (f"user{n}@example.com",)) for n in range(MANY)])
    return MANY


def test_without_script_the_parts_add_up_and_no_job_comes_twice(client: FlaskClient, many: int) -> None:
    page = search(client, "name:app.mail.send state:waiting")
    assert re.match(rf"At least 500 found in 500 of {many:,} jobs searched so far", status_of(page))
    seen = ids_of(page)
    while (url := next_url(page)) is not None:
        page = client.get(url).text
        seen += ids_of(page)
        found = int(re.sub(r"\D", "", status_of(page).split(" found")[0]))
        assert found == len(seen)
        assert "of this part" in text_of(page)
    assert status_of(page).startswith(f"{many:,} found in {many:,} jobs, all of them searched")
    assert len(seen) == len(set(seen)) == many


def test_the_api_carries_the_totals_in_its_cursor(client: FlaskClient, many: int) -> None:
    cursor, seen, answers = None, 0, []
    while not answers or cursor:
        args = {"q": "user state:waiting", **({"cursor": cursor} if cursor else {})}
        answers.append(client.get("/api/v1/search", query_string=args).get_json())
        seen, cursor = seen + len(answers[-1]["jobs"]), answers[-1]["cursor"]
    assert len(answers) > 2
    assert answers[-1]["found_total"] == answers[-1]["scanned_total"] == seen == many
    assert answers[0]["found_total"] == len(answers[0]["jobs"]) < many
    assert all(answer["unread_total"] == 0 for answer in answers)


def test_what_could_not_be_read_is_named_and_no_total_looks_final(
    client: FlaskClient, redis_client: redis.Redis, jobs: list[str]
) -> None:
    redis_client.set("rq:failed:mail", "no list")
    page = search(client, "user1")
    assert status_of(page).startswith("At least 1 found in 3 jobs; not everything could be read")
    assert "Not searched: mail: " in text_of(page)
    nothing = text_of(search(client, "nowhere-to-be-found"))
    assert "Searched all retained jobs" not in nothing
    assert "a match may exist" in nothing
    del jobs


def test_matching_words_are_marked_and_escaped(client: FlaskClient, redis_client: redis.Redis) -> None:
    enqueue(redis_client, payload(jid="a<b>1", **{"class": "Mail<i>er", "args": ["Needle & co"]}))
    page = search(client, "needle mail< a<b")
    assert "<mark>Needle</mark> &amp; co" in page
    assert "<mark>Mail&lt;</mark>i&gt;er" in page
    assert "<mark>a&lt;b</mark>&gt;1" in page
    assert "<mark>" not in search(client, "state:waiting library:sidekiq")


def test_a_match_in_the_payload_only_is_shown_with_its_surroundings(
    client: FlaskClient, redis_client: redis.Redis
) -> None:
    enqueue(redis_client, payload(jid="far", args=["x" * 400, {"note": "a needle here", "password": "hunter2"}]))
    page = search(client, "needle")
    snippet = re.search(r'<small class="snippet">(.*?)</small>', page, re.DOTALL)
    assert snippet
    assert '"note":"a <mark>needle</mark> here"' in html.unescape(snippet[1])
    assert "hunter2" not in page
    answer = client.get("/api/v1/search?q=needle").get_json()["jobs"][0]
    assert answer["matched_in"] == ["payload"]
    assert "needle here" in answer["snippet"]
    assert "hunter2" not in answer["snippet"]
    assert client.get("/api/v1/search?q=hunter2").get_json()["jobs"] == []


def test_results_of_several_queues_are_retried_together(
    client: FlaskClient, redis_client: redis.Redis, dead: list[str]
) -> None:
    wait_for_dead(client)
    page = search(client, "state:dead library:rq")
    assert len(picks_of(page)) == len(dead) + 2
    form = {"action": "retry", "q": "state:dead library:rq", "pick": picks_of(page)}
    answer = client.post("/search/act", data=form, headers=SAME)
    assert answer.status_code == 303
    url = urlsplit(answer.location)
    assert (url.path, parse_qs(url.query)["q"]) == ("/search", ["state:dead library:rq"])
    assert "7 jobs retried." in text_of(client.get(answer.location).text)
    assert Queue("mail", connection=redis_client).count == len(dead)
    assert Queue("cash", connection=redis_client).count == 2


def test_deleting_results_asks_how_many_of_which_queues(
    client: FlaskClient, redis_client: redis.Redis, dead: list[str]
) -> None:
    wait_for_dead(client)
    page = search(client, "state:dead library:rq")
    form = {"action": "delete", "q": "state:dead library:rq", "pick": picks_of(page)}
    question = client.post("/search/confirm", data=form, headers=SAME)
    assert question.status_code == 200
    words = text_of(question.text)
    assert "Delete 7 jobs?" in words
    assert f"mail on main: {len(dead)} dead jobs" in words
    assert "cash on main: 2 dead jobs" in words
    target, fields = form_of(question.text)
    answer = client.post(target, data=fields, headers=SAME)
    done = client.get(answer.location).text
    assert "7 jobs deleted." in text_of(done)
    batches = re.findall(r'<input type="hidden" name="batch" value="([^"]+)"', done)
    assert len(batches) == 2
    assert redis_client.zcard("rq:failed:mail") == redis_client.zcard("rq:failed:cash") == 0


def test_the_button_of_a_row_acts_on_that_job_only(
    client: FlaskClient, redis_client: redis.Redis, dead: list[str]
) -> None:
    wait_for_dead(client)
    page = search(client, f"id:{dead[0]}")
    (only,) = re.findall(r'name="only" value="(retry\.[^"]+)"', page)
    others = picks_of(search(client, "queue:mail state:dead"))
    answer = client.post("/search/act", data={"only": only, "q": "x", "pick": others}, headers=SAME)
    assert "1 job retried." in text_of(client.get(answer.location).text)
    assert [job.id for job in Queue("mail", connection=redis_client).jobs] == [dead[0]]


def test_enter_presses_no_button_of_a_row(client: FlaskClient, jobs: list[str]) -> None:
    page = search(client, f"id:{jobs[0]}")
    form = page[page.index('<form class="ticks"') :]
    (first, *others) = re.findall(r"<button[^>]*>", form)
    assert first == "<button disabled hidden>"
    assert any('name="only"' in button for button in others)


REFUSED: list[tuple[dict[str, Any], int]] = [
    ({"action": "retry"}, 409),
    ({"action": "retry", "pick": ["x"]}, 409),
    ({"only": "retry.x"}, 409),
    ({"action": "retry", "pick": [TOKEN] * 1001}, 409),
    ({"action": "retry", "pick": [token_of(f"queue-{number}") for number in range(51)]}, 409),
    ({"only": "obliterate.x"}, 422),
    ({"action": "kill", "pick": ["x"]}, 422),
    ({"action": "nothing", "pick": ["x"]}, 422),
]


@pytest.mark.parametrize("path", ["/search/act", "/search/confirm"])
def test_forms_that_cannot_be_are_refused(client: FlaskClient, path: str) -> None:
    def check(form: dict[str, Any], status: int) -> None:
        assert client.post(path, data=form, headers=SAME).status_code == status

    assert failures_of(check, REFUSED) == {}


def test_a_query_for_one_list_leads_to_its_bulk_operation(client: FlaskClient, dead: list[str]) -> None:
    wait_for_dead(client)
    page = search(client, "queue:mail state:dead ConnectionError")
    links = re.findall(r'href="([^"]*/bulk/new\?[^"]+)"[^>]*>\s*([^<]+)</a>', page)
    assert [label.strip() for _, label in links] == [
        f"Retry all {len(dead)} matching…",
        f"Delete all {len(dead)} matching…",
    ]
    assert f"Retry {len(dead)}" in text_of(client.get(html.unescape(links[0][0])).text)
    assert "/bulk/new?" not in search(client, "state:dead library:rq")


def test_bulk_operations_take_the_same_times(client: FlaskClient, dead: list[str]) -> None:
    wait_for_dead(client)
    page = "/bulk/new?source=main&backend=rq&queue=mail&state=dead&action=retry&q=by:failed+"
    assert f"Retry {len(dead)}" in text_of(client.get(f"{page}from:-10m").text)
    assert "<h1>Retry jobs</h1>" in client.get(f"{page}to:-10m").text  # none match
    wrong = client.get(f"{page}from:yesterday")
    assert wrong.status_code == 422
    assert "Invalid time: from:yesterday." in text_of(wrong.text)


def test_a_viewer_sees_the_results_and_why_there_are_no_buttons(
    make_app: MakeApp, client: FlaskClient, dead: list[str]
) -> None:
    wait_for_dead(client)
    readers = make_app(read_only=True).test_client()
    wait_for_dead(readers)
    page = search(readers, "state:dead library:rq")
    assert len(ids_of(page)) == len(dead) + 2
    assert (picks_of(page), 'name="only"' in page, "/bulk/new?" in page) == ([], False, False)
    assert "View only: this Queuedeck runs in read-only mode" in text_of(page)
    vera = make_app(identify=lambda _: Identity(name="vera", role=Role.VIEWER)).test_client()
    wait_for_dead(vera)
    page = search(vera, "state:dead library:rq")
    line = "View only: retrying and deleting need the operator role. Signed in as vera (viewer)."
    assert line in text_of(page)
    assert (picks_of(page), 'name="only"' in page, "/bulk/new?" in page) == ([], False, False)
    assert "View only" not in text_of(search(client, "state:dead library:rq"))


def test_times_choose_jobs_and_their_column(client: FlaskClient, dead: list[str]) -> None:
    wait_for_dead(client)
    assert len(ids_of(search(client, "queue:mail by:failed from:-10m"))) == len(dead)
    assert ids_of(search(client, "queue:mail by:failed to:-10m")) == []
    page = search(client, "queue:mail by:failed from:-10m")
    assert '<th scope="col">Failed</th>' in page
    assert '<th scope="col">Enqueued</th>' in search(client, "queue:mail from:-10m")
    answer = client.get("/api/v1/queues/main/rq/mail/jobs?state=dead&q=by:failed+to:-10m").get_json()
    assert answer["jobs"] == []


def test_a_wrong_time_is_explained(client: FlaskClient) -> None:
    page = text_of(search(client, "from:yesterday"))
    assert "Invalid time: from:yesterday." in page
    assert "Times are UTC." in page
    assert client.get("/api/v1/search?q=from:yesterday").status_code == 422
    assert client.get("/search", query_string={"q": "x", "cursor": "broken"}).status_code == 200
    assert "always in UTC" in text_of(client.get("/search").text)


def wait_for_dead(client: FlaskClient) -> None:
    def counted() -> bool:
        queues = client.get("/api/v1/queues?backend=rq").get_json()["queues"]
        return {queue["name"]: queue["counts"]["dead"] for queue in queues} == {"mail": 5, "cash": 2}

    wait_until(counted, what="the sample with the dead jobs")
