"""Redis Sentinel: which server is the primary of a service, and whether that has changed.

redis-py's pool opens the connections; this module answers its question for the primary. Unlike redis-py's own class it
says which Sentinel refused and why, and keeps to the last primary while no Sentinel answers: without them there is no
failover, and the primary works on.
Layout of the replies: https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, TypeAlias

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry
from redis.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

from ..clock import monotonic_s
from ..redact import masked_logger
from ..settings.sentinel_urls import SentinelUrl, host_and_port
from .failures import NoPrimaryError, PrimaryDownError, error_line

log = masked_logger(__name__)

# Limits for each Sentinel: it only has to look something up.
SENTINEL_TIMEOUT_S = 1.0
# How often the Sentinels are asked whether the primary is still the same.
FOLLOW_EVERY_S = 1.0
# After no Sentinel has answered: a wait for all of them must not slow down every command.
ASK_AGAIN_S = 10.0

Address: TypeAlias = tuple[str, int]


class Sentinels:
    """The Sentinels of one service. Thread-safe."""

    def __init__(self, url: SentinelUrl, options: dict[str, Any]) -> None:
        """`options`: of the connections to the Sentinels, without host and port. Opens no connection."""
        self.service = url.service
        self._pools = [(host_and_port(*address), _pool(address, options)) for address in url.sentinels]
        self._asking = threading.Lock()
        self._failed_at: float | None = None  # monotonic; when no Sentinel answered
        self._follow_at = 0.0  # monotonic
        self._followed: Address | None = None  # as of the last `has_moved`: connections of before it are dropped
        self.primary: Address | None = None  # that was found last
        self.problem: str | None = None  # why a failover would not be noticed; None if it would

    def discover_master(self, _service: str) -> Address:
        """The address of the primary; called by redis-py's pool for each new connection.

        Raises NoPrimaryError. Cost: 1 round trip to a Sentinel; one more for each that did not answer.
        """
        failed_at = self._failed_at
        if self.primary is not None and failed_at is not None and monotonic_s() - failed_at < ASK_AGAIN_S:
            return self.primary
        return self._find_primary()

    def has_moved(self, *, at_once: bool = False) -> bool:
        """Whether the primary is another one than at the last call. Asks at most every FOLLOW_EVERY_S, in one thread;
        each time with `at_once`, while Sentinels answer.

        An existing connection does not show it: a former primary accepts commands until a Sentinel makes it a replica,
        often seconds later, and drops what it accepted. Raises PrimaryDownError with `at_once`.
        """
        is_due = monotonic_s() >= self._follow_at
        if not is_due and not (at_once and self.problem is None):
            return False
        if not self._asking.acquire(blocking=at_once):
            return False
        try:
            before = self._followed or self.primary
            self._follow_at = monotonic_s() + FOLLOW_EVERY_S
            try:
                found = self._find_primary()
            except PrimaryDownError:
                if at_once:
                    raise  # what it still accepts is lost with the failover
                return False  # reading shows whether it still works
            except NoPrimaryError:
                return False
            if self.problem is not None:
                self._follow_at = monotonic_s() + ASK_AGAIN_S
            self._followed = found
            return before is not None and found != before
        finally:
            self._asking.release()

    def distrust_first(self) -> None:
        """Ask another Sentinel next time: the one that answered named a server that is no primary."""
        self._pools = [*self._pools[1:], *self._pools[:1]]

    def ask_each(self) -> Iterator[tuple[str, dict[str, str] | RedisError]]:
        """(host:port, what it reports of the service, or its error) of each Sentinel. Cost: 1 round trip to each."""
        for name, pool in self._pools:
            yield name, _ask(pool, self.service)

    def close(self) -> None:
        """Close all connections; new ones can be opened afterwards."""
        for _, pool in self._pools:
            pool.disconnect()

    def _find_primary(self) -> Address:
        down: str | None = None
        refusals: list[tuple[str, RedisError]] = []
        pools = self._pools
        for number, (name, pool) in enumerate(pools):
            state = _ask(pool, self.service)
            if isinstance(state, RedisError):
                refusals.append((name, state))
                continue
            address = address_of(state)
            if address is None or is_down(state):
                down = host_and_port(*address) if address else "address unknown"
                continue
            if number:  # those that did not answer come last next time
                self._pools = [*pools[number:], *pools[:number]]
            self.primary, self.problem, self._failed_at = address, None, None
            return address
        if down is not None:
            raise PrimaryDownError(
                "refused",
                f"The primary of {self.service} is down ({down})",
                "The Sentinels are choosing another one. If that takes longer than a minute, check their logs.",
            )
        return self._last_primary(refusals)

    def _last_primary(self, refusals: list[tuple[str, RedisError]]) -> Address:
        """The last known primary, because no Sentinel says otherwise. Raises NoPrimaryError if none is known."""
        failure = _explain_refusals(self.service, refusals)
        self._failed_at = monotonic_s()
        if self.primary is None or not all(_is_unreachable(refusal) for _, refusal in refusals):
            raise failure
        if self.problem is None:
            log.warning("%s; continuing with the last known primary", failure)
        self.problem = f"{failure}: a failover would not be noticed"
        return self.primary


class PrimaryConnection(SentinelManagedConnection):
    """A connection to the primary that the Sentinels name.

    It reports a replica's refusal as it is, like connections to a single server.
    """

    def read_response(self, *args: Any, **options: Any) -> Any:
        """The next reply. Raises its error."""
        return Connection.read_response(self, *args, **options)


class EncryptedPrimaryConnection(SentinelManagedSSLConnection):
    """As PrimaryConnection, with TLS."""

    def read_response(self, *args: Any, **options: Any) -> Any:
        """The next reply. Raises its error."""
        return SSLConnection.read_response(self, *args, **options)


def _pool(address: Address, options: dict[str, Any]) -> redis.ConnectionPool:
    host, port = address
    limits = {"socket_connect_timeout": SENTINEL_TIMEOUT_S, "socket_timeout": SENTINEL_TIMEOUT_S}
    return redis.ConnectionPool(
        **{**options, **limits, "host": host, "port": port, "retry": Retry(NoBackoff(), 0), "protocol": 2}
    )


def _ask(pool: redis.ConnectionPool, service: str) -> dict[str, str] | RedisError:
    """The fields that a Sentinel reports of the primary of `service`, or its error."""
    try:
        connection = pool.get_connection()
        try:
            connection.send_command("SENTINEL", "MASTER", service, check_health=False)  # type: ignore[no-untyped-call]
            reply = connection.read_response()
        except (redis.ConnectionError, redis.TimeoutError, OSError):
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise
        finally:
            pool.release(connection)
    except RedisError as exc:
        return exc
    except OSError as exc:
        return redis.ConnectionError(str(exc))
    parts = reply if isinstance(reply, list) else []
    texts = [part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in parts]
    return dict(zip(texts[::2], texts[1::2], strict=False))


def is_down(state: dict[str, str]) -> bool:
    """Whether a Sentinel considers the primary down, from what it reports."""
    return any(flag in ("s_down", "o_down") for flag in state.get("flags", "").split(","))


def address_of(state: dict[str, str]) -> Address | None:
    """The address of the primary, from what a Sentinel reports; None if there is none."""
    host, port = state.get("ip", ""), state.get("port", "")
    return (host, int(port)) if host and port.isdecimal() and len(port) <= 5 else None


def _is_unreachable(refusal: RedisError) -> bool:
    return isinstance(refusal, redis.ConnectionError | redis.TimeoutError)


def _explain_refusals(service: str, refusals: list[tuple[str, RedisError]]) -> NoPrimaryError:
    """Why no Sentinel names a primary."""
    names = ", ".join(name for name, _ in refusals)
    for name, refusal in refusals:
        said = str(refusal).lower()
        if "no such master" in said:
            hint = "Check the service in the URL: SENTINEL MASTERS lists the names that a Sentinel monitors."
            return NoPrimaryError("protocol", f"{name} monitors no service named {service}", hint)
        if isinstance(refusal, redis.AuthenticationError) or "noauth" in said or "wrongpass" in said:
            hint = "Check sentinel_username and sentinel_password in the URL."
            return NoPrimaryError("auth", f"The Sentinel {name} rejected the user name or password", hint)
        if isinstance(refusal, redis.exceptions.NoPermissionError):
            hint = "Grant its user +sentinel|master with ACL SETUSER."
            return NoPrimaryError("forbidden", f"The Sentinel {name} does not allow SENTINEL MASTER", hint)
        if isinstance(refusal, ResponseError):
            hint = f"Use the port of the Sentinels, such as 26379. It said: {error_line(refusal)}"
            return NoPrimaryError("protocol", f"{name} is not a Sentinel", hint)
    slow = any(isinstance(refusal, redis.TimeoutError) for _, refusal in refusals)
    return NoPrimaryError(
        "timeout" if slow else "refused",
        f"No Sentinel of {service} could be reached ({names})",
        f"Start them, or check the addresses in the URL. The first said: {error_line(refusals[0][1])}",
    )
