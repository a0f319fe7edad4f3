"""`make bench`: what a sample and a refresh cost, for 10, 100 and 1,000 queues and 1, 10 and 50 viewers; what an
evaluation of the rules costs; bulk work; and hearing Celery.

Run as `python -m tests.bench.run`. Everything is measured in one run on one machine; figures of other machines compare
only as ratios. The queues have the keys that BullMQ 6 leaves behind; half of them are busy while the clock runs.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from dashboard.collect.sampler import Sampler
from dashboard.collect.store import Store
from dashboard.collect.watch import watch
from dashboard.demo.embedded import EmbeddedRedis, free_port
from dashboard.settings import Settings
from dashboard.sources import metered
from tests.bench import alerts, bulk, events

SIZES = (10, 100, 1000)
POLLERS = (1, 10, 50)
SAMPLES = 20
SECONDS = 4.0


def fill(client: redis.Redis, queues: int) -> None:
    """`queues` BullMQ queues with a few jobs in each state."""
    pipe = client.pipeline(transaction=False)
    now = int(time.time() * 1000)
    for number in range(queues):
        base = f"bull:queue-{number:04}:"
        pipe.hset(base + "meta", mapping={"opts.maxLenEvents": 10000, "version": "bullmq:6.7.0"})
        pipe.set(base + "id", 20)
        for job in range(20):
            pipe.hset(
                f"{base}{job}", mapping={"name": "send", "data": "{}", "opts": "{}", "timestamp": now - job * 1000}
            )
        pipe.rpush(base + "wait", *range(5))
        pipe.lpush(base + "active", 5)
        pipe.zadd(base + "delayed", {"6": (now + 60_000) * 4096})
        pipe.zadd(base + "completed", {str(job): now - job * 1000 for job in range(7, 15)})
        pipe.zadd(base + "failed", {str(job): now - job * 1000 for job in range(15, 20)})
        born = now - 3_600_000
        for job in range(20):
            pipe.xadd(base + "events", {"event": "added", "jobId": job, "name": "send"}, id=f"{born}-{job * 2}")
            pipe.xadd(base + "events", {"event": "waiting", "jobId": job}, id=f"{born}-{job * 2 + 1}")
        if number % 50 == 49:
            pipe.execute()
    pipe.execute()


def work(client: redis.Redis, queues: int) -> None:
    """What ends in half of the queues between two samples: two jobs each."""
    pipe = client.pipeline(transaction=False)
    for number in range(0, queues, 2):
        events = f"bull:queue-{number:04}:events"
        for job in ("a", "b"):
            pipe.xadd(events, {"event": "active", "jobId": job, "prev": "waiting"}, maxlen=10000)
            pipe.xadd(events, {"event": "completed", "jobId": job, "returnvalue": "null", "prev": "active"})
    pipe.execute()


def redis_cpu_s(client: redis.Redis) -> float:
    """Seconds of CPU that the server has used, the commands of this benchmark among them."""
    info = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def bench_sample(server: EmbeddedRedis, client: redis.Redis, queues: int) -> dict[str, float]:
    """The cost of one sample, publishing included; the median of SAMPLES."""
    here = watch(Settings(redis_url=server.url))
    sampler = Sampler(here, 2.0, "bench")
    store = Store(here.sources["main"])
    epoch = store.lease("bench", 600).epoch or 0
    while not sampler.sample().sources[0].discovered:
        pass
    walls, cpus, costs = [], [], []
    for _ in range(SAMPLES):
        work(client, queues)
        cpu = redis_cpu_s(client)
        traffic = client.info("stats")
        started = time.perf_counter()
        with metered() as meter:
            snapshot = sampler.sample(epoch)
        walls.append(time.perf_counter() - started)
        cpus.append(redis_cpu_s(client) - cpu)
        later = client.info("stats")
        store.publish("bench", epoch, snapshot, sampler.history)
        costs.append(
            (
                meter.commands,
                meter.round_trips,
                later["total_net_input_bytes"] - traffic["total_net_input_bytes"],
                later["total_net_output_bytes"] - traffic["total_net_output_bytes"],
            )
        )
    assert len(snapshot.queues) == queues, f"{len(snapshot.queues)} of {queues} queues were found"
    store.release("bench", epoch)
    for source in here.sources.values():
        source.close()
    commands, trips, sent, received = (statistics.median(column) for column in zip(*costs, strict=True))
    return {
        "commands": commands,
        "round_trips": trips,
        "kB": (sent + received) / 1000,
        "redis_cpu_ms": statistics.median(cpus) * 1000,
        "wall_ms": statistics.median(walls) * 1000,
    }


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


@contextmanager
def dashboard(server: EmbeddedRedis) -> Iterator[int]:
    """The port of a `queuedeck serve` on `server` that is ready."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "dashboard.cli", "serve", "--redis", server.url, "--port", str(port)],
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).read()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(15)


def bench_refresh(server: EmbeddedRedis, client: redis.Redis, port: int, pollers: int) -> dict[str, float]:
    """Refreshes of the overview by `pollers` viewers at once, as fast as they are answered."""
    before = client.info("commandstats").get("cmdstat_get", {}).get("calls", 0)
    report = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.bench.load",
            str(port),
            "/_overview",
            "--pollers",
            str(pollers),
            "--seconds",
            str(SECONDS),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    figures: dict[str, float] = json.loads(report)
    after = client.info("commandstats").get("cmdstat_get", {}).get("calls", 0)
    figures["gets_per_refresh"] = (after - before) / figures["requests"]
    return figures


def main() -> None:
    """Print the tables."""
    heads = f"{'queues':>7} {'commands':>9} {'trips':>6} {'kB':>8} {'Redis CPU':>10} {'in all':>9}"
    print(f"{heads} {'pipeline':>9} {'ratio':>6}   one sample")
    for queues in SIZES:
        with EmbeddedRedis() as server:
            client = redis.Redis.from_url(server.url)
            fill(client, queues)
            row = bench_sample(server, client, queues)
            plain_ms = yardstick(client, queues)
            client.close()
        print(
            f"{queues:>7} {row['commands']:>9.0f} {row['round_trips']:>6.0f} {row['kB']:>8.1f} "
            f"{row['redis_cpu_ms']:>7.1f} ms {row['wall_ms']:>6.1f} ms "
            f"{plain_ms:>6.1f} ms {row['wall_ms'] / plain_ms:>6.2f}"
        )
    print(
        f"\n{'queues':>7} {'viewers':>8} {'refreshes/s':>12} {'p50':>9} {'p95':>9} {'bytes':>7} {'304':>5} {'GETs':>7}"
    )
    for queues in SIZES:
        with EmbeddedRedis() as server:
            client = redis.Redis.from_url(server.url)
            fill(client, queues)
            with dashboard(server) as port:
                for pollers in POLLERS:
                    row = bench_refresh(server, client, port, pollers)
                    print(
                        f"{queues:>7} {pollers:>8} {row['per_s']:>12.0f} "
                        f"{row['p50_ms']:>6.1f} ms {row['p95_ms']:>6.1f} ms "
                        f"{row['bytes_each']:>7.0f} {row['share_304']:>5.0%} {row['gets_per_refresh']:>7.4f}"
                    )
            client.close()
    alerts.main()
    bulk.main()
    events.main()


if __name__ == "__main__":
    main()
