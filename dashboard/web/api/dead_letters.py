"""The dead letters of the JSON API: error groups with their figures, statuses and samples."""

from __future__ import annotations

from flask import Blueprint, request
from msgspec.structs import asdict

from ...clock import instant, iso
from ...dead_letters.differences import JobComparison, compare_jobs
from ...dead_letters.groups import SAMPLES, SLOT_S, GroupMember, GroupQueue
from ...errors import NotFound, Unsupported
from ...marks.mark_reader import MarkBefore
from ...model import State
from ..context import app_services
from ..forms.job_query import MAX_PAGE, MAX_PER_PAGE, asked_number
from ..views.group_table import PER_PAGE, GroupQuery, GroupRow, member_page, row_of, rows_of
from .responses import JsonObject, Time, json_response

bp = Blueprint("api_dead", __name__, url_prefix="/api/v1")


class ArgumentJson(JsonObject, frozen=True, kw_only=True):
    """An argument of a job: its name, or its position from "1", and its value as text with secrets masked."""

    name: str
    value: str


class DeadLetterJson(JsonObject, frozen=True, kw_only=True):
    """A job of an error group. `found_in` is the queue in whose list it is; `came_from` its origin queue.

    `message` is its own error message, and `arguments` its first arguments; long texts are cut.
    """

    id: str
    source: str
    backend: str
    found_in: str
    queue: str
    name: str | None
    died_at: Time | None
    attempts: int | None
    state: State
    came_from: str | None
    message: str | None
    arguments: list[ArgumentJson]


class TrendJson(JsonObject, frozen=True, kw_only=True):
    """The deaths of the last hour in steps of `step_s`, oldest first."""

    step_s: float
    counts: tuple[int, ...]


class ErrorGroupPlaceJson(JsonObject, frozen=True, kw_only=True):
    """A list that contains jobs of an error group, and how many."""

    source: str
    backend: str
    queue: str
    found_in: str
    state: State
    count: int


class MarkBeforeJson(JsonObject, frozen=True, kw_only=True):
    """The last mark before an error was first seen, and how long before. `source`: whose library recorded it."""

    text: str
    version: str | None
    link: str | None
    at: Time | None
    source: str | None
    after_s: float


class ErrorGroupJson(JsonObject, frozen=True, kw_only=True):
    """Dead letters with the same error, with its annotation.

    `message` is the pattern that their messages have in common, `newest_message` the one of the newest job. With
    `at_least`, there may be more jobs than `count`: they were not read, or not yet. `regressed_at` is when a group with
    the mark `regressed` returned; `resolved_by` and `resolved_at` are those of its last resolution, even if over.
    `first_seen_after` is the last mark before `first_seen`, null if there was none within 24 hours.
    """

    fingerprint: str
    error_class: str | None
    message: str
    newest_message: str | None
    frames: tuple[str, ...]
    count: int
    at_least: bool
    first_seen: Time | None
    first_seen_after: MarkBeforeJson | None
    last_seen: Time | None
    trend: TrendJson
    queues: list[str]
    places: list[ErrorGroupPlaceJson]
    sample_ids: list[str]
    samples: list[DeadLetterJson]
    marks: tuple[str, ...]
    owner: str | None
    note: str | None
    acknowledged_by: str | None
    regressed_at: Time | None
    resolved_by: str | None
    resolved_at: Time | None
    ignored_until: Time | None
    ignored_above: int | None


class ValueCountJson(JsonObject, frozen=True, kw_only=True):
    """A value, shortened, and how many of the compared jobs have it."""

    value: str
    count: int


class DifferenceJson(JsonObject, frozen=True, kw_only=True):
    """A field whose value differs: its most frequent values, how many there are, and how many jobs lack the field."""

    name: str
    argument: bool
    values: list[ValueCountJson]
    distinct: int
    missing: int


class ComparisonJson(JsonObject, frozen=True, kw_only=True):
    """What the newest `jobs` of an error group have in common, and what differs; `hidden` fields cannot be compared."""

    jobs: int
    same: list[ArgumentJson]
    different: list[DifferenceJson]
    hidden: tuple[str, ...]
    without_arguments: int


class ErrorGroupJobsJson(ErrorGroupJson, frozen=True, kw_only=True):
    """An error group with a comparison of its newest jobs, and a page of its jobs, newest first."""

    compared: ComparisonJson
    jobs: list[DeadLetterJson]
    page: int
    per_page: int


class UnreadQueueJson(JsonObject, frozen=True, kw_only=True):
    """A queue whose dead letters could not be read, and why."""

    source: str
    backend: str
    queue: str
    message: str


class ErrorGroupsJson(JsonObject, frozen=True, kw_only=True):
    """Error groups. `marks_unknown` says why the annotations could not be read.

    `reading`: the next requests will add jobs, so no count is final; otherwise, all that is read was read.
    """

    groups: list[ErrorGroupJson]
    scanned: int
    total: int | None
    at_least: bool
    truncated: bool
    reading: bool
    read_at: Time | None
    marks_unknown: str | None
    problems: list[UnreadQueueJson]


@bp.get("/dead")
@json_response
def dead() -> ErrorGroupsJson:
    """List error groups, most jobs first.

    Filter by `source`, `backend`, `queue` and `q`. `group_by` can only be `error`.
    """
    by = request.args.get("group_by", "error")
    if by != "error":
        raise Unsupported(f"group_by={by[:20]!r}: expected error.")
    group_list = app_services().dead_letter_service.current_groups()
    grouped = group_list.grouped
    query = GroupQuery.of({**request.args, "library": request.args.get("backend", "")})
    rows = rows_of(group_list, app_services().sources.now_s(), app_services().marks.recent_marks())
    return ErrorGroupsJson(
        groups=[_json_group(row) for row in rows if query.fits(row)],
        scanned=grouped.scanned,
        total=grouped.total,
        at_least=grouped.at_least,
        truncated=grouped.truncated,
        reading=grouped.reading,
        read_at=iso(instant(grouped.read_at)),
        marks_unknown=group_list.annotations.problem,
        problems=[
            UnreadQueueJson(source=each.ref.source, backend=each.ref.backend, queue=each.ref.name, message=each.why)
            for each in grouped.unread_lists
        ],
    )


@bp.get("/dead/<segment:fingerprint>")
@json_response
def group(fingerprint: str) -> ErrorGroupJobsJson:
    """Retrieve an error group with a page of its jobs, newest first.

    Returns 404 if none of the jobs that were read belongs to it.
    """
    group_list = app_services().dead_letter_service.current_groups()
    found = group_list.grouped.find(fingerprint)
    if found is None:
        raise NotFound("This error group has no jobs, or no longer exists.")
    per_page = asked_number("per_page", PER_PAGE, MAX_PER_PAGE)
    row = row_of(found, group_list, app_services().sources.now_s(), app_services().marks.recent_marks())
    page = member_page(found, asked_number("page", 1, MAX_PAGE), per_page)
    return ErrorGroupJobsJson(
        **asdict(_json_group(row)),
        compared=_json_comparison(compare_jobs(found.members)),
        jobs=[_json_job(member) for member in page.members],
        page=page.page,
        per_page=per_page,
    )


def _json_group(row: GroupRow) -> ErrorGroupJson:
    found, annotation = row.group, row.annotation
    samples = [_json_job(member) for member in found.members[:SAMPLES]]
    return ErrorGroupJson(
        fingerprint=found.error.fingerprint,
        error_class=found.error.error_class,
        message=found.error.message,
        newest_message=found.newest_message,
        frames=found.error.frames,
        count=found.count,
        at_least=not row.final,
        first_seen=iso(instant(row.first_at)),
        first_seen_after=_json_mark_before(row.mark_before) if row.mark_before else None,
        last_seen=iso(instant(found.last_at)),
        trend=TrendJson(step_s=SLOT_S, counts=found.trend),
        queues=list(dict.fromkeys(queue.name for queue in found.queues)),
        places=[_json_place(queue) for queue in found.queues],
        sample_ids=[job.id for job in samples],
        samples=samples,
        marks=row.statuses,
        owner=annotation.owner,
        note=annotation.note,
        acknowledged_by=annotation.ack_by if "acknowledged" in row.statuses else None,
        regressed_at=iso(instant(row.regressed_since)),
        resolved_by=annotation.resolved_by,
        resolved_at=iso(instant(annotation.resolved_at)),
        ignored_until=iso(instant(annotation.ignored_until)) if "ignored" in row.statuses else None,
        ignored_above=annotation.ignored_above if "ignored" in row.statuses else None,
    )


def _json_mark_before(before: MarkBefore) -> MarkBeforeJson:
    mark = before.mark
    return MarkBeforeJson(
        text=mark.text,
        version=mark.version,
        link=mark.link,
        at=iso(instant(mark.at)),
        source=mark.source,
        after_s=round(before.after_s, 3),
    )


def _json_comparison(comparison: JobComparison) -> ComparisonJson:
    return ComparisonJson(
        jobs=comparison.compared,
        same=[ArgumentJson(name=each.name, value=each.text) for each in comparison.same],
        different=[
            DifferenceJson(
                name=each.name,
                argument=each.is_argument,
                values=[ValueCountJson(value=value.text, count=value.count) for value in each.values],
                distinct=each.distinct,
                missing=each.missing,
            )
            for each in comparison.different
        ],
        hidden=comparison.hidden,
        without_arguments=comparison.without_arguments,
    )


def _json_place(queue: GroupQueue) -> ErrorGroupPlaceJson:
    return ErrorGroupPlaceJson(
        source=queue.ref.source,
        backend=queue.ref.backend,
        queue=queue.name,
        found_in=queue.ref.name,
        state=queue.state,
        count=queue.count,
    )


def _json_job(member: GroupMember) -> DeadLetterJson:
    ref, dead_letter = member.ref, member.dead_letter
    return DeadLetterJson(
        id=dead_letter.id,
        source=ref.source,
        backend=ref.backend,
        found_in=ref.name,
        queue=dead_letter.queue,
        name=dead_letter.name,
        died_at=iso(instant(dead_letter.at)),
        attempts=dead_letter.attempts,
        state=member.state,
        came_from=dead_letter.origin_queue,
        message=dead_letter.message,
        arguments=[ArgumentJson(name=each.name, value=each.text) for each in dead_letter.arguments],
    )
