"""Durations, sizes, percentages and plain numbers as text, and back; and texts that fit.

`format_…` rounds for reading. `write_amount` is exact: `read_amount` parses its text to the same value. Both take the
unit of a metric: "s", "bytes", "ratio", "per_min", "per_h", "count" or "flag".
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

UNKNOWN = "–"
MAX_TEXT = 40
_TIMES = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_SIZES = {"TiB": 1024**4, "GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "B": 1}
_COUNTS = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}

_NUMBER = r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d{1,2})?"
_PART = re.compile(rf"\s*({_NUMBER})\s*([A-Za-z%]*)")
# The names of each unit in lower case, with what one of it is worth; "" is a number alone.
_NAMES: dict[str, dict[str, Decimal | int]] = {
    "s": {
        "ms": Decimal("0.001"),
        **dict.fromkeys(("", "s", "sec", "second", "seconds"), _TIMES["s"]),
        **dict.fromkeys(("m", "min", "minute", "minutes"), _TIMES["m"]),
        **dict.fromkeys(("h", "hour", "hours"), _TIMES["h"]),
        **dict.fromkeys(("d", "day", "days"), _TIMES["d"]),
    },
    "bytes": {"": 1, **{name.lower(): size for name, size in _SIZES.items()}},
    "ratio": {"": 1, "%": Decimal("0.01")},
}
# The expected input for each unit.
EXPECTED = {
    "s": "a duration, such as 90 s, 5 m or 2 h",
    "bytes": "a size, such as 64 MiB",
    "ratio": "a ratio, such as 5% or 0.05",
    "per_min": "a number per minute",
    "per_h": "a number per hour",
    "count": "a number",
    "flag": "1 for yes",
}


def format_duration(seconds: float | None) -> str:
    """A duration in at most two units: <1 ms, 240 ms, 3.2 s, 4 m 10 s, 1 h 12 m, 3 d 4 h; a dash for None."""
    if seconds is None or not _is_finite(seconds):
        return UNKNOWN
    if 0 < abs(seconds) < 0.0005:
        return "<1 ms"
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if 0 < seconds < 0.9995:
        return f"{max(1, round(seconds * 1000))} ms"
    if seconds < 9.95:
        return f"{_one_decimal(abs(seconds))} s"  # without the sign of -0.0
    units = list(_TIMES.items())
    step = next(step for step, (_, length_s) in enumerate(units) if round(seconds) >= length_s)
    count, rest = divmod(round(seconds), units[step][1])
    text = f"{count} {units[step][0]}"
    smaller, length_s = units[min(step + 1, len(units) - 1)]
    return f"{text} {rest // length_s} {smaller}" if rest >= length_s and count < 100 else text


def format_size(count: float | None) -> str:
    """Bytes in binary units, as in Redis: 512 B, 1.2 MiB; a dash for None."""
    if count is None or not _is_finite(count):
        return UNKNOWN
    # A value that would be rounded up to 1024 is shown in the next unit.
    fitting = (name for name, size in reversed(_SIZES.items()) if abs(count) < 1023.5 * size)
    name = next(fitting, "TiB")
    value = count / _SIZES[name]
    return (_one_decimal(value) if abs(value) < 99.95 else f"{value:.0f}") + f" {name}"


def format_percent(ratio: float | None) -> str:
    """A ratio from 0 to 1 in percent: 0%, <0.1%, 0.4%, 12%, 99.6%, >99.9%; a dash for None.

    Only nothing is 0% and only all of it is 100%.
    """
    if ratio is None or not _is_finite(ratio):
        return UNKNOWN
    value = ratio * 100
    if 0 < value < 0.1:
        return "<0.1%"
    if 99.5 <= value < 100:
        return f"{_one_decimal(value)}%" if value < 99.95 else ">99.9%"
    return (_one_decimal(value) if value < 10 else f"{value:.0f}") + "%"


def format_number(value: float | None) -> str:
    """All digits with thousands separators: 12,431; two decimals, more only for a figure near zero; a dash for None."""
    if value is None or not _is_finite(value):
        return UNKNOWN
    if 0 < abs(value) < 0.005:
        return _plain_number(Decimal(f"{value:.1g}")) if abs(value) >= 1e-6 else f"{value:.1g}"
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def format_count(count: int, noun: str) -> str:
    """A count with its noun: 1 job, 2,345 jobs."""
    return f"{format_number(count)} {noun}{'' if count == 1 else 's'}"


def shorten_number(value: float | None) -> str:
    """A count or rate in at most five characters: 7, <0.01, 0.25, 42.1, 940, 12.4k, 3.1M; a dash for None."""
    if value is None or not _is_finite(value):
        return UNKNOWN
    if value < 0:
        return f"-{shorten_number(-value)}"
    if 0 < value < 0.005:
        return "<0.01"
    if value < 10 and value != int(value):
        return f"{value:.2f}".rstrip("0").rstrip(".") or "0"
    if value < 1000:
        return _one_decimal(value) if value < 100 else f"{value:.0f}"
    unit = next((unit for unit, factor in _COUNTS.items() if value < factor * 999.5), "T")
    scaled = value / _COUNTS[unit]
    return (_one_decimal(scaled) if scaled < 99.95 else f"{scaled:.0f}") + unit


def shorten_at_least(value: float | None) -> str:
    """A lower bound, rounded down, in at most six characters: 7+, 12.4k+, 3.1M+; a dash for None."""
    if value is None or not _is_finite(value):
        return UNKNOWN
    if value >= 1000:
        factor = max(factor for factor in _COUNTS.values() if factor <= value)
        step = factor / 10 if value < 100 * factor else factor  # the last digit that is shown
        value = value // step * step
    elif value >= 100:
        value = math.floor(value)
    return f"{shorten_number(value)}+"


def format_figure(value: float | None, unit: str) -> str:
    """A figure of a metric with its unit: 12,004, 3.25 per minute, 12.5%, 4 m 10 s, yes; a dash for None.

    Percentages have three digits, so that a threshold is shown as it was set.
    """
    if value is None or not _is_finite(value):
        return UNKNOWN
    if unit == "s":
        return format_duration(value)
    if unit == "bytes":
        return format_size(value)
    if unit == "ratio":
        return f"{_percent_digits(value)}%" if value < 9.995 else format_percent(value)
    if unit == "flag":
        return "yes" if value else "no"
    number = format_number(value) if abs(value) >= 1 else f"{value:.3g}"
    return number + {"per_min": " per minute", "per_h": " per hour"}.get(unit, "")


def read_amount(text: str, unit: str) -> float:
    """The amount in `unit`: seconds, bytes, a ratio from 0 to 1, or a plain number.

    Only durations can have several parts, as in 1 h 30 m. Raises ValueError, with what was expected, for anything else.
    """
    names = _NAMES.get(unit, {"": 1})
    text = text.strip()
    parts: list[tuple[str, str]] = []
    at = 0
    while at < len(text) <= MAX_TEXT and (found := _PART.match(text, at)):
        parts.append((found[1], found[2].lower()))
        at = found.end()
    single = len(parts) == 1 or (unit == "s" and all(name for _, name in parts))
    if not parts or at < len(text) or not single or any(name not in names for _, name in parts):
        raise ValueError(f"expected {EXPECTED.get(unit, 'a number')}")
    return float(sum(Decimal(number.replace(",", "")) * names[name] for number, name in parts))


def write_amount(value: float, unit: str) -> str:
    """The shortest text that `read_amount` parses to exactly the same value."""
    number = Decimal(repr(float(value)))
    if unit == "ratio":
        return f"{_plain_number(number * 100)}%"
    sizes = {"s": _TIMES, "bytes": _SIZES}.get(unit)
    if sizes is None:
        return _plain_number(number)
    name = next((name for name, size in sizes.items() if value and value % size == 0), list(sizes)[-1])
    return f"{_plain_number(number / sizes[name])} {name}"


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False  # an integer too large for a float


def _one_decimal(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _percent_digits(ratio: float) -> str:
    """The percentage with three digits, or with as many as keep it from reading 100."""
    value = ratio * 100
    texts = (f"{value:.{digits}g}" for digits in range(3, 18))
    return next((text for text in texts if value == 100 or text != "100"), "100")


def _plain_number(number: Decimal) -> str:
    text = f"{number:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def shorten_text(text: str, most: int) -> str:
    """At most `most` characters of a text, the last of them "…" if it is longer, without what cannot be shown."""
    shown = "".join(character if character.isprintable() else "\ufffd" for character in text[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1] + "…"
