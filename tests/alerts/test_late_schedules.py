"""Late schedules, from the library's data through the leader's thread to the message."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from msgspec.structs import replace

from dashboard.backends.monitored_sources import open_sources
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.model import Schedule
from dashboard.sampling.live_lists import LiveRows
from dashboard.schedules import schedule_watch
from dashboard.schedules.schedule_watch import ScheduleWatch, WatchedSchedules
from dashboard.schedules.seen_schedules import SCHEDULES
from dashboard.settings import load
from dashboard.store.redis_store import Store
from tests.alerts.channels.fake_providers import HttpSink
from tests.alerts.webhook_services import AT_ONCE, build_webhook_services
from tests.unit.alerts.factories import sample
from tests.waiting import wait_until


def test_the_message_about_a_late_schedule_says_when_it_was_due_and_whose_it_is(
    sink: HttpSink, server: EmbeddedRedis, redis_client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule_watch, "READ_EVERY_S", 0.5)
    due = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    redis_client.sadd("queues", "mails")
    redis_client.lpush("queue:mails", json.dumps({"class": "Mail", "args": [], "jid": "a" * 24, "created_at": 1.0}))
    redis_client.hset("schedules", "ping", json.dumps({"class": "PingJob", "every": "5m", "queue": "mails"}))
    redis_client.hset("sidekiq-scheduler:next_times", "ping", str(due))
    services = build_webhook_services(server.url, sink.url, tmp_path, {"schedule-late": AT_ONCE}, owned="mails")

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


def test_the_next_leader_knows_which_runs_were_skipped(
    server: EmbeddedRedis, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schedules of sidekiq-cron keep only their last run: whether one was skipped on purpose, only a leader saw."""
    rows: list[Schedule] = []
    monkeypatch.setattr(schedule_watch, "read_live_rows", lambda *_: LiveRows(tuple(rows), (), 0, 0, 0.0))
    sources = open_sources(load(environ={}, keywords={"redis_url": server.url}))
    now = datetime.fromtimestamp(sources.now_s("main"), UTC)
    nightly = Schedule(id="nightly", source="main", backend="sidekiq", kind="sidekiq-cron", pattern="0 3 * * *")
    nightly = replace(nightly, queue="mails", next_run_at=now + timedelta(hours=22))
    missed = replace(nightly, missed_at=now - timedelta(hours=2))
    odd = replace(nightly, id="odd", queue="\ud800")

    def read(*found: Schedule) -> dict[str, float | None]:
        """How late each is for a new leader."""
        rows[:] = found
        watch = ScheduleWatch(sources, Store(sources.own))
        read = wait_until(lambda: watch.look(sample([])), what="a reading")
        watch.stop()
        assert isinstance(read, WatchedSchedules)
        return {each.id: each.late_s for each in read.schedules}

    assert read(missed, odd)["nightly"] == pytest.approx(7200, abs=600), "it was missed as far as anyone knows"
    paused = replace(nightly, paused=True)
    assert read(paused, odd)["nightly"] == 0
    assert read(missed, odd)["nightly"] == 0, "the run was due while the leader before saw that it was paused"
    moved = replace(missed, pattern="0 4 * * *", missed_at=now - timedelta(hours=1))
    assert read(moved)["nightly"] == 0, "its time was changed while no process was leading"
    redis_client.set(SCHEDULES, b"\xff of a later version")
    assert read(moved)["nightly"] == pytest.approx(3600, abs=600)
    assert redis_client.ttl(SCHEDULES) > 39 * 86_400
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
    sources.close()
