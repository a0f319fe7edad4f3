"""Settings: three layers, and one line for whatever is wrong."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from dashboard.alerts.runtime import check_alert_settings
from dashboard.cli import main
from dashboard.errors import ConfigurationError
from dashboard.settings import Settings, SourceSettings, load
from dashboard.settings.display import describe
from dashboard.settings.redis_urls import redact_url


def test_without_any_setting_the_redis_of_this_machine_is_watched() -> None:
    (source,) = load(environ={}).effective_sources()
    assert (source.name, source.url) == ("main", "redis://127.0.0.1:6379/0")


def test_keywords_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "queuedeck.toml"
    file.write_text('redis_url = "redis://file:1/0"\nsample_interval_s = 3\npublic_url = "https://file.example"\n')
    environ = {"QUEUEDECK_REDIS_URL": "redis://env:1/0", "QUEUEDECK_SAMPLE_INTERVAL_S": "4"}
    settings = load(config=file, environ=environ, keywords={"sample_interval_s": 5})
    assert settings.redis_url == "redis://env:1/0"
    assert settings.sample_interval_s == 5.0
    assert settings.public_url == "https://file.example"


def test_a_later_redis_url_replaces_the_sources_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "q.toml"
    file.write_text('[[sources]]\nname = "a"\nurl = "redis://a:1/0"\n')
    assert [source.name for source in load(config=file, environ={}).effective_sources()] == ["a"]
    settings = load(config=file, environ={}, keywords={"redis_url": "redis://b:1/0"})
    assert [source.url for source in settings.effective_sources()] == ["redis://b:1/0"]
    later = [{"name": "c", "url": "redis://c:1/0"}]
    settings = load(environ={"QUEUEDECK_REDIS_URL": "redis://b:1/0"}, keywords={"sources": later})
    assert (settings.redis_url, [source.name for source in settings.effective_sources()]) == (None, ["c"])


def test_the_environment_is_read_as_numbers_booleans_and_lists() -> None:
    token = "ci:viewer:" + hashlib.sha256(b"x").hexdigest()
    settings = load(
        environ={
            "QUEUEDECK_READ_ONLY": "true",
            "QUEUEDECK_SAMPLE_INTERVAL_S": "2.5",
            "QUEUEDECK_DLQ_QUEUES": "*dlq*, dead-*",
            "QUEUEDECK_API_TOKENS": token,
            "QUEUEDECK_SOURCES": '[{"name": "a", "url": "redis://a:1/0", "queues": ["mail-*"]}]',
            "HOME": "/elsewhere",
        }
    )
    assert settings.read_only is True
    assert settings.dlq_queues == ("*dlq*", "dead-*")
    assert settings.api_tokens == (token,)
    assert settings.sources == (SourceSettings(name="a", url="redis://a:1/0", queues=("mail-*",)),)


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "q.toml"
    file.write_text("sample_interval_s = 7\n")
    assert load(environ={"QUEUEDECK_CONFIG": str(file)}).sample_interval_s == 7.0


@pytest.mark.parametrize(
    ("environ", "keywords", "expected"),
    [
        ({"QUEUEDECK_REDIS": "x"}, {}, "environment: QUEUEDECK_REDIS: unknown setting: did you mean redis_url?"),
        ({}, {"redis": "x"}, "keyword redis: unknown setting: did you mean redis_url?"),
        ({}, {"api-token": "x"}, "unknown setting: did you mean api_tokens?"),
        ({}, {"colour": "x"}, "unknown setting; valid settings are redis_url, sources, "),
        ({"QUEUEDECK_CHECKER": "on"}, {}, 'environment: QUEUEDECK_CHECKER: expected "auto" or "off"'),
        ({}, {"users": [{"name": "a", "password_hash": "x", "role": "root"}]}, "unknown value at `$[0].role`"),
        ({"QUEUEDECK_READ_ONLY": "yes"}, {}, "environment: QUEUEDECK_READ_ONLY: expected true or false"),
        (
            {},
            {"redis_url": "redis://h:1/0", "sources": [{"name": "a", "url": "redis://h:1/0"}]},
            "keyword redis_url: expected either redis_url or sources, not both",
        ),
        (
            {},
            {"redis_url": "sentinel://h:1/0"},
            "redis_url: expected redis+sentinel:// with the Sentinels and the name",
        ),
        ({}, {"redis_url": "redis+sentinel://me:1234/s3cret@h/0"}, "redis_url: expected redis+sentinel:// with"),
        ({}, {"redis_url": "redis+sentinel://:s3[cret@h:1/s"}, "redis_url: expected redis+sentinel:// with"),
        ({}, {"redis_url": "redis+sentinel://h:1, i:2/s"}, "redis_url: expected redis+sentinel:// with"),
        ({}, {"redis_url": "redis+sentinel://h:1/a%0Ab/0"}, "redis_url: expected redis+sentinel:// with"),
        ({}, {"redis_url": "redis+sentinel://h:1/s?db=1"}, "unknown option db after the ?"),
        ({}, {"redis_url": "redis+cluster://h:1/1"}, "a cluster has only database 0"),
        (
            {},
            {"redis_url": "redis://h:1/0?virtual_host=a"},
            "unknown option virtual_host after the ?; valid",
        ),
        ({}, {"redis_url": "redis://h:1/0?decode_responses=true"}, "unknown option decode_responses"),
        ({}, {"redis_url": "redis://h:1/0?protocol=3"}, "unknown option protocol"),
        ({}, {"redis_url": "redis://h:1/0?ssl_ca_certs=a"}, "unknown option ssl_ca_certs"),
        ({}, {"redis_url": "rediss://h:1/0?ssl_cert_reqs=maybe"}, "ssl_cert_reqs: expected none or required"),
        ({}, {"redis_url": "unix:///tmp/a.sock?db=one"}, "db: expected a number"),
        ({}, {"redis_url": "redis://h:1/0?db="}, "db: expected a number"),
        ({"QUEUEDECK_SAMPLE_INTERVAL_S": "soon"}, {}, "QUEUEDECK_SAMPLE_INTERVAL_S: expected `float`"),
        ({}, {"sample_interval_s": 0.1}, "keyword sample_interval_s: expected 0.5 to 300 seconds"),
        ({}, {"audit_max_events": 99}, "keyword audit_max_events: expected a number from 100 to 1,000,000"),
        ({}, {"audit_max_age_days": 0}, "keyword audit_max_age_days: expected a number of days from 1 to 3,650"),
        ({}, {"audit_syslog": "logs:514"}, "keyword audit_syslog: expected udp://HOST:PORT, tcp://HOST:PORT or"),
        ({}, {"checker": "yes"}, "keyword checker:"),
        ({}, {"redis_url": "http://127.0.0.1:6379"}, "keyword redis_url: expected redis://"),
        ({}, {"redis_url": "redis://"}, "keyword redis_url: expected redis://"),
        ({}, {"redis_url": "redis://h:99999/0"}, "keyword redis_url: expected redis://"),
        ({}, {"redis_url": "redis://h:1/zero"}, "expected a database number"),
        ({}, {"secret_key": "short"}, "keyword secret_key: expected at least 32 bytes"),
        ({}, {"secret_key": "REPLACE-WITH-AT-LEAST-32-RANDOM-BYTES"}, "the example from the README"),
        ({}, {"secret_key": "k" * 40, "secret_key_fallbacks": ["REPLACE-WITH-AT-LEAST-32-RANDOM-BYTES"]}, "README"),
        (
            {"QUEUEDECK_SECRET_KEY": "k" * 40},
            {"users": [{"name": "ada", "password_hash": "scrypt:32768:8:1$SALT$DIGEST", "role": "admin"}]},
            "password_hash",
        ),
        ({}, {"api_tokens": ["ci:root:00"]}, "keyword api_tokens: expected name:role:sha256hex"),
        ({}, {"trusted_hosts": ["https://q.example"]}, "keyword trusted_hosts: expected host names"),
        ({}, {"trusted_hosts": ["q.example:443"]}, "keyword trusted_hosts: expected host names"),
        ({}, {"trusted_hosts": ["*.example"]}, "keyword trusted_hosts: expected host names"),
        ({}, {"public_url": "queuedeck.example"}, "keyword public_url: expected an http"),
        ({}, {"dlq_queues": ["[a-z]"]}, "keyword dlq_queues: expected globs"),
        ({}, {"sources": [{"name": "a b", "url": "redis://h:1/0"}]}, "source 'a b': name: expected"),
        ({}, {"sources": [{"name": "a", "url": "redis://h:1/0"}] * 2}, "expected a unique name for each source"),
        ({}, {"sources": [{"name": "a", "url": "redis://h:1/0", "port": 1}]}, "unknown field `port`"),
        ({}, {"sources": [{"name": "a", "url": "redis://h:1/0", "queues": ["x" * 65]}]}, "queues: expected globs"),
        (
            {},
            {"sources": [{"name": "a", "url": "redis://h:1/0", "unacked_key": ""}]},
            "unacked_key: expected a key name",
        ),
        ({"QUEUEDECK_SOURCES": "a,b"}, {}, "QUEUEDECK_SOURCES: expected a JSON array"),
    ],
)
def test_an_invalid_setting_is_reported_in_one_line(
    environ: dict[str, str], keywords: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(environ=environ, keywords=keywords)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_broken_file_is_reported_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        load(config=tmp_path / "none.toml", environ={})
    broken = tmp_path / "broken.toml"
    broken.write_text("sources = [")
    with pytest.raises(ConfigurationError, match=r"broken\.toml: not valid TOML"):
        load(config=broken, environ={})


@pytest.mark.parametrize(
    ("file", "spool_dir", "status", "said"),
    [
        ('redis_url = "redis://h:1/0"', None, 0, "The settings are valid."),
        ('redis_url = "redis://h:1/0"', "/proc/nope", 2, "spool_dir: expected a folder"),
        ('redis_url = "redis://h:1/0"\n[[sources]]\nname = "a"\nurl = "redis://h:1/0"', None, 2, "not both"),
        ('redis_url = "sentinel://h:1/0"', None, 2, "expected redis+sentinel:// with the Sentinels"),
    ],
)
def test_the_command_says_whether_the_settings_are_right(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file: str,
    spool_dir: str | None,
    status: int,
    said: str,
) -> None:
    config = tmp_path / "q.toml"
    config.write_text(file)
    monkeypatch.setenv("QUEUEDECK_SPOOL_DIR", spool_dir or str(tmp_path))
    assert main(["config", "--check", "--config", str(config)]) == status
    shown = capsys.readouterr()
    (line,) = (shown.out + shown.err).splitlines()
    assert said in line


def test_no_message_repeats_a_secret() -> None:
    secret = "hunter2-hunter2"
    wrong: list[dict[str, Any]] = [
        {"redis_url": f"redis://user:{secret}@h:99999/0"},
        {"redis_url": f"http://user:{secret}@h:1"},
        {"secret_key": secret},
        {"api_tokens": [f"ci:viewer:{secret}"]},
        {"sources": [{"name": "a", "url": f"tcp://:{secret}@h:1"}]},
        {"checker": secret},
        {"users": [{"name": "a", "password_hash": "x", "role": secret}]},
        {"redis_url": f"redis://h:1/0?{secret}=1"},
    ]
    for keywords in wrong:
        with pytest.raises(ConfigurationError) as caught:
            load(environ={}, keywords=keywords)
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@db.example:6380/2?password=secret", "redis://db.example:6380/2"),
        ("rediss://:secret@[::1]:6379/0", "rediss://[::1]:6379/0"),
        ("redis://:sec@ret@h:1/0", "redis://h:1/0"),
        ("unix:///run/redis.sock?password=secret", "unix:///run/redis.sock"),
        ("redis://h:secret/0", "(unreadable URL)"),
    ],
)
def test_a_url_is_shown_without_credentials(url: str, shown: str) -> None:
    assert redact_url(url) == shown


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(AttributeError):
        Settings().read_only = True  # type: ignore[misc]


def test_the_settings_that_hold_are_described_without_a_secret() -> None:
    secret = "hunter2-hunter2-hunter2-hunter2-hunter2"
    settings = load(
        environ={},
        keywords={
            "sources": [{"name": "a", "url": f"redis://user:{secret}@h:1/0", "queues": ["mail-*"]}],
            "secret_key": secret,
            "users": [{"name": "ada", "password_hash": f"scrypt:1024:8:1${secret}${128 * '0'}", "role": "admin"}],
            "api_tokens": ["ci:viewer:" + hashlib.sha256(b"x").hexdigest()],
            "channels": [{"id": "ops", "type": "slack", "url": f"https://hooks.slack.com/services/{secret}"}],
            "ping_url": f"https://ping.example/{secret}",
            "read_only": True,
        },
    )
    lines = describe(settings)
    assert secret not in "".join(lines)
    assert "* read_only = true" in lines
    assert '  auth = "auto"' in lines
    assert '* secret_key = "…"' in lines
    (sources,) = [line for line in lines if line.startswith("* sources = ")]
    assert '"name":"a"' in sources
    assert '"url":"redis://h:1/0"' in sources
    assert "mail-*" in sources


WRONG_TEXTS = {
    "public_url without an end": ('public_url = "http://[::1"', "public_url: expected an http"),
    "public_url without a host": ('public_url = "https://"', "public_url: expected an http"),
    "public_url with a port that cannot be": ('public_url = "https://h:99999999"', "public_url: expected an http"),
    "ping_url without an end": ('ping_url = "https://[::1"', "ping_url: expected an https"),
    "spool_dir with a NUL": (r'spool_dir = "a\u0000b"', "spool_dir: expected the path"),
    "spool_dir without a name": ('spool_dir = ""', "spool_dir: expected the path"),
    "no sources": ("sources = []", "sources: expected at least one"),
    "a database that cannot be": ('redis_url = "redis://h/99999999999999999999"', "expected a database number"),
    "a URL with a NUL": (r'redis_url = "redis://h\u0000x"', "redis_url: expected redis://"),
    "a certificate that is not there": (
        'redis_url = "rediss://h?ssl_ca_certs=/nonexistent/ca.pem"',
        "ssl_ca_certs: expected a readable file",
    ),
    "an empty prefix": ('[[sources]]\nname = "a"\nurl = "redis://h"\nprefixes = [""]', "prefixes: expected no empty"),
    "more bytes than there are": ("bin_max_bytes = 999999999999999999", "bin_max_bytes: expected 0 to"),
    "arrays without an end": ("a = " + "[" * 3000, "nested too deeply"),
    "tables without an end": ("a = " + "{a = " * 3000, "nested too deeply"),
    "thousands of digits": ("k = " + "9" * 6000, "not valid TOML"),
}


@pytest.mark.parametrize("what", WRONG_TEXTS)
def test_a_file_of_wrong_settings_is_refused_in_one_line(what: str, tmp_path: Path) -> None:
    text, expected = WRONG_TEXTS[what]
    path = tmp_path / "queuedeck.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        check_alert_settings(load(config=path, environ={}))
    assert expected in raised.value.message
    assert "\n" not in raised.value.message


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("SOURCES", "[" * 5000, "expected a JSON array"),
        ("SECRET_KEY", "\udcff" * 40, "expected UTF-8"),
        ("REDIS_URL", "redis://\udcff/0", "expected UTF-8"),
        ("RULES", '[{"id": "\udcff"}]', "expected UTF-8"),
    ],
)
def test_a_wrong_environment_is_refused_in_one_line(name: str, text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=f"QUEUEDECK_{name}: {expected}"):
        load(environ={f"QUEUEDECK_{name}": text})
