"""Writes the demo's past into the history of its own Redis, before any checker runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from ..history.columns import QUEUE, SOURCE, Record
from ..history.encoding import encode_block
from ..history.history_writer import ttl_ms
from ..history.series_keys import IDS, SAMPLE_END, SeriesKey, StoredAs, blocks_key, pack_key
from ..history.tiers import DAY_S, FINE, HOUR_S, MINUTES, QUARTERS, Tier, slot_of
from ..sources.source import Command, Source
from .past import DAYS, QUEUES, Past, PastSlot

SOURCE_NAME = "main"  # of a dashboard that has one redis_url

LONGEST_STEP_S = 1800


class _Part(NamedTuple):
    """The slots of a tier between two times, in seconds before now."""

    tier: Tier
    from_s: int
    until_s: int
    step_s: int


def write_past(redis_url: str, processes: Collection[str], now_s: float, days: int = DAYS) -> int:
    """Write the `days` before `now_s` of the queues whose jobs `processes` add; the number of series.

    Raises BackendUnavailable, Forbidden. Cost: 1 round trip of about 3 values of 10 kB for each series.
    """
    past = Past([queue for queue in QUEUES if queue.process in processes], now_s, days)
    values: dict[SeriesKey, dict[Tier, bytes]] = {}
    for part in _parts(days):
        begin_s, end_s = (slot_of(now_s - before_s, LONGEST_STEP_S) for before_s in (part.from_s, part.until_s))
        if not part.until_s:
            end_s = slot_of(now_s, part.step_s)
        encoded: dict[int, bytes] = {}  # by list: two series have the same
        for key, records in _records_of(past, list(past.slots(begin_s, end_s, part.step_s))).items():
            if id(records) not in encoded:
                encoded[id(records)] = encode_block(key.kind, records, part.step_s, part.step_s)
            of_key = values.setdefault(key, {})
            of_key[part.tier] = of_key.get(part.tier, b"") + encoded[id(records)]
    source = Source(SOURCE_NAME, redis_url)
    try:
        source.run_batch(_commands(values, now_s))
    finally:
        source.close()
    return len(values)


def _parts(days: int) -> tuple[_Part, ...]:
    """Older slots are written in the steps of the charts that reach back to them: half an hour in one of 7 days."""
    return (
        _Part(QUARTERS, days * DAY_S, 2 * DAY_S, 1800),
        _Part(QUARTERS, 2 * DAY_S, 0, 900),
        _Part(MINUTES, 2 * DAY_S, DAY_S, 600),
        _Part(MINUTES, DAY_S, 6 * HOUR_S, 300),
        _Part(MINUTES, 6 * HOUR_S, 0, 60),
        _Part(FINE, HOUR_S, 0, 10),
    )


def _records_of(past: Past, slots: list[PastSlot]) -> Mapping[SeriesKey, list[Record]]:
    """The records of all series of the demo, of which only the first source is one."""
    total = [Record(slot.start_s, slot.total) for slot in slots]
    found: dict[SeriesKey, list[Record]] = {
        SeriesKey(QUEUE, SOURCE_NAME, queue.backend, queue.name): [
            Record(slot.start_s, slot.queues[place]) for slot in slots
        ]
        for place, queue in enumerate(past.queues)
    }
    found[SeriesKey(QUEUE)] = found[SeriesKey(QUEUE, SOURCE_NAME)] = total
    found[SeriesKey(SOURCE, SOURCE_NAME)] = [Record(slot.start_s, slot.source) for slot in slots]
    nothing = (None,) * (len(SOURCE.columns) - 1)
    found[SeriesKey(SOURCE)] = [Record(slot.start_s, (slot.source[0], *nothing)) for slot in slots]
    return found


def _commands(values: Mapping[SeriesKey, Mapping[Tier, bytes]], now_s: float) -> list[Command]:
    commands: list[Command] = [("SET", SAMPLE_END, str(int(now_s)), "PX", ttl_ms(QUARTERS))]
    for number, (key, of_key) in enumerate(values.items(), 1):
        size = sum(map(len, of_key.values()))
        commands.append(("HSET", IDS, pack_key(key), StoredAs(number, size).text))
        for tier, raw in of_key.items():
            commands.append(("SET", blocks_key(tier.name, number), raw, "PX", ttl_ms(tier)))
    return commands
