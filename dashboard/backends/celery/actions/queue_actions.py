"""Acting on queues and workers: paused, resumed, removed; shut down.

Celery has no paused queue: workers are told to stop taking from it, and which they were is remembered by us, because a
worker told to take from a queue does so whether it did before or not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from redis.exceptions import ResponseError

from ....model import QueueRef, Worker
from ....sources.source import Source
from ...actions import Action, ActionResult, Outcome
from .. import keys
from .scripts import ask, reason, refused
from .worker_control import WorkerControl, heard, names_of

PAUSED_KEPT_S = 30 * 86_400
NOBODY = "no live worker takes from it, or its workers answer no control commands"
NOT_OURS = "it was not paused from here, so which workers took from it is not known; restart them, or pause it first"


class QueueActions:
    """Acts on the queues and workers of one source."""

    def __init__(self, broker: Source, own: Source | None, name: str) -> None:
        self._broker = broker
        self._own = own
        self._name = name

    def act(self, ref: QueueRef, action: Action) -> ActionResult:
        """PAUSE, RESUME or OBLITERATE."""
        if keys.place(ref).queue is None:
            return ActionResult(
                id=ref.name, outcome=Outcome.UNSUPPORTED, detail="this entry stands for all queues together"
            )
        if action is Action.OBLITERATE:
            return self._obliterate(ref)
        if self._own is None:
            return refused(ref.name, "nothing may be kept, so it could not be resumed")
        return self._pause(ref, self._own) if action is Action.PAUSE else self._resume(ref, self._own)

    def _pause(self, ref: QueueRef, own: Source) -> ActionResult:
        place = keys.place(ref)
        control = WorkerControl(self._broker, place)
        answers = control.ask("active_queues")
        if isinstance(answers, ResponseError):
            return refused(ref.name, reason(answers))
        takers = sorted(worker for worker, queues in answers.items() if _takes(queues, place.queue))
        if not takers:
            return refused(ref.name, NOBODY)
        # Remembered first: who is told to stop must be known afterwards, whatever happens between.
        key = keys.paused_key(self._name)
        before = own.batch([("HGET", key, place.key)])[0]
        known = names_of(before) if isinstance(before, bytes) else []
        names = json.dumps(sorted({*known, *takers}))
        written = own.batch([("HSET", key, place.key, names), ("EXPIRE", key, PAUSED_KEPT_S)])[0]
        if isinstance(written, ResponseError):
            return refused(ref.name, reason(written))
        return heard(ref.name, control.tell("cancel_consumer", {"queue": place.queue}, takers))

    def _resume(self, ref: QueueRef, own: Source) -> ActionResult:
        place = keys.place(ref)
        raw = own.batch([("HGET", keys.paused_key(self._name), place.key)])[0]
        names = names_of(raw) if isinstance(raw, bytes) else []
        if not names:
            return refused(ref.name, NOT_OURS)
        arguments = {"queue": place.queue, "exchange": None, "exchange_type": "direct", "routing_key": None}
        answer = heard(ref.name, WorkerControl(self._broker, place).tell("add_consumer", arguments, names))
        if answer.outcome is Outcome.DONE:
            own.batch([("HDEL", keys.paused_key(self._name), place.key)])
        return answer

    def _obliterate(self, ref: QueueRef) -> ActionResult:
        place = keys.place(ref)
        base = f"{place.prefix}{keys.BINDING[:-1]}".encode("utf-8", "surrogateescape")
        queue = (place.queue or "").encode("utf-8", "surrogateescape")
        bindings = [base + b"." + queue, base + b"_permanent." + queue]
        reply = ask(
            self._broker,
            "obliterate",
            [*bindings, *place.lists()],
            [place.separator.encode("utf-8", "surrogateescape"), queue],
            1,
        )[0]
        if isinstance(reply, ResponseError):
            return refused(ref.name, reason(reply))
        if reply == -1:
            return refused(ref.name, "a key of the queue has the wrong type; something else may live there")
        if self._own is not None:
            self._own.batch([("SREM", keys.queues_key(self._name), place.key)])
        return ActionResult(id=ref.name, outcome=Outcome.DONE, detail=f"{reply} messages went with it")

    def stop(self, worker: Worker, places: Iterable[keys.QueueLocation]) -> ActionResult:
        """Shut a worker down, if it answers. Cost: 4 round trips for each of `places` until it does."""
        for place in places:
            control = WorkerControl(self._broker, place)
            answers = control.ask("ping", [worker.id])
            if isinstance(answers, ResponseError):
                return refused(worker.id, reason(answers))
            if worker.id in answers:
                return heard(worker.id, control.tell("shutdown", {}, [worker.id]))
        return refused(worker.id, "it does not answer: gone, cut off, or without remote control")

    def apps(self) -> list[keys.QueueLocation]:
        """A place for each key prefix and separator with which queues were found, the usual first. 1 round trip."""
        reply = self._own.batch([("SMEMBERS", keys.queues_key(self._name))])[0] if self._own is not None else None
        found = [keys.place_of(raw) for raw in reply] if isinstance(reply, list | set) else []
        known = {(place.prefix, place.separator) for place in found} - {("", keys.SEPARATOR)}
        return [
            keys.QueueLocation(prefix, None, separator) for prefix, separator in [("", keys.SEPARATOR), *sorted(known)]
        ]


def _takes(queues: object, queue: str | None) -> bool:
    return isinstance(queues, list) and any(isinstance(one, dict) and one.get("name") == queue for one in queues)
