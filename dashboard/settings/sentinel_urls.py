"""URLs of Redis servers behind Sentinels: redis+sentinel://host:port,host:port/service/database."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

SENTINEL_SCHEMES = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
SENTINEL_PORT = 26379
MAX_SENTINELS = 32
# The options of a URL that concern the Sentinels; all others concern the Redis servers.
SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password", "sentinel_tls"})
_NETLOC = re.compile(r"[^/?#]*")
EXPECTED = (
    "expected redis+sentinel:// with the Sentinels and the name of the service, "
    "such as redis+sentinel://10.0.0.1:26379,10.0.0.2:26379/mymaster/0"
)


class SentinelUrl(NamedTuple):
    """The parts of a URL with Sentinels."""

    sentinels: tuple[tuple[str, int], ...]  # host and port
    service: str
    server: str  # redis:// or rediss:// URL with user, database and TLS options of the Redis servers; its host is none
    sentinel_server: str  # the same for the Sentinels

    @property
    def names(self) -> list[str]:
        """The Sentinels as host:port."""
        return [host_and_port(*sentinel) for sentinel in self.sentinels]


def is_sentinel_url(url: str) -> bool:
    """Whether `url` names Sentinels, not a Redis server."""
    return url.partition("://")[0] in SENTINEL_SCHEMES


def split_sentinel_url(url: str) -> tuple[str, SplitResult]:
    """(user and Sentinels, the other parts) of `url`.

    Newer versions of Python refuse several hosts of which one is an IPv6 address.
    """
    scheme, _, rest = url.partition("://")
    netloc = _NETLOC.match(rest)[0]  # type: ignore[index] # it matches any text
    return netloc, urlsplit(f"{scheme}://none{rest[len(netloc) :]}")


def host_and_port(host: str, port: int) -> str:
    """`host:port`, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_sentinel_url(url: str) -> SentinelUrl:
    """The parts of `url`. Raises ValueError, without its text, if it is not such a URL."""
    netloc, parts = split_sentinel_url(url)
    scheme = SENTINEL_SCHEMES[parts.scheme]
    user, at, hosts = netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    # An unencoded @ here is one in a password with an unencoded slash.
    is_service = unquote(service).strip() != "" and unquote(service).isprintable() and "@" not in service
    if not is_service or not (database == "" or _is_number(database)):
        raise ValueError(EXPECTED)
    options = parse_qsl(parts.query, keep_blank_values=True)
    own = {name: value for name, value in options if name in SENTINEL_OPTIONS}
    tls = [(name, value) for name, value in options if name.startswith("ssl_")]
    credentials = [(name, value) for name, value in options if name in ("username", "password")]
    own_user = user_info(own.get("sentinel_username", ""), own.get("sentinel_password", ""))
    own_tls = own.get("sentinel_tls", str(scheme == "rediss")).lower() == "true"
    query = urlencode(credentials + tls if scheme == "rediss" else credentials)
    server = f"{scheme}://{user}{at}none/{database}?{query}"
    try:
        urlsplit(server)
    except ValueError:
        raise ValueError(EXPECTED) from None  # its text may contain the password
    return SentinelUrl(
        tuple(parse_host(each) for each in hosts.split(",")),
        unquote(service),
        server,
        f"rediss://{own_user}none?{urlencode(tls)}" if own_tls else f"redis://{own_user}none",
    )


def build_sentinel_url(
    sentinels: Sequence[str],
    service: str,
    database: int,
    *,
    user: tuple[str | None, str | None],
    tls: bool,
    options: Mapping[str, str],
) -> str:
    """The URL of the primary of `service`. `user`: name and password; `options`: those after the `?`."""
    servers = user_info(user[0] or "", user[1] or "") + ",".join(sentinels)
    query = f"?{urlencode(options)}" if options else ""
    scheme = "rediss+sentinel" if tls else "redis+sentinel"
    return f"{scheme}://{servers}/{quote(service, safe='')}/{database}{query}"


def user_info(name: str, password: str) -> str:
    """The part of a URL before the host; "" without name and password."""
    return f"{quote(name, safe='')}:{quote(password, safe='')}@" if name or password else ""


def is_sentinel_host(text: str) -> bool:
    """Whether `text` is the host and port of a Sentinel; the port may be missing."""
    try:
        parse_host(text)
    except ValueError:
        return False
    return not set(text) & set("/@,?#%") and text.isprintable()


def parse_host(text: str, default_port: int = SENTINEL_PORT, expected: str = EXPECTED) -> tuple[str, int]:
    """(host, port) of `text`. Raises ValueError with `expected` if it is not host:port."""
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, str(default_port)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(expected)
    if not host or set(host) & set(" []@") or not _is_number(port) or not 0 < int(port) < 65536:
        raise ValueError(expected)
    return host, int(port)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 9
