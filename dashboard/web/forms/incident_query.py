"""The incident report that a URL asks for; the same for the page, the file and the API."""

from __future__ import annotations

import math
from typing import NamedTuple

from flask import request

from ...errors import Unsupported
from ...incidents.scope import IncidentScope
from ...model import QueueStats, Snapshot
from ..formatting import one_line
from ..urls import quote_segment, read_segment
from ..views.charts.chart_range import ChartRange, parse_range
from .job_query import asked_time

DEFAULT_RANGE = "1h"
# Both are part of the URL, which servers limit to about 4,000 characters: of some scripts, each takes nine.
MAX_TITLE, MAX_NOTE = 80, 300
MAX_NAME = 2000


class IncidentQuery(NamedTuple):
    """What the report is about, its range, its title and the note of its author."""

    scope: IncidentScope
    wanted: ChartRange
    title: str
    note: str

    @property
    def args(self) -> dict[str, str | int]:
        """The URL arguments of this report, with its moments."""
        found: dict[str, str | int] = {"from": math.ceil(self.wanted.start_s), "to": math.ceil(self.wanted.end_s)}
        return scope_args(self.scope) | found | self.texts

    @property
    def texts(self) -> dict[str, str | int]:
        """The URL arguments of the title and the note."""
        return {name: text for name, text in (("title", self.title), ("note", self.note)) if text}


def scope_args(scope: IncidentScope) -> dict[str, str | int]:
    """The URL arguments of a scope."""
    named = (("source", scope.source), ("backend", scope.backend), ("queue", encode_name(scope.queue)))
    return {name: value for name, value in named if value}


def encode_name(name: str) -> str:
    """The name of a queue for a field: as it is where that can be typed, otherwise percent-encoded."""
    return name if name.isprintable() and read_segment(name) == name and name == name.strip() else quote_segment(name)


def incident_query(now_s: float, snapshot: Snapshot | None) -> IncidentQuery:
    """The report of the URL. Raises Unsupported for a wrong range, a text that is too long, and for the name of a queue
    that is unknown or that several queues have."""
    wanted = parse_range(request.args.get("range") or DEFAULT_RANGE, asked_time("from"), asked_time("to"), None, now_s)
    return IncidentQuery(_asked_scope(snapshot), wanted, _asked_text("title", MAX_TITLE), _asked_text("note", MAX_NOTE))


def _asked_text(name: str, most: int) -> str:
    text = "\n".join(line.rstrip() for line in request.args.get(name, "").strip().splitlines())
    if len(text) > most:
        raise Unsupported(f"{name}: expected at most {most} characters.", hint="Edit the file to add more.")
    return text


def _asked_scope(snapshot: Snapshot | None) -> IncidentScope:
    source, backend = (request.args.get(name, "").strip()[:MAX_NAME] for name in ("source", "backend"))
    name = read_segment(request.args.get("queue", "").strip()[: 3 * MAX_NAME])
    if not name:
        return IncidentScope(source)
    queues = snapshot.queues if snapshot else ()
    found = [queue for queue in queues if queue.name == name and _fits(queue, source, backend)]
    if len(found) == 1:
        return IncidentScope(found[0].source, found[0].backend, name)
    if source and backend:
        return IncidentScope(source, backend, name)  # it may have been deleted since
    shown = one_line(name, 80)
    if found:
        raise Unsupported(f"Several queues are named {shown!r}.", hint="Choose the Redis and the library.")
    raise Unsupported(f"There is no queue {shown!r} now.", hint="Choose the Redis and the library of a deleted queue.")


def _fits(queue: QueueStats, source: str, backend: str) -> bool:
    return source in ("", queue.source) and backend in ("", queue.backend)
