"""Limits on sign-in attempts, so that an attacker can neither guess a password nor lock a user out.

A browser in which a user has signed in before has a separate limit, which attempts from elsewhere do not use up.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ...auth import Address, parse_address
from ...errors import QueuedeckError
from ...sources.source import Command
from ...store.redis_store import PREFIX, Store

WINDOW_S = 15 * 60
PER_NAME_AND_ADDRESS = 5
PER_ADDRESS = 30
PER_NAME = 50  # from any address: too slow for guessing
PER_BROWSER = 5  # for a known browser
RECORDED = 300  # failed attempts per window that go to the audit log; the server log has all of them
MAX_REMEMBERED = 10_000
IPV6_PREFIX = 64  # bits of the smallest IPv6 network that one customer has
CHECKS_AT_ONCE = 1  # of passwords, for known browsers and for others: each takes about 0.1 s of a core and 32 MB
WAITING = 3  # waiting for their turn, at most WAIT_S
WAIT_S = 2.0

# KEYS the counters of an attempt, the widest last. ARGV window s, the limit of each counter but the last. Returns the
# counts up to the first exceeded limit; wider counters are not raised then, so that one address cannot use up the limit
# of all addresses.
_COUNT = """
local counts = {}
local function raise(key)
  number(key, -1000000, 1000000000)
  begin(key, ARGV[1] * 1000)
  redis.call('SET', key, 0, 'EX', ARGV[1], 'NX')
  return redis.call('INCR', key)
end
for i = 1, #KEYS - 1 do
  counts[i] = raise(KEYS[i])
  local most = tonumber(ARGV[i + 1])
  if counts[i] > most + 1 then return counts end
  if counts[i] > most then break end
end
counts[#counts + 1] = raise(KEYS[#KEYS])
return counts
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInAttempt:
    """An attempt to sign in as `name` from `address`; `browser` = its id, if it is known for that user."""

    name: str
    address: str | None
    browser: str | None = None

    def limits(self) -> tuple[tuple[str, int], ...]:
        """(identifying text, limit) of each of its counters, in the order in which they are checked."""
        if self.browser is not None:
            return ((f"browser\0{self.browser}\0{self.name}", PER_BROWSER),)
        place = _network_of(self.address)
        return (
            (f"address\0{place}", PER_ADDRESS),
            (f"both\0{self.name}\0{place}", PER_NAME_AND_ADDRESS),
            (f"name\0{self.name}", PER_NAME),
        )

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of its counters; the last one counts all attempts that are allowed or the first rejected."""
        return (*(_attempt_key(text) for text, _ in self.limits()), _attempt_key("all"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInDecision:
    """The decision on one attempt."""

    is_allowed: bool
    is_recorded: bool  # in the audit log: it is allowed or the first rejected one, and RECORDED is not exceeded


class AttemptCounter:
    """Counts attempts in Redis for all processes, and in memory without it.

    While Redis is down, users must not be locked out, and guessing must stay limited.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._own: dict[str, tuple[int, float]] = {}  # key -> (attempts, monotonic end)

    def count_attempt(self, store: Store | None, attempt: SignInAttempt) -> SignInDecision:
        """Count one attempt. Cost: 1 round trip."""
        most = [limit for _, limit in attempt.limits()]
        counts = self._count_here(attempt.keys, most)
        if store is not None:
            with contextlib.suppress(QueuedeckError):  # then the counts of this process apply
                counts = list(store.run_script(_COUNT, attempt.keys, WINDOW_S, *most))
        return _judge_counts(counts, most)

    def succeeded(self, store: Store | None, attempt: SignInAttempt) -> None:
        """The password was right: discount this attempt and earlier ones of that user there. Cost: 1 round trip."""
        keys = attempt.keys
        persons = keys[0] if attempt.browser is not None else keys[1]
        with self._lock:
            self._own.pop(persons, None)
        self._lower_counts(store, [key for key in keys if key != persons], ("DEL", persons))

    def uncount(self, store: Store | None, attempt: SignInAttempt) -> None:
        """The password was not checked: discount this attempt. Cost: 1 round trip."""
        self._lower_counts(store, attempt.keys)

    def _lower_counts(self, store: Store | None, keys: Sequence[str], *more: Command) -> None:
        with self._lock:
            for key in keys:
                if key in self._own:
                    count, until = self._own[key]
                    self._own[key] = (count - 1, until)
        if store is None:
            return
        # SET first: a counter that has just expired must not be created again without an expiry.
        less = [each for key in keys for each in (("SET", key, 0, "EX", WINDOW_S, "NX"), ("DECR", key))]
        try:
            store.source.run_batch([*more, *less])
        except QueuedeckError:
            return

    def _count_here(self, keys: Sequence[str], most: Sequence[int]) -> list[int]:
        """The same as _COUNT, in memory."""
        counts = []
        for key, limit in zip(keys[:-1], most, strict=True):
            counts.append(self._raise_here(key))
            if counts[-1] > limit + 1:
                return counts
            if counts[-1] > limit:
                break
        return [*counts, self._raise_here(keys[-1])]

    def _raise_here(self, key: str) -> int:
        now = time.monotonic()
        with self._lock:
            if len(self._own) >= MAX_REMEMBERED:
                self._own = {each: entry for each, entry in self._own.items() if entry[1] > now}
            if len(self._own) >= MAX_REMEMBERED:
                self._own.clear()
            count, until = self._own.get(key, (0, now + WINDOW_S))
            if until <= now:
                count, until = 0, now + WINDOW_S
            self._own[key] = (count + 1, until)
            return count + 1


def _judge_counts(counts: Sequence[int], most: Sequence[int]) -> SignInDecision:
    over = [count > limit for count, limit in zip(counts, most, strict=False)]
    first_refused = True in over and len(counts) == over.index(True) + 2
    is_allowed = True not in over
    return SignInDecision(is_allowed=is_allowed, is_recorded=(is_allowed or first_refused) and counts[-1] <= RECORDED)


class Turns:
    """Lets a few sign-ins at a time do what is costly, and a few more wait: a flood must not overload the machine."""

    def __init__(self, at_once: int) -> None:
        self._running = threading.BoundedSemaphore(at_once)
        self._inside = threading.BoundedSemaphore(at_once + WAITING)

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Yield whether it is the caller's turn now, after waiting at most WAIT_S."""
        if not self._inside.acquire(blocking=False):
            yield False
            return
        try:
            is_free = self._running.acquire(timeout=WAIT_S)
            try:
                yield is_free
            finally:
                if is_free:
                    self._running.release()
        finally:
            self._inside.release()


def _network_of(address: str | None) -> str:
    """What one attacker controls: an IPv4 address, or an IPv6 network."""
    found: Address | None = parse_address(address or "")
    if found is None:
        return "unknown"
    return str(found) if found.version == 4 else str(int(found) >> (128 - IPV6_PREFIX))


def _attempt_key(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{PREFIX}:tries:{digest[:32]}"
