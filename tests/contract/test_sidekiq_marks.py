"""Deploy marks as `Sidekiq::Deploy.mark!` of versions 7 and 8 writes them: Debian's 6.4 has none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import redis

from dashboard.backends.sidekiq.backend import Sidekiq
from dashboard.backends.sidekiq.metrics import deploy_marks
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import QueuedeckError
from dashboard.model import Mark
from dashboard.settings import SourceSettings
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from tests.contract.test_sidekiq import backend, discover, enqueue, payload

__all__ = ["backend"]
END = datetime(2026, 11, 5, 0, 7, 30, tzinfo=UTC)
COMMIT = "4f2a1c3 Send mails in parallel"


def mark(client: redis.Redis, at: datetime, label: str | bytes, *, prefix: str = "") -> None:
    """What `Sidekiq::Deploy#mark` does, at a time rounded down to the minute."""
    key, stamp = f"{prefix}{at:%Y%m%d}-marks", at.strftime("%Y-%m-%dT%H:%M:00Z")
    client.hsetnx(key, stamp, label)
    client.expire(key, 90 * 86_400)


def read_marks(backend: Sidekiq, days: int = 30) -> list[Mark]:
    refs = list(discover(backend).values())
    return sorted(backend.read_marks(refs, END.timestamp() - days * 86_400, END.timestamp()), key=lambda each: each.at)


@pytest.mark.parametrize("rules", ["+@all", "+@all -@scripting"])
def test_marks_of_all_days_and_namespaces_are_read(
    any_server: EmbeddedRedis, any_redis: redis.Redis, rules: str
) -> None:
    enqueue(any_redis, payload())
    enqueue(any_redis, payload(), prefix="app:")
    mark(any_redis, END - timedelta(minutes=20), COMMIT)  # on the day before
    mark(any_redis, END - timedelta(minutes=3), "v412")
    mark(any_redis, END - timedelta(days=29), "of the app", prefix="app:")
    mark(any_redis, END - timedelta(days=40), "too old")
    mark(any_redis, END + timedelta(minutes=3), "too new")
    any_redis.execute_command("ACL", "SETUSER", "reader", "reset", "on", ">secret", "~*", *rules.split())
    source = Source("main", any_server.url.replace("redis://", "redis://reader:secret@"))
    backend = Sidekiq(source, SourceSettings(name="main", url=any_server.url))
    before = {key: any_redis.dump(key) for key in any_redis.scan_iter()}
    found = read_marks(backend)
    assert [each.text for each in found] == ["of the app", COMMIT, "v412"]
    assert {(each.source, each.backend, each.id) for each in found} == {("main", "sidekiq", None)}
    assert found[2].at == datetime(2026, 11, 5, 0, 4, tzinfo=UTC).timestamp()
    refs = list(discover(backend).values())
    with measure_cost() as meter:
        assert backend.read_marks(refs, 0.0, 60.0) == []
    assert {key: any_redis.dump(key) for key in any_redis.scan_iter()} == before
    assert meter.round_trips <= 4
    source.close()


def test_odd_marks_do_not_affect_others(
    backend: Sidekiq, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(any_redis, payload())
    mark(any_redis, END - timedelta(minutes=3), "redis://user:hunter2@host " + "x" * 500)
    mark(any_redis, END - timedelta(minutes=2), b"\xff<b>")
    mark(any_redis, END - timedelta(minutes=1), "x" * 1_000_000)
    any_redis.hset("20261105-marks", mapping={"noon": "a", "2026-13-05T00:00:00Z": "b", b"\xff": "c", "": "d"})
    any_redis.hset("20261105-marks", "2026-11-05T00:01:00Z", " \n ")
    any_redis.set("20261104-marks", "no hash")
    found = read_marks(backend)
    assert [len(each.text) for each in found] == [200, 4]
    assert "hunter2" not in found[0].text
    monkeypatch.setattr(deploy_marks, "MAX_PER_DAY", 0)
    assert read_marks(backend) == []


def test_marks_that_may_not_be_read_are_reported(any_server: EmbeddedRedis, any_redis: redis.Redis) -> None:
    enqueue(any_redis, payload())
    any_redis.execute_command("ACL", "SETUSER", "reader", "reset", "on", ">secret", "~queue*", "+@all")
    source = Source("main", any_server.url.replace("redis://", "redis://reader:secret@"))
    backend = Sidekiq(source, SourceSettings(name="main", url=any_server.url))
    with pytest.raises(QueuedeckError, match="not allowed"):
        read_marks(backend)
    source.close()
