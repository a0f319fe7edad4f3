"""Top errors in notifications: from real failed jobs, within a time budget, escaped by each channel."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from dashboard.backends.base import Backend
from dashboard.backends.monitored_sources import open_sources
from dashboard.backends.rq.backend import RQ
from dashboard.backends.sidekiq.backend import Sidekiq
from dashboard.clock import instant
from dashboard.dead_letters import top_errors as module
from dashboard.dead_letters.top_errors import BUDGET_PERIOD_S, BUDGET_S, TopErrors, texts_of
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import Job, JobError, QueueStats, Searched
from dashboard.sampling.snapshot_store import SnapshotStore
from dashboard.services import build_checker
from dashboard.settings import SourceSettings, load
from dashboard.sources.source import Source
from tests.alerts.channels.fake_providers import HttpSink
from tests.alerts.channels.smtp import SmtpSink
from tests.contract.sidekiq_library import SidekiqLibrary
from tests.dead_letters import failing_jobs
from tests.dead_letters.test_groups import fail_rq, queues_of
from tests.waiting import CEILING_S, wait_until

HOSTILE = "<!channel> <b>bold</b> & *more*"
OFF = ("queue-no-consumers", "workers-gone", "checker-slow")


@pytest.fixture
def rq(source: Source, source_settings: SourceSettings) -> Iterator[Backend]:
    backend = RQ(source, source_settings)
    backend.own_source = source
    yield backend
    backend.close()


@pytest.fixture
def stats(server: EmbeddedRedis, rq: Backend, redis_client: redis.Redis) -> list[QueueStats]:
    """The queue `mail` with nine dead letters of four kinds of errors."""
    mails = ((failing_jobs.mail, f"user{n}@example.com", n) for n in range(5))
    fail_rq(
        server,
        "mail",
        *mails,
        (failing_jobs.fail_with, "x"),
        (failing_jobs.fail_with, "x"),
        (failing_jobs.charge, 1),
        (failing_jobs.fail_with, "y"),
    )
    return queues_of({"rq": rq})


def test_the_three_most_frequent_errors_are_listed_with_their_newest_message(
    rq: Backend, stats: list[QueueStats]
) -> None:
    top = TopErrors(lambda _source, _name: rq, budget_s=CEILING_S)
    texts = top.top_errors_of("main", "rq", "mail", stats)
    mail = "ConnectionError: cannot send order 4 to user4@example.com: timed out after 4.5 s"
    assert texts[0] == f"{mail} (5 of the 9 dead letters from the last hour)"
    assert texts[1].endswith("OddError: x (2 of the 9 dead letters from the last hour)")
    assert len(texts) == 3
    assert top.top_errors_of("main", "rq", "other", stats) == ()
    top.stop()


def failed_row(at: float, message: str | None, class_name: str | None = "E") -> Searched:
    error = JobError(class_name=class_name, message=message)
    job = Job(id=str(at), source="main", backend="rq", queue="mail", finished_at=instant(at), error=error)
    return Searched(job=job, text="")


def test_the_newest_message_is_named_wherever_its_job_is_in_the_list() -> None:
    rows = [failed_row(at, f"502 from payments-{at:.0f}") for at in (3, 9, 5)]
    assert texts_of(rows, 10.0) == ("E: 502 from payments-9 (3 of the 3 dead letters from the last hour)",)
    masked = texts_of([failed_row(1, "login failed: password=hunter2")], 2.0)
    assert "hunter2" not in masked[0]
    assert texts_of([failed_row(1, None, None)], 2.0)[0].startswith("(no error message) (1 of")
    assert texts_of([failed_row(1, "a\n b")], 2.0)[0].startswith("E: a b (1 of")


class FakeWait(threading.Event):
    """An event whose waits return at once: `asked` holds their timeouts, and `now` the time after them."""

    asked: list[float | None]
    now = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        type(self).asked.append(timeout)
        type(self).now += timeout or 0.0
        return self.is_set()


def test_a_hanging_list_of_errors_delays_notifications_by_a_bounded_time(
    rq: Backend, stats: list[QueueStats], monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeWait.asked, FakeWait.now = [], 0.0
    task = module._Task
    monkeypatch.setattr(module, "_Task", lambda *fields: task(*fields, done=FakeWait()))
    monkeypatch.setattr(module, "monotonic_s", lambda: FakeWait.now)
    hangs = threading.Event()
    calls = 0

    def slow(_source: str, _name: str) -> Backend:
        nonlocal calls
        if threading.current_thread().name == "queuedeck-top-errors":
            calls += 1
            hangs.wait(CEILING_S)
        return rq

    top = TopErrors(slow)
    others = [stats[0], *(QueueStats(**{**fields(stats[0]), "name": f"q{n}"}) for n in range(50))]
    assert top.top_errors_of("main", "rq", "mail", others) == ()
    wait_until(lambda: calls, what="the reader, which hangs")
    for queue in others[1:]:
        assert top.top_errors_of("main", "rq", queue.name, others) == ()
    assert FakeWait.asked == [BUDGET_S]
    for period in range(4):
        FakeWait.now += BUDGET_PERIOD_S
        for queue in others[1:]:
            assert top.top_errors_of("main", "rq", queue.name, others) == ()
        # One more is queued behind the one that hangs, and no later one waits.
        assert FakeWait.asked == [BUDGET_S] * 2, period
    hangs.set()
    # A late result is used for the next message.
    wait_until(lambda: top.top_errors_of("main", "rq", "mail", stats), what="the errors")
    top.stop()


def fields(queue: QueueStats) -> dict[str, Any]:
    return {name: getattr(queue, name) for name in queue.__struct_fields__}


def test_only_errors_of_the_queue_are_listed_from_a_shared_list(
    server: EmbeddedRedis, source: Source, source_settings: SourceSettings, redis_client: redis.Redis
) -> None:
    SidekiqLibrary().run_jobs(server.url, "mails", good=0, bad=2)
    SidekiqLibrary().run_jobs(server.url, "other", good=0, bad=3)
    redis_client.sadd("queues", "mails", "other")
    backend = Sidekiq(source, source_settings)
    backend.own_source = source
    top = TopErrors(lambda _source, _name: backend, budget_s=CEILING_S)
    queues = queues_of({"sidekiq": backend})
    (text,) = top.top_errors_of("main", "sidekiq", "mails", queues)
    assert "(2 of the 2 dead letters" in text
    top.stop()
    backend.close()


def test_notifications_contain_top_errors_escaped(
    server: EmbeddedRedis, redis_client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine a message may time out and be sent without them, which is not tested here.
    monkeypatch.setattr("dashboard.services.TopErrors", partial(TopErrors, budget_s=CEILING_S))
    fail_rq(server, "mail", *((failing_jobs.fail_with, f"{n} bad {HOSTILE}") for n in (500, 501, 502)))
    with ExitStack() as stack:
        sink, mails = HttpSink(), SmtpSink()
        stack.callback(sink.close)
        stack.callback(mails.close)
        rule = {"id": "dead", "metric": "queue.dead", "op": "ge", "critical": 3, "for_s": 0, "min_samples": 1}
        mail = {"id": "mail", "kind": "email", "host": "127.0.0.1", "port": mails.port, "tls": "none"}
        values: dict[str, Any] = {
            "redis_url": server.url,
            "sample_interval_s": 0.5,
            "allow_private_webhooks": True,
            "spool_dir": str(tmp_path / "spool"),
            "channels": [
                {"id": "slack", "kind": "slack", "url": sink.url},
                {**mail, "from": "deck@example.com", "to": ["ops@example.com"]},
            ],
            "rules": [
                {**rule, "new_instance_grace_s": 0, "group_wait_s": 0},
                *({"id": name, "enabled": False} for name in OFF),
            ],
        }
        settings = load(environ={}, keywords=values)
        sources = open_sources(settings)
        stack.callback(sources.close)
        checker = build_checker(settings, sources, SnapshotStore(sources.own), "one")
        checker.start()
        stack.callback(checker.stop)
        wait_until(lambda: sink.requests and mails.mails, what="both messages")
    slack = sink.requests[0].body.decode()
    assert "OddError" in slack
    assert "(3 of the 3 dead letters from the last hour)" in slack
    assert "OddError: 502 bad" in slack  # the newest message, not its pattern
    assert "&lt;n&gt;" not in slack
    assert "<!channel>" not in slack
    assert "&lt;!channel&gt;" in slack
    html = mails.mails[0].get_body(("html",))
    plain = mails.mails[0].get_body(("plain",))
    assert html is not None
    assert plain is not None
    assert "<b>bold</b>" not in html.get_content()
    assert "&lt;b&gt;bold" in html.get_content()
    assert "OddError: 502 bad" in " ".join(plain.get_content().split())
