"""Figures per class of Sidekiq 7 and 8, from `tests/payloads`: Debian's 6.4 keeps none."""

from __future__ import annotations

import json
import struct
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from dashboard.backends.sidekiq import job_class_metrics
from dashboard.backends.sidekiq.backend import Sidekiq
from dashboard.model import ClassBoard, ClassStats, Quality
from dashboard.sources.metering import measure_cost
from dashboard.sources.source import Source
from tests.contract.test_sidekiq import backend, discover, enqueue, payload

__all__ = ["backend"]
PAYLOADS = Path(__file__).parent.parent / "payloads"
VERSIONS = ("7.3.9", "8.1.7")
MAILER = ClassStats(
    name="Shop::Mailer",
    runs=14,
    failed=2,
    runtime_mean_s=2.0 / 12,
    runtime_p50_below_s=0.1,
    runtime_p95_below_s=None,  # one of twelve took longer than the last bucket
)
ODD = ClassStats(
    name="Odd|Name",
    runs=1,
    failed=0,
    runtime_mean_s=0.015,
    runtime_p50_below_s=0.02,
    runtime_p95_below_s=0.02,
)
PDF = ClassStats(name="Pdf", runs=3, failed=3)


@pytest.fixture(autouse=True)
def fixed_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the clock to the time of the payloads: seven minutes past midnight."""
    at = datetime.fromisoformat("2026-11-05T00:07:30+00:00").timestamp()
    monkeypatch.setattr(Source, "now_s", lambda _: at)


def store_metrics(client: redis.Redis, version: str, *, prefix: str = "") -> None:
    """Write the keys of a payload."""
    found: dict[str, Any] = json.loads((PAYLOADS / f"sidekiq-{version}-metrics.json").read_text())
    assert (found["version"], found["at"]) == (version, "2026-11-05T00:07:30Z")
    for key, fields in found["hashes"].items():
        client.hset(prefix + key, mapping=fields)
    for key, digits in found["strings"].items():
        client.set(prefix + key, bytes.fromhex(digits))


def read_board(backend: Sidekiq, name: str = "*") -> ClassBoard:
    """The class figures, which must exist."""
    found = backend.read_class_stats(discover(backend)[name])
    assert found is not None
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_an_hour_of_a_version_is_added_up_by_class(backend: Sidekiq, any_redis: redis.Redis, version: str) -> None:
    enqueue(any_redis, payload())
    store_metrics(any_redis, version)
    before = {key: any_redis.dump(key) for key in any_redis.scan_iter()}
    found = read_board(backend)
    assert found.classes == (MAILER, ODD, PDF)
    assert (found.total, found.span_s, found.cut) == (3, 3600, False)
    assert read_board(backend, "mails") == found
    assert {key: any_redis.dump(key) for key in any_redis.scan_iter()} == before


def test_two_versions_at_once_are_added_up(backend: Sidekiq, any_redis: redis.Redis) -> None:
    enqueue(any_redis, payload())
    for version in VERSIONS:
        store_metrics(any_redis, version)
    mailer = read_board(backend).classes[0]
    assert (mailer.runs, mailer.failed, mailer.runtime_p50_below_s) == (28, 4, 0.1)
    assert mailer.runtime_mean_s == pytest.approx(MAILER.runtime_mean_s)


def test_a_namespace_has_its_own_class_figures(backend: Sidekiq, any_redis: redis.Redis) -> None:
    enqueue(any_redis, payload())
    enqueue(any_redis, payload(), prefix="app:")
    store_metrics(any_redis, "7.3.9", prefix="app:")
    assert backend.read_class_stats(discover(backend)["*"]) is None
    assert read_board(backend, "app:*").classes == (MAILER, ODD, PDF)


def test_missing_class_figures_cost_one_round_trip(backend: Sidekiq, any_redis: redis.Redis) -> None:
    enqueue(any_redis, payload())
    ref = discover(backend)["*"]
    with measure_cost() as meter:
        assert backend.read_class_stats(ref) is None
    assert meter.round_trips == 1
    store_metrics(any_redis, "8.1.7")
    with measure_cost() as meter:
        backend.read_class_stats(ref)
    assert meter.round_trips == 2


def test_odd_class_figures_do_not_affect_others(backend: Sidekiq, any_redis: redis.Redis) -> None:
    enqueue(any_redis, payload())
    store_metrics(any_redis, "8.1.7")
    any_redis.set("j|261105|0:06", "no hash")
    any_redis.hset("j|261105|0:05", mapping={"Bad|p": "x", "|p": "1", "alone": "2", b"\xff<b>|p": "1", "Pdf|z": "9"})
    any_redis.delete("h|Odd|Name-5-0:7")
    any_redis.hset("h|Odd|Name-5-0:7", "a", "b")
    any_redis.append("h|Shop::Mailer-5-0:7", b"\x01")
    found = {each.name: each for each in read_board(backend).classes}
    assert found.pop("\udcff<b>").runs == 1
    assert found.pop("Bad").runs == 0
    assert found["Odd|Name"].runtime_p50_below_s is None
    assert (found["Shop::Mailer"], found["Pdf"]) == (MAILER, PDF)


def test_of_many_classes_the_slowest_are_listed(
    backend: Sidekiq, any_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(any_redis, payload())
    fields = {f"C{n}|{what}": n for n in range(1, 3001) for what in ("p", "ms")}
    any_redis.hset("j|261105|0:07", mapping=fields)
    found = read_board(backend)
    assert (len(found.classes), found.cut) == (50, True)
    assert found.total < 3000
    monkeypatch.setattr(job_class_metrics, "FIELDS", 10_000)
    found = read_board(backend)
    assert [each.name for each in found.classes[:2]] == ["C3000", "C2999"]
    assert (found.total, found.cut) == (3000, False)


@pytest.mark.parametrize(
    ("version", "minute", "times"),
    [("7.3.9", "j|20261105|0:7", "{}-05-00:7"), ("8.1.7", "j|261105|0:07", "h|{}-5-0:7")],
)
def test_a_sample_counts_what_was_added_since_the_last(
    backend: Sidekiq, any_redis: redis.Redis, version: str, minute: str, times: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue(any_redis, payload())
    any_redis.mset({"stat:processed": 100, "stat:failed": 10})
    store_metrics(any_redis, version)
    ref = discover(backend)["*"]
    _, cursor = backend.read_flow([ref], None)

    def classes() -> dict[str, tuple[int, int, tuple[float, ...]]]:
        nonlocal cursor
        delta, cursor = backend.read_flow([ref], cursor)
        (flow,) = delta.queues
        assert (flow.quality, flow.classes_quality) == (Quality.ESTIMATED, Quality.ESTIMATED)
        return {one.job_class: (one.completed, one.dead, one.runtimes_s) for one in flow.classes or ()}

    with measure_cost() as meter:
        assert classes() == {}
    assert meter.round_trips == 1
    any_redis.hincrby(minute, "Shop::Mailer|p", 5)
    any_redis.hincrby(minute, "Shop::Mailer|f", 1)
    any_redis.hincrby(minute, "New|p", 300)
    # 290 took 20 to 30 ms, ten 65 to 100 ms; of the first class it is not known which are of the last sample.
    any_redis.set(times.format("New"), b"\0\0" + struct.pack(">4H", 290, 0, 0, 10))
    found = classes()
    assert found["Shop::Mailer"] == (4, 1, ())
    completed, dead, runtimes_s = found["New"]
    assert (completed, dead, len(runtimes_s)) == (300, 0, 200)
    assert sorted({round(time_s, 4): runtimes_s.count(time_s) for time_s in runtimes_s}.items()) == [
        (0.0245, 193),
        (0.0816, 7),
    ]
    any_redis.hincrby(minute, "Shop::Mailer|p", 2)
    any_redis.bitfield(times.format("Shop::Mailer")).incrby("u16", "#0", 2).execute()
    assert classes()["Shop::Mailer"] == (2, 0, (pytest.approx(0.0163, abs=1e-4),) * 2)
    # The next minute begins, and a process whose clock is late writes to the last one.
    at = datetime.fromisoformat("2026-11-05T00:08:01+00:00").timestamp()
    monkeypatch.setattr(Source, "now_s", lambda _: at)
    any_redis.hincrby(minute, "Shop::Mailer|p", 3)
    any_redis.hincrby(minute.replace("0:7", "0:8").replace("0:07", "0:08"), "Shop::Mailer|p", 4)
    assert classes()["Shop::Mailer"][:2] == (7, 0)
    assert classes() == {}
    any_redis.delete(minute)
    any_redis.hset(minute, mapping={"Shop::Mailer|p": "1", "Bad|p": "x", "|p": "4"})
    assert {name: counts[:2] for name, counts in classes().items()} == {"Shop::Mailer": (1, 0)}
