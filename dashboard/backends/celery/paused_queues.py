"""Queues that were paused in Queuedeck: their workers were asked to stop consuming them, which Celery stores nowhere.

A worker that is started afterwards, or again, consumes the queue: only while no such worker lives, it is still paused.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import NamedTuple

from ...sources.source import Reply, text
from ..payloads.decoding import finite, loads_dict


class PausedQueue(NamedTuple):
    """`asked`: the workers that were asked to stop. `answered`: those that said which queues they consume.

    `at`: when they were asked, in the broker's time; None until all of `asked` have confirmed that they stopped.
    """

    asked: tuple[str, ...] = ()
    answered: tuple[str, ...] = ()
    at: float | None = None


NOT_PAUSED = PausedQueue()


def encode_paused(asked: Collection[str], answered: Collection[str] = (), at: float | None = None) -> str:
    """A paused queue as `decode_paused` reads it."""
    return json.dumps({"asked": sorted(asked), "answered": sorted(answered), "at": at})


def decode_paused(raw: object) -> PausedQueue:
    """A stored pause; NOT_PAUSED for anything else."""
    value = loads_dict(raw) if isinstance(raw, bytes) else {}
    return PausedQueue(_names_in(value.get("asked")), _names_in(value.get("answered")), finite(value.get("at")))


def _names_in(value: object) -> tuple[str, ...]:
    return tuple(name for name in value if isinstance(name, str)) if isinstance(value, list) else ()


def paused_of_reply(reply: Reply) -> dict[str, PausedQueue]:
    """The paused queues by location key, from the reply to HGETALL of `paused_key`."""
    if not isinstance(reply, list):
        return {}
    return {text(key): decode_paused(raw) for key, raw in zip(reply[::2], reply[1::2], strict=True)}


def is_paused(paused: PausedQueue | None, alive: Mapping[str, Mapping[str, object]], *, unheard: bool) -> bool | None:
    """True if none of the workers that are `alive` can consume the queue; None if one may, or if it is unknown.

    `alive`: their last heartbeats, by name. `unheard`: there may be workers that send no heartbeat.
    """
    if paused is None or paused.at is None or unheard:
        return None
    since = {name: finite(beat.get("since")) for name, beat in alive.items()}
    # Its process answered then, so it was asked to stop or never consumed the queue, and no other has taken its name.
    stopped = [name in paused.answered and at is not None and at <= paused.at for name, at in since.items()]
    return True if all(stopped) else None
