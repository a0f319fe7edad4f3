"""Actions on queues and workers: pause, resume, obliterate; shut down.

Celery has no paused queues. A pause asks the workers to stop consuming the queue. Queuedeck stores which workers did,
because a worker that is asked to consume a queue does so even if it never did before. The queue counts as paused once
they have confirmed it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from redis.exceptions import ResponseError

from ....model import QueueRef, Worker
from ....sources.source import Source
from ....units import format_count
from ...actions import Action, ActionResult, Outcome, refused_result
from .. import keys
from ..paused_queues import decode_paused, encode_paused
from .scripts import WRITES
from .worker_control import WorkerControl, result_of_command

PAUSED_KEPT_S = 30 * 86_400
NO_WORKER = "no live worker consumes it, or its workers do not answer control commands"
NOT_OURS = "it was not paused in Queuedeck, so its workers are unknown; restart the workers, or pause it here first"


class QueueActions:
    """Acts on the queues and workers of one source."""

    def __init__(self, broker: Source, own: Source | None, name: str) -> None:
        self._broker = broker
        self._own = own
        self._name = name

    def act_on_queue(self, ref: QueueRef, action: Action) -> ActionResult:
        """PAUSE, RESUME or OBLITERATE."""
        if keys.location_of(ref).queue is None:
            return ActionResult(id=ref.name, outcome=Outcome.UNSUPPORTED, detail="this entry covers all Celery queues")
        if action is Action.OBLITERATE:
            return self._obliterate_queue(ref)
        if self._own is None:
            return refused_result(
                ref.name, "Queuedeck cannot store its own data here, so it could not resume the queue"
            )
        return self._pause_queue(ref, self._own) if action is Action.PAUSE else self._resume_queue(ref, self._own)

    def _pause_queue(self, ref: QueueRef, own: Source) -> ActionResult:
        place = keys.location_of(ref)
        control = WorkerControl(self._broker, place)
        began = self._broker.now_s()
        answers = control.ask_workers("active_queues")
        if isinstance(answers, ResponseError):
            return WRITES.result_from_reply(ref.name, answers)
        takers = sorted(worker for worker, queues in answers.items() if _consumes_queue(queues, place.queue))
        if not takers:
            return refused_result(ref.name, NO_WORKER)
        # Stored first: Queuedeck must know later which workers were asked to stop, whatever happens in between.
        key = keys.paused_key(self._name)
        before = own.run_batch([("HGET", key, place.key)])[0]
        asked = {*decode_paused(before).asked, *takers}
        sent = encode_paused(asked)
        written = own.run_batch([("HSET", key, place.key, sent), ("EXPIRE", key, PAUSED_KEPT_S)])[0]
        if isinstance(written, ResponseError):
            return WRITES.result_from_reply(ref.name, written)
        result = result_of_command(ref.name, control.send_command("cancel_consumer", {"queue": place.queue}, takers))
        if result.outcome is Outcome.DONE and _have_stopped(control, takers, place.queue):
            # Unless it was resumed since.
            WRITES.run_script(own, "swap_field", [key], [place.key, sent, encode_paused(asked, answers, began)])
        return result

    def _resume_queue(self, ref: QueueRef, own: Source) -> ActionResult:
        place = keys.location_of(ref)
        raw = own.run_batch([("HGET", keys.paused_key(self._name), place.key)])[0]
        names = decode_paused(raw).asked
        if not names:
            return refused_result(ref.name, NOT_OURS)
        arguments = {"queue": place.queue, "exchange": None, "exchange_type": "direct", "routing_key": None}
        control = WorkerControl(self._broker, place)
        answer = result_of_command(ref.name, control.send_command("add_consumer", arguments, names))
        if answer.outcome is Outcome.DONE:
            own.run_batch([("HDEL", keys.paused_key(self._name), place.key)])
            _wait_for_start(control, names, place.queue)
        return answer

    def _obliterate_queue(self, ref: QueueRef) -> ActionResult:
        place = keys.location_of(ref)
        base = f"{place.prefix}{keys.BINDING[:-1]}".encode("utf-8", "surrogateescape")
        queue = (place.queue or "").encode("utf-8", "surrogateescape")
        bindings = [base + b"." + queue, base + b"_permanent." + queue]
        separator = place.separator.encode("utf-8", "surrogateescape")
        reply = WRITES.run_script(self._broker, "obliterate", [*bindings, *place.list_keys()], [separator, queue])
        if isinstance(reply, ResponseError):
            return WRITES.result_from_reply(ref.name, reply)
        if reply == -1:
            return refused_result(ref.name, "a key of the queue has the wrong type; another program may use it")
        if self._own is not None:
            self._own.run_batch([("SREM", keys.queues_key(self._name), place.key)])
        return ActionResult(
            id=ref.name, outcome=Outcome.DONE, detail=f"{format_count(reply, 'message')} deleted with it"
        )

    def stop_worker(self, worker: Worker, places: Iterable[keys.QueueLocation]) -> ActionResult:
        """Shut a worker down, if it answers. Cost: 4 round trips for each of `places` until it does."""
        for place in places:
            control = WorkerControl(self._broker, place)
            answers = control.ask_workers("ping", [worker.id])
            if isinstance(answers, ResponseError):
                return WRITES.result_from_reply(worker.id, answers)
            if worker.id in answers:
                return result_of_command(worker.id, control.send_command("shutdown", {}, [worker.id]))
        return refused_result(worker.id, "it does not respond: stopped, disconnected, or without remote control")

    def app_locations(self) -> list[keys.QueueLocation]:
        """Return a location for each key prefix and separator of the queues found, the default first.

        Cost: 1 round trip.
        """
        reply = self._own.run_batch([("SMEMBERS", keys.queues_key(self._name))])[0] if self._own is not None else None
        found = [keys.place_of(raw) for raw in reply] if isinstance(reply, list | set) else []
        known = {(place.prefix, place.separator) for place in found} - {("", keys.SEPARATOR)}
        return [
            keys.QueueLocation(prefix, None, separator) for prefix, separator in [("", keys.SEPARATOR), *sorted(known)]
        ]


def _have_stopped(control: WorkerControl, workers: Collection[str], queue: str | None) -> bool:
    """Whether all of these workers answer that they do not consume the queue. Cost: that of `ask_until`."""

    def stopped(answers: Mapping[str, object]) -> bool:
        return all(name in answers and not _consumes_queue(answers[name], queue) for name in workers)

    return control.ask_until(stopped, "active_queues", list(workers))


def _wait_for_start(control: WorkerControl, workers: Collection[str], queue: str | None) -> None:
    """Wait until those of these workers that answer consume the queue, so that the next pause finds them.

    Cost: that of `ask_until`.
    """

    def started(answers: Mapping[str, object]) -> bool:
        return all(_consumes_queue(queues, queue) for queues in answers.values())

    control.ask_until(started, "active_queues", list(workers))


def _consumes_queue(queues: object, queue: str | None) -> bool:
    return isinstance(queues, list) and any(isinstance(one, dict) and one.get("name") == queue for one in queues)
