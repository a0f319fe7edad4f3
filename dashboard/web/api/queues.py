"""The JSON API, version 1: the figures of the pages, for scripts. Unknown values are null."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from flask import Blueprint, request
from msgspec.structs import asdict

from ...alerts.management.alert_owners import AlertOwners
from ...backends.base import MAX_SCHEDULES, Backend
from ...clock import instant, iso
from ...errors import BackendUnavailable, Forbidden, NotFound, NotMeasured
from ...forecasts.scaling import MOST_WORKERS, want_workers
from ...model import JobQuery, QueueForecast, QueueStats, Schedule, State, Worker
from ...search.query import parse_query
from ..context import app_context, app_services, read_context
from ..forms.job_query import asked_amount, asked_number, job_query
from ..pages.moments.asked_moment import asked_moment
from ..views.moments.moment import Moment
from ..views.offered_actions import job_verbs
from ..views.overview.overview_data import rounded, sum_queues
from ..views.queues.error_groups import list_shared_entries
from .alerts import FiringAlertJson, json_firing
from .job_json import JobDetailJson, JobSearchJson, JobsJson, json_found_job, json_job, json_job_detail
from .queue_json import (
    JobClassesJson,
    OverviewJson,
    QueueContextJson,
    QueueJson,
    QueuesJson,
    ScalingJson,
    ServerJson,
    ServersJson,
    json_classes,
    json_context,
    json_queue,
    json_source,
)
from .responses import json_response
from .worker_json import SchedulesJson, WorkersJson, json_live_problems, json_schedule, json_worker

bp = Blueprint("api", __name__, url_prefix="/api/v1")


MAX_TARGET_S = 86_400
_QUEUE = "/queues/<segment:source>/<segment:backend>/<segment:name>"


@bp.get("/overview")
@json_response
def overview() -> OverviewJson:
    """Retrieve sources, totals and all queues from the newest snapshot.

    With `at`, as they were recorded at that moment, see docs/history.md: what the history does not have is null, also
    `alerts`; sources and queues of which nothing was recorded then are absent.
    """
    moment = asked_moment()
    if moment is not None:
        return _past_overview(moment)
    current = app_services().snapshots.current()
    snapshot = current.snapshot
    data = app_context().caches.overview_data(snapshot, current) if snapshot else None
    return OverviewJson(
        sampled_at=iso(instant(snapshot.sampled_at)) if snapshot else None,
        age_s=rounded(current.age_s),
        stale=current.stale,
        other_settings=current.other,
        sources=[json_source(source) for source in snapshot.sources] if snapshot else [],
        totals=data.totals if data else sum_queues(()),
        totals_at_least=data.at_least if data else (),
        queues=_json_queues(snapshot.queues if snapshot else ()),
        alerts=_firing_alerts(),
    )


def _past_overview(moment: Moment) -> OverviewJson:
    caches = app_context().caches
    past = caches.past.overview(moment, caches.alert_facts(with_pauses=False).thresholds)
    snapshot = past.view.snapshot
    return OverviewJson(
        sampled_at=iso(instant(snapshot.sampled_at)) if snapshot.sources else None,
        age_s=rounded(moment.now_s - snapshot.sampled_at) if snapshot.sources else None,
        stale=False,
        other_settings=None,
        sources=[json_source(source) for source in snapshot.sources],
        totals=past.overview.totals,
        totals_at_least=past.overview.at_least,
        queues=_json_queues(snapshot.queues),
        alerts=None,
    )


def _firing_alerts() -> list[FiringAlertJson] | None:
    """The firing alerts; None when the store cannot be read, or a dashboard with other settings evaluates alerts."""
    if app_services().alert_service.ownership.conflict is not None:
        return None
    try:
        return json_firing(app_services().alert_service.alerts.list_alerts())
    except (BackendUnavailable, Forbidden):
        return None


@bp.get("/queues")
@json_response
def queues() -> QueuesJson:
    """List queues.

    Filter by `source`, `backend` and `q` (part of the name, case-insensitive).
    """
    snapshot = app_services().snapshots.current().snapshot
    text = request.args.get("q", "").casefold()
    found = _json_queues(
        queue for queue in (snapshot.queues if snapshot else ()) if _is_wanted(queue) and text in queue.name.casefold()
    )
    return QueuesJson(queues=found, total=len(found))


def _json_queues(found: Iterable[QueueStats]) -> list[QueueJson]:
    sources, recorded = app_services().sources, app_context().caches.current_pauses()
    directory = app_services().queue_directory
    return [
        json_queue(
            queue,
            sources.backend(queue.source, queue.backend),
            recorded.find_pause(queue) if recorded else None,
            directory.find(queue.source, queue.backend, queue.name),
        )
        for queue in found
    ]


def _is_wanted(row: QueueStats | Worker | Schedule) -> bool:
    """Whether the filters `source` and `backend` of the URL include the row."""
    wanted = {name: value for name in ("source", "backend") if (value := request.args.get(name))}
    return all(getattr(row, name) == value for name, value in wanted.items())


@bp.get(_QUEUE)
@json_response
def queue(source: str, backend: str, name: str) -> QueueJson:
    """Retrieve a queue.

    Returns 404 if it is not in the newest snapshot. With `at`, as it was recorded at that moment, and 404 if it was not
    recorded then.
    """
    moment = asked_moment()
    if moment is None:
        queue = app_context().find_queue_stats(source, backend, name)
    else:
        app_services().sources.backend(source, backend)
        view = app_context().caches.past.queue((source, backend, name), moment)
        if not view.snapshot.queues:
            raise NotFound("This queue was not recorded at that moment.")
        (queue,) = view.snapshot.queues
    (answer,) = _json_queues([queue])
    return answer


@bp.get(f"{_QUEUE}/scaling")
@json_response
def scaling(source: str, backend: str, name: str) -> ScalingJson:
    """Retrieve how many workers a queue needs, for autoscalers such as KEDA.

    `target_s` (300): the queue should be empty within so many seconds; `min` (0) and `max` (100000) bound the answer.
    `per_worker_per_min`: jobs that one worker finishes per minute, used until that is measured. Returns 503 if the
    number is not known, so that an autoscaler changes nothing: it is never 0 because something is not known. Costs no
    command.
    """
    found = app_context().find_queue_stats(source, backend, name)
    target_s = asked_number("target_s", 300, MAX_TARGET_S)
    highest = asked_number("max", MOST_WORKERS, MOST_WORKERS)
    lowest = asked_number("min", 0, highest, 0)
    current = app_services().snapshots.current()
    if current.stale:
        raise NotMeasured("The figures are out of date.", hint="Check that a checker is running.")
    shared = list_shared_entries(found, current.snapshot.queues if current.snapshot else ())
    wanted = want_workers(found, shared, target_s, asked_amount("per_worker_per_min"))
    if wanted.workers is None or found.depth is None:
        raise NotMeasured(f"The number of workers that this queue needs is not known: {wanted.reason}.")
    forecast = found.forecast or QueueForecast()
    return ScalingJson(
        backlog=found.depth,
        active=found.counts.active,
        workers=found.workers,
        wanted_workers=max(lowest, min(highest, wanted.workers)),
        target_s=target_s,
        empty_in_s=forecast.empty_in_s,
        arriving_per_min=forecast.arriving_per_min,
        finishing_per_min=forecast.finishing_per_min,
        per_worker_per_min=forecast.per_worker_per_min,
    )


@bp.get(f"{_QUEUE}/context")
@json_response
def context(source: str, backend: str, name: str) -> QueueContextJson:
    """Retrieve what surrounds a queue: owner, rules that watch it, alerts, silences, error groups.

    `alerts` are those about this queue alone, firing or pending. Nothing is read from the queue's Redis.
    """
    found = app_context().find_queue_stats(source, backend, name)
    facts = app_context().caches.alert_facts(with_pauses=False)
    context = read_context(app_services().snapshots.current(), found, facts)
    return json_context(context, AlertOwners(app_services().queue_directory, facts.rules))


@bp.get(f"{_QUEUE}/classes")
@json_response
def classes(source: str, backend: str, name: str) -> JobClassesJson:
    """List recent runs, failures and run times by job class of the queue's library.

    `classes` is null if they are unknown.
    """
    return json_classes(app_services().job_reader.class_stats(app_context().find_queue_stats(source, backend, name)))


@bp.get("/redis")
@json_response
def redis() -> ServersJson:
    """List Redis servers with their figures from INFO.

    `memory_history` is the memory used in the last hour, as [time, bytes] points.
    """
    current = app_services().snapshots.current()
    sources = [
        ServerJson(
            **asdict(json_source(source)),
            memory_history=[(iso(instant(at)), used) for at, used in current.history.memory_points(source.name)],
        )
        for source in (current.snapshot.sources if current.snapshot else ())
    ]
    return ServersJson(sources=sources, total=len(sources))


@bp.get(f"{_QUEUE}/jobs")
@json_response
def jobs(source: str, backend: str, name: str) -> JobsJson:
    """List a page of the jobs of a queue, read live.

    `state` is a Queuedeck state or the library's own; `page` and `per_page` select the page.
    """
    services = app_services()
    found = app_context().find_queue_stats(source, backend, name)
    query = _parse_query(services.sources.backend(source, backend))
    if request.args.get("q"):
        return _search_list(found, query)
    page = services.job_reader.list_jobs(found, query)
    return JobsJson(
        jobs=[json_job(job) for job in page.jobs],
        page=page.page,
        per_page=page.per_page,
        total=page.total,
        at_least=page.at_least,
        order=page.order,
        scanned=page.scanned,
        truncated=page.truncated,
        problems=page.problems,
    )


def _search_list(queue: QueueStats, query: JobQuery) -> JobsJson:
    """A page of the jobs of one list that match `q`, within the limits of a search."""
    text = f"{request.args['q']} state:{query.native or query.state.value}"
    found = app_services().job_reader.search_jobs(parse_query(text), [queue], request.args.get("cursor"))
    jobs = [each.job for each in found.jobs][query.offset : query.offset + query.per_page]
    return JobsJson(
        jobs=[json_job(job) for job in jobs],
        page=query.page,
        per_page=query.per_page,
        total=len(found.jobs),
        at_least=found.cursor is not None or found.at_least,
        order="as searched",
        scanned=found.searched,
        truncated=found.cursor is not None,
        cursor=found.cursor,
        problems=found.problems,
    )


@bp.get("/search")
@json_response
def search() -> JobSearchJson:
    """Search the jobs of all queues for `q`, within the limits of a search.

    To continue, send the returned `cursor`.
    """
    snapshot = app_services().snapshots.current().snapshot
    found = app_services().job_reader.search_jobs(
        parse_query(request.args.get("q", "")), snapshot.queues if snapshot else (), request.args.get("cursor")
    )
    return JobSearchJson(
        jobs=[json_found_job(each) for each in found.jobs],
        scanned=found.searched,
        found_total=found.found_total,
        scanned_total=found.searched_total,
        unread_total=found.unread,
        total=found.total,
        at_least=found.at_least,
        seconds=round(found.seconds, 3),
        truncated=found.cursor is not None,
        cursor=found.cursor,
        problems=found.problems,
    )


@bp.get("/workers")
@json_response
def workers() -> WorkersJson:
    """List worker processes.

    Filter by `source` and `backend`.
    """
    live_rows = app_services().workers.current_rows()
    found = [json_worker(worker) for worker in live_rows.rows if _is_wanted(worker)]
    return WorkersJson(workers=found, total=len(found), at_least=False, problems=json_live_problems(live_rows))


@bp.get("/schedules")
@json_response
def schedules() -> SchedulesJson:
    """List schedules.

    Filter by `source` and `backend`.
    """
    live_rows = app_services().schedules.current_rows()
    found = [schedule for schedule in live_rows.rows if _is_wanted(schedule)]
    # No more schedules than this are read for each library.
    counts = Counter((schedule.source, schedule.backend) for schedule in found)
    return SchedulesJson(
        schedules=[json_schedule(schedule, app_services().sources.now_s(schedule.source)) for schedule in found],
        total=len(found),
        at_least=any(count >= MAX_SCHEDULES for count in counts.values()),
        problems=json_live_problems(live_rows),
    )


@bp.get(f"{_QUEUE}/jobs/<segment:job_id>")
@json_response
def job(source: str, backend: str, name: str, job_id: str) -> JobDetailJson:
    """Retrieve a job with payload, error, logs, links and timeline, read live."""
    services = app_services()
    queue = app_context().find_queue_stats(source, backend, name)
    found = services.job_reader.read_job(queue, job_id)
    return json_job_detail(found, job_verbs(services.sources.backend(source, backend), queue, found))


def _parse_query(backend: Backend) -> JobQuery:
    return job_query(backend, request.args.get("state", State.WAITING.value))
