"""The demo's past: a believable week that ends now, in the demo's own Redis and nowhere else."""

from __future__ import annotations

import redis

from dashboard.demo.embedded import EmbeddedRedis
from dashboard.demo.past import FAILED, QUEUES, SLOWED, Past, PastQueue
from dashboard.demo.past_writing import SOURCE_NAME, write_past
from dashboard.history.columns import QUEUE, SOURCE
from dashboard.history.histogram import percentiles
from dashboard.history.history_reader import HistoryReader, choose_range
from dashboard.history.series_keys import SAMPLE_END, SeriesKey
from dashboard.history.slots import figure_values
from dashboard.history.tiers import DAY_S, HOUR_S
from dashboard.sources.source import Source
from dashboard.store.redis_store import Store

NOW_S = 1_700_040_000 + 7 * 60 + 13
KEYS = {queue.name: SeriesKey(QUEUE, SOURCE_NAME, queue.backend, queue.name) for queue in QUEUES if queue.name != "*"}


def queue_of(name: str) -> PastQueue:
    return next(queue for queue in QUEUES if queue.name == name)


def cells_of(past: Past, span: tuple[int, int], name: str, column: str) -> list[object]:
    place, cell = past.queues.index(queue_of(name)), QUEUE.index_of(column)
    return [slot.queues[place][cell] for slot in past.slots(*span, 900)]


def median_s(past: Past, span: tuple[int, int]) -> float:
    drawn = [cell for cell in cells_of(past, span, SLOWED, "runtimes") if isinstance(cell, dict)]
    return sorted(percentiles(each, [0.5])[0] or 0 for each in drawn)[len(drawn) // 2]


def test_the_week_tells_its_story() -> None:
    past = Past(QUEUES, NOW_S)
    begin_s, end_s = past.slowdown
    assert median_s(past, past.slowdown) > 2 * median_s(past, (begin_s - 22 * HOUR_S, begin_s))
    assert median_s(past, (end_s, end_s + 6 * HOUR_S)) < 1.3 * queue_of(SLOWED).runtime_s
    begin_s, end_s = past.failures
    assert sum(cells_of(past, past.failures, FAILED, "failed")) > 500  # type: ignore[arg-type]
    assert max(cells_of(past, past.failures, FAILED, "dead")) == 300  # type: ignore[type-var]
    assert sum(cells_of(past, (end_s, end_s + DAY_S), FAILED, "failed")) == 0  # type: ignore[arg-type]
    assert not list(past.slots(*past.outage, 900))
    assert past.start_s < past.outage[0] < past.outage[1] < past.failures[0] < past.slowdown[0]
    assert past.slowdown[1] < NOW_S - HOUR_S


def test_every_day_has_its_rhythm_and_the_last_figures_are_those_of_the_demo() -> None:
    past = Past(QUEUES, NOW_S)
    finished = QUEUE.index_of("finished")
    days = [
        [slot.total[finished] or 0 for slot in past.slots(at, at + DAY_S, 900)]
        for at in range(past.start_s, int(NOW_S) - DAY_S, DAY_S)
    ]
    assert len(days) >= 6
    for totals in days:
        assert 1.5 < max(totals) / min(totals) < 4  # type: ignore[type-var, operator]
    last = list(past.slots(int(NOW_S) - HOUR_S, int(NOW_S), 60))
    for place, queue in enumerate(QUEUES):
        if "finished" in queue.reported:
            rate = sum(slot.queues[place][finished] for slot in last) / len(last)  # type: ignore[misc]
            assert 0.6 * queue.per_min < rate < 1.5 * queue.per_min, queue.name


def test_it_is_read_like_any_history_and_only_its_own_keys_are_written(
    source: Source, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    redis_client.set("theirs", "untouched")
    processes = {queue.process for queue in QUEUES} - {"Sidekiq"}
    assert write_past(server.url, processes, NOW_S) == len(KEYS) - 2 + 4
    written = {key.decode() for key in redis_client.scan_iter()} - {"theirs"}
    assert written
    assert all(key.startswith("{queuedeck}:ts:") for key in written)
    assert all(redis_client.ttl(key) > HOUR_S for key in written if not key.endswith(":ids"))
    reader = HistoryReader(Store(source))
    assert reader.read_sample_end() == int(NOW_S)
    assert redis_client.exists(SAMPLE_END)
    mail, everything = KEYS["mails"], SeriesKey(QUEUE)
    for length_s, most_gaps in ((HOUR_S, 2), (6 * HOUR_S, 2), (DAY_S, 1), (7 * DAY_S, 5)):
        wanted = choose_range(QUEUE, NOW_S - length_s, NOW_S, NOW_S)
        slots = reader.read_slots([mail, everything, SeriesKey(SOURCE, SOURCE_NAME)], wanted, NOW_S)
        rates = figure_values(QUEUE, "throughput_per_min", slots[mail])
        assert rates.count(None) <= most_gaps, length_s
        assert 100 < sorted(rate for rate in rates if rate is not None)[len(rates) // 2] < 400
        assert None not in figure_values(QUEUE, "runtime_p95_s", slots[mail])[:3]
        assert max(filter(None, figure_values(QUEUE, "depth", slots[everything]))) > 20
        assert max(filter(None, figure_values(SOURCE, "used_memory_bytes", slots[SeriesKey(SOURCE, SOURCE_NAME)]))) > 0
