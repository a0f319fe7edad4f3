"""One-time codes of authenticator apps (TOTP, RFC 6238), as a second factor of local users."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import threading

import pyotp

from ...clock import now_s
from ...errors import QueuedeckError
from ...settings import UserSettings
from ...store.redis_store import PREFIX, Store

STEP_S = 30
# A code of the step before and the step after is accepted, too: clocks differ, and typing takes time.
STEPS = (0, -1, 1)
KEEP_S = 4 * STEP_S

# KEYS the last step of a user. ARGV step, TTL in seconds. Returns 1 if no code of this step or a later one was used. A
# step that is further ahead than any accepted one was not recorded by a right clock.
_USE = """
local last = number(KEYS[1], 0, tonumber(ARGV[1]) + 2)
if last and last >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""


class OneTimeCodes:
    """Checks codes, each of which is accepted once: by all processes while Redis responds, else by this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[str, int] = {}  # name -> step of the last accepted code

    def is_right(self, store: Store | None, user: UserSettings, code: str) -> bool:
        """Whether `code` is one of the user's at this time, and has not been used. True for a user without a secret.

        Cost: 1 round trip for a right code.
        """
        if user.totp_secret is None:
            return True
        step = _step_of(user.totp_secret, "".join(code.split()))
        return step is not None and self._use_here(user.name, step) and _use(store, user.name, step)

    def _use_here(self, name: str, step: int) -> bool:
        with self._lock:
            if step <= self._last.get(name, -1) <= step + 2:  # else a clock was wrong
                return False
            self._last[name] = step
            return True


def _step_of(secret: str, code: str) -> int | None:
    """The step whose code this is; None if it is none of STEPS. Takes the same time for each code."""
    totp, now = pyotp.TOTP(secret, interval=STEP_S), int(now_s()) // STEP_S
    given = code.encode("utf-8", "replace")
    right = [now + more for more in STEPS if hmac.compare_digest(totp.at((now + more) * STEP_S).encode(), given)]
    return right[0] if right else None


def _use(store: Store | None, name: str, step: int) -> bool:
    key = f"{PREFIX}:codes:{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    if store is not None:
        with contextlib.suppress(QueuedeckError):  # a Redis that is down must not lock users out
            return bool(store.run_script(_USE, (key,), step, KEEP_S))
    return True
