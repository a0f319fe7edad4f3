"""Writes the demo's past into the history of its own Redis, before any checker runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from ...alerts.keys import EPISODES
from ...history.columns import CLASS, QUEUE, SOURCE, Record
from ...history.encoding import encode_block
from ...history.history_writer import ttl_ms
from ...history.series_keys import IDS, SAMPLE_END, SeriesKey, StoredAs, blocks_key, pack_key
from ...history.tiers import CLASS_HOURS, CLASS_QUARTERS, DAY_S, FINE, HOUR_S, MINUTES, QUARTERS, Tier, slot_of
from ...marks.mark_store import MarkStore
from ...model import Mark
from ...sources.source import Command, Source
from ...store.packing import pack
from ...store.redis_store import Store
from .alerts import alert_entries
from .classes import class_records, merge_hours
from .queues import QUEUES
from .week import DAYS, Past, PastSlot

SOURCE_NAME = "main"  # of a dashboard that has one redis_url
MARKED_BY = "demo"

LONGEST_STEP_S = 1800


class _Part(NamedTuple):
    """The slots of a tier between two times, in seconds before now."""

    tier: Tier
    from_s: int
    until_s: int
    step_s: int


def write_past(redis_url: str, processes: Collection[str], now_s: float, days: int = DAYS) -> int:
    """Write the `days` before `now_s` of the queues whose jobs `processes` add, and of their classes, with the alerts
    and the deploys of that time; the number of series.

    Raises BackendUnavailable, Forbidden. Cost: 1 round trip of about 3 values of 10 kB for each series, 1 for the
    alerts, and 1 for each deploy.
    """
    past = Past([queue for queue in QUEUES if queue.process in processes], now_s, days)
    values: dict[SeriesKey, dict[Tier, bytes]] = {}
    quarters: list[PastSlot] = []
    for part in _parts(days):
        begin_s, end_s = (slot_of(now_s - before_s, LONGEST_STEP_S) for before_s in (part.from_s, part.until_s))
        if not part.until_s:
            end_s = slot_of(now_s, part.step_s)
        slots = list(past.slots(begin_s, end_s, part.step_s))
        if part.tier is QUARTERS:
            quarters += slots
        for key, encoded in _encode(_records_of(past, slots), part.step_s).items():
            of_key = values.setdefault(key, {})
            of_key[part.tier] = of_key.get(part.tier, b"") + encoded
    values |= _encode_classes(past, quarters, now_s)
    source = Source(SOURCE_NAME, redis_url)
    try:
        source.run_batch(_commands(values, now_s))
        source.run_batch(_alert_commands(past))
        marks = MarkStore(Store(source))
        for deploy in past.deploys:
            marks.add_mark(Mark(at=deploy.at, text="deploy", version=deploy.version, who=MARKED_BY))
    finally:
        source.close()
    return len(values)


def _encode(records: Mapping[SeriesKey, list[Record]], step_s: int) -> dict[SeriesKey, bytes]:
    encoded: dict[int, bytes] = {}  # by list: two series have the same
    for key, of_key in records.items():
        if id(of_key) not in encoded:
            encoded[id(of_key)] = encode_block(key.kind, of_key, step_s, step_s)
    return {key: encoded[id(of_key)] for key, of_key in records.items()}


def _encode_classes(past: Past, quarters: Sequence[PastSlot], now_s: float) -> dict[SeriesKey, dict[Tier, bytes]]:
    """The values of all job classes, from the slots of the coarsest tier of queues."""
    newest_s = now_s - CLASS_QUARTERS.keep_s
    found: dict[SeriesKey, dict[Tier, bytes]] = {}
    for queue in past.queues:
        for one, records in class_records(past, queue, quarters).items():
            parts = {
                CLASS_QUARTERS: [record for record in records if record.start_s >= newest_s],
                CLASS_HOURS: merge_hours(records),
            }
            found[SeriesKey(CLASS, SOURCE_NAME, queue.backend, queue.name, one.name)] = {
                tier: encode_block(CLASS, of_tier, tier.step_s, tier.step_s) for tier, of_tier in parts.items()
            }
    return found


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


def _alert_commands(past: Past) -> list[Command]:
    """What adds the alert history; its entries have the times at which a leader would have added them."""
    entries = alert_entries(past, SOURCE_NAME)
    return [
        ("XADD", EPISODES, f"{int(entry.at * 1000)}-{place}", "e", pack(entry)) for place, entry in enumerate(entries)
    ]


def _commands(values: Mapping[SeriesKey, Mapping[Tier, bytes]], now_s: float) -> list[Command]:
    commands: list[Command] = [("SET", SAMPLE_END, str(int(now_s)), "PX", ttl_ms(QUARTERS))]
    for number, (key, of_key) in enumerate(values.items(), 1):
        size = sum(map(len, of_key.values()))
        commands.append(("HSET", IDS, pack_key(key), StoredAs(number, size).text))
        for tier, raw in of_key.items():
            commands.append(("SET", blocks_key(tier.name, number), raw, "PX", ttl_ms(tier)))
    return commands
