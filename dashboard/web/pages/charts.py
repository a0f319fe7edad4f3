"""The charts of all queues, of one queue, of one job class and of one Redis: pages that draw the stored history.

Some of them are also parts of other pages, which read them when they are opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from flask import Blueprint, Response, render_template, request, url_for
from msgspec.structs import replace

from ...errors import BackendUnavailable, Forbidden, NotFound, Unsupported, join_hint
from ...history.classes.ranking import ClassKey
from ...history.columns import CLASS, QUEUE, SOURCE, SeriesKind
from ...history.series_keys import SeriesKey
from ...history.tiers import tiers_of
from ...model import QueueRef, QueueStats
from ...sources.metering import measure_cost
from ..access.security import check_sees_all, sees_all
from ..api.responses import encode_json
from ..context import app_services
from ..formatting import queue_title, queue_url
from ..forms.job_query import asked_time
from ..views.charts.chart_data import ChartData, read_chart_data
from ..views.charts.chart_marks import ChartMarks, collect_marks
from ..views.charts.chart_notes import FiguresNow
from ..views.charts.chart_range import COMPARISONS, RANGES, ChartRange, least_range_s, parse_range
from ..views.charts.chart_table import build_chart_table
from ..views.charts.charts import Chart, charts_of
from . import layout
from .marks.mark_forms import CONFIRMATIONS
from .moments.asked_moment import asked_moment, shown_moment
from .moments.sample_data import sample_end_after
from .queues import find_queue
from .servers.servers import check_source, tab_context

bp = Blueprint("charts", __name__)

MAX_RELATED = 8
# The charts that the overview and the page of a queue show, and how far back.
PART_RANGE = "6h"
OVERVIEW_PART = ("depth", "flow", "errors")
QUEUE_PART = ("depth", "flow", "runtimes")


@bp.before_request
def read_moment() -> None:
    """Read the moment that the URL asks for, so that the links of the page keep it. Raises Unsupported."""
    asked_moment()


class Link(NamedTuple):
    """A link of the page's head."""

    label: str
    url: str


@bp.get("/charts")
def overview() -> str:
    """The charts of all queues together."""
    return _render_page(SeriesKey(QUEUE), "all queues", [], url_for(".overview_data"))


@bp.get("/charts/_data")
def overview_data() -> Response:
    """What they draw, as JSON."""
    return _send_data(SeriesKey(QUEUE))


@bp.get("/charts/_part")
def overview_part() -> str:
    """Some of the charts of all queues, for the overview."""
    return _render_part(OVERVIEW_PART, ".overview", ".overview_data")


@bp.get("/queues/<segment:source>/<segment:backend>/<segment:name>/charts/_part")
def queue_part(source: str, backend: str, name: str) -> str:
    """Some of the charts of a queue, for its page."""
    find_queue(source, backend, name)
    return _render_part(QUEUE_PART, ".queue", ".queue_data", source=source, backend=backend, name=name)


@bp.get("/queues/<segment:source>/<segment:backend>/<segment:name>/charts")
def queue(source: str, backend: str, name: str) -> str:
    """The charts of one queue. 404 when the queue is not in the latest snapshot; in the past, it may be gone since."""
    found = _find_queue_then(source, backend, name)
    title = queue_title(found, app_services().sources.titles[backend], 200)
    return _render_page(
        SeriesKey(QUEUE, source, backend, name),
        title,
        [Link(title, queue_url(found))],
        url_for(".queue_data", source=source, backend=backend, name=name),
    )


@bp.get("/queues/<segment:source>/<segment:backend>/<segment:name>/charts/_data")
def queue_data(source: str, backend: str, name: str) -> Response:
    """What they draw, as JSON."""
    _find_queue_then(source, backend, name)
    return _send_data(SeriesKey(QUEUE, source, backend, name))


def _find_queue_then(source: str, backend: str, name: str) -> QueueStats | QueueRef:
    """The queue of the page; of the past, also one that is unknown now. Raises as `find_queue`."""
    app_services().sources.backend(source, backend)
    try:
        return find_queue(source, backend, name)[1]
    except (NotFound, BackendUnavailable):
        if shown_moment() is None:
            raise
    return QueueRef(source=source, backend=backend, name=name, key=name, shared=name == "*")


@bp.get("/classes/<segment:source>/<segment:backend>/<segment:name>/<segment:job_class>")
def job_class(source: str, backend: str, name: str, job_class: str) -> str:
    """The charts of one job class of a queue; empty for one without history. 404 for an unknown source or library."""
    app_services().sources.backend(source, backend)
    place: dict[str, Any] = {"source": source, "backend": backend, "name": name, "job_class": job_class}
    snapshot, library = app_services().snapshots.current().snapshot, app_services().sources.titles[backend]
    queue = snapshot.find(source, backend, name) if snapshot else None
    parents = [Link("Classes", url_for("classes.index"))]
    return _render_page(
        SeriesKey(CLASS, source, backend, name, job_class),
        job_class,
        [*parents, Link(queue_title(queue, library), queue_url(queue))] if queue else parents,
        url_for(".job_class_data", **place),
        template="classes/show.html",
        key=ClassKey(source, backend, name, job_class),
        library=library,
        queue=queue,
    )


@bp.get("/classes/<segment:source>/<segment:backend>/<segment:name>/<segment:job_class>/_data")
def job_class_data(source: str, backend: str, name: str, job_class: str) -> Response:
    """What they draw, as JSON."""
    app_services().sources.backend(source, backend)
    return _send_data(SeriesKey(CLASS, source, backend, name, job_class))


@bp.get("/sources/<segment:source>/charts")
def redis(source: str) -> str:
    """The charts of one Redis server. 404 for an unknown source."""
    check_source(source)
    return _render_page(
        SeriesKey(SOURCE, source),
        f"Redis {source}",
        [],
        url_for(".redis_data", source=source),
        template="redis/charts.html",
        **tab_context(source, "charts"),
    )


@bp.get("/sources/<segment:source>/charts/_data")
def redis_data(source: str) -> Response:
    """What they draw, as JSON."""
    check_source(source)
    return _send_data(SeriesKey(SOURCE, source))


def _asked_range(now: float) -> ChartRange:
    args, moment = request.args, shown_moment()
    until_s = None if moment is None else float(moment.at_s)
    least_s = least_range_s(app_services().settings.sample_interval_s)
    start_s, end_s = asked_time("from"), asked_time("to")
    return parse_range(args.get("range"), start_s, end_s, args.get("compare"), now, until_s, least_s)


def _asked_charts(kind: SeriesKind) -> tuple[Chart, ...]:
    """The charts of the argument `charts`; all without it. Raises Unsupported for one that there is not."""
    everything = charts_of(kind)
    names = [name for name in request.args.get("charts", "").split(",") if name]
    if unknown := set(names) - {chart.id for chart in everything}:
        raise Unsupported(f"charts={min(unknown)[:20]!r}: expected {', '.join(chart.id for chart in everything)}.")
    return tuple(chart for chart in everything if chart.id in names) or everything


def _read(key: SeriesKey) -> tuple[ChartRange, ChartData]:
    now = app_services().store.now_s()
    wanted = _asked_range(now)
    return wanted, read_chart_data(app_services().history, key, _asked_charts(key.kind), wanted, now, _figures_now(key))


def _figures_now(key: SeriesKey) -> FiguresNow:
    """What is known now of the figures of a series, from the last sample. Cost: none."""
    services = app_services()
    library = services.sources.titles.get(key.backend, "")
    snapshot = services.snapshots.current().snapshot
    queue = snapshot.find(key.source, key.backend, key.name) if snapshot and key.kind is QUEUE else None
    return FiguresNow(library, queue.flow_quality, queue.flow_reason or "") if queue else FiguresNow(library)


def _own_url() -> str:
    """The URL of this page, without the result of an action."""
    query = {name: value for name, value in request.args.items() if name != "said"}
    path = url_for(request.endpoint or "", **(request.view_args or {}))
    return f"{path}?{urlencode(query)}" if query else path


def _read_marks(key: SeriesKey, data: ChartData, wanted: ChartRange) -> ChartMarks:
    """The marks of the range; where Redis does not permit to read them, why. Raises BackendUnavailable.

    Cost: 2 round trips, see MarkReader.
    """
    services = app_services()
    start_s, end_s = data.start_s, max(data.end_s, wanted.end_s)
    try:
        mark_list = services.marks.list_marks(start_s, end_s)
        changes = services.alert_service.alerts.list_changes(start_s, end_s)
    except Forbidden as exc:
        return ChartMarks(problem=join_hint(exc.message, exc.hint))
    return collect_marks(key, mark_list, changes, services.sources.titles)


def _send_data(key: SeriesKey) -> Response:
    """The data of the charts; with `since`, only of the slots from that second on, for a page that has the others."""
    _check_visible(key)
    wanted, data = _read(key)
    marks = _read_marks(key, data, wanted)
    data = replace(data, marks=marks.shown, marks_digest=marks.digest)
    response = Response(encode_json(data.since(asked_time("since"))), mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def _check_visible(key: SeriesKey) -> None:
    """Raise Forbidden for the series of all queues, or of a Redis, if the user may see only some queues."""
    if not key.name:
        check_sees_all()


def _render_part(names: Sequence[str], page: str, data: str, **place: Any) -> str:
    """The charts `names`, without figures: charts.js reads those. Cost: none."""
    current = app_services().snapshots.current()
    return render_template(
        "charts/part.html",
        **layout.page_context(current, ""),
        charts=[chart._replace(note="") for chart in charts_of(QUEUE) if chart.id in names],
        data_url=url_for(data, **place, range=PART_RANGE, charts=",".join(names)),
        page_url=url_for(page, **place, range=PART_RANGE),
        sample_end_s=sample_end_after(app_services().store.now_s() - RANGES[PART_RANGE]),
    )


def _related(key: SeriesKey) -> list[Link]:
    """The other chart pages that explain what this one shows."""
    if not sees_all():
        return []
    links = [] if key == SeriesKey(QUEUE) else [Link("Charts of all queues", url_for(".overview"))]
    names = [key.source] if key.source and key.kind is QUEUE else list(app_services().sources.sources)
    return links + [
        Link(f"Charts of Redis {name}", url_for(".redis", source=name))
        for name in names[:MAX_RELATED]
        if key != SeriesKey(SOURCE, name)
    ]


def _render_page(
    series: SeriesKey,
    title: str,
    parents: list[Link],
    data_url: str,
    *,
    template: str = "charts/show.html",
    **more: Any,
) -> str:
    _check_visible(series)
    variables: dict[str, Any] = {"problem": None, "table": None, "sample_end_s": None, "chart_marks": ChartMarks()}
    variables |= more
    with measure_cost() as meter:
        now = app_services().store.now_s()
        wanted = _asked_range(now)
        charts = charts_of(series.kind)
        try:
            data = read_chart_data(app_services().history, series, charts, wanted, now, _figures_now(series))
            variables["notes"] = data.notes
            variables["table"] = build_chart_table(charts, data)
            variables["sample_end_s"] = sample_end_after(wanted.start_s)
            variables["chart_marks"] = _read_marks(series, data, wanted)
        except (BackendUnavailable, Forbidden) as exc:
            variables["problem"] = exc
    step_s = tiers_of(series.kind)[0].step_s
    ranges = [name for name, seconds in RANGES.items() if seconds > 4 * step_s]
    variables |= {
        "series": series,
        "title": title,
        "parents": parents,
        "related": _related(series),
        "data_url": data_url,
    }
    variables |= {"charts": charts, "wanted": wanted, "ranges": ranges, "comparisons": list(COMPARISONS)}
    variables["is_recorded"] = app_services().settings.history_max_bytes > 0
    variables |= {"confirmation": CONFIRMATIONS.get(request.args.get("said", "")), "here": _own_url()}
    cost = layout.format_cost(meter.commands, meter.round_trips, meter.seconds * 1000)
    return render_template(template, **layout.page_context(app_services().snapshots.current(), cost), **variables)
