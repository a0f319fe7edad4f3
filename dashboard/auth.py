"""Who asks, and what they may.

An address is not a person: behind a reverse proxy on this machine everybody comes from 127.0.0.1. So nobody is let in
by where they come from, unless the settings say `auth = "none"`, and even then only who can be nobody else.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Role(IntEnum):
    """What a person may do; a higher one may all that a lower one may."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Somebody who is known: by a host's callback, a sign-in, a token, or by sitting at this machine."""

    name: str
    role: Role = Role.VIEWER


Identify = Callable[[Mapping[str, Any]], Identity | None]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOCAL = Identity(name="local", role=Role.ADMIN)
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
# Headers, as WSGI names them, that say that somebody else stands behind the peer. A proxy on this machine that sends
# one of them must not let anybody in; one that sends none cannot be told from a browser.
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
    """LOCAL when the peer is this machine, asked under a local name and by no proxy that can be told from a browser.

    For `auth = "none"` alone. The check of the Host name keeps a web page elsewhere from reaching a loopback dashboard
    by DNS rebinding; proxies that speak HTTP/1.0 to us, as nginx did before 1.29.7, are refused, and so is a browser
    that says it sees the dashboard under another name, as behind a proxy that changes Host alone.
    """
    peer = parse_address(environ.get("REMOTE_ADDR", ""))
    if peer is None or not peer.is_loopback or host_name(environ) not in LOCAL_HOSTS:
        return None
    if environ.get("SERVER_PROTOCOL") == "HTTP/1.0" or is_forwarded(environ) or _is_seen_elsewhere(environ):
        return None
    return LOCAL


def _is_seen_elsewhere(environ: Mapping[str, Any]) -> bool:
    """Whether Origin or Referer names another host. A link on a page elsewhere may lead here: browsers mark it."""
    named = [environ.get("HTTP_ORIGIN", "null")]
    if environ.get("HTTP_SEC_FETCH_SITE") not in ("cross-site", "same-site"):
        named.append(environ.get("HTTP_REFERER", "null"))
    hosts = (str(url).partition("://")[2].partition("/")[0] for url in named if url not in ("", "null"))
    return any(host_name({"HTTP_HOST": host}) not in LOCAL_HOSTS for host in hosts)


def parse_address(text: str) -> Address | None:
    """The address that `text` names, with or without a port; IPv4 within IPv6 as IPv4. None for anything else."""
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
    """The networks of addresses ("10.0.0.7") and networks ("10.0.0.0/8"). Raises ValueError."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def is_forwarded(environ: Mapping[str, Any]) -> bool:
    """Whether a header of the request says that a proxy sends it."""
    return any(map(_is_forwarding, environ))


def _is_forwarding(name: str) -> bool:
    return name.startswith(FORWARDING_PREFIXES) or (name.startswith("HTTP_") and name.endswith(FORWARDING_SUFFIX))


def host_name(environ: Mapping[str, Any]) -> str:
    """The Host header without its port, in lower case; brackets of an IPv6 address stay.

    As it stands where something else than a port follows: "localhost:1@evil.example" is not localhost.
    """
    host = str(environ.get("HTTP_HOST", "")).strip().lower()
    name, sign, port = host.rpartition(":")
    return name if sign and (port == "" or (port.isascii() and port.isdigit())) else host


def token_identity(environ: Mapping[str, Any], tokens: Iterable[str]) -> Identity | None:
    """The identity of the bearer token that the request carries; None without one or with an unknown one.

    `tokens` are `name:role:sha256hex`; the token itself is stored nowhere.
    """
    scheme, _, token = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        return None
    digest = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).hexdigest()
    found = None
    for entry in tokens:
        name, role, expected = entry.split(":")
        if hmac.compare_digest(expected.lower(), digest):
            found = Identity(name=name, role=Role[role.upper()])
    return found
