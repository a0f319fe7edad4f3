"""The payload for each provider, and how its response is read; over real HTTP, compared as structure."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from dashboard.alerts.delivery.channels import wording
from dashboard.alerts.delivery.channels.base import Message, MessageLine, build_channel
from dashboard.alerts.delivery.channels.discord import escape_markdown
from tests.alerts.channels import fake_providers
from tests.alerts.channels.fake_providers import ENDED, TOKEN, HttpSink, hostile, message

KINDS = ("firing", "resolved", "reminder", "flapping", "test", "both")
TABLES: dict[str, dict[str, Any]] = {
    "slack": {},
    "slack-bot": {"token": TOKEN, "channel": "C012345"},
    "webhook": {"secret": TOKEN},
    "pagerduty": {"routing_key": TOKEN},
    "teams": {},
    "discord": {},
}


def channel(name: str, sink: HttpSink) -> Any:
    table = {"id": "ops", "kind": name.removesuffix("-bot"), "url": sink.url, **TABLES[name]}
    return build_channel(table, allow_private=True)


def sent(name: str, sink: HttpSink, outgoing: Message) -> Any:
    sink.answers = [fake_providers.status(200, b'{"ok": true}')]
    assert channel(name, sink).send(outgoing).ok
    return sink.requests[-1].json()


def texts(value: Any) -> list[str]:
    """Every text within a JSON document."""
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [found for item in items for found in texts(item)]


def test_slack_shows_state_line_graph_errors_and_buttons(sink: HttpSink) -> None:
    document = sent("slack", sink, message())
    assert document["text"] == "🔴 [FIRING critical] mail: 12,004 jobs waiting"
    head, line, facts, spark, errors, buttons = document["blocks"]
    assert head == {"type": "header", "text": {"type": "plain_text", "text": document["text"], "emoji": False}}
    assert line["text"]["text"] == (
        "• main / rq / mail: 12,004 jobs (fires above 10,000 jobs), since 03:12"
        " — <https://deck.example/queues/main/rq/mail|open>"
    )
    assert "*Where* main / mail" in facts["text"]["text"]
    assert spark["elements"][0]["text"] == "Last hour `▁▁·▅█`"
    assert "SMTPServerDisconnected" in errors["text"]["text"]
    assert [(item["text"]["text"], item["url"]) for item in buttons["elements"]] == [
        ("Acknowledge", "https://deck.example/ack/ep1"),
        ("Silence", "https://deck.example/silence/ep1"),
        ("Open", "https://deck.example/queues/main/rq/mail"),
        ("Runbook", "https://runbook.example/mail"),
    ]
    assert len({item["action_id"] for item in buttons["elements"]}) == 4


@pytest.mark.parametrize("name", ["slack", "slack-bot"])
def test_slack_payloads_mention_no_one_and_respect_the_limits(sink: HttpSink, name: str) -> None:
    document = sent(name, sink, hostile())
    assert all("<!" not in found and "<b>" not in found for found in texts(document))
    assert any("&lt;!channel&gt;" in found for found in texts(document))
    assert len(document["blocks"]) <= 50
    for block in document["blocks"]:
        if block["type"] == "section":
            assert len(block["text"]["text"]) <= 3000
            assert block["text"]["verbatim"] is True
        if block["type"] == "header":
            assert len(block["text"]["text"]) <= 150
    assert "and 480 more" in "".join(texts(document))
    assert document["unfurl_links"] is False


def test_slack_links_are_escaped(sink: HttpSink) -> None:
    line = MessageLine(label="q", url="https://deck.example/a|b>c<!here>")
    document = sent("slack", sink, message(lines=(line,)))
    assert "<https://deck.example/a%7Cb&gt;c&lt;!here&gt;|open>" in document["blocks"][1]["text"]["text"]


def test_the_longest_lines_fit_the_slack_limit(sink: HttpSink) -> None:
    line = MessageLine(label="&" * 400, url="https://deck.example/" + "&" * 1900)
    document = sent("slack", sink, message(lines=(line,) * 20))
    assert all(len(block["text"]["text"]) <= 3000 for block in document["blocks"] if block["type"] == "section")


def test_a_slack_bot_sends_its_token_and_channel(sink: HttpSink) -> None:
    document = sent("slack-bot", sink, message())
    assert sink.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert (document["channel"], document["link_names"], document["parse"]) == ("C012345", False, "none")


@pytest.mark.parametrize(
    ("body", "permanent", "status"),
    [
        (b'{"ok": false, "error": "channel_not_found"}', True, "200"),
        (b'{"ok": false, "error": "ratelimited"}', False, "200"),
        (b'{"ok": false, "error": ["odd"]}', True, "200"),
        (b"<html>", False, "protocol"),
        (b"[" * 5000, False, "protocol"),
        (b'"ok"', False, "protocol"),
    ],
)
def test_a_slack_error_with_status_200_is_a_failure(sink: HttpSink, body: bytes, permanent: bool, status: str) -> None:
    sink.answers = [fake_providers.status(200, body)]
    delivered = channel("slack-bot", sink).send(message())
    assert (delivered.ok, delivered.permanent, delivered.status) == (False, permanent, status)


def test_pagerduty_opens_and_closes_one_incident_per_episode(sink: HttpSink) -> None:
    opened = sent("pagerduty", sink, message())
    closed = sent("pagerduty", sink, message(id="ep1:resolved:1:ops", kind="resolved", ended_at=ENDED))
    assert opened["routing_key"] == closed["routing_key"] == TOKEN
    assert (opened["event_action"], closed["event_action"]) == ("trigger", "resolve")
    assert opened["dedup_key"] == closed["dedup_key"] == "ep1"
    payload = opened["payload"]
    assert (payload["severity"], payload["source"], payload["component"]) == ("critical", "main / mail", "mail")
    assert payload["summary"] == "[FIRING critical] mail: 12,004 jobs waiting"
    assert payload["timestamp"] == "2026-03-01T03:12:07.250Z"
    assert {"href": "https://deck.example/ack/ep1", "text": "Acknowledge"} in opened["links"]


@pytest.mark.parametrize("kind", ["both", "test"])
def test_pagerduty_resolves_tests_and_ended_incidents_at_once(sink: HttpSink, kind: Any) -> None:
    sent("pagerduty", sink, message(kind=kind))
    events = [request.json() for request in sink.requests]
    assert [event["event_action"] for event in events] == ["trigger", "resolve"]
    assert events[0]["payload"]["severity"] == "info"


def test_pagerduty_sends_no_resolve_when_the_trigger_failed(sink: HttpSink) -> None:
    sink.answers = [fake_providers.status(500), fake_providers.status(202)]
    assert not channel("pagerduty", sink).send(message(kind="both")).ok
    assert len(sink.requests) == 1


def test_teams_gets_an_adaptive_card_without_markdown(sink: HttpSink) -> None:
    document = sent("teams", sink, message())
    (attachment,) = document["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    assert card["body"][0]["style"] == "attention"
    assert card["body"][0]["items"][0]["inlines"][0]["text"] == "[FIRING critical] mail: 12,004 jobs waiting"
    assert {"type": "Action.OpenUrl", "title": "Runbook", "url": "https://runbook.example/mail"} in card["actions"]
    assert "▁▁·▅█" in "".join(texts(card))
    assert "TextBlock" not in texts(card)  # it would read Markdown


def test_teams_payloads_fit_the_limit_and_count_hidden_lines(sink: HttpSink) -> None:
    long = MessageLine(label="🐇" * 300)
    for outgoing in (
        hostile(),
        message(lines=(long,) * 30, top_errors=("🐇" * 300,) * 3, ack_url="https://x/" + "a" * 1900),
    ):
        document = sent("teams", sink, outgoing)
        assert len(msgspec.json.encode(document)) <= 28_000
        assert " more" in "".join(texts(document))


@pytest.mark.parametrize(("status", "permanent"), [("429", False), ("502", False), ("404", True)])
def test_a_teams_error_with_status_200_is_a_failure(sink: HttpSink, status: str, permanent: bool) -> None:
    reply = f"Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error {status} with x"
    sink.answers = [fake_providers.status(200, reply.encode())]
    delivered = channel("teams", sink).send(message())
    assert (delivered.ok, delivered.permanent) == (False, permanent)


def test_discord_gets_an_embed_without_mentions(sink: HttpSink) -> None:
    document = sent("discord", sink, message())
    assert document["allowed_mentions"] == {"parse": []}
    assert "content" not in document
    (embed,) = document["embeds"]
    assert embed["color"] == 0xD92D20
    assert embed["timestamp"] == "2026-03-01T03:12:07.250Z"
    assert "[open](https://deck.example/queues/main/rq/mail)" in embed["description"]
    assert "`▁▁·▅█` last hour" in embed["description"]
    assert "[Runbook](https://runbook.example/mail)" in embed["description"]


def test_discord_payloads_fit_the_limits_and_escape_markup(sink: HttpSink) -> None:
    (embed,) = sent("discord", sink, hostile())["embeds"]
    assert len(embed["title"]) <= 256
    assert len(embed["description"]) <= 4096
    assert len(embed["fields"]) <= 25
    sizes = [len(field["name"]) + len(field["value"]) for field in embed["fields"]]
    assert len(embed["title"]) + len(embed["description"]) + sum(sizes) <= 6000
    assert "](https://evil.test" not in embed["description"]
    assert not re.search(r"(?<!\\)[<*@\[]", embed["description"].partition("\n")[0])
    assert " more" in embed["description"]


def test_text_for_discord_is_truncated_between_two_characters() -> None:
    shown = {limit: escape_markdown("a*b\\", limit) for limit in (7, 6, 5, 4, 3, 2, 1)}
    assert shown == {
        **dict.fromkeys((7, 6), "a\\*b\\\\"),
        5: "a\\*b…",
        4: "a\\*…",
        3: "a…",
        2: "a…",
        1: "…",
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TABLES)
def test_every_kind_of_message_goes_through_every_channel(sink: HttpSink, name: str, kind: Any) -> None:
    for outgoing in (message(kind=kind), hostile(kind=kind), bare(kind)):
        sink.answers = [fake_providers.status(200, b'{"ok": true}')]
        delivered = channel(name, sink).send(outgoing)
        assert delivered.ok, delivered
        assert all(
            "\ud800" not in found and "javascript:" not in found for found in texts(sink.requests[-1].json())
        ) or (
            name == "webhook"  # passes URLs on as data
        )


def bare(kind: Any) -> Message:
    """A message in which all optional fields are unknown."""
    return Message(id="i", kind=kind, severity="warning", episode="e", rule_id="r", rule_name="r", title="t")


def test_resolved_notifications_have_no_acknowledge_link(sink: HttpSink) -> None:
    for name in TABLES:
        document = sent(name, sink, message(kind="resolved", ended_at=ENDED))
        if name != "webhook":
            assert not any("/ack/" in found for found in texts(document)), name


@pytest.mark.parametrize(
    ("url", "linked"),
    [
        ("https://runbooks.example/mail", True),
        ("http://runbooks.example/mail", True),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("//runbooks.example/mail", False),
        ("https://runbooks.example/a b", False),
        ("https://runbooks.example/\n", False),
        ("https://runbooks.exämple/", False),
    ],
)
def test_only_http_urls_are_linked(sink: HttpSink, url: str, linked: bool) -> None:
    assert wording.safe_url(url) == (url if linked else None)
    shown = texts(sent("slack", sink, message(runbook_url=url)))
    assert (url in shown) is linked


def test_a_peak_survives_in_the_sparkline() -> None:
    points = [0.0] * 3600
    points[1800] = 9.0
    drawn = wording.format_sparkline(points)
    assert len(drawn) == 60
    assert drawn.count("█") == 1
    assert (
        wording.format_sparkline([None, None])
        == wording.format_sparkline([])
        == wording.format_sparkline([float("nan")])
        == ""
    )
    assert wording.format_sparkline([5.0, 5.0]) == "██"
    assert wording.format_sparkline([0.0, 0.0]) == "▁▁"
    assert len(wording.format_sparkline([-1e308, 1e308])) == 2
