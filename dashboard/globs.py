"""Patterns of names that people write: `*` for any characters and `?` for one, nothing else. Pure.

Whoever can enqueue a job chooses the names, so matching is linear: of a pattern's parts between stars each is taken
where it first fits and never sought again.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import groupby

# Longer patterns have crashed Redis (CVE-2024-31228), so ours stay short everywhere.
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_.:{}|@/+-]")
GLOB_LIMIT = 64
EXPECTED = f"globs of at most {GLOB_LIMIT} characters with * and ? only"


def is_glob(text: str) -> bool:
    """Whether `text` may be used as a pattern of names."""
    return 0 < len(text) <= GLOB_LIMIT and not set(text) & set("[]\\")


def is_plain(text: str) -> bool:
    """Whether a pattern matches one name alone, which it is."""
    return not set(text) & set("*?")


def glob_matches(glob: str, name: str) -> bool:
    """Whether the whole of `name` fits `glob`, upper and lower case told apart. Time: GLOB_LIMIT times its length."""
    if glob == "*":
        return True
    return glob == name if is_plain(glob) else _compiled(merged(glob)).match(name) is not None


def merged(glob: str) -> str:
    """`glob` with neighbouring stars as one, which fits the same names."""
    return "".join(sign if sign == "*" else "".join(signs) for sign, signs in groupby(glob))


@lru_cache(512)
def _compiled(glob: str) -> re.Pattern[str]:
    parts = glob.split("*")
    first, *middle, last = (re.escape(part).replace(r"\?", ".") for part in (parts if len(parts) > 1 else [glob, ""]))
    if len(parts) == 1:
        return re.compile(rf"{first}\Z", re.DOTALL)
    # An atomic group is never entered again: the first place where a part fits leaves most to the parts behind it.
    between = "".join(f"(?>.*?{part})" for part in middle)
    return re.compile(rf"{first}{between}(?=.{{{len(parts[-1])}}}).*+\Z(?<={last})", re.DOTALL)


def key_pattern(name: str) -> str:
    """A pattern of Redis that matches the key of this name, in one printable word: `?` for all that is not plain."""
    return _NOT_PLAIN.sub("?", name)
