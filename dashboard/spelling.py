"""Suggestions for misspelled names."""

from __future__ import annotations

import difflib
from collections.abc import Collection

MAX_NAME = 60  # how much of a name is compared: it can have any length


def close_name(name: str, known: Collection[str]) -> str | None:
    """The known name most similar to `name`, or sharing its beginning; None if there is none."""
    asked = name[:MAX_NAME].lower().replace("-", "_")
    close = difflib.get_close_matches(asked, known, n=1)
    if close:
        return close[0]
    return next((each for each in known if asked and (each.startswith(asked) or asked.startswith(each))), None)
