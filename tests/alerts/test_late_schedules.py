"""Late schedules, from the library's data through the leader's thread to the message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from dashboard.alerts.rules.default_rules import default_rules
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.schedules import schedule_watch
from dashboard.services import build_services
from dashboard.settings import load
from tests.alerts.channels.fake_providers import HttpSink
from tests.waiting import wait_until


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    made = HttpSink()
    yield made
    made.close()


def test_the_message_about_a_late_schedule_says_when_it_was_due_and_whose_it_is(
    sink: HttpSink, server: EmbeddedRedis, redis_client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule_watch, "READ_EVERY_S", 0.5)
    own: dict[str, dict[str, Any]] = {rule.id: {"id": rule.id, "enabled": False} for rule in default_rules()}
    at_once = {"for_s": 0, "min_samples": 1, "recover_for_s": 0, "group_wait_s": 0}
    own["schedule-late"] |= {"enabled": True, **at_once}
    values: dict[str, Any] = {
        "redis_url": server.url,
        "sample_interval_s": 0.5,
        "spool_dir": str(tmp_path / "spool"),
        "allow_private_webhooks": True,
        "public_url": "https://queues.example",
        "channels": [{"id": "ops", "kind": "webhook", "url": sink.url}],
        "queues": [{"match": "mails", "owner": "Team Mail"}],
        "rules": list(own.values()),
    }
    due = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    redis_client.sadd("queues", "mails")
    redis_client.lpush("queue:mails", json.dumps({"class": "Mail", "args": [], "jid": "a" * 24, "created_at": 1.0}))
    redis_client.hset("schedules", "ping", json.dumps({"class": "PingJob", "every": "5m", "queue": "mails"}))
    redis_client.hset("sidekiq-scheduler:next_times", "ping", str(due))
    services = build_services(load(environ={}, keywords=values), checks=True)

    def messages(count: int) -> list[dict[str, Any]]:
        wait_until(lambda: len(sink.requests) >= count, what=f"{count} messages")
        return [request.json() for request in sink.requests]

    try:
        services.start(runs_bulk=False)
        (told,) = messages(1)
        assert (told["rule_id"], told["kind"], told["severity"]) == ("schedule-late", "firing", "critical")
        assert told["title"] == "Schedule is late: PingJob in mails (sidekiq, main)"
        (line,) = told["lines"]
        assert (line["owner"], line["url"]) == ("Team Mail", "https://queues.example/schedules?q=PingJob")
        assert line["detail_text"] == "due 2023-11-14 22:13:20 UTC, 5m"
        assert line["value_text"].endswith(" late")
        redis_client.hset("sidekiq-scheduler:next_times", "ping", "2200-01-01 00:00:00 UTC")
        assert [message["kind"] for message in messages(2)] == ["firing", "resolved"]
    finally:
        services.stop()
