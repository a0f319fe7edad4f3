"""How well a text matches the words that a user typed. Pure; time is linear in the text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache

# Parts of a name begin after a sign, and at a capital within a word: orderConfirmations.
_BETWEEN_PARTS = re.compile(r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])")
LONGEST_TEXT = 300


class Match(IntEnum):
    """How one word matches a text; the lower, the better."""

    WHOLE = 0
    BEGINNING = 1
    PART = 2  # a part of the name begins with it
    INITIALS = 3  # of the parts of the name
    INSIDE = 4


def match_word(word: str, text: str) -> Match | None:
    """How `word`, in lower case, matches `text`; None if it does not."""
    text = text[:LONGEST_TEXT]
    folded = text.casefold()
    if word in folded:
        if folded.startswith(word):
            return Match.WHOLE if len(word) == len(folded) else Match.BEGINNING
        begins = any(part.casefold().startswith(word) for part in _BETWEEN_PARTS.split(text))
        return Match.PART if begins else Match.INSIDE
    if len(word) < 2:
        return None
    return Match.INITIALS if _initials_of(text).startswith(word) else None


@lru_cache(maxsize=10_000)
def _initials_of(text: str) -> str:
    """The initials of the parts of a name; the same names are asked for at every key."""
    return "".join(part[0] for part in _BETWEEN_PARTS.split(text) if part).casefold()


def match_words(words: Sequence[str], text: str) -> int | None:
    """The sum over `words`, 0 for none; None if one of them does not match `text`."""
    total = 0
    for word in words:
        match = match_word(word, text)
        if match is None:
            return None
        total += match
    return total
