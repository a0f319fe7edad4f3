"""Values that the settings describe by their shape, such as CUST-[0-9]{8}.

RE2 finds one match in linear time, whatever pattern and text are, but finding them all can take the square of it: a
pattern such as `a|a.*b` reads to the end of the text before each short match. So texts are searched in pieces, and a
piece has at most MOST_IN_PIECE values; whatever follows them in it is masked too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import ConfigurationError
from .placeholder import MASK

MAX_PATTERN = 200
# Of the compiled pattern, in instructions of RE2: [0-9]{8} has 12.
MAX_PROGRAM = 3000
PIECE, BEYOND = 4096, 512  # bytes; a value begins in one piece and has room beyond its end
MOST_IN_PIECE = 128
_WORD = re.compile(rb"\S*+")


class InvalidPattern(ValueError):
    """The pattern cannot be used; the message says why, as `expected …`."""


def check_pattern(pattern: str) -> None:
    """Raise what `ValuePatterns` would raise for this pattern."""
    _compiled(pattern)


def _compiled(pattern: str) -> Any:
    """Return the compiled pattern of RE2.

    Raises InvalidPattern, and ConfigurationError if RE2 is not installed.
    """
    if not 0 < len(pattern) <= MAX_PATTERN or not pattern.isprintable():
        raise InvalidPattern(f"expected 1 to {MAX_PATTERN} printable characters")
    try:
        import re2
    except ImportError:
        raise ConfigurationError(
            "redaction: patterns need the package google-re2", hint="Install it with: pip install 'queuedeck[re2]'"
        ) from None
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    try:
        compiled = re2.compile(pattern.encode("utf-8", "surrogatepass"), options)
    except re2.error as exc:
        why = exc.args[0] if exc.args else ""
        why = why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)
        raise InvalidPattern(f"expected a regular expression of RE2: {why}") from None
    if compiled.programsize > MAX_PROGRAM:
        raise InvalidPattern("expected a simpler regular expression, with fewer or smaller repetitions")
    found = [compiled.search(sample) for sample in (b"", b"a b", b"- -")]
    if all(found[1:]) or any(each is not None and each.start() == each.end() for each in found):
        raise InvalidPattern("expected a regular expression that matches only the values to hide, not any text")
    return compiled


class ValuePatterns:
    """Finds the values in a text that match one of some patterns."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Raises InvalidPattern and ConfigurationError, see `_compiled`."""
        self._patterns = tuple(map(_compiled, patterns))

    def mask(self, text: str) -> str:
        """Return `text` with each value that a pattern matches replaced by MASK. Time: linear for each pattern."""
        raw = text.encode("utf-8", "surrogatepass")
        spans = sorted(span for pattern in self._patterns for span in _spans(pattern, raw))
        if not spans:
            return text
        parts: list[bytes] = []
        done = 0
        for begin, end in spans:
            if begin >= done:
                parts += (raw[done:begin], MASK.encode())
            done = max(done, end)
        # A pattern can match a single byte (\C), and so divide a character.
        return _decoded(b"".join((*parts, raw[done:])))


def _spans(pattern: Any, raw: bytes) -> Iterator[tuple[int, int]]:
    """Yield where the values are in `raw`, in their order."""
    at = 0
    while at < len(raw):
        stop = _end_of_character(raw, at + PIECE)
        end = min(stop + BEYOND, len(raw))
        for _ in range(MOST_IN_PIECE):
            found = pattern.search(raw, at, end)
            if found is None or found.start() >= stop:
                at = stop
                break
            at = found.end()
            if at == end < len(raw) and (word := _WORD.match(raw, end)) is not None:
                at = word.end()  # the value may be longer: hide the rest of the word
            if at > found.start():
                yield found.start(), at
            else:  # of no length
                at = _end_of_character(raw, at + 1)
            if at >= stop:
                break
        else:
            yield at, stop
            at = stop


def _end_of_character(raw: bytes, at: int) -> int:
    """Return the first beginning of a character in UTF-8 at `at` or after it, or the end."""
    while at < len(raw) and raw[at] & 0xC0 == 0x80:
        at += 1
    return min(at, len(raw))


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace")
