"""Lua scripts that change jobs: sent in portions that do not block Redis for long, and the results of their replies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple, TypeVar

from redis.exceptions import ResponseError

from ..settings import DEFAULT_STORE_PREFIX
from ..sources.failures import explain_refused_command, lacks_permission
from ..sources.source import Argument, Command, Reply, Source
from .actions import ActionResult, JobRef, Outcome, refused_result
from .lua_reads import compact_script
from .payloads.decoding import printable

T = TypeVar("T")

# The replies that are outcomes; any other text says why the job was refused.
OUTCOMES = frozenset({Outcome.DONE, Outcome.GONE, Outcome.CHANGED, Outcome.UNSUPPORTED})
# The error of a command that a script caught and returned as text: its code, on Redis 6 after the line of the script.
_ERROR = re.compile(r"@user_script|-?[A-Z]{3,}\b")


class JobCall(NamedTuple):
    """One job in the call of a script: its KEYS and its ARGV."""

    keys: tuple[Argument, ...] = ()
    arguments: tuple[Argument, ...] = ()


def split_by_cost(items: Iterable[tuple[T, int]], *, most: int, cost: int) -> Iterator[list[T]]:
    """Split `items`, each with its cost, into portions of at most `most` items that cost at most `cost` in total.

    An item that costs more than that is a portion of its own.
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


def split_calls(calls: Iterable[JobCall], *, most: int, size_bytes: int) -> list[list[JobCall]]:
    """Split `calls` into portions of at most `most` jobs and `size_bytes` of arguments."""
    return list(split_by_cost(((call, _length(call)) for call in calls), most=most, cost=size_bytes))


def _length(call: JobCall) -> int:
    return sum(len(argument) for argument in call.arguments if isinstance(argument, bytes | str))


class WriteScripts:
    """The scripts of one library that change jobs. `library`: its name in messages. `load` returns a script's text."""

    def __init__(self, library: str, load: Callable[[str], str]) -> None:
        self._library = library
        self._load = load

    def command(self, source: Source, name: str, keys: Sequence[Argument], arguments: Sequence[Argument]) -> Command:
        """Return the command that runs a script, for use in a batch."""
        return ("EVAL", _text_for(self._load(name), source.prefix), len(keys), *keys, *arguments)

    def run_script(self, source: Source, name: str, keys: Sequence[Argument], arguments: Sequence[Argument]) -> Reply:
        """Return the reply to a script, or the error with which Redis refused it.

        Raises BackendUnavailable if the server accepts no writes at all. Cost: 1 round trip.
        """
        reply = source.run_batch([self.command(source, name, keys, arguments)])[0]
        source.check_writable(reply)
        return reply

    def run_for_each(
        self,
        source: Source,
        name: str,
        *portions: Sequence[JobCall],
        keys: Sequence[Argument] = (),
        arguments: Sequence[Argument] = (),
        counted: bool = False,
    ) -> list[Reply]:
        """Return the script's reply for each job of `portions`, in order; if a call is refused, its error for each job.

        Each portion is one call. `keys`, `arguments`: KEYS and ARGV before those of the jobs; with `counted`, the
        number of jobs in the preceding calls follows them. Raises BackendUnavailable as `run_script`.
        Cost: 1 round trip, none without portions.
        """
        commands: list[Command] = []
        before = 0
        for portion in portions:
            own = (*arguments, before) if counted else arguments
            script_keys = [*keys, *(key for call in portion for key in call.keys)]
            of_jobs = (argument for call in portion for argument in call.arguments)
            commands.append(self.command(source, name, script_keys, (*own, *of_jobs)))
            before += len(portion)
        replies: list[Reply] = []
        for portion, reply in zip(portions, source.run_batch(commands), strict=True):
            source.check_writable(reply)
            replies.extend([reply] * len(portion) if isinstance(reply, ResponseError) else reply)
        return replies

    def result_from_reply(
        self, job_id: str, reply: Reply, *, new_id: str | None = None, changed: str | None = None
    ) -> ActionResult:
        """Return the result of one job from a script's reply: an outcome, which `|detail` can follow, or why not.

        `new_id`: the id of the job that was created if it is done. `changed`: the detail of `changed` without its own.
        """
        if isinstance(reply, ResponseError):
            return refused_result(job_id, self.explain_refusal(reply))
        text = printable(reply, 400)
        word, _, detail = text.partition("|")
        if word not in OUTCOMES:
            caught = _ERROR.match(text) or lacks_permission(text)
            return refused_result(job_id, self.explain_refusal(reply) if caught else text)
        outcome = Outcome(word)
        return ActionResult(
            id=job_id,
            outcome=outcome,
            detail=detail or (changed if outcome is Outcome.CHANGED else None),
            new_id=new_id if outcome is Outcome.DONE else None,
        )

    def results_from_replies(self, job_refs: Sequence[JobRef], replies: Sequence[Reply]) -> list[ActionResult]:
        """Return the result of each job from the script's reply for it."""
        pairs = zip(job_refs, replies, strict=True)
        return [self.result_from_reply(job_ref.id, reply) for job_ref, reply in pairs]

    def explain_refusal(self, error: ResponseError | bytes) -> str:
        """Why Redis refused a command, for users; `error` is bytes if a script caught it."""
        return explain_refused_command(printable(error if isinstance(error, bytes) else str(error), 200), self._library)


@cache
def _text_for(script: str, own_prefix: str) -> str:
    """Return a script without comments, because the server reads it with every call. Queuedeck's own keys in it begin
    with `own_prefix`, like `Source.prefix`."""
    return compact_script(script).replace(DEFAULT_STORE_PREFIX, own_prefix)
