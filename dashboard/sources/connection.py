"""Connections to Redis: the options of a URL, and when connections are renewed."""

from __future__ import annotations

import re
from typing import Any

import redis
from redis.connection import parse_url
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError

from ..clock import monotonic_s
from ..settings import CERT_REQS

# A server that refuses writes may be a former primary whose name or address now leads to another server. Its
# connections are renewed after the first of these times, then after twice as long each time, up to the second.
RENEW_FIRST_S = 1.0
RENEW_MOST_S = 30.0
# The errors of a replica that refuses writes, or that lost its primary and serves no data.
_NO_PRIMARY = re.compile(
    r"(?:ERR )?(?:Error running script.{0,120}?)?(?:@user_script: ?\d+: )?-?(?:READONLY|MASTERDOWN)\b"
)


class Renewal:
    """Decides when connections are renewed, so that they follow a failover behind a name or an address.

    Neither a Redis that becomes a replica nor a name that now leads to another server closes existing connections.
    """

    def __init__(self) -> None:
        self._generation = 0
        self._wait_s = RENEW_FIRST_S
        self._due = 0.0  # monotonic
        self._role: str | None = None

    def note_connection(self, connection: Any) -> None:
        """Record that a connection is being opened."""
        connection.queuedeck_generation = self._generation

    def is_current(self, connection: Any) -> bool:
        """Whether `connection` may still be used."""
        return bool(getattr(connection, "queuedeck_generation", self._generation) == self._generation)

    def note_refusal(self, exc: ResponseError) -> None:
        """Record that Redis refused a command."""
        if isinstance(exc, ReadOnlyError | MasterDownError) or _NO_PRIMARY.match(str(exc)):
            self._drop_connections()

    def note_role(self, role: str | None) -> None:
        """Record the role that the server reports."""
        if role == "slave" and self._role == "master":
            self._drop_connections()
        if role == "master":
            self._wait_s = RENEW_FIRST_S
        self._role = role

    def _drop_connections(self) -> None:
        now = monotonic_s()
        if now < self._due:
            return
        self._generation += 1
        self._due = now + self._wait_s
        self._wait_s = min(RENEW_MOST_S, 2 * self._wait_s)


def connection_options(url: str) -> dict[str, Any]:
    """The connection options for `url`, from its scheme and its query (see URL_OPTIONS in the settings)."""
    options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
    if options.get("connection_class") is not redis.UnixDomainSocketConnection:
        options["socket_keepalive"] = True
    verifies = CERT_REQS.get(str(options.pop("ssl_cert_reqs", "required")).lower(), "required")
    if options.get("connection_class") is redis.SSLConnection:
        options["ssl_cert_reqs"] = verifies
        if verifies == "none":
            options["ssl_check_hostname"] = False
    return options
