"""How records are stored: one by one in a tail, and by columns in compressed blocks. Pure: no Redis, no clock.

A tail is what a leader appends to: records in MessagePack, each behind its length. A block holds the records of a tail
that grew long: each column as differences in the narrowest type that holds them, its bytes by significance, all of it
compressed. What is not ours, or damaged, is skipped: it costs its own records, never the others.
"""

from __future__ import annotations

import operator
import struct
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain

import msgspec

from .columns import KINDS, Cell, Cells, Merge, Record, SeriesKind, merge_cells
from .histogram import LAST_BUCKET, Histogram

_TAIL_HEAD = struct.Struct("<HB")  # length of what follows the kind; kind
# Version, kind, start of the first and of the last record, step, span of a histogram, number of records, body length.
_BLOCK_HEAD = struct.Struct("<BBIIIIHI")
VERSION = 1
# Decompressed, a block is smaller than this; a damaged one could claim any size.
MAX_BODY_BYTES = 8_000_000
MAX_RECORDS = 65_535
_WIDTHS = "bhiq"
# Larger numbers are unknown: those of hostile counters, which must not fail when they are added up.
_LARGEST = 2**53
_LARGEST_SUM = 2**62
_END_OF_TIME_S = 2**32
_DAMAGE = (struct.error, zlib.error, msgspec.MsgspecError, ValueError, TypeError, IndexError, OverflowError)


class Block(msgspec.Struct, frozen=True, gc=False):
    """A block as it lies in a value: `raw` is the whole of it. Times in seconds since 1970.

    `step_s`: the length of its slots. `span_s`: the time that each of its histograms covers, from the slot that holds
    it; at least `step_s`.
    """

    kind: SeriesKind
    first_s: int
    last_s: int
    step_s: int
    span_s: int
    count: int
    raw: bytes


def encode_record(kind: SeriesKind, record: Record) -> bytes:
    """A record as an entry of a tail, at most 64 KiB."""
    body = msgspec.msgpack.encode([record.start_s, *map(_tail_cell, record.cells)])
    return _TAIL_HEAD.pack(len(body), kind.code) + body


def _tail_cell(cell: Cell) -> int | list[int] | None:
    if isinstance(cell, dict):
        return list(chain(*((bucket, min(count, _LARGEST)) for bucket, count in cell.items())))
    return cell if _is_sound(cell) else None


def decode_tail(kind: SeriesKind, raw: bytes | None) -> list[Record]:
    """The records of a tail in the order in which they were added; those that cannot be read are left out."""
    found: list[Record] = []
    place = 0
    while raw is not None and place + _TAIL_HEAD.size <= len(raw):
        length, code = _TAIL_HEAD.unpack_from(raw, place)
        place += _TAIL_HEAD.size
        if code == kind.code and (record := _decode_record(kind, raw[place : place + length])) is not None:
            found.append(record)
        place += length
    return found


def _decode_record(kind: SeriesKind, body: bytes) -> Record | None:
    try:
        start_s, *cells = msgspec.msgpack.decode(body, type=list[int | list[int] | None])
    except (*_DAMAGE, ValueError):
        return None
    if not isinstance(start_s, int) or not 0 <= start_s < 2**32 or len(cells) != len(kind.columns):
        return None
    # Without a call for each cell: thousands of records are read at a time.
    read: list[Cell] = [
        cell if isinstance(cell, int) and -_LARGEST < cell < _LARGEST else None  # a histogram follows below
        for cell in cells
    ]
    for place in kind.histogram_places:
        cell = cells[place]
        read[place] = _as_histogram(cell[::2], cell[1::2]) if isinstance(cell, list) else None
    return Record(start_s, tuple(read))


def _is_sound(cell: int | None) -> bool:
    return cell is not None and abs(cell) < _LARGEST


def _as_histogram(buckets: Iterable[int], counts: Iterable[int]) -> Histogram | None:
    pairs = zip(buckets, counts, strict=False)
    return {bucket: count for bucket, count in pairs if 0 <= bucket <= LAST_BUCKET and 0 < count <= _LARGEST} or None


def sorted_records(kind: SeriesKind, records: Iterable[Record]) -> list[Record]:
    """Records by time, those with the same start merged: two leaders can each have seen a part of a slot."""
    by_start: dict[int, list[Cells]] = {}
    for record in records:
        by_start.setdefault(record.start_s, []).append(record.cells)
    return [Record(start_s, merge_cells(kind, by_start[start_s])) for start_s in sorted(by_start)]


def encode_block(kind: SeriesKind, records: Sequence[Record], step_s: int, span_s: int) -> bytes:
    """Records by time, at most MAX_RECORDS, as one block; see Block. `records` must not be empty."""
    starts = [record.start_s for record in records]
    parts = [*_encode_numbers(starts)]
    for position, column in enumerate(kind.columns):
        cells = [record.cells[position] for record in records]
        if column.merge is Merge.HISTOGRAM:
            parts.extend(_encode_histograms(cells))
        else:
            parts.extend(_encode_cells(cells))
    body = zlib.compress(msgspec.msgpack.encode(parts), 9)
    return _BLOCK_HEAD.pack(VERSION, kind.code, starts[0], starts[-1], step_s, span_s, len(records), len(body)) + body


def split_blocks(raw: bytes | None) -> list[Block]:
    """The blocks of a value, in their order. What follows a damaged head is left out."""
    found: list[Block] = []
    place = 0
    while raw is not None and place + _BLOCK_HEAD.size <= len(raw):
        version, code, first_s, last_s, step_s, span_s, count, length = _BLOCK_HEAD.unpack_from(raw, place)
        end = place + _BLOCK_HEAD.size + length
        if version != VERSION or code not in KINDS or end > len(raw) or not 0 < step_s <= span_s:
            break
        found.append(Block(KINDS[code], first_s, last_s, step_s, span_s, count, raw[place:end]))
        place = end
    return found


def decode_block(block: Block) -> list[Record]:
    """The records of a block by time; none if it is damaged."""
    return decode_slice(block, 0, _END_OF_TIME_S)


def decode_slice(block: Block, start_s: int, end_s: int) -> list[Record]:
    """The records of a block from `start_s` until before `end_s` by time, and the one before them, whose levels hold
    until the next one; none if it is damaged.

    A small part of a block costs less than `decode_block`: the columns of the others are only added up.
    """
    try:
        body = zlib.decompressobj().decompress(block.raw[_BLOCK_HEAD.size :], MAX_BODY_BYTES)
        parts = iter(msgspec.msgpack.decode(body, type=list[bytes]))
        starts = _decode_numbers(parts, block.count, slice(None))
        wanted = slice(max(0, bisect_left(starts, start_s) - 1), bisect_left(starts, end_s))
        columns = [
            _decode_histograms(parts, block.count, wanted)
            if column.merge is Merge.HISTOGRAM
            else _decode_cells(parts, block.count, wanted)
            for column in block.kind.columns
        ]
    except (*_DAMAGE, StopIteration):
        return []
    return [Record(start_s, cells) for start_s, cells in zip(starts[wanted], zip(*columns, strict=True), strict=True)]


def _encode_numbers(numbers: Sequence[int]) -> Iterator[bytes]:
    """The type and the bytes of the differences between numbers, the first from 0."""
    differences = list(map(operator.sub, numbers, chain((0,), numbers)))
    widest = max(map(abs, differences), default=0)
    code = next(code for code in _WIDTHS if widest < 1 << (8 * array(code).itemsize - 1))
    raw = array(code, differences).tobytes()
    size = array(code).itemsize
    yield code.encode()
    # All lowest bytes first, then all second ones: the higher ones are mostly 0.
    yield b"".join(raw[place::size] for place in range(size))


def _decode_numbers(parts: Iterator[bytes], count: int, wanted: slice) -> list[int]:
    code, planes = next(parts).decode("ascii"), next(parts)
    numbers = array(code if code in _WIDTHS else "")
    size = numbers.itemsize
    if len(planes) != count * size:
        raise ValueError("a column of another length")
    raw = bytearray(len(planes))
    for place in range(size):
        raw[place::size] = planes[place * count : (place + 1) * count]
    numbers.frombytes(bytes(raw))
    first = sum(numbers[: wanted.start or 0])
    return list(accumulate(numbers[wanted], initial=first))[1:]


def _encode_cells(cells: Sequence[Cell]) -> Iterator[bytes]:
    """Which cells are known, then their numbers; an unknown one repeats the number before it."""
    sound = [cell if isinstance(cell, int) and abs(cell) < _LARGEST_SUM else None for cell in cells]
    numbers: list[int] = []
    last = 0
    for cell in sound:
        last = last if cell is None else cell
        numbers.append(last)
    yield b"" if None not in sound else bytes(cell is not None for cell in sound)
    yield from _encode_numbers(numbers)


def _decode_cells(parts: Iterator[bytes], count: int, wanted: slice) -> Sequence[Cell]:
    known = next(parts)
    numbers = _decode_numbers(parts, count, wanted)
    if not known:
        return numbers
    return [number if is_known else None for number, is_known in zip(numbers, known[wanted], strict=True)]


def _encode_histograms(cells: Sequence[Cell]) -> Iterator[bytes]:
    """The number of buckets of each cell, then all buckets, then their counts."""
    ordered = [sorted(cell.items()) if isinstance(cell, dict) else [] for cell in cells]
    yield from _encode_numbers([len(pairs) for pairs in ordered])
    yield from _encode_numbers([bucket for pairs in ordered for bucket, _ in pairs])
    yield from _encode_numbers([min(count, _LARGEST) for pairs in ordered for _, count in pairs])


def _decode_histograms(parts: Iterator[bytes], count: int, wanted: slice) -> Sequence[Cell]:
    lengths = _decode_numbers(parts, count, slice(None))
    if min(lengths, default=0) < 0:
        raise ValueError("a negative number of buckets")
    before, inside = sum(lengths[: wanted.start]), lengths[wanted]
    pairs = slice(before, before + sum(inside))
    total = sum(lengths)
    buckets, counts = _decode_numbers(parts, total, pairs), _decode_numbers(parts, total, pairs)
    # Checked all at once: a loop over each of them took most of the time.
    is_sound = not buckets or (
        0 <= min(buckets) <= max(buckets) <= LAST_BUCKET and min(counts) > 0 and max(counts) < _LARGEST
    )
    read = _sound_histogram if is_sound else _as_histogram
    found: list[Cell] = []
    place = 0
    for length in inside:
        found.append(read(buckets[place : place + length], counts[place : place + length]))
        place += length
    return found


def _sound_histogram(buckets: Iterable[int], counts: Iterable[int]) -> Histogram | None:
    return dict(zip(buckets, counts, strict=True)) or None
