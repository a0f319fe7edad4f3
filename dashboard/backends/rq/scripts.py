"""Read-only Lua for what plain commands cannot do in one round trip, and whether this Redis lets us run it.

The scripts build keys from what they read, which one Redis allows; they hold no writing command.
"""

from __future__ import annotations

from pathlib import Path

from redis.exceptions import ResponseError

from dashboard.clock import monotonic_s
from dashboard.sources import Reply

_FOLDER = Path(__file__).parent / "lua"
# A user who may not run scripts is not asked to at every sample: each refusal lands in the server's ACL log.
ASK_AGAIN_S = 600.0


def load(name: str) -> str:
    """The text of a script."""
    return (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")


class Scripting:
    """Whether scripts may be run on one source; learnt from refusals, forgotten after ten minutes."""

    def __init__(self) -> None:
        self._refused_at: float | None = None

    @property
    def allowed(self) -> bool:
        """Whether it makes sense to send a script."""
        return self._refused_at is None or monotonic_s() - self._refused_at > ASK_AGAIN_S

    def refused(self, reply: Reply) -> bool:
        """Whether `reply` to a script is a refusal, which is remembered."""
        if not isinstance(reply, ResponseError):
            return False
        self._refused_at = monotonic_s()
        return True
