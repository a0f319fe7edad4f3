"""Commands for live workers: broadcasts on their mailbox channel, and the answers to queries.

A worker answers into a list that a binding of the reply exchange names. Both are created for one query and removed
after it.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis.exceptions import ResponseError

from ....clock import monotonic_s
from ....sources.source import Source
from ...actions import ActionResult, Outcome, refused_result
from ...payloads.decoding import loads_dict
from .. import keys, protocol
from .scripts import WRITES

# How long to wait for workers; those that received the query answer within milliseconds.
ANSWER_S, ANSWER_STEP_S = 1.0, 0.2
ASK_AGAIN_S = 0.05
REPLIES = "reply.celery.pidbox"
UNHEARD = "no worker is listening; no changes made"


class WorkerControl:
    """The live workers of one prefix on one broker; their bindings use the separator of their app's queues."""

    def __init__(self, broker: Source, place: keys.QueueLocation) -> None:
        self._broker = broker
        self._prefix = place.prefix
        self._separator = place.separator
        self.channel = protocol.channel(place.prefix, broker.database)

    def send_command(self, method: str, arguments: Mapping[str, Any], destination: Sequence[str] | None = None) -> Any:
        """Send a command; return how many clients it reached, or the server's error. Cost: 1 round trip."""
        return self._broker.run_batch([("PUBLISH", self.channel, protocol.broadcast(method, arguments, destination))])[
            0
        ]

    def ask_workers(self, method: str, destination: Sequence[str] | None = None) -> dict[str, Any] | ResponseError:
        """Return the workers' answers by name; {} if none answers within ANSWER_S.

        Cost: 2 round trips and 1 per answer.
        """
        oid = str(uuid.uuid4())
        binding = self._prefixed_key(f"{keys.BINDING}{REPLIES}")
        answers = self._prefixed_key(f"{oid}.{REPLIES}")
        member = self._separator.join((oid, "", f"{oid}.{REPLIES}"))
        question = protocol.broadcast(
            method,
            {},
            destination,
            ticket=str(uuid.uuid4()),
            reply_to={"exchange": REPLIES, "routing_key": oid},
        )
        added, heard = self._broker.run_batch([("SADD", binding, member), ("PUBLISH", self.channel, question)])
        try:
            for reply in (added, heard):
                if isinstance(reply, ResponseError):
                    return reply
            return self._collect_answers(answers, min(heard, len(destination or ()) or heard))
        finally:
            self._broker.run_batch([("SREM", binding, member), ("DEL", answers)])

    def ask_until(
        self, satisfied: Callable[[Mapping[str, Any]], bool], method: str, destination: Sequence[str]
    ) -> bool:
        """Ask workers again until `satisfied` with their answers; False if not within ANSWER_S.

        A worker may answer before it has carried out the command that it received just before. Cost: that of
        `ask_workers`, usually once or twice, otherwise every ASK_AGAIN_S.
        """
        deadline = monotonic_s() + ANSWER_S
        while True:
            answers = self.ask_workers(method, destination)
            if isinstance(answers, ResponseError):
                return False
            if satisfied(answers):
                return True
            if monotonic_s() >= deadline:
                return False
            time.sleep(ASK_AGAIN_S)  # a worker does not announce that it has carried out a command

    def _collect_answers(self, answers: bytes, expected: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        deadline = monotonic_s() + ANSWER_S
        while len(found) < expected and monotonic_s() < deadline:
            reply = self._broker.run_batch([("BRPOP", answers, ANSWER_STEP_S)])[0]
            if isinstance(reply, ResponseError):
                break
            if reply is not None:
                found |= _decode_answer(reply[1])
        return found

    def _prefixed_key(self, name: str) -> bytes:
        return f"{self._prefix}{name}".encode("utf-8", "surrogateescape")


def _decode_answer(raw: bytes) -> dict[str, Any]:
    message = loads_dict(raw)
    body = message.get("body")
    if not isinstance(body, str) or message.get("content-type") != "application/json":
        return {}
    try:
        return loads_dict(base64.b64decode(body))
    except ValueError:
        return {}


def result_of_command(job_id: str, reply: object) -> ActionResult:
    """Return the result of a command about one target; `reply` = how many clients the command reached."""
    if reply == 0:
        return refused_result(job_id, UNHEARD)
    if isinstance(reply, int):
        return ActionResult(id=job_id, outcome=Outcome.DONE)
    return WRITES.result_from_reply(job_id, reply)
