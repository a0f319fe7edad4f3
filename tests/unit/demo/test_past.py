"""The demo's past: a believable week that ends now, in the demo's own Redis and nowhere else."""

from __future__ import annotations

from pathlib import Path

import redis

from dashboard.alerts.keys import EPISODES
from dashboard.alerts.service import build_alert_service
from dashboard.clock import now_s
from dashboard.demo import celery_work, shop
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.demo.past.classes import class_records, merge_hours
from dashboard.demo.past.queues import FAILED, HEAVIER, QUEUES, SLOWED, PastQueue
from dashboard.demo.past.week import Past
from dashboard.demo.past.writing import MARKED_BY, SOURCE_NAME, write_past
from dashboard.history.classes.changes import Regression
from dashboard.history.classes.reader import ClassReader
from dashboard.history.columns import CLASS, QUEUE, SOURCE
from dashboard.history.histogram import percentiles
from dashboard.history.history_reader import HistoryReader, choose_range
from dashboard.history.series_keys import SAMPLE_END, SeriesKey
from dashboard.history.slots import figure_values
from dashboard.history.tiers import DAY_S, HOUR_S, slot_of
from dashboard.marks.mark_store import MARKS, MarkStore
from dashboard.settings import Settings
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
    place = past.queues.index(queue_of(SLOWED))
    cells = [slot.queues[place] for slot in past.slots(*past.slowdown, 900)]
    depth, added, ended = ([each[QUEUE.index_of(name)] for each in cells] for name in ("depth", "enqueued", "finished"))
    assert sum(added) - sum(ended) == depth[-1] - depth[0]  # type: ignore[arg-type, operator]
    assert max(cells_of(past, past.slowdown, SLOWED, "active")) == 2  # type: ignore[type-var]
    waits = [percentiles(cell, [0.95])[0] for cell in cells_of(past, past.slowdown, SLOWED, "waits") if cell]
    assert max(waits) > 20  # type: ignore[arg-type, type-var, operator]
    whole = [slot.total[QUEUE.index_of("runtimes")] for slot in past.slots(past.start_s, int(NOW_S), 1800)]
    assert len({percentiles(cell, [0.5])[0] for cell in whole if isinstance(cell, dict)}) > 1
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


def test_its_classes_are_those_of_the_workers() -> None:
    folder = Path(shop.__file__).parent
    written = "".join((folder / name).read_text() for name in ("bullmq_work.py", "node/worker.mjs"))
    for queue in QUEUES:
        for one in queue.classes:
            match queue.backend:
                case "rq":
                    assert one.name == f"{shop.__name__}.{getattr(shop, one.name.rpartition('.')[2]).__name__}"
                case "celery":
                    assert one.name in celery_work.app.tasks
                case _:
                    assert f'"{one.name}"' in written or f"'{one.name}'" in written, one.name


def test_classes_share_the_jobs_of_their_queue_and_only_one_of_them_is_slow() -> None:
    past = Past(QUEUES, NOW_S)
    queue, finished = queue_of(SLOWED), QUEUE.index_of("finished")
    before_s, (begin_s, end_s) = past.slowdown[0] - 6 * HOUR_S, past.slowdown
    slots = list(past.slots(before_s, end_s, 900))
    records = class_records(past, queue, slots)
    each = [[record.cells[CLASS.index_of("finished")] for record in of_class] for of_class in records.values()]
    assert [sum(jobs) for jobs in zip(*each, strict=True)] == [  # type: ignore[arg-type]
        slot.queues[QUEUES.index(queue)][finished] for slot in slots
    ]
    slower = {}
    for one, of_class in records.items():
        drawn = [(record.start_s >= begin_s, record.cells[-1]) for record in of_class]
        early, late = (
            [
                percentiles(cell, [0.95])[0] or 0
                for is_late, cell in drawn
                if is_late is wanted and isinstance(cell, dict)
            ]
            for wanted in (False, True)
        )
        slower[one.name] = (sum(late) / len(late)) / (sum(early) / len(early))
        hours = merge_hours(of_class)
        assert [record.start_s for record in hours] == sorted({slot_of(slot.start_s, 7200) for slot in slots})
        assert sum(record.cells[2] for record in hours) == sum(record.cells[2] for record in of_class)  # type: ignore[misc]
    assert slower["index"] > 2
    assert 0.8 < slower["reindex"] < 1.2


def test_deploys_are_marked_as_those_of_the_demo(source: Source, server: EmbeddedRedis) -> None:
    now = now_s()
    write_past(server.url, {"BullMQ in Node", "Sidekiq"}, now)
    marks = MarkStore(Store(source)).list_marks(0, now)
    assert [(mark.text, mark.version, mark.who) for mark in marks] == [
        ("deploy", version, MARKED_BY) for version in ("v412", "v411", "v410", "v409")
    ]
    past = Past([], now)
    newest, mended, slowed, _ = marks
    for mark, changed_s in ((newest, past.heavier_s), (mended, past.slowdown[1]), (slowed, past.slowdown[0])):
        assert 0 < changed_s - mark.at < 60
    assert 2.5 * HOUR_S < now - newest.at < 3.5 * HOUR_S


def test_alerts_fire_and_resolve_with_what_happens(source: Source, server: EmbeddedRedis) -> None:
    now = now_s()
    write_past(server.url, {"BullMQ in Python"}, now)
    reader = build_alert_service(Settings(), Store(source)).past_alerts
    past = Past(QUEUES, now)
    for begin_s, end_s, rules in (
        (*past.outage, {"redis-unreachable"}),
        (*past.failures, {"queue-errors", "queue-dead"}),
        (*past.slowdown, {"queue-slower", "class-slower"}),
    ):
        during, after = reader.firing_at(end_s - 600), reader.firing_at(end_s + 3 * HOUR_S)
        assert {alert.entry.rule_id for alert in during.firing} == rules
        assert all(0 < alert.started_at - begin_s < HOUR_S for alert in during.firing)
        assert after.firing == ()
        assert rules <= {past.newest.known.rule_id for past in after.history}


def test_it_is_read_like_any_history_and_only_its_own_keys_are_written(
    source: Source, server: EmbeddedRedis, redis_client: redis.Redis
) -> None:
    redis_client.set("theirs", "untouched")
    processes = {queue.process for queue in QUEUES} - {"Sidekiq"}
    classes = sum(len(queue.classes) for queue in QUEUES if queue.process in processes)
    assert write_past(server.url, processes, NOW_S) == len(KEYS) - 2 + 4 + classes
    written = {key.decode() for key in redis_client.scan_iter()} - {"theirs", MARKS, EPISODES}
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
    check_classes(ClassReader(Store(source)))


def check_classes(reader: ClassReader) -> None:
    """The class that is slower since the last deploy comes first, and no other became worse."""
    deploy = Past([], NOW_S).deploys[-1]
    for range_s in (HOUR_S, DAY_S):
        ranking = reader.read_ranking(range_s, NOW_S, since_s=deploy.at)
        first, *others = ranking.rows
        assert first.key.queue == HEAVIER
        assert first.since_change.regressions == (Regression.SLOWER,)
        assert not any(row.severity for row in others)
        assert len(ranking.rows) == sum(len(queue.classes) for queue in QUEUES)
        for row in ranking.rows:
            per_min = next(
                queue.per_min * one.share
                for queue in QUEUES
                for one in queue.classes
                if (queue.name, one.name) == (row.key.queue, row.key.job_class)
            )
            assert 0.5 * per_min < (row.figures.per_min or 0) < 1.6 * per_min, row.key
    assert not reader.read_ranking(7 * DAY_S, NOW_S).unread
