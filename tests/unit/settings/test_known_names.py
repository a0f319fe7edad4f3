"""A name of a source or library that does not exist stops the start: what it is about would be watched by nothing."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.alerts.runtime import check_alert_settings
from dashboard.backends.monitored_sources import open_sources
from dashboard.errors import ConfigurationError
from dashboard.settings import Settings, load

SLO: dict[str, Any] = {"id": "mail", "target": 0.99, "succeeded": True}
QUEUES: dict[str, Any] = {"match": "mail", "owner": "team"}
RULE: dict[str, Any] = {"id": "deep", "metric": "queue.depth", "warning": 1}
SOURCES = [{"name": name, "url": f"redis://127.0.0.1:6379/{number}"} for number, name in enumerate(("main", "cache"))]


def check(settings: Settings) -> None:
    open_sources(settings).close()
    check_alert_settings(settings)


@pytest.mark.parametrize(
    ("name", "entry", "where"),
    [
        ("slos", SLO, "slos: slo 'mail'"),
        ("queues", QUEUES, "queues: entry 1"),
        ("rules", RULE, "rules: rule 'deep'"),
        ("rules", {"id": "queue-dead"}, "rules: rule 'queue-dead'"),
    ],
)
def test_an_unknown_name_is_refused(name: str, entry: dict[str, Any], where: str) -> None:
    for scope, expected in (
        ({"source": "mian"}, "source: expected * or one of main, cache; unknown source 'mian'"),
        (
            {"backend": "sidekick"},
            "backend: expected * or one of bullmq, celery, rq, sidekiq; unknown backend 'sidekick'",
        ),
    ):
        with pytest.raises(ConfigurationError) as found:
            check(load(environ={}, keywords={"sources": SOURCES, name: [entry | scope]}))
        assert found.value.message == f"{where}: {expected}"


def test_globs_and_installed_libraries_are_known() -> None:
    scopes = [{"source": "cache", "backend": "rq"}, {"source": "eu-*"}, {"backend": "?q"}, {}]
    sources = [{**source, "backends": ["bullmq"]} for source in SOURCES]
    keywords = {
        "sources": sources,
        "slos": [SLO | scope | {"id": f"slo-{number}"} for number, scope in enumerate(scopes)],
        "queues": [QUEUES | scope for scope in scopes],
        "rules": [RULE | scope | {"id": f"rule-{number}"} for number, scope in enumerate(scopes)],
    }
    check(load(environ={}, keywords=keywords))
