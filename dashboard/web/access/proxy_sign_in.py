"""Sign-in by a reverse proxy such as oauth2-proxy, which sends the name of the user in a header.

Anyone who can reach the dashboard without the proxy could send that header. So it counts only in requests whose peer is
one of the listed proxies, by the address of the connection, which no header can change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...auth import LOCAL_HOSTS, Identity, Role, highest_role, host_name, parse_address, parse_networks
from ...errors import Forbidden
from ...rights.assignment import NO_GRANTS, RightsAssignment
from ...settings import ProxySignInSettings
from ...settings.proxies import UNIX_SOCKET
from .user_names import MAX_NAME, is_user_name

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MAX_GROUPS_BYTES = 64 * 1024
_SENT = "queuedeck.proxy_sign_in"  # in the environ
_PROXY_FIX = "werkzeug.proxy_fix.orig"  # in the environ: ProxyFix has replaced the address

NOT_FROM_PROXY = "Sign-in is at the proxy in front of this dashboard; this request did not come from it."
NOT_SENT = "You are not signed in."
UNREADABLE = "The proxy sent a user name that cannot be read."


class ProxyHeaders:
    """WSGI middleware: removes the headers from every request, and keeps those of a listed proxy for `identity`.

    It has to be outside of whatever replaces REMOTE_ADDR by the address of the client.
    """

    def __init__(self, app: WSGIApplication, settings: ProxySignInSettings) -> None:
        self._app = app
        self._networks = parse_networks(peer for peer in settings.peers if peer != UNIX_SOCKET)
        self._trusts_unix_socket = UNIX_SOCKET in settings.peers
        self._keys = (_wsgi_name(settings.user_header), _wsgi_name(settings.groups_header))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        inner = dict(environ)
        user, groups = (inner.pop(key, None) if key else None for key in self._keys)
        address = environ.get("REMOTE_ADDR", "")
        is_replaced = _PROXY_FIX in environ
        inner[_SENT] = _Sent(
            user=user,
            groups=groups,
            peer=address,
            host=host_name(environ),
            is_replaced=is_replaced,
            is_listed=not is_replaced and self._is_listed(address),
        )
        return self._app(inner, start_response)

    def _is_listed(self, address: str) -> bool:
        peer = parse_address(address)
        if peer is None:
            return not address and self._trusts_unix_socket
        return any(peer in network for network in self._networks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """What arrived with a request, before anything else has changed it."""

    user: str | None
    groups: str | None
    peer: str  # the address of the connection; empty for a unix socket
    host: str
    is_replaced: bool  # something around the dashboard has replaced the address
    is_listed: bool


class ProxySignIn:
    """The users that the proxy names, and their roles."""

    def __init__(
        self, settings: ProxySignInSettings, hosts: frozenset[str], rights: RightsAssignment = NO_GRANTS
    ) -> None:
        """`hosts`: the names of the dashboard, besides local ones."""
        self._rights = rights
        self._settings = settings
        self._hosts = hosts | LOCAL_HOSTS

    def identity(self, environ: WSGIEnvironment) -> Identity:
        """The user that the proxy named. Raises Forbidden, with what to do, for any other request."""
        sent: _Sent = environ[_SENT]
        self._check_connection(sent)
        if not sent.user:
            raise Forbidden(NOT_SENT, hint=f"The proxy sent no {self._settings.user_header} header.")
        name = _read_name(sent.user)
        groups = tuple(_split_groups(sent.groups or "", self._settings.groups_separator))
        role = self._role_of(name, groups)
        if role is None and not self._rights.is_granted(name, groups):
            raise Forbidden(
                f"{name} has no role in Queuedeck.",
                hint="An administrator can add a role to user_roles or group_roles of proxy_sign_in.",
            )
        return Identity(name=name, role=role or Role.VIEWER, groups=self._rights.named_groups(groups))

    def _check_connection(self, sent: _Sent) -> None:
        """Raise Forbidden unless the headers are those of a listed proxy."""
        if sent.is_replaced:
            raise Forbidden(
                NOT_FROM_PROXY,
                hint="ProxyFix around the dashboard hides which address connected: use identify in that application.",
            )
        if not sent.is_listed:
            raise Forbidden(
                NOT_FROM_PROXY,
                hint="Open the address of the proxy. "
                f"If {sent.peer or 'a unix socket'} is the proxy, add it to peers of proxy_sign_in.",
            )
        # A web page in a browser on this machine can connect too, by DNS rebinding, but only under its own name.
        peer = parse_address(sent.peer)
        if peer is not None and peer.is_loopback and sent.host not in self._hosts:
            raise Forbidden(
                "Unknown host name.",
                hint="The proxy passes on the name that the browser asked for: add it to trusted_hosts.",
            )

    def _role_of(self, name: str, groups: Iterable[str]) -> Role | None:
        """The highest of the roles of the user, of the groups and of everyone; None without any."""
        settings = self._settings
        of_groups = (settings.group_roles.get(group) for group in groups)
        return highest_role((settings.default_role, settings.user_roles.get(name), *of_groups))


def find_user(environ: WSGIEnvironment) -> str | None:
    """The user that a listed proxy named, with a role or without; None if it named none that can be read."""
    sent: _Sent | None = environ.get(_SENT)
    try:
        return _read_name(sent.user) if sent is not None and sent.is_listed and sent.user else None
    except Forbidden:
        return None


def _wsgi_name(header: str | None) -> str | None:
    return None if header is None else f"HTTP_{header.upper().replace('-', '_')}"


def _read_name(sent: str) -> str:
    """The name of a user. Raises Forbidden for one that is too long, or can be several: repeated headers are joined."""
    name = _decode(sent).strip()
    if not is_user_name(name) or "," in name:
        raise Forbidden(
            UNREADABLE, hint=f"Expected one name of at most {MAX_NAME} printable characters, without a comma."
        )
    return name


def _split_groups(sent: str, separator: str) -> Iterable[str]:
    return (group.strip() for group in _decode(sent[:MAX_GROUPS_BYTES]).split(separator))


def _decode(sent: Any) -> str:
    """A header's text: WSGI passes its bytes as latin-1, proxies write UTF-8."""
    return str(sent).encode("latin-1", "replace").decode("utf-8", "replace")
