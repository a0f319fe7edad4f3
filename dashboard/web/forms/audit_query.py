"""The events of the audit log that a URL requests; the same for the page and the API."""

from __future__ import annotations

import re

from flask import request

from ...actions.audit_filter import AuditFilter
from ...errors import Unsupported
from ...globs import EXPECTED, is_glob, is_plain
from ..views.flash import OUTCOME_CHOICES
from .job_query import asked_time

# Query parameter -> field of AuditFilter.
FIELDS = {name: name for name in ("who", "action", "source", "queue", "outcome")} | {"bulk": "bulk_id"}
TIMES = ("from", "to")
FILTERS = (*FIELDS, *TIMES)
MAX_TEXT = 200
# The length of a time without seconds, as forms send it: its whole minute is meant.
_TO_THE_MINUTE = len("2026-11-25T10:00")
_ENTRY = re.compile(r"([0-9]{1,20})-([0-9]{1,20})\Z")
# The maximum of each half of a stream entry id.
_MOST = 2**64 - 1


def audit_filter() -> AuditFilter:
    """The filter of the URL; an empty parameter is none. Raises Unsupported for an invalid one."""
    texts = {field: text for name, field in FIELDS.items() if (text := _asked_text(name))}
    outcome = texts.get("outcome")
    if outcome is not None and outcome not in OUTCOME_CHOICES:
        raise Unsupported(f"outcome={outcome[:50]!r}: expected one of {', '.join(OUTCOME_CHOICES)}.")
    until_s = asked_time("to")
    if until_s is not None and len(request.args["to"]) == _TO_THE_MINUTE:
        until_s += 59.999
    return AuditFilter(**texts, since_s=asked_time("from"), until_s=until_s)


def asked_filters() -> dict[str, str]:
    """The parameters of the filter as in the URL, without empty ones."""
    return {name: text for name in FILTERS if (text := request.args.get(name))}


def audit_cursor() -> str | None:
    """The event id in `before`; None without it. Raises Unsupported for an invalid id."""
    text = request.args.get("before")
    if not text:
        return None
    found = _ENTRY.match(text)
    # Redis rejects numbers of more than 64 bits, and a range that ends before the very first id.
    if found is None or not 0 < max(map(int, found.groups())) <= _MOST:
        raise Unsupported("before: expected the id of an audit event, such as 1760000000000-0.")
    return text


def _asked_text(name: str) -> str:
    text = request.args.get(name, "").strip()
    if len(text) > MAX_TEXT:
        raise Unsupported(f"{name}: expected at most {MAX_TEXT} characters.")
    if name in ("who", "queue") and not is_plain(text) and not is_glob(text):
        raise Unsupported(f"{name}: expected a name, or {EXPECTED}.")
    return text
