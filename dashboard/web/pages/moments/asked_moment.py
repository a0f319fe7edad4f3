"""The moment that a request asks for with `at=`: read once for each request, and kept in the links of its page."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from flask import Flask, g, request, url_for

from ....errors import Forbidden
from ....marks.mark_reader import MarkBefore, find_mark_before
from ...access.security import sees_all
from ...context import app_services
from ...forms.job_query import asked_time
from ...views.moments.moment import EARLIER_S, Moment, choose_moment, format_at

# The pages that can show the past. On a page of the past, links to them keep its moment.
PAGES = frozenset(
    {
        *("overview.index", "queues.show", "classes.index", "redis.index", "redis.server", "alerting.index"),
        *("charts.overview", "charts.queue", "charts.job_class", "charts.redis"),
    }
)
# What belongs to a page of now, or to another moment.
_NOT_KEPT = frozenset({"at", "page", "said", "wall", "from", "to"})


def install(app: Flask) -> None:
    """Keep the moment of a page in its links, and offer it to the templates."""
    app.url_defaults(_keep_moment)
    app.jinja_env.globals.update(
        shown_moment=shown_moment,
        moment_url=moment_url,
        moment_fields=moment_fields,
        earlier_at=earlier_at,
        mark_before_moment=mark_before_moment,
    )


def asked_moment() -> Moment | None:
    """The moment that the URL asks for; None for now. To be called by each view of PAGES, before it renders.

    Raises Unsupported for one that is no time, in the future, or longer ago than what is stored; Forbidden for someone
    who may see only some queues. Cost: none.
    """
    at_s = asked_time("at")
    if at_s is not None and not sees_all():
        raise Forbidden("Earlier moments show all queues together, and you may see only some of them.")
    found = None if at_s is None else choose_moment(at_s, app_services().store.now_s())
    g.moment = found
    return found


def shown_moment() -> Moment | None:
    """The moment of the page that is being rendered; None for now."""
    found: Moment | None = g.get("moment")
    return found


def moment_url(at: str | None) -> str:
    """The URL of this page as of another moment; of now for None."""
    path = url_for(request.endpoint or "overview.index", **{**(request.view_args or {}), "at": None})
    query = [*moment_fields(), *([("at", at)] if at else [])]
    return f"{path}?{urlencode(query, safe=':')}" if query else path


def moment_fields() -> list[tuple[str, str]]:
    """The parameters of this page's URL that it keeps as of another moment."""
    return [(name, value) for name, value in request.args.items() if name not in _NOT_KEPT]


def earlier_at() -> str | None:
    """Where "Earlier" leads from a page of now; None on pages that cannot show the past. Cost: none."""
    if request.endpoint not in PAGES or shown_moment() is not None or request.args.get("wall") or not sees_all():
        return None
    return format_at(app_services().store.now_s() - EARLIER_S)


def mark_before_moment() -> MarkBefore | None:
    """The last mark within a day before the moment of the page; of libraries only those of the Redis that it is about.

    Cost: as `MarkReader.recent_marks`.
    """
    moment = shown_moment()
    if moment is None:
        return None
    services = app_services()
    source = (request.view_args or {}).get("source")
    return find_mark_before(
        services.marks.recent_marks(), moment.at_s, [source] if source else services.sources.sources
    )


def _keep_moment(endpoint: str, values: dict[str, Any]) -> None:
    moment = shown_moment()
    if moment is not None and endpoint in PAGES:
        values.setdefault("at", moment.text)
