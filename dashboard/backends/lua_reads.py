"""Read-only Lua where the server permits it: many small reads in one command, big values cut before they travel."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from redis.exceptions import NoPermissionError, ResponseError

from ..clock import monotonic_s
from ..sources.source import Argument, Command, Reply, Source

# A user without scripting may be granted it later; asking again costs one refused command.
ASK_AGAIN_S = 300.0

_COMMENT = re.compile(r"^[ \t]*+--.*\n|^ ++", re.MULTILINE)


@cache
def compact_script(script: str) -> str:
    """A script without its lines of comment and its indents: the server is sent its text, and reads it, each time."""
    return _COMMENT.sub("", script)


@cache
def _script_bytes(script: str) -> bytes:
    """The same as it is sent: hundreds of calls of one sample carry it."""
    return compact_script(script).encode()


class Scripts:
    """Runs read-only scripts on one source; remembers which command the server has for that, and whether it may."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._command = "EVAL_RO"  # Redis 7: the server itself refuses a write; older ones have EVAL alone
        self._refused_at: float | None = None

    @property
    def are_refused(self) -> bool:
        """Whether the user was found not to be permitted scripts lately."""
        return self._refused_at is not None and monotonic_s() - self._refused_at < ASK_AGAIN_S

    def run(
        self, script: str, calls: Sequence[Sequence[Argument]], also: Sequence[Command] = ()
    ) -> tuple[list[Reply], list[Reply]] | None:
        """(the reply to `script` for the ARGV of each call, the replies to the plain commands of `also`), in order.

        None when the user may not run scripts: the caller then takes plain commands. An error of one call stands in
        its place. Cost: 1 round trip; one more the first time on Redis 6.
        """
        if self.are_refused:
            return None
        replies = self._send(script, calls, also)
        if calls and self._command == "EVAL_RO" and _unknown_command(replies[0]):
            self._command = "EVAL"
            replies = self._send(script, calls, also)
        if calls and isinstance(replies[0], NoPermissionError) and "command" in str(replies[0]):
            self._refused_at = monotonic_s()
            return None
        self._refused_at = None
        return replies[: len(calls)], replies[len(calls) :]

    def command(self, script: str, *arguments: Argument) -> Command:
        """The command that runs `script`, to travel with others; its reply is an error where scripts are refused."""
        return (self._command, compact_script(script), 0, *arguments)

    def _send(self, script: str, calls: Sequence[Sequence[Argument]], also: Sequence[Command]) -> list[Reply]:
        text = _script_bytes(script)
        return self._source.batch_in_pieces([*([(self._command, text, 0, *call)] for call in calls), also])


def _unknown_command(reply: Reply) -> bool:
    return isinstance(reply, ResponseError) and "unknown command" in str(reply).lower()
