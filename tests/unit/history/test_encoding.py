"""Records as they are stored."""

from __future__ import annotations

import random

import pytest

from dashboard.history.columns import CLASS, KINDS, QUEUE, SOURCE, Cell, Merge, Record, SeriesKind
from dashboard.history.encoding import (
    Block,
    decode_block,
    decode_tail,
    encode_block,
    encode_record,
    sorted_records,
    split_blocks,
)


def random_cell(die: random.Random, merge: Merge) -> Cell:
    if die.random() < 0.2:
        return None
    if merge is Merge.HISTOGRAM:
        return {bucket: die.randrange(1, 1000) for bucket in sorted(die.sample(range(256), die.randrange(1, 20)))}
    return die.choice((0, 1, die.randrange(300), die.randrange(2**40), -5))


def random_records(die: random.Random, kind: SeriesKind, count: int) -> list[Record]:
    starts = sorted(die.sample(range(100_000_000, 170_000_000), count))
    return [Record(start * 10, tuple(random_cell(die, column.merge) for column in kind.columns)) for start in starts]


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_records_come_back(kind: SeriesKind, seed: int) -> None:
    die = random.Random(seed)
    for count in (1, 2, 97):
        records = random_records(die, kind, count)
        assert decode_tail(kind, b"".join(encode_record(kind, record) for record in records)) == records
        (block,) = split_blocks(encode_block(kind, records, 10, 40))
        assert (block.kind, block.first_s, block.last_s) == (kind, records[0].start_s, records[-1].start_s)
        assert (block.step_s, block.span_s, block.count) == (10, 40, count)
        assert decode_block(block) == records


def test_of_a_tail_only_its_own_kind_is_read(seed: int) -> None:
    die = random.Random(seed)
    (source,), (queue,) = random_records(die, SOURCE, 1), random_records(die, QUEUE, 1)
    raw = encode_record(SOURCE, source) + encode_record(QUEUE, queue)
    assert decode_tail(QUEUE, raw) == [queue]
    assert decode_tail(CLASS, raw) == []
    assert decode_tail(QUEUE, None) == []


def test_damaged_bytes_cost_only_what_they_damaged(seed: int) -> None:
    die = random.Random(seed)
    records = random_records(die, QUEUE, 30)
    tail = b"".join(encode_record(QUEUE, record) for record in records)
    blocks = encode_block(QUEUE, records[:10], 10, 10) + encode_block(QUEUE, records[10:], 10, 10)
    for raw in (tail, blocks):
        for _ in range(300):
            place = die.randrange(len(raw))
            damaged = raw[:place] + die.randbytes(die.randrange(4)) + raw[place + die.randrange(4) :]
            found = decode_tail(QUEUE, damaged)
            found += [record for block in split_blocks(damaged) for record in decode_block(block)]
            for record in found:
                assert len(record.cells) == len(QUEUE.columns)
    first, second = split_blocks(blocks)
    broken = Block(first.kind, first.first_s, first.last_s, 10, 10, first.count, first.raw[:-5] + b"\0" * 5)
    assert decode_block(broken) in ([], records[:10])
    assert decode_block(second) == records[10:]


def test_a_block_cannot_grow_without_bound() -> None:
    import zlib

    from dashboard.history.encoding import MAX_BODY_BYTES

    bomb = zlib.compress(b"\0" * (MAX_BODY_BYTES * 3), 9)
    (block,) = split_blocks(encode_block(SOURCE, [Record(0, (None,) * len(SOURCE.columns))], 10, 10))
    head = block.raw[: len(block.raw) - int.from_bytes(block.raw[20:24], "little")]
    assert decode_block(Block(SOURCE, 0, 0, 10, 10, 1, head + bomb)) == []


def test_records_of_the_same_slot_become_one() -> None:
    def record(start_s: int, finished: int, depth: int) -> Record:
        cells = dict.fromkeys(QUEUE.names) | {"finished": finished, "depth": depth}
        return Record(start_s, tuple(cells.values()))

    found = sorted_records(QUEUE, [record(20, 1, 5), record(10, 2, 3), record(20, 4, 4)])
    assert found == [record(10, 2, 3), record(20, 5, 5)]
