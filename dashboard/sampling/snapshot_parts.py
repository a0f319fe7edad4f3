"""The published form of a snapshot or a history: a small manifest, and parts named by a digest of their content.

Pure: no Redis, no clock. A part whose rows did not change keeps its name, so it is sent once and read once. Queues are
divided into runs of ROWS. The unchanged queues of each run form a separate part; the recently changed queues of all
runs together form the busy parts, which are most of what is sent. For each run, the manifest marks which rows are busy,
so that readers can restore the order of the queues. If all parts together are small, the manifest contains them, which
saves readers a round trip.
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

from ..model import (
    Counts,
    HistoryProblem,
    NativeCount,
    QueueForecast,
    QueueStats,
    RateLimit,
    Snapshot,
    SourceStats,
    Value,
)
from .recent_history import History, QueueHistory

# Queues in one part: small enough that a changed queue causes few others to be sent, large enough that the script that
# checks for all parts takes at most a millisecond for 10,000 queues.
ROWS = 128
BUSY_ROWS = 256
# Maximum size of a part; only a single queue that is larger can exceed it.
PART_BYTES = 256 * 1024
# Up to this many bytes, about 300 queues, the manifest contains the parts.
INLINE_BYTES = 16 * 1024
# A queue that did not change for this many snapshots is no longer busy.
BUSY_FOR = 15
# Maximum size of a decompressed part; ours are far smaller.
MOST_BYTES = 64 * 1024 * 1024
# Prefix of a string that is encoded in hex.
_RAW = "\0raw:"

Rows: TypeAlias = Sequence[Any]
_T = TypeVar("_T")
_encoder = msgspec.msgpack.Encoder()


class QueueRun(Value, frozen=True, kw_only=True, array_like=True):
    """A run of queues: bit n of `busy` is set if its row n is in the busy parts; `parts` contain the others.

    `busy` is little-endian: bit 0 is the lowest bit of the first byte.
    """

    busy: bytes
    parts: tuple[str, ...]


class SnapshotManifest(Value, frozen=True, kw_only=True, array_like=True):
    """A snapshot without its queues, and the names of the parts that contain them."""

    head: Snapshot
    runs: tuple[QueueRun, ...]
    busy: tuple[str, ...]
    inline: dict[str, bytes] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all parts."""
        return (*self.busy, *(name for run in self.runs for name in run.parts))

    def join_parts(self, parts: Mapping[str, Rows]) -> Snapshot:
        """The snapshot. Raises ValueError if the parts do not match the manifest."""
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
    """A history without its queues, and the names of the parts that contain them."""

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
    """Rows in the form in which they are sent: `name` is a digest of `body`."""

    name: str
    body: bytes
    rows: Rows


@dataclass(frozen=True, slots=True)
class PublishedDocument(Generic[_T]):
    """A value in its published form."""

    value: _T
    manifest: bytes
    parts: tuple[SnapshotPart, ...]
    sent: tuple[SnapshotPart, ...]  # those that the manifest does not contain


class DocumentKind(Generic[_T]):
    """How to read one type of value; there are two: HISTORIES and SNAPSHOTS."""

    def __init__(self, manifest: type[SnapshotManifest] | type[HistoryManifest], rows: Any) -> None:
        self.manifests: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(manifest)
        self._rows: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(rows)

    def manifest(self, raw: Any) -> Any | None:
        """Decode `PublishedDocument.manifest`; None if it is missing, of another version, or not ours."""
        if not isinstance(raw, bytes) or not raw.startswith(FORMAT):
            return None
        return decode_value(raw[len(FORMAT) :], self.manifests)

    def rows(self, name: str, body: Any) -> Rows | None:
        """The rows of a part; None if it is missing, or does not match its name."""
        if not isinstance(body, bytes) or name_of(body) != name:
            return None
        inflate = zlib.decompressobj()
        try:
            encoded = inflate.decompress(body, MOST_BYTES)
        except zlib.error:
            return None
        return None if inflate.unconsumed_tail else decode_value(encoded, self._rows)


def name_of(body: bytes) -> str:
    """The name of a part: a digest of its body."""
    return blake2b(body, digest_size=12).hexdigest()


def _layout_digest() -> bytes:
    """A digest that changes with the field names of the published types, since the data does not contain them."""
    kinds = (
        SnapshotManifest,
        QueueRun,
        Snapshot,
        HistoryProblem,
        SourceStats,
        QueueStats,
        Counts,
        NativeCount,
        RateLimit,
        QueueForecast,
        HistoryManifest,
        History,
    )
    fields = [kind.__struct_fields__ for kind in (*kinds, QueueHistory)]
    return blake2b(repr(fields).encode(), digest_size=4).hexdigest().encode()


# Prefix of each manifest: a process of another version ignores what it cannot read.
FORMAT = b"q2" + _layout_digest()
SNAPSHOTS: DocumentKind[Snapshot] = DocumentKind(SnapshotManifest, tuple[QueueStats, ...])
HISTORIES: DocumentKind[History] = DocumentKind(HistoryManifest, tuple[tuple[str, QueueHistory], ...])


class SnapshotCutter:
    """Cuts snapshots into parts; the time each one takes depends on how much changed. Not thread-safe."""

    def __init__(self) -> None:
        self._number = 0
        self._queues: tuple[QueueStats, ...] = ()
        self._changed: list[int] = []  # for each queue, the number of the snapshot in which it last changed
        self._parts: dict[int, tuple[Rows, tuple[SnapshotPart, ...]]] = {}  # by the start of the run

    def cut_snapshot(self, snapshot: Snapshot) -> PublishedDocument[Snapshot]:
        """Cut a snapshot into parts; unchanged parts are the same objects as before."""
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
        """Record changes when queues were added or removed; in the first snapshot, no queue counts as changed."""
        known = {_address_of(queue): (queue, at) for queue, at in zip(self._queues, self._changed, strict=True)}
        changed = []
        for queue in queues:
            before, at = known.get(_address_of(queue), (queue, -BUSY_FOR))
            changed.append(at if queue is before or queue == before else self._number)
        self._changed = changed
        self._parts = {start: kept for start, kept in self._parts.items() if start < len(queues)}

    def _parts_of_run(self, start: int, rows: list[QueueStats]) -> tuple[SnapshotPart, ...]:
        """The parts for the unchanged rows of the run at `start`."""
        former = self._parts.get(start)
        if former is None or former[0] != rows:
            former = self._parts[start] = rows, encode_rows(rows)
        return former[1]


def cut_history(history: History) -> PublishedDocument[History]:
    """Cut a history into parts. Each new point changes all of them."""
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
    """One part, none if there are no rows, and several if one would be larger than PART_BYTES."""
    if not rows:
        return ()
    # Level 1 reduces 10,000 queues to a twentieth of the bytes in 10 ms.
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
    """Encode in MessagePack, which allows only valid UTF-8. Redis keys can be any bytes: such names are sent in hex."""
    try:
        encoded = _encoder.encode(value)
        if _RAW.encode() not in encoded:
            return encoded
    except UnicodeEncodeError:
        pass
    return _encoder.encode(_each_text(msgspec.to_builtins(value, builtin_types=(bytes,)), _to_hex))


def decode_value(encoded: bytes, decoder: msgspec.msgpack.Decoder[_T]) -> _T | None:
    """Decode the output of `encode_value`; None if it is anything else."""
    try:
        if _RAW.encode() not in encoded:
            return decoder.decode(encoded)
        decoded: _T = msgspec.convert(_each_text(msgspec.msgpack.decode(encoded), _from_hex), decoder.type)
    except (msgspec.DecodeError, msgspec.ValidationError, ValueError, RecursionError):
        return None
    return decoded


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """A copy of `value`, made of plain types, with `change` applied to every string."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_each_text(key, change): _each_text(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_each_text(item, change) for item in value]
    return value


def _to_hex(text: str) -> str:
    raw = text.encode("utf-16-le", "surrogatepass")  # lossless for any string
    return f"{_RAW}{raw.hex()}" if text.startswith(_RAW) or _has_surrogates(text) else text


def _from_hex(text: str) -> str:
    return bytes.fromhex(text[len(_RAW) :]).decode("utf-16-le", "surrogatepass") if text.startswith(_RAW) else text


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
