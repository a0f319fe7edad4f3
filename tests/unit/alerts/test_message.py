"""The text of a message, from the notifications in the outbox to the payload of a channel."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from urllib.parse import parse_qs, urlsplit

import pytest
from msgspec.structs import replace

from dashboard.alerts.delivery.channels import discord, pagerduty, slack, teams, webhook, wording
from dashboard.alerts.delivery.channels.base import KINDS, Message
from dashboard.alerts.delivery.channels.email_message import render_html
from dashboard.alerts.delivery.message import PageLinks, alert_title, build_message, glob_of
from dashboard.alerts.evaluation.state_machine import AlertLabels
from dashboard.alerts.notification import LOCAL, Notification
from dashboard.alerts.rules.rule import Severity
from dashboard.alerts.silences import Silence

# How a kind of channel that posts a document builds it. Email and Apprise send texts, PagerDuty one event per episode.
BUILDERS: dict[str, Callable[[Message], object]] = {
    "slack": slack.build_payload,
    "webhook": webhook.build_payload,
    "teams": teams.build_payload,
    "discord": discord.build_payload,
}
LINKS = PageLinks("https://deck.example/queues")


def notification(queue: str = "mail", **changes: object) -> Notification:
    labels = AlertLabels(source="main", backend="rq", queue=queue)
    plain = Notification(
        kind="firing",
        number=1,
        episode=f"ep-{queue[:20]}",
        fingerprint=f"fingerprint-{queue[:20]}",
        rule_id="queue-latency",
        rule_name="Jobs are waiting too long",
        metric="queue.latency_s",
        severity=Severity.CRITICAL,
        at=1000.0,
        labels=labels,
        threshold=1800.0,
        value=2400.0,
        peak=2400.0,
        started_at=1000.0,
    )
    return replace(plain, **changes)


def resolved(firing: Notification, at: float, reason: str | None = None) -> Notification:
    return replace(firing, kind="resolved", number=2, ended_at=at, reason=reason)


def test_every_channel_kind_that_posts_a_document_has_a_builder_here() -> None:
    assert set(BUILDERS) == set(KINDS) - {"email", "pagerduty", "apprise"}


def test_a_line_has_the_queue_value_threshold_and_start() -> None:
    message = build_message("m", "firing", [notification()], LINKS, "ops")
    line = "mail (rq, main): oldest job waiting 40 m (fires above 30 m), since 1970-01-01 00:16:40 UTC"
    assert f"- {line}\n" in wording.format_plain_text(message)
    shown = [build(message) for build in BUILDERS.values()]
    assert not [words for words in map(str, shown) if "since since" in words]


def test_a_resolved_line_has_the_duration_and_reason() -> None:
    message = build_message("m", "resolved", [resolved(notification(), 1014.6, "gone")], LINKS, "ops")
    line = "at worst oldest job waiting 40 m (fires above 30 m), started 1970-01-01 00:16:40 UTC, lasted 15 s, "
    line += "not recovered (gone)"
    assert line in wording.format_plain_text(message)
    assert ("Duration", "15 s") in wording.incident_facts(message)


def test_the_worst_value_of_a_rule_that_fires_below_its_threshold_is_the_lowest() -> None:
    firing = notification(metric="queue.throughput_per_min", op="lt", threshold=5.0, value=0.2, peak=0.2)
    message = build_message("m", "resolved", [resolved(firing, 1014.6)], LINKS, "ops")
    line = "mail (rq, main): at worst 0.2 jobs processed per minute (fires below 5 per minute)"
    assert line in wording.format_plain_text(message)


def test_an_alert_without_a_subject_is_named_by_its_rule_alone() -> None:
    late = notification(labels=AlertLabels(), rule_name="Alert evaluation is late", metric="checker.heartbeat_age_s")
    message = build_message("m", "firing", [late], LINKS, "ops")
    assert wording.format_plain_text(message).startswith("[FIRING critical] Alert evaluation is late\n")
    assert "- Alert evaluation is late: 40 m since the last evaluation (fires above 30 m)" in wording.format_plain_text(
        message
    )
    tried = build_message(
        "m", "test", [replace(late, kind="test", value=None, threshold=None, detail="Sent by anna")], LINKS, "ops"
    )
    assert "- Sent by anna at 1970-01-01 00:16:40 UTC\n" in wording.format_plain_text(tried)


def test_a_grouped_message_has_the_earliest_start_and_the_latest_end() -> None:
    here, there = (
        notification("a", started_at=900.0),
        notification("b", labels=AlertLabels(source="other", backend="rq", queue="b")),
    )
    message = build_message("m", "firing", [there, here], LINKS, "ops")
    assert message.title == "Jobs are waiting too long (2 queues)"
    assert dict(wording.incident_facts(message)) == {
        "Severity": "critical",
        "Rule": "Jobs are waiting too long",
        "Since": "1970-01-01 00:15:00 UTC",
    }
    over = build_message("m", "resolved", [resolved(here, 1100.0), resolved(there, 1200.0)], LINKS, "ops")
    assert dict(wording.incident_facts(over))["Ended"] == "1970-01-01 00:20:00 UTC"


def test_each_resolved_line_has_the_episode_of_its_alert() -> None:
    lines = webhook.build_payload(
        build_message(
            "m", "resolved", [resolved(notification("a"), 1.0), resolved(notification("b"), 1.0)], LINKS, "ops"
        )
    )["lines"]
    assert sorted(line["episode"] for line in lines) == ["ep-a", "ep-b"]


@pytest.mark.parametrize(
    "name",
    [
        "mail",
        "a[b]c\\d",
        " led",
        "trailed ",
        "two\nlines\x00",
        "bad\udcff",
        "x" * 10_000,
        "ü" * 64,
        "*",
        "x" * 63 + " y",
    ],
)
def test_a_silence_from_a_link_is_valid_and_matches_only_its_queue(name: str) -> None:
    url = urlsplit(LINKS.silence_url(notification(name)) or "")
    given = {key: values[0] for key, values in parse_qs(url.query).items()}
    glob = given["queue"]
    assert glob == glob_of(name) == glob.strip()
    silence = Silence(id="s", until=60.0, by="me", queue=glob)
    assert silence.find_problem() is None
    assert fnmatchcase(name, glob)
    assert not fnmatchcase("anything else", glob)
    assert silence.mutes_alert("queue-latency", Severity.CRITICAL, notification(name).labels, 1.0)


def test_a_very_long_queue_name_has_working_links() -> None:
    message = build_message("m", "firing", [notification("x" * 10_000)], LINKS, "ops")
    assert [label for label, _ in wording.action_links(message)] == ["Acknowledge", "Silence", "Open"]
    assert dict(wording.action_links(message))["Open"] == "https://deck.example/queues/alerts"
    assert not re.search("x{300}", wording.format_plain_text(message))


def test_a_notification_sent_without_the_store_has_no_acknowledge_link() -> None:
    message = build_message(
        "m", "firing", [notification(episode=f"{LOCAL}1", labels=AlertLabels(source="main"))], LINKS, "ops"
    )
    assert [label for label, _ in wording.action_links(message)] == ["Silence", "Open"]


def test_without_a_public_url_there_are_no_links_but_the_runbook() -> None:
    message = build_message(
        "m", "firing", [notification(runbook_url="https://runbook.example/1")], PageLinks(None), "ops"
    )
    assert wording.action_links(message) == [("Runbook", "https://runbook.example/1")]


OURS = {"owner": "messaging", "note": "Customers wait for these.", "runbook_url": "https://wiki.example/mail"}


@pytest.mark.parametrize("kind", [*BUILDERS, "pagerduty", "text", "email"])
def test_every_channel_says_who_owns_the_queue_and_what_to_know(kind: str) -> None:
    message = build_message("m", "firing", [notification(**OURS)], LINKS, "ops")
    builders = BUILDERS | {
        "pagerduty": pagerduty.build_events,
        "text": wording.format_plain_text,
        "email": lambda built: render_html(built, with_picture=False),
    }
    words = str(builders[kind](message))
    assert [text for text in OURS.values() if text.replace(".", "\\.") not in words and text not in words] == []
    assert "owner: messaging" not in words  # a fact of the message, not said in each line


def test_the_lines_of_a_message_say_whose_queue_it_is_where_owners_differ() -> None:
    ours, theirs, nobodys = notification("a", **OURS), notification("b", owner="billing"), notification("c")
    message = build_message("m", "firing", [ours, theirs, nobodys], LINKS, "ops")
    assert (message.owner, message.note) == (None, None)
    assert [line.owner for line in message.lines] == ["messaging", "billing", None]
    text = wording.format_plain_text(message)
    assert text.count("; owner: messaging\n") == text.count("; owner: billing\n") == 1
    assert text.count("owner:") == 2
    lines = webhook.build_payload(message)["lines"]
    assert [(line["owner"], line["runbook_url"]) for line in lines] == [
        ("messaging", OURS["runbook_url"]),
        ("billing", None),
        (None, None),
    ]
    together = build_message("m", "firing", [ours, notification("d", **OURS)], LINKS, "ops")
    assert (together.owner, together.note) == (OURS["owner"], OURS["note"])


@pytest.mark.parametrize(
    ("metric", "path"),
    [
        ("queue.dead", "/queues/main/rq/mail%2Fa?state=dead"),
        ("queue.dead_growth_per_h", "/queues/main/rq/mail%2Fa?state=dead"),
        ("queue.error_ratio", "/queues/main/rq/mail%2Fa?state=dead"),
        ("queue.depth", "/queues/main/rq/mail%2Fa?state=waiting"),
        ("queue.stalled", "/queues/main/rq/mail%2Fa?state=active"),
        ("queue.overdue_s", "/queues/main/rq/mail%2Fa?state=scheduled"),
        ("queue.throughput_per_min", "/queues/main/rq/mail%2Fa"),
    ],
)
def test_a_link_leads_to_the_jobs_that_the_rule_is_about(metric: str, path: str) -> None:
    message = build_message("m", "firing", [notification("mail/a", metric=metric)], LINKS, "ops")
    assert dict(wording.action_links(message))["Open"] == f"https://deck.example/queues{path}"


def test_a_link_about_a_library_leads_to_its_queues() -> None:
    gone = notification(labels=AlertLabels(source="main", backend="rq"), metric="workers.count")
    url = build_message("m", "firing", [gone], LINKS, "ops").lines[0].url
    assert url == "https://deck.example/queues/?source=main&library=rq#queues"


def test_a_flag_rule_shows_no_value() -> None:
    refused = notification(
        metric="redis.writes_refused", labels=AlertLabels(source="main"), threshold=1.0, value=1.0, detail="OOM"
    )
    message = build_message("m", "firing", [refused], LINKS, "ops")
    assert wording.line_text(message, message.lines[0]) == "Redis main, since 1970-01-01 00:16:40 UTC; OOM"


def test_a_rate_is_shown_as_a_change_and_not_as_the_value() -> None:
    growing = notification(metric="queue.depth", reducer="rate", threshold=10.0, value=80.0)
    message = build_message("m", "firing", [growing], LINKS, "ops")
    assert message.lines[0].value_text == "queue.depth changes by 80 per minute"


def test_a_reminder_about_a_value_that_became_unknown_gives_the_last_known_one_and_its_age() -> None:
    ratio = {"metric": "queue.error_ratio", "threshold": 0.05, "value": None, "kind": "reminder"}
    message = build_message("m", "reminder", [notification(**ratio, last_value=0.18, unknown_s=1800.0)], LINKS, "ops")
    (line,) = message.lines
    assert line.value_text is None
    text = "mail (rq, main): value unknown for 30 m, last known: 18% of jobs failed in 15 min (fires above 5%)"
    assert wording.line_text(message, line).startswith(text)


def test_a_resolved_alert_says_the_worst_value_and_not_the_last_known_one() -> None:
    ended = replace(resolved(notification(value=None, last_value=2000.0, unknown_s=600.0), 1600.0))
    message = build_message("m", "resolved", [ended], LINKS, "ops")
    assert message.lines[0].value_text == "at worst oldest job waiting 40 m"
    assert message.lines[0].last_known_text is None


@pytest.mark.parametrize(
    ("metric", "reducer", "title"),
    [
        ("redis.memory_full_in_s", "last", "Last hour, used memory"),
        ("redis.memory_ratio", "last", "Last hour, used memory"),
        ("queue.depth", "rate", "Last hour, waiting jobs"),
        ("queue.depth", "last", "Last hour"),
        ("queue.latency_s", "max", "Last hour"),
    ],
)
def test_the_sparkline_is_named_after_what_it_shows(metric: str, reducer: str, title: str) -> None:
    drawn = notification(metric=metric, reducer=reducer, spark=(1.0, None, 2.0))
    message = build_message("m", "firing", [drawn], LINKS, "ops")
    assert f"{title}: ▅·█" in wording.format_plain_text(message)
    assert f"{title} `▅·█`" in str(slack.build_payload(message))


def test_a_title_says_redis_once() -> None:
    labels = AlertLabels(source="main")
    assert alert_title("Redis is not responding", labels) == "Redis is not responding: main"
    assert alert_title("Replica is lagging", labels) == "Replica is lagging: Redis main"
    queue = AlertLabels(source="main", backend="rq", queue="mail")
    send = AlertLabels(source="main", backend="rq", queue="mail", job_class="Send")
    assert alert_title("A class became slower", send) == "A class became slower: Send in mail (rq, main)"
    assert alert_title("Redis queue is deep", queue) == "Redis queue is deep: mail (rq, main)"


def test_a_flapping_notification_says_when_the_alert_first_fired() -> None:
    message = build_message("m", "flapping", [notification(kind="flapping", number=3)], LINKS, "ops")
    assert wording.line_text(message, message.lines[0]).endswith("), first fired 1970-01-01 00:16:40 UTC")
    assert "First fired: 1970-01-01 00:16:40 UTC\n" in wording.format_plain_text(message)


def test_a_flapping_notification_says_that_notifications_are_paused() -> None:
    message = build_message("m", "flapping", [notification(kind="flapping", number=3)], LINKS, "ops")
    assert (
        "Flapping: changed state at least six times in the last hour; notifications are paused until it settles"
        in wording.format_plain_text(message)
    )


@pytest.mark.parametrize("count", [20, 21, 30, 55, 250])
def test_a_long_message_counts_the_hidden_lines(count: int) -> None:
    notifications = [notification(f"q{number}", value=2400.0 + number) for number in range(count)]
    message = build_message("m", "firing", notifications, LINKS, "ops")
    assert message.title == f"Jobs are waiting too long ({count} queues)"
    assert wording.hidden_lines_text(message) == (f"and {count - 20} more" if count > 20 else "")
    document = webhook.build_payload(message)
    assert document["lines_total"] == count
    assert len(document["lines"]) == min(count, 100)
    assert None not in [line["episode"] for line in document["lines"]]
    for words in (str(build(message)) for kind, build in BUILDERS.items() if kind != "webhook"):
        hidden = re.findall(r"and (\d+) more", words)
        assert len(hidden) == (count > 20)
        shown = len(set(re.findall(r"\bq\d+\b", words)))
        assert shown + sum(map(int, hidden)) == count


def test_a_webhook_message_resolves_every_alert_that_the_first_listed() -> None:
    notifications = [notification(f"q{number}", value=2400.0 + number) for number in range(90)]
    firing = webhook.build_payload(build_message("m", "firing", notifications, LINKS, "ops"))
    over = webhook.build_payload(
        build_message("m", "resolved", [resolved(each, 2000.0) for each in notifications], LINKS, "ops")
    )
    assert {line["episode"] for line in firing["lines"]} == {line["episode"] for line in over["lines"]}


def test_an_alert_about_a_class_links_to_its_page() -> None:
    send = AlertLabels(source="main", backend="rq", queue="mail", job_class="a/b")
    assert PageLinks("https://q.example/x/").subject_url(send) == "https://q.example/x/classes/main/rq/mail/a%2Fb"
