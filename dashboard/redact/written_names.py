"""Names as programs write them: customer_id, customerId, Customer-ID and "customer id" are the same."""

from __future__ import annotations

import re
from collections.abc import Iterable

WORD = re.compile(r"[A-Z]?[a-z]++|[A-Z]++(?![a-z])|[A-Z]|\d++")
_JOINTS = str.maketrans("", "", "-_ .")


def plain_name(name: str) -> str:
    """Return `name` in lower case, without dashes, underscores, spaces and dots."""
    return name.lower().translate(_JOINTS)


def last_words(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return, for each last word of a name of several words, what can be before it, as `plain_name` writes it."""
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        parts = [word.lower() for word in WORD.findall(name)]
        if len(parts) > 1:
            found[parts[-1]] = (*found.get(parts[-1], ()), "".join(parts[:-1]))
    return found
