"""Read-only Lua if the server permits it: many small reads in one command, large values truncated on the server."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from redis.exceptions import NoPermissionError, ResponseError

from ..clock import monotonic_s
from ..sources.source import Argument, Command, Reply, Source

# A user without scripting may get it later; trying again costs one refused command.
ASK_AGAIN_S = 300.0

_COMMENT = re.compile(r"^[ \t]*+--.*\n|^ ++", re.MULTILINE)


@cache
def read_scripts(package: str, *names: str) -> str:
    """Return the text of scripts in the folder `lua/` of a package, one after the other."""
    folder = files(package).joinpath("lua")
    return "\n".join(folder.joinpath(f"{name}.lua").read_text("utf-8") for name in names)


@cache
def compact_script(script: str) -> str:
    """Return a script without comment lines and indentation: its text is sent to the server with every call."""
    return _COMMENT.sub("", script)


@cache
def _script_bytes(script: str) -> bytes:
    """The compacted script, encoded once: hundreds of calls per sample send it."""
    return compact_script(script).encode()


class Scripts:
    """Runs read-only scripts on one source; remembers which command the server has, and whether it is permitted.

    Thread-safe.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._command = "EVAL_RO"  # Redis 7: the server itself refuses writes; older servers only have EVAL
        self._refused_at: float | None = None

    @property
    def are_refused(self) -> bool:
        """Whether scripts were refused within the last ASK_AGAIN_S seconds."""
        return self._refused_at is not None and monotonic_s() - self._refused_at < ASK_AGAIN_S

    def run(
        self, script: str, calls: Sequence[Sequence[Argument]], also: Sequence[Command] = ()
    ) -> tuple[list[Reply], list[Reply]] | None:
        """Run `script` with the ARGV of each call, and the plain commands `also`; return both lists of replies.

        None if the user may not run scripts: the caller then uses plain commands. A failed call has its error as its
        reply. Cost: 1 round trip; one more the first time on Redis 6.
        """
        if self.are_refused:
            return None
        sent = self._command  # by this thread: another one may learn in between that it is unknown
        replies = self._send(sent, script, calls, also)
        if calls and sent == "EVAL_RO" and _unknown_command(replies[0]):
            self._command = "EVAL"
            replies = self._send("EVAL", script, calls, also)
        if calls and isinstance(replies[0], NoPermissionError) and "command" in str(replies[0]):
            self._refused_at = monotonic_s()
            return None
        self._refused_at = None
        return replies[: len(calls)], replies[len(calls) :]

    def command(self, script: str, *arguments: Argument) -> Command:
        """Return the command that runs `script`, for use in a batch; its reply is an error if scripts are refused."""
        return (self._command, compact_script(script), 0, *arguments)

    def _send(
        self, command: str, script: str, calls: Sequence[Sequence[Argument]], also: Sequence[Command]
    ) -> list[Reply]:
        text = _script_bytes(script)
        return self._source.batch_in_pieces([*([(command, text, 0, *call)] for call in calls), also])


def _unknown_command(reply: Reply) -> bool:
    return isinstance(reply, ResponseError) and "unknown command" in str(reply).lower()
