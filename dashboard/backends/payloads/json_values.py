"""Values decoded from JSON, and what of them a page or another JSON document can represent."""

from __future__ import annotations

import math
from typing import Any


class JSONNumber(str):
    """A JSON number as written, which may not fit into a float or integer."""

    __slots__ = ()

    def plain(self) -> int | float | str:
        """The number itself, or its text if Python cannot represent it."""
        try:
            if not any(sign in self for sign in ".eE"):
                return int(self)
        except ValueError:  # thousands of digits
            return str(self)
        number = float(self)
        return number if math.isfinite(number) else str(number)


def plain_value(value: Any) -> Any:
    """Return a value without any JSONNumber, infinity or lone surrogate."""
    if isinstance(value, dict):
        return {plain_text(key): plain_value(child) for key, child in value.items()}
    if isinstance(value, list):
        return [plain_value(child) for child in value]
    if isinstance(value, JSONNumber):
        return value.plain()
    if isinstance(value, str):
        return plain_text(value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def plain_text(value: str) -> str:
    # JSON can escape lone surrogates, which a UTF-8 page cannot contain.
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
