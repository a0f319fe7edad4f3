"""What data that nobody foresaw may cost: one row of a list or one queue, never the whole answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn, TypeVar

import msgspec
from redis.exceptions import ResponseError

from ..errors import QueuedeckError, UnreadableData
from ..model import Job, QueueRef, Schedule, Searched, Worker, WorkerState
from ..redact import masked_logger

log = masked_logger(__name__)

T = TypeVar("T")
HINT = "Other queues are not affected. The Queuedeck log has the cause; please report it with the traceback."


@contextmanager
def data_errors_foreseen(what: str, queue: str | None = None) -> Iterator[None]:
    """Raise UnreadableData, and log the cause, for an error within the block that Queuedeck did not raise itself.

    `what` is the subject of its message: "The dead jobs of 'mail'"; `queue` is for the log, where the message is shown
    beside the queue's name.
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
    """What `decode` makes of one row; where that fails, `instead(why)`, of the little that needs no decoding."""
    try:
        return decode()
    except QueuedeckError:
        raise
    except Exception as exc:
        log.exception("one row could not be decoded")
        return instead(f"it could not be read: {_describe_cause(exc)}")


def searched_row(decode: Callable[[], Searched], job: Job) -> Searched:
    """What `decode` answers; where it fails, `job` without the text to search in, and with the problem."""
    return decode_or(decode, lambda why: Searched(job=msgspec.structs.replace(job, problem=why), text=""))


def worker_row(decode: Callable[[], Worker], worker_id: str, source: str, backend: str) -> Worker:
    """What `decode` answers; where it fails, a worker of which no more than its id and the problem is known."""

    def unreadable(why: str) -> Worker:
        return Worker(id=worker_id, source=source, backend=backend, state=WorkerState.UNKNOWN, problem=why)

    return decode_or(decode, unreadable)


def schedule_row(decode: Callable[[], Schedule], schedule_id: str, source: str, backend: str, kind: str) -> Schedule:
    """What `decode` answers; where it fails, a schedule of which no more than its id and the problem is known."""

    def unreadable(why: str) -> Schedule:
        return Schedule(id=schedule_id, source=source, backend=backend, kind=kind, problem=why)

    return decode_or(decode, unreadable)


def read_each(
    read: Callable[[Sequence[QueueRef]], Sequence[T]], refs: Sequence[QueueRef], instead: Callable[[QueueRef, str], T]
) -> list[T]:
    """`read(refs)`, one T per ref; where it fails by the data of some queues, `instead(ref, why)` for those.

    Cost: that of `read`; for each such queue about 2 log2(len(refs)) times as much.
    """
    try:
        return list(read(refs))
    except (QueuedeckError, ResponseError):
        raise  # what the server or the user's rights are to blame for holds for all
    except Exception as exc:
        if len(refs) == 1:
            log.exception("%r on %s could not be read", refs[0].name, refs[0].source)
            return [instead(refs[0], f"could not be read: {_describe_cause(exc)}")]
    half = len(refs) // 2
    return [*read_each(read, refs[:half], instead), *read_each(read, refs[half:], instead)]


def _describe_cause(exc: Exception) -> str:
    return f"{type(exc).__name__}; the log has the details"
