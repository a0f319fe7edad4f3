"""The last heartbeat of each worker, in a hash of our own: the sampling process writes it, every process reads it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from redis.exceptions import ResponseError

from ...sources.source import Command, Reply, Source, text
from ..payloads.decoding import count_or_none, finite, loads_dict
from .keys import workers_key

# A worker sends a heartbeat every 2 s.
SUSPECT_AFTER_S, DEAD_AFTER_S = 10.0, 60.0
# A killed worker leaves its mailbox permanently; its last heartbeat is remembered for this long.
WORKERS_TTL_S = 7 * 86_400
MAX_SILENT_WORKERS = 200
STORED_FIELDS = ("pid", "active", "processed", "loadavg", "sw_ver", "at", "since", "prefix")


def read_heartbeats(own: Source | None, source: str) -> Mapping[str, Mapping[str, object]]:
    """Return the last heartbeat of each known worker, by name; {} if no process stores them. Cost: 1 round trip."""
    if own is None:
        return {}
    return beats_of(own.run_batch([("HGETALL", workers_key(source))])[0])


def beats_of(reply: Reply) -> dict[str, Mapping[str, object]]:
    """Return the heartbeats in the reply to HGETALL of `workers_key`."""
    if isinstance(reply, ResponseError) or not isinstance(reply, list):
        return {}
    return {text(name): loads_dict(raw) for name, raw in zip(reply[::2], reply[1::2], strict=True)}


def drop_silent(beats: dict[str, dict[str, Any]], now: float) -> None:
    """Remove the heartbeats of workers that fell silent long ago, or that are too many; `now` is the broker's time."""
    silent = sorted((beat["at"], name) for name, beat in beats.items() if now - beat["at"] > DEAD_AFTER_S)
    for number, (at, name) in enumerate(silent):
        if now - at > WORKERS_TTL_S or number < len(silent) - MAX_SILENT_WORKERS:
            del beats[name]


def is_same_process(before: Mapping[str, object], beat: Mapping[str, object]) -> bool:
    """Whether two heartbeats in a row with one name surely come from one process: its number alone does not show it.

    In a container, each process has the number 1. A new one counts its tasks, and its messages (`clock`), from 0.
    """
    grows = [(count_or_none(before.get(part)), count_or_none(beat.get(part))) for part in ("processed", "clock")]
    earlier, later = finite(before.get("at")), finite(beat.get("at"))
    return (
        all(before.get(part) is not None and before.get(part) == beat.get(part) for part in ("pid", "prefix"))
        and all(first is not None and then is not None and first <= then for first, then in grows)
        and (earlier is not None and later is not None and later - earlier <= SUSPECT_AFTER_S)
    )


def beats_to_write(source: str, beats: Mapping[str, Mapping[str, Any]]) -> Iterable[Command]:
    """Return the commands that store heartbeats, by worker, in place of those stored before."""
    pairs: list[str] = []
    for name, beat in list(beats.items()):
        pairs += [name, json.dumps({part: beat.get(part) for part in STORED_FIELDS}, default=str)[:2000]]
    key = workers_key(source)
    return [("DEL", key), ("HSET", key, *pairs), ("EXPIRE", key, WORKERS_TTL_S)] if pairs else [("DEL", key)]
