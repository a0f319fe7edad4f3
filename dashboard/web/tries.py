"""How often somebody may try a password, so that nobody can guess one, nor keep the real person out.

A browser in which that person has signed in before has a count of its own: strangers' tries do not touch it.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from dashboard.access import Address, parse_address
from dashboard.collect.store import PREFIX
from dashboard.errors import QueuedeckError
from dashboard.sources import Source

WINDOW_S = 15 * 60
PER_NAME_AND_ADDRESS = 5
PER_ADDRESS = 30
PER_NAME = 50  # from anywhere: so slowly guesses only who knows much already
PER_BROWSER = 5  # that is known
RECORDED = 300  # failed tries of a window that go to the audit; the log has all of them
MAX_REMEMBERED = 10_000
IPV6_PREFIX = 64  # bits of an IPv6 address that one customer has at least
CHECKS_AT_ONCE = 2  # each takes about 0.1 s of a core and 32 MB
WAITING = 4  # for one of those, at most WAIT_S
WAIT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """Somebody tries the password of `name` from `address`, in the browser with that mark where it is known for it."""

    name: str
    address: str | None
    browser: str | None = None

    def limits(self) -> tuple[tuple[str, int], ...]:
        """What counts it: (text that stands for it, how many there may be), and at last all tries there are."""
        everything = ("all", RECORDED)
        if self.browser is not None:
            return ((f"browser\0{self.browser}\0{self.name}", PER_BROWSER), everything)
        place = _place(self.address)
        return (
            (f"both\0{self.name}\0{place}", PER_NAME_AND_ADDRESS),
            (f"address\0{place}", PER_ADDRESS),
            (f"name\0{self.name}", PER_NAME),
            everything,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What counting one try said."""

    is_allowed: bool
    is_first_refused: bool  # the limit was passed by this very try
    is_recorded: bool  # there is room for it in the audit


class Tries:
    """Counts tries: in Redis for all processes, in memory without it.

    Redis that is down must not lock anybody out, nor allow guessing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._own: dict[str, tuple[int, float]] = {}  # key -> (tries, monotonic end)

    def count(self, own: Source | None, tried: Try) -> Counted:
        """Count one try. Cost: 1 round trip."""
        limits = tried.limits()
        counts = self._counts(own, [_key(text) for text, _ in limits])
        over = [count - most for count, (_, most) in zip(counts, limits, strict=True)]
        return Counted(
            is_allowed=max(over[:-1]) <= 0,
            is_first_refused=max(over[:-1]) > 0 and 1 in over[:-1],
            is_recorded=over[-1] <= 0,
        )

    def forgive(self, own: Source | None, tried: Try) -> None:
        """The password was right: this try does not count, nor earlier ones of that person there. 1 round trip."""
        first, *others = (_key(text) for text, _ in tried.limits())
        with self._lock:
            self._own.pop(first, None)
            for key in others:
                if key in self._own:
                    count, until = self._own[key]
                    self._own[key] = (count - 1, until)
        if own is None:
            return
        # SET first: a count that has just expired must not come back without an end.
        less = [each for key in others for each in (("SET", key, 0, "EX", WINDOW_S, "NX"), ("DECR", key))]
        try:
            own.batch([("DEL", first), *less])
        except QueuedeckError:
            return

    def _counts(self, own: Source | None, keys: Sequence[str]) -> list[int]:
        here = [self._count_here(key) for key in keys]
        if own is None:
            return here
        commands = [each for key in keys for each in (("SET", key, 0, "EX", WINDOW_S, "NX"), ("INCR", key))]
        try:
            replies = own.batch(commands)
        except QueuedeckError:
            return here
        return [reply if isinstance(reply, int) else count for reply, count in zip(replies[1::2], here, strict=True)]

    def _count_here(self, key: str) -> int:
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


class Checks:
    """Lets a few passwords be checked at once, and a few people wait: a flood of them takes no more of the machine."""

    def __init__(self) -> None:
        self._running = threading.BoundedSemaphore(CHECKS_AT_ONCE)
        self._inside = threading.BoundedSemaphore(CHECKS_AT_ONCE + WAITING)

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Whether one may be checked now; waits for at most WAIT_S."""
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


def _place(address: str | None) -> str:
    """What one guesser has: an address, of IPv6 the network."""
    found: Address | None = parse_address(address or "")
    if found is None:
        return "unknown"
    return str(found) if found.version == 4 else str(int(found) >> (128 - IPV6_PREFIX))


def _key(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{PREFIX}:tries:{digest[:32]}"
