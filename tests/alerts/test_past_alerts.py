"""The alerts as of a moment, from the history in the store."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from dashboard.alerts import keys
from dashboard.alerts.management import past_alerts
from dashboard.sources.metering import measure_cost
from dashboard.store.packing import pack
from tests.alerts.harness import Process, deep
from tests.alerts.test_service import alert_service_of
from tests.unit.alerts.test_past_alerts import incident, queues

Make = Callable[..., Process]


def test_what_fires_now_and_what_was_over_are_known_of_each_moment(
    make_process: Make, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past_alerts, "ENTRIES_AT_ONCE", 3)
    process = make_process()
    now = process.alerts.read_time()
    for name, began_s, ended_s in (("old", 9000, 8000), ("cash\udcff", 5000, 1000), ("mail", 4000, 3000)):
        for entry in incident(name, now - began_s, now - ended_s):
            process.alerts.append_history(entry)
    any_redis.xadd(keys.EPISODES, {"e": b"\xc1 not ours"})
    any_redis.xadd(keys.EPISODES, {"e": pack(["a", "list"])})
    reader = alert_service_of(process).past_alerts
    assert queues(reader.firing_at(now - 3500)) == ["cash\udcff", "mail"]
    assert queues(reader.firing_at(now - 500)) == []
    process.evaluate(deep(50))
    found = reader.firing_at(process.alerts.read_time())
    assert [(alert.entry.labels.queue, alert.is_firing_now) for alert in found.firing] == [("q0", True)]
    assert [past.known.labels.queue for past in found.resolved] == ["cash\udcff", "mail"]
    process.evaluate(deep(0))
    assert reader.firing_at(process.alerts.read_time() + 1).firing == ()
    with measure_cost() as meter:
        for ago_s in range(0, 9000, 300):
            reader.firing_at(now - ago_s)
    assert meter.round_trips == 30  # one each, to see that no alert changed


def test_the_history_says_how_far_back_it_goes(
    make_process: Make, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past_alerts, "MAX_EPISODES", 4)
    process = make_process()
    process.evaluate(deep(50))
    now = process.alerts.read_time()
    any_redis.delete(keys.EPISODES)
    for ago_s in (4000, 3000):
        for entry in incident("mail", now - ago_s, now - ago_s + 100):
            process.alerts.append_history(entry)
    reader = alert_service_of(process).past_alerts
    assert reader.firing_at(now - 10).is_complete
    before = reader.firing_at(now - 4001)
    assert (before.is_complete, before.firing) == (False, ())
    assert before.goes_back_to == now - 4000
    assert queues(reader.firing_at(now + 1)) == ["q0"]  # it fires now, although its beginning is not in the history
