"""Jobs that became slower after a deployment, from the leader's comparison to the message."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from rq import Queue

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.history.columns import CLASS
from dashboard.history.recording import HistoryRecording
from dashboard.history.run_times import RunTimes
from dashboard.history.series_keys import SeriesKey
from dashboard.model import Mark
from tests.alerts.channels.fake_providers import HttpSink
from tests.alerts.webhook_services import AT_ONCE, build_webhook_services
from tests.waiting import wait_until

MAIL = SeriesKey(CLASS, "main", "rq", "mail", "app.mail.send")


def test_the_message_names_the_deployment_and_comes_once(
    sink: HttpSink, server: EmbeddedRedis, redis_client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Queue("mail", connection=redis_client).enqueue("app.mail.send")
    compared: dict[SeriesKey, RunTimes] = {}
    # In whole minutes by the clock, which a test does not wait for.
    monkeypatch.setattr(HistoryRecording, "run_times", property(lambda _: compared))
    services = build_webhook_services(server.url, sink.url, tmp_path, {"class-slower": AT_ONCE}, owned="mail")
    marks = services.marks.mark_store
    marks.add_mark(Mark(at=services.store.now_s() - 60, text="deploy", version="v412", who="anna"))

    def wait_for_samples(count: int) -> None:
        since = services.snapshots.current().snapshot.sequence
        wait_until(lambda: services.snapshots.current().snapshot.sequence >= since + count, what="samples")

    try:
        services.start(runs_bulk=False)
        wait_until(lambda: services.snapshots.current().snapshot.queues, what="the queue")
        compared[MAIL] = RunTimes(p95_s=0.9, jobs=120, usual_p95_s=0.3)
        (told,) = wait_until(lambda: [request.json() for request in sink.requests], what="the message")
        assert (told["rule_id"], told["kind"]) == ("class-slower", "firing")
        (line,) = told["lines"]
        assert line["owner"] == "Team Mail"
        assert line["detail_text"].startswith("95th percentile 900 ms of 120 jobs, usually 300 ms, since ")
        assert line["detail_text"].endswith(" after v412")
        wait_for_samples(5)
        assert len(sink.requests) == 1
        compared[MAIL] = RunTimes(p95_s=0.3, jobs=120, usual_p95_s=0.3)
        wait_until(lambda: len(sink.requests) == 2, what="the end")
        assert sink.requests[1].json()["kind"] == "resolved"
    finally:
        services.stop()
