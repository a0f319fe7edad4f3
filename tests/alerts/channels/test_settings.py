"""Settings of channels: an error names the setting without its value, and no secret is shown."""

from __future__ import annotations

import builtins
import logging
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from dashboard.alerts.delivery.channels.base import (
    KINDS,
    Channel,
    DeliveryResult,
    Message,
    build_channel,
    public_settings,
)
from dashboard.alerts.delivery.channels.config import ChannelSettings, Secret
from dashboard.alerts.delivery.transport.deadline import Deadline
from dashboard.alerts.delivery.transport.redaction import Scrubber
from dashboard.errors import ConfigurationError
from tests.alerts.channels import fake_providers
from tests.alerts.channels.fake_providers import TOKEN, HttpSink, message
from tests.processes import ROOT

# Apprise looks for a module that Python 3.13 no longer has.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
URL = f"https://hooks.example.com:8443/services/T000/{TOKEN}?sig={TOKEN}"
MAIL = {"host": "mx.example.com", "from": "deck@example.com", "to": ["a@example.com"]}
GOOD: list[dict[str, Any]] = [
    {"kind": "slack", "url": URL},
    {"kind": "slack", "token": TOKEN, "channel": "C1"},
    {"kind": "email", **MAIL, "username": "deck", "password": TOKEN},
    {"kind": "webhook", "url": URL, "secret": TOKEN, "headers": {"Authorization": TOKEN}},
    {"kind": "pagerduty", "routing_key": TOKEN},
    {"kind": "teams", "url": URL},
    {"kind": "discord", "url": URL},
    {"kind": "apprise", "urls": [f"json://hooks.example.com/T000/{TOKEN}"]},
]
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"kind": TOKEN}, "kind: expected one of slack, email"),
    ({}, "kind: expected one of"),
    ({"kind": "slack"}, "url: expected an incoming webhook URL"),
    ({"kind": "slack", "url": URL, "channel": TOKEN}, "channel: expected together with token"),
    ({"kind": "slack", "token": f"{TOKEN}\r\nX: y", "channel": "C1"}, "token: expected"),
    ({"kind": "slack", "url": URL, "surprise": TOKEN}, "unknown field"),
    ({"kind": "webhook", "url": 5}, "url: expected text"),
    ({"kind": "webhook"}, "url"),
    ({"kind": "webhook", "url": URL, "headers": {"Host": TOKEN}}, "headers: expected header names"),
    ({"kind": "webhook", "url": URL, "headers": {"X": f"{TOKEN}\n"}}, "headers: expected plain ASCII values"),
    ({"kind": "webhook", "url": URL, "ca_file": f"/nowhere/{TOKEN}"}, "ca_file: expected a readable file"),
    ({"kind": "webhook", "url": URL, "ca_file": __file__}, "ca_file: expected certificates in PEM"),
    ({"kind": "pagerduty"}, "routing_key"),
    ({"kind": "email", **MAIL, "tls": TOKEN}, "tls: expected one of starttls, tls, none"),
    ({"kind": "email", **MAIL, "tls": "none", "username": "x", "password": TOKEN}, "tls: expected starttls or tls"),
    ({"kind": "email", **MAIL, "username": "x"}, "password: expected together"),
    ({"kind": "email", **MAIL, "port": 70_000}, "port: expected"),
    ({"kind": "email", **MAIL, "from": f"deck@example.com\r\nBcc: {TOKEN}"}, "from: expected"),
    ({"kind": "email", **MAIL, "to": []}, "to: expected"),
    ({"kind": "email", **MAIL, "to": [f"{TOKEN}"]}, "to: expected"),
    ({"kind": "email", **MAIL, "to": [f"a@example.com\n{TOKEN}"]}, "to: expected"),
    ({"kind": "email", **MAIL, "host": f"mx {TOKEN}"}, "host: expected"),
    ({"kind": "apprise", "urls": []}, "urls: expected"),
    ({"kind": "apprise", "urls": [f"nonsense://{TOKEN}"]}, "urls: number 1"),
    *(
        ({"kind": "webhook", "url": url}, "url: expected")
        for url in (
            *(f"http://hooks.example.com/{TOKEN}", f"ftp://x/{TOKEN}", f"https://u:{TOKEN}@x/", f"https:///{TOKEN}"),
            *(f"https://x:0/{TOKEN}", f"https://x:99999/{TOKEN}", f"https://x/ {TOKEN}", f"https://x/\r\n{TOKEN}"),
            *(f"https://x\\@y/{TOKEN}", f"https://[::1/{TOKEN}", f"https://bücher.example/{TOKEN}", TOKEN, ""),
        )
    ),
]


@pytest.mark.parametrize(("table", "expected"), WRONG)
def test_a_wrong_setting_is_named_without_its_value(
    table: dict[str, Any], expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)
    with pytest.raises(ConfigurationError) as caught:
        build_channel({"id": "ops", **table})
    assert caught.value.message.startswith("channel ops: ")
    assert expected in caught.value.message
    assert TOKEN not in repr(caught.value) + caplog.text
    assert "\n" not in caught.value.message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("name", [None, "", "a b", "x" * 65, f"{TOKEN}\n", 5])
def test_a_channel_needs_a_valid_id(name: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"channel \(no id\): id: expected") as caught:
        build_channel({"id": name, "kind": "slack", "url": URL})
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("table", GOOD, ids=lambda table: table["kind"])
def test_shown_settings_contain_no_secret(table: dict[str, Any]) -> None:
    table = {"id": "ops", **table}
    channel = build_channel(table)
    shown = public_settings(table)
    assert (shown["id"], shown["kind"]) == ("ops", table["kind"])
    assert set(shown) == set(table)  # each setting is listed as set
    for text in (repr(shown), repr(channel), str(channel), repr(vars(channel))):
        assert TOKEN not in text
        assert "T000" not in text
    if "url" in table:
        assert shown["url"] == "https://hooks.example.com:8443"


@pytest.mark.parametrize(
    "table", [{}, {"id": TOKEN, "kind": TOKEN}, {"id": "ops", "kind": "slack", "url": TOKEN, "x": TOKEN}]
)
def test_invalid_settings_are_not_shown(table: dict[str, Any]) -> None:
    assert TOKEN not in repr(public_settings(table))


def test_every_channel_kind_has_valid_settings_here() -> None:
    assert {table["kind"] for table in GOOD} == set(KINDS)


@pytest.mark.parametrize("code", [200, 302, 400, 429, 500])
@pytest.mark.parametrize("table", [table for table in GOOD if table["kind"] not in ("email", "apprise")], ids=str)
def test_a_server_that_echoes_the_request_leaks_no_secret(
    sink: HttpSink, table: dict[str, Any], code: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sink.answers = [fake_providers.echo(code)]
    url = f"http://127.0.0.1:{sink.port}/services/T000/{TOKEN}?sig={TOKEN}"
    delivered = build_channel({"id": "ops", **table, "url": url}, allow_private=True).send(message())
    assert sink.requests
    assert TOKEN.lower() not in repr(delivered).lower()
    assert TOKEN.replace("/", "\\/") not in repr(delivered)
    # urllib3 logs its requests when its own logger is at DEBUG.
    assert TOKEN not in caplog.text


def test_a_secret_truncated_by_the_limit_is_removed() -> None:
    scrubber = Scrubber([TOKEN])
    assert TOKEN[:10] not in scrubber.redact_text(f"words {TOKEN[:12]}", cut=True)
    assert scrubber.redact_text("a\x00b\n\nc\u202ed") == "a b cd"
    assert len(scrubber.redact_text("x" * 70_000)) == 1000


class Faulty(Channel):
    kind = "faulty"
    settings_type = ChannelSettings

    def attempt_delivery(self, message: Message, deadline: Deadline) -> DeliveryResult:
        raise ValueError(TOKEN)


def test_an_internal_error_is_reported_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    delivered = Faulty(ChannelSettings(id="ops", kind="faulty")).send(message())
    assert (delivered.ok, delivered.permanent, delivered.status) == (False, True, "error")
    assert "ValueError" in delivered.answer
    assert TOKEN not in caplog.text + repr(delivered)
    assert "ValueError in attempt" in caplog.text


def test_a_secret_is_never_shown() -> None:
    secret = Secret(TOKEN)
    assert TOKEN not in f"{secret} {secret!r} {[secret]}"
    assert secret.reveal() == TOKEN


def test_apprise_delivers_fails_and_times_out(sink: HttpSink, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    table = {"id": "ops", "kind": "apprise", "urls": [f"json://127.0.0.1:{sink.port}/{TOKEN}"]}
    channel = build_channel(table)
    assert channel.send(message()).ok
    document = sink.requests[0].json()
    assert document["title"] == "[FIRING critical] mail: 12,004 jobs waiting"
    assert "https://deck.example/ack/ep1" in document["message"]
    sink.answers = [fake_providers.status(500)]
    refused = channel.send(message())
    assert (refused.ok, refused.permanent, refused.status) == (False, False, "refused")
    assert "500" in refused.answer  # the reason, in Apprise's words
    sink.answers = [fake_providers.hang]
    late = channel.send(message(), 0.5)
    assert (late.ok, late.permanent, late.status) == (False, False, "timeout")
    assert late.duration_s < fake_providers.SOON_S
    for secret in TOKEN.split("/"):
        assert len(secret) == 1 or secret not in repr((refused, late)) + caplog.text


def test_a_missing_apprise_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "apprise":
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigurationError, match=r"channel ops: kind: .*pip install 'queuedeck\[apprise\]'"):
        build_channel({"id": "ops", "kind": "apprise", "urls": ["json://x"]})


def test_a_channel_kind_is_imported_on_first_use() -> None:
    code = (
        "import sys, dashboard.alerts.delivery.channels.base as base\n"
        "names = ('smtplib', 'apprise', 'urllib3')\n"
        "print([name for name in names if name in sys.modules])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100, check=True
    )
    assert ran.stdout.strip() == "[]"


def test_every_documented_channel_example_is_valid() -> None:
    manual = (Path(ROOT) / "docs" / "channels.md").read_text()
    tables = [
        table
        for block in re.findall(r"```toml\n(.*?)```", manual, re.DOTALL)
        for table in tomllib.loads(block).get("channels", [])
    ]
    assert {build_channel(table).kind for table in tables} == set(KINDS)
