"""Values in templates: filters and globals that make them fit for HTML."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Flask, url_for

from .. import __version__
from ..alerts.delivery.message import glob_of, subjects_word
from ..alerts.evaluation.state_machine import AlertLabels
from ..clock import instant, iso, now_s
from ..errors import join_hint
from ..forecasts.wording import (
    describe_forecast,
    explain_forecast,
    explain_more_workers,
    forecast_basis,
    format_time_left,
)
from ..history.classes.ranking import ClassKey
from ..history.series_keys import SeriesKey
from ..model import QueueRef, QueueStats
from ..sampling.rates import join_reasons
from ..slos.wording import (
    describe_budget,
    describe_goal,
    describe_scope,
    explain_goal,
    format_burn_rate,
    format_good,
)
from ..sources.source import raw_bytes
from ..units import (
    UNKNOWN,
    format_count,
    format_duration,
    format_number,
    format_percent,
    format_size,
    shorten_at_least,
    shorten_number,
    write_amount,
)
from .urls import quote_segment
from .views.charts.chart_range import ChartRange, range_title, range_url
from .views.charts.charts import chart_figure, chart_json
from .views.classes.class_words import (
    class_period,
    class_range_title,
    errors_text,
    failed_jobs_query,
    speed_text,
    why_no_change,
)
from .views.moments.moment import format_at

# An incident report begins so long before an alert, and ends so long after it; nothing is stored before HISTORY_S.
BEFORE_ALERT_S, AFTER_ALERT_S, HISTORY_S = 1800, 900, 30 * 86_400
# gunicorn rejects a longer request line by default, and so do most proxies.
URL_LIMIT = 3500
_CONTROL = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
_LAYOUT = {"\n", "\t"}
_EVERY = re.compile(r"every ([0-9]{1,15}(?:\.[0-9]{1,15})?) s")
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=[A-Za-z])")


def install(app: Flask) -> None:
    """Register the template filters, and the links to queues and jobs as globals."""
    filters = (
        duration,
        time_ago,
        size,
        printable,
        capitalize_first,
        format_moment,
        format_slot,
        format_day,
        one_line,
        iso,
        instant,
        interval,
        glob_of,
        queue_title,
        chart_json,
        chart_figure,
        range_title,
        range_url,
        describe_forecast,
        explain_forecast,
        explain_more_workers,
        forecast_basis,
        class_range_title,
        class_period,
        speed_text,
        errors_text,
        failed_jobs_query,
        subjects_word,
        describe_budget,
        describe_goal,
        describe_scope,
        explain_goal,
        format_burn_rate,
        format_good,
    )
    app.jinja_env.filters.update({function.__name__: function for function in filters})
    app.jinja_env.filters.update(
        short=shorten_number,
        at_least=shorten_at_least,
        full=format_number,
        count_of=format_count,
        percent=format_percent,
        segment=quote_segment,
        time_left=format_time_left,
        url_time=format_at,
        sentences=join_hint,
        join_reasons=join_reasons,
    )
    app.jinja_env.globals.update(
        queue_url=queue_url,
        charts_url=charts_url,
        job_url=job_url,
        class_url=class_url,
        alert_report_url=alert_report_url,
        chart_report_url=chart_report_url,
        why_no_change=why_no_change,
        anchor=anchor,
        version=__version__,
    )


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


def capitalize_first(text: str) -> str:
    """`text` with a capital first letter."""
    return text[:1].upper() + text[1:]


def duration(seconds: float | None) -> str:
    """The text of `format_duration`, with a narrow no-break space between number and unit."""
    return _narrow(format_duration(seconds))


def time_ago(seconds: float) -> str:
    """How long ago something was: 5 m ago, just now."""
    return "just now" if seconds < 1 else f"{duration(seconds)} ago"


def size(count: float | None) -> str:
    """The text of `format_size`, with a narrow no-break space between number and unit."""
    return _narrow(format_size(count))


def format_moment(moment: datetime | None) -> str:
    """The time in UTC to the second, without the zone; a dash for None."""
    return UNKNOWN if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def format_slot(from_s: float, until_s: float) -> str:
    """The time from until in UTC, to the minute where slots are whole minutes: 2026-11-25 08:00–10:00."""
    start, end = datetime.fromtimestamp(from_s, UTC), datetime.fromtimestamp(until_s, UTC)
    clock = "%H:%M" if from_s % 60 == until_s % 60 == 0 else "%H:%M:%S"
    # The end of a day belongs to it.
    is_same_day = (end - timedelta(seconds=1)).date() == start.date()
    return f"{start:%Y-%m-%d {clock}}–{end:{clock if is_same_day else f'%Y-%m-%d {clock}'}}"


def format_day(moment: datetime | None) -> str:
    """The weekday and the time in UTC to the second, without the zone: Sun 2026-11-29 03:12:00; a dash for None."""
    return UNKNOWN if moment is None else f"{_WEEKDAYS[moment.astimezone(UTC).weekday()]} {format_moment(moment)}"


def interval(pattern: str) -> str:
    """When a schedule runs: an interval in seconds in its largest unit, "every 1 h"; any other pattern as it is."""
    found = _EVERY.fullmatch(pattern)
    return f"every {write_amount(float(found[1]), 's')}" if found else pattern


def queue_title(queue: QueueStats | QueueRef, library: str, limit: int = 80) -> str:
    """The name of a queue on one line, or "All Celery queues" for the single entry of a library's shared lists."""
    return f"All {library} queues" if queue.shared else one_line(queue.name, limit)


def queue_url(queue: QueueStats | QueueRef, **query: Any) -> str:
    """The link to a queue's page; `query` = state, native, page."""
    return url_for("queues.show", source=queue.source, backend=queue.backend, name=queue.name, **query)


def charts_url(queue: QueueStats | QueueRef) -> str:
    """The link to the charts of a queue."""
    return url_for("charts.queue", source=queue.source, backend=queue.backend, name=queue.name)


def job_url(queue: QueueStats | QueueRef, job_id: str) -> str | None:
    """The link to a job's page; None for an id that makes it longer than servers accept."""
    url = url_for("jobs.show", source=queue.source, backend=queue.backend, name=queue.name, job_id=job_id)
    return url if len(url) <= URL_LIMIT else None


def class_url(key: ClassKey, **query: Any) -> str | None:
    """The link to the charts of a class of one queue; None for a class of several ones, without a name, and for names
    that make it longer than servers accept."""
    if not key.queue or not key.job_class:
        return None
    place: dict[str, Any] = {
        "source": key.source,
        "backend": key.backend,
        "name": key.queue,
        "job_class": key.job_class,
    }
    url = url_for("charts.job_class", **place, **query)
    return url if len(url) <= URL_LIMIT else None


def alert_report_url(
    labels: AlertLabels, began_s: float | None, ended_s: float | None = None, *, many: bool = False
) -> str | None:
    """The link to the incident report around an alert, until now while it fires; of `many`, about their Redis. None for
    one that ended before anything that is stored."""
    if ended_s is not None and ended_s < now_s() - HISTORY_S:
        return None
    start_s = now_s() if began_s is None else began_s
    place = (labels.source, labels.backend, None if many else labels.queue)
    return _report_url(place, start_s - BEFORE_ALERT_S, None if ended_s is None else ended_s + AFTER_ALERT_S)


def chart_report_url(key: SeriesKey, wanted: ChartRange) -> str:
    """The link to the incident report of the range of a chart page."""
    return _report_url((key.source, key.backend, key.name), wanted.start_s, wanted.end_s)


def _report_url(place: tuple[str | None, str | None, str | None], start_s: float, end_s: float | None) -> str:
    source, backend, queue = place
    query: dict[str, str | int] = {"source": source} if source else {}
    if source and backend and queue and queue != "*":
        query |= {"backend": backend, "queue": quote_segment(queue)}
    query["from"] = int(max(start_s, now_s() - HISTORY_S))
    if end_s is not None:
        query["to"] = int(end_s)
    return url_for("incidents.index", **query)  # type: ignore[arg-type]


def anchor(*parts: str) -> str:
    """An HTML id that is unique to a row with this name, whatever characters the name has."""
    return "r" + hashlib.blake2b(raw_bytes("\0".join(parts)), digest_size=6).hexdigest()


def _narrow(text: str) -> str:
    return _BEFORE_UNIT.sub("\u202f", text)


def _visible(char: str) -> str:
    if char in _LAYOUT or unicodedata.category(char) not in _CONTROL:
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code > 0xFF else f"\\x{code:02x}"
