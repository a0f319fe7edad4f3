"""The details and options of real jobs on their pages: durations, times, yes and no; raw values in the API."""

from __future__ import annotations

import html
import re

import redis
from flask.testing import FlaskClient
from rq import Queue, Retry
from rq.job import Dependency

from dashboard.demo.embedded import EmbeddedRedis
from tests.contract.bullmq_library import BullMQLibrary
from tests.contract.celery_live import Shop
from tests.contract.rq_library import open_client, run_waiting_jobs
from tests.contract.sidekiq_worker import payload
from tests.waiting import wait_until
from tests.web.test_dead_letters import SAME
from tests.workloads import rq_jobs

TAG = re.compile(r"<[^>]*>")


def details(client: FlaskClient, url: str) -> dict[str, str]:
    """What the page of a job says in its details, by label, and of each option, by its name."""
    page = client.get(url)
    assert page.status_code == 200, page.text[:500]
    pairs = re.findall(r"<dt>(.*?)</dt>\s*<dd[^>]*>(.*?)</dd>", page.text, re.DOTALL)
    pairs += re.findall(r"<li><b>(.*?)</b>(<span.*?)</li>", page.text, re.DOTALL)
    return {label: words(shown) for label, shown in pairs}


def words(markup: str) -> str:
    return " ".join(html.unescape(TAG.sub("", markup)).split())


def stored(client: FlaskClient, url: str) -> dict[str, str]:
    """The same details in the API."""
    answer = client.get(f"/api/v1{url}").get_json()
    facts: dict[str, str] = answer["facts"]
    return facts


def test_details_of_rq_jobs_are_in_words(client: FlaskClient, server: EmbeddedRedis) -> None:
    with open_client(server.url) as connection:
        queue = Queue("mail", connection=connection)
        failed = queue.enqueue(
            rq_jobs.fail, job_timeout=90, failure_ttl=3600, result_ttl=0, ttl=7200, retry=Retry(max=3, interval=[2, 90])
        )
        blocked = queue.enqueue(rq_jobs.add, job_timeout=-1, depends_on=Dependency(failed, allow_failure=True))
        run_waiting_jobs(queue)
    url = f"/queues/main/rq/mail/jobs/{failed.id}"
    shown, raw = details(client, url), stored(client, url)
    assert (shown["Timeout"], raw["Timeout (s)"]) == ("1 m 30 s", "90")
    assert (shown["Time to live"], raw["Time to live (s)"]) == ("2 h", "7200")
    assert (shown["Failure retention"], raw["Failure retention (s)"]) == ("1 h", "3600")
    assert (shown["Result retention"], raw["Result retention (s)"]) == ("not kept", "0")
    assert (shown["Retry intervals"], raw["Retry intervals (s)"]) == ("2 s, 1 m 30 s", "[2, 90]")
    page = client.get(url).text
    assert f'<time datetime="{raw["Last heartbeat"][:-1]}.000Z" data-rel>' in page
    other = f"/queues/main/rq/mail/jobs/{blocked.id}"
    shown, raw = details(client, other), stored(client, other)
    assert (shown["Timeout"], raw["Timeout (s)"]) == ("no limit", "-1")
    assert (shown["Runs even if a parent fails"], raw["Runs even if a parent fails"]) == ("yes", "1")


def test_the_end_of_the_data_of_an_rq_job_is_in_words(client: FlaskClient, server: EmbeddedRedis) -> None:
    with open_client(server.url) as connection:
        queue = Queue("mail", connection=connection)
        job = queue.enqueue(rq_jobs.add, 1, result_ttl=1799)
        run_waiting_jobs(queue)
    url = f"/queues/main/rq/mail/jobs/{job.id}"
    assert re.fullmatch(r"29 m( \d+ s)?", details(client, url)["Data expires in"])
    assert stored(client, url)["Data expires in (s)"].isdigit()


def test_options_of_bullmq_jobs_say_what_their_numbers_mean(client: FlaskClient, server: EmbeddedRedis) -> None:
    opts = {
        "delay": 3_600_000,
        "attempts": 3,
        "backoff": {"type": "exponential", "delay": 2000},
        "removeOnComplete": {"age": 86_400, "count": 1000},
        "keepLogs": 20,
    }
    job_id = BullMQLibrary().drive("add", server.url, "mail", opts=opts)["id"]
    url = f"/queues/main/bullmq/mail/jobs/{job_id}"
    shown = details(client, url)
    assert shown["keepLogs"] == "20"  # `kl` in Redis
    assert (shown["attempts"], shown["count"], shown["age"]) == ("3", "1000", "86400 1 d")
    assert "3600000 1 h" in words(client.get(url).text)
    assert "2000 2 s" in words(client.get(url).text)
    assert client.get(f"/api/v1{url}").get_json()["options"]["delay"] == 3_600_000


def test_limits_and_times_of_celery_jobs_are_in_words(client: FlaskClient, server: EmbeddedRedis) -> None:
    shop = Shop(server.url)
    try:
        task = shop.send("mail", countdown=3600, expires=86_400, time_limit=300, soft_time_limit=90)
    finally:
        shop.close()
    url = f"/queues/main/celery/alpha/jobs/{task}"
    page, shown = client.get(url).text, details(client, url)
    raw = stored(client, url)
    assert "T" in raw["Expires"]
    assert re.search(r"<dt>Expires</dt>\s*<dd><time datetime=\"[^\"]+\" data-rel>", page)
    assert (shown["time_limit"], shown["soft_time_limit"]) == ("300 5 m", "90 1 m 30 s")
    assert re.search(r"<b>eta</b><span[^>]*>[^<]*</span>\s*<small>\s*<time datetime", page)


def test_details_of_sidekiq_jobs_are_in_words(client: FlaskClient, redis_client: redis.Redis) -> None:
    redis_client.set("stat:processed", 1)
    redis_client.sadd("queues", "mails")
    redis_client.lpush("queue:mails", payload(jid="ent", unique_for=600))
    url = "/queues/main/sidekiq/mails/jobs/ent"
    assert (details(client, url)["Unique for"], stored(client, url)["Unique for (s)"]) == ("10 m", "600")


def test_the_result_of_a_retry_says_that_the_job_failed_again(client: FlaskClient, server: EmbeddedRedis) -> None:
    with open_client(server.url) as connection:
        queue = Queue("mail", connection=connection)
        job = queue.enqueue(rq_jobs.fail)
        run_waiting_jobs(queue)
        url = f"/queues/main/rq/mail/jobs/{job.id}"
        form = {"action": "retry", "state": "dead", "stamp": client.get(f"/api/v1{url}").get_json()["stamp"]}
        page = client.post(f"{url}/act", headers=SAME, data=form).headers["Location"]
        assert result_of(client, page) == "1 job retried."
        run_waiting_jobs(queue)
    # A refresh asks for the fragment with the arguments of the page.
    fragment = f"{url}/_job?{page.partition('?')[2]}"
    for shown in (page, fragment):
        assert re.fullmatch(r"1 job retried\. It failed again [0-9.]+ m?s later\.", result_of(client, shown))
        assert 'class="flash warning"' in client.get(shown).text


def test_the_result_of_a_retry_says_so_for_bullmq_too(client: FlaskClient, server: EmbeddedRedis) -> None:
    library = BullMQLibrary()
    library.run_jobs(server.url, "mail", good=0, bad=1)
    dead = "/queues/main/bullmq/mail/jobs"
    wait_until(lambda: client.get("/queues/main/bullmq/mail").status_code == 200, what="the queue")
    (job,) = client.get(f"/api/v1{dead}?state=dead").get_json()["jobs"]
    url = f"{dead}/{job['id']}"
    form = {"action": "retry", "state": "dead", "stamp": client.get(f"/api/v1{url}").get_json()["stamp"]}
    page = client.post(f"{url}/act", headers=SAME, data=form).headers["Location"]
    assert result_of(client, page) == "1 job retried."
    library.run_jobs(server.url, "mail", good=1, bad=0)
    wait_until(lambda: client.get(f"/api/v1{url}").get_json()["state"] == "dead", what="the second failure")
    assert re.fullmatch(r"1 job retried\. It failed again [0-9.]+ m?s later\.", result_of(client, page))


def result_of(client: FlaskClient, url: str) -> str:
    """The result of the action that the page shows."""
    found = re.search(r'id="flash".*?<p>(.*?)</p>', client.get(url).text, re.DOTALL)
    assert found is not None
    return words(found[1])
