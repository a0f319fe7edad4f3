"""Who asks, and what they may: default closed to anything but this machine until access is configured."""

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
    """Somebody who is known: by a host's callback, an API token, or by sitting at this machine."""

    name: str
    role: Role = Role.VIEWER


Identify = Callable[[Mapping[str, Any]], Identity | None]

LOCAL = Identity(name="local", role=Role.ADMIN)
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
# Any of these says that somebody else stands behind the peer: a proxy on this machine must not open the door.
FORWARDING_HEADERS = (
    "HTTP_FORWARDED",
    "HTTP_VIA",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_SERVER",
    "HTTP_X_REAL_IP",
    "HTTP_CF_CONNECTING_IP",
    "HTTP_TRUE_CLIENT_IP",
)


def local_identity(environ: Mapping[str, Any], trusted_hosts: Iterable[str]) -> Identity | None:
    """LOCAL when the peer is this machine, asked under a local name, without a proxy; else None.

    The check of the Host name keeps a web page elsewhere from reaching a loopback dashboard by DNS rebinding.
    """
    try:
        peer = ipaddress.ip_address(environ.get("REMOTE_ADDR", ""))
    except ValueError:
        return None
    mapped = getattr(peer, "ipv4_mapped", None)
    if not (mapped or peer).is_loopback:
        return None
    if host_name(environ) not in LOCAL_HOSTS | set(trusted_hosts):
        return None
    return None if any(header in environ for header in FORWARDING_HEADERS) else LOCAL


def host_name(environ: Mapping[str, Any]) -> str:
    """The Host header without its port, in lower case; brackets of an IPv6 address stay."""
    host = str(environ.get("HTTP_HOST", "")).strip().lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


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
