"""Actions of pages: silences, acknowledgements, changes of rules, test notifications, resending."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import redis

from dashboard.actions.pauses import PauseLog
from dashboard.alerts import keys
from dashboard.alerts.delivery.channels.base import DeliveryResult
from dashboard.alerts.delivery.channels.pagerduty import build_events
from dashboard.alerts.delivery.channels.wording import message_headline
from dashboard.alerts.evaluation.state_machine import AlertLabels
from dashboard.alerts.rules.rule import Origin, Severity, parse_rule
from dashboard.alerts.service import AlertService, build_alert_service
from dashboard.alerts.silences import WeeklyWindow
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.errors import ConfigurationError, Conflict, Forbidden, NotFound, Unsupported
from dashboard.model import Counts, State
from dashboard.nagios_check import ExitStatus, FiringAlert, describe_alert, evaluate_once
from dashboard.nagios_check import main as check
from dashboard.settings import QueueSettings, Settings, load
from tests.alerts.harness import DEEP, Process, Recorder, deep
from tests.unit.alerts.factories import queue, sample

Make = Callable[..., Process]
SECRET = "https://hooks.example.com/services/T0K3N-verysecret"
NEVER = DeliveryResult(ok=False, permanent=True, status="404", answer="no such hook")


def settings(url: str = "redis://127.0.0.1:1/0", **keywords: Any) -> Settings:
    channels = [{"id": name, "kind": "webhook", "url": SECRET} for name in ("ops", "chief")]
    return load(environ={}, keywords={"redis_url": url, "channels": channels, **keywords})


def alert_service_of(process: Process, **keywords: Any) -> AlertService:
    return build_alert_service(settings(**keywords), process.store)


def test_firing_alerts_are_listed_worst_first(make_process: Make) -> None:
    process = make_process(rules=[{**DEEP, "warning": 5}])
    process.evaluate(deep(7, 50))
    alert_list = alert_service_of(process).alerts.list_alerts()
    assert [(alert.state.labels.queue, alert.state.severity.value) for alert in alert_list.firing] == [
        ("q1", "critical"),
        ("q0", "warning"),
        ("q1", "warning"),
    ]
    assert alert_list.worst is Severity.CRITICAL
    process.evaluate(deep(0, 0))
    assert alert_service_of(process).alerts.list_alerts().worst is None


def test_the_history_has_start_and_end_of_an_incident(make_process: Make) -> None:
    process = make_process()
    process.evaluate(deep(50))
    process.evaluate(deep(70))
    process.evaluate(deep(0))
    process.evaluate(deep(50))
    newest, oldest = (entry.newest for entry in alert_service_of(process).alerts.list_history((), 10))
    assert newest.ended is None
    assert oldest.began is not None
    assert oldest.ended is not None
    assert (oldest.ended.peak, oldest.ended.labels.queue) == (70, "q0")


@pytest.mark.parametrize("state", [State.WAITING, State.DEAD])
def test_a_count_that_is_a_lower_bound_fires_and_notifies(make_process: Make, state: State) -> None:
    """A list too long to count, such as 10,000 dead jobs of Celery."""
    ops = Recorder()
    metric = "queue.depth" if state is State.WAITING else "queue.dead"
    process = make_process("one", ops, rules=[{**DEEP, "metric": metric}])
    counts = Counts(waiting=5000, dead=5000)
    process.evaluate(sample([queue(depth=5000, counts=counts, at_least=(state,))]))
    process.deliver()
    process.evaluate(sample([queue(depth=0, counts=Counts(waiting=0, dead=0))]))
    process.deliver()
    assert ops.kinds == ["firing", "resolved"]
    assert ops.arrived[0].spark[-1:] == (5000,)


def test_an_acknowledged_incident_sends_no_reminders_and_the_next_one_notifies(make_process: Make) -> None:
    process = make_process(rules=[{**DEEP, "repeat_every_s": 0.001}])
    alert_service = alert_service_of(process)
    ops = process.channels["ops"]
    process.evaluate(deep(50))
    (alert,) = alert_service.alerts.list_alerts().firing
    with pytest.raises(Conflict):
        alert_service.acknowledgements.acknowledge_alert(alert.state.fingerprint, episode="another", by="ann")
    acknowledged = alert_service.acknowledgements.acknowledge_alert(
        alert.state.fingerprint, episode=alert.state.episode, by="ann"
    )
    assert acknowledged.ack is not None
    for _ in range(3):
        process.evaluate(deep(50))
        process.deliver()
    assert ops.kinds == ["firing"]
    (listed,) = alert_service.alerts.list_alerts().firing
    assert listed.ack is not None
    assert listed.ack.by == "ann"
    process.evaluate(deep(0))
    process.evaluate(deep(50))
    process.deliver()
    assert ops.kinds == ["firing", "resolved", "firing"]
    assert alert_service.alerts.list_alerts().firing[0].ack is None


def test_a_silence_holds_notifications_back_until_it_ends(make_process: Make) -> None:
    process = make_process()
    alert_service = alert_service_of(process)
    silence = alert_service.silences.draft_silence(for_s=3600, by="ann", comment="moving", queue="q*")
    alert_service.silences.save_silence(silence)
    process.evaluate(deep(50))
    assert process.deliver() == 0
    assert alert_service.alerts.list_alerts().firing[0].silence == silence
    alert_service.silences.expire_silence(silence.id)
    assert alert_service.silences.list_silences() == ()
    process.evaluate(deep(50))
    assert process.deliver() == 1
    with pytest.raises(NotFound):
        alert_service.silences.expire_silence(silence.id)


@pytest.mark.parametrize(
    "wrong",
    [
        {"for_s": -1},
        {"for_s": 400 * 86_400},
        {"for_s": 60, "queue": "a" * 65},
        {"for_s": 60, "colour": "red"},
        {"for_s": 60, "weekly": WeeklyWindow(days=(7,), from_min=0, minutes=60)},
        {"for_s": 60, "weekly": WeeklyWindow(days=(0,), from_min=0, minutes=60, timezone="../../etc/passwd")},
    ],
)
def test_a_wrong_silence_is_refused_in_one_line(make_process: Make, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        alert_service_of(make_process()).silences.draft_silence(by="ann", **wrong)
    assert "expected" in caught.value.message
    assert "\n" not in caught.value.message


def test_rules_are_created_changed_and_deleted_with_versions(make_process: Make) -> None:
    process = make_process()
    alert_service = alert_service_of(process)
    made = alert_service.rules.save_rule({**DEEP, "id": "mine", "channels": ["ops"]}, by="ann", version=None)
    assert made.version == 1
    with pytest.raises(Conflict):
        alert_service.rules.save_rule({**DEEP, "id": "mine"}, by="bob", version=None)
    assert alert_service.rules.save_rule({**DEEP, "id": "mine", "critical": 20}, by="bob", version=1).version == 2
    with pytest.raises(Conflict):
        alert_service.rules.save_rule({**DEEP, "id": "mine"}, by="ann", version=1)
    entry = alert_service.rules.find_rule("mine")
    assert (entry.origin, entry.edited_by, entry.rule.critical) == (Origin.PAGE, "bob", 20)
    alert_service.rules.delete_rule("mine", version=2)
    with pytest.raises(NotFound):
        alert_service.rules.find_rule("mine")


def test_a_shipped_rule_can_be_disabled_and_reset(make_process: Make) -> None:
    alert_service = alert_service_of(make_process())
    shipped = alert_service.rules.find_rule("queue-latency")
    assert (shipped.origin, shipped.rule.enabled) == (Origin.SHIPPED, True)
    alert_service.rules.set_enabled("queue-latency", on=False, by="ann", version=1)
    entry = alert_service.rules.find_rule("queue-latency")
    assert (entry.origin, entry.rule.enabled, entry.shipped) == (Origin.PAGE, False, True)
    assert entry.rule.critical == 1800
    alert_service.rules.set_enabled("queue-latency", on=True, by="ann", version=2)
    assert alert_service.rules.find_rule("queue-latency").rule.enabled
    alert_service.rules.delete_rule("queue-latency", version=3)
    assert alert_service.rules.find_rule("queue-latency") == shipped


def test_a_rule_from_the_configuration_file_cannot_be_changed(make_process: Make) -> None:
    alert_service = alert_service_of(make_process(), rules=[{**DEEP, "id": "filed"}])
    assert alert_service.rules.find_rule("filed").origin is Origin.TOML
    with pytest.raises(Unsupported):
        alert_service.rules.save_rule({**DEEP, "id": "filed"}, by="ann", version=1)
    with pytest.raises(Unsupported):
        alert_service.rules.delete_rule("filed", version=1)


def test_a_rule_created_on_the_page_applies_at_the_next_evaluation(make_process: Make) -> None:
    process = make_process(rules=[])
    process.evaluate(deep(50))
    alert_service_of(process).rules.save_rule({**DEEP, "id": "mine"}, by="ann", version=None)
    process.evaluate(deep(50))
    process.deliver()
    assert process.channels["ops"].kinds == ["firing"]
    alert_service_of(process).rules.set_enabled("mine", on=False, by="ann", version=1)
    process.evaluate(deep(50))
    process.deliver()
    assert process.channels["ops"].kinds == ["firing", "resolved"]


def test_corrupt_stored_rules_and_silences_are_ignored(make_process: Make, any_redis: redis.Redis) -> None:
    any_redis.set(keys.RULES, b"\xff{")
    any_redis.hset(keys.SILENCES, "x", b"[]")
    any_redis.hset(keys.ACKS, "y", b"\x00")
    any_redis.sadd(keys.LIVE, "nothing")
    process = make_process()
    process.evaluate(deep(50))
    assert process.deliver() == 1
    assert alert_service_of(process).silences.list_silences() == ()
    assert alert_service_of(process).rules.rules_in_force()


def test_a_test_notification_ignores_silences_and_is_rate_limited(
    make_process: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.alerts.management.notifications.TEST_EVERY_S", 600)
    process = make_process()
    alert_service = alert_service_of(process)
    alert_service.silences.save_silence(alert_service.silences.draft_silence(for_s=3600, by="ann"))
    name = alert_service.notifications.send_test("ops", by="ann")
    assert name.startswith("test:")
    process.deliver()
    assert process.channels["ops"].kinds == ["test"]
    (attempt,) = alert_service.notifications.list_deliveries()
    assert (attempt.id, attempt.outcome, attempt.status) == (name, "sent", "200")
    with pytest.raises(Forbidden):
        alert_service.notifications.send_test("ops", by="ann")
    with pytest.raises(NotFound):
        alert_service.notifications.send_test("absent", by="ann")


def test_people_are_asked_once_to_approve_a_bulk_operation(make_process: Make) -> None:
    process = make_process()
    notifications = alert_service_of(process).notifications
    text = "ada wants to delete 5,000 jobs of mail (dead)."
    assert [notifications.ask_for_approval("abc", text) for _ in range(2)] == [2, 2]
    process.deliver()
    (message,) = process.channels["ops"].arrived
    assert (message.kind, message.lines[0].label, message.ack_url, message.silence_url) == (
        "approval",
        text,
        None,
        None,
    )
    assert (message.lines[0].url or "").endswith("/bulk/abc")
    assert message_headline(message) == "[APPROVAL NEEDED] Bulk operation waits for approval"
    assert [event["event_action"] for event in build_events(message)] == ["trigger", "resolve"]


def test_a_failed_notification_can_be_resent_or_dismissed(make_process: Make) -> None:
    process = make_process("one", Recorder(answers=[NEVER, NEVER]))
    alert_service = alert_service_of(process)
    process.evaluate(deep(50))
    process.deliver()
    (dead,) = alert_service.notifications.list_failed_notifications()
    assert (dead.channel, dead.notification.labels.queue) == ("ops", "q0")
    assert alert_service.notifications.list_deliveries()[0].answer == "no such hook"
    alert_service.notifications.resend_failed(dead.id)
    assert alert_service.notifications.list_failed_notifications() == ()
    process.deliver()
    alert_service.notifications.dismiss_failed(alert_service.notifications.list_failed_notifications()[0].id)
    assert alert_service.notifications.list_failed_notifications() == ()
    with pytest.raises(NotFound):
        alert_service.notifications.resend_failed("nothing:firing:1:ops")


def test_secrets_of_channels_are_hidden(make_process: Make) -> None:
    alert_service = alert_service_of(make_process())
    shown = json.dumps(alert_service.channels)
    assert "hooks.example.com" in shown
    assert "verysecret" not in shown


def test_the_checker_is_healthy_while_it_evaluates(make_process: Make, any_redis: redis.Redis) -> None:
    process = make_process()
    alert_service = alert_service_of(process, sample_interval_s=60)
    assert not alert_service.checker.read_health().ok
    process.evaluate(deep(0))
    health = alert_service.checker.read_health()
    assert (health.ok, health.holder, health.delivers) == (True, "one", True)
    any_redis.hincrby(keys.HEARTBEAT, "at", -181_000)
    assert not alert_service.checker.read_health().ok


def test_check_follows_the_nagios_plugin_conventions(
    any_server: EmbeddedRedis, any_redis: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    from rq import Queue

    assert evaluate_once(settings(any_server.url))[0] is ExitStatus.OK
    queue = Queue("mail", connection=any_redis)
    for _ in range(20):
        queue.enqueue("os.getpid")
    off = [{"id": "queue-no-consumers", "enabled": False}, {"id": "workers-gone", "enabled": False}]
    deep_rule = {"id": "d", "metric": "queue.depth", "warning": 10, "critical": 100}
    code = check(settings(any_server.url, rules=[*off, deep_rule]), as_json=True)
    answer = json.loads(capsys.readouterr().out)
    assert code == 1
    assert answer["status"] == "warning"
    assert [(alert["rule"], alert["labels"]["queue"], alert["value"]) for alert in answer["alerts"]] == [
        ("d", "mail", 20)
    ]
    assert check(settings(any_server.url, rules=[{**deep_rule, "critical": 15}]), as_json=False) == 2
    output = capsys.readouterr().out
    assert output.startswith("QUEUEDECK CRITICAL - ")
    assert "mail (rq, main): 20 waiting jobs (fires above 15)" in output
    off = [{"id": "redis-unreachable", "enabled": False}]
    assert check(settings("redis://127.0.0.1:1/0", rules=off), as_json=False) == 3
    assert capsys.readouterr().out.startswith("QUEUEDECK UNKNOWN - ")


def test_check_reports_only_the_worst_severity_of_a_subject(make_process: Make, any_server: EmbeddedRedis) -> None:
    process = make_process(rules=[{**DEEP, "warning": 5}])
    process.evaluate(deep(50))
    stored = {
        (state.rule_id, state.severity.value)
        for state in process.alerts.load_states().states.values()
        if state.is_active
    }
    assert stored >= {("deep", "critical"), ("deep", "warning")}
    code, alerts, _ = evaluate_once(settings(any_server.url, rules=[{**DEEP, "warning": 5}]))
    assert code is ExitStatus.CRITICAL
    assert [alert.severity.value for alert in alerts if alert.rule.id == "deep"] == ["critical"]


def test_a_warning_muted_by_its_critical_alert_is_not_a_separate_incident(make_process: Make) -> None:
    process = make_process(rules=[{**DEEP, "warning": 5}])
    process.evaluate(deep(7, 50))
    alert_list = alert_service_of(process).alerts.list_alerts()
    assert [(alert.state.labels.queue, alert.state.severity.value) for alert in alert_list.incidents] == [
        ("q1", "critical"),
        ("q0", "warning"),
    ]


def test_a_queue_name_cannot_add_lines_or_performance_data_to_nagios_output() -> None:
    rule = parse_rule(
        {"id": "few", "metric": "queue.consumers", "op": "lt", "critical": 1, "name": "No workers"}, "test"
    )
    labels = AlertLabels(source="main", backend="rq", queue="a|time=1\nOK")
    words = describe_alert(FiringAlert(rule, Severity.CRITICAL, labels, 0.0, "now"))
    assert words == "No workers: a¦time=1�OK (rq, main): 0 workers (fires below 1)"


def test_a_notification_about_a_pause_says_what_waits_and_who_paused_it(make_process: Make) -> None:
    rule = {**DEEP, "id": "p", "metric": "queue.paused_s", "op": "ge", "critical": 0}
    process = make_process(rules=[rule])
    paused = msgspec.structs.replace(deep(1200).queues[0], paused=True)
    other = msgspec.structs.replace(paused, name="q9", key="q9", depth=1)
    PauseLog(process.store).record_pause(paused, "anna", whole_library=False)
    snapshot = msgspec.structs.replace(deep(1200), queues=(paused, other))
    process.evaluate(snapshot)
    process.deliver()
    details = [line.detail_text for message in process.channels["ops"].arrived for line in message.lines]
    assert sorted(filter(None, details)) == [
        "1 job waiting, paused outside Queuedeck",
        "1,200 jobs waiting, paused by anna",
    ]


def test_a_notification_has_the_owner_of_its_queue_and_its_runbook_unless_the_rule_has_one(
    make_process: Make, any_redis: redis.Redis
) -> None:
    entry = QueueSettings(match="q0", owner="messaging", runbook="https://wiki.example/q", note="Ask first.")
    own = {**DEEP, "id": "own", "runbook_url": "https://wiki.example/rule"}
    process = make_process(rules=[DEEP, own], queues=[entry])
    process.evaluate(deep(50, 50))
    process.deliver()

    def told() -> list[tuple[str, str, str | None, str | None]]:
        lines = [(message, line) for message in process.channels["ops"].arrived for line in message.lines]
        return sorted((message.rule_id, line.label, line.owner, line.runbook_url) for message, line in lines)  # type: ignore[type-var]

    expected = [
        ("deep", "q0 (lists, main)", "messaging", "https://wiki.example/q"),
        ("deep", "q1 (lists, main)", None, None),
        ("own", "q0 (lists, main)", "messaging", "https://wiki.example/rule"),
        ("own", "q1 (lists, main)", None, "https://wiki.example/rule"),
    ]
    assert told() == expected
    any_redis.flushall()  # sent again, since it is unknown whether anyone was notified
    process.evaluate(deep(50, 50))
    process.deliver()
    assert told() == sorted(expected * 2)  # type: ignore[type-var]
