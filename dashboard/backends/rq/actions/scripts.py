"""Calls of the scripts that act on jobs: many jobs per script, but few enough not to block Redis; one round trip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from redis.exceptions import ResponseError

from ....clock import EPOCH, instant
from ....settings import DEFAULT_STORE_PREFIX
from ....sources.failures import explain_refused_command, lacks_permission
from ....sources.source import Argument, Command, Reply, Source
from ...actions import ActionResult, Outcome
from ...lua_reads import compact_script
from ...payloads.decoding import printable
from .. import keys
from ..keys import QueueKeys

# A script for this many jobs takes 1 to 3 ms. Fewer would not shorten the wait of other clients: Redis runs all scripts
# that it receives in one read of 16 KiB before it serves another client. The size of the caller's batch limits that.
JOBS_PER_SCRIPT = 50
BYTES_PER_SCRIPT = 512 * 1024
LOST, LATER = b"lost", b"later"


class JobCall(NamedTuple):
    """The KEYS and the ARGV of one job in a script."""

    keys: tuple[str, ...]
    arguments: tuple[Argument, ...]


def run_for_each(
    source: Source,
    name: str,
    queue: QueueKeys,
    steps: Sequence[JobCall],
    *,
    first_keys: Sequence[str] = (),
    fixed: Sequence[Argument] = (),
    counted: bool = False,
    per_script: int = JOBS_PER_SCRIPT,
) -> list[Reply]:
    """Run the script `name` and return its reply for each of `steps`, in order; if a call fails, the error for each.

    `first_keys`: KEYS before those of the steps. `fixed`: ARGV before those of the steps; with `counted`, the number of
    steps in the preceding calls follows them. Raises BackendUnavailable. Cost: 1 round trip, none without steps.
    """
    text, head = text_of(name, source.prefix), common_arguments(source, queue)
    parts = list(_split_calls(steps, per_script))
    commands: list[Command] = []
    before = 0
    for part in parts:
        own = (*head, *fixed, before) if counted else (*head, *fixed)
        script_keys = [*first_keys, *(key for step in part for key in step.keys)]
        arguments = [argument for step in part for argument in step.arguments]
        commands.append(("EVAL", text, len(script_keys), *script_keys, *own, *arguments))
        before += len(part)
    replies: list[Reply] = []
    for part, reply in zip(parts, source.run_batch(commands), strict=True):
        source.check_writable(reply)
        replies.extend([reply] * len(part) if isinstance(reply, ResponseError) else reply)
    return replies


def common_arguments(source: Source, queue: QueueKeys) -> tuple[Argument, ...]:
    """Return the ARGV with which every script begins. Time in RQ's format: rq 3.0, utils.py, utcformat."""
    now = instant(source.now_s()) or EPOCH
    return queue.prefix, queue.name, now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), int(now.timestamp())


def result_from_reply(thing: str, reply: Reply, new_id: str | None = None) -> ActionResult:
    """Convert a script's reply to a result: `done`, `gone` or `changed`, each with `|detail`, or why it was refused."""
    if isinstance(reply, ResponseError):
        return ActionResult(id=thing, outcome=Outcome.REFUSED, detail=_explain_refusal(str(reply)))
    word, _, detail = printable(reply, 400).partition("|")
    if word not in _OUTCOMES:
        why = _explain_refusal(word) if word[:7].isupper() or lacks_permission(word) else word
        return ActionResult(id=thing, outcome=Outcome.REFUSED, detail=why)
    outcome = Outcome(word)
    return ActionResult(
        id=thing, outcome=outcome, detail=detail or None, new_id=new_id if outcome is Outcome.DONE else None
    )


_OUTCOMES = frozenset({"done", "gone", "changed"})


def _explain_refusal(error: str) -> str:
    return explain_refused_command(printable(error, 200), "RQ")


def _split_calls(steps: Sequence[JobCall], most: int) -> Iterable[list[JobCall]]:
    part: list[JobCall] = []
    size = 0
    for step in steps:
        length = sum(len(argument) for argument in step.arguments if isinstance(argument, bytes))
        if part and (len(part) >= most or size + length > BYTES_PER_SCRIPT):
            yield part
            part, size = [], 0
        part.append(step)
        size += length
    if part:
        yield part


@cache
def text_of(name: str, own_prefix: str) -> str:
    """Return the source of a script without comments, because the server reads it with every call. Queuedeck's own keys
    in it begin with `own_prefix`, like `Source.prefix`."""
    return compact_script(keys.load_script("acting") + keys.load_script(name)).replace(DEFAULT_STORE_PREFIX, own_prefix)
