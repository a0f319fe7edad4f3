"""A snapshot or a history as it is published: a small manifest, and parts that are named by what is in them.

Pure: no Redis, no clock. A part whose rows are the same as before keeps its name, so it is sent once and read once.
Queues are taken in runs of ROWS. Of each run those that stay as they are make up a part of their own; those that
changed lately, of all runs together, make up the busy parts, which are most of what is sent. The manifest says of each
run which of its rows are busy, so that all queues come back in their order. Parts that are small altogether travel in
the manifest itself, which saves whoever reads them a round trip.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec
from msgspec import field
from msgspec.structs import replace

from ..model import Counts, NativeCount, QueueStats, Snapshot, SourceStats, Value
from .recent_history import History, QueueHistory

# Queues of one part: small enough that few of them are sent for one that changed, and few enough parts that the script
# which looks whether they are there takes a millisecond at most for 10,000 queues.
ROWS = 128
BUSY_ROWS = 256
# No part has more bytes, but for a single queue that is larger by itself.
PART_BYTES = 256 * 1024
# Up to so many bytes, which are about 300 queues, the manifest carries the parts.
INLINE_BYTES = 16 * 1024
# A queue that did not change in so many snapshots is no longer busy.
BUSY_FOR = 15
# What a part may grow to when it is unpacked; ours have far less.
MOST_BYTES = 64 * 1024 * 1024
# Begins a text that is written in hex.
_RAW = "\0raw:"

Rows: TypeAlias = Sequence[Any]
_T = TypeVar("_T")
_encoder = msgspec.msgpack.Encoder()


class QueueRun(Value, frozen=True, kw_only=True, array_like=True):
    """A run of queues: bit n of `busy` is set where its row n is in the busy parts; `parts` have the others.

    The lowest bit is that of the first byte.
    """

    busy: bytes
    parts: tuple[str, ...]


class SnapshotManifest(Value, frozen=True, kw_only=True, array_like=True):
    """A snapshot without its queues, and where these are."""

    head: Snapshot
    runs: tuple[QueueRun, ...]
    busy: tuple[str, ...]
    inline: dict[str, bytes] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all parts."""
        return (*self.busy, *(name for run in self.runs for name in run.parts))

    def join_parts(self, parts: Mapping[str, Rows]) -> Snapshot:
        """The snapshot. Raises ValueError where the parts do not fit."""
        busy = _rows_of(self.busy, parts)
        queues: list[QueueStats] = []
        for run in self.runs:
            rest = list(_rows_of(run.parts, parts))
            bits = int.from_bytes(run.busy, "little")
            if not bits:
                queues.extend(rest)
                continue
            others = iter(rest)
            try:
                for n in range(len(rest) + bits.bit_count()):
                    queues.append(next(busy if bits >> n & 1 else others))
            except StopIteration:
                raise ValueError("a part has too few rows") from None
        return replace(self.head, queues=tuple(queues))


class HistoryManifest(Value, frozen=True, kw_only=True, array_like=True):
    """A history without its queues, and where these are."""

    head: History
    parts: tuple[str, ...]
    inline: dict[str, bytes] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all parts."""
        return self.parts

    def join_parts(self, parts: Mapping[str, Rows]) -> History:
        """The history."""
        return replace(self.head, queues=dict(_rows_of(self.parts, parts)))


Manifest: TypeAlias = SnapshotManifest | HistoryManifest


@dataclass(frozen=True, slots=True)
class SnapshotPart:
    """Rows as they are sent: `name` is a digest of `body`."""

    name: str
    body: bytes
    rows: Rows


@dataclass(frozen=True, slots=True)
class PublishedDocument(Generic[_T]):
    """A value as it is published."""

    value: _T
    manifest: bytes
    parts: tuple[SnapshotPart, ...]
    sent: tuple[SnapshotPart, ...]  # those that the manifest does not carry


class DocumentKind(Generic[_T]):
    """How one type of value is read; HISTORIES and SNAPSHOTS are the two there are."""

    def __init__(self, manifest: type[SnapshotManifest] | type[HistoryManifest], rows: Any) -> None:
        self.manifests: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(manifest)
        self._rows: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(rows)

    def manifest(self, raw: Any) -> Any | None:
        """What `PublishedDocument.manifest` says; None for what is missing, of another version, or somebody else's."""
        if not isinstance(raw, bytes) or not raw.startswith(FORMAT):
            return None
        return decode_value(raw[len(FORMAT) :], self.manifests)

    def rows(self, name: str, body: Any) -> Rows | None:
        """The rows of a part; None for what is missing, or is not what its name says."""
        if not isinstance(body, bytes) or name_of(body) != name:
            return None
        inflate = zlib.decompressobj()
        try:
            encoded = inflate.decompress(body, MOST_BYTES)
        except zlib.error:
            return None
        return None if inflate.unconsumed_tail else decode_value(encoded, self._rows)


def name_of(body: bytes) -> str:
    """The name of a part."""
    return blake2b(body, digest_size=12).hexdigest()


def _layout_digest() -> bytes:
    """Changes with the fields of what is published, for their names are not."""
    kinds = (
        SnapshotManifest,
        QueueRun,
        Snapshot,
        SourceStats,
        QueueStats,
        Counts,
        NativeCount,
        HistoryManifest,
        History,
    )
    fields = [kind.__struct_fields__ for kind in (*kinds, QueueHistory)]
    return blake2b(repr(fields).encode(), digest_size=4).hexdigest().encode()


# Begins each manifest: a process of another version ignores what it cannot read.
FORMAT = b"q2" + _layout_digest()
SNAPSHOTS: DocumentKind[Snapshot] = DocumentKind(SnapshotManifest, tuple[QueueStats, ...])
HISTORIES: DocumentKind[History] = DocumentKind(HistoryManifest, tuple[tuple[str, QueueHistory], ...])


class SnapshotCutter:
    """Cuts one snapshot after another, each in about the time that its changes take. Not thread-safe."""

    def __init__(self) -> None:
        self._number = 0
        self._queues: tuple[QueueStats, ...] = ()
        self._changed: list[int] = []  # of each queue, the number of the snapshot in which it changed last
        self._parts: dict[int, tuple[Rows, tuple[SnapshotPart, ...]]] = {}  # of each run, by its start

    def cut_snapshot(self, snapshot: Snapshot) -> PublishedDocument[Snapshot]:
        """The snapshot in parts; those that did not change are the same objects as before."""
        self._number += 1
        self._note_changes(snapshot.queues)
        busy: list[QueueStats] = []
        runs: list[QueueRun] = []
        parts: list[SnapshotPart] = []
        for start in range(0, len(snapshot.queues), ROWS):
            bits, rest = 0, []
            for n, queue in enumerate(snapshot.queues[start : start + ROWS]):
                if self._number - self._changed[start + n] < BUSY_FOR:
                    bits |= 1 << n
                    busy.append(queue)
                else:
                    rest.append(queue)
            kept = self._parts_of_run(start, rest)
            mask = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
            runs.append(QueueRun(busy=mask, parts=tuple(part.name for part in kept)))
            parts.extend(kept)
        spans = (busy[start : start + BUSY_ROWS] for start in range(0, len(busy), BUSY_ROWS))
        sent = [part for span in spans for part in encode_rows(span)]
        head = replace(snapshot, queues=())
        manifest = SnapshotManifest(head=head, runs=tuple(runs), busy=tuple(part.name for part in sent))
        return _build_document(snapshot, manifest, (*sent, *parts))

    def _note_changes(self, queues: tuple[QueueStats, ...]) -> None:
        former = self._queues
        if len(queues) != len(former) or any(a.key != b.key for a, b in zip(queues, former, strict=True)):
            self._realign(queues)
        else:
            for n, (queue, before) in enumerate(zip(queues, former, strict=True)):
                if queue is not before and queue != before:
                    self._changed[n] = self._number
        self._queues = queues

    def _realign(self, queues: tuple[QueueStats, ...]) -> None:
        """Note changes where queues came or went; before the first snapshot none has changed."""
        known = {_address_of(queue): (queue, at) for queue, at in zip(self._queues, self._changed, strict=True)}
        changed = []
        for queue in queues:
            before, at = known.get(_address_of(queue), (queue, -BUSY_FOR))
            changed.append(at if queue is before or queue == before else self._number)
        self._changed = changed
        self._parts = {start: kept for start, kept in self._parts.items() if start < len(queues)}

    def _parts_of_run(self, start: int, rows: list[QueueStats]) -> tuple[SnapshotPart, ...]:
        """The parts of the rows that stay as they are of the run at `start`."""
        former = self._parts.get(start)
        if former is None or former[0] != rows:
            former = self._parts[start] = rows, encode_rows(rows)
        return former[1]


def cut_history(history: History) -> PublishedDocument[History]:
    """The history in parts. With each point all of them change."""
    rows = list(history.queues.items())
    parts = tuple(part for start in range(0, len(rows), ROWS) for part in encode_rows(rows[start : start + ROWS]))
    manifest = HistoryManifest(head=replace(history, queues={}), parts=tuple(part.name for part in parts))
    return _build_document(history, manifest, parts)


def _build_document(value: _T, manifest: Manifest, parts: tuple[SnapshotPart, ...]) -> PublishedDocument[_T]:
    inline = sum(len(part.body) for part in parts) <= INLINE_BYTES
    if inline:
        manifest = replace(manifest, inline={part.name: part.body for part in parts})
    return PublishedDocument(value, FORMAT + encode_value(manifest), parts, () if inline else parts)


def encode_rows(rows: list[Any]) -> tuple[SnapshotPart, ...]:
    """One part, none of no rows, and more where that would be larger than PART_BYTES."""
    if not rows:
        return ()
    # Level 1: of 10,000 queues it takes 10 ms for a twentieth of the bytes.
    body = zlib.compress(encode_value(rows), 1)
    if len(body) > PART_BYTES and len(rows) > 1:
        half = len(rows) // 2
        return (*encode_rows(rows[:half]), *encode_rows(rows[half:]))
    return (SnapshotPart(name_of(body), body, rows),)


def _rows_of(names: Iterable[str], parts: Mapping[str, Rows]) -> Iterator[Any]:
    return (row for name in names for row in parts[name])


def _address_of(queue: QueueStats) -> tuple[str, str, str]:
    return queue.source, queue.backend, queue.key


def encode_value(value: object) -> bytes:
    """`value` in MessagePack, which holds valid UTF-8 only; Redis keys are any bytes: such names travel in hex."""
    try:
        encoded = _encoder.encode(value)
        if _RAW.encode() not in encoded:
            return encoded
    except UnicodeEncodeError:
        pass
    return _encoder.encode(_each_text(msgspec.to_builtins(value, builtin_types=(bytes,)), _to_hex))


def decode_value(encoded: bytes, decoder: msgspec.msgpack.Decoder[_T]) -> _T | None:
    """What `encode_value` was given; None for what is none of it."""
    try:
        if _RAW.encode() not in encoded:
            return decoder.decode(encoded)
        return msgspec.convert(_each_text(msgspec.msgpack.decode(encoded), _from_hex), decoder.type)
    except (msgspec.DecodeError, msgspec.ValidationError, ValueError, RecursionError):
        return None


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """`value` of plain parts with every text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_each_text(key, change): _each_text(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_each_text(item, change) for item in value]
    return value


def _to_hex(text: str) -> str:
    raw = text.encode("utf-16-le", "surrogatepass")  # leads back to any text there is
    return f"{_RAW}{raw.hex()}" if text.startswith(_RAW) or _has_surrogates(text) else text


def _from_hex(text: str) -> str:
    return bytes.fromhex(text[len(_RAW) :]).decode("utf-16-le", "surrogatepass") if text.startswith(_RAW) else text


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
