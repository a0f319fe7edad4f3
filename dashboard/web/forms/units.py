"""Parse amounts such as "5 min", "80%" and "64 MiB", and write them back without loss."""

from __future__ import annotations

import re
from decimal import Decimal

_NUMBER = r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d{1,2})?"
_PART = re.compile(rf"\s*({_NUMBER})\s*([A-Za-z%]*)")
MAX_TEXT = 40

_TIME = {
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
}
_BYTES = {"": 1, "b": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3, "tib": 1024**4}
_UNITS: dict[str, dict[str, Decimal | int]] = {
    "s": dict(_TIME),
    "bytes": dict(_BYTES),
    "ratio": {"": 1, "%": Decimal("0.01")},
}
# The expected input for each unit of a metric.
EXPECTED = {
    "s": "a duration, such as 90 s, 5 min or 2 h",
    "bytes": "a size, such as 64 MiB",
    "ratio": "a ratio, such as 5% or 0.05",
    "per_min": "a number per minute",
    "per_h": "a number per hour",
    "count": "a number",
    "flag": "1 for yes",
}


def read_amount(text: str, unit: str) -> float:
    """The amount in the unit of the metric: seconds, bytes, a ratio from 0 to 1, or a plain number.

    Raises ValueError, with what was expected, for anything else.
    """
    units = _UNITS.get(unit, {"": 1})
    total, at, parts = Decimal(0), 0, 0
    text = text.strip()[: MAX_TEXT + 1]
    while at < len(text):
        found = _PART.match(text, at)
        factor = units.get(found[2].lower()) if found else None
        if found is None or factor is None or (parts and (unit != "s" or not found[2])):
            raise ValueError(f"expected {EXPECTED.get(unit, 'a number')}")
        total += Decimal(found[1].replace(",", "")) * factor
        at, parts = found.end(), parts + 1
    if not parts or len(text) > MAX_TEXT:
        raise ValueError(f"expected {EXPECTED.get(unit, 'a number')}")
    return float(total)


def write_amount(value: float, unit: str) -> str:
    """The shortest text that `read_amount` parses to exactly the same value."""
    if unit == "ratio":
        return f"{_plain_number(Decimal(repr(float(value))) * 100)}%"
    if unit not in ("s", "bytes"):
        return _plain_number(Decimal(repr(float(value))))
    sizes = ((86_400, "d"), (3600, "h"), (60, "min")) if unit == "s" else tuple(_power_units())
    for size, word in sizes:
        if value and value % size == 0:
            return f"{_plain_number(Decimal(repr(float(value))) / size)} {word}"
    return f"{_plain_number(Decimal(repr(float(value))))} {'s' if unit == 's' else 'B'}"


def _power_units() -> list[tuple[int, str]]:
    return [(1024**4, "TiB"), (1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")]


def _plain_number(number: Decimal) -> str:
    text = f"{number:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"
