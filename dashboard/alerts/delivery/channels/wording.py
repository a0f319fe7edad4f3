"""The texts of a message, most urgent first; each channel escapes them in its own way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

from ....units import format_duration
from ..transport.redaction import plain_line
from .base import Message, MessageLine

LINE_LIMIT = 20  # lines shown; the rest is only counted
ERROR_LIMIT = 3
TITLE_LIMIT = 200
_BARS = "▁▂▃▄▅▆▇█"
_UNKNOWN = "·"
SPARK_WIDTH = 60  # points; an hour in minutes
_STATE_WORDS = {
    "firing": "FIRING",
    "resolved": "RESOLVED",
    "reminder": "STILL FIRING",
    "flapping": "FLAPPING",
    "test": "TEST",
    "approval": "APPROVAL NEEDED",
    "both": "FIRED AND RESOLVED",
}
FLAPPING = "changed state at least six times in the last hour; notifications are paused until it settles"
MARKS = {"critical": "🔴", "warning": "🟠", "over": "🟢", "test": "🔵"}
COLOURS = {"critical": "#d92d20", "warning": "#dc9a06", "over": "#2e9e5b", "test": "#2f6fde"}


def is_over(message: Message) -> bool:
    """Whether the incident has ended."""
    return message.kind in ("resolved", "both")


def is_no_alert(message: Message) -> bool:
    """Whether it is about no alert: a test, or a bulk operation that someone has to approve."""
    return message.kind in ("test", "approval")


def message_colour(message: Message) -> str:
    """The colour of the message as #rrggbb."""
    return COLOURS[_appearance_key(message)]


def colour_mark(message: Message) -> str:
    """The colour of the message as a character."""
    return MARKS[_appearance_key(message)]


def _appearance_key(message: Message) -> str:
    if is_no_alert(message):
        return "test"
    return "over" if is_over(message) else message.severity


def message_headline(message: Message) -> str:
    """State, severity and title in one line of at most 200 characters, without control characters."""
    state = _STATE_WORDS[message.kind]
    severity = "" if is_no_alert(message) else f" {message.severity}"
    return plain_line(f"[{state}{severity}] {message.title}", TITLE_LIMIT)


def incident_facts(message: Message) -> list[tuple[str, str]]:
    """Names and values of the known facts of the incident; unknown ones are omitted."""
    known = [
        ("Where", message.where or ""),
        ("Severity", "" if message.kind == "approval" else message.severity),
        ("Rule", message.rule_name),
        ("Owner", message.owner or ""),
        ("Note", message.note or ""),
        (_start_name(message), format_instant(message.started_at)),
        ("Ended", format_instant(message.ended_at)),
        ("Duration", elapsed_text(message.started_at, message.ended_at)),
        ("Flapping", FLAPPING if message.kind == "flapping" else ""),
    ]
    return [(name, plain_line(value, TITLE_LIMIT)) for name, value in known if value]


def _start_name(message: Message) -> str:
    if message.kind == "flapping":
        return "First fired"
    return "Started" if message.ended_at else "Since"


def line_text(message: Message, line: MessageLine) -> str:
    """What is wrong, how bad, when the rule fires and since when.

    Example: `mails (rq, main): 1,204 waiting jobs (fires above 1,000), since 2026-11-29 03:12:00 UTC`.
    """
    text = line.label
    if line.value_text:
        text += f": {line.value_text}"
    elif line.last_known_text:
        text += f": {line.last_known_text}"
    elif line.threshold_text:  # without a threshold, the name of the rule says everything
        text += ": value unknown"
    if line.threshold_text:
        text += f" (fires {line.threshold_text})"
    if line.since_text:
        text += f"{_since_word(message)} {line.since_text}"
    if line.detail_text:
        text += f"; {line.detail_text}"
    if line.owner and message.owner is None:  # otherwise it is one of the facts
        text += f"; owner: {line.owner}"
    return plain_line(text, 300)


def _since_word(message: Message) -> str:
    if is_no_alert(message):
        return " at"
    if message.kind == "flapping":
        return ", first fired"
    return ", started" if is_over(message) else ", since"


def shown_lines(message: Message) -> tuple[MessageLine, ...]:
    return message.lines[: LINE_LIMIT if message.most_named is None else min(LINE_LIMIT, message.most_named)]


def hidden_lines_text(message: Message) -> str:
    """The number of lines not shown, as text; empty when all are shown."""
    hidden = len(message.lines) - len(shown_lines(message))
    return f"and {hidden:,} more" if hidden > 0 else ""


def shown_errors(message: Message) -> list[str]:
    return [plain_line(error, 200) for error in message.top_errors[:ERROR_LIMIT]]


def action_links(message: Message) -> list[tuple[str, str]]:
    """Label and URL of the available actions, most urgent first. Only http and https: nothing executable."""
    queue_url = next((line.url for line in message.lines if line.url), None)
    done = is_over(message) or is_no_alert(message)
    wanted = [
        ("Acknowledge", None if done else message.ack_url),
        ("Silence", None if done else message.silence_url),
        ("Open", queue_url),
        ("Runbook", message.runbook_url),
    ]
    return [(label, url) for label, url in wanted if safe_url(url) and url]


def safe_url(url: str | None) -> str | None:
    """The URL if a message can safely link to it, otherwise None."""
    if not url or len(url) > 2000 or not url.isascii() or not url.isprintable() or " " in url:
        return None
    return url if url.startswith(("https://", "http://")) else None


def format_instant(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if moment else ""


def format_iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with milliseconds, as in the API."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None


def elapsed_text(start: datetime | None, end: datetime | None) -> str:
    """The time from `start` to `end`; "" if it is unknown."""
    if not start or not end or end < start:
        return ""
    return format_duration((end - start).total_seconds())


def resample_points(points: Sequence[float | None], width: int) -> list[float | None]:
    """At most `width` points, each the maximum of those it covers, so that peaks stay visible.

    NaN and infinity count as unknown.
    """
    known = [point if point is not None and math.isfinite(point) else None for point in points]
    if len(known) <= width:
        return known
    edges = [len(known) * number // width for number in range(width + 1)]
    parts = (known[start:end] for start, end in pairwise(edges))
    return [max((point for point in part if point is not None), default=None) for part in parts]


def scale_points(points: Sequence[float | None]) -> list[float | None]:
    """Each finite point scaled to 0..1, from zero (or the minimum if below zero) to the maximum."""
    known = [point for point in points if point is not None]
    low, high = min(0.0, *known, 0.0), max(known, default=0.0)
    # Halves, because the distance between the largest floats is not a float.
    span = high / 2 - low / 2
    return [None if point is None else (point / 2 - low / 2) / span if span else 0.0 for point in points]


def spark_title(message: Message) -> str:
    """The title of the sparkline: the last hour, and of what, if it does not show the value of the alert."""
    return f"Last hour, {message.spark_of}" if message.spark_of else "Last hour"


def format_sparkline(points: Sequence[float | None]) -> str:
    """The last hour as characters, zero at the bottom, `·` where it is unknown; empty without any figure."""
    shares = scale_points(resample_points(points, SPARK_WIDTH))
    if all(share is None for share in shares):
        return ""
    top = len(_BARS) - 1
    return "".join(_UNKNOWN if share is None else _BARS[min(int(share * len(_BARS)), top)] for share in shares)


def format_plain_text(message: Message) -> str:
    """The whole message as plain text, for email and Apprise."""
    rows = [message_headline(message), ""]
    for line in shown_lines(message):
        url = safe_url(line.url)
        rows += [f"- {line_text(message, line)}", *([f"  {url}"] if url else [])]
    rows += [hidden_lines_text(message)] if hidden_lines_text(message) else []
    rows += ["", *(f"{name}: {value}" for name, value in incident_facts(message))]
    spark = format_sparkline(message.spark)
    rows += ["", f"{spark_title(message)}: {spark}"] if spark else []
    errors = shown_errors(message)
    rows += ["", "Top errors:", *(f"- {error}" for error in errors)] if errors else []
    rows += ["", *(f"{label}: {url}" for label, url in action_links(message))]
    return "\n".join(rows).rstrip() + "\n"
