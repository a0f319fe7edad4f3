"""The settings: immutable and typed, read from a TOML file, the environment and keywords (later ones win).

`load` returns a Settings or raises one ConfigurationError, whose single line names the setting, where it was read and
what was expected. Credentials never appear in it.
"""

from __future__ import annotations

import functools
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import parse_qsl, urlsplit

import msgspec

from .auth import parse_networks
from .errors import ConfigurationError
from .globs import EXPECTED, is_glob
from .secret_references import read_secret, substitute
from .spelling import close_name

ENV_PREFIX = "QUEUEDECK_"
DEFAULT_STORE_PREFIX = "{queuedeck}"
# One hash tag, so that all keys are in one cluster slot and one script can change several of them.
_STORE_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,64}\{[A-Za-z0-9._-]{1,64}\}[A-Za-z0-9._-]{0,64}\Z")
_PREFIX_PART = re.compile(r"[A-Za-z0-9._-]+")
DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"
URL_SCHEMES = ("redis", "rediss", "unix")
_TLS_FILES = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"})
# The options after the `?` of a Redis URL; the TLS options take the values that Celery and redis-py use.
URL_OPTIONS = {
    "redis": frozenset({"db", "username", "password"}),
    "rediss": frozenset({"db", "username", "password"}) | _TLS_OPTIONS,
    "unix": frozenset({"db", "username", "password"}),
}
CERT_REQS = {"none": "none", "cert_none": "none", "required": "required", "cert_required": "required"}
KEY_LIMIT = 200
MAX_BIN_BYTES = 2**40
MAX_PROXIES = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_USER = re.compile(r"[A-Za-z0-9._@+-]{1,64}\Z")
_HASH = re.compile(r"scrypt:(\d{1,8}):(\d{1,2}):(\d{1,2})\$[^$\s]{1,256}\$[0-9a-f]{128}\Z")
MAX_HASH_BYTES = 256 * 1024 * 1024
_HOST = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])\Z")
# What the README and the documentation show in place of a secret.
PLACEHOLDERS = frozenset({"REPLACE-WITH-AT-LEAST-32-RANDOM-BYTES", "scrypt:32768:8:1$SALT$DIGEST"})
_TOKEN = re.compile(r"[^:\s]{1,64}:(viewer|operator|admin):[0-9a-fA-F]{64}\Z")


class SourceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One Redis to monitor."""

    name: str
    url: str
    backends: tuple[str, ...] = ()  # which libraries to look for; empty = all
    prefixes: tuple[str, ...] = ()  # BullMQ key prefixes to read; empty = all that are found
    queues: tuple[str, ...] = ()  # globs of the queues to show; a name without * or ? is monitored before it exists
    broker_url: str | None = None  # Celery: the broker, if it is not `url`
    result_url: str | None = None  # Celery: the result backend, if it is not `url`
    redbeat_url: str | None = None  # Celery: where RedBeat stores its schedules, if not in the broker
    # Celery: the app's broker_transport_options of the same names, without the global_keyprefix. The hash exists only
    # while a worker holds messages, so a search could not find its name in time.
    unacked_key: str = "unacked"
    unacked_index_key: str = "unacked_index"


class UserSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user who can sign in."""

    name: str
    password_hash: str  # as `queuedeck hash-password` prints it
    role: Literal["viewer", "operator", "admin"] = "viewer"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a Queuedeck instance."""

    redis_url: str | None = None  # one source named "main"; [[sources]] names several
    sources: tuple[SourceSettings, ...] = ()
    store_url: str | None = None  # Redis for Queuedeck's own data; default: the first source
    # The prefix of all of Queuedeck's own keys: dashboards with different settings on one store need one each.
    store_prefix: str = DEFAULT_STORE_PREFIX
    auth: Literal["auto", "none"] = "auto"  # none: local users have full access, without signing in
    metrics_public: bool = False  # /metrics needs no token
    secret_key: str | None = None  # at least 32 bytes; required with users
    public_url: str | None = None  # base URL of the dashboard, used for links in notifications
    trusted_hosts: tuple[str, ...] = ()  # with users: the only Host names that are served, besides local ones
    secret_key_fallbacks: tuple[str, ...] = ()  # former secret keys, whose sessions stay valid
    # The proxies whose X-Forwarded-For, -Proto and -Host are trusted: their number, or their addresses.
    trusted_proxies: int | tuple[str, ...] = 0
    users: tuple[UserSettings, ...] = ()
    api_tokens: tuple[str, ...] = ()  # name:role:sha256hex
    read_only: bool = False  # disables every write action: their routes are not registered
    require_reason: bool = False  # requires a reason for every action
    bin_max_bytes: int = 64 * 1024 * 1024  # limit for the backups of deleted jobs that can be restored
    bulk_max_jobs: int = 100_000  # maximum jobs per bulk operation
    sample_interval_s: float = 2.0  # seconds between two samples, 0.5 to 300
    checker: Literal["auto", "off"] = "auto"  # auto: this process takes part in sampling; off: only reads
    dlq_queues: tuple[str, ...] = ("*dlq*", "*dead*letter*")
    alerts: Literal["on", "off"] = "on"  # off: rules are not evaluated and no notifications are sent
    rules: tuple[dict[str, Any], ...] = ()  # in addition to the default rules; checked in dashboard.alerts
    channels: tuple[dict[str, Any], ...] = ()  # notification channels; checked in dashboard.alerts
    allow_private_webhooks: bool = False  # allows notifications to http:// URLs and to addresses of private networks
    ping_url: str | None = None  # pinged every minute while evaluation and delivery work: a dead man's switch
    spool_dir: str | None = None  # folder for alerts about the store itself; default: one in /tmp for this user

    def effective_sources(self) -> tuple[SourceSettings, ...]:
        """The sources to monitor, at least one: [[sources]], else `redis_url`, else the Redis on this machine."""
        if self.sources:
            return self.sources
        return (SourceSettings(name="main", url=self.redis_url or DEFAULT_REDIS_URL),)


_STRUCTURED = frozenset({"sources", "users", "rules", "channels"})
# QUEUEDECK_SECRET_KEY_FILE names a file with the value of QUEUEDECK_SECRET_KEY; no setting's name ends like this.
_FROM_FILE = "_file"
_LISTS = frozenset({"api_tokens", "dlq_queues", "trusted_hosts", "secret_key_fallbacks"})


def load(
    *,
    config: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    keywords: Mapping[str, Any] | None = None,
) -> Settings:
    """Load the settings of this process. `config`: the path of a TOML file; default `QUEUEDECK_CONFIG`, else no file.

    Raises ConfigurationError with one line.
    """
    env = os.environ if environ is None else environ
    path = config or env.get(f"{ENV_PREFIX}CONFIG")
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    layers: list[tuple[Mapping[str, Any], Callable[[str], str]]] = []
    if path:
        read = _read_toml(Path(path))
        written = {name: substitute(value, env, f"{path}: {name[:64]}") for name, value in read.items()}
        layers.append((written, lambda name: f"{path}: {name}"))
    layers.append((_read_environment(env), lambda name: f"environment: {ENV_PREFIX}{name.upper()}"))
    layers.append((keywords or {}, lambda name: f"keyword {name}"))
    for layer, where in layers:
        for name, value in layer.items():
            if name not in Settings.__struct_fields__:
                raise ConfigurationError(f"{where(name)}: unknown setting{_suggestion(name)}")
            values[name], origin[name] = value, where(name)
        if "redis_url" in layer and "sources" in layer:
            raise ConfigurationError(f"{where('redis_url')}: expected either redis_url or sources, not both")
        # If one layer sets redis_url and a later one sets sources, or the other way round, the later one wins.
        if "redis_url" in layer:
            values.pop("sources", None)
        if "sources" in layer:
            values.pop("redis_url", None)
    for name, value in values.items():
        values[name] = _convert(name, value, origin[name])
    settings = Settings(**values)
    _check(settings, origin)
    return settings


def redact_url(url: str) -> str:
    """`url` without user info and query, safe for logs and pages."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if ":" in host:
            host = f"[{host}]"
        netloc = f"{host}:{parts.port}" if parts.port else host
    except ValueError:
        return "(unreadable URL)"
    return f"{parts.scheme}://{netloc}{parts.path}"


def _suggestion(name: str) -> str:
    close = close_name(name, Settings.__struct_fields__)
    return f": did you mean {close}?" if close else f"; valid settings are {', '.join(Settings.__struct_fields__)}"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as exc:
        raise ConfigurationError(f"{path}: cannot be read: {exc.strerror or exc}") from None
    except RecursionError:
        raise ConfigurationError(f"{path}: not valid TOML: nested too deeply") from None
    except ValueError as exc:  # TOMLDecodeError, UnicodeDecodeError, or a number with thousands of digits
        raise ConfigurationError(f"{path}: not valid TOML: {exc}") from None


def _read_environment(env: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, text in env.items():
        if not key.startswith(ENV_PREFIX) or key == f"{ENV_PREFIX}CONFIG":
            continue
        if any("\ud800" <= character <= "\udfff" for character in f"{key}{text}"):
            raise ConfigurationError(f"environment: {ascii(key)[1:-1]}: expected UTF-8")
        name = key.removeprefix(ENV_PREFIX).lower()
        if name.endswith(_FROM_FILE):
            name = name.removesuffix(_FROM_FILE)
            if key.removesuffix(_FROM_FILE.upper()) in env:
                raise ConfigurationError(
                    f"environment: {key}: expected either this or {ENV_PREFIX}{name.upper()}, not both"
                )
            text = read_secret(text, f"environment: {key}")
        if name in _LISTS:
            values[name] = [part.strip() for part in text.split(",") if part.strip()]
        elif name == "trusted_proxies":
            values[name] = text if text.isdecimal() else [part.strip() for part in text.split(",") if part.strip()]
        elif name in _STRUCTURED:
            try:
                values[name] = msgspec.json.decode(text)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                raise ConfigurationError(f"environment: {key}: expected a JSON array of objects") from None
        else:
            values[name] = text
    return values


def _convert(name: str, value: Any, where: str) -> Any:
    """`value` converted to the type of the field `name`; text from the environment also to numbers and booleans."""
    if isinstance(value, Settings | SourceSettings):
        raise ConfigurationError(f"{where}: expected plain values")
    if name in ("sources", "users") and isinstance(value, list | tuple):
        value = [msgspec.to_builtins(item) if isinstance(item, msgspec.Struct) else item for item in value]
    try:
        return msgspec.convert(value, _field_types()[name], strict=False)
    except msgspec.ValidationError as exc:
        raise ConfigurationError(f"{where}: {_expected(_field_types()[name], str(exc))}") from None


def _expected(type_: Any, message: str) -> str:
    """What was expected, from msgspec's message without the value, which may be a secret."""
    if type_ is bool:
        return "expected true or false"
    choices = get_args(type_) if get_origin(type_) is Literal else ()
    if choices:
        return f"expected {' or '.join(repr(choice).replace(chr(39), chr(34)) for choice in choices)}"
    if message.startswith("Invalid enum value"):
        _, _, place = message.rpartition(" - ")
        return f"unknown value {place}"
    return message[:1].lower() + message[1:]


@functools.cache
def _field_types() -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(Settings)}


def _check(settings: Settings, origin: Mapping[str, str]) -> None:
    def where(name: str) -> str:
        return origin.get(name, name)

    def fail(name: str, expected: str) -> ConfigurationError:
        return ConfigurationError(f"{where(name)}: {expected}")

    if not 0.5 <= settings.sample_interval_s <= 300:
        raise fail("sample_interval_s", "expected 0.5 to 300 seconds")
    _check_store_prefix(settings.store_prefix, where("store_prefix"))
    _check_secret_key(settings, where("secret_key"))
    if settings.auth == "none" and settings.users:
        raise fail("auth", 'expected "auto" with users: "none" gives anyone on this machine access')
    if settings.public_url is not None and not _is_web_url(settings.public_url):
        raise fail("public_url", "expected an http:// or https:// URL with a host")
    if settings.ping_url is not None and not _is_web_url(settings.ping_url):
        raise fail("ping_url", "expected an https:// URL with a host")
    if settings.spool_dir is not None and (not settings.spool_dir or "\0" in settings.spool_dir):
        raise fail("spool_dir", "expected the path of a directory")
    if settings.redis_url is None and not settings.sources and "sources" in origin:
        raise fail("sources", "expected at least one source; leave the setting out to use redis_url")
    if not all(_TOKEN.match(token) for token in settings.api_tokens):
        raise fail("api_tokens", "expected name:role:sha256hex with role viewer, operator or admin")
    if not all(_HOST.match(host) for host in settings.trusted_hosts):
        raise fail("trusted_hosts", "expected host names such as queues.example.com, without https://, port or *")
    _check_proxies(settings, where("trusted_proxies"))
    if not all(is_glob(glob) for glob in settings.dlq_queues):
        raise fail("dlq_queues", f"expected {EXPECTED}")
    if any(len(key.encode()) < 32 for key in settings.secret_key_fallbacks):
        raise fail("secret_key_fallbacks", "expected keys of at least 32 bytes")
    if not 0 <= settings.bin_max_bytes <= MAX_BIN_BYTES:
        raise fail("bin_max_bytes", f"expected 0 to {MAX_BIN_BYTES} bytes")
    if not 1 <= settings.bulk_max_jobs <= 1_000_000:
        raise fail("bulk_max_jobs", "expected a number from 1 to 1000000")
    _check_users(settings, where("users"))
    for name in ("redis_url", "store_url"):
        url = getattr(settings, name)
        if url is not None:
            _check_url(url, where(name))
    _check_sources(settings, where("sources"))


def _check_store_prefix(store_prefix: str, where: str) -> None:
    if not _STORE_PREFIX.match(store_prefix):
        word = "".join(_PREFIX_PART.findall(store_prefix))[:40] or "team"
        raise ConfigurationError(
            f'{where}: expected letters, digits, ".", "_" and "-", with one part in braces, such as "{{{word}}}", '
            "which keeps all keys in one cluster slot"
        )


def _check_secret_key(settings: Settings, where: str) -> None:
    if settings.secret_key is not None and len(settings.secret_key.encode()) < 32:
        raise ConfigurationError(f"{where}: expected at least 32 bytes of secret text")
    if PLACEHOLDERS & {settings.secret_key, *settings.secret_key_fallbacks}:
        raise ConfigurationError(f"{where}: expected your own secret, not the example from the README")


def _is_web_url(url: str) -> bool:
    """Whether `url` is an http:// or https:// URL with a host and a possible port."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:
        return False


def _check_proxies(settings: Settings, where: str) -> None:
    proxies = settings.trusted_proxies
    if isinstance(proxies, int):
        if not 0 <= proxies <= MAX_PROXIES:
            raise ConfigurationError(f"{where}: expected a number of proxies from 0 to {MAX_PROXIES}")
        return
    try:
        parse_networks(proxies)
    except ValueError:
        raise ConfigurationError(f"{where}: expected a number, or addresses or networks such as 10.0.0.0/8") from None


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
        for field in ("url", "broker_url", "result_url", "redbeat_url"):
            url = getattr(source, field)
            if url is not None:
                _check_url(url, f"{at}: {field}")
        for field in ("unacked_key", "unacked_index_key"):
            if not 0 < len(getattr(source, field)) <= KEY_LIMIT:
                raise ConfigurationError(f"{at}: {field}: expected a key name of 1 to {KEY_LIMIT} characters")
        for glob in source.queues:
            if not is_glob(glob):
                raise ConfigurationError(f"{at}: queues: expected {EXPECTED}")
        if not all(source.prefixes):
            raise ConfigurationError(f"{at}: prefixes: expected no empty prefix; leave the setting out to find all")


def _check_url(url: str, where: str) -> None:
    expected = "expected redis://, rediss:// or unix:// with host and port, such as redis://127.0.0.1:6379/0"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ConfigurationError(f"{where}: {expected}") from None
    for word, hint in (
        ("sentinel", "Redis Sentinel is not supported yet: use the address of the primary"),
        ("cluster", "Redis Cluster is not supported yet"),
    ):
        if word in parts.scheme:
            raise ConfigurationError(f"{where}: {hint}; {expected}")
    if not url.isprintable() or parts.scheme not in URL_SCHEMES or (parts.scheme == "unix" and not parts.path):
        raise ConfigurationError(f"{where}: {expected}")
    _check_options(parts.scheme, parts.query, where)
    if parts.scheme != "unix":
        if not parts.hostname:
            raise ConfigurationError(f"{where}: {expected}")
        database = parts.path.strip("/")
        if database and not _is_database(database):
            raise ConfigurationError(f"{where}: expected a database number after the port, such as /0")


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
        if name == "ssl_check_hostname" and value.lower() not in ("true", "false"):
            raise ConfigurationError(f"{where}: ssl_check_hostname: expected true or false")
