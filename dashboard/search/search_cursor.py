"""Where a search continues, and what it found before: a cursor as text, which URLs and the API carry.

The server remembers nothing between two parts of a search.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from ..errors import Unsupported
from ..sources.source import raw_bytes

# The last found jobs, which are not found again: 1,200 characters of a URL.
MAX_KNOWN = 150
KEY_LENGTH = 8
_NUMBERS = 8


@dataclass(frozen=True, slots=True)
class SearchCursor:
    """The number of the turn, of the list in it and of the row in that; `list_key` identifies that list.

    The number is one among the lists of a state: `state` is the number of that in the order of the search, and `lists`
    counts its lists. `found`, `searched`, `unread`: matching jobs, rows searched and parts that could not be read, in
    all parts before. `known`: the keys of the last found jobs.
    """

    turn: int = 0
    list_number: int = 0
    offset: int = 0
    found: int = 0
    searched: int = 0
    unread: int = 0
    state: int = 0
    lists: int = 0
    list_key: str = ""
    known: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The cursor as text; parse_cursor reads it."""
        where = (self.turn, self.list_number, self.offset)
        numbers = (*where, self.found, self.searched, self.unread, self.state, self.lists)
        return ".".join((*map(str, numbers), self.list_key, "".join(self.known[-MAX_KNOWN:])))


def parse_cursor(text: str | None) -> SearchCursor:
    """The cursor; None is the start. Raises Unsupported for a text that is none."""
    if text is None:
        return SearchCursor()
    parts = text.split(".")
    numbers, rest = parts[:_NUMBERS], parts[_NUMBERS:]
    fits = len(rest) == 2 and all(part.isascii() and part.isdigit() and len(part) < 10 for part in numbers)
    if not fits or len(rest[0]) not in (0, KEY_LENGTH) or len(rest[1]) > MAX_KNOWN * KEY_LENGTH:
        raise Unsupported("Invalid search cursor.", hint="Start the search again.")
    keys = (rest[1][start : start + KEY_LENGTH] for start in range(0, len(rest[1]), KEY_LENGTH))
    turn, number, offset, found, searched, unread, state, lists = map(int, numbers)
    return SearchCursor(turn, number, offset, found, searched, unread, state, lists, rest[0], tuple(keys))


def key_of(*parts: str | None) -> str:
    """A short key of what these parts identify: 48 bits of a hash."""
    raw = raw_bytes("\0".join(part or "" for part in parts))
    return base64.urlsafe_b64encode(hashlib.blake2b(raw, digest_size=6).digest()).decode("ascii")
