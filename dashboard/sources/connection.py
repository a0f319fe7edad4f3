"""Connections to Redis: what a URL asks for, and when they are made anew."""

from __future__ import annotations

import re
from typing import Any

import redis
from redis.connection import parse_url
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError

from ..clock import monotonic_s
from ..settings import CERT_REQS

# A server that takes no writes may be a former primary behind a name or an address that leads elsewhere by now. Its
# connections are made anew after the first of these, then after twice as long each time.
RENEW_FIRST_S = 1.0
RENEW_MOST_S = 30.0
# What a replica says that takes no writes, or that has lost its primary and answers nothing.
_NO_PRIMARY = re.compile(
    r"(?:ERR )?(?:Error running script.{0,120}?)?(?:@user_script: ?\d+: )?-?(?:READONLY|MASTERDOWN)\b"
)


class Renewal:
    """When connections are made anew, so that a failover behind a name or an address is followed.

    Redis closes no connection when it becomes a replica, and a name that leads to another server closes none either.
    """

    def __init__(self) -> None:
        self._generation = 0
        self._wait_s = RENEW_FIRST_S
        self._due = 0.0  # monotonic
        self._role: str | None = None

    def note_connection(self, connection: Any) -> None:
        """A connection is being made."""
        connection.queuedeck_generation = self._generation

    def is_current(self, connection: Any) -> bool:
        """Whether it is one of those that may be used."""
        return bool(getattr(connection, "queuedeck_generation", self._generation) == self._generation)

    def note_refusal(self, exc: ResponseError) -> None:
        """Redis refused a command."""
        if isinstance(exc, ReadOnlyError | MasterDownError) or _NO_PRIMARY.match(str(exc)):
            self._drop_connections()

    def note_role(self, role: str | None) -> None:
        """The server says that it has this role."""
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
    """What a connection to `url` needs by its scheme and its options, those of the settings' URL_OPTIONS."""
    options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
    if options.get("connection_class") is not redis.UnixDomainSocketConnection:
        options["socket_keepalive"] = True
    verifies = CERT_REQS.get(str(options.pop("ssl_cert_reqs", "required")).lower(), "required")
    if options.get("connection_class") is redis.SSLConnection:
        options["ssl_cert_reqs"] = verifies
        if verifies == "none":
            options["ssl_check_hostname"] = False
    return options
