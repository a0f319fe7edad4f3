"""Trusted proxies: their X-Forwarded-* headers become the address, scheme, host and path prefix of a request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ...auth import Address, Network, parse_address
from ...settings.proxies import is_root_path

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MAX_HOPS = 64  # of X-Forwarded-For that are read, nearest first


class TrustedProxies:
    """WSGI middleware. Trusts the last `count` hops, or all hops within `networks`, nearest first.

    Each proxy appends the address of its client to X-Forwarded-For; entries before the first untrusted hop can be
    forged. X-Forwarded-Proto, X-Forwarded-Host and X-Forwarded-Prefix are those of the nearest proxy.
    """

    def __init__(self, app: WSGIApplication, *, count: int = 0, networks: Sequence[Network] = ()) -> None:
        self._app = app
        self._count = count
        self._networks = networks

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        peer = parse_address(environ.get("REMOTE_ADDR", ""))
        # A client of a Unix socket has no address; the permissions of the socket control who can connect.
        is_local = not environ.get("REMOTE_ADDR")
        if self._count or is_local or (peer is not None and self._is_proxy(peer)):
            self._apply_headers(environ, peer)
        return self._app(environ, start_response)

    def _apply_headers(self, environ: WSGIEnvironment, peer: Address | None) -> None:
        hops = [part.strip() for part in environ.get("HTTP_X_FORWARDED_FOR", "").split(",")[-MAX_HOPS:]]
        asked_by = self._counted_hop(hops) if self._count else self._first_stranger(hops)
        if asked_by is not None:
            environ["REMOTE_ADDR"] = str(asked_by)
        elif peer is not None:
            environ["REMOTE_ADDR"] = str(peer)
        scheme = _last_value(environ, "HTTP_X_FORWARDED_PROTO").lower()
        if scheme in ("http", "https"):
            environ["wsgi.url_scheme"] = scheme
        host = _last_value(environ, "HTTP_X_FORWARDED_HOST")
        if host:
            environ["HTTP_HOST"] = host
        prefix = _last_value(environ, "HTTP_X_FORWARDED_PREFIX").rstrip("/")
        if is_root_path(prefix):
            _restore_prefix(environ, prefix)

    def _counted_hop(self, hops: Sequence[str]) -> Address | None:
        """The address of the client of the outermost trusted proxy; None if the header is too short."""
        return parse_address(hops[-self._count]) if len(hops) >= self._count else None

    def _first_stranger(self, hops: Sequence[str]) -> Address | None:
        """The nearest address that is not a trusted proxy, else the farthest; None if the nearest hop is no address."""
        found = None
        for hop in reversed(hops):
            address = parse_address(hop)
            if address is None:
                break
            found = address
            if not self._is_proxy(address):
                break
        return found

    def _is_proxy(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def _restore_prefix(environ: WSGIEnvironment, prefix: str) -> None:
    """Restore what the proxy removed from the path, unless the application that mounts this one has done so."""
    script = environ.get("SCRIPT_NAME", "")
    if not f"{script}/".startswith(f"{prefix}/"):
        environ["SCRIPT_NAME"] = prefix + script


def _last_value(environ: WSGIEnvironment, name: str) -> str:
    return str(environ.get(name, "")).rpartition(",")[2].strip()
