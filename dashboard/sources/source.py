"""Connections to the Redis servers: explicit timeouts, no blind retries, one place that translates their errors.

A Source returns bytes; callers decode them. Every command that goes through a Source is counted, so that a page can
show its cost and a test can limit it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import hiredis
import redis
from msgspec.structs import replace
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from ..errors import BackendUnavailable, Forbidden
from ..model import ClusterNode, RedisHealth
from ..settings import DEFAULT_STORE_PREFIX
from ..settings.redis_urls import redact_url
from .connection import ASK_TIME, Connections, PackedCommands
from .failures import (
    REFUSING,
    SENTINEL,
    CommandMissing,
    NoPrimaryError,
    explain_failure,
    explain_forbidden,
    is_about_the_server,
    is_auth,
    is_forbidden,
    refusal_word,
)
from .info import info_fields, parse_info
from .metering import current_meter
from .request_timeouts import note_timeout, raise_if_timed_out
from .sentinels import Sentinels
from .server_clock import ServerClock

# A string of one byte with a TTL of one minute: writing it shows whether a server accepts writes.
PROBE = "{queuedeck}:probe"
PROBE_TTL_MS = 60_000
# Behind Sentinels, a primary that does not respond may be about to be replaced.
_MAY_FAIL_OVER = frozenset({"refused", "lost", "timeout", "readonly"})
_FAILING_OVER = (
    "The Sentinels may be choosing another primary. If this lasts, check whether this host can reach the address that "
    "they name."
)
_OWN = f"{DEFAULT_STORE_PREFIX}:"
_OWN_RAW = _OWN.encode()

Argument: TypeAlias = bytes | str | int | float
Command: TypeAlias = Sequence[Argument]
# Its type stub allows only one argument per command.
_pack: Callable[[tuple[Argument, ...]], bytes] = cast(Any, hiredis).pack_command
# A reply of Redis, in bytes; in a batch, the error of a command takes the place of its reply.
Reply: TypeAlias = Any


def text(raw: bytes) -> str:
    """Return `raw` as text that encodes back to exactly the same bytes (undecodable ones as surrogate escapes)."""
    return raw.decode("utf-8", "surrogateescape")


def raw_bytes(decoded: str) -> bytes:
    """The bytes that `text` decoded; the closest encoding of half a surrogate pair, which JSON can spell."""
    try:
        return decoded.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return decoded.encode("utf-8", "surrogatepass")


def wire_format(command: Command) -> bytes:
    """The command in wire format; text that is not UTF-8 is sent as the bytes that it was decoded from."""
    try:
        return _pack(tuple(command))
    except UnicodeEncodeError:
        exact = [raw_bytes(argument) if isinstance(argument, str) else argument for argument in command]
        return _pack(tuple(exact))


class Source:
    """One Redis, thread-safe. Opens no connection before the first command."""

    def __init__(self, name: str, url: str, prefix: str = DEFAULT_STORE_PREFIX) -> None:
        """`prefix`: replaces, on this source, the default prefix that all modules use for Queuedeck's own keys."""
        self.name = name
        self.prefix = prefix
        self.address = redact_url(url)
        # The fastest round trip so far: an estimate of the network latency in the others.
        self._way_s = float("inf")
        self._clock = ServerClock()
        self._connections = Connections(url, self._clock)
        self._sentinel: bool | None = None  # whether this server is a Sentinel; checked when a command is missing

    def __repr__(self) -> str:
        return f"Source({self.name!r}, {self.address!r})"

    @property
    def database(self) -> int:
        """The database number in the URL."""
        return self._connections.database

    @property
    def is_cluster(self) -> bool:
        """Whether this is a Redis Cluster, of which each node has a part of the keys."""
        return False

    @property
    def nodes(self) -> tuple[ClusterNode, ...]:
        """The primaries of a cluster, as `read_health` found them last; () for a single server."""
        return ()

    def slot_of(self, _key: Argument) -> int | None:
        """The hash slot of a key in a cluster; None if one server has all keys."""
        return None

    def keeps_together(self, _prefix: str) -> bool:
        """Whether one script can use all keys with a prefix: in a cluster it needs a hash tag for that."""
        return True

    def scan_shares(self, steps: int) -> list[tuple[int, int]]:
        """(cursor, how many steps) with which `steps` of SCAN show all parts of the key space alike."""
        return [(0, steps)]

    @property
    def primary(self) -> str | None:
        """host:port of the primary, as its Sentinels named it last; None for a server without Sentinels."""
        return self._connections.primary

    @property
    def sentinels(self) -> Sentinels | None:
        """The Sentinels of this server; None if its URL names none."""
        return self._connections.sentinels

    @property
    def sentinel_problem(self) -> str | None:
        """Why a failover would not be noticed, in one line; None if it would, or without Sentinels."""
        return self.sentinels.problem if self.sentinels is not None else None

    def _server_name(self) -> str:
        """The server in messages."""
        sentinels = self.sentinels
        return f"{self.primary} (primary of {sentinels.service})" if sentinels and self.primary else self.address

    def execute(self, *command: Argument) -> Reply:
        """The reply to one command, in bytes.

        Raises BackendUnavailable if the server cannot be reached, Forbidden if the Redis user is not allowed to run the
        command, redis.ResponseError if something is wrong with the command or its key. Cost: 1 round trip.
        """
        reply = self.run_batch([command])[0]
        self.check_reply(reply)
        return reply

    def check_reply(self, reply: Reply) -> None:
        """Raise Forbidden or redis.ResponseError, as `execute`, if `reply` (to a command of a batch) is an error."""
        if isinstance(reply, NoPermissionError):
            raise self.forbidden_error(reply) from reply
        if isinstance(reply, ResponseError):
            raise reply

    def run_batch(self, commands: Sequence[Command]) -> list[Reply]:
        """The replies to many commands, in order; a refused command has its ResponseError in place of a reply.

        Raises BackendUnavailable if the server cannot be reached. Cost: 1 round trip, none without commands.
        """
        return self.batch_in_pieces([commands])

    def batch_in_pieces(self, pieces: Sequence[Sequence[Command]]) -> list[Reply]:
        """As `run_batch`, for commands that each block the server for a while: the pieces are sent one after the other,
        and the server serves other clients in between. Cost: 1 round trip, and if that is fast 1 more for each further
        piece.
        """
        return self._run_pieces([packed for piece in pieces if (packed := self._pack_commands(piece)).count])

    def _pack_commands(self, commands: Sequence[Command]) -> PackedCommands:
        commands = self._with_own_prefix(commands)
        acts = self.sentinels is not None and any(command[0] == "EVAL" for command in commands)
        return PackedCommands(b"".join(map(wire_format, commands)), len(commands), acts)

    def _with_own_prefix(self, commands: Sequence[Command]) -> Sequence[Command]:
        if self.prefix == DEFAULT_STORE_PREFIX:
            return commands
        return [self._with_prefix(command) for command in commands]

    def own_key(self, name: Argument) -> Argument:
        """`name`; if it is one of Queuedeck's own keys, with the prefix of this source."""
        if isinstance(name, str) and name.startswith(_OWN):
            return f"{self.prefix}:{name[len(_OWN) :]}"
        if isinstance(name, bytes) and name.startswith(_OWN_RAW):
            return self.prefix.encode() + b":" + name[len(_OWN_RAW) :]
        return name

    def _with_prefix(self, command: Command) -> Command:
        """The command with Queuedeck's own keys under the prefix of this source; arguments that are not keys stay as
        they are.
        """
        if command[0] in ("EVAL", "EVAL_RO"):
            first, end = 3, 3 + int(command[2])
        elif command[0] in ("DEL", "UNLINK", "EXISTS", "MGET"):
            first, end = 1, len(command)
        else:
            first, end = 1, 2
        return (*command[:first], *(self.own_key(name) for name in command[first:end]), *command[end:])

    def _run_pieces(self, pieces: list[PackedCommands]) -> list[Reply]:
        if not pieces:
            return []
        commands, sent_bytes = sum(piece.count for piece in pieces), max(len(piece.wire) for piece in pieces)
        raise_if_timed_out(self.address, self.name)
        trips = 1
        asks = self._clock.is_due()
        started = time.perf_counter()
        try:
            # Not metered, like the handshake: it goes once a minute with whichever commands are sent then.
            replies, trips = self._connections.exchange([*pieces, ASK_TIME] if asks else pieces)
        except (RedisError, OSError) as exc:
            failure = self.unavailable_error(exc if isinstance(exc, RedisError) else RedisConnectionError(str(exc)))
            note_timeout(self.address, failure)
            raise failure from exc
        else:
            self._way_s = min(self._way_s, time.perf_counter() - started)
        finally:
            meter = current_meter()
            if meter is not None:
                meter.add(commands, time.perf_counter() - started, sent_bytes, trips * self._way_s, len(pieces))
        if asks:
            self._clock.note_time(replies.pop())
        self._check_all(replies)
        return replies

    def _check_all(self, replies: list[Reply]) -> None:
        """Raise BackendUnavailable if the replies show that the server, or the user, is not the right one."""
        if any(isinstance(reply, CommandMissing) for reply in replies):
            self._check_sentinel()
        if len(replies) == 1 and isinstance(replies[0], BusyLoadingError):
            raise self.unavailable_error(replies[0])
        first = replies[0]
        if isinstance(first, AuthenticationError | BusyLoadingError) or is_auth(first):
            raise self.unavailable_error(first)

    def run_transaction(self, work: Callable[[redis.Redis], Any]) -> Any:
        """The result of `work`, called with a redis-py client of this pool; errors are translated as in `execute`.

        For the few callers that need more than plain commands (scripts, pub/sub); not metered.
        """
        try:
            return work(self._connections.client())
        except NoPermissionError as exc:
            raise self.forbidden_error(exc) from exc
        except (RedisConnectionError, RedisTimeoutError) as exc:
            raise self.unavailable_error(exc) from exc
        except ResponseError as exc:
            if is_about_the_server(exc):
                raise self.unavailable_error(exc) from exc
            raise

    def is_to_primary(self, connection: Any) -> bool:
        """Whether a connection of `run_transaction` leads to the primary that Sentinels named last; True without any.

        A subscription does not show it: to a server that is no longer reachable it stays silent for hours.
        """
        return self._connections.is_to_primary(connection)

    def read_health(self, *, probe: bool = False) -> RedisHealth:
        """Version, memory, clients and counters of this server. Cost: 1 round trip (INFO, DBSIZE).

        With `probe`, also writes one of Queuedeck's own keys, to find out whether the server accepts writes.
        """
        commands: list[Command] = [("INFO",), ("DBSIZE",)]
        if probe:
            commands.append(("SET", PROBE, "1", "PX", PROBE_TTL_MS))
        info, keys, *rest = self.run_batch(commands)
        written = refusal_word(rest[0]) if rest else None
        if isinstance(info, ResponseError):
            return RedisHealth(write_probe=written)
        self._clock.note_info(info)
        self._check_kind(info_fields(info))
        health = parse_info(info, keys if isinstance(keys, int) else None)
        self._connections.renewal.note_role(health.role)
        return replace(health, write_probe=written) if probe else health

    def _check_sentinel(self) -> None:
        """Raise BackendUnavailable if commands are missing because the server is a Sentinel.

        Cost: none, or 1 round trip for the first missing command.
        """
        if self._sentinel is None:
            self._sentinel = False  # also if INFO is missing
            reply = self.run_batch([("INFO", "server")])[0]
            self._sentinel = isinstance(reply, bytes) and info_fields(reply).get("redis_mode") == "sentinel"
        if self._sentinel:
            raise self.unavailable_error(ResponseError(SENTINEL))

    def _check_kind(self, fields: Mapping[str, str]) -> None:
        """Raise BackendUnavailable for a Sentinel or a node of a cluster: part of the data must not be shown as if it
        were all. Cost: none, or 1 round trip in cluster mode.
        """
        if fields.get("redis_mode") == "sentinel":
            raise self.unavailable_error(ResponseError(SENTINEL))
        if fields.get("cluster_enabled") == "1":
            reply = self.run_batch([("CLUSTER", "INFO")])[0]
            cluster = info_fields(reply) if isinstance(reply, bytes) else {}
            if cluster.get("cluster_state") == "fail":
                raise self.unavailable_error(ClusterDownError(""))
            if cluster.get("cluster_size", "1") != "1":
                raise self.unavailable_error(ClusterCrossSlotError(""))

    def now_s(self) -> float:
        """Seconds since 1970 by the clock of this server, so that ages stay correct if this host's clock is off; by the
        clock of this host if the server's is unknown. Cost: none, or opening the first connection.
        """
        if self._clock.claim_first_reading():
            with contextlib.suppress(RedisError, OSError):
                self._connections.open()
        return self._clock.now_s()

    def check_writable(self, reply: Reply) -> None:
        """Raise BackendUnavailable if `reply` to a write, or a reply in it, shows that the server accepts none for now:
        it is out of memory, a replica, or cut off from its replicas or its disk. Nothing is wrong with the job then.
        """
        for found in (reply, *(reply if isinstance(reply, list) else ())):
            if isinstance(found, ResponseError):
                refused = found
            elif isinstance(found, bytes) and REFUSING.match(found[:300].decode("ascii", "replace")):
                refused = ResponseError(found[:300].decode("ascii", "replace"))  # an error that a script caught
            else:
                continue
            self._connections.renewal.note_refusal(refused)
            known = isinstance(refused, OutOfMemoryError | ReadOnlyError | BusyLoadingError)
            if known or REFUSING.match(str(refused)):
                raise self.unavailable_error(refused)

    def close(self) -> None:
        """Close all connections; the source can be used again afterwards."""
        self._connections.close()

    def unavailable_error(self, exc: Exception) -> BackendUnavailable:
        """The error to raise, with a message and a hint, for a failed connection to this server."""
        reason, message, hint = explain_failure(exc, self._server_name())
        if self.primary and reason in _MAY_FAIL_OVER and not isinstance(exc, NoPrimaryError):
            hint = _FAILING_OVER
        return BackendUnavailable(message, source=self.name, reason=reason, hint=hint)

    def refusal_error(self, exc: Exception) -> BackendUnavailable | Forbidden:
        """The error to raise for a refused command, also in a script: the user is not allowed, or the server cannot."""
        return self.forbidden_error(exc) if is_forbidden(exc) else self.unavailable_error(exc)

    def forbidden_error(self, exc: Exception) -> Forbidden:
        """The error to raise for a command that the ACL of the Redis user refuses, or that the server does not have."""
        message, hint = explain_forbidden(exc, self._server_name())
        return Forbidden(message, hint=hint)
