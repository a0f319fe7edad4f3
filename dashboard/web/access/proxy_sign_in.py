"""Sign-in by a reverse proxy such as oauth2-proxy: it sends in a header who has signed in there.

Anyone who can reach the dashboard without the proxy could send that header. So it counts only in requests whose peer is
one of the listed proxies, by the address of the connection, which no header can change.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ...auth import Identity, Role, parse_address, parse_networks
from ...errors import Forbidden
from ...settings import ProxySignInSettings
from ...settings.proxies import UNIX_SOCKET

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MAX_NAME = 200
MAX_GROUPS_BYTES = 64 * 1024
_SENT = "queuedeck.proxy_sign_in"  # in the environ: the two headers, if a listed proxy sent them
_PEER = "queuedeck.proxy_sign_in.peer"

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
        sent = tuple(inner.pop(key, None) if key else None for key in self._keys)
        inner[_PEER] = environ.get("REMOTE_ADDR", "")
        if self._is_listed(environ):
            inner[_SENT] = sent
        else:
            inner.pop(_SENT, None)
        return self._app(inner, start_response)

    def _is_listed(self, environ: WSGIEnvironment) -> bool:
        text = environ.get("REMOTE_ADDR", "")
        peer = parse_address(text)
        if peer is None:
            return not text and self._trusts_unix_socket
        return any(peer in network for network in self._networks)


class ProxySignIn:
    """Who has signed in at the proxy, and with which role."""

    def __init__(self, settings: ProxySignInSettings) -> None:
        self._settings = settings

    def identity(self, environ: WSGIEnvironment) -> Identity:
        """The user that the proxy named. Raises Forbidden, with what to do, for any other request."""
        sent = environ.get(_SENT)
        if sent is None:
            peer = environ.get(_PEER) or "a Unix socket"
            raise Forbidden(
                NOT_FROM_PROXY,
                hint=f"Open the address of the proxy. If {peer} is the proxy, add it to peers of proxy_sign_in.",
            )
        user, groups = sent
        if not user:
            raise Forbidden(NOT_SENT, hint=f"The proxy sent no {self._settings.user_header} header.")
        name = _read_name(user)
        role = self._role_of(name, _split_groups(groups or "", self._settings.groups_separator))
        if role is None:
            raise Forbidden(
                f"{name} has no role in Queuedeck.",
                hint="An administrator can add a role to user_roles or group_roles of proxy_sign_in.",
            )
        return Identity(name=name, role=role)

    def _role_of(self, name: str, groups: Iterable[str]) -> Role | None:
        """The highest of the roles of the user, of the groups and of everyone; None without any."""
        settings = self._settings
        named = [
            settings.default_role,
            settings.user_roles.get(name),
            *(settings.group_roles.get(group) for group in groups),
        ]
        return max((Role[role.upper()] for role in named if role is not None), default=None)


def find_user(environ: WSGIEnvironment) -> str | None:
    """The user that a listed proxy named, with a role or without; None if it named none that can be read."""
    user, _ = environ.get(_SENT, (None, None))
    try:
        return _read_name(user) if user else None
    except Forbidden:
        return None


def _wsgi_name(header: str | None) -> str | None:
    return None if header is None else f"HTTP_{header.upper().replace('-', '_')}"


def _read_name(sent: str) -> str:
    """The name of a user. Raises Forbidden for one that is too long, or can be several: repeated headers are joined."""
    name = _decode(sent).strip()
    if not name or len(name) > MAX_NAME or "," in name or not name.isprintable():
        raise Forbidden(
            UNREADABLE, hint=f"Expected one name of at most {MAX_NAME} printable characters, without a comma."
        )
    return name


def _split_groups(sent: str, separator: str) -> Iterable[str]:
    return (group.strip() for group in _decode(sent[:MAX_GROUPS_BYTES]).split(separator))


def _decode(sent: Any) -> str:
    """A header's text: WSGI passes its bytes as latin-1, proxies write UTF-8."""
    return str(sent).encode("latin-1", "replace").decode("utf-8", "replace")
