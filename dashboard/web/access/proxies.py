"""Who asks, behind proxies that the settings trust: their headers become the address, the scheme and the host."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ...auth import Address, Network, parse_address

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MAX_HOPS = 64  # of X-Forwarded-For that are looked at, from our side


class TrustedProxies:
    """WSGI middleware. Trusts the last `count` hops, or all hops within `networks`, the nearest first.

    Of X-Forwarded-For each proxy appends the one it was asked by; what stands before the first hop that is not trusted
    could be anybody's invention. X-Forwarded-Proto and X-Forwarded-Host are those of the nearest proxy.
    """

    def __init__(self, app: WSGIApplication, *, count: int = 0, networks: Sequence[Network] = ()) -> None:
        self._app = app
        self._count = count
        self._networks = networks

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        peer = parse_address(environ.get("REMOTE_ADDR", ""))
        # Who comes by a socket in the file system has no address, and was let to it by its rights.
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

    def _counted_hop(self, hops: Sequence[str]) -> Address | None:
        """The address that the outermost of the trusted proxies was asked by; None when the header is too short."""
        return parse_address(hops[-self._count]) if len(hops) >= self._count else None

    def _first_stranger(self, hops: Sequence[str]) -> Address | None:
        """The nearest address that is no trusted proxy, else the farthest; None when what comes first is no address."""
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


def _last_value(environ: WSGIEnvironment, name: str) -> str:
    return str(environ.get(name, "")).rpartition(",")[2].strip()
