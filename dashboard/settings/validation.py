"""The values that settings may have."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from ..errors import ConfigurationError
from ..globs import EXPECTED, is_glob
from . import grants, oidc, proxies, queue_directory, redaction, slos
from .redis_urls import check_redis_url
from .schema import ONLY_WITH_SENTINELS, WITH_SENTINELS, Settings, SourceSettings
from .sentinel_urls import is_sentinel_host
from .servers.cluster_urls import is_cluster_url
from .syslog_targets import parse_syslog_target

# One hash tag, so that all keys are in one cluster slot and one script can change several of them.
_STORE_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,64}\{[A-Za-z0-9._-]{1,64}\}[A-Za-z0-9._-]{0,64}\Z")
_PREFIX_PART = re.compile(r"[A-Za-z0-9._-]+")
KEY_LIMIT = 200
MAX_BIN_BYTES = 2**40
LEAST_HISTORY_BYTES, MAX_HISTORY_BYTES = 1_000_000, 10_000_000_000
MAX_AUDIT_EVENTS = 1_000_000
MAX_AUDIT_DAYS = 3_650
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_USER = re.compile(r"[A-Za-z0-9._@+-]{1,64}\Z")
_HASH = re.compile(r"scrypt:(\d{1,8}):(\d{1,2}):(\d{1,2})\$[^$\s]{1,256}\$[0-9a-f]{128}\Z")
MAX_HASH_BYTES = 256 * 1024 * 1024
_HOST = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])\Z")
# What the README and the documentation show in place of a secret.
PLACEHOLDERS = frozenset({"REPLACE-WITH-AT-LEAST-32-RANDOM-BYTES", "scrypt:32768:8:1$SALT$DIGEST"})
_TOTP_SECRET = re.compile(r"(?:[A-Z2-7]{8}){4,8}\Z")  # base32 of 20 bytes or more
_TOKEN = re.compile(r"[^:\s]{1,64}:(viewer|operator|admin):[0-9a-fA-F]{64}\Z")


def check_settings(settings: Settings, origin: Mapping[str, str]) -> None:
    """Raise ConfigurationError for the first setting with an invalid value. `origin`: where each one was read."""
    fault = next(_faults(settings, origin), None)
    if fault is not None:
        name, expected = fault
        raise ConfigurationError(f"{origin.get(name, name)}: {expected}")
    _check_users(settings, origin.get("users", "users"))
    for name in ("redis_url", "store_url"):
        url = getattr(settings, name)
        if url is not None:
            check_redis_url(url, origin.get(name, name))
    _check_sources(settings, origin.get("sources", "sources"))
    _check_queues(settings, origin.get("queues", "queues"))
    _check_slos(settings, origin.get("slos", "slos"))
    for which, expected in grants.find_faults(settings):
        raise ConfigurationError(f"{origin.get('grants', 'grants')}: {which}{expected}")
    problem = redaction.find_problem(settings.redaction)
    if problem is not None:
        raise ConfigurationError(f"{origin.get('redaction', 'redaction')}: {problem}")


def _faults(settings: Settings, origin: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The settings with an invalid value, and what was expected."""
    if not 0.5 <= settings.sample_interval_s <= 300:
        yield "sample_interval_s", "expected 0.5 to 300 seconds"
    if not _STORE_PREFIX.match(settings.store_prefix):
        word = "".join(_PREFIX_PART.findall(settings.store_prefix))[:40] or "team"
        yield (
            "store_prefix",
            f'expected letters, digits, ".", "_" and "-", with one part in braces, such as "{{{word}}}", which keeps '
            "all keys in one cluster slot",
        )
    yield from _faults_of_secret_key(settings)
    if settings.auth == "none" and settings.users:
        yield "auth", 'expected "auto" with users: "none" gives anyone on this machine access'
    if settings.public_url is not None and not _is_web_url(settings.public_url):
        yield "public_url", "expected an http:// or https:// URL with a host"
    if settings.ping_url is not None and not _is_web_url(settings.ping_url):
        yield "ping_url", "expected an https:// URL with a host"
    if settings.spool_dir is not None and (not settings.spool_dir or "\0" in settings.spool_dir):
        yield "spool_dir", "expected the path of a directory"
    if settings.redis_url is None and not settings.sources and "sources" in origin:
        yield "sources", "expected at least one source; leave the setting out to use redis_url"
    yield from _faults_of_requests(settings)
    if not all(is_glob(glob) for glob in settings.dlq_queues):
        yield "dlq_queues", f"expected {EXPECTED}"
    if any(len(key.encode()) < 32 for key in settings.secret_key_fallbacks):
        yield "secret_key_fallbacks", "expected keys of at least 32 bytes"
    if not 0 <= settings.bin_max_bytes <= MAX_BIN_BYTES:
        yield "bin_max_bytes", f"expected 0 to {MAX_BIN_BYTES} bytes"
    if settings.history_max_bytes and not LEAST_HISTORY_BYTES <= settings.history_max_bytes <= MAX_HISTORY_BYTES:
        yield "history_max_bytes", f"expected 0, or {LEAST_HISTORY_BYTES} to {MAX_HISTORY_BYTES} bytes"
    if not 1 <= settings.bulk_max_jobs <= 1_000_000:
        yield "bulk_max_jobs", "expected a number from 1 to 1,000,000"
    if settings.bulk_approval_over is not None:
        yield from _faults_of_approval(settings)
    yield from _faults_of_audit(settings)


def _faults_of_approval(settings: Settings) -> Iterator[tuple[str, str]]:
    assert settings.bulk_approval_over is not None
    if not 1 <= settings.bulk_approval_over <= 1_000_000:
        yield "bulk_approval_over", "expected a number from 1 to 1,000,000"
    if settings.auth == "none":
        yield "bulk_approval_over", 'expected only with sign-in: with auth = "none", there is no second person'
    able = [user for user in settings.users if user.role != "viewer"]
    if settings.users and len(able) < 2 and settings.oidc is None and settings.proxy_sign_in is None:
        yield "bulk_approval_over", "expected two users with the role operator or admin: one has to approve"


def _faults_of_audit(settings: Settings) -> Iterator[tuple[str, str]]:
    if not 100 <= settings.audit_max_events <= MAX_AUDIT_EVENTS:
        yield "audit_max_events", f"expected a number from 100 to {MAX_AUDIT_EVENTS:,}"
    if settings.audit_max_age_days is not None and not 1 <= settings.audit_max_age_days <= MAX_AUDIT_DAYS:
        yield "audit_max_age_days", f"expected a number of days from 1 to {MAX_AUDIT_DAYS:,}"
    if settings.audit_syslog is not None and parse_syslog_target(settings.audit_syslog) is None:
        yield "audit_syslog", "expected udp://HOST:PORT, tcp://HOST:PORT or unix:///PATH, such as udp://127.0.0.1:514"


def _faults_of_secret_key(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.secret_key is not None and len(settings.secret_key.encode()) < 32:
        yield "secret_key", "expected at least 32 bytes of secret text"
    if PLACEHOLDERS & {settings.secret_key, *settings.secret_key_fallbacks}:
        yield "secret_key", "expected your own secret, not the example from the README"


def _faults_of_requests(settings: Settings) -> Iterator[tuple[str, str]]:
    """The invalid settings about requests: their tokens, their hosts, the proxies that forward them."""
    if not all(_TOKEN.match(token) for token in settings.api_tokens):
        yield "api_tokens", "expected name:role:sha256hex with role viewer, operator or admin"
    if not all(_HOST.match(host) for host in settings.trusted_hosts):
        yield "trusted_hosts", "expected host names such as queues.example.com, without https://, port or *"
    yield from proxies.find_faults(settings)
    yield from oidc.find_faults(settings)


def _is_web_url(url: str) -> bool:
    """Whether `url` is an http:// or https:// URL with a host and a possible port."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:
        return False


def _check_users(settings: Settings, where: str) -> None:
    seen: set[str] = set()
    for user in settings.users:
        at = f"{where}: user {user.name[:64]!r}"
        if not _USER.match(user.name):
            raise ConfigurationError(f"{at}: name: expected 1 to 64 letters, digits or any of . _ @ + -")
        if user.name in seen:
            raise ConfigurationError(f"{at}: name: expected a unique name for each user")
        seen.add(user.name)
        digest = user.password_hash
        if digest in PLACEHOLDERS or not _is_password_hash(digest):
            raise ConfigurationError(f"{at}: password_hash: expected what `queuedeck hash-password` prints")
        if user.totp_secret is not None and not _TOTP_SECRET.match(user.totp_secret):
            raise ConfigurationError(f"{at}: totp_secret: expected what `queuedeck totp` prints")
    if settings.users and settings.secret_key is None:
        raise ConfigurationError(
            f"{where}: secret_key is required when users are set",
            hint="Generate one with: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'",
        )


def _is_password_hash(text: str) -> bool:
    """Whether `text` is a scrypt hash of werkzeug whose cost this machine can afford for each attempt to sign in."""
    found = _HASH.match(text)
    if found is None:
        return False
    n, r, p = (int(number) for number in found.groups())
    return n >= 2 and n & (n - 1) == 0 and 1 <= r <= 32 and 1 <= p <= 16 and 128 * n * r <= MAX_HASH_BYTES


def _check_sources(settings: Settings, where: str) -> None:
    seen: set[str] = set()
    for source in settings.sources:
        at = f"{where}: source {source.name!r}"
        if not _NAME.match(source.name):
            raise ConfigurationError(f"{at}: name: expected 1 to 64 letters, digits, dots, dashes or underscores")
        if source.name in seen:
            raise ConfigurationError(f"{at}: name: expected a unique name for each source")
        seen.add(source.name)
        _check_server(source, at)
        for field in ("broker_url", "result_url", "redbeat_url"):
            url = getattr(source, field)
            if url is not None:
                check_redis_url(url, f"{at}: {field}")
            if is_cluster_url(url) or (url is not None and source.is_cluster):
                raise ConfigurationError(
                    f"{at}: {field}: Celery does not run on Redis Cluster; expected the URL of another Redis, in "
                    "a source without cluster"
                )
        for field in ("unacked_key", "unacked_index_key"):
            if not 0 < len(getattr(source, field)) <= KEY_LIMIT:
                raise ConfigurationError(f"{at}: {field}: expected a key name of 1 to {KEY_LIMIT} characters")
        for glob in source.queues:
            if not is_glob(glob):
                raise ConfigurationError(f"{at}: queues: expected {EXPECTED}")
        if not all(source.prefixes):
            raise ConfigurationError(f"{at}: prefixes: expected no empty prefix; leave the setting out to find all")


def _check_server(source: SourceSettings, at: str) -> None:
    """Raise ConfigurationError unless the source has either a URL, or Sentinels, or nodes of a cluster."""
    if source.url is not None:
        extra = next((field for field in ("sentinels", "cluster", *WITH_SENTINELS) if _is_set(source, field)), None)
        if extra is not None:
            raise ConfigurationError(
                f"{at}: {extra}: expected in the url, or without url and with sentinels or cluster"
            )
        check_redis_url(source.url, f"{at}: url")
        return
    if source.cluster:
        _check_cluster(source, at)
        return
    if not source.sentinels:
        raise ConfigurationError(f"{at}: expected url, or cluster, or sentinels and service")
    if not source.service:
        raise ConfigurationError(f"{at}: service: expected the name under which the Sentinels monitor the primary")
    for sentinel in source.sentinels:
        if not is_sentinel_host(sentinel):
            raise ConfigurationError(f'{at}: sentinels: expected host:port of each, such as "10.0.0.1:26379"')
    if not 0 <= source.database < 10**6:
        raise ConfigurationError(f"{at}: database: expected a database number, such as 0")
    _check_files(source, at, "tls = true or sentinel_tls = true", with_tls=source.tls or bool(source.sentinel_tls))
    check_redis_url(source.redis_url, at)


def _check_cluster(source: SourceSettings, at: str) -> None:
    extra = next((field for field in ("sentinels", *ONLY_WITH_SENTINELS) if _is_set(source, field)), None)
    if extra is not None:
        raise ConfigurationError(f"{at}: {extra}: expected without cluster, which has only database 0 and no Sentinels")
    for node in source.cluster:
        if not is_sentinel_host(node):
            raise ConfigurationError(f'{at}: cluster: expected host:port of each node, such as "10.0.0.1:6379"')
    _check_files(source, at, "tls = true", with_tls=source.tls)
    check_redis_url(source.redis_url, at)


def _check_files(source: SourceSettings, at: str, needed: str, *, with_tls: bool) -> None:
    for field in ("ca_file", "cert_file", "key_file"):
        file = getattr(source, field)
        if file is not None and not with_tls:
            raise ConfigurationError(f"{at}: {field}: expected only with {needed}")
        if file is not None and not os.access(file, os.R_OK):
            raise ConfigurationError(f"{at}: {field}: expected a readable file")


def _is_set(source: SourceSettings, field: str) -> bool:
    return bool(getattr(source, field) != getattr(SourceSettings(name=""), field))


def _check_queues(settings: Settings, where: str) -> None:
    if len(settings.queues) > queue_directory.MAX_ENTRIES:
        raise ConfigurationError(f"{where}: expected at most {queue_directory.MAX_ENTRIES} entries")
    for number, entry in enumerate(settings.queues, 1):
        problem = queue_directory.find_problem(entry)
        if problem is not None:
            raise ConfigurationError(f"{where}: entry {number}: {problem}")


def _check_slos(settings: Settings, where: str) -> None:
    if settings.slos and not settings.history_max_bytes:
        raise ConfigurationError(
            f"{where}: expected history_max_bytes above 0: objectives are counted from the history"
        )
    if len(settings.slos) > slos.MAX_SLOS:
        raise ConfigurationError(f"{where}: expected at most {slos.MAX_SLOS} objectives")
    seen: set[str] = set()
    for slo in settings.slos:
        at = f"{where}: slo {slo.id[:64]!r}"
        problem = slos.find_problem(slo)
        if problem is None and slo.id in seen:
            problem = "id: expected a unique id for each objective"
        if problem is not None:
            raise ConfigurationError(f"{at}: {problem}")
        seen.add(slo.id)
