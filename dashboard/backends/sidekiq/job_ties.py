"""What else belongs to a job: a batch of Sidekiq Pro, a uniqueness lock, the progress of an iterable job.

Source: sidekiq-unique-jobs 6 to 9, `lib/sidekiq_unique_jobs/key.rb`, `lua/lock.lua`: a lock is a hash `DIGEST:LOCKED`
with a field for each job that holds it; it expires only if the app set an expiry. sidekiq 7.3 and 8
`lib/sidekiq/job/iterable.rb`: the progress of an iterable job is a hash `it-JID` with a TTL of 30 days; a retry
continues from it, and neither deleting nor copying the job changes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

from ...clock import iso
from ...sources.source import Command, Reply, Source, text
from ...units import format_duration, format_size
from ..payloads.decoding import finite, loads, printable, text_or_none
from ..payloads.masking import mask_payload
from .job_decoding import parse_time

LONGEST_DIGEST = 300
LONGEST_JID = 200
# Of an iterable job: number of runs, seconds they took, where the next run begins, when it was asked to stop.
ITERATION = ("ex", "rt", "c", "cancelled")
LONGEST_CURSOR = 64 * 1024


def list_tie_facts(source: Source, namespace: str, payload: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """The batch and the lock of a job, and the progress of an iterable one.

    Cost: 1 round trip for a job with a jid, 2 for an iterable job that has started.
    """
    if batch := text_or_none(payload.get("bid"), 200):
        yield "Batch", f"{batch} (never completes if this job is deleted)"
    seconds = finite(payload.get("unique_for"))
    if seconds is not None and seconds > 0:
        yield "Unique for (s)", f"{seconds:.15g}"
    jid = payload.get("jid")
    own = jid if isinstance(jid, str) and jid.isascii() and len(jid) <= LONGEST_JID else ""
    digest = lock_digest(payload)
    lock = f"{namespace}{digest}:LOCKED"
    iteration = f"{namespace}it-{own}"
    commands: list[Command] = [("HLEN", lock), ("HEXISTS", lock, own), ("PTTL", lock)] if digest is not None else []
    commands += [("HSTRLEN", iteration, name) for name in ITERATION] if own else []
    replies = source.run_batch(commands) if commands else []
    if digest is not None:
        kind = text_or_none(payload.get("lock") or payload.get("unique"), 100)
        yield "Unique lock", f"{text_or_none(digest, 200)}{f' ({kind})' if kind else ''}: {_lock_holder(*replies[:3])}"
    if own:
        yield from _iteration_facts(source, iteration, replies[-len(ITERATION) :])


def _iteration_facts(source: Source, key: str, sizes: list[Reply]) -> Iterable[tuple[str, str]]:
    if any(isinstance(size, ResponseError) for size in sizes):
        if not any(isinstance(size, NoPermissionError) for size in sizes):
            yield "Iteration", "its key cannot be read"
        return
    lengths = dict(zip(ITERATION, (size if isinstance(size, int) else 0 for size in sizes), strict=True))
    wanted = [name for name, length in lengths.items() if 0 < length <= LONGEST_CURSOR]
    if not any(lengths.values()):
        return
    found = dict(zip(wanted, source.run_batch([("HGET", key, name) for name in wanted]), strict=True)) if wanted else {}
    values = {name: _decode_value(raw) for name, raw in found.items()}
    runs, seconds, stopped = (finite(values.get(name)) for name in ("ex", "rt", "cancelled"))
    yield "Runs started", f"{runs:.0f}" if runs is not None else "unknown"
    yield "Total run time", format_duration(seconds) if seconds is not None else "unknown"
    if lengths["c"] > LONGEST_CURSOR:
        yield "Cursor", f"{format_size(lengths['c'])}: not read"
    elif "c" in values:
        yield "Cursor", _shown_value(values["c"], found["c"])
    if stopped is not None and (at := iso(parse_time(stopped))):
        yield "Asked to stop", at


def _decode_value(raw: Reply) -> Any:
    """The JSON value of a field; None for anything else."""
    try:
        return loads(raw) if isinstance(raw, bytes) else None
    except ValueError:
        return None


def _shown_value(value: Any, raw: Reply) -> str:
    if value is None and raw == b"null":
        return "none yet"
    shown, _ = mask_payload(text(raw) if value is None and isinstance(raw, bytes) else value)
    line = shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)
    return printable(line.encode("utf-8", "replace"), 200)


def _lock_holder(size: Any, own: Any, left_ms: Any) -> str:
    if not isinstance(size, int) or not isinstance(left_ms, int):
        return "its key cannot be read"
    if size == 0:
        return "not locked now"
    held = "locked by this job" if own == 1 else "locked by another job"
    left = f"expires in {format_duration(max(1, left_ms // 1000))}" if left_ms >= 0 else "does not expire"
    return f"{held}, {left}"


def lock_digest(payload: Mapping[str, Any]) -> str | None:
    """The digest of a job's uniqueness lock; None if its payload has none."""
    found = payload.get("lock_digest") or payload.get("unique_digest")
    if not isinstance(found, str) or not 0 < len(found) <= LONGEST_DIGEST:
        return None
    return found if found.isprintable() else None


def after_delete(payload: Mapping[str, Any] | None) -> str | None:
    """What deleting the job leaves behind, for the result; None if nothing."""
    left = []
    if payload and (batch := text_or_none(payload.get("bid"), 100)):
        left.append(f"its batch {batch} never completes unless the job is restored")
    if payload and (digest := lock_digest(payload)):
        left.append(f"its lock {text_or_none(digest, 100)} stays until it expires or the app removes it")
    return "; ".join(left) or None
