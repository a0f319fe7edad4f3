"""What Prometheus reads, parsed by its own parser."""

from __future__ import annotations

import hashlib

import pytest
import redis
from flask.testing import FlaskClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from rq import Queue

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.web.context import EXTENSION
from tests.contract.rq_library import open_client, run_waiting_jobs
from tests.dead_letters import failing_jobs
from tests.waiting import wait_until
from tests.web.conftest import MakeApp

QUEUE = {"source": "main", "backend": "rq", "queue": "mail"}


def _samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_figures_of_queues_and_redis(client: FlaskClient, jobs: list[str]) -> None:
    samples = _samples(client.get("/metrics").get_data(as_text=True))
    assert samples["queuedeck_queue_jobs", frozenset({**QUEUE, "state": "waiting"}.items())] == 3
    assert samples["queuedeck_queue_depth", frozenset(QUEUE.items())] == 3
    assert samples["queuedeck_source_up", frozenset({"source": "main"}.items())] == 1
    assert samples["queuedeck_redis_used_memory_bytes", frozenset({"source": "main"}.items())] > 0
    assert samples["queuedeck_alerting_up", frozenset()] == 0


def test_firing_alerts_are_exported_while_alerting_runs(make_app: MakeApp, jobs: list[str]) -> None:
    client = make_app(checker="auto").test_client()

    def up() -> dict[tuple[str, frozenset[tuple[str, str]]], float] | None:
        samples = _samples(client.get("/metrics").get_data(as_text=True))
        return samples if samples["queuedeck_alerting_up", frozenset()] else None

    samples = wait_until(up, what="a checker that watches")
    assert samples["queuedeck_alerts_firing", frozenset({"severity": "critical"}.items())] == 0


def test_every_process_counts_the_same_also_after_a_change_of_leader(
    make_app: MakeApp, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    """Whichever process of a deployment is scraped: no counter goes back, and no job is counted twice."""
    settings = {"sample_interval_s": 0.5, "rules": []}
    first, second = (make_app(checker="auto", **settings) for _ in range(2))
    processes = [app.test_client() for app in (first, second, make_app(**settings))]

    def counts() -> tuple[float, float, float] | None:
        """The figures that all processes agree on."""
        queue = frozenset(QUEUE.items())
        names = ("queue_finished_total", queue), ("queue_failed_total", queue)
        found = [_samples(process.get("/metrics").get_data(as_text=True)) for process in processes]
        both = {tuple(samples.get((f"queuedeck_{name}", labels)) for name, labels in names) for samples in found}
        if len(both) > 1 or None in (pair := both.pop()):
            return None
        return (*pair, min(samples["queuedeck_checker_samples_total", frozenset()] for samples in found))

    def run(good: int, bad: int) -> tuple[float, float]:
        """Run jobs; what is counted once at least two samples were taken after them."""
        with open_client(server.url) as connection:
            queue = Queue("mail", connection=connection)
            calls = [("os.getcwd",)] * good + [(failing_jobs.charge, number) for number in range(bad)]
            for call in calls:
                queue.enqueue(*call)
            run_waiting_jobs(queue)
        return after(after(0)[2])[:2]

    def after(samples: float) -> tuple[float, float, float]:
        """The figures once at least two more samples were taken."""
        return wait_until(lambda: found if (found := counts()) and found[2] >= samples + 2 else None, what="samples")

    finished, failed = run(1, 1)
    assert (finished, failed) <= (2, 1)  # what finished before the first sample of the queue is not counted
    assert run(4, 2) == (finished + 6, failed + 2)
    leading = [app.extensions[EXTENSION].services.checker.loop._leadership.epoch is not None for app in (first, second)]
    assert sorted(leading) == [False, True]
    samples = after(0)[2]
    (second if leading[1] else first).extensions[EXTENSION].stop()
    del processes[leading.index(True)]
    assert after(samples)[:2] == (finished + 6, failed + 2)
    assert run(2, 1) == (finished + 9, failed + 3)


def test_an_unknown_figure_has_no_sample(client: FlaskClient, jobs: list[str]) -> None:
    samples = _samples(client.get("/metrics").get_data(as_text=True))
    assert ("queuedeck_queue_finished_total", frozenset(QUEUE.items())) not in samples  # no checker counts
    assert ("queuedeck_queue_jobs", frozenset({**QUEUE, "state": "retrying"}.items())) not in samples
    assert ("queuedeck_redis_maxmemory_bytes", frozenset({"source": "main"}.items())) not in samples


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a{b}", "ü", "\ufffe"])
def test_a_hostile_name_breaks_no_other_line(client: FlaskClient, redis_client: redis.Redis, name: str) -> None:
    Queue(name, connection=redis_client).enqueue("app.send")
    Queue("plain", connection=redis_client).enqueue("app.send")
    samples = _samples(client.get("/metrics").get_data(as_text=True))
    assert sum(sample[0] == "queuedeck_queue_depth" for sample in samples) == 2


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\\", "a\\nb", '\\"', "a\\\\b", "a{b}", "ü"])
def test_names_survive_a_round_trip(client: FlaskClient, redis_client: redis.Redis, name: str) -> None:
    """Backslashes too: one that is not escaped makes Prometheus refuse the whole answer, or read another name."""
    Queue(name, connection=redis_client).enqueue("app.send")
    samples = _samples(client.get("/metrics").get_data(as_text=True))
    depths = {labels: value for (sample, labels), value in samples.items() if sample == "queuedeck_queue_depth"}
    assert depths == {frozenset({**QUEUE, "queue": name}.items()): 1}


def test_bytes_that_are_not_utf8_cost_no_other_line(client: FlaskClient, redis_client: redis.Redis) -> None:
    for name in (b"bad\xff\xed\xa0\x80", b"plain"):
        redis_client.sadd("rq:queues", b"rq:queue:" + name)
        redis_client.rpush(b"rq:queue:" + name, "a job")
    samples = _samples(client.get("/metrics").get_data(as_text=True))
    names = {dict(labels)["queue"] for name, labels in samples if name == "queuedeck_queue_depth"}
    assert names == {r"bad\xff\xed\xa0\x80", "plain"}


def test_a_scraper_gets_the_format_it_prefers(client: FlaskClient, jobs: list[str]) -> None:
    """The first two headers are those of Prometheus 2 and 3."""
    text, openmetrics = "text/plain; version=0.0.4; charset=utf-8", "application/openmetrics-text"
    for accept, kind in (
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
            "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            openmetrics,
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3",
            openmetrics,
        ),
        ("application/openmetrics-text;q=0.5,text/plain;version=0.0.4", text),
        ("application/openmetrics-text;q=0,*/*", text),
        ("text/html,*/*;q=0.8", text),
        ("*/*", text),
        ("text/plain;version=x", text),
        ("\xff;;,", text),
    ):
        answer = client.get("/metrics", headers={"Accept": accept})
        assert answer.status_code == 200
        assert answer.content_type.startswith(kind), accept
        parse = parse_openmetrics if kind == openmetrics else text_string_to_metric_families
        assert [family.name for family in parse(answer.text) if family.name == "queuedeck_queue_depth"]


def test_metrics_require_a_token_from_every_address(make_app: MakeApp, jobs: list[str]) -> None:
    digest = hashlib.sha256(b"let me in").hexdigest()
    client = make_app(api_tokens=[f"prometheus:viewer:{digest}"], auth="auto").test_client()
    for far in ({"REMOTE_ADDR": "192.0.2.7"}, {}):
        refused = client.get("/metrics", environ_overrides=far)
        assert refused.status_code == 401
        assert refused.get_json()["error"]["hint"]
        assert client.get("/metrics", environ_overrides=far, headers={"Authorization": "Bearer no"}).status_code == 401
        let_in = client.get("/metrics", environ_overrides=far, headers={"Authorization": "Bearer let me in"})
        assert let_in.status_code == 200


def test_metrics_can_be_public(make_app: MakeApp, jobs: list[str]) -> None:
    client = make_app(auth="auto", metrics_public=True).test_client()
    assert client.get("/metrics", environ_overrides={"REMOTE_ADDR": "192.0.2.7"}).status_code == 200
    assert client.get("/").status_code == 403
