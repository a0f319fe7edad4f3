"""Read-only Lua if the server permits it: many small reads in one command, large values truncated on the server."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import TypeVar

from redis.exceptions import NoPermissionError, ResponseError

from ..clock import monotonic_s
from ..sources.failures import SlotMovingError
from ..sources.source import Argument, Command, Reply, Source

T = TypeVar("T")

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

    def split(self, items: Sequence[T], most: int, key: Callable[[T], Argument]) -> list[Sequence[T]]:
        """Split `items` into parts of at most `most` for one call each, in order. In a cluster, a script can only read
        what is in one hash slot, so the keys of a part, of which `key` names one per item, are in the same.
        """
        if not self._source.is_cluster:
            return [items[start : start + most] for start in range(0, len(items), most)]
        parts: list[Sequence[T]] = []
        for _, group in groupby(items, key=lambda item: self._source.slot_of(key(item))):
            own = list(group)
            parts += [own[start : start + most] for start in range(0, len(own), most)]
        return parts

    def run(
        self,
        script: str,
        calls: Sequence[Sequence[Argument]],
        also: Sequence[Command] = (),
        *,
        at: Sequence[Argument] = (),
    ) -> tuple[list[Reply], list[Reply]] | None:
        """Run `script` with the ARGV of each call, and the plain commands `also`; return both lists of replies.

        `at`: a key of each call, which in a cluster shows the node that runs it. None if the user may not run scripts,
        or while the keys are being moved to another node: the caller then uses plain commands. A failed call has its
        error as its reply. Cost: 1 round trip; one more the first time on Redis 6.
        """
        if self.are_refused:
            return None
        sent = self._command  # by this thread: another one may learn in between that it is unknown
        replies = self._send(sent, script, calls, also, at)
        if calls and sent == "EVAL_RO" and _unknown_command(replies[0]):
            self._command = "EVAL"
            replies = self._send("EVAL", script, calls, also, at)
        if calls and isinstance(replies[0], NoPermissionError) and "command" in str(replies[0]):
            self._refused_at = monotonic_s()
            return None
        self._refused_at = None
        if self._source.is_cluster and any(isinstance(reply, SlotMovingError) for reply in replies):
            return None
        return replies[: len(calls)], replies[len(calls) :]

    def command(self, script: str, *arguments: Argument) -> Command:
        """Return the command that runs `script`, for use in a batch; its reply is an error if scripts are refused."""
        return (self._command, compact_script(script), 0, *arguments)

    def _send(
        self,
        command: str,
        script: str,
        calls: Sequence[Sequence[Argument]],
        also: Sequence[Command],
        at: Sequence[Argument],
    ) -> list[Reply]:
        text = _script_bytes(script)
        if self._source.is_cluster and at:
            placed = zip(at, calls, strict=True)
            return self._source.batch_in_pieces([*([(command, text, 1, key, *call)] for key, call in placed), also])
        return self._source.batch_in_pieces([*([(command, text, 0, *call)] for call in calls), also])


class NoScripts(Scripts):
    """For keys that no script can read together, because they are on several nodes of a cluster."""

    @property
    def are_refused(self) -> bool:
        """Whether scripts are refused: always."""
        return True


def _unknown_command(reply: Reply) -> bool:
    return isinstance(reply, ResponseError) and "unknown command" in str(reply).lower()
