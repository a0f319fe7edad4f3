"""Every setting: its path in the TOML file, type, default and variable of the environment; and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import certifi  # comes with Apprise
import msgspec
import pytest
from flask import Flask

from dashboard import Settings, create_app
from dashboard.alerts.delivery.channels.base import KINDS
from dashboard.cli import main
from dashboard.errors import ConfigurationError
from dashboard.settings import load
from tests.golden.apps import HASH, TOKENS, headers, running_app
from tests.golden.files import same_as_committed
from tests.redaction import any_redaction

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # of Apprise

_METRIC = re.compile(r"\b(?:queue|class|error|schedule|slo|workers|redis|source|checker|notify)\.[a-z0-9_]+")
RULE = {"id": "least", "metric": "queue.depth", "warning": 1}
SLO = {"id": "mail", "target": 0.99, "waited_within_s": 60}
URL = "https://hooks.example.com/x"
SOURCE = {"name": "main", "url": "redis://127.0.0.1:1/0"}
USER = {"name": "anna", "password_hash": HASH}
SECRET = "s" * 40
# One value of each setting as the environment tells it; those of lists and tables show how they are written there.
IN_ENVIRONMENT: dict[str, str] = {
    "alerts": "off",
    "allow_private_webhooks": "true",
    "api_tokens": f"a:viewer:{'0' * 64}, b:admin:{'1' * 64}",
    "audit_max_age_days": "365",
    "audit_max_events": "50000",
    "audit_syslog": "udp://logs.example.com:514",
    "auth": "none",
    "bin_max_bytes": "10",
    "bulk_max_jobs": "10",
    "bulk_approval_over": "10",
    "channels": json.dumps([{"id": "ops", "kind": "teams", "url": URL}]),
    "checker": "off",
    "dlq_queues": "a*, b",
    "history_max_bytes": "5000000",
    "metrics_public": "true",
    "oidc": json.dumps({"issuer": URL, "client_id": "queuedeck", "default_role": "viewer"}),
    "ping_url": URL,
    "proxy_sign_in": json.dumps({"peers": ["10.0.0.7"], "user_header": "X-Forwarded-User", "default_role": "viewer"}),
    "public_url": URL,
    "queues": json.dumps([{"match": ["mail-*"], "owner": "payments", "runbook": URL, "note": "Ask first."}]),
    "read_only": "true",
    "grants": json.dumps([{"groups": ["mail-team"], "queues": ["mail-*"], "allow": ["view", "retry"]}]),
    "redaction": json.dumps(
        {"names": ["customer_id"], "patterns": ["CUST-[0-9]{8}"], "allow": ["session_id"], "hook": "json:dumps"}
    ),
    "redis_url": "redis://127.0.0.1:1/0",
    "require_reason": "true",
    "root_path": "/queues",
    "rules": json.dumps([RULE]),
    "sample_interval_s": "5",
    "secret_key": SECRET,
    "secret_key_fallbacks": f"{SECRET},{SECRET}",
    "slos": json.dumps([SLO]),
    "sources": json.dumps([SOURCE]),
    "spool_dir": "/tmp/spool",
    "store_prefix": "{other}",
    "store_url": "redis://127.0.0.1:1/1",
    "trusted_hosts": "a.example.com, b.example.com",
    "trusted_proxies": "10.0.0.0/8, 127.0.0.1",
    "users": json.dumps([USER]),
}
# What some settings require.
BESIDE = {
    "users": {"QUEUEDECK_SECRET_KEY": SECRET},
    "oidc": {"QUEUEDECK_SECRET_KEY": SECRET, "QUEUEDECK_PUBLIC_URL": URL},
}
# Each kind of channel with everything that it takes.
CHANNELS: dict[str, dict[str, Any]] = {
    "slack": {"url": URL, "token": "xoxb-0", "channel": "C012345", "ca_file": "CA"},
    "webhook": {"url": URL, "secret": SECRET, "headers": {"X-Team": "ops"}, "ca_file": "CA"},
    "teams": {"url": URL, "ca_file": "CA"},
    "discord": {"url": URL, "ca_file": "CA"},
    "pagerduty": {"routing_key": SECRET, "url": URL, "ca_file": "CA"},
    "email": {
        "host": "mail.example.com",
        "port": 587,
        "tls": "starttls",
        "username": "u",
        "password": "p",
        "from": "a@example.com",
        "to": ["b@example.com"],
        "ca_file": "CA",
    },
    "apprise": {"urls": ["json://127.0.0.1/x"]},
}


@pytest.fixture
def certificate(tmp_path: Path) -> str:
    """A file with one certificate."""
    end = "-----END CERTIFICATE-----\n"
    file = tmp_path / "ca.pem"
    file.write_text(Path(certifi.where()).read_text().partition(end)[0] + end)
    return str(file)


def _refusal(**settings: Any) -> str | None:
    """Why these settings stop the start; None where they do not."""
    try:
        create_app(**settings)
    except ConfigurationError as exc:
        return str(exc)
    return None


def _inlined(schema: Any, parts: dict[str, Any]) -> Any:
    """The schema without references, titles and descriptions."""
    if isinstance(schema, list):
        return [_inlined(each, parts) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(parts[schema["$ref"].rpartition("/")[2]], parts)
    return {
        key: {name: _inlined(each, parts) for name, each in value.items()}
        if key == "properties"
        else _inlined(value, parts)
        for key, value in schema.items()
        if key not in ("title", "description")
    }


def test_settings() -> None:
    found = msgspec.json.schema(Settings)
    same_as_committed("settings", _inlined({"$ref": found["$ref"]}, found["$defs"]))


def test_the_environment() -> None:
    assert set(IN_ENVIRONMENT) == set(Settings.__struct_fields__)
    found: dict[str, Any] = {}
    for name, text in IN_ENVIRONMENT.items():
        variable = f"QUEUEDECK_{name.upper()}"
        value = msgspec.to_builtins(getattr(load(environ={**BESIDE.get(name, {}), variable: text}), name))
        found[variable] = {"text": text, "value": value}
    same_as_committed("environment", found)


def test_a_setting_may_lie_in_a_file_or_a_variable_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET)
    assert load(environ={"QUEUEDECK_SECRET_KEY_FILE": str(tmp_path / "key")}).secret_key == SECRET
    (tmp_path / "q.toml").write_text('redis_url = "${REDIS}"\nsecret_key = "${KEY}"\nread_only = true\n')
    theirs = {"REDIS": "redis://127.0.0.1:1/0", "KEY": SECRET, "QUEUEDECK_CONFIG": str(tmp_path / "q.toml")}
    settings = load(environ=theirs)
    assert (settings.redis_url, settings.secret_key, settings.read_only) == (theirs["REDIS"], SECRET, True)
    assert load(environ=theirs | {"QUEUEDECK_READ_ONLY": "false"}, keywords={"read_only": True}).read_only
    assert not load(environ=theirs | {"QUEUEDECK_READ_ONLY": "false"}).read_only


def test_rules(bare_app: Flask, tmp_path: Path) -> None:
    """The fields of a rule with their defaults, the rules that ship, and the metrics that a rule may name."""
    with running_app("redis://127.0.0.1:1/0", tmp_path, checker="off") as app:
        described = app.test_client().get("/api/v1/openapi.json", headers=headers("viewer")).get_json()
    fields = set(described["components"]["schemas"]["RuleBody"]["properties"])
    client = bare_app.test_client()
    shipped = client.get("/api/v1/rules", headers=headers("viewer")).get_json()["rules"]
    saved = client.post("/api/v1/rules", json=RULE, headers=headers("admin"))
    assert saved.status_code == 201
    least = {name: value for name, value in saved.get_json().items() if name in fields}
    assert set(least) == fields
    assert _refusal(rules=[{**least, "name": ""}]) is None  # all of them in a file, too
    names = {rule["metric"] for rule in shipped} | {"queue.throughput_per_min"}
    message = _refusal(rules=[{**RULE, "metric": "no.such"}]) or ""
    listed = _METRIC.findall(message)
    assert names <= set(listed)
    found = {
        "fields": {name: "required" if name in RULE and name != "warning" else least[name] for name in fields},
        "shipped": {
            rule["id"]: {name: rule[name] for name in fields - {"id", "name"} if rule[name] != least[name]}
            for rule in shipped
        },
        "metrics": {name: _unit(client, name) for name in listed},
    }
    same_as_committed("rules", found)


def _unit(client: Any, metric: str) -> str | None:
    """The unit of a metric; None for one that no rule may have yet."""
    rule = {"id": "unit", "metric": metric, "warning": 1}
    saved = client.post("/api/v1/rules", json=rule, headers=headers("admin"))
    if saved.status_code == 422:
        return None
    assert saved.status_code == 201, saved.text
    gone = client.post("/api/v1/rules/unit/delete", json={"version": 1}, headers=headers("admin"))
    assert gone.status_code == 200
    unit: str = saved.get_json()["unit"]
    return unit


def test_channels(certificate: str) -> None:
    found: dict[str, Any] = {}
    for kind, keys in CHANNELS.items():
        given = {"id": "ops", "kind": kind, **keys}
        if "ca_file" in given:
            given["ca_file"] = certificate
        assert _refusal(channels=[given]) is None, kind
        found[kind] = {}
        for key, value in keys.items():
            without = {name: each for name, each in given.items() if name != key}
            refused = _refusal(channels=[without])
            wrong = _refusal(channels=[{**given, key: {"": []}}])
            assert wrong is not None, f"{kind}.{key}"
            assert key in wrong
            what = type(value).__name__
            found[kind][key] = {"type": what, "needed beside the others": refused is not None}
    message = _refusal(channels=[{"id": "ops", "kind": "no-such"}]) or ""
    assert all(kind in message for kind in CHANNELS)
    assert set(CHANNELS) == set(KINDS)
    same_as_committed("channels", found)


def test_private_addresses_need_a_setting() -> None:
    private = [{"id": "ops", "kind": "webhook", "url": "http://127.0.0.1:1/x"}]
    assert "allow_private_webhooks" in (_refusal(channels=private) or "")
    assert _refusal(channels=private, allow_private_webhooks=True) is None


UNKNOWN = {
    "at the top": "no_such = 1",
    "in sources": '[[sources]]\nname = "main"\nurl = "redis://127.0.0.1:1/0"\nno_such = 1',
    "in users": f'secret_key = "{SECRET}"\n[[users]]\nname = "anna"\npassword_hash = "{HASH}"\nno_such = 1',
    "in queues": '[[queues]]\nmatch = "mail-*"\nowner = "payments"\nno_such = 1',
    "in slos": '[[slos]]\nid = "mail"\ntarget = 0.99\nsucceeded = true\nno_such = 1',
    "in a grant": '[[grants]]\nusers = ["anna"]\nallow = ["view"]\nno_such = 1',
    "in redaction": '[redaction]\nnames = ["email"]\nno_such = 1',
    "in rules": '[[rules]]\nid = "a"\nmetric = "queue.depth"\nwarning = 1\nno_such = 1',
    **{
        f"in channels of {kind}": f'[[channels]]\nid = "ops"\nkind = "{kind}"\nno_such = 1\n'
        + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items() if key not in ("headers", "ca_file"))
        for kind, keys in CHANNELS.items()
    },
}


@pytest.mark.parametrize("where", UNKNOWN)
def test_unknown_settings_stop_the_start(where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The status and the line of `queuedeck config --check`: where, and which."""
    with any_redaction():
        _check_unknown(UNKNOWN[where], tmp_path / "q.toml", capsys)


def _check_unknown(settings: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(settings)
    assert main(["config", "--check", "--config", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("queuedeck: ")
    assert "no_such" in line
    file.write_text(settings.replace("no_such = 1", ""))
    assert main(["config", "--check", "--config", str(file)]) == 0


def test_unknown_settings_of_the_environment_and_of_keywords(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no_such" in (_refusal(no_such=1) or "")
    monkeypatch.setenv("QUEUEDECK_NO_SUCH", "1")
    assert "QUEUEDECK_NO_SUCH" in (_refusal() or "")


def test_the_roles_of_tokens_and_users(bare_app: Flask) -> None:
    client = bare_app.test_client(use_cookies=False)
    for role in TOKENS:
        assert client.get("/api/v1/queues", headers=headers(role)).status_code == 200
        assert _refusal(secret_key=SECRET, users=[{**USER, "role": role}]) is None
    assert _refusal(secret_key=SECRET, users=[{**USER, "role": "owner"}]) is not None
    assert _refusal(api_tokens=[f"a:owner:{'0' * 64}"]) is not None
