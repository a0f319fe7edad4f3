"""What a job is tied to beside its place: a batch of Sidekiq Pro, a lock that keeps it unique.

Source: sidekiq-unique-jobs 6 to 9, `lib/sidekiq_unique_jobs/key.rb`, `lua/lock.lua`: a lock is a hash `DIGEST:LOCKED`
with a field for each job that holds it, and expires only where the app gave it a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dashboard.backends.payload import finite
from dashboard.backends.sidekiq.entry import words
from dashboard.sources import Source

LONGEST_DIGEST = 300


def facts(source: Source, namespace: str, payload: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """The batch and the lock of a job. Cost: 1 round trip for a job with a lock's digest."""
    if batch := words(payload.get("bid"), 200):
        yield "Batch", f"{batch} (never completes if this job is deleted)"
    seconds = finite(payload.get("unique_for"))
    if seconds is not None and seconds > 0:
        yield "Unique for (s)", f"{seconds:g}"
    digest = digest_of(payload)
    if digest is None:
        return
    kind = words(payload.get("lock") or payload.get("unique"), 100)
    key, jid = f"{namespace}{digest}:LOCKED", payload.get("jid")
    holder = jid if isinstance(jid, str) and jid.isascii() else ""
    size, own, left = source.batch([("HLEN", key), ("HEXISTS", key, holder), ("PTTL", key)])
    yield "Unique lock", f"{words(digest, 200)}{f' ({kind})' if kind else ''}: {_holder(size, own, left)}"


def _holder(size: Any, own: Any, left_ms: Any) -> str:
    if not isinstance(size, int) or not isinstance(left_ms, int):
        return "its key cannot be read"
    if size == 0:
        return "not locked now"
    held = "locked by this job" if own == 1 else "locked by another job"
    return f"{held}, expires in {max(1, left_ms // 1000)} s" if left_ms >= 0 else f"{held}, does not expire"


def digest_of(payload: Mapping[str, Any]) -> str | None:
    """The digest under which a job is locked; None where its payload has none."""
    found = payload.get("lock_digest") or payload.get("unique_digest")
    if not isinstance(found, str) or not 0 < len(found) <= LONGEST_DIGEST:
        return None
    return found if found.isprintable() else None


def after_delete(payload: Mapping[str, Any] | None) -> str | None:
    """What a deletion leaves behind, for the outcome; None where nothing."""
    left = []
    if payload and (batch := words(payload.get("bid"), 100)):
        left.append(f"its batch {batch} never completes now, unless the job is put back")
    if payload and (digest := digest_of(payload)):
        left.append(f"a lock {words(digest, 100)} that it holds stays until it expires or the app removes it")
    return "; ".join(left) or None
