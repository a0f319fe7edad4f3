"""Names of users: which can be shown and recorded, and which the audit log would confuse with others."""

from __future__ import annotations

import unicodedata

from ...auth import LOCAL
from ...settings import Settings

MAX_NAME = 200
# Recorded in the audit log instead of an unknown name: users type passwords into that field by mistake.
UNKNOWN_USER = "(unknown name)"


def taken_names(settings: Settings) -> set[str]:
    """The names under which the audit log records local users, the API tokens of the settings, and unknown users."""
    of_tokens = {entry.split(":")[0] for entry in settings.api_tokens}
    return {LOCAL.name, UNKNOWN_USER, *(user.name for user in settings.users)} | of_tokens


def folded_name(name: str) -> str:
    """The same for names that people, or a search of the audit log, would confuse."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def is_user_name(name: str) -> bool:
    """Whether `name` can be shown and recorded as the name of a user."""
    return 0 < len(name) <= MAX_NAME and name.isprintable() and name == name.strip()
