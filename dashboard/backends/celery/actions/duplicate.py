"""New jobs from messages that are waiting or held by workers: the same again, or with another payload.

A copy does not change its original, so no state distinguishes a repeated call from a second request. A marker of our
own prevents a second copy of the same job for a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....model import QueueRef
from ....sources.source import Source
from ...actions import Action, ActionOptions, ActionResult, invalid_result, refused_result
from ...lua_writes import split_by_cost
from ...payloads.editing import InvalidPayload
from .. import keys, protocol
from ..job_decoding import call_of, decode_envelope, decode_unacked, headers_of
from ..messages.lookup import LocatedMessage
from ..routes import UNROUTED, QueueRoutes
from .result_retry import COPY_AGAIN_MS, JOBS_PER_SCRIPT, call_texts, edited_call, result_of_copy, unguarded_call
from .scripts import WRITES

BYTES_PER_SCRIPT = 1_000_000
NO_MESSAGE = "it is not a Celery message"
UNREAD = "its body cannot be changed (pickled or compressed); run it again from the app"
CHORD = "it is part of a group or chord, which would count it twice"


def copy_messages(
    broker: Source,
    name: str,
    ref: QueueRef,
    action: Action,
    found: Sequence[LocatedMessage | ActionResult],
    options: ActionOptions,
) -> list[ActionResult]:
    """DUPLICATE or EDIT messages that were found. Cost: 1 round trip per JOBS_PER_SCRIPT jobs, 1 for routes."""
    place = keys.location_of(ref)
    edited = edited_call(options.payload) if action is Action.EDIT else None
    answers: dict[int, ActionResult] = {}
    work: list[tuple[int, LocatedMessage, bytes, bytes, str]] = []
    routes = QueueRoutes(broker, place.prefix)
    routes.look_up(decode_unacked(one.raw)[1] for one in found if isinstance(one, LocatedMessage) and one.tag)
    for n, one in enumerate(found):
        plan = one if isinstance(one, ActionResult) else _plan_copy(place, one, edited, routes, broker.now_s())
        if isinstance(plan, ActionResult):
            answers[n] = plan
        elif isinstance(one, LocatedMessage):
            work.append((n, one, *plan))
    for portion in split_by_cost(((job, len(job[3])) for job in work), most=JOBS_PER_SCRIPT, cost=BYTES_PER_SCRIPT):
        calls = []
        for _, one, target, message, new_id in portion:
            mark = keys.mark_key(name, action.value, one.job_ref.id, one.job_ref.version)
            calls.append(unguarded_call(target, mark, message, new_id, COPY_AGAIN_MS))
        replies = WRITES.run_for_each(broker, "resend", calls)
        for (n, one, _, _, new_id), reply in zip(portion, replies, strict=True):
            answers[n] = result_of_copy(one.job_ref.id, reply, new_id)
    return [answers[n] for n in range(len(found))]


def _plan_copy(
    place: keys.QueueLocation, one: LocatedMessage, edited: dict[str, Any] | None, routes: QueueRoutes, now: float
) -> tuple[bytes, bytes, str] | ActionResult:
    """Return (list, message, new id) of a copy."""
    if one.tag:
        message, route = decode_unacked(one.raw)
        queue = routes.queue_of(route)
    else:
        message, queue = decode_envelope(one.raw), place.queue
    if message is None or not headers_of(message):
        return refused_result(one.job_ref.id, NO_MESSAGE)
    if queue is None:
        return refused_result(one.job_ref.id, UNROUTED)
    if protocol.in_a_chord(message):
        return refused_result(one.job_ref.id, CHORD)
    texts = None
    if edited is not None:
        try:
            texts = call_texts(edited, call_of(message))
        except InvalidPayload as exc:
            return invalid_result(one.job_ref.id, str(exc))
    new_id = protocol.new_id()
    step = 0 if one.tag else one.step
    changed = protocol.copied(message, new_id, queue, texts, begun_at=now)
    if changed is None:
        return refused_result(one.job_ref.id, UNREAD)
    return place._replace(queue=queue).list_keys()[step], changed, new_id
