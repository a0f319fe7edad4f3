"""The deploy marks of Sidekiq 7 and 8: `Sidekiq::Deploy.mark!` records a label per minute.

Layout: sidekiq `lib/sidekiq/deploy.rb`. The marks of a day in UTC are the hash `YYYYMMDD-marks` of ISO minute -> label,
which lives for 90 days; without a label, it is the newest commit: `4f2a1c3 Send mails in parallel`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from redis.exceptions import ResponseError

from ....clock import instant
from ....model import Mark
from ....redact import mask_text
from ....sources.failures import is_forbidden
from ....sources.source import Reply, Source, text
from ...bounded_reads import short_hashes
from ...lua_reads import Scripts

MAX_DAYS = 31
MAX_NAMESPACES = 8
MAX_PER_DAY = 200
# Longer labels are left out, and others cut after MAX_LABEL characters.
MAX_LABEL_BYTES = 2000
MAX_LABEL = 200


def read_deploy_marks(
    source: Source, scripts: Scripts, namespaces: Sequence[str], start_s: float, end_s: float
) -> list[Mark]:
    """The marks between two times, at most MAX_DAYS apart, of the first MAX_NAMESPACES, at most MAX_PER_DAY of each
    day. Raises BackendUnavailable, Forbidden. Cost: 1 round trip; 4 without scripts."""
    first, last = instant(start_s), instant(end_s)
    if first is None or last is None:
        return []
    days = [first.date() + timedelta(days=n) for n in range(min((last.date() - first.date()).days + 1, MAX_DAYS))]
    hashes = [f"{namespace}{day:%Y%m%d}-marks" for namespace in namespaces[:MAX_NAMESPACES] for day in days]
    replies = short_hashes(source, hashes, MAX_PER_DAY, MAX_LABEL_BYTES, scripts)
    for reply in replies:
        if isinstance(reply, ResponseError) and is_forbidden(reply):
            raise source.refusal_error(reply)
    marks = (mark for reply in replies for mark in _decode_marks(source.name, reply))
    return [mark for mark in marks if start_s <= mark.at <= end_s]


def _decode_marks(source: str, reply: Reply) -> list[Mark]:
    """The readable marks of one hash."""
    if not isinstance(reply, list):
        return []
    found = []
    for minute, label in zip(reply[::2], reply[1::2], strict=False):
        at, words = _parse_minute(minute), " ".join(mask_text(text(label)).split())[:MAX_LABEL]
        if at is not None and words:
            found.append(Mark(at=at, text=words, source=source, backend="sidekiq"))
    return found


def _parse_minute(raw: bytes) -> float | None:
    """`2026-11-30T03:12:00Z` in seconds since 1970; None for anything else."""
    try:
        moment = datetime.fromisoformat(raw.decode("ascii")) if len(raw) <= 40 else None
    except ValueError:
        return None
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
