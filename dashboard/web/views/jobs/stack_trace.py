"""A stack trace as frames, with those of the application separated from those of libraries and runtimes."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LINES = 400
# The start of a frame in Python ('  File "…", line 3') and in JavaScript ('    at f (file:1:2)').
_FRAME = re.compile(r'\s*(?:File "|at )')
_LIBRARY = re.compile(
    r"site-packages|dist-packages|node_modules|node:|\(internal/|<frozen |<anonymous>"
    r"|/lib/python\d|\\lib\\(?!site)|/usr/lib/|\bnative\b"
)


@dataclass(frozen=True, slots=True)
class StackFrame:
    """Adjacent lines of a stack trace; `library` = they are in code of a library or runtime."""

    text: str
    library: bool


def frames(stack: str) -> tuple[StackFrame, ...]:
    """The trace in order, adjacent frames of one kind joined. Lines outside frames count as the application's."""
    lines = stack.splitlines()
    cut = len(lines) - MAX_LINES
    if cut > 0:
        # The cause is last in Python and first in JavaScript: keep both ends.
        half = MAX_LINES // 2
        lines = [*lines[:half], f"… {cut} lines omitted …", *lines[-half:]]
    found: list[tuple[bool, list[str]]] = []
    library = False
    for line in lines:
        if _FRAME.match(line):
            library = bool(_LIBRARY.search(line))
        elif line and not line[0].isspace():
            library = False
        if found and found[-1][0] == library:
            found[-1][1].append(line)
        else:
            found.append((library, [line]))
    return tuple(StackFrame("\n".join(group), of_library) for of_library, group in found)
