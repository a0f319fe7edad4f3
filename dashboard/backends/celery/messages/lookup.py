"""Finds the messages of jobs: Celery has no index by id, so the lists are read from the end that is served next."""

from __future__ import annotations

import json
import re
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from ....sources.source import Argument, Source, raw_bytes, text
from ...actions import MAX_KEPT_BYTES, ActionResult, JobRef, Outcome, refused_result
from ...bounded_reads import read_plainly, short_fields
from ...lua_reads import Scripts
from ...payloads.decoding import DECODE_LIMIT_BYTES
from .. import keys
from ..actions.scripts import WRITES
from ..job_decoding import NAMELESS, decode_envelope, decode_unacked, headers_of, job_id, nameless_id, wrapped_forms

# How many messages of a queue, and how many unacknowledged ones, one lookup searches; how many it reads per call.
LOOK_THROUGH, PER_READ = 20_000, 500
OVERLAP = 100
# How many bytes of messages one call reads, and all calls for one queue; the search stops there.
READ_BYTES, MOST_READ_BYTES = 4 * 1024 * 1024, 512 * 1024 * 1024
# Up to this many ids are searched for in base64 bodies.
FEW_IDS = 4
# Marks an argument as a fragment of such a body, as in `lua/messages.lua`.
WRAPPED = b"\0"
# Precedes the stamp that is sent in place of a message that is too long; as in `lua/lists.lua`.
STAMPED = b"\0stamp "
# A protocol 1 message has its id in the base64 body, and most clients also write it as the correlation id.
_ID = re.compile(rb'"id": ?"((?:[^"\\]|\\.)*+)"')
_CORRELATION_ID = re.compile(rb'"correlation_id": ?"((?:[^"\\]|\\.)*+)"')


class LocatedMessage(msgspec.Struct, frozen=True):
    """A message: its bytes as stored in Redis, the step of its list in the queue, and how many are before it.

    If it has more than MAX_KEPT_BYTES, `raw` is STAMPED and its stamp.
    """

    job_ref: JobRef
    raw: bytes
    size: int
    step: int = 0
    before: int = 0
    tag: bytes = b""  # its delivery tag, if a worker holds it


class RawMessage(NamedTuple):
    """A message that was read: `raw` is None if it has more than MAX_KEPT_BYTES; its length and its digest."""

    raw: bytes | None
    size: int
    mark: str


def _json_forms(ids: Iterable[str]) -> set[bytes]:
    """Return ids in the forms that JSON may use for them."""
    return {raw_bytes(json.dumps(each, ensure_ascii=ascii_)[1:-1]) for each in ids for ascii_ in (True, False)}


class _MessageSearch:
    """The jobs still to be found, by what identifies them."""

    def __init__(self, job_refs: Sequence[JobRef]) -> None:
        self._by_stamp: dict[str, deque[int]] = defaultdict(deque)
        self._by_id: dict[bytes, deque[int]] = defaultdict(deque)
        self._job_refs = job_refs
        self._ids: set[bytes] = set()
        self.found: dict[int, LocatedMessage] = {}
        for n, job_ref in enumerate(job_refs):
            if job_ref.version is not None:
                self._by_stamp[job_ref.version].append(n)
            else:
                self._by_id[raw_bytes(job_ref.id)].append(n)

    @property
    def is_done(self) -> bool:
        """Whether all were found."""
        return len(self.found) == len(self._job_refs)

    @property
    def written_ids(self) -> list[bytes]:
        """The ids still to be found, in their JSON forms, and fragments of base64 bodies that contain them.

        A fragment begins with a zero byte. For many ids without a stamp, every body is a candidate: searching each
        message for each id would take Redis too long.
        """
        left = [job_ref for n, job_ref in enumerate(self._job_refs) if n not in self.found]
        plain = {job_ref.id for job_ref in left if job_ref.version is None}
        pieces = {b""} if plain else set()
        if len(plain) <= FEW_IDS:
            pieces = {piece for form in _json_forms(plain) for piece in wrapped_forms(form)}
        return [*sorted(_json_forms(job_ref.id for job_ref in left)), *(WRAPPED + piece for piece in sorted(pieces))]

    @property
    def wanted_versions(self) -> list[str]:
        """The stamps of the messages still to be found."""
        left = [job_ref for n, job_ref in enumerate(self._job_refs) if n not in self.found]
        marks = {mark for job_ref in left for mark in (job_ref.version, job_ref.id) if mark is not None}
        return sorted(mark.removeprefix(NAMELESS) for mark in marks if mark.startswith(NAMELESS))

    def consider_message(self, message: RawMessage, step: int, before: int, tag: bytes = b"") -> None:
        """Check one message against the jobs still to be found."""
        raw, mark = message.raw, message.mark
        short = raw if raw is not None and message.size <= DECODE_LIMIT_BYTES else b""
        own = _ID.search(short)
        match = own or _CORRELATION_ID.search(short)
        name = match.group(1) if match else mark.encode()
        self._ids.add(name)
        waiting = self._by_stamp.get(mark)
        # JSON has several forms for an id: Python escapes `ä`, PHP `/`. The correlation id may be a different one.
        # An id that no page can display does not count, and the message is identified by its stamp.
        if not waiting and (name in self._by_id or not own or b"\\" in name or mark.encode() in self._by_id):
            decoded = (decode_unacked(raw)[0] if tag else decode_envelope(raw)) if raw is not None else None
            name = raw_bytes(job_id(mark, headers_of(decoded)))
            self._ids.add(name)
            waiting = self._by_id.get(name)
        if waiting:
            n = waiting.popleft()
            sent = raw if raw is not None else STAMPED + mark.removeprefix(NAMELESS).encode()
            self.found[n] = LocatedMessage(self._job_refs[n], sent, message.size, step, before, tag)

    def list_results(self, *, whole: bool, gone: str) -> list[LocatedMessage | ActionResult]:
        """Return a LocatedMessage per job reference, or why there is none."""
        return [
            self.found.get(n) or self._missing_result(job_ref, whole=whole, gone=gone)
            for n, job_ref in enumerate(self._job_refs)
        ]

    def _missing_result(self, job_ref: JobRef, *, whole: bool, gone: str) -> ActionResult:
        if raw_bytes(job_ref.id) in self._ids:
            return ActionResult(
                id=job_ref.id, outcome=Outcome.CHANGED, detail="its message changed since it was listed"
            )
        if not whole:
            return refused_result(
                job_ref.id, f"not found among the first {LOOK_THROUGH:,} messages, the most that are searched"
            )
        return ActionResult(id=job_ref.id, outcome=Outcome.GONE, detail=gone)


def find_waiting(
    broker: Source, scripts: Scripts, place: keys.QueueLocation, job_refs: Sequence[JobRef]
) -> list[LocatedMessage | ActionResult]:
    """Return the waiting messages of `job_refs`, in order; an ActionResult if there is none.

    Cost: 1 round trip, and 1 for each PER_READ messages, or READ_BYTES of them, up to the last one found; at most
    LOOK_THROUGH and MOST_READ_BYTES. Without scripts that of `read_plainly`.
    """
    lists = place.list_keys()
    sizes = broker.run_batch([("LLEN", key) for key in lists])
    refusal = next((size for size in sizes if isinstance(size, ResponseError) and "WRONGTYPE" not in str(size)), None)
    if refusal is not None:
        return [WRITES.result_from_reply(job_ref.id, refusal) for job_ref in job_refs]
    lengths = [size if isinstance(size, int) else 0 for size in sizes]
    search = _MessageSearch(job_refs)
    left_bytes = MOST_READ_BYTES
    for step, (key, length) in enumerate(zip(lists, lengths, strict=True)):
        at, seen = 0, set[str]()
        while at < min(length, LOOK_THROUGH) and left_bytes > 0 and not search.is_done:
            found, reached, read = _read_messages(broker, scripts, key, at, search)
            left_bytes -= read
            for before, message in found:
                if before >= at or message.mark not in seen:
                    search.consider_message(message, step, before)
            at, seen = reached, {message.mark for _, message in found}
    whole = sum(lengths) <= LOOK_THROUGH and left_bytes > 0
    return search.list_results(whole=whole, gone="a worker picked it up, or it was deleted")


def _read_messages(
    broker: Source, scripts: Scripts, key: bytes, at: int, search: _MessageSearch
) -> tuple[list[tuple[int, RawMessage]], int, int]:
    """Return ([(how many are before it in its list, a candidate message)], how many were read, bytes read)."""
    # A worker may have picked up some between two reads: each begins a little before the end of the last.
    first = max(0, at - OVERLAP)
    ids = search.written_ids
    call: list[Argument] = [
        key,
        first,
        PER_READ + at - first,
        READ_BYTES,
        MAX_KEPT_BYTES,
        len(ids),
        *ids,
        *search.wanted_versions,
    ]
    answered = scripts.run(keys.load_script("seek"), [call])
    if answered is None:
        members = list(read_plainly(broker, key, "list", at, at + PER_READ))
        read = sum(len(member.raw) for member in members)
        found = [(member.place, _build_message(member.raw, len(member.raw), None)) for member in members]
        return found, at + PER_READ if len(members) == PER_READ else LOOK_THROUGH, read
    reply: Any = answered[0][0]
    _, values, reached, read = reply if isinstance(reply, list) else (0, [], LOOK_THROUGH, 0)
    rows = zip(*[iter(values)] * 4, strict=True)
    return [(place, _build_message(*each)) for *each, place in rows], max(reached, at + 1), read


def _build_message(raw: bytes | None, size: int, version: bytes | None) -> RawMessage:
    if version is not None:
        return RawMessage(raw, size, f"{NAMELESS}{text(version)}")
    return RawMessage(raw, size, nameless_id(raw or b""))


def find_unacked(
    broker: Source, scripts: Scripts, names: keys.UnackedKeys, prefix: str, job_refs: Sequence[JobRef]
) -> list[LocatedMessage | ActionResult]:
    """Return the unacknowledged messages of `job_refs`, in order; an ActionResult if there is none.

    `raw` is the entry of `unacked`. Cost: 1 round trip, and 1 for each PER_READ entries, or READ_BYTES of them, at most
    LOOK_THROUGH; 3 for each without scripts.
    """
    search = _MessageSearch(job_refs)
    entries, index = names.keys(prefix)
    total = broker.run_batch([("ZCARD", index)])[0]
    if isinstance(total, ResponseError):
        return [WRITES.result_from_reply(job_ref.id, total) for job_ref in job_refs]
    at = 0
    while at < min(total, LOOK_THROUGH) and not search.is_done:
        call: list[Argument] = [entries, index, at, PER_READ, READ_BYTES, MAX_KEPT_BYTES, *search.written_ids]
        answered = scripts.run(keys.load_script("unacked"), [call])
        if answered is not None:
            reply: Any = answered[0][0]
            values, reached = (reply[1], reply[2]) if isinstance(reply, list) else ([], LOOK_THROUGH)
            pairs = [(tag, raw) for tag, raw, _ in zip(*[iter(values)] * 3, strict=True)]
        else:
            tags = broker.run_batch([("ZREVRANGE", index, at, at + PER_READ - 1)])[0]
            tags = tags if isinstance(tags, list) else []
            raws = short_fields(broker, [(entries, tag) for tag in tags], MAX_KEPT_BYTES)
            pairs, reached = list(zip(tags, raws, strict=True)), at + max(1, len(tags))
        if reached <= at:
            break
        at = reached
        for tag, raw in pairs:
            if isinstance(raw, bytes):
                search.consider_message(RawMessage(raw, len(raw), nameless_id(raw)), 0, 0, tag)
    return search.list_results(whole=total <= LOOK_THROUGH, gone="no worker holds it now")
