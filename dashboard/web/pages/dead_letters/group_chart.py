"""The chart of an error group: when its jobs died, with deployments and alerts."""

from __future__ import annotations

from typing import Any

from flask import request, url_for
from msgspec.structs import replace

from ....dead_letters.groups import ErrorGroup
from ....errors import BackendUnavailable, Forbidden, join_hint
from ....history.columns import QUEUE
from ....history.series_keys import SeriesKey
from ....marks.mark_reader import find_mark_before
from ...context import app_services
from ...forms.job_query import asked_time
from ...views.charts.chart_data import ChartData
from ...views.charts.chart_marks import ChartMarks, collect_group_marks
from ...views.charts.chart_range import RANGES, ChartRange
from ...views.charts.death_chart import CHARTS, DeathChart, build_death_chart, parse_death_range

# Alerts of further queues are not drawn.
MOST_QUEUES = 20
# A change that long before the first death is in the range of the chart.
SHORTLY_S = 3600.0


def has_range() -> bool:
    """Whether the URL has a range of time; otherwise it depends on when the first job died."""
    return any(request.args.get(name) for name in ("range", "from", "to"))


def chart_context(group: ErrorGroup, *, is_final: bool) -> dict[str, Any]:
    """The variables of `dead_letters/_death_chart.html` for the range of the URL; none if no job has a time.

    Raises Unsupported for an invalid range. Cost: as `read_group_marks`.
    """
    if group.first_at is None:
        return {}
    wanted, chart = _build(group, is_final=is_final)
    return {
        "death_chart": chart,
        "charts": CHARTS,
        "wanted": wanted,
        "ranges": list(RANGES),
        "data_url": url_for("dead.death_data", fingerprint=group.error.fingerprint),
        "chart_marks": read_group_marks(group, chart.data),
    }


def chart_data(group: ErrorGroup, *, is_final: bool) -> ChartData:
    """What the chart draws, all of it: jobs that were retried or deleted leave earlier bars, too. Cost: as above."""
    data = _build(group, is_final=is_final)[1].data
    return replace(data, marks=read_group_marks(group, data).shown)


def read_group_marks(group: ErrorGroup, data: ChartData) -> ChartMarks:
    """The marks of the range; where they cannot be read, why. Cost: 2 round trips, see MarkReader."""
    services = app_services()
    refs = [(queue.ref, name) for queue in group.queues[:MOST_QUEUES] for name in {queue.ref.name, queue.name}]
    keys = [SeriesKey(QUEUE, ref.source, ref.backend, name) for ref, name in refs]
    try:
        mark_list = services.marks.list_marks(data.start_s, data.end_s)
        changes = services.alert_service.alerts.list_changes(data.start_s, data.end_s)
    except (BackendUnavailable, Forbidden) as exc:
        return ChartMarks(problem=join_hint(exc.message, exc.hint))
    return collect_group_marks(group.error.fingerprint, keys, mark_list, changes, services.sources.titles)


def _build(group: ErrorGroup, *, is_final: bool) -> tuple[ChartRange, DeathChart]:
    args = request.args
    now = app_services().sources.now_s()
    wanted = parse_death_range(args.get("range"), asked_time("from"), asked_time("to"), _beginning(group), now)
    times = (member.dead_letter.at for member in group.members)
    return wanted, build_death_chart(times, wanted, group.complete_from, is_final=is_final)


def _beginning(group: ErrorGroup) -> float | None:
    """When the first job died, or when the change shortly before it was made. Cost: see recent_marks."""
    sources = {queue.ref.source for queue in group.queues}
    before = find_mark_before(app_services().marks.recent_marks(), group.first_at, sources)
    return before.mark.at if before is not None and before.after_s <= SHORTLY_S else group.first_at
