"""What the settings may say about reverse proxies: which are trusted, the path they serve, who signs in there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..auth import parse_networks

if TYPE_CHECKING:
    from .schema import ProxySignInSettings, Settings

MAX_PROXIES = 8
UNIX_SOCKET = "unix"  # among the peers of proxy_sign_in: those who connect through a unix socket
_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,63}){1,8}\Z")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}\Z")
# Headers that browsers send, or that say something else about a request.
_NOT_OF_USERS = {
    *("authorization", "connection", "content-length", "content-type", "cookie", "forwarded", "host", "origin"),
    *("referer", "user-agent", "x-forwarded-for", "x-forwarded-host", "x-forwarded-prefix", "x-forwarded-proto"),
    "x-real-ip",
}


def is_root_path(text: str) -> bool:
    """Whether `text` is a path such as /queues or /ops/queues."""
    return _PATH.match(text) is not None


def find_faults(settings: Settings) -> Iterator[tuple[str, str]]:
    """The invalid settings, and what was expected of each."""
    proxies = settings.trusted_proxies
    if isinstance(proxies, int):
        if not 0 <= proxies <= MAX_PROXIES:
            yield "trusted_proxies", f"expected a number of proxies from 0 to {MAX_PROXIES}"
    elif not _are_networks(proxies):
        yield "trusted_proxies", "expected a number, or addresses or networks such as 10.0.0.0/8"
    if settings.root_path is not None and not is_root_path(settings.root_path):
        yield "root_path", "expected a path such as /queues, without a slash at its end"
    if settings.proxy_sign_in is not None:
        if settings.users:
            yield "proxy_sign_in", "expected either users or proxy_sign_in, not both"
        if settings.auth == "none":
            yield "auth", 'expected "auto" with proxy_sign_in: "none" gives anyone on this machine access'
        for field, expected in _faults_of_sign_in(settings.proxy_sign_in):
            yield "proxy_sign_in", f"{field}: {expected}"


def _faults_of_sign_in(sign_in: ProxySignInSettings) -> Iterator[tuple[str, str]]:
    peers = tuple(peer for peer in sign_in.peers if peer != UNIX_SOCKET)
    if not sign_in.peers or not _are_networks(peers):
        yield "peers", f'expected the addresses or networks of the proxies, or "{UNIX_SOCKET}"'
    elif any(network.prefixlen == 0 for network in parse_networks(peers)):
        yield "peers", "expected the addresses of the proxies, not every address: anyone could sign in as anyone"
    for field in ("user_header", "groups_header"):
        header = getattr(sign_in, field)
        if header is not None and (not _HEADER.match(header) or header.lower() in _NOT_OF_USERS):
            yield field, "expected the name of a header that only the proxy sends, such as X-Forwarded-User"
    if sign_in.groups_header is not None and sign_in.groups_header.lower() == sign_in.user_header.lower():
        yield "groups_header", "expected another header than user_header"
    if bool(sign_in.group_roles) != (sign_in.groups_header is not None):
        yield "group_roles", "expected both groups_header and group_roles, or neither"
    if len(sign_in.groups_separator) != 1:
        yield "groups_separator", "expected one character"
    if not (sign_in.user_roles or sign_in.group_roles or sign_in.default_role):
        yield "default_role", "expected user_roles, group_roles or default_role: without them, no one has access"
    if sign_in.sign_out_url is not None and not _is_link(sign_in.sign_out_url):
        yield "sign_out_url", "expected a path such as /oauth2/sign_out, or an http:// or https:// URL"


def _are_networks(texts: tuple[str, ...]) -> bool:
    try:
        parse_networks(texts)
    except ValueError:
        return False
    return True


def _is_link(url: str) -> bool:
    if not url.isprintable() or any(character in url for character in " \\"):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if parts.scheme:
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    return url.startswith("/") and not url.startswith("//")
