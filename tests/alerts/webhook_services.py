"""All services of a process that sends the messages of a few rules to a webhook."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dashboard.alerts.rules.default_rules import default_rules
from dashboard.services import Services, build_services
from dashboard.settings import load

AT_ONCE: Mapping[str, Any] = {"for_s": 0, "min_samples": 1, "recover_for_s": 0, "group_wait_s": 0}


def build_webhook_services(
    redis_url: str, webhook_url: str, folder: Path, rules: Mapping[str, Mapping[str, Any]], *, owned: str
) -> Services:
    """The services, not started. `rules`: the default rules that are enabled, with their changes; `owned`: the queue
    that belongs to "Team Mail"; `folder` is for the spool."""
    disabled = {rule.id: {"id": rule.id, "enabled": False} for rule in default_rules()}
    enabled = {name: disabled[name] | {"enabled": True, **changed} for name, changed in rules.items()}
    values: dict[str, Any] = {
        "redis_url": redis_url,
        "sample_interval_s": 0.5,
        "spool_dir": str(folder / "spool"),
        "allow_private_webhooks": True,
        "public_url": "https://queues.example",
        "channels": [{"id": "ops", "kind": "webhook", "url": webhook_url}],
        "queues": [{"match": owned, "owner": "Team Mail"}],
        "rules": list((disabled | enabled).values()),
    }
    return build_services(load(environ={}, keywords=values), checks=True)
