"""Connections to Redis: the options of a URL, when connections are renewed, and what is sent over them."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError
from redis.retry import Retry

from ..clock import monotonic_s
from ..settings.redis_urls import CERT_REQS
from ..settings.sentinel_urls import SentinelUrl, host_and_port, is_sentinel_url, parse_sentinel_url
from .failures import UNKNOWN_COMMAND, CommandMissing, NoPrimaryError, is_about_the_server
from .sentinels import EncryptedPrimaryConnection, PrimaryConnection, PrimaryPool, Sentinels
from .server_clock import ServerClock

CONNECT_TIMEOUT_S = 1.0
READ_TIMEOUT_S = 2.0
CLIENT_NAME = "queuedeck"
# A piece of a batch is sent when the one before is answered, or after this time if the server is further away. The
# server is then free for other clients for at least as long as a piece blocks it.
PIECE_EVERY_S = 0.005
# More than a web process has threads, so that no request waits for a connection, but still a limit for the server.
MAX_CONNECTIONS = 64

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
    """The connection options for `url`, from its scheme and its query (see URL_OPTIONS)."""
    options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
    if options.get("connection_class") is not redis.UnixDomainSocketConnection:
        options["socket_keepalive"] = True
    verifies = CERT_REQS.get(str(options.pop("ssl_cert_reqs", "required")).lower(), "required")
    if options.get("connection_class") is redis.SSLConnection:
        options["ssl_cert_reqs"] = verifies
        if verifies == "none":
            options["ssl_check_hostname"] = False
    return options


@dataclass(frozen=True, slots=True)
class PackedCommands:
    """Commands in wire format, how many they are, and whether a script that may write is among them."""

    wire: bytes
    count: int
    acts: bool = False


ASK_TIME = PackedCommands(b"*1\r\n$4\r\nTIME\r\n", 1)


class Connections:
    """The connections to one server, reused and renewed; sends commands over them and reads the replies."""

    def __init__(self, url: str, clock: ServerClock) -> None:
        """`clock`: set by each new connection."""
        self.renewal = Renewal()
        self.sentinels: Sentinels | None = None
        self._clock = clock
        options: dict[str, Any] = {
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_timeout": READ_TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),
            "redis_connect_func": self._introduce_connection,
            "decode_responses": False,
            "max_connections": MAX_CONNECTIONS,
            "protocol": 2,  # one reply shape on every server version
        }
        self._pool = (
            self._follow_sentinels(parse_sentinel_url(url), options)
            if is_sentinel_url(url)
            else redis.ConnectionPool(**options, **connection_options(url))
        )

    def _follow_sentinels(self, url: SentinelUrl, options: dict[str, Any]) -> redis.ConnectionPool:
        """A pool of connections to the primary that the Sentinels name."""
        self.sentinels = Sentinels(url, _options_without_host(url.sentinel_server))
        server = _options_without_host(url.server)
        encrypted = server.pop("connection_class", None) is redis.SSLConnection
        kind = EncryptedPrimaryConnection if encrypted else PrimaryConnection
        # Its constructor has no type annotations.
        pool: type[Any] = PrimaryPool
        return cast(redis.ConnectionPool, pool(url.service, self.sentinels, connection_class=kind, **options, **server))

    @property
    def primary(self) -> str | None:
        """host:port of the primary that the Sentinels named last; None if there are none, or before they answered."""
        found = self.sentinels.primary if self.sentinels is not None else None
        return None if found is None else host_and_port(*found)

    def is_to_primary(self, connection: Any) -> bool:
        """Whether `connection` leads to the server that the Sentinels named last; True if there are none."""
        return self.sentinels is None or (connection.host, connection.port) == self.sentinels.primary

    @property
    def database(self) -> int:
        """The database number in the URL."""
        return int(self._pool.connection_kwargs.get("db") or 0)

    def open(self) -> None:
        """Open a connection if none is idle."""
        self._pool.release(self._pool.get_connection())

    def close(self) -> None:
        """Close all connections; new ones can be opened afterwards."""
        self._pool.disconnect()
        if self.sentinels is not None:
            self.sentinels.close()

    def client(self) -> redis.Redis:
        """A redis-py client that uses these connections."""
        return redis.Redis(connection_pool=self._pool)

    def exchange(self, pieces: Sequence[PackedCommands]) -> tuple[list[Any], int]:
        """(the replies, how many round trips were made one after the other).

        A refused command has its ResponseError in place of a reply. Raises redis.RedisError and OSError.
        """
        if self.sentinels is not None:
            self.sentinels.follow_primary(at_once=any(piece.acts for piece in pieces))
        connection = self._pool.get_connection()
        clean = False
        try:
            if not self.renewal.is_current(connection) or not self.is_to_primary(connection):
                connection.disconnect()  # type: ignore[no-untyped-call]
                connection.connect()  # type: ignore[no-untyped-call] # not left to sending, which knows no Sentinels
            replies: list[Any] = []
            awaited, trips = 0, 1
            for piece in pieces:
                connection.send_packed_command([piece.wire], check_health=False)  # type: ignore[no-untyped-call]
                awaited += piece.count
                if piece is not pieces[-1]:
                    next_at = time.perf_counter() + PIECE_EVERY_S
                    while len(replies) < awaited and connection.can_read(max(0.0, next_at - time.perf_counter())):
                        self._read_replies(connection, replies)
                    trips += len(replies) == awaited
            while len(replies) < awaited:
                self._read_replies(connection, replies)
            clean = True
            return replies, trips
        finally:
            if not clean:
                # The rest of half-read replies would be taken for the replies to the next commands.
                connection.disconnect()  # type: ignore[no-untyped-call]
            self._pool.release(connection)

    def _read_replies(self, connection: Any, replies: list[Any]) -> None:
        try:
            replies.append(connection.read_response())
        except ResponseError as exc:
            self.renewal.note_refusal(exc)
            if is_about_the_server(exc):
                raise
            unknown = UNKNOWN_COMMAND.match(str(exc))
            replies.append(CommandMissing(unknown.group(1)) if unknown else exc)

    def _introduce_connection(self, connection: Any) -> None:
        """Handshake of a new connection: sets our name for CLIENT LIST and reads the time of the server.

        A user who is allowed neither can still read.
        """
        self.renewal.note_connection(connection)
        connection.on_connect()
        if self.sentinels is not None:
            self._check_primary(connection, self.sentinels)
        connection.send_command("CLIENT", "SETNAME", CLIENT_NAME, check_health=False)
        connection.send_packed_command([ASK_TIME.wire], check_health=False)
        with contextlib.suppress(ResponseError):
            connection.read_response()
        with contextlib.suppress(ResponseError):
            self._clock.note_time(connection.read_response())

    def _check_primary(self, connection: Any, sentinels: Sentinels) -> None:
        """Raise NoPrimaryError if the server is a replica: a Sentinel that missed a failover still names it.

        A user who is not allowed to ask can still read.
        """
        connection.send_command("ROLE", check_health=False)
        try:
            role = connection.read_response()
        except ResponseError:
            return
        if isinstance(role, list) and role and role[0] != b"master":
            sentinels.distrust_first()
            raise NoPrimaryError(
                "readonly",
                f"{host_and_port(connection.host, connection.port)} is a replica, but was named as the primary of "
                f"{sentinels.service}",
                "This is normal for seconds during a failover. If it lasts, compare what the Sentinels report.",
            )


def _options_without_host(url: str) -> dict[str, Any]:
    options = connection_options(url)
    return {name: value for name, value in options.items() if name not in ("host", "port")}
