"""`queuedeck check` on a failing Redis, with and without a checker that has seen it healthy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from dashboard.alerts import keys
from dashboard.alerts.evaluation.durations import PersistedDurations
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.nagios_check import ExitStatus, evaluate_once
from dashboard.nagios_check import main as check
from dashboard.settings import Settings, load
from dashboard.store.packing import pack, unpack
from tests.alerts.incident_scenario import IncidentScenario
from tests.waiting import wait_until

OFF = {"enabled": False}


def settings(url: str, **keywords: Any) -> Settings:
    return load(environ={}, keywords={"redis_url": url, **keywords})


def test_a_redis_that_was_killed_is_critical(
    make_scenario: Callable[..., IncidentScenario], capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = make_scenario()
    assert evaluate_once(settings(scenario.server.url))[0] is ExitStatus.OK
    scenario.server.stop(kill=True)
    assert check(settings(scenario.server.url), as_json=False) == 2
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("QUEUEDECK CRITICAL - Redis is not responding: main: ")
    assert str(scenario.server.port) in first
    assert check(settings(scenario.server.url), as_json=True) == 2
    answer = json.loads(capsys.readouterr().out)
    (alert,) = answer["alerts"]
    assert (alert["rule"], alert["labels"], alert["state"]) == ("redis-unreachable", {"source": "main"}, "beyond")
    assert answer["unknown"]


def test_the_status_of_an_unreachable_redis_follows_its_rule(make_scenario: Callable[..., IncidentScenario]) -> None:
    scenario = make_scenario()
    scenario.server.stop(kill=True)
    off = {"id": "redis-unreachable", **OFF}
    lenient = {"id": "down", "metric": "redis.unreachable_s", "warning": 30}
    assert evaluate_once(settings(scenario.server.url, rules=[off, lenient]))[0] is ExitStatus.WARNING
    assert evaluate_once(settings(scenario.server.url, rules=[off]))[0] is ExitStatus.UNKNOWN


def test_a_redis_that_cannot_save_and_stops_taking_writes_is_critical(
    make_scenario: Callable[..., IncidentScenario], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    scenario = make_scenario("redis-7", "--dir", str(data))
    data.rmdir()
    scenario.redis.config_set("save", "1 1")
    scenario.redis.set("app", "1")
    wait_until(lambda: scenario.redis.info("persistence")["rdb_last_bgsave_status"] == "err", what="a failed save")
    code, alerts, _ = evaluate_once(settings(scenario.server.url))
    assert code is ExitStatus.CRITICAL
    assert "redis-writes-refused" in {alert.rule.id for alert in alerts}
    scenario.redis.config_set("save", "")  # else it could not be shut down


def test_a_replica_that_no_checker_has_seen_writable_is_unknown(
    make_scenario: Callable[..., IncidentScenario],
) -> None:
    scenario = make_scenario()
    scenario.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    link_off = {"id": "redis-replica-link", **OFF}
    code, alerts, problems = evaluate_once(settings(scenario.server.url, rules=[link_off]))
    assert (code, alerts) == (ExitStatus.UNKNOWN, [])
    assert "read-only replica" in problems[0]
    meant = [link_off, {"id": "redis-writes-refused", **OFF}]
    assert evaluate_once(settings(scenario.server.url, rules=meant))[::2] == (ExitStatus.OK, [])


def test_a_primary_that_became_a_replica_is_critical_without_a_running_checker(
    make_scenario: Callable[..., IncidentScenario],
) -> None:
    scenario = make_scenario()
    checker = scenario.start_checker()
    wait_until(lambda: _writable(scenario.redis), what="what the checker saw")
    checker.kill()
    scenario.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    code, alerts, problems = evaluate_once(settings(scenario.server.url))
    assert code is ExitStatus.CRITICAL
    assert [alert.rule.id for alert in alerts if alert.severity == "critical"] == ["redis-writes-refused"]
    assert not any("read-only" in problem for problem in problems)


def test_a_replica_watched_by_a_checker_with_another_store_is_ok(
    make_scenario: Callable[..., IncidentScenario], any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    scenario = make_scenario()
    scenario.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    any_redis.set(keys.DURATIONS, b"")
    assert evaluate_once(settings(scenario.server.url, store_url=any_server.url))[0] is ExitStatus.UNKNOWN
    any_redis.set(keys.DURATIONS, pack(PersistedDurations()))
    assert evaluate_once(settings(scenario.server.url, store_url=any_server.url))[0] is ExitStatus.OK


def _writable(client: redis.Redis) -> bool:
    durations = unpack(client.get(keys.DURATIONS), PersistedDurations)
    return durations is not None and "main" in durations.writable


def test_alerts_left_by_a_stopped_checker_are_not_reported_as_current(
    make_scenario: Callable[..., IncidentScenario],
) -> None:
    scenario = make_scenario()
    checker = scenario.start_checker()
    scenario.fill()
    scenario.await_kinds("deep", "firing")
    checker.kill()
    scenario.drain()

    def found() -> tuple[ExitStatus, list[str], str]:
        code, alerts, problems = evaluate_once(load(config=scenario.configure(), environ={}))
        return code, [alert.rule.id for alert in alerts], "; ".join(problems)

    scenario.redis.hincrby(keys.HEARTBEAT, "at", -60_000)
    code, rules, problems = found()  # it may be a restart
    assert (code, rules) == (ExitStatus.CRITICAL, ["deep"])
    assert "not evaluated the rules for 1 m" in problems
    scenario.redis.hincrby(keys.HEARTBEAT, "at", -300_000)
    code, rules, problems = found()
    assert (code, rules) == (ExitStatus.UNKNOWN, [])
    assert "Start queuedeck checker" in problems


def test_an_unreachable_store_is_critical_even_if_the_watched_redis_is_healthy(
    make_scenario: Callable[..., IncidentScenario], any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    scenario = make_scenario()
    scenario.server.stop(kill=True)
    wanted = settings(any_server.url, store_url=scenario.server.url)
    code, (alert,), _ = evaluate_once(wanted)
    assert (code, alert.rule.id, alert.labels.source) == (ExitStatus.CRITICAL, "redis-unreachable", "store")
    off = settings(any_server.url, store_url=scenario.server.url, rules=[{"id": "redis-unreachable", **OFF}])
    assert evaluate_once(off)[0] is ExitStatus.UNKNOWN


def test_a_redis_that_does_not_respond_is_listed_first(
    make_scenario: Callable[..., IncidentScenario], any_server: EmbeddedRedis, any_redis: redis.Redis
) -> None:
    scenario = make_scenario()
    scenario.server.stop(kill=True)
    any_redis.sadd("rq:queues", "rq:queue:mail")
    any_redis.rpush("rq:queue:mail", "a", "b")
    sources = [{"name": "main", "url": any_server.url}, {"name": "other", "url": scenario.server.url}]
    deep = {"id": "a-deep", "metric": "queue.depth", "critical": 1}
    _, alerts, _ = evaluate_once(load(environ={}, keywords={"sources": sources, "rules": [deep]}))
    assert [alert.rule.id for alert in alerts][:2] == ["redis-unreachable", "a-deep"]
