"""Result records as they are read before something is done with them: their bytes, and what stands in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from dashboard.backends.acting import MAX_KEPT_BYTES, Acted, Outcome, Pick
from dashboard.backends.celery import keys
from dashboard.backends.celery.asking import reason, refused
from dashboard.backends.celery.index import index_key
from dashboard.backends.celery.message import record_stamp
from dashboard.model import State
from dashboard.sources import Source

# A status with its quotes, and a time with its name, fit into these.
BEGINNING, PIECE = 24, 64


class Record(msgspec.Struct):
    """What is needed of a record; `args` and `kwargs` as they stand there."""

    status: Any = None
    date_done: Any = None
    name: Any = None
    queue: Any = None
    retries: Any = 0
    group_id: Any = None
    parent_id: Any = None
    args: msgspec.Raw = msgspec.Raw(b"")
    kwargs: msgspec.Raw = msgspec.Raw(b"")


class Read(msgspec.Struct):
    """A record as it was read: its bytes (None = too large), its size and time to live in ms (-1 = for ever)."""

    pick: Pick
    key: bytes
    raw: bytes | None
    size: int
    ttl_ms: int
    record: Record | None = None


def read(results: Source, prefix: str, state: State, picks: Sequence[Pick]) -> list[Read | Acted]:
    """The records of `picks`, or why there is none in that state; in order. Cost: 2 round trips.

    `prefix` = of the broker's keys; where a record may lie under several keys, the first that is as it was seen counts.
    """
    names = [(pick, name) for pick in picks for name in keys.record_keys(prefix, pick.id)]
    facts = results.batch([command for _, name in names for command in (("STRLEN", name), ("PTTL", name))])
    small = [n for n in range(len(names)) if isinstance(facts[2 * n], int) and 0 < facts[2 * n] <= MAX_KEPT_BYTES]
    raws = dict(zip(small, results.batch([("GET", names[n][1]) for n in small]), strict=True))
    found = [_read(*name, state, facts[2 * n], facts[2 * n + 1], raws.get(n)) for n, name in enumerate(names)]
    each = len(names) // max(1, len(picks))
    return [_best(found[n * each : (n + 1) * each]) for n in range(len(picks))]


def _best(found: Sequence[Read | Acted]) -> Read | Acted:
    """Of what was found under the keys of one record: itself, else why not, else that it is gone."""
    for one in found:
        if isinstance(one, Read):
            return one
    return next((one for one in found if isinstance(one, Acted) and one.outcome is not Outcome.GONE), found[0])


def _read(pick: Pick, key: bytes, state: State, size: Any, ttl_ms: Any, raw: Any) -> Read | Acted:
    for reply in (size, raw):
        if isinstance(reply, ResponseError) and "WRONGTYPE" not in str(reply):
            return refused(pick.id, reason(reply))
    if not isinstance(size, int) or size == 0 or (raw is None and size <= MAX_KEPT_BYTES):
        return Acted(id=pick.id, outcome=Outcome.GONE, detail="its record has expired or was deleted")
    one = Read(pick=pick, key=key, raw=raw, size=size, ttl_ms=ttl_ms if isinstance(ttl_ms, int) else -1)
    if raw is None:
        return one
    one.size = len(raw)
    one.record = decoded(raw)
    if one.record is None:
        return one
    if one.record.status != keys.NATIVE[state]:
        return Acted(id=pick.id, outcome=Outcome.CHANGED, detail=f"its record says {str(one.record.status)[:40]} now")
    stamp = stamp_of(one.record)
    if pick.stamp is not None and stamp is not None and stamp != pick.stamp:
        return Acted(id=pick.id, outcome=Outcome.CHANGED, detail="it has ended anew since it was seen")
    return one


_decoder = msgspec.json.Decoder(Record)


def decoded(raw: bytes) -> Record | None:
    """The record in `raw`; None for what is none, such as a pickled one."""
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    # Python's JSON has NaN and lone surrogates, which are not JSON to others; the values are then written anew.
    try:
        plain = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(plain, dict):
        return None
    known = {name: plain[name] for name in Record.__struct_fields__ if name in plain}
    for name in ("args", "kwargs"):
        if name in known:
            known[name] = msgspec.Raw(json.dumps(known[name]).encode())
    return Record(**known)


def as_read(raw: bytes) -> tuple[int, bytes, int, bytes]:
    """What the scripts know a record by: its length, how it begins, a place in it and what stands there.

    The place is where it says when it was written, which no two ends of a task have in common. Of several the first
    counts: those behind it are the arguments.
    """
    at = raw.find(b'"date_done"')
    at = at if at >= 0 else max(0, len(raw) - PIECE)
    return len(raw), raw[:BEGINNING], at, raw[at : at + PIECE]


def stamp_of(record: Record) -> str | None:
    """The stamp of a record: when it was written."""
    return record_stamp({"date_done": record.date_done})


def unlist(own: Source | None, source: str, prefix: str, state: State, records: Iterable[bytes]) -> None:
    """Take records off our own list at once, by their keys; the live feed would do it with the next sample."""
    members = [keys.member_of(key) for key in records]
    if members and own is not None:
        own.batch([("ZREM", index_key(source, state, prefix), *members)])
