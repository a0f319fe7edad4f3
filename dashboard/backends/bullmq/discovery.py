"""Discovery of BullMQ and Bull queues: neither keeps a list of them, so the key space is scanned in steps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from redis.exceptions import ResponseError

from ...globs import GLOB_LIMIT
from ...sources.source import Reply, Source, text
from ..base import Budget
from ..scan import scan_step
from . import keys

# Matches `:meta`, `:id` and little else; one SCAN pass finds both, which a TYPE filter would not allow.
ENDING = "*[e:][ti][ad]"
_SIGNS = re.compile(r"([\\*?\[\]^-])")
# What distinguishes a Bull 4 queue from any other key that ends in `:id`.
BULL_SIGNS = (
    ("LLEN", "wait"),
    ("LLEN", "active"),
    ("ZCARD", "completed"),
    ("ZCARD", "failed"),
    ("ZCARD", "delayed"),
    ("EXISTS", "meta-paused"),
    ("EXISTS", "stalled-check"),
    ("ZCARD", "repeat"),
)


def discover_step(
    source: Source, cursor: int, budget: Budget, prefixes: Sequence[str]
) -> tuple[list[keys.QueueKey], int]:
    """Return the queues in the next part of the key space, and the next cursor; 0 = the scan is done.

    Cost: as many round trips as `budget` allows, and 1 to check the keys that were found.
    """
    # Long patterns have crashed Redis: a longer prefix is filtered here, from all keys.
    alone = len(prefixes) == 1 and len(_escape_pattern(prefixes[0])) <= GLOB_LIMIT
    pattern = f"{_escape_pattern(prefixes[0])}:{ENDING}" if alone else ENDING
    found, cursor = scan_step(source, cursor, budget, match=pattern)
    names = dict.fromkeys(text(key) for key in found)
    bullmq = [name.removesuffix(":meta") for name in names if name.endswith(":meta")]
    bull = [name.removesuffix(":id") for name in names if name.endswith(":id")]
    return [
        queue
        for base in confirm_queues(source, bullmq, bull)
        if (queue := _queue_of_key(base, prefixes)) and _is_wanted(queue, prefixes)
    ], cursor


def confirm_queues(source: Source, bullmq: Sequence[str], bull: Sequence[str]) -> list[str]:
    """Return the key bases that really are queues; a job or a scheduler can be called `meta` too."""
    metas = list(dict.fromkeys((*bullmq, *bull)))
    commands = [("HSTRLEN", f"{base}:meta", field) for base in metas for field in ("opts.maxLenEvents", "version")]
    signs = [(command, f"{base}:{key}") for base in bull for command, key in BULL_SIGNS]
    replies = source.run_batch([*commands, *signs])
    sizes = [isinstance(reply, int) and reply > 0 for reply in replies[: len(commands)]]
    known = [base for n, base in enumerate(metas) if any(sizes[2 * n : 2 * n + 2])]
    rest = replies[len(commands) :]
    width = len(BULL_SIGNS)
    legacy = [base for n, base in enumerate(bull) if _is_bull(rest[n * width : (n + 1) * width])]
    return list(dict.fromkeys((*known, *legacy)))


def _is_bull(replies: Sequence[Reply]) -> bool:
    return not any(isinstance(reply, ResponseError) for reply in replies) and any(replies)


def _queue_of_key(base: str, prefixes: Sequence[str]) -> keys.QueueKey | None:
    queue = keys.split_key(base, prefixes)
    # `<prefix>::relay:*` is the messaging of 6.x, not a queue.
    return None if queue is None or queue.queue.startswith(":relay:") or "::relay" in queue.prefix else queue


def _is_wanted(queue: keys.QueueKey, prefixes: Iterable[str]) -> bool:
    return not prefixes or queue.prefix in prefixes


def _escape_pattern(prefix: str) -> str:
    return _SIGNS.sub(r"\\\1", prefix)
