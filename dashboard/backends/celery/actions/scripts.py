"""Scripts that write: how they are sent, in which batches, and what their replies mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from redis.exceptions import ResponseError

from ....sources.failures import explain_refused_command
from ....sources.source import Argument, Reply, Source
from ...actions import ActionResult, Outcome
from ...payloads.decoding import printable
from ..keys import load_script

T = TypeVar("T")

OUTCOMES = {b"done": Outcome.DONE, b"gone": Outcome.GONE, b"changed": Outcome.CHANGED}


def run_script(
    source: Source, name: str, keys: Sequence[bytes | str], arguments: Sequence[Argument], jobs: int
) -> list[Reply]:
    """Run a script; return its reply for each of its `jobs`, or its error for each if it refused all of them.

    Raises BackendUnavailable if the server accepts no writes at all. Cost: 1 round trip.
    """
    reply = source.run_batch([("EVAL", load_script(name), len(keys), *keys, *arguments)])[0]
    source.check_writable(reply)
    return [reply] * jobs if isinstance(reply, ResponseError) else list(reply)


def result_from_reply(job_id: str, reply: Reply, **details: Any) -> ActionResult:
    """Return the result of one job from a script's reply; an error becomes a readable message."""
    if isinstance(reply, ResponseError):
        return refused_command(job_id, reply)
    outcome = OUTCOMES.get(reply, Outcome.CHANGED)
    return ActionResult(id=job_id, outcome=outcome, **(details if outcome is Outcome.DONE else {}))


def refused_result(job_id: str, why: str) -> ActionResult:
    """Return the result of an action that is refused, and why."""
    return ActionResult(id=job_id, outcome=Outcome.REFUSED, detail=why)


def invalid_result(job_id: str, why: str) -> ActionResult:
    """Return the result of an action whose payload is invalid, and why."""
    return ActionResult(id=job_id, outcome=Outcome.INVALID, detail=why)


def refused_command(job_id: str, error: ResponseError) -> ActionResult:
    """Return the result of an action for which Redis refused a command, and why."""
    return refused_result(job_id, explain_refused_command(printable(str(error), 200), "Celery"))


def split_by_cost(items: Iterable[tuple[T, int]], *, most: int, cost: int) -> Iterator[list[T]]:
    """Split `items` into batches of at most `most` whose costs add up to at most `cost`.

    An item that costs more than that is a batch of its own.
    """
    portion: list[T] = []
    spent = 0
    for item, price in items:
        if portion and (len(portion) >= most or spent + price > cost):
            yield portion
            portion, spent = [], 0
        portion.append(item)
        spent += price
    if portion:
        yield portion
