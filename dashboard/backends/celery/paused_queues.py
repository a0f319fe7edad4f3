"""Queues that were paused in Queuedeck: their workers were asked to stop consuming them, which Celery stores nowhere.

A worker that is started afterwards, or again, consumes the queue: only while no such worker lives, it is still paused.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import NamedTuple

from ...sources.source import Reply, text
from ..payloads.decoding import count_of, loads


class PausedQueue(NamedTuple):
    """`asked`: the workers that were asked to stop. `pids`: the process of each worker that lived then."""

    asked: tuple[str, ...]
    pids: Mapping[str, int]


NOT_PAUSED = PausedQueue((), {})


def encode_paused(asked: Collection[str], pids: Mapping[str, int]) -> str:
    """A paused queue as `decode_paused` reads it."""
    return json.dumps({"asked": sorted(asked), "pids": dict(pids)})


def decode_paused(raw: object) -> PausedQueue:
    """A stored pause; NOT_PAUSED for anything else."""
    try:
        value = loads(raw) if isinstance(raw, bytes) else None
    except ValueError:
        return NOT_PAUSED
    if isinstance(value, list):  # of a version that did not store the processes
        value = {"asked": value}
    if not isinstance(value, dict):
        return NOT_PAUSED
    asked, pids = value.get("asked"), value.get("pids")
    return PausedQueue(
        tuple(name for name in asked if isinstance(name, str)) if isinstance(asked, list) else (),
        {name: pid for name, pid in pids.items() if isinstance(pid, int)} if isinstance(pids, dict) else {},
    )


def paused_of_reply(reply: Reply) -> dict[str, PausedQueue]:
    """The paused queues by location key, from the reply to HGETALL of `paused_key`."""
    if not isinstance(reply, list):
        return {}
    return {text(key): decode_paused(raw) for key, raw in zip(reply[::2], reply[1::2], strict=True)}


def pids_of(beats: Mapping[str, Mapping[str, object]], names: Collection[str]) -> dict[str, int]:
    """The process of each of these workers, as far as its heartbeats say."""
    return {
        name: pid for name, beat in beats.items() if name in names and (pid := count_of(beat.get("pid"))) is not None
    }


def is_paused(paused: PausedQueue | None, alive: Mapping[str, Mapping[str, object]], *, unheard: bool) -> bool | None:
    """True if none of the workers that are `alive` can consume the queue; None if one may, or if it is unknown.

    `unheard`: there may be workers that send no heartbeat.
    """
    if paused is None or not paused.asked or unheard:
        return None
    return True if all(paused.pids.get(name) == count_of(beat.get("pid")) for name, beat in alive.items()) else None
