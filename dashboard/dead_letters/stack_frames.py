"""The innermost application frames of a stack trace of Python, JavaScript or Ruby: where the error was raised.

Pure. A frame is the file's base name and the function; lines and columns change with every release.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from .normalize import NON_WORDS, folded_word

FRAMES = 3
# Of a longer stack, both ends are read: Python prints the innermost call last, the others first.
STACK_LIMIT = 16 * 1024
LINE_LIMIT = 500
MAX_LINES = 200
# Jobs with the same error share the lines of their stacks.
CACHED_LINES = 4096

_PYTHON = re.compile(r'\s*File "([^"]{1,400})", line \d{1,9}(?:, in (.{1,200}))?\Z')
_JS_CALL = re.compile(r"\s*at (?:async )?(?:new )?([^()]{1,200}?)(?: \[as [^\]]{1,100}\])? \(([^()]{1,400})\)\Z")
_JS_BARE = re.compile(r"\s*at (?:async )?([^()\s]{1,400}:\d{1,9}:\d{1,9})\Z")
_RUBY = re.compile(r"\s*(?:from )?([^\s:'\"`]{1,400}\.rb):\d{1,9}(?::in [`'](.{1,200})')?\Z")
_JS_PLACE = re.compile(r":\d{1,9}(?::\d{1,9})?\Z")
_LIBRARY = re.compile(
    r"site-packages|dist-packages|node_modules|\bnode:|\binternal/|\A<frozen |\A<internal:|\A<anonymous>\Z|\Anative\Z"
    r"|/lib/python\d|\\lib\\(?!site)|/usr/lib/|/gems/|/lib/ruby/|\Aevalmachine\."
)
_OWNERS = re.compile(r"[#.]")
_FOLDERS = re.compile(r"[/\\]")
_TRACEBACK = "Traceback (most recent call last)"


def own_frames(stack: str) -> tuple[str, ...]:
    """The FRAMES innermost application frames, innermost first, each as `file.py:function`; () if there are none."""
    if len(stack) > STACK_LIMIT:
        half = STACK_LIMIT // 2
        stack = f"{stack[:half]}\n{stack[-half:]}"
    if _TRACEBACK in stack:
        # In a chain of causes, the last one is the error that the job died of.
        stack = stack[stack.rindex(_TRACEBACK) :]
    lines = [line[:LINE_LIMIT].rstrip() for line in _both_ends(stack.splitlines())]
    if _TRACEBACK in stack or 'File "' in stack:
        return _first_frames(_python_frame(line) for line in reversed(lines))
    return _first_frames(_other_frame(line) for line in lines)


def _both_ends(lines: list[str]) -> list[str]:
    half = MAX_LINES // 2
    return lines if len(lines) <= MAX_LINES else [*lines[:half], *lines[-half:]]


def _first_frames(found: Iterable[str | None]) -> tuple[str, ...]:
    """The first FRAMES frames that are not None; a recursive function counts once."""
    kept: list[str] = []
    for frame in found:
        if frame is not None and frame not in kept:
            kept.append(frame)
            if len(kept) == FRAMES:
                break
    return tuple(kept)


@lru_cache(CACHED_LINES)
def _python_frame(line: str) -> str | None:
    match = _PYTHON.match(line)
    return _build_frame(match[1], match[2]) if match else None


@lru_cache(CACHED_LINES)
def _other_frame(line: str) -> str | None:
    if match := _JS_CALL.match(line):
        return _build_frame(_JS_PLACE.sub("", match[2]), match[1])
    if match := _JS_BARE.match(line):
        return _build_frame(_JS_PLACE.sub("", match[1]), None)
    if match := _RUBY.match(line):
        return _build_frame(match[1], _ruby_method(match[2]))
    return None


def _ruby_method(label: str | None) -> str | None:
    """`each` from "block (2 levels) in Shop::Cart#each": the text around the name differs between Ruby releases."""
    if label is None:
        return None
    return _OWNERS.split(label.rpartition(" in ")[2])[-1] or None


def _build_frame(path: str, function: str | None) -> str | None:
    if _LIBRARY.search(path):
        return None
    base = _FOLDERS.split(path.partition("?")[0])[-1]
    name = "".join(folded_word(part) for part in NON_WORDS.split(base))
    return f"{name}:{function.strip()}" if function else name
