"""Runs finished tasks again under their id, or copies them, from their result records.

A retry is sent at most once. If broker and results are the same database, one script checks that the record has not
changed since it was read, sends the message and turns the record's FAILURE into RETRY (what Celery itself writes when a
task runs again). A crash can therefore neither lose nor duplicate the job, and a repeated call finds the record
`changed`. If they are two databases, one script writes the message and a marker of our own (named by id and stamp, with
the record's time to live) to the broker, and then the record is changed. A crash between the two leaves the job among
the dead although it was sent; a repeated call finds the marker and corrects the record. One case no marker can detect:
the app itself sends the task again within the millisecond between reading the record and sending the message.

Workers discard revoked ids that they remember, so a revoked task runs under a new id, derived from the old one and its
stamp. Its record stays, and the same kind of marker prevents it from being sent twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ....model import QueueRef, State
from ....sources.source import Source
from ...actions import (
    MAX_KEPT_BYTES,
    Action,
    ActionOptions,
    ActionResult,
    JobRef,
    Outcome,
    invalid_result,
    refused_result,
)
from ...lua_writes import JobCall, split_by_cost
from ...payloads.decoding import printable, written
from ...payloads.editing import InvalidPayload, decoded_edit, with_originals
from .. import keys, protocol
from ..results.decoding import as_raw_record
from ..results.record import ReadRecord, as_read, find_results_location, read_records, remove_from_index
from ..results.record_jobs import arguments_of, record_version
from .destination_queues import DestinationQueues
from .scripts import WRITES

# Limits of one script call, so that it takes one or two milliseconds.
JOBS_PER_SCRIPT, BYTES_PER_SCRIPT = 100, 200_000
FAILED, AGAIN = b'{"status": "FAILURE"', b'{"status": "RETRY"  '
# A second copy of the same job within this time counts as a repeated call whose reply was lost.
COPY_AGAIN_MS = 60_000
FOREVER_MS = 7 * 86_400_000
NOT_EXTENDED = (
    "its record has no task name or arguments; set result_extended = True in the app to make future jobs retryable"
)
NO_QUEUE = "its record does not name its queue; set result_extended = True in the app to store it for future jobs"
TOO_LARGE = f"its record is larger than {MAX_KEPT_BYTES:,} bytes; run it again from the app"


class GuardedMessage(msgspec.Struct):
    """A message to send, and what guards it against being sent twice."""

    read: ReadRecord
    new_id: str
    target: bytes
    message: bytes
    mark: bytes
    mark_ms: int
    begins: bytes = b""


class ResultRetry:
    """Sends tasks again from the records of one source."""

    def __init__(self, broker: Source, results: Source, own: Source | None, name: str) -> None:
        self._broker = broker
        self._results = results
        self._own = own
        self._name = name
        self._together = broker is results

    def resend_tasks(
        self, ref: QueueRef, action: Action, state: State, job_refs: Sequence[JobRef], options: ActionOptions
    ) -> list[ActionResult]:
        """RETRY, DUPLICATE or EDIT. Cost: 5 round trips per JOBS_PER_SCRIPT jobs, 1 more with two servers."""
        place = keys.location_of(ref)
        found = read_records(self._results, find_results_location(self._own, self._name, place.prefix), state, job_refs)
        targets = DestinationQueues(self._broker, self._own, self._name, place)
        targets.look_up({str(one.record.queue) for one in found if isinstance(one, ReadRecord) and one.record})
        edited = edited_call(options.payload) if action is Action.EDIT else None

        def prepared(one: ReadRecord) -> GuardedMessage | ActionResult:
            return self._prepare_message(one, action, state, targets, options, edited)

        return self._in_portions(found, prepared, self._send_messages, place.prefix, state)

    def _in_portions(
        self,
        found: Sequence[ReadRecord | ActionResult],
        prepare: Callable[[ReadRecord], GuardedMessage | ActionResult],
        send: Callable[[list[GuardedMessage]], list[ActionResult]],
        prefix: str,
        state: State,
    ) -> list[ActionResult]:
        answers: dict[int, ActionResult] = {}
        ready: list[tuple[tuple[int, GuardedMessage], int]] = []
        for n, one in enumerate(found):
            what = prepare(one) if isinstance(one, ReadRecord) else one
            if isinstance(what, ActionResult):
                answers[n] = what
            else:
                ready.append(((n, what), what.read.size))
        again = []
        for portion in split_by_cost(ready, most=JOBS_PER_SCRIPT, cost=BYTES_PER_SCRIPT):
            for (n, what), answer in zip(portion, send([what for _, what in portion]), strict=True):
                answers[n] = answer
                if answer.outcome is Outcome.DONE and what.begins:
                    again.append(what.read.key)
        remove_from_index(self._own, self._name, prefix, state, again)
        return [answers[n] for n in range(len(found))]

    def _prepare_message(
        self,
        one: ReadRecord,
        action: Action,
        state: State,
        targets: DestinationQueues,
        options: ActionOptions,
        edited: dict[str, Any] | None,
    ) -> GuardedMessage | ActionResult:
        job_ref, record = one.job_ref, one.record
        if record is None:
            return refused_result(job_ref.id, TOO_LARGE if one.raw is None else _explain_unsent(one))
        if not isinstance(record.name, str) or not record.name:
            return refused_result(job_ref.id, NOT_EXTENDED)
        args, kwargs = bytes(record.args), bytes(record.kwargs)
        if edited is not None:
            try:
                args, kwargs = call_texts(edited, arguments_of(as_raw_record(one.raw or b"")))
            except InvalidPayload as exc:
                return invalid_result(job_ref.id, str(exc))
        if not args.startswith(b"[") or not kwargs.startswith(b"{"):
            return refused_result(job_ref.id, NOT_EXTENDED)
        if not isinstance(record.queue, str) or not record.queue:
            return refused_result(job_ref.id, NO_QUEUE)
        if (why := targets.explain_refusal(record.queue, one.key)) is not None:
            return refused_result(job_ref.id, why)
        retry = action is Action.RETRY
        same_id = retry and state is State.DEAD
        version = record_version({"date_done": record.date_done})
        new_id = job_ref.id
        if not same_id:
            new_id = protocol.successor_id(job_ref.id, version) if retry else protocol.new_id()
        retries = record.retries if retry and isinstance(record.retries, int) and not options.reset_attempts else 0
        begins = AGAIN if same_id and one.raw is not None and one.raw.startswith(FAILED) else b""
        ttl_ms = one.ttl_ms if one.ttl_ms > 0 else FOREVER_MS
        return GuardedMessage(
            read=one,
            new_id=new_id,
            target=targets.list_key(record.queue),
            message=protocol.call(
                record.name,
                new_id,
                record.queue,
                args,
                kwargs,
                retries=max(0, retries),
                group=_text_id(record.group_id) if same_id else None,
                parent=_text_id(record.parent_id) if same_id else None,
            ),
            mark=keys.mark_key(self._name, "sent" if retry else action.value, job_ref.id, version),
            mark_ms=ttl_ms if retry else COPY_AGAIN_MS,
            begins=begins,
        )

    def _send_messages(self, portion: list[GuardedMessage]) -> list[ActionResult]:
        replies = WRITES.run_for_each(self._broker, "resend", [self._call_of(one) for one in portion])
        confirmed = self._confirm_sent(portion, replies) if not self._together else {}
        return [
            _result_of_send(one, reply, confirmed.get(n))
            for n, (one, reply) in enumerate(zip(portion, replies, strict=True))
        ]

    def _call_of(self, one: GuardedMessage) -> JobCall:
        # If changing the record itself guards against a second send, no marker is needed.
        marked = not (self._together and one.begins)
        here = one.begins if self._together else b""
        seen = as_read(one.read.raw or b"") if self._together else ("", "", "", "")
        arguments = (*seen, here, one.message, one.new_id if marked else "", one.mark_ms)
        return JobCall((one.read.key, one.target, one.mark), arguments)

    def _confirm_sent(self, portion: list[GuardedMessage], replies: Sequence[Any]) -> dict[int, bool]:
        """Change the records of the jobs that were sent, now or earlier.

        Return whether each was changed, by index in `portion`.
        """
        sent = [
            n
            for n, (one, reply) in enumerate(zip(portion, replies, strict=True))
            if one.begins and (reply == b"done" or isinstance(reply, list))
        ]
        if not sent:
            return {}
        calls = [
            JobCall((one.read.key,), (*as_read(one.read.raw or b""), one.begins)) for one in (portion[n] for n in sent)
        ]
        written = WRITES.run_for_each(self._results, "confirm", calls)
        return {n: reply == 1 for n, reply in zip(sent, written, strict=True)}


def _explain_unsent(one: ReadRecord) -> str:
    how = f"encoded as {one.encoding}"
    if one.encoding == "json":
        how = "not fully readable JSON" if (one.raw or b"").startswith(b"{") else "compressed"
    return f"its record is {how}, so its arguments cannot be sent again unchanged; run it again from the app"


def _result_of_send(one: GuardedMessage, reply: Any, confirmed: bool | None) -> ActionResult:
    pick_id = one.read.job_ref.id
    if isinstance(reply, list):
        # Sent by an earlier call that stopped before it could correct the record; now it is corrected.
        return ActionResult(id=pick_id, outcome=Outcome.DONE) if confirmed else sent_before(pick_id, reply)
    return WRITES.result_from_reply(pick_id, reply, new_id=one.new_id if one.new_id != pick_id else None)


def unguarded_call(target: bytes, mark: bytes, message: bytes, new_id: str, mark_ms: int) -> JobCall:
    """Return a message for the script `resend` that is guarded only by a marker, which holds its id."""
    return JobCall((target, target, mark), ("", "", "", "", "", message, new_id, mark_ms))


def result_of_copy(job_id: str, reply: Any, new_id: str) -> ActionResult:
    """Return the result of `unguarded_call`: a new job, or one that was already sent."""
    if isinstance(reply, list):
        return sent_before(job_id, reply)
    return WRITES.result_from_reply(job_id, reply, new_id=new_id)


def sent_before(job_id: str, reply: Sequence[Any]) -> ActionResult:
    """Return the result for a job whose marker a script found: it was already sent, under the id in the marker."""
    before = printable(reply[1], 200) if isinstance(reply[1], bytes) else "?"
    if before == job_id:
        return ActionResult(id=job_id, outcome=Outcome.CHANGED, detail="it was already sent")
    return ActionResult(id=job_id, outcome=Outcome.CHANGED, detail=f"it was already sent, as {before}", new_id=before)


def _text_id(value: Any) -> str | None:
    return value if isinstance(value, str) and len(value) <= 200 else None


def edited_call(payload: str | None) -> dict[str, Any]:
    """Return `args` and `kwargs` from a user's input: an object with either or both. Raises InvalidPayload."""
    value = decoded_edit(payload or "")
    if not isinstance(value, dict) or set(value) - {"args", "kwargs"}:
        raise InvalidPayload('The payload must be an object with "args" and "kwargs".')
    call = {"args": [], "kwargs": {}, **value}
    if not isinstance(call["args"], list) or not isinstance(call["kwargs"], dict):
        raise InvalidPayload('"args" must be a list and "kwargs" an object.')
    return call


def call_texts(edited: dict[str, Any], original: dict[str, Any] | None) -> tuple[bytes, bytes]:
    """Return (args, kwargs) as JSON texts; masked values in `edited` come from `original`. Raises InvalidPayload."""
    call = with_originals(edited, original, "")
    return written(call["args"]).encode("utf-8"), written(call["kwargs"]).encode("utf-8")
