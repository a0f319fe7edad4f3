"""Redis Sentinel: which server is the primary of a service, and whether that has changed.

redis-py's pool opens the connections; this module finds the address of the primary. Unlike redis-py's own class, it
reports which Sentinel failed and why, and uses the last known primary while no Sentinel responds: without Sentinels
there is no failover.
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
from redis.sentinel import SentinelConnectionPool, SentinelManagedConnection, SentinelManagedSSLConnection

from ..clock import monotonic_s
from ..redact import masked_logger
from ..settings.sentinel_urls import SentinelUrl, host_and_port
from .failures import NoPrimaryError, PrimaryDownError, error_line

log = masked_logger(__name__)

# Limits for each Sentinel: it only has to look something up.
SENTINEL_TIMEOUT_S = 1.0
# One search for the primary asks no further Sentinel after this time; the next search asks those that are left. A page
# has to wait for this and then for the last known primary; the second limit is for a search before any is known.
SEARCH_LIMIT_S, FIRST_SEARCH_LIMIT_S = 0.9, 2.9
# A Sentinel that took longer than this to fail is left alone for ASK_AGAIN_S: it would make each search as slow.
SLOW_S = 0.3
# How often the Sentinels are asked whether the primary is still the same.
FOLLOW_EVERY_S = 1.0
# After no Sentinel has answered: a wait for all of them must not slow down every command.
ASK_AGAIN_S = 5.0

Address: TypeAlias = tuple[str, int]


class Sentinels:
    """The Sentinels of one service. Thread-safe."""

    def __init__(self, url: SentinelUrl, options: dict[str, Any]) -> None:
        """`options`: of the connections to the Sentinels, without host and port. Opens no connection."""
        self.service = url.service
        self._pools = [(host_and_port(*address), _pool(address, options)) for address in url.sentinels]
        self._asking = threading.Lock()
        # Sentinels that failed slowly: until when (monotonic) they are not asked, and how they failed.
        self._recent_failures: dict[str, tuple[float, RedisError]] = {}
        self._failed_at: float | None = None  # monotonic; when no Sentinel answered
        self._follow_at = 0.0  # monotonic
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

    def follow_primary(self, *, at_once: bool = False) -> None:
        """Find out whether `primary` is still right. Asks at most every FOLLOW_EVERY_S, in one thread; each time with
        `at_once`, while Sentinels answer.

        An existing connection does not show it: a former primary accepts commands until a Sentinel makes it a replica,
        often seconds later, and drops what it accepted. Raises NoPrimaryError if no primary is known, and
        PrimaryDownError with `at_once`.
        """
        if not self._is_due(at_once) or not self._asking.acquire(blocking=at_once):
            return
        try:
            if not self._is_due(at_once):
                return  # the threads that had the lock before found that no Sentinel answers
            self._follow_at = monotonic_s() + FOLLOW_EVERY_S
            try:
                self._find_primary()
            except NoPrimaryError as exc:
                if self.primary is None or (at_once and isinstance(exc, PrimaryDownError)):
                    raise  # nothing else is known, or what it still accepts is lost with the failover
                return  # reading shows whether it still works
            if self.problem is not None:
                self._follow_at = monotonic_s() + ASK_AGAIN_S
        finally:
            self._asking.release()

    def _is_due(self, at_once: bool) -> bool:
        return monotonic_s() >= self._follow_at or (at_once and self.problem is None)

    def distrust_first(self) -> None:
        """Ask another Sentinel next time: the one that answered named a server that is no primary."""
        self._pools = [*self._pools[1:], *self._pools[:1]]
        self._recent_failures, self._failed_at, self.problem = {}, None, None

    def ask_each(self) -> Iterator[tuple[str, dict[str, str] | RedisError]]:
        """(host:port, what it reports of the service, or its error) of each Sentinel.

        Cost: 1 round trip to each; none to one that failed slowly a short time ago.
        """
        for name, pool in self._pools:
            yield name, self._recent_failure(name) or self._ask_and_note(name, pool)

    def close(self) -> None:
        """Close all connections; new ones can be opened afterwards."""
        for _, pool in self._pools:
            pool.disconnect()

    def _find_primary(self) -> Address:
        down: str | None = None
        refusals: list[tuple[str, RedisError]] = []
        pools = self._pools
        give_up_at = monotonic_s() + (FIRST_SEARCH_LIMIT_S if self.primary is None else SEARCH_LIMIT_S)
        for number, (name, pool) in enumerate(pools):
            state: dict[str, str] | RedisError | None = self._recent_failure(name)
            if state is None:
                if monotonic_s() >= give_up_at:
                    break
                state = self._ask_and_note(name, pool)
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
        return self._last_primary(refusals, are_all=len(refusals) == len(pools))

    def _recent_failure(self, name: str) -> RedisError | None:
        """The error of a Sentinel that failed slowly a short time ago; None if it is to be asked."""
        until, failure = self._recent_failures.get(name, (0.0, None))
        return failure if monotonic_s() < until else None

    def _ask_and_note(self, name: str, pool: redis.ConnectionPool) -> dict[str, str] | RedisError:
        """As `_ask`; notes whether the Sentinel failed slowly."""
        asked_at = monotonic_s()
        state = _ask(pool, self.service)
        if isinstance(state, RedisError) and monotonic_s() - asked_at > SLOW_S:
            self._recent_failures[name] = (monotonic_s() + ASK_AGAIN_S, state)
        else:
            self._recent_failures.pop(name, None)
        return state

    def _last_primary(self, refusals: list[tuple[str, RedisError]], *, are_all: bool) -> Address:
        """The last known primary, because no Sentinel responds. Raises NoPrimaryError if none is known."""
        failure = _explain_refusals(self.service, refusals)
        if self.primary is None:
            raise failure
        self._failed_at = monotonic_s()
        if not are_all:  # the next search, soon, asks the others
            self._failed_at -= ASK_AGAIN_S - FOLLOW_EVERY_S
            return self.primary
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


class PrimaryPool(SentinelConnectionPool):
    """The connections to the primary.

    redis-py's own class disowns those to another server than the last primary, among them all that were never opened.
    Up to version 7 it counts each of them as open for ever, so that after as many failures as `max_connections` there
    are no connections any more.
    """

    def owns_connection(self, connection: Any) -> bool:
        """Whether `connection` may be used again by this process; `is_to_primary` says whether it has to be renewed."""
        return bool(connection.pid == self.pid)


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
            for question in ("MASTER", "GET-MASTER-ADDR-BY-NAME"):
                connection.send_command("SENTINEL", question, service, check_health=False)  # type: ignore[no-untyped-call]
            reply, promoted = _read_reply(connection), _read_reply(connection)
        except (redis.ConnectionError, redis.TimeoutError, OSError):
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise
        finally:
            pool.release(connection)
    except RedisError as exc:
        return exc
    except OSError as exc:
        return redis.ConnectionError(str(exc))
    if isinstance(reply, RedisError):
        return reply
    texts = _texts(reply)
    state = dict(zip(texts[::2], texts[1::2], strict=False))
    # While the Sentinel that leads a failover reconfigures the other replicas, only its second answer names the server
    # that was promoted; the fields are still those of the former primary.
    address = _texts(promoted)
    if len(address) == 2 and address != [state.get("ip"), state.get("port")]:
        state |= {"ip": address[0], "port": address[1], "flags": "master"}
    return state


def _read_reply(connection: Any) -> Any:
    """The next reply; an error reply as its ResponseError."""
    try:
        return connection.read_response()
    except ResponseError as exc:
        return exc


def _texts(reply: Any) -> list[str]:
    parts = reply if isinstance(reply, list) else []
    return [part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in parts]


def is_down(state: dict[str, str]) -> bool:
    """Whether a Sentinel considers the primary down, from what it reports."""
    return any(flag in ("s_down", "o_down") for flag in state.get("flags", "").split(","))


def address_of(state: dict[str, str]) -> Address | None:
    """The address of the primary, from what a Sentinel reports; None if there is none."""
    host, port = state.get("ip", ""), state.get("port", "")
    return (host, int(port)) if host and port.isdecimal() and len(port) <= 5 else None


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
            hint = "Grant its user +sentinel|master and +sentinel|get-master-addr-by-name with ACL SETUSER."
            return NoPrimaryError("forbidden", f"The Sentinel {name} does not allow SENTINEL MASTER", hint)
        if isinstance(refusal, ResponseError):
            hint = f"Use the port of the Sentinels, such as 26379. Its reply: {error_line(refusal)}"
            return NoPrimaryError("protocol", f"{name} is not a Sentinel", hint)
    slow = any(isinstance(refusal, redis.TimeoutError) for _, refusal in refusals)
    return NoPrimaryError(
        "timeout" if slow else "refused",
        f"No Sentinel of {service} could be reached ({names})",
        f"Start them, or check the addresses in the URL. First error: {error_line(refusals[0][1])}",
    )
