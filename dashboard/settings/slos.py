"""What a service level objective of `[[slos]]` may be, and which queues it is about. Pure."""

from __future__ import annotations

import re

from ..globs import GLOB_LIMIT, glob_matches, is_glob
from .schema import SloSettings

MAX_SLOS = 50
MAX_GLOBS = 50
MAX_NAME = 80
# As far back as the history goes, and long enough for the windows of the alerts.
LEAST_WINDOW_S, MOST_WINDOW_S = 86_400, 30 * 86_400
MOST_SECONDS = 30 * 86_400
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


def covers_queue(slo: SloSettings, source: str, backend: str, queue: str) -> bool:
    """Whether an objective is about that queue."""
    return (
        glob_matches(slo.source, source)
        and glob_matches(slo.backend, backend)
        and (not slo.queues or any(glob_matches(glob, queue) for glob in slo.queues))
        and not any(glob_matches(glob, queue) for glob in slo.queues_not)
    )


def find_problem(slo: SloSettings) -> str | None:
    """What is wrong with an objective, as `field: expected …`; None when it is valid."""
    if not _ID.match(slo.id):
        return "id: expected 1 to 64 letters, digits, dots, dashes or underscores"
    if slo.name is not None and not (0 < len(slo.name) <= MAX_NAME and slo.name.isprintable()):
        return f"name: expected one line of 1 to {MAX_NAME} printable characters"
    if not 0 < slo.target < 1:  # false for NaN too
        return "target: expected a share above 0 and below 1, such as 0.99 for 99%"
    if not LEAST_WINDOW_S <= slo.window_s <= MOST_WINDOW_S:
        return f"window_s: expected {LEAST_WINDOW_S} to {MOST_WINDOW_S} seconds, which is 1 to 30 days"
    return _measure_problem(slo) or _scope_problem(slo)


def _measure_problem(slo: SloSettings) -> str | None:
    measures = (slo.waited_within_s is not None) + (slo.ran_within_s is not None) + slo.succeeded
    if measures != 1:
        return "expected exactly one of waited_within_s, ran_within_s and succeeded = true"
    for field, seconds in (("waited_within_s", slo.waited_within_s), ("ran_within_s", slo.ran_within_s)):
        if seconds is not None and not 0 < seconds <= MOST_SECONDS:
            return f"{field}: expected seconds above 0, at most {MOST_SECONDS}"
    return None


def _scope_problem(slo: SloSettings) -> str | None:
    for field, globs in (("queues", slo.queues), ("queues_not", slo.queues_not)):
        if len(globs) > MAX_GLOBS or not all(map(is_glob, globs)):
            return f"{field}: expected at most {MAX_GLOBS} globs of {GLOB_LIMIT} characters with * and ? only"
    for field, glob in (("source", slo.source), ("backend", slo.backend)):
        if not is_glob(glob):
            return f"{field}: expected a glob of at most {GLOB_LIMIT} characters with * and ? only"
    return None
