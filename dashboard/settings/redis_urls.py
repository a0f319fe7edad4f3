"""URLs of Redis servers: what they may contain, and how they are shown."""

from __future__ import annotations

import os
from urllib.parse import parse_qsl, urlsplit

from ..errors import ConfigurationError
from .sentinel_urls import EXPECTED as EXPECTED_SENTINELS
from .sentinel_urls import MAX_SENTINELS, SENTINEL_OPTIONS, is_sentinel_url, parse_sentinel_url, split_sentinel_url
from .servers.cluster_urls import EXPECTED as EXPECTED_CLUSTER
from .servers.cluster_urls import MAX_CLUSTER_NODES, is_cluster_url, parse_cluster_url

URL_SCHEMES = ("redis", "rediss", "unix")
_TLS_FILES = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"})
# The options after the `?` of a Redis URL; the TLS options take the values that Celery and redis-py use.
URL_OPTIONS = {
    "redis": frozenset({"db", "username", "password"}),
    "rediss": frozenset({"db", "username", "password"}) | _TLS_OPTIONS,
    "unix": frozenset({"db", "username", "password"}),
}
URL_OPTIONS["redis+sentinel"] = (URL_OPTIONS["redis"] - {"db"}) | _TLS_OPTIONS | SENTINEL_OPTIONS
URL_OPTIONS["rediss+sentinel"] = (URL_OPTIONS["rediss"] - {"db"}) | SENTINEL_OPTIONS
URL_OPTIONS["redis+cluster"] = URL_OPTIONS["redis"] - {"db"}
URL_OPTIONS["rediss+cluster"] = URL_OPTIONS["rediss"] - {"db"}
CERT_REQS = {"none": "none", "cert_none": "none", "required": "required", "cert_required": "required"}


def redact_url(url: str) -> str:
    """`url` without user info and query, safe for logs and pages."""
    try:
        if is_sentinel_url(url):
            _, parts = split_sentinel_url(url)
            return f"{parts.scheme}://{','.join(parse_sentinel_url(url).names)}{parts.path}"
        if is_cluster_url(url):
            return f"{url.partition('://')[0]}://{','.join(parse_cluster_url(url).names)}"
        parts = urlsplit(url)
        host = parts.hostname or ""
        if ":" in host:
            host = f"[{host}]"
        netloc = f"{host}:{parts.port}" if parts.port else host
    except ValueError:
        return "(unreadable URL)"
    return f"{parts.scheme}://{netloc}{parts.path}"


def check_redis_url(url: str, where: str) -> None:
    """Raise ConfigurationError, with `where` in front, unless `url` is that of a server, Sentinels or a cluster."""
    expected = "expected redis://, rediss:// or unix:// with host and port, such as redis://127.0.0.1:6379/0"
    if is_sentinel_url(url):
        _check_sentinel_url(url, where)
        return
    if is_cluster_url(url):
        _check_cluster_url(url, where)
        return
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ConfigurationError(f"{where}: {expected}") from None
    for word, hint in (
        ("sentinel", EXPECTED_SENTINELS),
        ("cluster", EXPECTED_CLUSTER),
    ):
        if word in parts.scheme:
            raise ConfigurationError(f"{where}: {hint}")
    if not url.isprintable() or parts.scheme not in URL_SCHEMES or (parts.scheme == "unix" and not parts.path):
        raise ConfigurationError(f"{where}: {expected}")
    _check_options(parts.scheme, parts.query, where)
    if parts.scheme != "unix":
        if not parts.hostname:
            raise ConfigurationError(f"{where}: {expected}")
        database = parts.path.strip("/")
        if database and not _is_database(database):
            raise ConfigurationError(f"{where}: expected a database number after the port, such as /0")


def _check_sentinel_url(url: str, where: str) -> None:
    try:
        _, parts = split_sentinel_url(url)
        found = parse_sentinel_url(url)
    except ValueError:
        raise ConfigurationError(f"{where}: {EXPECTED_SENTINELS}") from None
    if not url.isprintable() or parts.fragment:
        raise ConfigurationError(f"{where}: {EXPECTED_SENTINELS}")
    _check_options(parts.scheme, parts.query, where)
    if len(set(found.sentinels)) < len(found.sentinels) or len(found.sentinels) > MAX_SENTINELS:
        raise ConfigurationError(f"{where}: expected each Sentinel once, and at most {MAX_SENTINELS}")
    if "ssl_" in parts.query and not (found.server + found.sentinel_server).count("rediss:"):
        raise ConfigurationError(f"{where}: ssl options: expected only with rediss+sentinel:// or sentinel_tls=true")


def _check_cluster_url(url: str, where: str) -> None:
    try:
        found = parse_cluster_url(url)
    except ValueError as exc:
        raise ConfigurationError(
            f"{where}: {exc if str(exc).startswith(EXPECTED_CLUSTER) else EXPECTED_CLUSTER}"
        ) from None
    if not url.isprintable() or "#" in url:
        raise ConfigurationError(f"{where}: {EXPECTED_CLUSTER}")
    _check_options(url.partition("://")[0], found.query, where)
    if len(set(found.nodes)) < len(found.nodes) or len(found.nodes) > MAX_CLUSTER_NODES:
        raise ConfigurationError(
            f"{where}: expected each node once, and at most {MAX_CLUSTER_NODES}: they name all others"
        )


def _is_database(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 9


def _check_options(scheme: str, query: str, where: str) -> None:
    known = URL_OPTIONS[scheme]
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            shown = name if name.isidentifier() and len(name) <= 40 else "there"
            raise ConfigurationError(
                f"{where}: unknown option {shown} after the ?; valid for {scheme}:// are {', '.join(sorted(known))}"
            )
        if name == "db" and not _is_database(value):
            raise ConfigurationError(f"{where}: db: expected a number")
        if name == "ssl_cert_reqs" and value.lower() not in CERT_REQS:
            raise ConfigurationError(f"{where}: ssl_cert_reqs: expected none or required")
        if name in _TLS_FILES and not os.access(value, os.R_OK):
            raise ConfigurationError(f"{where}: {name}: expected a readable file")
        if name in ("ssl_check_hostname", "sentinel_tls") and value.lower() not in ("true", "false"):
            raise ConfigurationError(f"{where}: {name}: expected true or false")
