"""The role of a user who signs in elsewhere."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from ...auth import Role

MAX_NAME = 200


def highest_role(names: Iterable[str | None]) -> Role | None:
    """The highest of the roles with these names; None if none is named."""
    return max((Role[name.upper()] for name in names if name is not None), default=None)


def folded_name(name: str) -> str:
    """The same for names that people, or a search of the audit log, would confuse."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def is_user_name(name: str) -> bool:
    """Whether `name` can be shown and recorded as the name of a user."""
    return 0 < len(name) <= MAX_NAME and name.isprintable() and name == name.strip()
