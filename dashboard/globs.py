"""Name patterns that users write: `*` matches any characters, `?` matches one, nothing else is special. Pure.

Names come from anyone who can enqueue a job, so matching never backtracks: each part of a pattern between stars is
matched where it first fits and not tried again.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import groupby

# Long patterns have crashed Redis (CVE-2024-31228), so patterns are limited everywhere.
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_.:{}|@/+-]")
GLOB_LIMIT = 64
EXPECTED = f"globs of at most {GLOB_LIMIT} characters with * and ? only"


def is_glob(text: str) -> bool:
    """Whether `text` is a valid name pattern."""
    return 0 < len(text) <= GLOB_LIMIT and not set(text) & set("[]\\")


def is_plain(text: str) -> bool:
    """Whether a pattern has no wildcards and so matches only itself."""
    return not set(text) & set("*?")


def glob_matches(glob: str, name: str) -> bool:
    """Whether `glob` matches the whole `name`; case-sensitive. Time: GLOB_LIMIT times the length of the name."""
    if glob == "*":
        return True
    return glob == name if is_plain(glob) else _compiled(merged(glob)).match(name) is not None


def merged(glob: str) -> str:
    """`glob` with adjacent stars merged into one, which matches the same names."""
    return "".join(sign if sign == "*" else "".join(signs) for sign, signs in groupby(glob))


@lru_cache(512)
def _compiled(glob: str) -> re.Pattern[str]:
    parts = glob.split("*")
    first, *middle, last = (re.escape(part).replace(r"\?", ".") for part in (parts if len(parts) > 1 else [glob, ""]))
    if len(parts) == 1:
        return re.compile(rf"{first}\Z", re.DOTALL)
    # Atomic groups do not backtrack: matching a part as early as possible leaves the most text for the parts after it.
    between = "".join(f"(?>.*?{part})" for part in middle)
    return re.compile(rf"{first}{between}(?=.{{{len(parts[-1])}}}).*+\Z(?<={last})", re.DOTALL)


def key_pattern(name: str) -> str:
    """A Redis pattern that matches the key of this name, without spaces: `?` replaces all characters that are not
    plain.
    """
    return _NOT_PLAIN.sub("?", name)
