"""Running the scripts that write: many jobs per script, but few enough that no script blocks Redis for long."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from redis.exceptions import ResponseError

from ....sources.failures import explain_refused_command
from ....sources.source import Argument, Command, Reply, Source
from ...actions import ActionResult, Outcome
from ...payloads.decoding import printable
from .. import keys

JOBS_PER_CALL = 100
BYTES_PER_CALL = 256 * 1024

NEARER = 3
CHANGED = "the job changed or moved; refresh and retry"
OUTCOMES = {1: Outcome.DONE, 0: Outcome.GONE, 2: Outcome.CHANGED, NEARER: Outcome.DONE}
NEARER_WORDS = "will run earlier than before: a position in the middle of a long queue cannot be restored"


class EntryCall(NamedTuple):
    """One job of a script call: the `id` for its result, and its ARGV."""

    id: str
    arguments: tuple[Argument, ...]
    new_id: str | None = None


def run_script(
    source: Source,
    script: str,
    fixed: Sequence[str],
    head: Sequence[Argument],
    steps: Sequence[EntryCall],
    *,
    counted: bool = False,
) -> list[ActionResult]:
    """Run a script for `steps` and return one result for each, in order. Cost: 1 round trip, none without steps.

    `fixed`: the KEYS. `head`: the ARGV before those of the steps; with `counted`, followed by the number of steps in
    earlier calls. If the server refuses a call, all its steps are refused. Raises BackendUnavailable.
    """
    text = keys.load_script(script, "writing")
    parts = list(split_calls(steps))
    commands: list[Command] = []
    before = 0
    for part in parts:
        own = (*head, before) if counted else head
        arguments = [argument for step in part for argument in step.arguments]
        commands.append(("EVAL", text, len(fixed), *fixed, *own, *arguments))
        before += len(part)
    results: list[ActionResult] = []
    for part, reply in zip(parts, source.run_batch(commands), strict=True):
        source.check_writable(reply)
        results.extend(_results_from_reply(part, reply))
    return results


def split_calls(steps: Sequence[EntryCall]) -> Iterable[list[EntryCall]]:
    """Split `steps` into groups, each small enough for one script call."""
    part: list[EntryCall] = []
    size = 0
    for step in steps:
        length = sum(len(argument) for argument in step.arguments if isinstance(argument, bytes | str))
        full = len(part) >= JOBS_PER_CALL or size + length > BYTES_PER_CALL
        if part and full:
            yield part
            part, size = [], 0
        part.append(step)
        size += length
    if part:
        yield part


def _results_from_reply(part: Sequence[EntryCall], reply: Reply) -> Iterable[ActionResult]:
    """One ActionResult per step; a script can return a remark, as text, after its outcomes."""
    if isinstance(reply, ResponseError):
        detail = explain_refusal(reply)
        return [ActionResult(id=step.id, outcome=Outcome.REFUSED, detail=detail) for step in part]
    remark = printable(reply[len(part)], 300) if len(reply) > len(part) else None
    return [_result_of_call(step, code, remark) for step, code in zip(part, reply[: len(part)], strict=True)]


def _result_of_call(step: EntryCall, code: Reply, remark: str | None) -> ActionResult:
    if isinstance(code, bytes):
        return ActionResult(id=step.id, outcome=Outcome.REFUSED, detail=explain_refusal(code))
    outcome = OUTCOMES[code]
    if code == NEARER:
        remark = NEARER_WORDS
    if outcome is Outcome.DONE:
        return ActionResult(id=step.id, outcome=outcome, detail=remark, new_id=step.new_id)
    return ActionResult(id=step.id, outcome=outcome, detail=CHANGED if outcome is Outcome.CHANGED else None)


def explain_refusal(error: ResponseError | bytes) -> str:
    """Why Redis refused a command, for users; in bytes if a script caught the error."""
    return explain_refused_command(printable(error if isinstance(error, bytes) else str(error), 200), "Sidekiq")
