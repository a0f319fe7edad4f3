"""Marks in the JSON API: list them, add one from a deploy script, delete one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from flask import Blueprint
from msgspec import Meta
from msgspec.structs import asdict

from ...clock import instant, iso
from ...errors import Unsupported
from ...marks.new_mark import AHEAD_S, KEEP_S, MAX_LINK, MAX_TEXT, MAX_VERSION
from ...model import Mark
from ..context import app_services
from ..forms.job_query import asked_time
from ..forms.request_input import Body, json_body
from ..pages.marks.mark_forms import add_mark, delete_mark
from .responses import JsonObject, Time, json_response

bp = Blueprint("api_marks", __name__, url_prefix="/api/v1/marks")
edit_bp = Blueprint("api_marks_edit", __name__, url_prefix="/api/v1/marks")


class MarkJson(JsonObject, frozen=True, kw_only=True):
    """A deployment or another change. `id` and `who` are null for a mark that a library recorded, `source` and
    `backend` for one that was added in Queuedeck."""

    id: str | None
    at: Time | None
    text: str
    version: str | None
    link: str | None
    who: str | None
    source: str | None
    backend: str | None


class AddedMarkJson(MarkJson, frozen=True, kw_only=True):
    """The stored mark. `added` is false if the same text and version had been added less than a minute before or
    after: it is that mark, and nothing was added."""

    added: bool


class UnreadMarksJson(JsonObject, frozen=True, kw_only=True):
    """A library whose marks could not be read, and why."""

    source: str
    backend: str
    message: str


class MarksJson(JsonObject, frozen=True, kw_only=True):
    """Marks, newest first. `problems`: whose marks are missing."""

    marks: list[MarkJson]
    problems: list[UnreadMarksJson]


class DeletedMarkJson(JsonObject, frozen=True, kw_only=True):
    """The mark is deleted."""

    outcome: Literal["done"]
    id: str


class MarkBody(Body, frozen=True, kw_only=True):
    """What changed. `link` is an http or https URL; `at` a time with its zone, at most 30 days ago, now without it."""

    text: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
    version: Annotated[str, Meta(min_length=1, max_length=MAX_VERSION)] | None = None
    link: Annotated[str, Meta(min_length=1, max_length=MAX_LINK)] | None = None
    at: Annotated[datetime, Meta(tz=True)] | None = None


class EmptyBody(Body, frozen=True, kw_only=True):
    """No fields."""


@bp.get("", endpoint="marks")
@json_response
def list_marks() -> MarksJson:
    """List marks, newest first.

    `from` and `to` are times; without them, all of the last 30 days.
    """
    now = app_services().store.now_s()
    start, end = asked_time("from"), asked_time("to")
    start_s = now - KEEP_S if start is None else max(start, now - KEEP_S)
    end_s = now + AHEAD_S if end is None else end
    if start is not None and end is not None and end < start:
        raise Unsupported("The range ends before it begins.", hint="Check from and to.")
    found = app_services().marks.list_marks(start_s, end_s)
    return MarksJson(
        marks=[_json_mark(mark) for mark in found.marks],
        problems=[UnreadMarksJson(source=each.source, backend=each.backend, message=each.why) for each in found.unread],
    )


@edit_bp.post("", endpoint="add")
@json_body(MarkBody)
@json_response
def add(body: MarkBody) -> tuple[AddedMarkJson, int]:
    """Add a mark, as at the end of a deployment.

    Returns 201. The same text and version again within a minute returns 200 and the mark that is already there: each
    host of a deployment may send it.
    """
    added = add_mark(body.text, body.version, body.link, body.at.timestamp() if body.at else None)
    return AddedMarkJson(**asdict(_json_mark(added.mark)), added=added.is_new), 201 if added.is_new else 200


@edit_bp.delete("/<segment:mark_id>", endpoint="delete")
@json_body(EmptyBody)
@json_response
def delete(body: EmptyBody, mark_id: str) -> DeletedMarkJson:
    """Delete a mark that was added in Queuedeck.

    Returns 404 if there is none.
    """
    del body
    delete_mark(mark_id)
    return DeletedMarkJson(outcome="done", id=mark_id)


def _json_mark(mark: Mark) -> MarkJson:
    return MarkJson(**asdict(mark) | {"at": iso(instant(mark.at))})
