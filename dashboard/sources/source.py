"""Connections to the Redis servers: explicit timeouts, no blind retries, one place that translates their errors.

A Source returns bytes; callers decode them. Every command that goes through a Source is counted, so that a page can
show its cost and a test can limit it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import hiredis
import redis
from msgspec.structs import replace
from redis.backoff import NoBackoff
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
from redis.retry import Retry

from ..clock import monotonic_s, now_s
from ..errors import BackendUnavailable, Forbidden
from ..model import RedisHealth
from ..settings import DEFAULT_STORE_PREFIX, redact_url
from .connection import Renewal, connection_options
from .failures import (
    REFUSING,
    SENTINEL,
    UNKNOWN_COMMAND,
    explain_failure,
    is_about_the_server,
    is_auth,
    is_forbidden,
    one_line,
    refusal_word,
)
from .info import SERVER_TIME, info_fields, parse_info

CONNECT_TIMEOUT_S = 1.0
READ_TIMEOUT_S = 2.0
CLIENT_NAME = "queuedeck"
# A string of one byte with a TTL of one minute: writing it shows whether a server accepts writes.
PROBE = "{queuedeck}:probe"
PROBE_TTL_MS = 60_000
_OWN = f"{DEFAULT_STORE_PREFIX}:"
_OWN_RAW = _OWN.encode()
# How many bytes Redis reads from a client at a time; it runs all commands in them before it serves another client:
# 16 KiB (PROTO_IOBUF_LEN) up to 6.2; since 7.0 what fits into the client's buffer, which grows to 64 KiB.
READ_BYTES = 64 * 1024
# A piece of a batch is sent when the one before is answered, or after this time if the server is further away. The
# server is then free for other clients for at least as long as a piece blocks it.
PIECE_EVERY_S = 0.005
# How long the time of a server is extrapolated with the clock of this host, which may run a little faster or slower.
CLOCK_CHECK_S = 60.0
# More than a web process has threads, so that no request waits for a connection, but still a limit for the server.
MAX_CONNECTIONS = 64

Argument: TypeAlias = bytes | str | int | float
Command: TypeAlias = Sequence[Argument]
# Its type stub allows only one argument per command.
_pack: Callable[[tuple[Argument, ...]], bytes] = cast(Any, hiredis).pack_command
# A reply of Redis, in bytes; in a batch, the error of a command takes the place of its reply.
Reply: TypeAlias = Any


def raw_bytes(text: str) -> bytes:
    """The bytes that `text` was decoded from; the closest encoding of half a surrogate pair, which JSON can spell."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _wire_format(command: Command) -> bytes:
    """The command in wire format; text that is not UTF-8 is sent as the bytes that it was decoded from."""
    try:
        return _pack(tuple(command))
    except UnicodeEncodeError:
        exact = [raw_bytes(argument) if isinstance(argument, str) else argument for argument in command]
        return _pack(tuple(exact))


@dataclass(slots=True)
class Meter:
    """The cost of an operation: commands and round trips sent to Redis, and the seconds spent waiting for it.

    `busy_s`: those seconds without network latency. `held_s`: the longest time for which one round trip is likely to
    have blocked the server for its other clients.
    """

    commands: int = 0
    round_trips: int = 0
    seconds: float = 0.0
    busy_s: float = 0.0
    held_s: float = 0.0

    def add(self, commands: int, seconds: float, sent_bytes: int, way_s: float = 0.0, pieces: int = 1) -> None:
        """Count one round trip, sent in pieces of at most `sent_bytes`; `way_s` of its time is network latency."""
        self.commands += commands
        self.round_trips += 1
        self.seconds += seconds
        # The server serves other clients between two reads from this one, but never within a command.
        at_once = min(1.0, max(1 / max(1, commands), min(1.0, READ_BYTES / max(1, sent_bytes)) / pieces))
        busy = max(0.0, seconds - way_s)
        self.busy_s += busy
        self.held_s = max(self.held_s, busy * at_once)


_meter: ContextVar[Meter | None] = ContextVar("queuedeck_meter", default=None)


@contextlib.contextmanager
def measure_cost() -> Iterator[Meter]:
    """A Meter that counts everything this thread sends to any source inside the block; an outer meter counts it too."""
    outer = _meter.get()
    meter = Meter()
    token = _meter.set(meter)
    try:
        yield meter
    finally:
        _meter.reset(token)
        if outer is not None:
            outer.commands += meter.commands
            outer.round_trips += meter.round_trips
            outer.seconds += meter.seconds
            outer.busy_s += meter.busy_s
            outer.held_s = max(outer.held_s, meter.held_s)


@dataclass(frozen=True, slots=True)
class Packed:
    """Commands in wire format, packed once and sent many times: packing is most of the cost of a large batch."""

    wire: bytes
    count: int


_ASK_TIME = Packed(b"*1\r\n$4\r\nTIME\r\n", 1)


class CommandMissing(NoPermissionError):
    """The server does not have a command: it was renamed or disabled, or the server is too old.

    Treated like a missing permission: whatever works without the command still works.
    """

    def __init__(self, command: str) -> None:
        super().__init__(f"unknown command '{command}': it was renamed or disabled on this server")


class Source:
    """One Redis, thread-safe. Opens no connection before the first command."""

    def __init__(self, name: str, url: str, prefix: str = DEFAULT_STORE_PREFIX) -> None:
        """`prefix`: replaces, on this source, the default prefix that all modules use for Queuedeck's own keys."""
        self.name = name
        self.prefix = prefix
        self.address = redact_url(url)
        # The fastest round trip so far: an estimate of the network latency in the others.
        self._way_s = float("inf")
        self._pool = redis.ConnectionPool(
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=READ_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=self._introduce_connection,
            decode_responses=False,
            max_connections=MAX_CONNECTIONS,
            protocol=2,  # one reply shape on every server version
            **connection_options(url),
        )
        self._connections = Renewal()
        self._clock: tuple[float, float] | None = None  # the server's time, and the monotonic time when it was read
        self._sentinel: bool | None = None  # whether this server is a Sentinel; checked when a command is missing
        self._clock_due = 0.0  # monotonic; when to read the time again, also if that is not permitted

    def __repr__(self) -> str:
        return f"Source({self.name!r}, {self.address!r})"

    @property
    def database(self) -> int:
        """The database number in the URL."""
        return int(self._pool.connection_kwargs.get("db") or 0)

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
        return self.run_packed(self.pack_commands(commands))

    def pack_commands(self, commands: Sequence[Command]) -> Packed:
        """`commands` in wire format for `run_packed`; callers reuse the result while the commands stay the same."""
        if self.prefix != DEFAULT_STORE_PREFIX:
            commands = [self._with_prefix(command) for command in commands]
        return Packed(b"".join(map(_wire_format, commands)), len(commands))

    def batch_in_pieces(self, pieces: Sequence[Sequence[Command]]) -> list[Reply]:
        """As `run_batch`, for commands that each block the server for a while: the pieces are sent one after the other,
        and the server serves other clients in between. Cost: 1 round trip, and if that is fast 1 more for each further
        piece.
        """
        return self._run_pieces([packed for piece in pieces if (packed := self.pack_commands(piece)).count])

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
        elif command[0] in ("DEL", "UNLINK", "EXISTS"):
            first, end = 1, len(command)
        else:
            first, end = 1, 2
        return (*command[:first], *(self.own_key(name) for name in command[first:end]), *command[end:])

    def run_packed(self, packed: Packed) -> list[Reply]:
        """The replies to packed commands; as `run_batch`."""
        return self._run_pieces([packed] if packed.count else [])

    def _run_pieces(self, pieces: list[Packed]) -> list[Reply]:
        if not pieces:
            return []
        commands, sent_bytes = sum(piece.count for piece in pieces), max(len(piece.wire) for piece in pieces)
        trips = 1
        asks = monotonic_s() >= self._clock_due and self._clock_due > 0
        started = time.perf_counter()
        try:
            # Not metered, like the handshake: it goes once a minute with whichever commands are sent then.
            replies, trips = self._exchange_pieces([*pieces, _ASK_TIME] if asks else pieces)
        except RedisError as exc:
            raise self.unavailable_error(exc) from exc
        except OSError as exc:
            raise self.unavailable_error(RedisConnectionError(str(exc))) from exc
        else:
            self._way_s = min(self._way_s, time.perf_counter() - started)
        finally:
            meter = _meter.get()
            if meter is not None:
                meter.add(commands, time.perf_counter() - started, sent_bytes, trips * self._way_s, len(pieces))
        if asks:
            self._note_time(replies.pop())
        if any(isinstance(reply, CommandMissing) for reply in replies):
            self._check_sentinel()
        if len(replies) == 1 and isinstance(replies[0], BusyLoadingError):
            raise self.unavailable_error(replies[0])
        first = replies[0]
        if isinstance(first, AuthenticationError | BusyLoadingError) or is_auth(first):
            raise self.unavailable_error(first)
        return replies

    def _exchange_pieces(self, pieces: Sequence[Packed]) -> tuple[list[Reply], int]:
        """(the replies, how many round trips were made one after the other)."""
        connection = self._pool.get_connection()
        if not self._connections.is_current(connection):
            connection.disconnect()  # type: ignore[no-untyped-call] # it reconnects when something is sent
        clean = False
        try:
            replies: list[Reply] = []
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

    def _read_replies(self, connection: Any, replies: list[Reply]) -> None:
        try:
            replies.append(connection.read_response())
        except ResponseError as exc:
            self._connections.note_refusal(exc)
            if is_about_the_server(exc):
                raise self.unavailable_error(exc) from exc
            unknown = UNKNOWN_COMMAND.match(str(exc))
            replies.append(CommandMissing(unknown.group(1)) if unknown else exc)

    def run_transaction(self, work: Callable[[redis.Redis], Any]) -> Any:
        """The result of `work`, called with a redis-py client of this pool; errors are translated as in `execute`.

        For the few callers that need more than plain commands (scripts, pub/sub); not metered.
        """
        try:
            return work(redis.Redis(connection_pool=self._pool))
        except NoPermissionError as exc:
            raise self.forbidden_error(exc) from exc
        except (RedisConnectionError, RedisTimeoutError) as exc:
            raise self.unavailable_error(exc) from exc
        except ResponseError as exc:
            if is_about_the_server(exc):
                raise self.unavailable_error(exc) from exc
            raise

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
        self._note_clock(info)
        self._check_kind(info_fields(info))
        health = parse_info(info, keys if isinstance(keys, int) else None)
        self._connections.note_role(health.role)
        return replace(health, write_probe=written) if probe else health

    def _check_sentinel(self) -> None:
        """Raise BackendUnavailable if commands are missing because the server is a Sentinel.

        Cost: none, or 1 round trip for the first missing command.
        """
        if self._sentinel is None:
            self._sentinel = False  # also if INFO is missing
            told = self.run_batch([("INFO", "server")])[0]
            self._sentinel = isinstance(told, bytes) and info_fields(told).get("redis_mode") == "sentinel"
        if self._sentinel:
            raise self.unavailable_error(ResponseError(SENTINEL))

    def _check_kind(self, fields: Mapping[str, str]) -> None:
        """Raise BackendUnavailable for a Sentinel or a node of a cluster: part of the data must not be shown as if it
        were all. Cost: none, or 1 round trip in cluster mode.
        """
        if fields.get("redis_mode") == "sentinel":
            raise self.unavailable_error(ResponseError(SENTINEL))
        if fields.get("cluster_enabled") == "1":
            told = self.run_batch([("CLUSTER", "INFO")])[0]
            cluster = info_fields(told) if isinstance(told, bytes) else {}
            if cluster.get("cluster_state") == "fail":
                raise self.unavailable_error(ClusterDownError(""))
            if cluster.get("cluster_size", "1") != "1":
                raise self.unavailable_error(ClusterCrossSlotError(""))

    def now_s(self) -> float:
        """Seconds since 1970 by the clock of this server, so that ages stay correct if this host's clock is off; by the
        clock of this host if the server's is unknown. Cost: none, or opening the first connection.
        """
        if self._clock is None and monotonic_s() >= self._clock_due:
            self._clock_due = monotonic_s() + CLOCK_CHECK_S
            with contextlib.suppress(RedisError, OSError):
                self._pool.release(self._pool.get_connection())
        clock = self._clock
        return now_s() if clock is None else clock[0] + monotonic_s() - clock[1]

    def _introduce_connection(self, connection: Any) -> None:
        """Handshake of a new connection: sets our name for CLIENT LIST and reads the time of the server.

        A user who is allowed neither can still read.
        """
        self._connections.note_connection(connection)
        connection.on_connect()
        connection.send_command("CLIENT", "SETNAME", CLIENT_NAME, check_health=False)
        connection.send_packed_command([_ASK_TIME.wire], check_health=False)
        with contextlib.suppress(ResponseError):
            connection.read_response()
        with contextlib.suppress(ResponseError):
            self._note_time(connection.read_response())

    def _note_time(self, reply: Reply) -> None:
        """Store the reply to TIME."""
        self._clock_due = monotonic_s() + CLOCK_CHECK_S
        if isinstance(reply, list) and len(reply) == 2:
            self._clock = int(reply[0]) + int(reply[1]) / 1e6, monotonic_s()

    def _note_clock(self, info: bytes) -> None:
        found = SERVER_TIME.search(info)
        if found is not None:
            self._clock = int(found.group(1)) / 1e6, monotonic_s()
            self._clock_due = monotonic_s() + CLOCK_CHECK_S

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
            self._connections.note_refusal(refused)
            known = isinstance(refused, OutOfMemoryError | ReadOnlyError | BusyLoadingError)
            if known or REFUSING.match(str(refused)):
                raise self.unavailable_error(refused)

    def close(self) -> None:
        """Close all connections; the source can be used again afterwards."""
        self._pool.disconnect()

    def unavailable_error(self, exc: Exception) -> BackendUnavailable:
        """The error to raise, with a message and a hint, for a failed connection to this server."""
        reason, message, hint = explain_failure(exc, self.address)
        return BackendUnavailable(message, source=self.name, reason=reason, hint=hint)

    def refusal_error(self, exc: Exception) -> BackendUnavailable | Forbidden:
        """The error to raise for a refused command, also in a script: the user is not allowed, or the server cannot."""
        return self.forbidden_error(exc) if is_forbidden(exc) else self.unavailable_error(exc)

    def forbidden_error(self, exc: Exception) -> Forbidden:
        """The error to raise for a command that the ACL of the Redis user refuses, or that the server does not have."""
        if isinstance(exc, CommandMissing):
            _, message, hint = explain_failure(exc, self.address)
            return Forbidden(message, hint=hint)
        if "unknown redis command" in str(exc).lower():
            return Forbidden(
                f"{self.address} lacks a command that a script needs: it was renamed or disabled on this server",
                hint="Enable it, or set store_url to another Redis. Run `queuedeck doctor` to see what is missing.",
            )
        return Forbidden(
            f"The Redis user is not allowed to do this on {self.address}: {one_line(exc)}",
            hint="Grant the command to this user with ACL SETUSER, or continue without it.",
        )
