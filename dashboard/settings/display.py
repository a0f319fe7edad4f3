"""The effective settings in readable form, without secrets."""

from __future__ import annotations

from typing import Any

import msgspec

from .redis_urls import URL_OPTIONS, redact_url
from .schema import Settings

# Text that is shown unchanged, and URLs that are shown without user info; all other text may be a secret.
_PLAIN_TEXT = {
    "audit_syslog",
    *("name", "id", "role", "auth", "checker", "alerts", "backends", "prefixes", "queues", "spool_dir", "public_url"),
    *("unacked_key", "unacked_index_key", "trusted_hosts", "trusted_proxies", "dlq_queues"),
    *("root_path", "peers", "user_header", "groups_header", "groups_separator", "default_role", "sign_out_url"),
    *("issuer", "client_id", "title", "scopes", "name_claim", "groups_claim"),
    *("names", "patterns", "allow", "hook"),
    *("kind", "type", "severity", "metric", "source", "backend", "queue"),
    *("match", "owner", "runbook", "note", "queues_not"),
    *("cluster", "sentinels", "service", "ca_file", "cert_file", "key_file"),
}
_BY_NAME = {"user_roles", "domain_roles", "group_roles"}
_PLAIN_URLS = {"redis_url", "store_url", "url", "broker_url", "result_url", "redbeat_url"}


def describe(settings: Settings) -> list[str]:
    """The settings in their order, one `name = value` line each, with `*` before those that differ from the default.

    Values are JSON; URLs and secrets are masked.
    """
    default = Settings()
    return [
        f"{'*' if getattr(settings, name) != getattr(default, name) else ' '} {name} = {_shown(name, value)}"
        for name, value in msgspec.to_builtins(settings).items()
    ]


def _shown(name: str, value: Any) -> str:
    return msgspec.json.encode(_without_secrets(name, value)).decode()


def _without_secrets(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        of_names = name in _BY_NAME  # the keys are names of users and groups, not of settings
        return {key: _without_secrets("role" if of_names else key, each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(name, each) for each in value]
    if not isinstance(value, str):
        return value
    if name in _PLAIN_TEXT:
        return value
    is_redis = value.partition("://")[0] in URL_OPTIONS and "://" in value
    return redact_url(value) if is_redis and name in _PLAIN_URLS else "…"
