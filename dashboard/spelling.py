"""Which name was meant, where one is not known."""

from __future__ import annotations

import difflib
from collections.abc import Collection

MAX_NAME = 60  # of a longer one no more is compared: it may be of any length


def close_name(name: str, known: Collection[str]) -> str | None:
    """The known name that is most like `name`, or begins as it does; None where none is."""
    asked = name[:MAX_NAME].lower().replace("-", "_")
    close = difflib.get_close_matches(asked, known, n=1)
    if close:
        return close[0]
    return next((each for each in known if asked and (each.startswith(asked) or asked.startswith(each))), None)
