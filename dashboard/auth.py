"""Identities and roles: who sends a request, and what they are allowed to do.

An address does not identify a user: behind a reverse proxy on this machine every request comes from 127.0.0.1. So no
request is trusted because of its address unless the settings say `auth = "none"`, and even then only a request that
cannot have come through a detectable proxy.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from .errors import ConfigurationError
from .rights.grants import Grant, are_texts


class Role(IntEnum):
    """What a user is allowed to do; higher roles include lower ones."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


def highest_role(names: Iterable[str | None]) -> Role | None:
    """The highest of the roles with these names; None if none is named."""
    return max((Role[name.upper()] for name in names if name is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A known user: identified by the host app's callback, a sign-in, a token, or as a local user of this machine."""

    name: str
    role: Role = Role.VIEWER
    groups: tuple[str, ...] = ()  # that [[grants]] can name
    # Of this user alone, in place of the role viewer or operator: () gives no rights. None: the role decides, and the
    # grants of the settings.
    grants: tuple[Grant, ...] | None = None
    is_token: bool = False  # a program with an API token, rather than a person
    created_by: str | None = None  # who created that token; None for a token of the settings, and for a person

    def __post_init__(self) -> None:
        """Raises ConfigurationError for groups and grants of another kind."""
        if not are_texts(self.groups):
            raise ConfigurationError("Identity: groups: expected a tuple of names")
        object.__setattr__(self, "groups", tuple(self.groups))
        if self.grants is None:
            return
        if not all(isinstance(grant, Grant) for grant in self.grants):
            raise ConfigurationError("Identity: grants: expected a tuple of Grant")
        object.__setattr__(self, "grants", tuple(self.grants))


Identify = Callable[[Mapping[str, Any]], Identity | None]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOCAL = Identity(name="local", role=Role.ADMIN)
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
# Headers, as WSGI names them, that show that the peer is a proxy. A local proxy that sends one of them must not let its
# clients in as local users; one that sends none cannot be distinguished from a browser.
FORWARDING_PREFIXES = (
    *("HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_FORWARD", "HTTP_X_ORIGINAL", "HTTP_X_REAL", "HTTP_X_ENVOY"),
    *("HTTP_X_AMZN", "HTTP_X_AZURE", "HTTP_X_PROXY", "HTTP_X_REMOTE", "HTTP_X_CLUSTER", "HTTP_X_CLIENT", "HTTP_CF_"),
    *("HTTP_X_NGINX", "HTTP_X_SCHEME", "HTTP_X_HOST", "HTTP_X_URL_SCHEME", "HTTP_X_REWRITE", "HTTP_X_ARR_"),
    *("HTTP_X_VARNISH", "HTTP_X_AKAMAI", "HTTP_AKAMAI_", "HTTP_X_APPENGINE", "HTTP_X_CLOUD", "HTTP_X_VERCEL"),
    *("HTTP_X_SSL", "HTTP_SSL_", "HTTP_CLOUDFRONT_", "HTTP_FASTLY_", "HTTP_FLY_", "HTTP_TAILSCALE_", "HTTP_X_SUCURI"),
    *("HTTP_CDN_", "HTTP_CLIENT_", "HTTP_FRONT_END_", "HTTP_SURROGATE_", "HTTP_X_TRAEFIK", "HTTP_X_COMING_FROM"),
)
FORWARDING_SUFFIX = "_IP"  # X-Real-IP, True-Client-IP, Fastly-Client-IP …


def local_identity(environ: Mapping[str, Any]) -> Identity | None:
    """LOCAL if the peer is this machine, the Host is a local name, and no sign of a proxy is found; else None.

    Only for `auth = "none"`. The check of the Host keeps a web page elsewhere from reaching a loopback dashboard by DNS
    rebinding. Requests of HTTP/1.0 are refused because proxies send them, as nginx did before 1.29.7. So are requests
    whose Origin or Referer names another host, as behind a proxy that only changes the Host.
    """
    peer = parse_address(environ.get("REMOTE_ADDR", ""))
    if peer is None or not peer.is_loopback or host_name(environ) not in LOCAL_HOSTS:
        return None
    if environ.get("SERVER_PROTOCOL") == "HTTP/1.0" or is_forwarded(environ) or _is_seen_elsewhere(environ):
        return None
    return LOCAL


def _is_seen_elsewhere(environ: Mapping[str, Any]) -> bool:
    """Whether Origin or Referer names another host. A Referer from a link on another site is fine: browsers mark it."""
    named = [environ.get("HTTP_ORIGIN", "null")]
    if environ.get("HTTP_SEC_FETCH_SITE") not in ("cross-site", "same-site"):
        named.append(environ.get("HTTP_REFERER", "null"))
    hosts = (str(url).partition("://")[2].partition("/")[0] for url in named if url not in ("", "null"))
    return any(host_name({"HTTP_HOST": host}) not in LOCAL_HOSTS for host in hosts)


def parse_address(text: str) -> Address | None:
    """The address in `text`, with or without a port; IPv4-mapped IPv6 as IPv4. None if it is not an address."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Parse addresses ("10.0.0.7") and networks ("10.0.0.0/8") as networks. Raises ValueError."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def is_forwarded(environ: Mapping[str, Any]) -> bool:
    """Whether a header of the request shows that it came through a proxy."""
    return any(map(_is_forwarding, environ))


def _is_forwarding(name: str) -> bool:
    return name.startswith(FORWARDING_PREFIXES) or (name.startswith("HTTP_") and name.endswith(FORWARDING_SUFFIX))


def host_name(environ: Mapping[str, Any]) -> str:
    """The Host header without its port, in lower case; an IPv6 address keeps its brackets.

    Returned unchanged if what follows the colon is not a port: "localhost:1@evil.example" is not localhost.
    """
    host = str(environ.get("HTTP_HOST", "")).strip().lower()
    name, sign, port = host.rpartition(":")
    return name if sign and (port == "" or (port.isascii() and port.isdigit())) else host


def bearer_token(environ: Mapping[str, Any]) -> str | None:
    """The bearer token of the request; None without one."""
    scheme, _, token = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    return (token.strip() or None) if scheme.lower() == "bearer" else None


def token_identity(environ: Mapping[str, Any], tokens: Iterable[str]) -> Identity | None:
    """The identity of the request's bearer token; None if there is none or it is unknown.

    `tokens` are `name:role:sha256hex`; the token itself is not stored.
    """
    token = bearer_token(environ)
    if token is None:
        return None
    digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
    found = None
    for entry in tokens:
        name, role, expected = entry.split(":")
        if hmac.compare_digest(expected.lower(), digest):
            found = Identity(name=name, role=Role[role.upper()], is_token=True)
    return found
