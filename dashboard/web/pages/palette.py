"""What the script of a page asks for while a user types: completions of a search, entries of the command palette.

Both are answered from the memory of this process.
"""

from __future__ import annotations

from collections import Counter

from flask import Blueprint, Response, request

from ...auth import Role
from ...model import Value
from ...search.completion import KnownValue, complete_query
from ...search.query import MAX_QUERY
from ..access.security import has_role, may_edit, may_open, may_sign_out, sees_all, view_only_line
from ..api.responses import encode_json
from ..context import app_context, app_services
from ..formatting import one_line
from ..views.palette.entries import PaletteAnswer, PaletteUser
from ..views.palette.palette import PaletteSources, search_palette
from ..views.palette.queue_entries import QueueEntries

bp = Blueprint("palette", __name__)

MAX_TEXT = 200
MAX_RECENT_KEYS = 10
MAX_NAMES = 200  # job names among which the best are chosen


class CompletionLine(Value, frozen=True, kw_only=True):
    """`text` replaces the term, `label` is what to show."""

    text: str
    label: str
    detail: str


class CompletionAnswer(Value, frozen=True, kw_only=True):
    """What can replace the characters from `start` to `end`, best first."""

    start: int
    end: int
    offered: tuple[CompletionLine, ...]


@bp.get("/complete")
def complete() -> Response:
    """Completions of the term of the search `q` at character `at`; by default at its end. Cost: no command."""
    text = request.args.get("q", "")[:MAX_QUERY]
    found = complete_query(text, request.args.get("at", len(text), type=int), _known_values)
    offered = tuple(CompletionLine(text=each.text, label=each.label, detail=each.detail) for each in found.offered)
    return _send(CompletionAnswer(start=found.start, end=found.end, offered=offered))


@bp.get("/palette")
def search() -> Response:
    """The entries that match `q`; `recent`: the keys of recent choices, newest first. Cost: that of the firing alerts,
    which are read at most once a second for all pages."""
    services, caches = app_services(), app_context().caches
    current, status = services.snapshots.current(), caches.alert_status()
    user = PaletteUser(has_role(Role.OPERATOR), may_sign_out(), _may_open, sees_all())
    groups = services.dead_letter_service.cached_groups()
    queues = current.snapshot.queues if current.snapshot else ()
    known = PaletteSources(
        QueueEntries(queues, services.sources.titles, services.sources.backend, may_act=user.may_act),
        user,
        status.facts.alerts,
        groups.grouped.groups if groups else (),
        status.facts.thresholds.all_rules if may_open("rules") else (),
        one_line(view_only_line("pausing, resuming and retrying") or "", 240),
    )
    recent = request.args.getlist("recent")[:MAX_RECENT_KEYS]
    return _send(search_palette(request.args.get("q", "")[:MAX_TEXT], recent, known))


def _may_open(blueprint: str) -> bool:
    """Whether the user may open it; what changes something, not in read-only mode."""
    return may_edit(blueprint) if blueprint.endswith("_edit") else may_open(blueprint)


def _send(answer: CompletionAnswer | PaletteAnswer) -> Response:
    return Response(encode_json(answer), mimetype="application/json")


def _known_values(field: str, part: str) -> list[KnownValue]:
    """The values of `field` that are known here; job names only if they contain `part`. Cost: no command."""
    services = app_services()
    snapshot, titles = services.snapshots.current().snapshot, services.sources.titles
    queues = snapshot.queues if snapshot else ()
    if field == "queue":
        libraries: dict[str, dict[str, None]] = {}
        for queue in queues:
            if not queue.shared:
                libraries.setdefault(queue.name, {})[titles.get(queue.backend, queue.backend)] = None
        return [KnownValue(name, ", ".join(libraries[name])) for name in sorted(libraries)]
    if field == "library":
        return [KnownValue(name, titles.get(name, name)) for name in sorted({queue.backend for queue in queues})]
    if field == "source":
        return [KnownValue(name) for name in sorted({queue.source for queue in queues})]
    if field == "name":
        return [KnownValue(name) for name in services.job_reader.names.find_names(part, MAX_NAMES)]
    return _error_classes() if field == "error" else []


def _error_classes() -> list[KnownValue]:
    """The classes of the error groups that this process has read, most jobs first."""
    group_list = app_services().dead_letter_service.cached_groups()
    deaths: Counter[str] = Counter()
    for group in group_list.grouped.groups if group_list else ():
        if group.error.error_class:
            deaths[group.error.error_class] += group.count
    more = "" if group_list and not group_list.grouped.truncated else "+"
    return [
        KnownValue(name, f"{count:,}{more} dead {'job' if count == 1 else 'jobs'}")
        for name, count in deaths.most_common()
    ]
