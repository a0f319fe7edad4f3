"""Connections to the Redis servers: explicit timeouts, no blind retries, one place that translates their errors.

A Source answers bytes; whoever reads them decodes at the edge. Every command that goes through a Source is counted, so
that a page can tell its price and a test can hold it.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

import redis
from msgspec.structs import replace
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    MovedError,
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

from dashboard.clock import monotonic_s, now_s
from dashboard.connections import Renewal, connection_options
from dashboard.errors import BackendUnavailable, Forbidden
from dashboard.model import RedisHealth
from dashboard.settings import DEFAULT_STORE_PREFIX, redact_url

CONNECT_TIMEOUT_S = 1.0
READ_TIMEOUT_S = 2.0
CLIENT_NAME = "queuedeck"
# String of one byte, a minute to live: whether a server takes writes is learned by writing to it.
PROBE = "{queuedeck}:probe"
PROBE_TTL_MS = 60_000
_OWN = f"{DEFAULT_STORE_PREFIX}:"
_OWN_RAW = _OWN.encode()
# Redis reads so many bytes from a client at a time and runs all that they bring before it turns to another one: 16 KiB
# (PROTO_IOBUF_LEN) up to 6.2, what its buffer of the client has room for since 7.0, which grows to 64 KiB.
READ_BYTES = 64 * 1024
# Pieces of a batch are sent when the last one is answered, or after this time where the server is further away: it is
# then free for others for at least as long as a piece keeps it.
PIECE_EVERY_S = 0.005
# How long the clock of a server is carried on by that of this host, which may go a little faster or slower.
CLOCK_CHECK_S = 60.0
# More than the threads of a web process, so that no request waits for a connection, yet a bound for the server.
MAX_CONNECTIONS = 64

Argument: TypeAlias = bytes | str | int | float
Command: TypeAlias = Sequence[Argument]
# What Redis answered, in bytes; in a batch an error of one command stands in its place.
Reply: TypeAlias = Any


def raw_bytes(text: str) -> bytes:
    """The bytes that `text` was decoded from; of half a surrogate pair, as JSON can spell it, the nearest."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


@dataclass(slots=True)
class Meter:
    """What a piece of work cost: commands and round trips sent to Redis, and the seconds spent waiting for it.

    `busy_s`: those seconds without the way there and back. `held_s`: the longest that one round trip is likely to have
    kept the server from its other clients.
    """

    commands: int = 0
    round_trips: int = 0
    seconds: float = 0.0
    busy_s: float = 0.0
    held_s: float = 0.0

    def add(self, commands: int, seconds: float, sent_bytes: int, way_s: float = 0.0, pieces: int = 1) -> None:
        """Count one round trip in pieces of at most `sent_bytes`; `way_s` of its time is the way there and back."""
        self.commands += commands
        self.round_trips += 1
        self.seconds += seconds
        # Between two reads of what was sent others have their turn, but never within a command.
        at_once = min(1.0, max(1 / max(1, commands), min(1.0, READ_BYTES / max(1, sent_bytes)) / pieces))
        busy = max(0.0, seconds - way_s)
        self.busy_s += busy
        self.held_s = max(self.held_s, busy * at_once)


_meter: ContextVar[Meter | None] = ContextVar("queuedeck_meter", default=None)


@contextlib.contextmanager
def metered() -> Iterator[Meter]:
    """A Meter that counts what this thread sends to any source inside the block; an outer meter counts it too."""
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
    """Commands in wire form, made once and sent again and again: packing is most of a large batch's cost."""

    wire: bytes
    count: int


_ASK_TIME = Packed(b"*1\r\n$4\r\nTIME\r\n", 1)


class CommandMissing(NoPermissionError):
    """The server does not have a command: it was renamed or disabled, or the server is too old. It is as if the user
    were not permitted it: what can be had without it is."""

    def __init__(self, command: str) -> None:
        super().__init__(f"unknown command '{command}': it was renamed or disabled on this server")


class Source:
    """One Redis, thread-safe. Opens no connection before the first command."""

    def __init__(self, name: str, url: str, prefix: str = DEFAULT_STORE_PREFIX) -> None:
        """`prefix`: what Queuedeck's own keys begin with here, in place of the default that all modules write."""
        self.name = name
        self.prefix = prefix
        self.address = redact_url(url)
        # The quickest round trip so far: what of the others is likely to be but the way there and back.
        self._way_s = float("inf")
        self._pool = redis.ConnectionPool(
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=READ_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=self._introduce,
            decode_responses=False,
            max_connections=MAX_CONNECTIONS,
            protocol=2,  # one reply shape on every server version
            **connection_options(url),
        )
        self._connections = Renewal()
        self._clock: tuple[float, float] | None = None  # the server's clock, and the monotonic time of that
        self._sentinel: bool | None = None  # whether this server is one; asked for when a command is missing
        self._clock_due = 0.0  # monotonic; when to ask for it again, also where that is not permitted

    def __repr__(self) -> str:
        return f"Source({self.name!r}, {self.address!r})"

    @property
    def database(self) -> int:
        """The number of the database that the URL names."""
        return int(self._pool.connection_kwargs.get("db") or 0)

    def execute(self, *command: Argument) -> Reply:
        """The reply to one command, in bytes.

        Raises BackendUnavailable when the server cannot be asked, Forbidden when its user may not,
        redis.ResponseError for what is wrong with the command or its key. Cost: 1 round trip.
        """
        reply = self.batch([command])[0]
        self.check(reply)
        return reply

    def check(self, reply: Reply) -> None:
        """Raises Forbidden or redis.ResponseError, as `execute`, where that is the reply to a command of a batch."""
        if isinstance(reply, NoPermissionError):
            raise self.forbidden(reply) from reply
        if isinstance(reply, ResponseError):
            raise reply

    def batch(self, commands: Sequence[Command]) -> list[Reply]:
        """The replies to many commands, in order; a refused command's ResponseError stands in its place.

        Raises BackendUnavailable when the server cannot be asked. Cost: 1 round trip, none for no commands.
        """
        return self.run(self.pack(commands))

    def pack(self, commands: Sequence[Command]) -> Packed:
        """`commands` in wire form for `run`; the caller keeps it as long as they stay the same."""
        pieces: list[bytes] = []
        renames = self.prefix != DEFAULT_STORE_PREFIX
        for command in commands:
            if renames:
                command = self._with_prefix(command)
            pieces.append(b"*%d\r\n" % len(command))
            for argument in command:
                if isinstance(argument, bytes):
                    data = argument
                elif isinstance(argument, str):
                    try:  # raw_bytes by itself: a sample passes here many thousand times
                        data = argument.encode("utf-8", "surrogateescape")
                    except UnicodeEncodeError:
                        data = raw_bytes(argument)
                else:
                    data = str(argument).encode("ascii")
                pieces.append(b"$%d\r\n%s\r\n" % (len(data), data))
        return Packed(b"".join(pieces), len(commands))

    def batch_in_pieces(self, pieces: Sequence[Sequence[Command]]) -> list[Reply]:
        """As `batch`, for commands that each keep the server for a while: it gets one piece after the other, and serves
        others in between. Cost: 1 round trip, and where that is quick one more for each further piece.
        """
        return self._run([packed for piece in pieces if (packed := self.pack(piece)).count])

    def own_key(self, name: Argument) -> Argument:
        """`name`, where it is a key of our own with the prefix of this source."""
        if isinstance(name, str) and name.startswith(_OWN):
            return f"{self.prefix}:{name[len(_OWN) :]}"
        if isinstance(name, bytes) and name.startswith(_OWN_RAW):
            return self.prefix.encode() + b":" + name[len(_OWN_RAW) :]
        return name

    def _with_prefix(self, command: Command) -> Command:
        """The command with our own keys under the prefix of this source; other arguments may be anybody's text."""
        if command[0] in ("EVAL", "EVAL_RO"):
            first, end = 3, 3 + int(command[2])
        elif command[0] in ("DEL", "UNLINK", "EXISTS"):
            first, end = 1, len(command)
        else:
            first, end = 1, 2
        return (*command[:first], *(self.own_key(name) for name in command[first:end]), *command[end:])

    def run(self, packed: Packed) -> list[Reply]:
        """The replies to packed commands; as `batch`."""
        return self._run([packed] if packed.count else [])

    def _run(self, pieces: list[Packed]) -> list[Reply]:
        if not pieces:
            return []
        commands, sent_bytes = sum(piece.count for piece in pieces), max(len(piece.wire) for piece in pieces)
        trips = 1
        asks = monotonic_s() >= self._clock_due and self._clock_due > 0
        started = time.perf_counter()
        try:
            # Not metered, as little as the handshake: it comes once a minute, whoever sends something then.
            replies, trips = self._exchange([*pieces, _ASK_TIME] if asks else pieces)
        except RedisError as exc:
            raise self.unavailable(exc) from exc
        except OSError as exc:
            raise self.unavailable(RedisConnectionError(str(exc))) from exc
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
            raise self.unavailable(replies[0])
        first = replies[0]
        if isinstance(first, AuthenticationError | BusyLoadingError) or _is_auth(first):
            raise self.unavailable(first)
        return replies

    def _exchange(self, pieces: Sequence[Packed]) -> tuple[list[Reply], int]:
        """(the replies, how many ways there and back were waited for one after the other)."""
        connection = self._pool.get_connection()
        if not self._connections.is_current(connection):
            connection.disconnect()  # type: ignore[no-untyped-call] # it connects again when something is sent
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
                        self._read(connection, replies)
                    trips += len(replies) == awaited
            while len(replies) < awaited:
                self._read(connection, replies)
            clean = True
            return replies, trips
        finally:
            if not clean:
                # Half-read replies would be taken for the answers to the next commands.
                connection.disconnect()  # type: ignore[no-untyped-call]
            self._pool.release(connection)

    def _read(self, connection: Any, replies: list[Reply]) -> None:
        try:
            replies.append(connection.read_response())
        except ResponseError as exc:
            self._connections.refused(exc)
            if _is_about_the_server(exc):
                raise self.unavailable(exc) from exc
            unknown = _UNKNOWN_COMMAND.match(str(exc))
            replies.append(CommandMissing(unknown.group(1)) if unknown else exc)

    def transact(self, work: Callable[[redis.Redis], Any]) -> Any:
        """What `work` answers, given a redis-py client of this pool; errors are translated as in `execute`.

        For the few places that need more than plain commands (scripts, pub/sub); not metered.
        """
        try:
            return work(redis.Redis(connection_pool=self._pool))
        except NoPermissionError as exc:
            raise self.forbidden(exc) from exc
        except (RedisConnectionError, RedisTimeoutError) as exc:
            raise self.unavailable(exc) from exc
        except ResponseError as exc:
            if _is_about_the_server(exc):
                raise self.unavailable(exc) from exc
            raise

    def health(self, *, probe: bool = False) -> RedisHealth:
        """Version, memory, clients and counters of this server. Cost: 1 round trip (INFO, DBSIZE).

        With `probe` a key of our own is written beside that, to learn whether the server takes writes.
        """
        commands: list[Command] = [("INFO",), ("DBSIZE",)]
        if probe:
            commands.append(("SET", PROBE, "1", "PX", PROBE_TTL_MS))
        info, keys, *rest = self.batch(commands)
        written = _probe_word(rest[0]) if rest else None
        if isinstance(info, ResponseError):
            return RedisHealth(write_probe=written)
        self._note_clock(info)
        self._check_kind(info_fields(info))
        health = parse_info(info, keys if isinstance(keys, int) else None)
        self._connections.found(health.role)
        return replace(health, write_probe=written) if probe else health

    def _check_sentinel(self) -> None:
        """Raises BackendUnavailable where commands are missing because the server is a Sentinel. Cost: none, or 1 round
        trip for the first missing command."""
        if self._sentinel is None:
            self._sentinel = False  # also where INFO is missing
            told = self.batch([("INFO", "server")])[0]
            self._sentinel = isinstance(told, bytes) and info_fields(told).get("redis_mode") == "sentinel"
        if self._sentinel:
            raise self.unavailable(ResponseError(_SENTINEL))

    def _check_kind(self, fields: Mapping[str, str]) -> None:
        """Raises BackendUnavailable for a server that is no Redis of its own: there is no reading half of the data as
        if it were all. Cost: none, or 1 round trip in cluster mode."""
        if fields.get("redis_mode") == "sentinel":
            raise self.unavailable(ResponseError(_SENTINEL))
        if fields.get("cluster_enabled") == "1":
            told = self.batch([("CLUSTER", "INFO")])[0]
            cluster = info_fields(told) if isinstance(told, bytes) else {}
            if cluster.get("cluster_state") == "fail":
                raise self.unavailable(ClusterDownError(""))
            if cluster.get("cluster_size", "1") != "1":
                raise self.unavailable(ClusterCrossSlotError(""))

    def now_s(self) -> float:
        """Seconds since 1970 by the clock of this server, so that a host whose clock is off makes no job older; by that
        of this host where the server does not tell. Cost: none, or a connection when there has been none yet."""
        if self._clock is None and monotonic_s() >= self._clock_due:
            self._clock_due = monotonic_s() + CLOCK_CHECK_S
            with contextlib.suppress(RedisError, OSError):
                self._pool.release(self._pool.get_connection())
        clock = self._clock
        return now_s() if clock is None else clock[0] + monotonic_s() - clock[1]

    def _introduce(self, connection: Any) -> None:
        """Handshake of a new connection: our name for CLIENT LIST, and the time of the server. Who may do neither reads
        all the same."""
        self._connections.introduced(connection)
        connection.on_connect()
        connection.send_command("CLIENT", "SETNAME", CLIENT_NAME, check_health=False)
        connection.send_packed_command([_ASK_TIME.wire], check_health=False)
        with contextlib.suppress(ResponseError):
            connection.read_response()
        with contextlib.suppress(ResponseError):
            self._note_time(connection.read_response())

    def _note_time(self, reply: Reply) -> None:
        """Take in what TIME answered."""
        self._clock_due = monotonic_s() + CLOCK_CHECK_S
        if isinstance(reply, list) and len(reply) == 2:
            self._clock = int(reply[0]) + int(reply[1]) / 1e6, monotonic_s()

    def _note_clock(self, info: bytes) -> None:
        found = _SERVER_TIME.search(info)
        if found is not None:
            self._clock = int(found.group(1)) / 1e6, monotonic_s()
            self._clock_due = monotonic_s() + CLOCK_CHECK_S

    def check_writable(self, reply: Reply) -> None:
        """Raises BackendUnavailable where `reply` to a write, or one in it, says that the server takes none for now:
        it is out of memory, a replica, cut off from its replicas or its disk. Then nothing is wrong with the job."""
        for found in (reply, *(reply if isinstance(reply, list) else ())):
            if isinstance(found, ResponseError):
                refused = found
            elif isinstance(found, bytes) and _REFUSING.match(found[:300].decode("ascii", "replace")):
                refused = ResponseError(found[:300].decode("ascii", "replace"))  # as a script caught it
            else:
                continue
            self._connections.refused(refused)
            known = isinstance(refused, OutOfMemoryError | ReadOnlyError | BusyLoadingError)
            if known or _REFUSING.match(str(refused)):
                raise self.unavailable(refused)

    def close(self) -> None:
        """Close all connections; the source can be used again afterwards."""
        self._pool.disconnect()

    def unavailable(self, exc: Exception) -> BackendUnavailable:
        """The one line, and the way out, for an error of the connection to this server."""
        reason, message, hint = _explain(exc, self.address)
        return BackendUnavailable(message, source=self.name, reason=reason, hint=hint)

    def refusal(self, exc: Exception) -> BackendUnavailable | Forbidden:
        """What a refused command means, also one within a script: the user may not, or the server cannot."""
        return self.forbidden(exc) if _is_forbidden(exc) else self.unavailable(exc)

    def forbidden(self, exc: Exception) -> Forbidden:
        """The one line for a command that the ACL of this server's user refuses, or that the server does not have."""
        if isinstance(exc, CommandMissing):
            _, message, hint = _explain(exc, self.address)
            return Forbidden(message, hint=hint)
        if "unknown redis command" in str(exc).lower():
            return Forbidden(
                f"{self.address} does not have a command that a script needs: it was renamed or disabled there",
                hint="Allow it, or name another Redis by store_url. Run `queuedeck doctor` to see what is missing.",
            )
        return Forbidden(
            f"The Redis user may not do that on {self.address}: {_one_line(exc)}",
            hint="Grant the command to this user with ACL SETUSER, or go on without it.",
        )


def _probe_word(reply: Reply) -> str:
    """ "ok", or the first word of the refusal as Redis sends it: OOM, MISCONF, READONLY, NOREPLICAS, NOPERM, …"""
    if not isinstance(reply, ResponseError):
        return "ok"
    for kind, word in ((OutOfMemoryError, "OOM"), (ReadOnlyError, "READONLY"), (NoPermissionError, "NOPERM")):
        if isinstance(reply, kind):
            return word
    return (_one_line(reply).split() or ["ERR"])[0][:20]


def _is_auth(reply: Reply) -> bool:
    return isinstance(reply, ResponseError) and str(reply).startswith(("NOAUTH", "WRONGPASS"))


# The first word of an error, which Redis 6 tells of a script behind words of its own.
_REFUSING = re.compile(
    r"(?:(?:ERR )?(?:Error running script.{0,120}?)?@user_script: ?\d+: -?|-)?"
    r"(?:OOM|READONLY|MISCONF|NOREPLICAS|MASTERDOWN|CLUSTERDOWN|LOADING)\b"
)
_URL = re.compile(r"(rediss?|unix)://(\S++)")


def _one_line(exc: BaseException) -> str:
    text = " ".join(str(exc).split()) or type(exc).__name__
    return _URL.sub(_without_user, text)[:200]


def _without_user(url: re.Match[str]) -> str:
    _, user, rest = url[2].rpartition("@")
    return f"{url[1]}://{'…@' if user else ''}{rest}"


# As a plain reply and, with the words in front, from within a script.
_ELSEWHERE = re.compile(
    r"(?:(?:ERR )?(?:Error running script.{0,120}?)?@user_script: ?\d+: -?)?"
    r"(?:MASTERDOWN|CLUSTERDOWN|MOVED|ASK|CROSSSLOT) "
)
_UNKNOWN_COMMAND = re.compile(r"(?:ERR )?unknown command '?`?(\w+)", re.IGNORECASE)
_SENTINEL = "this is a Sentinel"


def _is_about_the_server(exc: ResponseError) -> bool:
    """Whether the data is elsewhere, or nowhere for now, whatever the command."""
    known = isinstance(exc, MovedError | AskError | ClusterDownError | ClusterCrossSlotError | MasterDownError)
    return known or _ELSEWHERE.match(str(exc)) is not None


def _is_forbidden(exc: Exception) -> bool:
    """Redis before 7 and since words it differently within a script: "can't run this command", "no permissions"."""
    said = str(exc).lower()
    words = ("noperm", "the user executing the script", "no permissions to", "unknown redis command")
    return isinstance(exc, NoPermissionError) or any(each in said for each in words)


def _explain(exc: Exception, address: str) -> tuple[str, str, str]:
    """(reason, message, hint) for what went wrong with the server at `address`."""
    text = _one_line(exc)
    low = text.lower()
    if isinstance(exc, ResponseError) and _is_about_the_server(exc):
        return _explain_elsewhere(exc, address)
    if text == _SENTINEL:
        return (
            "protocol",
            f"{address} is a Sentinel: it watches Redis servers and holds no queues",
            "Sentinel is not supported yet: name the Redis that holds the queues, best by an address that follows it.",
        )
    unknown = _UNKNOWN_COMMAND.match(text)
    if unknown is not None:
        return (
            "forbidden",
            f"{address} does not have the command {unknown.group(1).upper()}: it was renamed or disabled there",
            "Allow it, or name another Redis by store_url. Of a Sentinel, name the Redis that it watches.",
        )
    if isinstance(exc, AuthenticationWrongNumberOfArgsError) or "wrong number of arguments for 'auth'" in low:
        return (
            "auth",
            f"{address} does not accept a user name (Redis older than 6)",
            "Leave the user name out of the URL.",
        )
    if "noauth" in low or "authentication required" in low:
        return "auth", f"{address} asks for a password", "Put it into the URL: redis://:PASSWORD@host:port/0"
    if (
        isinstance(exc, AuthenticationError)
        or "wrongpass" in low
        or "invalid password" in low
        or "invalid username" in low
    ):
        return "auth", f"{address} refuses the user name or password", "Check user and password in the URL."
    if _is_forbidden(exc):
        return "forbidden", f"{address} does not permit this user's commands: {text}", "Check the ACL of this user."
    if isinstance(exc, BusyLoadingError) or "loading" in low:
        return "loading", f"{address} is loading its data set", "It answers when it is done."
    if isinstance(exc, OutOfMemoryError) or "used memory > 'maxmemory'" in low:
        return "full", f"{address} is out of memory and refuses writes", "Raise maxmemory or free memory."
    if isinstance(exc, ReadOnlyError) or "readonly" in low:
        return "readonly", f"{address} is a read-only replica", "Point the URL at the primary."
    if "ssl" in low or "tls" in low or "certificate" in low or "wrong version number" in low:
        return (
            "tls",
            f"{address}: TLS failed: {text}",
            "Use rediss:// only where the server speaks TLS, and check its certificate.",
        )
    if isinstance(exc, RedisTimeoutError) or "timed out" in low or "timeout" in low:
        hint = "Check that it runs and that nothing blocks it."
        if address.startswith("rediss:"):  # a Redis without TLS waits for the rest of what it takes for a command
            hint = "Check that it runs, and that it speaks TLS: if it does not, use redis://."
        return "timeout", f"{address} did not answer in time", hint
    if "refused" in low:
        return "refused", f"Nothing listens on {address}", "Start Redis, or check host and port in the URL."
    if "name or service not known" in low or "resolution" in low or "nodename" in low or "no address" in low:
        return "refused", f"The host name of {address} is unknown", "Check the host in the URL."
    if "out of range" in low or "invalid db" in low:
        return "protocol", f"{address} has no such database", "Check the number at the end of the URL."
    if "closed" in low or "reset" in low or "broken pipe" in low or "eof" in low:
        return (
            "lost",
            f"{address} closed the connection",
            "It may be restarting, or it expects TLS: then use rediss://.",
        )
    if "protocol error" in low:
        return "protocol", f"What listens on {address} is no Redis", "Check host and port in the URL."
    if "max number of clients" in low:
        return "refused", f"{address} has reached its maxclients", "Raise maxclients or close idle clients."
    return "protocol", f"{address}: {text}", "Check that a Redis listens there."


def _explain_elsewhere(exc: ResponseError, address: str) -> tuple[str, str, str]:
    """As `_explain`, for a server that has not, or does not give, what was asked for."""
    said = str(exc)
    if isinstance(exc, MasterDownError) or "MASTERDOWN" in said:
        return (
            "readonly",
            f"{address} is a replica that has lost its primary and answers nothing until it is back",
            "Point the URL at the primary, or at a replica with replica-serve-stale-data yes.",
        )
    if isinstance(exc, ClusterDownError) or "CLUSTERDOWN" in said:
        return (
            "protocol",
            f"{address} belongs to a Redis Cluster that is down",
            "Look at CLUSTER INFO there. Redis Cluster is not supported yet: name a Redis without cluster mode.",
        )
    return (
        "protocol",
        f"{address} is one node of a Redis Cluster and has a part of the data only",
        "Redis Cluster is not supported yet: name a Redis without cluster mode, or a cluster of one node.",
    )


_SERVER_TIME = re.compile(rb"^server_time_usec:(\d{1,18})\r?$", re.MULTILINE)
_REPLICA = re.compile(r"slave\d+\Z")
_OFFSET = re.compile(r"(?:\A|,)offset=(\d{1,18})(?:,|\Z)")


def info_fields(info: bytes) -> dict[str, str]:
    """The fields of INFO's text, by name, as they stand there."""
    fields: dict[str, str] = {}
    for line in info.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields[name] = value
    return fields


def _replica_lag(fields: Mapping[str, str], written: int | None) -> int | None:
    """By how many bytes the slowest connected replica is behind; None when there is none."""
    if written is None:
        return None
    offsets = [
        int(found.group(1))
        for name, value in fields.items()
        if _REPLICA.match(name) and (found := _OFFSET.search(value)) is not None
    ]
    return max(0, written - min(offsets)) if offsets else None


def _link_down_s(status: str | None, since: int | None) -> int | None:
    """For how long the link of a replica has been down; None when there is none, or when it has never been up."""
    if status is None:
        return None
    if status == "up":
        return 0
    # Redis says -1 of a link that was never made: that is no time, least of all none.
    return since if since is not None and since >= 0 else None


def parse_info(info: bytes, keys: int | None) -> RedisHealth:
    """RedisHealth from the text of INFO; a field that is missing or no number stays None."""
    fields = info_fields(info)

    def number(name: str) -> int | None:
        try:
            return int(fields[name])
        except (KeyError, ValueError):
            return None

    def share(name: str) -> float | None:
        try:
            return float(fields[name])
        except (KeyError, ValueError):
            return None

    used, limit = number("used_memory"), number("maxmemory")
    not_counted = number("mem_not_counted_for_evict") or 0
    hits, misses = number("keyspace_hits"), number("keyspace_misses")
    link = fields.get("master_link_status")
    saves = [fields.get("rdb_last_bgsave_status"), fields.get("aof_last_write_status")]
    return RedisHealth(
        version=fields.get("valkey_version") or fields.get("redis_version"),
        flavour="valkey" if "valkey_version" in fields else "redis",
        role=fields.get("role"),
        run_id=fields.get("run_id"),
        uptime_s=number("uptime_in_seconds"),
        used_memory_bytes=used,
        maxmemory_bytes=limit or None,
        memory_limited=None if limit is None else limit > 0,
        memory_ratio=max(0.0, (used - not_counted) / limit) if used is not None and limit else None,
        eviction_policy=fields.get("maxmemory_policy"),
        clients=number("connected_clients"),
        max_clients=number("maxclients"),
        blocked_clients=number("blocked_clients"),
        ops_per_s=number("instantaneous_ops_per_sec"),
        evicted_keys=number("evicted_keys"),
        rejected_connections=number("rejected_connections"),
        fragmentation_ratio=share("mem_fragmentation_ratio"),
        allocator_frag_ratio=share("allocator_frag_ratio"),
        allocator_frag_bytes=number("allocator_frag_bytes"),
        replicas=number("connected_slaves"),
        replica_lag_bytes=_replica_lag(fields, number("master_repl_offset")),
        replica_link_up=None if link is None else link == "up",
        replica_link_down_s=_link_down_s(link, number("master_link_down_since_seconds")),
        keyspace_hit_ratio=hits / (hits + misses)
        if hits is not None and misses is not None and hits + misses
        else None,
        keys=keys,
        persistence_ok=None if not any(saves) else all(status in (None, "ok") for status in saves),
    )
