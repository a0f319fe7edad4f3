"""From state to message on both Redis versions: written together, delivered in order, once if possible."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest
import redis
from msgspec.structs import replace

from dashboard.alerts import keys
from dashboard.alerts.counters import AlertCounters, AlertCounts
from dashboard.alerts.delivery.channels import wording
from dashboard.alerts.delivery.channels.base import DeliveryResult, Message
from dashboard.alerts.delivery.sender import LONGEST_WAIT_S, back_off_s
from dashboard.alerts.delivery.transport.deadline import Deadline
from dashboard.alerts.notification import HistoryEntry
from dashboard.alerts.rules.rule import Severity
from dashboard.alerts.service import build_alert_service
from dashboard.errors import BackendUnavailable
from dashboard.settings import load
from dashboard.store.redis_store import LEAD, PREFIX
from tests.alerts.harness import DEEP, Process, Recorder, deep
from tests.waiting import wait_until

Make = Callable[..., Process]
LATER = DeliveryResult(ok=False, permanent=False, status="500", answer="try later")
NEVER = DeliveryResult(ok=False, permanent=True, status="404", answer="no such hook")
HISTORY = HistoryEntry(
    kind="firing", episode="e", at=1.0, rule_id="r", rule_name="R", metric="m", severity=Severity.CRITICAL
)


def make_due(client: redis.Redis, *, by_ms: int = 600_000) -> None:
    """Make all waiting messages due, or due earlier by `by_ms`."""
    for key in client.keys(f"{PREFIX}:due:*"):
        for name, score in client.zrange(key, 0, -1, withscores=True):
            client.zadd(key, {name: score - by_ms})


def test_an_incident_sends_one_firing_and_one_resolved_notification(make_process: Make, any_redis: redis.Redis) -> None:
    process = make_process()
    ops = process.channels["ops"]
    for _ in range(3):
        assert process.evaluate(deep(50))
        process.deliver()
    assert ops.kinds == ["firing"]
    process.evaluate(deep(0))
    process.deliver()
    assert ops.kinds == ["firing", "resolved"]
    first, last = ops.arrived
    assert first.episode == last.episode
    assert first.id == f"{first.episode}:firing:1:ops"
    assert last.id == f"{first.episode}:resolved:2:ops"
    assert last.references == first.id
    assert first.lines[0].url == "https://queues.example/queues/main/lists/q0?state=waiting"
    assert first.ack_url is not None
    assert first.lines[0].value_text == "50 waiting jobs"
    assert not any_redis.keys(f"{PREFIX}:chain:*")
    assert any_redis.zcard(keys.UNSENT) == 0


def test_an_incident_that_ended_before_delivery_is_one_message(make_process: Make) -> None:
    process = make_process()
    process.evaluate(deep(50))
    process.evaluate(deep(0))
    process.deliver()
    ops = process.channels["ops"]
    assert ops.kinds == ["both"]
    assert ops.arrived[0].ended_at is not None
    process.evaluate(deep(50))
    process.deliver()
    assert ops.kinds == ["both", "firing"]


def test_a_resolved_notification_waits_for_its_firing_one(make_process: Make, any_redis: redis.Redis) -> None:
    ops = Recorder(answers=[LATER, LATER])
    process = make_process("one", ops)
    process.evaluate(deep(50))
    process.deliver()
    process.evaluate(deep(0))
    assert process.deliver() == 0  # the firing message is being retried, and the resolved one does not overtake it
    for _ in range(3):
        make_due(any_redis)
        process.deliver()
    assert [message.kind for message in ops.given] == ["firing", "firing", "firing", "resolved"]
    assert ops.kinds == ["firing", "resolved"]
    assert len({message.id for message in ops.given[:3]}) == 1


def test_alerts_of_one_rule_are_grouped_worst_first(make_process: Make) -> None:
    process = make_process()
    process.evaluate(deep(*range(11, 61)))
    process.deliver()
    (message,) = process.channels["ops"].arrived
    assert [line.value_text for line in message.lines] == [f"{depth} waiting jobs" for depth in range(60, 10, -1)]
    assert wording.hidden_lines_text(message) == "and 30 more"
    process.evaluate(deep(*[0] * 50))
    process.deliver()
    assert process.channels["ops"].kinds == ["firing", "resolved"]


def test_a_channel_that_cannot_group_gets_one_message_per_alert(make_process: Make) -> None:
    process = make_process("one", Recorder(groups=False))
    process.evaluate(deep(50, 60, 70))
    process.deliver()
    assert len(process.channels["ops"].arrived) == 3


def test_a_retried_group_is_the_same_message(make_process: Make, any_redis: redis.Redis) -> None:
    ops = Recorder(answers=[LATER])
    process = make_process("one", ops)
    process.evaluate(deep(50, 60))
    process.deliver()
    process.evaluate(deep(50, 60, 70))  # a third alert fires too late for that message
    make_due(any_redis)
    process.deliver()
    first = ops.given[0]
    again = [message for message in ops.given[1:] if message.id == first.id]
    assert [message.lines for message in again] == [first.lines]
    assert sorted(len(message.lines) for message in ops.given) == [1, 2, 2]


def test_a_claim_that_is_never_closed_is_sent_again_under_its_id(make_process: Make, any_redis: redis.Redis) -> None:
    process = make_process()
    process.evaluate(deep(50))
    lost = process.claims.claim_next("ops", "killed", groups=True, spacing_s=0)
    assert lost is not None
    assert process.deliver() == 0
    make_due(any_redis, by_ms=61_000)
    assert process.deliver() == 1
    assert [message.id for message in process.channels["ops"].arrived] == [lost.id]


@pytest.mark.usefixtures("own_timeouts")
def test_a_message_sent_during_a_store_outage_is_not_sent_again(make_process: Make, any_redis: redis.Redis) -> None:
    class Pausing(Recorder):
        def attempt_delivery(self, message: Message, deadline: Deadline) -> DeliveryResult:
            if not self.given:
                any_redis.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
            return super().attempt_delivery(message, deadline)

    ops = Pausing()
    process = make_process("one", ops)
    process.evaluate(deep(50))
    try:
        with pytest.raises(BackendUnavailable):
            process.deliver()
    finally:
        any_redis.execute_command("CLIENT", "UNPAUSE")
    assert process.deliver() == 0
    assert any_redis.zcard(keys.UNSENT) == 0
    assert ops.kinds == ["firing"]
    process.evaluate(deep(0))
    process.deliver()
    assert ops.kinds == ["firing", "resolved"]


def test_one_of_several_processes_sends_a_message(make_process: Make) -> None:
    ops = Recorder()
    processes = [make_process(f"p{index}", ops) for index in range(4)]
    processes[0].evaluate(deep(*[50] * 30))
    gate = threading.Barrier(4)

    def work(process: Process) -> None:
        gate.wait()
        process.deliver()

    threads = [threading.Thread(target=work, args=(process,)) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ops.arrived) == 1


def test_a_permanent_failure_goes_to_the_fallback_channel_and_can_be_resent(
    make_process: Make, any_redis: redis.Redis
) -> None:
    ops, chief = Recorder("ops", [NEVER]), Recorder("chief")
    rule = {**DEEP, "channels": ["ops"], "fallback_channel": "chief"}
    process = make_process("one", ops, chief, rules=[rule])
    process.evaluate(deep(50))
    process.deliver()
    assert (ops.kinds, chief.kinds) == ([], ["firing"])
    process.evaluate(deep(0))
    process.deliver()
    assert (ops.kinds, chief.kinds) == (
        [],
        ["firing", "resolved"],
    )  # the resolved message goes to the channel that has the firing one
    assert process.alerts.read_inputs().dead == {"ops": 1}
    (name,) = any_redis.zrange(keys.DEAD, 0, -1)
    fingerprint = any_redis.hget(keys.message_key(name.decode()), "fingerprint").decode()
    assert process.outbox.requeue_failed(name.decode(), fingerprint)
    process.deliver()
    assert ops.kinds == ["firing"]
    assert process.alerts.read_inputs().dead == {}
    assert not process.outbox.requeue_failed(name.decode(), fingerprint)


def test_alerts_and_messages_are_counted_once_for_all_processes(make_process: Make, any_redis: redis.Redis) -> None:
    ops = Recorder("ops", [LATER, DeliveryResult(ok=True, status="200"), NEVER])
    process = make_process("one", ops, rules=[{**DEEP, "warning": 1, "group_wait_s": 0}])
    counters = AlertCounters(process.store, ("ops", "chief"))
    assert counters.read_counts() == AlertCounts(
        {"warning": 0, "critical": 0}, *[{"ops": 0, "chief": 0} for _ in range(3)]
    )
    process.evaluate(deep(50))  # a warning and a critical alert
    process.deliver()
    make_due(any_redis)
    process.deliver()
    process.evaluate(deep(0))
    process.deliver()
    counts = counters.read_counts()
    assert counts.fired == {"warning": 1, "critical": 1}
    assert (counts.sent["ops"], counts.retried["ops"], counts.failed["ops"]) == (len(ops.arrived), 1, 1)
    process.alerts.append_history(HISTORY)  # as an outage of the store is recorded after it
    process.alerts.append_history(replace(HISTORY, kind="resolved"))
    any_redis.hset(keys.COUNTERS, mapping={"sent ops": "9" * 400, "fired": "7", "sent \xff": "1"})
    counts = counters.read_counts()
    assert (counts.fired, counts.sent["ops"], counts.sent["chief"]) == ({"warning": 1, "critical": 2}, 0, 0)


def test_a_failed_notification_is_reported_on_the_other_channels(make_process: Make) -> None:
    ops, chief = Recorder("ops", [NEVER]), Recorder("chief")
    notify_dead = {"id": "notify-dead", "enabled": True, "group_wait_s": 0}
    process = make_process("one", ops, chief, rules=[{**DEEP, "channels": ["ops"]}, notify_dead])
    process.evaluate(deep(50))
    process.deliver()
    process.evaluate(deep(50))
    process.deliver()
    assert [message.rule_id for message in chief.arrived] == ["notify-dead"]
    assert ops.kinds == []


def test_retry_after_is_respected_and_not_counted_as_an_attempt(make_process: Make, any_redis: redis.Redis) -> None:
    ops = Recorder(answers=[DeliveryResult(ok=False, status="429", retry_after_s=120.0)])
    process = make_process("one", ops)
    process.evaluate(deep(50))
    process.deliver()
    make_due(any_redis, by_ms=60_000)
    assert process.deliver() == 0
    make_due(any_redis, by_ms=60_000)
    claim = process.claims.claim_next("ops", "t", groups=True, spacing_s=0)
    assert claim is not None
    assert claim.attempts == 1


def test_a_retry_after_of_zero_still_backs_off(make_process: Make, any_redis: redis.Redis) -> None:
    """A `Retry-After` of 0, below 0, or with a date in the past."""
    ops = Recorder(answers=[DeliveryResult(ok=False, status="503", retry_after_s=0.0)] * 2)
    process = make_process("one", ops)
    process.evaluate(deep(50))
    process.deliver()
    make_due(any_redis, by_ms=2100)
    process.deliver()
    make_due(any_redis, by_ms=600_000)
    claim = process.claims.claim_next("ops", "t", groups=True, spacing_s=0)
    assert claim is not None
    assert claim.attempts == 3


def any_redis_url(client: redis.Redis) -> str:
    return f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}/0"


def set_back_redis_clock(client: redis.Redis, *, by_ms: int = 3_600_000) -> None:
    """Change the stored times as if the clock of Redis had been set back."""
    make_due(client, by_ms=-by_ms)
    for name, score in client.zrange(keys.UNSENT, 0, -1, withscores=True):
        client.zadd(keys.UNSENT, {name: score + by_ms})
    for key in client.keys(f"{PREFIX}:msg:*"):
        client.hincrby(key, "made", by_ms)
    client.hincrby(keys.HEARTBEAT, "at", by_ms)


@pytest.mark.parametrize("by_ms", [3_600_000, 30_000])
def test_setting_back_the_redis_clock_delays_no_message(make_process: Make, any_redis: redis.Redis, by_ms: int) -> None:
    ops = Recorder()
    process = make_process("one", ops)
    process.evaluate(deep(50, 60))
    set_back_redis_clock(any_redis, by_ms=by_ms)
    assert process.deliver() == 0
    process.evaluate(deep(50, 60))
    process.deliver()
    assert [(message.kind, len(message.lines)) for message in ops.arrived] == [("firing", 2)]
    assert process.alerts.read_inputs().undelivered == {}


def test_setting_back_the_redis_clock_delays_no_retry(make_process: Make, any_redis: redis.Redis) -> None:
    ops = Recorder(answers=[LATER])
    process = make_process("one", ops)
    process.evaluate(deep(50))
    process.deliver()
    set_back_redis_clock(any_redis)
    process.evaluate(deep(50))
    process.deliver()
    assert ops.kinds == ["firing"]


def test_an_abandoned_claim_expires_after_a_minute_when_the_redis_clock_is_set_back(
    make_process: Make, any_redis: redis.Redis
) -> None:
    ops = Recorder()
    process = make_process("one", ops)
    process.evaluate(deep(50))
    assert process.claims.claim_next("ops", "a killed process", groups=True, spacing_s=0) is not None
    set_back_redis_clock(any_redis)
    process.evaluate(deep(50))
    assert process.deliver() == 0  # the process with the claim may still send it
    make_due(any_redis, by_ms=60_001)
    process.deliver()
    assert ops.kinds == ["firing"]


def test_a_renamed_channel_gets_undelivered_notifications(make_process: Make) -> None:
    make_process("one", Recorder("ops")).evaluate(deep(50))
    renamed = Recorder("ops-new")
    process = make_process("one", renamed)
    process.evaluate(deep(50))
    process.deliver()
    process.evaluate(deep(0))
    process.deliver()
    assert renamed.kinds == ["firing", "resolved"]
    assert renamed.arrived[1].references == renamed.arrived[0].id


def test_a_leader_without_channels_notifies_those_of_another_process(make_process: Make) -> None:
    """A dashboard with only a Redis URL, and a checker whose configuration file has the channels."""
    ops = Recorder()
    dashboard, checker = make_process("one", None), make_process("two", ops)
    checker.engine.follow_leader()
    dashboard.evaluate(deep(50))
    checker.deliver()
    dashboard.evaluate(deep(0))
    checker.deliver()
    assert ops.kinds == ["firing", "resolved"]


def test_channels_of_a_process_that_ended_are_forgotten(make_process: Make, any_redis: redis.Redis) -> None:
    checker = make_process("two", Recorder())
    assert checker.alerts.register_channels(["ops"]) == ("ops",)
    assert checker.alerts.register_channels(["chief"]) == ("chief", "ops")
    any_redis.zincrby(keys.CHANNELS, -30_001, "ops")
    assert checker.alerts.register_channels([]) == ("chief",)
    any_redis.zincrby(keys.CHANNELS, 3_600_000, "chief")  # the clock of Redis was set back
    assert checker.alerts.register_channels([]) == ()


def test_a_leader_with_an_expired_lease_changes_nothing(make_process: Make, any_redis: redis.Redis) -> None:
    first, second = make_process("one"), make_process("two")
    epoch = first.lease()
    assert first.evaluate(deep(0), epoch)
    any_redis.delete(LEAD)
    assert second.evaluate(deep(0))
    before = any_redis.dump(keys.CHANGES)
    assert not first.evaluate(deep(50), epoch)
    assert any_redis.dump(keys.CHANGES) == before
    assert any_redis.scard(keys.LIVE) == 0
    assert any_redis.zcard(keys.UNSENT) == 0


def test_successive_leaders_send_one_alert(make_process: Make, any_redis: redis.Redis) -> None:
    ops = Recorder()
    first, second = make_process("one", ops), make_process("two", ops)
    first.evaluate(deep(50))
    any_redis.delete(LEAD)
    second.evaluate(deep(50))
    second.deliver()
    any_redis.delete(LEAD)
    first.evaluate(deep(50))
    first.evaluate(deep(0))
    first.deliver()
    assert ops.kinds == ["firing", "resolved"]


@pytest.mark.parametrize("follows", [False, True])
def test_alert_states_are_restored_after_the_store_lost_its_data(
    make_process: Make, any_redis: redis.Redis, follows: bool
) -> None:
    ops = Recorder()
    leader, other = make_process("one", ops), make_process("two", ops)
    leader.evaluate(deep(50))
    leader.deliver()
    leader.evaluate(deep(50, 60))  # a second message, unsent when the data is lost
    other.engine.follow_leader()
    any_redis.flushall()
    survivor = other if follows else leader
    for _ in range(2):
        survivor.evaluate(deep(50, 60))
    survivor.deliver()
    survivor.evaluate(deep(0, 0))
    survivor.deliver()
    episodes = {line.label: message.episode for message in ops.arrived for line in message.lines}
    assert len(episodes) == 2
    firing = [message for message in ops.arrived if message.kind == "firing"]
    assert {line.label for message in firing for line in message.lines} == {
        "q0 (lists, main)",
        "q1 (lists, main)",
    }
    assert len({message.episode for message in firing}) <= 2
    assert ops.kinds[-1] == "resolved"


@pytest.mark.parametrize("follows", [False, True])
def test_rules_silences_and_acknowledgements_are_restored_after_the_store_lost_its_data(
    make_process: Make, any_redis: redis.Redis, follows: bool
) -> None:
    """A rule created on the page is still evaluated, and silenced or acknowledged alerts send no notifications."""
    ops = Recorder()
    leader, other = make_process("one", ops), make_process("two", ops)
    alert_service = build_alert_service(
        load(environ={}, keywords={"redis_url": any_redis_url(any_redis)}), leader.store, ruleset=leader.ruleset
    )
    leader.evaluate(deep(50))
    made = alert_service.rules.save_rule({**DEEP, "id": "own", "critical": 40, "channels": []}, by="ann", version=None)
    alert_service.silences.save_silence(alert_service.silences.draft_silence(for_s=3600, by="ann", rule="own"))
    over = alert_service.silences.draft_silence(for_s=3600, by="ann", rule="deep")
    alert_service.silences.save_silence(over)
    alert_service.silences.expire_silence(over.id)
    leader.evaluate(deep(50))
    leader.deliver()
    (acknowledged,) = (state for state in leader.engine.states.values() if state.rule_id == "deep")
    alert_service.acknowledgements.acknowledge_alert(acknowledged.fingerprint, episode=acknowledged.episode, by="ann")
    leader.evaluate(deep(50))
    other.engine.follow_leader()
    any_redis.flushall()
    survivor = other if follows else leader
    if follows:
        other.engine.follow_leader()  # before there is a leader
    for _ in range(3):
        survivor.evaluate(deep(50))
    survivor.deliver()
    assert {message.rule_id for message in ops.arrived} == {"deep"}
    assert alert_service.rules.find_rule("own").rule == made
    assert [silence.rule for silence in alert_service.silences.list_silences()] == ["own"]
    assert {alert.state.rule_id: alert.ack and alert.ack.by for alert in alert_service.alerts.list_alerts().firing} == {
        "deep": "ann",
        "own": None,
    }


def test_a_resolved_message_refers_to_its_firing_message(make_process: Make) -> None:
    ops = Recorder()
    process = make_process("one", ops)
    process.evaluate(deep(50, 60))  # both in one message
    process.deliver()
    for left in (deep(0, 60), deep(0, 0)):
        process.evaluate(left)
        process.deliver()
    begin, *ends = ops.arrived
    assert len(begin.lines) == 2
    assert [end.kind for end in ends] == ["resolved", "resolved"]
    assert [end.references for end in ends] == [begin.id, begin.id]


def test_a_deleted_rule_resolves_its_firing_alerts(make_process: Make) -> None:
    ops = Recorder()
    make_process("one", ops).evaluate(deep(50))
    without = make_process("one", ops, rules=[])
    without.deliver()
    without.evaluate(deep(50))
    without.deliver()
    assert ops.kinds == ["firing", "resolved"]
    assert "rule deleted" in str(ops.arrived[-1].lines[0].since_text)


def test_messages_that_no_process_delivers_expire_after_a_day(make_process: Make, any_redis: redis.Redis) -> None:
    process = make_process("one", Recorder("gone"))
    process.evaluate(deep(50))
    process.evaluate(deep(0))
    now = process.alerts.read_inputs().now
    assert process.outbox.fail_expired(now) == 0
    assert process.outbox.fail_expired(now + 86_400 + 120) == 2
    assert any_redis.zcard(keys.UNSENT) == 0
    assert not any_redis.keys(f"{PREFIX}:chain:*")
    assert process.alerts.read_inputs().dead == {"gone": 2}


@pytest.mark.parametrize(("age_s", "arrives"), [(86_400 - 600, True), (86_400 + 600, False)])
def test_a_message_older_than_a_day_expires_and_goes_to_the_fallback_channel(
    make_process: Make, any_redis: redis.Redis, age_s: int, arrives: bool
) -> None:
    """A channel that works again after days does not receive outdated messages."""
    rule = {**DEEP, "channels": ["ops"], "fallback_channel": "chief"}
    process = make_process("one", Recorder("ops"), Recorder("chief"), rules=[rule])
    process.evaluate(deep(50))
    (message,) = any_redis.keys(f"{PREFIX}:msg:*")
    any_redis.hincrby(message, "made", -age_s * 1000)
    process.deliver()
    assert process.channels["ops"].kinds == (["firing"] if arrives else [])
    assert process.channels["chief"].kinds == ([] if arrives else ["firing"])
    assert process.alerts.read_inputs().dead == ({} if arrives else {"ops": 1})


def test_a_hanging_channel_delays_no_other(make_process: Make) -> None:
    slow, quick = Recorder("slow"), Recorder("quick")
    slow.gate = threading.Event()
    process = make_process("one", slow, quick)
    process.notifier.start()
    process.evaluate(deep(50))
    wait_until(lambda: quick.kinds == ["firing"], what="the alert on the quick channel")
    assert slow.kinds == []
    slow.gate.set()
    wait_until(lambda: slow.kinds == ["firing"], what="the alert on the slow channel")
    process.notifier.stop()


def test_the_back_off_is_limited_to_five_minutes() -> None:
    dice = random.Random(1)
    highest = [max(back_off_s(attempt, dice) for _ in range(300)) for attempt in range(1, 30)]
    assert highest[0] <= 2.0
    assert max(highest) <= LONGEST_WAIT_S
    assert highest[-1] > LONGEST_WAIT_S * 0.9


def test_a_damaged_message_holds_up_neither_its_channel_nor_its_alert(
    make_process: Make, any_redis: redis.Redis
) -> None:
    process = make_process()
    ops = process.channels["ops"]
    process.evaluate(deep(50))
    (damaged,) = any_redis.keys(f"{PREFIX}:msg:*")
    any_redis.hdel(damaged, "fingerprint")
    process.evaluate(deep(50, 60))
    process.deliver()
    assert [message.queue for message in ops.arrived] == ["q1"]
    process.evaluate(deep(0, 60))
    process.outbox.repair_entries()
    process.deliver()
    assert [(message.kind, message.queue) for message in ops.arrived[1:]] == [("resolved", "q0")]
    assert not any_redis.keys(f"{PREFIX}:chain:*")
    assert any_redis.zcard(keys.UNSENT) == 0
