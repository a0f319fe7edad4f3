"""Actions on selected jobs of several lists, as dead letters and search results have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flask import request

from ...backends.actions import MAX_BATCH, Action, JobRef, Outcome
from ...errors import Conflict, NotFound
from ...units import format_count
from ..context import app_context, app_services
from ..formatting import one_line, queue_title
from ..forms.job_tokens import SelectedList, read_listed_job_token
from ..views import confirmation
from ..views.flash import MAX_UNDO_BATCHES, ActionFlash
from .action_steps import ActionSteps
from .job_actions import parse_options, parse_reason, run_action, wanted_action


def wanted_selection() -> tuple[Action, list[str]]:
    """The action of the form and the tokens of its jobs: those selected, or the job whose own button was pressed.

    `only` is the value of such a button: the action and the token. Raises Unsupported for an unknown action.
    """
    name, dot, token = request.form.get("only", "").partition(".")
    return (wanted_action(name), [token]) if dot else (wanted_action(), request.form.getlist("pick"))


def act_on_selected(action: Action, tokens: Sequence[str]) -> ActionFlash:
    """Apply `action` to the jobs, list by list, and return the result with one undo batch per list.

    Jobs in a list that does not support the action, or in a queue that no longer exists, are reported so. A list that
    fails keeps the results of those before it. Raises Conflict for no jobs, or too many, ApprovalNeeded, and the error
    of a list while no job has changed.
    """
    options, reason = parse_options(), parse_reason()
    steps = ActionSteps()
    app_services().action_service.approval.check(action, len(tokens))
    for selected_list, job_refs in group_by_list(tokens).items():
        source, library, name, state = selected_list
        try:
            ref = app_context().find_queue_stats(source, library, name).ref
        except NotFound:
            steps.refuse(job_refs, Outcome.GONE)
            continue
        backend = app_services().sources.backend(source, library)
        if action not in backend.offered_actions(state, shared=ref.shared, abandoned=True):
            steps.refuse(job_refs, Outcome.UNSUPPORTED)
        else:
            run_action(steps, ref, state, action, job_refs, options, reason)
    return steps.bulk_flash(action)


def group_by_list(tokens: Sequence[str]) -> dict[SelectedList, list[JobRef]]:
    """The selected jobs by list. Raises Conflict for none, or too many."""
    selected: dict[SelectedList, list[JobRef]] = {}
    for token in tokens:
        selected_list, job_ref = read_listed_job_token(token)
        selected.setdefault(selected_list, []).append(job_ref)
    if not selected:
        raise Conflict("No jobs selected.", hint="Go back and select at least one job.")
    if len(tokens) > MAX_BATCH or len(selected) > MAX_UNDO_BATCHES:
        most = f"{MAX_BATCH:,} jobs" if len(tokens) > MAX_BATCH else f"jobs of {MAX_UNDO_BATCHES} lists"
        raise Conflict("Too many jobs selected.", hint=f"Select at most {most}, or start a bulk operation on a list.")
    return selected


def count_by_queue(selected: Mapping[SelectedList, Sequence[JobRef]]) -> confirmation.Facts:
    """One fact for each list with selected jobs, most first: "mail on main: 7 dead jobs"."""
    by_size = sorted(selected, key=lambda each: -len(selected[each]))
    facts = [
        ("Queue", f"{_place_of(each)}: {format_count(len(selected[each]), f'{each.state.value} job')}")
        for each in by_size[: confirmation.MAX_NAMES]
    ]
    rest = by_size[confirmation.MAX_NAMES :]
    if rest:
        jobs = sum(len(selected[each]) for each in rest)
        facts.append(("Queues", f"{len(rest):,} more: {format_count(jobs, 'job')}"))
    return tuple(facts)


def _place_of(each: SelectedList) -> str:
    """The queue of a list, and its Redis: "mail on main"."""
    snapshot, titles = app_services().snapshots.current().snapshot, app_services().sources.titles
    queue = snapshot.find(each.source, each.backend, each.queue) if snapshot else None
    name = queue_title(queue, titles.get(each.backend, each.backend), 120) if queue else one_line(each.queue, 120)
    return f"{name} on {one_line(each.source, 40)}"
