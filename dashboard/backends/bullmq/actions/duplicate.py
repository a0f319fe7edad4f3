"""New jobs from others, which are kept: the same again, or with another payload."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....model import QueueRef
from ....sources.source import Reply, Source, raw_bytes, text
from ...actions import ActionOptions, ActionResult, JobRef, Outcome, invalid_result, refused_result
from ...lua_writes import JobCall
from ...payloads.decoding import loads, written
from ...payloads.editing import InvalidPayload, decoded_edit, with_originals
from .. import keys, without_lua
from .scripts import WRITES

# The name of a job that was added without one, as clients other than the libraries' own do.
NO_NAME = b"__default__"
# A job with a longer field is not copied.
COPIED_BYTES = 4 * 1024 * 1024
UNREADABLE_OPTIONS = "its options cannot be read"
# Options that a copy of a job must not have: those that identify the original, those about its parent (a copy has
# none), and the trace of the call that added it. Source: bullmq 6.7 `src/utils/index.ts` (optsDecodeMap),
# `src/classes/job.ts`.
_OWN_OPTIONS = frozenset(
    {
        *("jobId", "repeat", "repeatJobKey", "prevMillis", "timestamp", "delay", "deduplication", "de", "debounce"),
        *("parent", "failParentOnFailure", "fpof", "continueParentOnFailure", "cpof"),
        *("ignoreDependencyOnFailure", "idof", "removeDependencyOnFailure", "rdof", "tm"),
    }
)


def copy_jobs(
    source: Source, ref: QueueRef, native: str | None, job_refs: Sequence[JobRef], options: ActionOptions
) -> list[ActionResult]:
    """DUPLICATE, or EDIT with a payload, if each job is still in the set `native` as it was seen (None: not checked).

    Masked values in a new payload are read from the original once. Cost: 2 round trips.
    """
    try:
        edited = decoded_edit(options.payload) if options.payload is not None else None
    except InvalidPayload as exc:
        return [invalid_result(job_ref.id, str(exc)) for job_ref in job_refs]
    base = f"{ref.key}:"
    limits = dict.fromkeys(("name", "data", "opts", "priority", "timestamp"), COPIED_BYTES)
    hashes, _ = without_lua.read_fields(source, [raw_bytes(base + job_ref.id) for job_ref in job_refs], limits)
    results: dict[str, ActionResult] = {}
    calls: dict[str, JobCall] = {}
    for job_ref, fields in zip(job_refs, hashes, strict=True):
        call = _plan_copy(job_ref, native, fields, edited, has_payload=options.payload is not None)
        if isinstance(call, ActionResult):
            results[job_ref.id] = call
        else:
            calls[job_ref.id] = call
    if calls:
        results |= {each.id: each for each in add_jobs(source, base, calls)}
    return [results[job_ref.id] for job_ref in job_refs]


def _plan_copy(
    job_ref: JobRef, native: str | None, fields: Any, edited: Any, *, has_payload: bool
) -> JobCall | ActionResult:
    """Return the job to add, from the fields of the original."""
    job_id = job_ref.id
    if not isinstance(fields, list) or all(value is None for value in fields):
        return ActionResult(id=job_id, outcome=Outcome.GONE)
    if any(isinstance(value, list) for value in fields):
        return refused_result(job_id, f"a field is longer than {COPIED_BYTES} bytes, too long to copy")
    name, data, raw_options, priority, _ = fields
    copied = copied_options(raw_options)
    if copied is None:
        return refused_result(job_id, UNREADABLE_OPTIONS)
    if has_payload:
        try:
            data = written(with_originals(edited, data, "data")).encode("utf-8")
        except InvalidPayload as exc:
            return invalid_result(job_id, str(exc))
    seen = ("", "", "") if native is None else (native, raw_bytes(job_id), job_ref.version or "")
    return new_job(name, data, copied, keys.parse_integer(priority) or 0, seen)


def new_job(
    name: bytes | None,
    data: bytes | None,
    options: str,
    priority: int,
    seen: tuple[str, str | bytes, str] = ("", "", ""),
) -> JobCall:
    """Return a job for `add_jobs`; `options` is a JSON object. `seen`: the set, id and stamp of the original."""
    return JobCall((), (name or NO_NAME, data or b"{}", options, priority, *seen))


def add_jobs(source: Source, base: str, calls: dict[str, JobCall]) -> list[ActionResult]:
    """Add new jobs; `calls`: by the id that each result is to have. Cost: 1 round trip."""
    now = int(source.now_s() * 1000)
    replies = WRITES.run_for_each(source, "add", list(calls.values()), keys=(f"{base}id",), arguments=(base, now))
    return [_result_of_addition(job_id, reply) for job_id, reply in zip(calls, replies, strict=True)]


def _result_of_addition(job_id: str, reply: Reply) -> ActionResult:
    if isinstance(reply, bytes):
        return ActionResult(id=job_id, outcome=Outcome.DONE, new_id=text(reply))
    return WRITES.result_from_reply(job_id, reply[0] if isinstance(reply, list) else reply)


def copied_options(raw: bytes | None) -> str | None:
    """Return the options of a copy, each number as written; None if `raw` is not a JSON object."""
    try:
        options: Any = loads(raw or b"{}", exact=True, limit=COPIED_BYTES)
    except ValueError:
        return None
    if not isinstance(options, dict):
        return None
    return written({name: value for name, value in options.items() if name not in _OWN_OPTIONS}, compact=True)
