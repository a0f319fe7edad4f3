"""What the settings may say about reverse proxies: which are trusted, the path they serve, who signs in there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..auth import Role, parse_networks

if TYPE_CHECKING:
    from .schema import GrantSettings, ProxySignInSettings, Settings

MAX_PROXIES = 8
UNIX_SOCKET = "unix"  # among the peers of proxy_sign_in: those who connect through a unix socket
_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,63}){1,8}\Z")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}\Z")
WIDEST = {4: 8, 6: 16}  # the shortest prefix of a network of proxies, by the version of IP
# Headers that browsers send, or that say something else about a request.
_NOT_OF_USERS = {
    *("authorization", "connection", "content-length", "content-type", "cookie", "forwarded", "host", "origin"),
    *("referer", "user-agent", "x-forwarded-for", "x-forwarded-host", "x-forwarded-prefix", "x-forwarded-proto"),
    "x-real-ip",
    "x-requested-with",
}
_OF_BROWSERS = ("accept", "hx-", "if-", "sec-")


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
    if settings.root_path and settings.public_url and not _ends_in(settings.public_url, settings.root_path):
        yield "public_url", f"expected a URL that ends in {settings.root_path}, the root_path"
    if settings.proxy_sign_in is not None:
        for other in ("users", "oidc"):
            if getattr(settings, other):
                yield "proxy_sign_in", f"expected either {other} or proxy_sign_in, not both"
        if settings.auth == "none":
            yield "auth", 'expected "auto" with proxy_sign_in: "none" gives anyone on this machine access'
        for field, expected in _faults_of_sign_in(settings.proxy_sign_in, settings.grants):
            yield "proxy_sign_in", f"{field}: {expected}"


def _faults_of_sign_in(sign_in: ProxySignInSettings, grants: tuple[GrantSettings, ...]) -> Iterator[tuple[str, str]]:
    of_groups, of_users = any(grant.groups for grant in grants), any(grant.users for grant in grants)
    yield from _faults_of_peers(sign_in.peers)
    for field in ("user_header", "groups_header"):
        header = getattr(sign_in, field)
        if header is not None and not _is_header_of_users(header):
            yield field, "expected the name of a header that only the proxy sends, such as X-Forwarded-User"
    if sign_in.groups_header is not None and sign_in.groups_header.lower() == sign_in.user_header.lower():
        yield "groups_header", "expected another header than user_header"
    if bool(sign_in.group_roles or of_groups) != (sign_in.groups_header is not None):
        yield "group_roles", "expected both groups_header and group_roles, or neither"
    if len(sign_in.groups_separator) != 1:
        yield "groups_separator", "expected one character"
    yield from faults_of_roles(user_roles=sign_in.user_roles, group_roles=sign_in.group_roles)
    if not (sign_in.user_roles or sign_in.group_roles or sign_in.default_role or of_groups or of_users):
        yield "default_role", "expected user_roles, group_roles or default_role: without them, no one has access"
    if sign_in.sign_out_url is not None and not _is_link(sign_in.sign_out_url):
        yield "sign_out_url", "expected a path such as /oauth2/sign_out, or an http:// or https:// URL without a user"


def faults_of_roles(**tables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The names in these tables whose value is not a role, each with the name of its table."""
    for field, roles in tables.items():
        for name, role in roles.items():
            if role not in {each.name.lower() for each in Role}:
                yield field, f'{name[:64]!r}: expected "viewer", "operator" or "admin"'


def _faults_of_peers(peers: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if not peers:
        yield "peers", f'expected the addresses or networks of the proxies, or "{UNIX_SOCKET}"'
    for peer in peers:
        if peer == UNIX_SOCKET:
            continue
        if not _are_networks((peer,)):
            yield "peers", f'{peer[:64]!r}: expected an address, a network such as 10.0.0.0/24, or "{UNIX_SOCKET}"'
        else:
            (network,) = parse_networks((peer,))
            if network.prefixlen < WIDEST[network.version]:
                yield "peers", f"{peer!r}: expected a network of proxies only, at most /{WIDEST[network.version]}"


def _is_header_of_users(header: str) -> bool:
    low = header.lower()
    return bool(_HEADER.match(header)) and low not in _NOT_OF_USERS and not low.startswith(_OF_BROWSERS)


def _ends_in(url: str, root_path: str) -> bool:
    return url.partition("?")[0].rstrip("/").endswith(root_path)


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
        return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    return url.startswith("/") and not url.startswith("//")
