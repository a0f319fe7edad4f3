"""The ids and stamps of a page of jobs, up to a thousand, without their data."""

from __future__ import annotations

from itertools import chain

from redis.exceptions import NoPermissionError, ResponseError

from ...errors import Unsupported, WrongType
from ...model import JobQuery, State
from ...sources.source import Argument, Source, text
from ..actions import JobRef
from ..lua_reads import Scripts
from .actions.descriptions import ENDED
from .keys import LISTS, QueueKeys, load_script

ROWS_PER_SCRIPT = 100
_ORDERS = {
    State.WAITING: "list",
    State.DEAD: "expiring",
    State.COMPLETED: "expiring",
    State.CANCELED: "down",
}


def read_job_refs(source: Source, scripts: Scripts, queue: QueueKeys, query: JobQuery) -> list[JobRef] | None:
    """Return the jobs of a page, in its order; None if the user cannot run scripts.

    Raises Unsupported, BackendUnavailable, Forbidden. Cost: 1 round trip; for the
    first call 1 more for the clock, and 1 more on Redis 6.
    """
    word, _ = LISTS.get(query.state, (None, None))
    if word is None or query.native not in (None, word):
        raise Unsupported(f"RQ has no list of {query.native or query.state.value} jobs")
    key, order = queue.list_of(query.state), _ORDERS.get(query.state, "up")
    names = "1" if query.state is State.ACTIVE else ""
    ended = "1" if query.state in ENDED else ""
    now = int(source.now_s())
    calls: list[list[Argument]] = [
        [
            key,
            queue.prefix,
            order,
            query.offset + start,
            min(ROWS_PER_SCRIPT, query.per_page - start),
            now,
            ended,
            names,
        ]
        for start in range(0, query.per_page, ROWS_PER_SCRIPT)
    ]
    answered = scripts.run(load_script("job_refs"), calls)
    if answered is None:
        return None
    replies, _ = answered
    for reply in replies:
        if isinstance(reply, NoPermissionError):
            raise source.forbidden_error(reply) from reply
        if isinstance(reply, ResponseError):
            wrong = "WRONGTYPE" in str(reply)
            if not wrong:
                raise source.refusal_error(reply)
            raise WrongType(f"{key} has the wrong type", source=source.name)
    flat = list(chain.from_iterable(replies))
    return [
        JobRef(id=text(job_id), version=text(version) or None)
        for job_id, version in zip(flat[::2], flat[1::2], strict=True)
    ]
