"""Containment of unexpected data: it costs one row of a list or one queue, never the whole result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn, TypeVar, TypeVarTuple

import msgspec
from redis.exceptions import ResponseError

from ..errors import QueuedeckError, UnreadableData
from ..model import Job, QueueRef, Schedule, Searched, Worker, WorkerState
from ..redact import masked_logger
from .payloads.decoding import printable

log = masked_logger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
HINT = "Other queues are not affected. The Queuedeck log has the cause; please report it with the traceback."


@contextmanager
def data_errors_foreseen(what: str, queue: str | None = None) -> Iterator[None]:
    """Turn any error in the block that Queuedeck did not raise itself into UnreadableData, and log the cause.

    `what` is the subject of the message: "The dead jobs of 'mail'". Pass `queue`, for the log, if the message is shown
    next to the queue's name.
    """
    try:
        yield
    except QueuedeckError:
        raise
    except ResponseError as exc:
        if "unknown redis command" not in str(exc).lower():
            _raise_unreadable(what, queue, exc)
        cause = "a command that a script needs was renamed or disabled on this server"
        raise UnreadableData(
            f"{what} could not be read: {cause}", hint="Enable it; `queuedeck doctor` shows which one."
        ) from exc
    except Exception as exc:
        _raise_unreadable(what, queue, exc)


def _raise_unreadable(what: str, queue: str | None, exc: Exception) -> NoReturn:
    log.exception("%s%s could not be read", what, f" of {queue!r}" if queue is not None else "")
    raise UnreadableData(f"{what} could not be read: {_describe_cause(exc)}", hint=HINT) from exc


def decode_or(decode: Callable[[], T], instead: Callable[[str], T]) -> T:
    """Return `decode()` for one row; if it fails, `instead(why)`, built from what needs no decoding."""
    try:
        return decode()
    except QueuedeckError:
        raise
    except Exception as exc:
        log.exception("one row could not be decoded")
        return instead(f"it could not be read: {_describe_cause(exc)}")


def searched_row(build: Callable[[Job, *Ts], Searched], job: Job, *data: *Ts) -> Searched:
    """Return `build(job, *data)`; if it fails, `job` with the problem and without searchable text."""
    return decode_or(
        lambda: build(job, *data), lambda why: Searched(job=msgspec.structs.replace(job, problem=why), text="")
    )


def worker_row(decode: Callable[[], Worker], worker_id: str, source: str, backend: str) -> Worker:
    """Return `decode()`; if it fails, a worker with only its id and the problem."""

    def unreadable(why: str) -> Worker:
        return Worker(id=worker_id, source=source, backend=backend, state=WorkerState.UNKNOWN, problem=why)

    return decode_or(decode, unreadable)


def schedule_row(decode: Callable[[], Schedule], schedule_id: str, source: str, backend: str, kind: str) -> Schedule:
    """Return `decode()`; if it fails, a schedule with only its id and the problem."""

    def unreadable(why: str) -> Schedule:
        return Schedule(id=schedule_id, source=source, backend=backend, kind=kind, problem=why)

    return decode_or(decode, unreadable)


def describe_error(reply: ResponseError) -> str:
    """Return the error of a queue that Redis refused to read, in one line."""
    return "a key of this queue has the wrong type" if "WRONGTYPE" in str(reply) else printable(str(reply), 200)


def read_each(
    read: Callable[[Sequence[QueueRef]], Sequence[T]], refs: Sequence[QueueRef], instead: Callable[[QueueRef, str], T]
) -> list[T]:
    """Return `read(refs)`, one T per ref; if the data of some queues makes it fail, `instead(ref, why)` for those.

    Cost: that of `read`; for each such queue about 2 log2(len(refs)) times as much.
    """
    try:
        return list(read(refs))
    except (QueuedeckError, ResponseError):
        raise  # caused by the server or by permissions: it applies to all queues
    except Exception as exc:
        if len(refs) == 1:
            log.exception("%r on %s could not be read", refs[0].name, refs[0].source)
            return [instead(refs[0], f"could not be read: {_describe_cause(exc)}")]
    half = len(refs) // 2
    return [*read_each(read, refs[:half], instead), *read_each(read, refs[half:], instead)]


def _describe_cause(exc: Exception) -> str:
    return f"{type(exc).__name__}; the log has the details"
