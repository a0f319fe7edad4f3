"""The last hour of the rules on a real Redis: storage, cost, and continuation by another leader."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import redis

from dashboard.alerts import keys
from dashboard.alerts.evaluation.preview import RuleObservations, RulePreview
from dashboard.alerts.evaluation.rule_history import STEP_S, RuleHistories
from dashboard.alerts.rules.rule import Severity, parse_rule
from dashboard.alerts.store import DURATIONS_TTL_MS, HISTORIES_TTL_MS, AlertStore
from dashboard.model import Snapshot
from dashboard.sampling.recent_history import History
from dashboard.sources.metering import measure_cost
from dashboard.store.packing import pack, unpack
from dashboard.store.redis_store import LEAD
from tests.alerts.harness import DEEP, Process, deep
from tests.alerts.incident_scenario import IncidentScenario
from tests.alerts.test_service import alert_service_of
from tests.waiting import wait_until

Make = Callable[..., Process]
MEAN = {**DEEP, "id": "mean", "reducer": "mean", "window_s": 300}


class Clock:
    """The clock of the store as processes read it, which changes only by `advance`."""

    def __init__(self) -> None:
        self.now = (time.time() // STEP_S + 2) * STEP_S + 1  # ahead of what the server writes: it was not set back

    def advance(self, steps: int) -> None:
        """Advance by this many points of the history."""
        self.now += steps * STEP_S


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    inputs = AlertStore.read_inputs
    monkeypatch.setattr(AlertStore, "read_inputs", lambda store: replace(inputs(store), now=clock.now))
    return clock


def store_points(process: Process, clock: Clock, snapshot: Snapshot, least: int) -> RuleHistories:
    """The stored history after `process` evaluated that sample for at least this many points."""
    for _ in range(least + 1):
        assert process.evaluate(snapshot)
        clock.advance(1)
    assert process.evaluate(snapshot)
    histories = process.alerts.load_histories()
    assert histories is not None
    assert len(histories.rules["deep"].worst) >= least
    return histories


def preview(process: Process, snapshot: Snapshot, rules: list[dict[str, Any]]) -> dict[str, RulePreview]:
    alert_service = alert_service_of(process)
    return alert_service.previews.preview_rules(snapshot, History(), [parse_rule(rule, "test") for rule in rules])


def test_the_leader_stores_the_last_hour_and_the_next_leader_continues_it(
    make_process: Make, any_redis: redis.Redis, clock: Clock
) -> None:
    off = {**DEEP, "id": "off", "enabled": False}
    first, second = (make_process(name, rules=[DEEP, MEAN, off]) for name in ("one", "two"))
    before = store_points(first, clock, deep(50, 3), 2)
    assert before.rules["deep"].worst[-2:] == (50, 50)
    assert {line.labels.queue: line.points[-1] for line in before.rules["off"].lines} == {"q0": 50, "q1": 3}
    assert before.rules["mean"].worst[-1] == 50
    assert 0 < any_redis.pttl(keys.RULE_HISTORIES) <= HISTORIES_TTL_MS
    assert 0 < any_redis.pttl(keys.OBSERVATIONS) <= DURATIONS_TTL_MS

    any_redis.delete(LEAD)  # as if the first one was killed
    clock.advance(3)  # without a leader
    assert second.evaluate(deep(7, 3))
    after = store_points(second, clock, deep(7, 3), len(before.rules["deep"].worst) + 4)
    hour = after.rules["deep"]
    assert hour.since == before.rules["deep"].since
    known = len(before.rules["deep"].worst)
    assert hour.worst[:known] == before.rules["deep"].worst
    assert None in hour.worst[known:]  # no evaluation
    assert hour.worst[-1] == 7
    (line,) = (line for line in hour.lines if line.labels.queue == "q0")
    assert line.points == hour.worst
    assert not first.evaluate(deep(999), epoch=1)  # a leader with an expired lease changes nothing
    assert first.alerts.load_histories() == second.alerts.load_histories()


def test_a_new_leader_continues_the_history_of_a_killed_one(
    make_scenario: Callable[..., IncidentScenario],
) -> None:
    scenario = make_scenario()

    def since() -> float | None:
        histories = unpack(scenario.redis.get(keys.RULE_HISTORIES), RuleHistories)
        return histories.rules["deep"].since if histories else None

    for _ in range(2):
        scenario.start_checker()
    first: float = wait_until(since, what="the history")
    killed = scenario.leader()
    killed.kill()
    scenario.redis.delete(keys.HEARTBEAT)
    scenario.expire_lease()
    wait_until(lambda: scenario.holder() not in (None, killed.pid), what="another leader")
    assert since() == first


def test_rule_history_is_restored_after_the_store_lost_its_data(
    make_process: Make, any_redis: redis.Redis, clock: Clock
) -> None:
    process = make_process()
    before = store_points(process, clock, deep(50), 2)
    any_redis.flushall()
    assert process.evaluate(deep(50))
    after = process.alerts.load_histories()
    assert after is not None
    assert after.rules["deep"].worst[:2] == before.rules["deep"].worst[:2]


def test_rule_history_costs_no_round_trip_and_is_written_once_per_step(
    make_process: Make, any_redis: redis.Redis
) -> None:
    process = make_process()
    epoch = process.lease()
    for _ in range(2):
        process.evaluate(deep(0), epoch)
    any_redis.delete(keys.RULE_HISTORIES, keys.OBSERVATIONS)
    with measure_cost() as meter:
        assert process.evaluate(deep(0), epoch)
    assert (meter.round_trips, meter.commands) == (2, 10)  # reading inputs and the heartbeat
    assert not any_redis.exists(keys.RULE_HISTORIES, keys.OBSERVATIONS)


def test_the_preview_of_a_rule_with_a_window_matches_the_engine(make_process: Make) -> None:
    process = make_process(rules=[MEAN])
    for depth in (8, 20, 14):
        process.evaluate(deep(depth, 0))
    snapshot = deep(1, 0)  # one sample alone would not fire
    (state,) = process.engine.states.values()
    # The first evaluation published a mean of 8; publish again at the next one.
    process.engine._persisted_at = float("-inf")
    process.evaluate(snapshot)
    (state,) = process.engine.states.values()
    shown = preview(process, snapshot, [MEAN])["mean"]
    assert (shown.judged, shown.basis) == (True, "checker")
    assert [(match.labels, match.value, match.severity) for match in shown.beyond] == [
        (state.labels, state.value, Severity.CRITICAL)
    ]
    assert state.value == (8 + 20 + 14 + 1) / 4
    assert not preview(process, snapshot, [{**MEAN, "critical": 11}])["mean"].judged  # a draft, without history


def test_corrupt_stored_history_is_ignored(make_process: Make, any_redis: redis.Redis, clock: Clock) -> None:
    process = make_process()
    for rubbish in (b"", b"\x81\xa2at\xcb", b"\xc0", b"\x82\xa2at\x01\xa5rules\x01"):
        any_redis.set(keys.RULE_HISTORIES, rubbish)
        any_redis.set(keys.OBSERVATIONS, rubbish)
        assert process.alerts.load_histories() is None
        assert process.alerts.load_last_evaluation()[1] is None
    good = store_points(process, clock, deep(50), 1)
    hour = good.rules["deep"]
    bad: list[RuleHistories] = [
        *(msgspec.structs.replace(good, at=value) for value in (math.nan, math.inf)),
        *(msgspec.structs.replace(good, step_s=value) for value in (0.0, -1.0, math.nan)),
        *(
            msgspec.structs.replace(good, rules={"deep": msgspec.structs.replace(hour, **wrong)})
            for wrong in (
                {"since": math.inf},
                {"worst": (1, math.nan)},
                {"worst": (1,) * 61},
                {"lines": hour.lines * 6},
            )
        ),
    ]
    for each in bad:
        any_redis.set(keys.RULE_HISTORIES, pack(each))
        assert process.alerts.load_histories() is None
    any_redis.set(keys.OBSERVATIONS, pack(RuleObservations(at=math.nan, rules={})))
    assert process.alerts.load_last_evaluation()[1] is None


def test_a_page_reads_rule_history_once_per_step(make_process: Make, any_redis: redis.Redis) -> None:
    process = make_process()
    process.evaluate(deep(50))
    alert_service = alert_service_of(process)
    first = alert_service.previews.rule_histories(process.alerts.read_inputs().now)
    assert first is not None
    with measure_cost() as meter:
        assert alert_service.previews.rule_histories(first.at + 0.5) is first
        assert alert_service.previews.rule_histories(first.at + 3600) is first  # read just now: there is no newer one
    assert meter.round_trips == 0
