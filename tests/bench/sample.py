"""What one sample costs, and its publishing, at first and after five minutes.

    python -m tests.bench.sample QUEUES [bullmq | rq | sidekiq | celery] [rest] [samples=150]

With `rest` no job waits, runs or is to run, and none ends. Else a few do in each queue, and two end in each second one.
A process of its own, so that its memory and its CPU are those of a leader. Five minutes are 150 samples; they follow
each other without a pause, and the clock of the rates is moved on by two seconds each time. Fewer samples take less
time, and stand for less.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import redis

from dashboard.backends.monitored_sources import open_sources
from dashboard.demo.embedded import EmbeddedRedis
from dashboard.sampling import queue_search
from dashboard.sampling import sampler as sampling
from dashboard.sampling.sampler import Sampler
from dashboard.sampling.snapshot_store import SNAPSHOT_TTL_MS, SnapshotStore
from dashboard.settings import Settings
from dashboard.sources.metering import measure_cost
from tests.bench.ping import pinged
from tests.bench.queues import LIBRARIES, rest

Work: TypeAlias = Callable[[redis.Redis, int], None]
INTERVAL_S = 2.0
SAMPLES = 150  # five minutes of them
EACH = 10  # so many at the beginning and at the end are told


def redis_cpu_s(client: redis.Redis) -> float:
    """Seconds of CPU that the server has used, the commands of this benchmark among them."""
    info = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


@dataclass(slots=True)
class Costs:
    """What each sample cost, in its order."""

    commands: list[float] = field(default_factory=list)
    trips: list[float] = field(default_factory=list)
    sent_bytes: list[float] = field(default_factory=list)
    redis_s: list[float] = field(default_factory=list)  # without the publishing
    publish_s: list[float] = field(default_factory=list)  # of Redis, too
    publish_bytes: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)


class Clock:
    """The clock of the rates."""

    def __init__(self) -> None:
        self.now_s = time.monotonic()

    def __call__(self) -> float:
        """Seconds."""
        return self.now_s


def bench(server: EmbeddedRedis, client: redis.Redis, queues: int, work: Work, samples: int) -> dict[str, float]:
    """The cost of a sample with publishing: medians of the last EACH, `first_…` of the first."""
    clock = Clock()
    sampling.monotonic_s = queue_search.monotonic_s = clock  # type: ignore[assignment]
    sources = open_sources(Settings(redis_url=server.url))
    sampler = Sampler(sources, INTERVAL_S, "bench")
    store = SnapshotStore(sources.sources["main"])
    epoch = store.acquire_lease("bench", SNAPSHOT_TTL_MS / 1000).epoch or 0
    while not sampler.sample().sources[0].discovered:
        clock.now_s += INTERVAL_S
    costs = Costs()
    for _ in range(samples):
        work(client, queues)
        one(sampler, store, epoch, client, costs)
        clock.now_s += INTERVAL_S
    waits = []
    longest_us = 0
    client.config_set("slowlog-max-len", 10_000)
    for _ in range(EACH):
        work(client, queues)
        with pinged(server.port) as ping:  # a third process on the processors: its samples are not among those above
            one(sampler, store, epoch, client, Costs())
        clock.now_s += INTERVAL_S
        waits.append(ping)
    for _ in range(EACH):
        work(client, queues)
        snapshot = sampler.sample(epoch)
        client.config_set("slowlog-log-slower-than", 0)
        client.slowlog_reset()
        assert store.publish_snapshot("bench", epoch, snapshot, sampler.history)
        longest_us = max(longest_us, *(entry["duration"] for entry in client.slowlog_get(10_000)))
        client.config_set("slowlog-log-slower-than", -1)
        clock.now_s += INTERVAL_S
    snapshot = sampler.sample(epoch)
    found = sum(not queue.shared for queue in snapshot.queues)
    assert found == queues, f"{found} of {queues} queues were found"
    store.release_lease("bench", epoch)
    for source in sources.sources.values():
        source.close()
    last = {name: statistics.median(getattr(costs, name)[-EACH:]) for name in costs.__dataclass_fields__}
    return {
        "commands": last["commands"],
        "round_trips": last["trips"],
        "kB": last["sent_bytes"] / 1000,
        "redis_cpu_ms": last["redis_s"] * 1000,
        "first_redis_cpu_ms": statistics.median(costs.redis_s[:EACH]) * 1000,
        "publish_kB": last["publish_bytes"] / 1000,
        "publish_redis_ms": last["publish_s"] * 1000,
        "publish_longest_ms": longest_us / 1000,
        "wall_ms": last["wall_s"] * 1000,
        "cpu_ms": last["cpu_s"] * 1000,
        "first_cpu_ms": statistics.median(costs.cpu_s[:EACH]) * 1000,
        "core_share": last["cpu_s"] / INTERVAL_S,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "ping_p99_ms": statistics.median(ping["p99_ms"] for ping in waits),
        "ping_max_ms": statistics.median(ping["max_ms"] for ping in waits),
    }


def one(sampler: Sampler, store: SnapshotStore, epoch: int, client: redis.Redis, costs: Costs) -> None:
    """One sample, published, with the history where it has a new point."""
    published = sampler.history.version
    redis_s = redis_cpu_s(client)
    before = client.info("stats")
    started, cpu_s = time.perf_counter(), time.process_time()
    with measure_cost() as meter:
        snapshot = sampler.sample(epoch)
        history = sampler.history
        cpu_s = time.process_time() - cpu_s
        wall_s = time.perf_counter() - started
        sampled_s, sampled = redis_cpu_s(client), client.info("stats")
        started, publish_s = time.perf_counter(), time.process_time()
        assert store.publish_snapshot("bench", epoch, snapshot, history if history.version != published else None)
    costs.cpu_s.append(cpu_s + time.process_time() - publish_s)
    costs.wall_s.append(wall_s + time.perf_counter() - started)
    after = client.info("stats")
    costs.redis_s.append(sampled_s - redis_s)
    costs.publish_s.append(redis_cpu_s(client) - sampled_s)
    costs.commands.append(meter.commands)
    costs.trips.append(meter.round_trips)
    traffic = ("total_net_input_bytes", "total_net_output_bytes")
    costs.sent_bytes.append(sum(after[name] - before[name] for name in traffic))
    costs.publish_bytes.append(after[traffic[0]] - sampled[traffic[0]])


def yardstick(client: redis.Redis, queues: int) -> float:
    """Milliseconds that redis-py's plain pipeline takes for 8 counts of each queue, the median of 5: what else is slow
    on this machine is slow here too."""
    walls = []
    for _ in range(5):
        pipe = client.pipeline(transaction=False)
        for number in range(queues):
            for name in ("wait", "paused", "active"):
                pipe.llen(f"bull:queue-{number:04}:{name}")
            for name in ("prioritized", "delayed", "completed", "failed", "waiting-children"):
                pipe.zcard(f"bull:queue-{number:04}:{name}")
        started = time.perf_counter()
        pipe.execute()
        walls.append(time.perf_counter() - started)
    return statistics.median(walls) * 1000


def main() -> None:
    """Print the figures of one size as JSON."""
    words = [word for word in sys.argv[1:] if not word.startswith("samples=")]
    counts = [word.removeprefix("samples=") for word in sys.argv[1:] if word.startswith("samples=")]
    named = [word for word in words[1:] if word in LIBRARIES]
    wrong = len(named) > 1 or set(words[1:]) - {*LIBRARIES, "rest"} or not all(map(str.isdecimal, counts))
    if not words or not words[0].isdecimal() or wrong:
        sys.exit(f"usage: python -m tests.bench.sample QUEUES [{' | '.join(LIBRARIES)}] [rest] [samples={SAMPLES}]")
    queues, library, rests = int(words[0]), LIBRARIES[named[0] if named else "bullmq"], "rest" in words
    samples = max(2 * EACH, int(counts[0])) if counts else SAMPLES
    with EmbeddedRedis() as server:
        client = redis.Redis.from_url(server.url)
        library.fill(client, queues)
        if rests:
            rest(client, queues, library)
        figures = bench(server, client, queues, (lambda *_: None) if rests else library.work, samples)
        figures["pipeline_ms"] = yardstick(client, queues)
        client.close()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
