"""Result records as they are read before an action: their bytes, and their fields."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from ....model import State
from ....sources.source import Source
from ...actions import MAX_KEPT_BYTES, ActionResult, JobRef, Outcome, refused_result
from ...payloads.decoding import text_or_none
from ...payloads.nesting import is_too_deep
from .. import keys
from ..actions.scripts import WRITES
from .decoding import TAIL_BYTES, RawRecord, as_raw_record, outline_record
from .metadata import prefixes_of
from .record_jobs import UNREADABLE, record_version

# Long enough for a status with its quotes, and for a time with its name.
BEGINNING, PIECE = 24, 64
# How much is read of a record that is too large to be read whole.
HEAD_BYTES = 65_536


class ResultRecord(msgspec.Struct):
    """The fields of a record that actions need; `args` and `kwargs` as raw text."""

    status: Any = None
    date_done: Any = None
    name: Any = None
    queue: Any = None
    retries: Any = 0
    group_id: Any = None
    parent_id: Any = None
    args: msgspec.Raw = msgspec.Raw(b"")
    kwargs: msgspec.Raw = msgspec.Raw(b"")


class ReadRecord(msgspec.Struct):
    """A record as it was read: its bytes (None = too large), its size and time to live in ms (-1 = no expiry).

    `record` None = its arguments cannot be read, or not be sent unchanged; `encoding` = its serializer.
    """

    job_ref: JobRef
    key: bytes
    raw: bytes | None
    size: int
    ttl_ms: int
    record: ResultRecord | None = None
    encoding: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ResultsLocation:
    """Where the results of one broker are: `prefix` = its key prefix; `seen` = those of its results, newest first."""

    prefix: str
    seen: tuple[str, ...] = ()

    def record_keys(self, task_id: str) -> list[bytes]:
        """Return the keys that the record of a task may have, most likely first."""
        return keys.record_keys(self.prefix, task_id, self.seen)


def find_results_location(own: Source | None, source: str, prefix: str) -> ResultsLocation:
    """Return where the results of the broker with `prefix` are. Cost: 1 round trip."""
    return ResultsLocation(prefix, tuple(prefixes_of(own, source, prefix)))


def read_records(
    results: Source, results_location: ResultsLocation, state: State, job_refs: Sequence[JobRef]
) -> list[ReadRecord | ActionResult]:
    """Return the records of `job_refs`, or why there is none in that state; in order. Cost: 2 round trips.

    If a record may be under several keys, the first one that has not changed counts.
    """
    names = [(n, name) for n, job_ref in enumerate(job_refs) for name in results_location.record_keys(job_ref.id)]
    facts = results.run_batch([command for _, name in names for command in (("STRLEN", name), ("PTTL", name))])
    there = [n for n in range(len(names)) if isinstance(facts[2 * n], int) and facts[2 * n] > 0]
    large = [n for n in there if facts[2 * n] > MAX_KEPT_BYTES]
    heads = results.run_batch(
        [
            *(("GETRANGE", names[n][1], 0, (HEAD_BYTES if n in large else MAX_KEPT_BYTES) - 1) for n in there),
            *(("GETRANGE", names[n][1], -TAIL_BYTES, -1) for n in large),
        ]
    )
    tails = dict(zip(large, heads[len(there) :], strict=True))
    raws = {n: (head, tails.get(n, b"")) for n, head in zip(there, heads, strict=False)}
    found: list[list[ReadRecord | ActionResult]] = [[] for _ in job_refs]
    for n, (place, name) in enumerate(names):
        found[place].append(_check_record(job_refs[place], name, state, facts[2 * n], facts[2 * n + 1], raws.get(n)))
    return [_best_of(each) for each in found]


def _best_of(found: Sequence[ReadRecord | ActionResult]) -> ReadRecord | ActionResult:
    """Return the best of what was found under the possible keys of one record: the record, else why not, else gone."""
    for one in found:
        if isinstance(one, ReadRecord):
            return one
    return next((one for one in found if isinstance(one, ActionResult) and one.outcome is not Outcome.GONE), found[0])


def _check_record(
    job_ref: JobRef, key: bytes, state: State, size: Any, ttl_ms: Any, ends: Any
) -> ReadRecord | ActionResult:
    for reply in (size, *(ends or ())):
        if isinstance(reply, ResponseError) and "WRONGTYPE" not in str(reply):
            return WRITES.result_from_reply(job_ref.id, reply)
    if not isinstance(size, int) or size == 0 or not ends or not isinstance(ends[0], bytes) or not ends[0]:
        return ActionResult(id=job_ref.id, outcome=Outcome.GONE, detail="its record has expired or was deleted")
    head, tail = ends[0], ends[1] if isinstance(ends[1], bytes) else b""
    large = size > MAX_KEPT_BYTES
    ttl_ms = ttl_ms if isinstance(ttl_ms, int) else -1
    one = ReadRecord(
        job_ref=job_ref, key=key, raw=None if large else head, size=size if large else len(head), ttl_ms=ttl_ms
    )
    # If the size changed between the two reads, it belongs to another record.
    found = outline_record(RawRecord(head, tail, size) if large else as_raw_record(head))
    if found.status is None:
        return refused_result(job_ref.id, UNREADABLE)
    if found.status != keys.NATIVE[state]:
        return ActionResult(id=job_ref.id, outcome=Outcome.CHANGED, detail=f"its status is now {found.status[:40]}")
    version = record_version(found.fields)
    if job_ref.version is not None and version is not None and version != job_ref.version:
        return ActionResult(id=job_ref.id, outcome=Outcome.CHANGED, detail="it ran again since it was listed")
    one.encoding, one.name = found.encoding, text_or_none(found.fields.get("name"), 300)
    one.record = parse_record(head) if not large else None
    if one.record is not None:
        one.name = text_or_none(one.record.name, 300)
    return one


_decoder = msgspec.json.Decoder(ResultRecord)


def parse_record(raw: bytes) -> ResultRecord | None:
    """Return the record in `raw`; None if it is not JSON, such as a pickled one, or nested too deeply."""
    if is_too_deep(raw):
        return None
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    # Python's JSON allows NaN and lone surrogates, which strict JSON does not; such values are encoded again.
    try:
        plain = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(plain, dict):
        return None
    known = {name: plain[name] for name in ResultRecord.__struct_fields__ if name in plain}
    for name in ("args", "kwargs"):
        if name in known:
            known[name] = msgspec.Raw(json.dumps(known[name]).encode())
    return ResultRecord(**known)


def as_read(raw: bytes) -> tuple[int, bytes, int, bytes]:
    """Return what scripts identify a record by: its length, its beginning, an offset and the bytes there.

    The offset is that of the time when it was written, which differs between any two runs of a task. If there are
    several, the first counts: those after it are in the arguments.
    """
    at = next((at for at in (raw.find(b'"date_done"'), raw.find(b"date_done")) if at >= 0), max(0, len(raw) - PIECE))
    return len(raw), raw[:BEGINNING], at, raw[at : at + PIECE]


def remove_from_index(own: Source | None, source: str, prefix: str, state: State, records: Iterable[bytes]) -> None:
    """Remove records from our index immediately, by their keys; the live feed would do it with the next sample."""
    members = [keys.member_of(key) for key in records]
    if members and own is not None:
        own.run_batch([("ZREM", keys.index_key(source, state, prefix), *members)])
