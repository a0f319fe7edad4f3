"""The questions before actions that destroy, and before those of the command palette; nothing is changed here.

A question is about the object as it is now, read again by its id, so that a row that moved is never confused with
another one.
"""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint, render_template, request, url_for

from ...backends.actions import Action
from ...dead_letters.fingerprint import is_fingerprint
from ...errors import Conflict, NotFound, Unsupported
from ...model import QueueStats, Schedule, State, Worker
from ...units import format_number
from ..context import app_services
from ..formatting import job_url, one_line, queue_title, queue_url
from ..forms.job_tokens import read_job_token
from ..forms.request_input import form_fields
from ..views import confirmation
from ..views.confirmation import Confirmation
from ..views.flash import VERBS
from ..views.offered_actions import queue_verbs, why_unsupported
from . import layout
from .job_actions import ACTION, find_single_row, wanted_action
from .queues import find_queue
from .selected_jobs import count_by_queue, group_by_list

bp = Blueprint("confirmations", __name__)

_QUEUE = "/queues/<segment:source>/<segment:backend>/<segment:name>"


@bp.post("/workers/confirm")
@form_fields("action", "reason", "source", "backend", "id")
def worker() -> str:
    """The question before an action on a worker."""
    found, action = find_single_row(app_services().workers.current_rows().rows), wanted_action()
    title = app_services().sources.titles[found.backend]
    heading, facts = confirmation.worker_heading(action, found), confirmation.worker_facts(found, title)
    return _row_page(
        found, heading, facts, "worker", target=url_for("job_actions.on_worker"), cancel=url_for("workers.index")
    )


@bp.post("/schedules/confirm")
@form_fields("action", "reason", "source", "backend", "id", "queue")
def schedule() -> str:
    """The question before an action on a schedule."""
    found, action = find_single_row(app_services().schedules.current_rows().rows), wanted_action()
    title = app_services().sources.titles[found.backend]
    heading, facts = confirmation.schedule_heading(action, found), confirmation.schedule_facts(found, title)
    return _row_page(
        found, heading, facts, "schedule", target=url_for("job_actions.on_schedule"), cancel=url_for("schedules.index")
    )


@bp.post(f"{_QUEUE}/jobs/<segment:job_id>/confirm")
@form_fields(*ACTION, "state", "stamp")
def job(source: str, backend: str, name: str, job_id: str) -> str:
    """The question before an action on one job. Cost: that of reading one job."""
    _, queue = find_queue(source, backend, name)
    action = wanted_action()
    library = app_services().sources.backend(source, backend)
    found = app_services().job_reader.read_job(queue, job_id)
    return _page(
        heading=confirmation.job_heading(action, found),
        verb=f"{VERBS[action]} job" if action is not Action.KILL else VERBS[action],
        facts=confirmation.job_facts(found, queue, library.title),
        notes=confirmation.action_notes(action, library.action_help.get(action, "")),
        target=url_for("job_actions.on_job", source=source, backend=backend, name=name, job_id=job_id),
        fields=_submitted_fields(),
        cancel=job_url(queue, job_id) or queue_url(queue),
    )


@bp.post(f"{_QUEUE}/confirm")
@form_fields(*ACTION, "state", "native", "page", many=("pick",))
def jobs(source: str, backend: str, name: str) -> str:
    """The question before an action on the selected jobs of a list."""
    _, queue = find_queue(source, backend, name)
    library = app_services().sources.backend(source, backend)
    state, native, page = (request.form.get(key) or None for key in ("state", "native", "page"))
    return ask_about_jobs(
        wanted_action(),
        [read_job_token(token).id for token in request.form.getlist("pick")],
        facts=(*confirmation.queue_facts(queue, library.title), *((("State", state[:40]),) if state else ())),
        notes=confirmation.action_notes(wanted_action(), library.action_help.get(wanted_action(), "")),
        target=url_for("job_actions.on_jobs", source=source, backend=backend, name=name),
        cancel=queue_url(queue, state=state, native=native, page=page),
    )


@bp.post("/dead/<segment:fingerprint>/confirm")
@form_fields(*ACTION, "page", many=("pick",))
def dead_letters(fingerprint: str) -> str:
    """The question before an action on the selected jobs of an error group. Cost: see current_groups."""
    if not is_fingerprint(fingerprint):
        raise NotFound("This error group does not exist.")
    error = app_services().dead_letter_service.find_title(fingerprint)
    return ask_about_selected(
        wanted_action(),
        request.form.getlist("pick"),
        facts=(("Error group", one_line(error or fingerprint)),),
        target=url_for("dead_letter_actions.on_jobs", fingerprint=fingerprint),
        cancel=url_for("dead.show", fingerprint=fingerprint),
    )


@bp.get(f"{_QUEUE}/pause")
def pause(source: str, backend: str, name: str) -> str:
    """The question before a queue is paused from anywhere but its own page. Cost: none."""
    return _pause_or_resume(find_queue(source, backend, name)[1], Action.PAUSE)


@bp.get(f"{_QUEUE}/resume")
def resume(source: str, backend: str, name: str) -> str:
    """The question before a queue is resumed from anywhere but its own page. Cost: none."""
    return _pause_or_resume(find_queue(source, backend, name)[1], Action.RESUME)


def _pause_or_resume(queue: QueueStats, action: Action) -> str:
    library = app_services().sources.backend(queue.source, queue.backend)
    if action not in queue_verbs(library, queue):
        if queue.paused is not None and queue.paused == (action is Action.PAUSE):
            raise Conflict(f"This queue is {'already' if queue.paused else 'not'} paused.")
        raise Unsupported(queue.read_only or why_unsupported(library, action))
    waiting, active = _count_text(queue, State.WAITING, queue.depth), _count_text(queue, State.ACTIVE)
    return _page(
        heading=f"{VERBS[action]} queue {queue_title(queue, library.title, 200)}?",
        verb=f"{VERBS[action]} queue",
        facts=(*confirmation.queue_facts(queue, library.title)[1:], ("Waiting jobs", waiting), ("Active jobs", active)),
        notes=confirmation.action_notes(action, library.action_help.get(action, "")),
        target=url_for("job_actions.on_queue", source=queue.source, backend=queue.backend, name=queue.name),
        fields=(("action", action.value),),
        cancel=queue_url(queue),
        destroys=False,
    )


@bp.get(f"{_QUEUE}/obliterate")
def obliterate(source: str, backend: str, name: str) -> str:
    """The question that needs the queue's name before the queue is deleted."""
    _, queue = find_queue(source, backend, name)
    library = app_services().sources.backend(source, backend)
    waiting = _count_text(queue, State.WAITING, queue.depth)
    return _page(
        heading=f"Delete queue {queue_title(queue, library.title, 200)}?",
        verb="Delete queue",
        facts=(*confirmation.queue_facts(queue, library.title)[1:], ("Waiting jobs", waiting)),
        notes=(
            "This cannot be undone.",
            library.action_help.get(Action.OBLITERATE, "Deletes the queue and all its jobs."),
        ),
        target=url_for("job_actions.on_queue", source=source, backend=backend, name=name),
        fields=(("action", Action.OBLITERATE.value),),
        cancel=queue_url(queue),
        name_to_type=layout.name_to_type(queue),
    )


def _count_text(queue: QueueStats, state: State, known: int | None = None) -> str:
    """How many jobs of a queue are in a state, or the number that is known better, as text."""
    count = queue.counts.of(state) if known is None else known
    return "unknown" if count is None else format_number(count) + ("+" if state in queue.at_least else "")


def _row_page(
    found: Worker | Schedule, heading: str, facts: confirmation.Facts, noun: str, *, target: str, cancel: str
) -> str:
    """The question about one row of a list; its stamp shows later whether the row has changed since."""
    action = wanted_action()
    library = app_services().sources.backend(found.source, found.backend)
    return _page(
        heading=heading,
        verb=f"{VERBS[action]} {noun}",
        facts=facts,
        notes=confirmation.action_notes(action, library.action_help.get(action, "")),
        target=target,
        fields=(*_submitted_fields(), ("stamp", confirmation.row_stamp(found))),
        cancel=cancel,
    )


def ask_about_selected(
    action: Action, tokens: Sequence[str], *, target: str, cancel: str, facts: confirmation.Facts = ()
) -> str:
    """The question about selected jobs of several lists: how many of which queues, and further `facts`.

    Raises Conflict for no jobs, or too many.
    """
    selected = group_by_list(tokens)
    return ask_about_jobs(
        action,
        [job_ref.id for job_refs in selected.values() for job_ref in job_refs],
        facts=(*count_by_queue(selected), *facts),
        target=target,
        cancel=cancel,
    )


def ask_about_jobs(
    action: Action,
    ids: list[str],
    *,
    facts: confirmation.Facts,
    target: str,
    cancel: str,
    notes: tuple[str, ...] | None = None,
) -> str:
    """The question about selected jobs; `notes` by default those of the action. Raises Conflict for no jobs."""
    if not ids:
        raise Conflict("No jobs selected.", hint="Go back and select at least one job.")
    heading = confirmation.jobs_heading(action, len(ids))
    return _page(
        heading=heading,
        verb=heading.removesuffix("?"),
        facts=(("Job" if len(ids) == 1 else "Jobs", confirmation.list_names(ids)), *facts),
        notes=confirmation.action_notes(action, "") if notes is None else notes,
        target=target,
        fields=_submitted_fields(),
        cancel=cancel,
    )


def _submitted_fields() -> confirmation.Facts:
    """What the form of the page sent: the action on exactly what the page showed. The reason has its own field."""
    return tuple((name, value) for name, values in request.form.lists() for value in values if name != "reason")


def _page(
    *,
    heading: str,
    verb: str,
    facts: confirmation.Facts,
    notes: tuple[str, ...],
    target: str,
    fields: confirmation.Facts,
    cancel: str,
    name_to_type: str | None = None,
    destroys: bool = True,
) -> str:
    question = Confirmation(
        heading=heading,
        verb=verb,
        facts=facts,
        notes=notes,
        target=target,
        fields=fields,
        cancel=cancel,
        name_to_type=name_to_type,
        destroys=destroys,
        reason=request.form.get("reason", "")[:500],
    )
    current = app_services().snapshots.current()
    return render_template("actions/confirm.html", **layout.page_context(current, ""), question=question)
