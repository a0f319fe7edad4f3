"""Format values for display: short, aligned, with a dash for unknown ones. Registered as template filters."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from datetime import UTC, datetime
from typing import Any

from flask import Flask, url_for

from .. import __version__
from ..alerts.delivery.message import glob_of
from ..clock import instant, iso
from ..model import QueueRef, QueueStats
from ..sources.source import raw_bytes
from .urls import quote_segment

UNKNOWN = "–"
# gunicorn rejects a longer request line by default, and so do most proxies.
URL_LIMIT = 3500
_CONTROL = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
_LAYOUT = {"\n", "\t"}
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")
_THIN = "\u202f"  # a narrow no-break space, between number and unit


def install(app: Flask) -> None:
    """Register the functions of this module as template filters, and the links to queues and jobs as globals."""
    filters = (short, full, duration, percent, size, printable, stamp, one_line, queue_title)
    app.jinja_env.filters.update({function.__name__: function for function in filters})
    app.jinja_env.filters["iso"] = iso
    app.jinja_env.filters["instant"] = instant
    app.jinja_env.filters["glob_of"] = glob_of
    app.jinja_env.filters["segment"] = quote_segment
    app.jinja_env.globals.update(queue_url=queue_url, job_url=job_url, anchor=anchor, version=__version__)


def printable(text: str, limit: int = 4000) -> str:
    """`text` with everything invisible escaped: undecodable bytes, control characters, marks of text direction.

    At most `limit` characters of it; line breaks and tabs stay.
    """
    cut = len(text) > limit
    shown = text[:limit]
    if not shown.isascii() or not shown.isprintable():
        shown = "".join(_visible(char) for char in shown)
    return shown + "…" if cut else shown


def one_line(text: str, limit: int = 200) -> str:
    """`text` on a single line, runs of whitespace as one space, at most `limit` characters."""
    return printable(" ".join(text[: limit * 4].split()), limit)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False  # an integer too large for a float


def short(value: float | None) -> str:
    """A count or rate in at most five characters: 7, 0.25, 42.1, 940, 12.4k, 3.1M; a dash for None."""
    if value is None or not _finite(value):
        return UNKNOWN
    if value < 0:
        return f"-{short(-value)}"
    if value < 10 and value != int(value):
        return f"{value:.2f}".rstrip("0").rstrip(".") or "0"
    if value < 1000:
        return f"{value:.1f}".removesuffix(".0") if value < 100 else f"{value:.0f}"
    for factor, unit in ((1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T")):
        if value < factor * 999.5 or unit == "T":
            scaled = value / factor
            return f"{scaled:.1f}".removesuffix(".0") + unit if scaled < 99.95 else f"{scaled:.0f}{unit}"
    raise AssertionError


def full(value: float | None) -> str:
    """All digits with thousands separators: 12,431; at most two decimals; a dash for None."""
    if value is None or not _finite(value):
        return UNKNOWN
    text = f"{value:,.2f}"
    return text.rstrip("0").rstrip(".")


def duration(seconds: float | None) -> str:
    """A duration in at most two units: 240 ms, 3.2 s, 4 m 10 s, 1 h 12 m, 3 d 4 h; a dash for None."""
    if seconds is None or not _finite(seconds):
        return UNKNOWN
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds == 0:
        return f"0{_THIN}s"
    if seconds < 0.9995:
        return f"{max(1, round(seconds * 1000))}{_THIN}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + f"{_THIN}s"
    total = round(seconds)
    for unit, factor, part, below in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if total >= factor:
            whole, rest = divmod(total, factor)
            tail = rest // below
            return f"{whole}{_THIN}{unit}" + (f" {tail}{_THIN}{part}" if tail and whole < 100 else "")
    return f"{total}{_THIN}s"


def percent(ratio: float | None) -> str:
    """A ratio from 0 to 1 in percent: 0%, <0.1%, 0.4%, 12%; a dash for None."""
    if ratio is None or not _finite(ratio):
        return UNKNOWN
    value = ratio * 100
    if 0 < value < 0.1:
        return "<0.1%"
    return (f"{value:.1f}".removesuffix(".0") if value < 10 else f"{value:.0f}") + "%"


def size(count: float | None) -> str:
    """Bytes in binary units, as in Redis: 512 B, 1.2 MiB; a dash for None."""
    if count is None or not _finite(count):
        return UNKNOWN
    # A value that would be rounded up to 1024 is shown in the next unit.
    step = next((step for step in range(len(_SIZES) - 1) if abs(count) < 1023.5 * 1024**step), len(_SIZES) - 1)
    value = count / 1024**step
    return (f"{value:.1f}".removesuffix(".0") if abs(value) < 99.95 else f"{value:.0f}") + f"{_THIN}{_SIZES[step]}"


def stamp(moment: datetime | None) -> str:
    """The time in UTC to the second, without the zone; a dash for None."""
    return UNKNOWN if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def queue_title(queue: QueueStats | QueueRef, library: str, limit: int = 80) -> str:
    """The name of a queue on one line, or "All Celery queues" for the single entry of a library's shared lists."""
    return f"All {library} queues" if queue.shared else one_line(queue.name, limit)


def queue_url(queue: QueueStats | QueueRef, **query: Any) -> str:
    """The link to a queue's page; `query` = state, native, page."""
    return url_for("queues.show", source=queue.source, backend=queue.backend, name=queue.name, **query)


def job_url(queue: QueueStats | QueueRef, job_id: str) -> str | None:
    """The link to a job's page; None for an id that makes it longer than servers accept."""
    url = url_for("jobs.show", source=queue.source, backend=queue.backend, name=queue.name, job_id=job_id)
    return url if len(url) <= URL_LIMIT else None


def anchor(*parts: str) -> str:
    """An HTML id that is unique to a row with this name, whatever characters the name has."""
    return "r" + hashlib.blake2b(raw_bytes("\0".join(parts)), digest_size=6).hexdigest()


def _visible(char: str) -> str:
    if char in _LAYOUT or unicodedata.category(char) not in _CONTROL:
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code > 0xFF else f"\\x{code:02x}"
